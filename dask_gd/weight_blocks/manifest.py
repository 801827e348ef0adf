"""Vectors in blocks as plain values and files, and back: what an iteration holds of them.

Blocks that are in memory go to a file each, which their owner writes, once. What is made of them (the changes that
L-BFGS remembers are differences of iterates and of gradients) is described, and made again from the same files to the
same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import DataError
from ..store.block_files import BlockFile, read_block, sync, write_block
from .expression import Candidate, Cast, Node, applied, combined, constant, stored
from .handles import Handle
from .owners import Pinned
from .pieces import Piece, Predicted
from .space import BlockSpace
from .vector import BlockVector

#: The functions of expressions, by name.
FUNCTIONS: dict[str, Any] = {"where": np.where, "combined": combined}


def function_named(name: str) -> Any:
    """Return a function of an expression.

    Raises
    ------
    ValueError
        If there is none of this name.
    """
    if name.startswith("cast "):
        return Cast(np.dtype(name.removeprefix("cast ")).str)
    if name.startswith("candidate "):
        return Candidate(int(name.removeprefix("candidate ")))
    function = FUNCTIONS.get(name, getattr(np, name, None))
    if name not in FUNCTIONS and not isinstance(function, np.ufunc):
        raise ValueError(f"it has the function {name!r:.40}")
    return function


def name_of(function: Any) -> str:
    """Return the name of a function of an expression."""
    if isinstance(function, Candidate):
        return f"candidate {function.number}"
    if isinstance(function, Cast):
        return f"cast {function.dtype}"
    if function is np.where:
        return "where"
    return function.__name__


class Manifest:
    """The description of vectors of one iteration, as it is made or read."""

    def __init__(self, space: BlockSpace, directory: str):
        self.space = space
        self.directory = directory
        self.nodes: list[dict[str, Any]] = []
        self.vectors: list[dict[str, Any]] = []
        self._numbers: dict[int, int] = {}
        self._of_vectors: dict[int, int] = {}
        #: Everything that has a number, so that no other object gets its id.
        self._alive: list[Any] = []
        self._to_write: list[tuple[str, list[Any], Any]] = []
        self._restored: dict[int, Any] = {}

    # Vectors to plain values.

    def add(self, v: BlockVector) -> int:
        """Return the number of a vector in the description."""
        if id(v) in self._of_vectors:
            return self._of_vectors[id(v)]
        line = None
        if v.line is not None:
            start, direction, steps = v.line
            line = [self.add(start), self.add(direction), steps.tolist()]
        described = {"node": self._add_node(v.node), "constant": v.constant.tolist(), "line": line}
        number = len(self.vectors)
        if v.is_moved and v.predicted is not None:
            if v.predicted_files is None:
                self._to_write.append(("rows", v.predicted.pieces, v))
            described["predicted"] = v
        self.vectors.append(described)
        self._of_vectors[id(v)] = number
        self._alive.append(v)
        return number

    def _add_node(self, node: Node) -> int:
        """Return the number of a node in the description, whose arguments have smaller ones."""
        if id(node) in self._numbers:
            return self._numbers[id(node)]
        described: dict[str, Any] = {"shape": list(node.shape), "dtype": node.dtype.str}
        if node.value is not None:
            described["value"] = node.value.tolist()
        elif node.pieces is not None:
            if node.files is None:
                self._to_write.append(("weights", node.pieces, node))
            described["files"] = node
            described["lasts"] = node.lasts
        else:
            described["arguments"] = [self._add_node(argument) for argument in node.arguments]
            described["function"] = name_of(node.function)
        self.nodes.append(described)
        self._numbers[id(node)] = len(self.nodes) - 1
        self._alive.append(node)
        return self._numbers[id(node)]

    def write(self, iteration: int) -> None:
        """Write the blocks that are in no file yet: each by its owner."""
        owners = self.space.owners
        submitted = []
        for number, (kind, pieces, _) in enumerate(self._to_write):
            owner_of: Callable[[int], str] = owners.of_block
            if kind == "rows":
                owner_of = owners.of_segment
            for i, piece in enumerate(pieces):
                name = f"{iteration:08d}-{number}-{kind}-{i}"
                key = (owners.name("write"), i)
                submitted.append(Pinned(key, owner_of(i), write_block, (self.directory, name, piece)))
        if submitted:
            written = iter(owners.results(owners.submit(submitted)))
            sync(self.directory)
            for kind, pieces, of in self._to_write:
                files = [next(written) for _ in pieces]
                if kind == "rows":
                    of.predicted_files = files
                else:
                    of.files = files
        self._to_write = []

    def described(self) -> dict[str, Any]:
        """Return the description as JSON has it."""
        nodes = [{**node, **_files(node.get("files"))} for node in self.nodes]
        vectors = []
        for vector in self.vectors:
            plain = {name: value for name, value in vector.items() if name != "predicted"}
            if "predicted" in vector:
                plain["predicted"] = [list(file) for file in vector["predicted"].predicted_files]
            vectors.append(plain)
        return {"nodes": nodes, "vectors": vectors}

    # And back.

    def restore(self, described: dict[str, Any]) -> list[BlockVector]:
        """Return the vectors of a description, whose files are read by the blocks' owners.

        Raises
        ------
        ValueError
            If it describes none, or a file is damaged or not there.
        """
        try:
            nodes = self._restored_nodes(described["nodes"])
            restored: list[BlockVector] = []
            for fields in described["vectors"]:
                v = BlockVector(self.space, nodes[fields["node"]], np.array(fields["constant"], float))
                if fields["line"] is not None:
                    start, direction, steps = fields["line"]
                    v.line = (restored[start], restored[direction], np.array(steps, float))
                if "predicted" in fields:
                    v.predicted_files = [BlockFile.of(file) for file in fields["predicted"]]
                    handles = self._read(v.predicted_files, self.space.owners.of_segment)
                    v.predicted = Predicted([Piece(handle) for handle in handles])
                    v.is_moved = True
                restored.append(v)
        except (KeyError, IndexError, TypeError) as error:
            raise ValueError(f"its blocks are not described as they should be ({error!r:.80})") from error
        return restored

    def _restored_nodes(self, described: Sequence[dict[str, Any]]) -> list[Node]:
        """Return the nodes of a description."""
        nodes: list[Node] = []
        for fields in described:
            if "value" in fields:
                nodes.append(constant(np.array(fields["value"], fields["dtype"])))
            elif "files" in fields:
                files = [BlockFile.of(file) for file in fields["files"]]
                for j, (file, width) in enumerate(zip(files, self.space.widths, strict=True)):
                    shape = (width, *fields["shape"])
                    if file.shape != shape:
                        raise ValueError(f"block {j} has the shape {file.shape} in place of {shape}")
                pieces = [Piece(handle) for handle in self._read(files, self.space.owners.of_block)]
                node = stored(pieces, tuple(fields["shape"]), np.dtype(fields["dtype"]), fields["lasts"])
                node.files = files
                nodes.append(node)
            else:
                arguments = [nodes[number] for number in fields["arguments"]]
                nodes.append(applied(function_named(fields["function"]), *arguments))
        return nodes

    def _read(self, files: Sequence[BlockFile], owner_of: Any) -> list[Handle]:
        """Return handles of the arrays of files, which have been read."""
        owners = self.space.owners
        name = owners.name("read")
        handles = owners.submit(
            [Pinned((name, i), owner_of(i), read_block, (self.directory, file)) for i, file in enumerate(files)]
        )
        try:
            owners.finished(handles)
        except DataError as error:
            raise ValueError(str(error)) from error
        return handles


def files_of(described: dict[str, Any]) -> set[str]:
    """Return the names of all files that a description refers to."""
    names: set[str] = set()
    for fields in (*described["nodes"], *described["vectors"]):
        for key in ("files", "predicted"):
            names.update(BlockFile.of(file).name for file in fields.get(key, ()))
    return names


def _files(node: Node | None) -> dict[str, Any]:
    """Return the files of a node as JSON has them."""
    if node is None:
        return {}
    assert node.files is not None
    return {"files": [list(file) for file in node.files]}
