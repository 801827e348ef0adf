"""Text files in pieces of some bytes: the lines that begin in a piece are its lines."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO, NamedTuple

from ..errors import DataError, InvalidArgumentError

#: Bytes of text that are read at a time.
PIECE_BYTES = 16 << 20


class Piece(NamedTuple):
    """The lines of a file that begin at these bytes."""

    file: str
    start: int
    stop: int

    def __str__(self) -> str:
        return f"{self.file}, in the lines that begin between the bytes {self.start} and {self.stop}"


def pieces_of(path: str | os.PathLike, caller: str) -> list[Piece]:
    """Return the pieces of a file; ``caller`` is the function that was called, for messages.

    Raises
    ------
    InvalidArgumentError
        If the file is not there, or is compressed.
    """
    file = Path(os.path.abspath(path))
    if file.suffix in (".gz", ".bz2", ".xz", ".zst"):
        raise InvalidArgumentError(f"{caller}: {file} is compressed; decompress it first, to be read in parts.")
    try:
        size = file.stat().st_size
    except OSError as error:
        raise InvalidArgumentError(f"{caller}: {file}: {error.strerror}.") from error
    return [Piece(str(file), start, min(start + PIECE_BYTES, size)) for start in range(0, size, PIECE_BYTES)]


def bytes_of(piece: Piece) -> bytes:
    """Return the lines that begin in a piece, whole."""
    with open(piece.file, "rb") as file:
        begin = _line_from(file, piece.start)
        end = _line_from(file, piece.stop)
        file.seek(begin)
        return file.read(end - begin)


def lines_of(piece: Piece) -> list[str]:
    """Return the lines that begin in a piece as text, without their ends.

    Raises
    ------
    DataError
        If the bytes are not UTF-8. The message says where in the file.
    """
    stored = bytes_of(piece)
    try:
        text = stored.decode()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{piece}: the byte {stored[error.start]:#04x}, {error.start} bytes after the first of them, is not UTF-8. "
            "Convert the file to UTF-8."
        ) from error
    # Lines end with \n alone; characters that also separate lines may be in a text.
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def _line_from(file: BinaryIO, position: int) -> int:
    """Return where the first line begins that begins at a position or after it."""
    if position == 0:
        return 0
    file.seek(position - 1)
    file.readline()
    return file.tell()
