"""Convert svmlight files to sparse rows in Zarr: `convert_svmlight`.

Text takes some twenty times as long to read as the rows that it stands for, and a fit reads its rows many times. So a
file is not a source of rows: it is converted once, out of core, a piece of its bytes after the other.
"""

from __future__ import annotations

import io
import os
import uuid
from collections.abc import Iterable
from operator import getitem
from typing import Any

import dask
import dask.array as da
import numpy as np
from dask.highlevelgraph import HighLevelGraph
from dask.typing import Key
from scipy.sparse import csr_array

from ..cluster import compute
from ..errors import DataError, InvalidArgumentError
from .beside import check_place
from .places import place_of
from .sparse_store import write_sparse
from .text_files import Piece, bytes_of, pieces_of


def convert_svmlight(
    files: str | os.PathLike | Iterable[str | os.PathLike],
    path: str | os.PathLike,
    *,
    features: int | None = None,
    zero_based: bool = False,
    dtype: Any = np.float64,
    overwrite: bool = False,
    storage_options: dict[str, Any] | None = None,
) -> str:
    """Convert svmlight (libsvm) files to a Zarr group of sparse rows ``X`` and targets ``y``, out of core.

    Parameters
    ----------
    files : path, or list of paths
        Text, one row a line: ``target index:value index:value ... # comment``. Query ids (``qid:``) are left out. Of
        several files the rows follow one another. All workers of a cluster must see them.
    path : path or URL
        Where the group is to be, see `write_sparse`.
    features : int, optional
        The number of features. By default it is the largest index of all files, which takes a reading of its own.
    zero_based : bool
        Whether the first feature has the index 0, and not 1 as the format says. There is no guess: part of a file tells
        nothing of the rest.
    dtype : numpy.dtype
        Of the stored values, float64 or float32.
    overwrite : bool
        Replace the Zarr that is there, not at a URL.
    storage_options : dict, optional
        For a URL, as fsspec takes them.

    Returns
    -------
    str
        The absolute path of the group, or its URL.

    Raises
    ------
    InvalidArgumentError
        A file that is not there, or is compressed; files without rows.
    DataError
        A line that is none of the format, with its file and where in it the piece of text is; an index of ``features``
        or more.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> directory = Path(tempfile.mkdtemp())
    >>> _ = (directory / "rows.svm").write_text("1 1:0.5 3:2\\n0 2:1\\n")
    >>> path = dask_gd.convert_svmlight(directory / "rows.svm", directory / "rows.zarr")
    >>> dask_gd.open(path, x="X", y="y").shape
    (2, 3)
    """
    if isinstance(files, str | os.PathLike):
        files = [files]
    if np.dtype(dtype) not in (np.dtype(np.float64), np.dtype(np.float32)):
        raise InvalidArgumentError(f"convert_svmlight(dtype={dtype!r}): choose float64 or float32.")
    # Before the files are read, which takes long.
    target = place_of(path, "convert_svmlight", storage_options)
    if not isinstance(target, str):
        check_place(target, overwrite, "convert_svmlight")
    pieces = [piece for file in files for piece in pieces_of(file, "convert_svmlight")]
    if not pieces:
        raise InvalidArgumentError("convert_svmlight(files=[]): give at least one file.")

    # Rows are counted, and the largest index is looked for, in a reading of its own.
    counts = compute(
        *(dask.delayed(_counted)(piece, zero_based) for piece in pieces),
        what="a look at the svmlight files",
    )
    widest = max(width for _, width in counts)
    if features is None:
        features = widest
    if widest > features:
        raise DataError(
            f"convert_svmlight(features={features}): the files have {widest} features, counted from "
            f"{'0' if zero_based else '1'}."
        )
    total = sum(rows for rows, _ in counts)
    if not total or not features:
        raise InvalidArgumentError(f"convert_svmlight: there is nothing to convert: {total} rows, {features} features.")

    # Each piece is parsed once more, for its rows and its targets together.
    parsed = []
    sizes = []
    for piece, (rows, _) in zip(pieces, counts, strict=True):
        if rows:
            parsed.append(dask.delayed(parse_piece)(piece, features, zero_based, np.dtype(dtype)))
            sizes.append(rows)
    x = _stacked(parsed, 0, (tuple(sizes), (features,)), csr_array((0, features), dtype=dtype))
    y = _stacked(parsed, 1, (tuple(sizes),), np.empty(0))
    return write_sparse(x, path, overwrite=overwrite, storage_options=storage_options, y=y)


def _stacked(parsed: list[Any], part: int, chunks: tuple, meta: Any) -> da.Array:
    """Return the first or the second part of what is parsed as a Dask array, a block for each piece."""
    name = f"dask_gd-svmlight-{uuid.uuid4().hex}"
    below = (0,) * (len(chunks) - 1)
    layer: dict[Key, Any] = {(name, number, *below): (getitem, each.key, part) for number, each in enumerate(parsed)}
    graph = HighLevelGraph.from_collections(name, layer, dependencies=parsed)
    return da.Array(graph, name, chunks, meta=meta, dtype=meta.dtype)


def _counted(piece: Piece, zero_based: bool) -> tuple[int, int]:
    """Return the rows of a piece, and the number of features that they need."""
    x, _ = parse_piece(piece, None, zero_based, np.dtype(float))
    if not x.nnz:
        return x.shape[0], 0
    return x.shape[0], int(x.indices.max()) + 1


def parse_piece(piece: Piece, features: int | None, zero_based: bool, dtype: np.dtype) -> tuple[csr_array, np.ndarray]:
    """Return the rows and the targets of a piece.

    Raises
    ------
    DataError
    """
    # Of all the package the estimators and this alone need scikit-learn.
    from sklearn.datasets import load_svmlight_file

    lines = bytes_of(piece)
    try:
        x, y = load_svmlight_file(io.BytesIO(lines), n_features=features, dtype=dtype, zero_based=zero_based)
    except (ValueError, OverflowError) as error:
        what = str(error).rstrip(".")
        raise DataError(
            f"{piece}: {what}. A row is 'target index:value index:value ...', with whole indices that ascend."
        ) from error
    return csr_array(x), y
