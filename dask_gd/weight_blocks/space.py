"""Weights, gradients and rows on the workers that own them, and the stages of a pass between these.

A stage is one graph with a task for each block of columns or segment of rows, or for each pair of the two; never one
for each block of rows. What a stage stores are futures, which the next refers to; only sums are waited for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from dask import delayed
from dask._task_spec import TaskRef
from distributed import Client, Future

from ..model.losses import Loss, classes_of
from ..sources import Source
from ..sources.column_grid import ColumnGrid
from ..sources.lazy import column as column_of
from . import tasks
from .expression import Node, Sum, compiled, stored
from .owners import Owners, Pinned
from .tasks import Looked, Totals
from .vector import BlockVector

#: Adjacent blocks whose partial predictions are added up before they travel to the rows' owner.
ADDED_TOGETHER = 4
#: Weights up to which all vectors have float64: of more of them what L-BFGS remembers, and the scale of the curvature,
#: have float32, which halves most of the memory.
EXACT_UP_TO = 1 << 22


class Piece(NamedTuple):
    """The array of a block: what a task has returned, or one of several that it has, by number."""

    future: Future
    number: int | None


class Predicted(NamedTuple):
    """Predictions of all rows without intercepts and offsets: those of a point, or of one on a line through it."""

    #: Of each segment: (n, k, m), of which ``number`` is meant.
    futures: list[Future]
    number: int = 0
    #: Of each segment (n, k, 1), and how far along it the point is.
    direction: list[Future] | None = None
    step: float | None = None

    def moved(self, direction: Predicted, step: float) -> Predicted:
        """Return the predictions of a point along a line, whose predictions are known."""
        return Predicted(self.futures, self.number, direction.futures, step)

    def candidate(self, number: int) -> Predicted:
        """Return the predictions of one candidate."""
        return Predicted(self.futures, number)


class Slopes(NamedTuple):
    """The slopes of all rows at a point, and what was found there."""

    futures: list[Future]
    predicted: Predicted
    looked: Looked


class BlockSpace:
    """The blocks of a run: who owns them, and the stages that compute with them."""

    def __init__(
        self,
        client: Client,
        grid: ColumnGrid,
        source: Source,
        outputs: int,
        fit_intercept: bool,
        run: str,
    ):
        self.grid = grid
        self.source = source
        self.features = grid.edges[-1]
        self.widths = np.diff(grid.edges).tolist()
        self.outputs = outputs
        self.fit_intercept = fit_intercept
        self.run = run
        self.blocks = len(grid.columns)
        self.segments = len(grid.segments) - 1
        self.compact = None
        if self.features * outputs > EXACT_UP_TO:
            self.compact = "<f4"
        self.owners = Owners(client, self.blocks, self.segments, run)
        #: Readings so far, halves of a pass: rows that are kept are told by them.
        self.readings = 0
        self.columns = self._by_block("columns", [(tasks.Columns(grid.reader(j), run),) for j in range(self.blocks)])
        #: What is subtracted from each block's columns: futures of (p,) arrays.
        self.shifts: list[Future | None] = [None] * self.blocks
        self.values: list[Future] = []
        self.weights: list[Future] = []

    # Vectors of weights.

    def compute(self, wanted: Sequence[Node], sums: Sequence[Sum]) -> list[np.ndarray]:
        """Store nodes where their blocks are, and return sums over all weights, (k, m) each."""
        wanted = [node for node in wanted if node.pieces is None and not node.is_constant]
        if not wanted and not sums:
            return []
        program, given, to_store = compiled(wanted, sums, self.outputs)
        name = self.owners.name("weights")
        submitted: list[Pinned] = []
        for j, width in enumerate(self.widths):
            pieces: list[Piece] = [node.pieces[j] for node in given]  # type: ignore[index]
            numbers = tuple(piece.number for piece in pieces)
            arguments = (program, width, numbers, *(piece.future for piece in pieces))
            submitted.append(Pinned((name, j), self.owners.of_block(j), tasks.evaluate, arguments))
        # Vectors that are stored together are dropped together: they have one future for each block.
        if not to_store:
            futures = self.owners.submit(submitted)
            found = [of_block[0] for of_block in self.owners.results(futures)]
        else:
            wholes, of_sums = self._with_item(name, submitted, len(to_store), bool(sums))
            for number, node in enumerate(to_store):
                node.pieces = [Piece(whole, number) for whole in wholes]
                node.arguments = ()
                node.function = None
            if not sums:
                return []
            found = self.owners.results(of_sums)
        totals = found[0]
        # In the order of the blocks, so that bits do not depend on the owners.
        for of_block in found[1:]:
            for number, each in enumerate(sums):
                if each.second is None:
                    totals[number] = np.maximum(totals[number], of_block[number])
                else:
                    totals[number] = totals[number] + of_block[number]
        return totals

    def store(self, *several: BlockVector) -> None:
        """Store what vectors stand for, in one go."""
        self.compute([v.node for v in several], [])

    def _with_item(
        self, name: str, submitted: list[Pinned], number: int, has_item: bool
    ) -> tuple[list[Future], list[Future]]:
        """Submit tasks, and return their futures and those of one part of each result, if there is one to return."""
        parts = []
        if has_item:
            for key, worker, _, _ in submitted:
                part = (f"{name}-part", key[1])  # type: ignore[index]
                parts.append(Pinned(part, worker, tasks.item, (TaskRef(key), number)))
        futures = self.owners.submit([*submitted, *parts])
        return futures[: len(submitted)], futures[len(submitted) :]

    def _items(self, name: str, submitted: list[Pinned], items: Sequence[int]) -> list[list[Future]]:
        """Submit tasks, and return the futures of parts of their results: a list with all tasks for each part."""
        parts = []
        for number in items:
            for key, worker, _, _ in submitted:
                part = (f"{name}-part-{number}", key[1])  # type: ignore[index]
                parts.append(Pinned(part, worker, tasks.item, (TaskRef(key), number)))
        futures = self.owners.submit([*submitted, *parts], [part.key for part in parts])
        count = len(submitted)
        return [futures[start : start + count] for start in range(0, len(futures), count)]

    def _by_block(self, stage: str, arguments: Sequence[tuple]) -> list[Future]:
        """Return a future for each block, of what is given."""
        name = self.owners.name(stage)
        return self.owners.submit(
            [Pinned((name, j), self.owners.of_block(j), tasks.itself, given) for j, given in enumerate(arguments)]
        )

    def better_shifts(self, moments: Node, weight: float) -> list[Future] | None:
        """Return the shifts of all blocks if a column is far from 0, else None; ``moments`` is a node of `backward`."""
        assert moments.pieces is not None
        name = self.owners.name("shift")
        submitted = []
        for j, piece in enumerate(moments.pieces):
            arguments = (self.columns[j], weight, piece.future)
            submitted.append(Pinned((name, j), self.owners.of_block(j), tasks.shift_of, arguments))
        are_far, shifts = self._items(name, submitted, [0, 1])
        if any(self.owners.results(are_far)):
            return shifts
        return None

    def take_shifts(self, shifts: list[Future]) -> BlockVector:
        """Subtract these from the columns from now on, and return them as a vector."""
        self.shifts = list(shifts)
        name = self.owners.name("shift")
        submitted = []
        for j, shift in enumerate(shifts):
            submitted.append(Pinned((name, j), self.owners.of_block(j), tasks.as_weights, (shift,)))
        pieces = [Piece(future, None) for future in self.owners.submit(submitted)]
        node = stored(pieces, (1, 1), np.dtype(float), lasts=True)
        return BlockVector(self, node, np.zeros((1, 1, 1)))

    def take_shift(self, shift: BlockVector) -> None:
        """Subtract a vector from the columns from now on, which `take_shifts` has returned at another time."""
        assert shift.node.pieces is not None
        name = self.owners.name("shift")
        submitted = []
        for j, piece in enumerate(shift.node.pieces):
            submitted.append(Pinned((name, j), self.owners.of_block(j), tasks.as_shift, tuple(piece)))
        self.shifts = list(self.owners.submit(submitted))

    def given(self, blocks: Sequence[Any]) -> list[Piece]:
        """Return pieces of Dask arrays, one for each block, whose values go to its owner."""
        futures = []
        for j, block in enumerate(blocks):
            [piece] = block.to_delayed().ravel().tolist()
            worker = self.owners.of_block(j)
            future = self.owners.client.compute(piece, workers=[worker], allow_other_workers=False)
            futures.append(Piece(future, None))
        return futures

    # Rows.

    def load_rows(self, loss: Loss) -> Totals:
        """Read what the rows have beside their features, check it, and return its sums."""
        source = self.source
        segments = self.grid.segments
        roles = [role for role in ("y", "weight", "offset") if role in source.by_role]
        names = {role: source.by_role[role].name for role in roles}
        columns = {role: column_of(source, role) for role in roles}
        outputs = 1 if classes_of(loss) else source.outputs or 1
        present = None if source.present is None else source.present.columns
        loaded = []
        for s in range(self.segments):
            start = segments[s]
            arrays = {role: self._rows(column, s) for role, column in columns.items()}
            task = delayed(tasks.values_of)(
                names,
                loss,
                start,
                source.nan == "drop",
                outputs,
                present,
                **arrays,
                dask_key_name=(self.owners.name("rows"), s),
            )
            worker = self.owners.of_segment(s)
            loaded.append(
                self.owners.client.compute(task, workers=[worker], allow_other_workers=False, optimize_graph=False)
            )
        self.values = loaded
        self.weights = self._of_segments("row-weights", tasks.weight_of)
        found = self.owners.results(self._of_segments("totals", tasks.totals, loss))
        total = found[0]
        for each in found[1:]:
            total = Totals(*(a + b for a, b in zip(total, each, strict=True)))
        return total

    def _rows(self, column: Any, s: int) -> Any:
        """Return the rows of a segment, of an array with those of the source: its first row is number 0 there."""
        start, stop = (row - self.grid.segments[0] for row in self.grid.segments[s : s + 2])
        return column[start:stop]

    def _of_segments(self, stage: str, function: Any, *arguments: Any) -> list[Future]:
        """Return a future for each segment of a function of its rows and further arguments; lists have one for each."""
        name = self.owners.name(stage)
        submitted = []
        for s in range(self.segments):
            given = [argument[s] if isinstance(argument, list) else argument for argument in arguments]
            submitted.append(Pinned((name, s), self.owners.of_segment(s), function, (self.values[s], *given)))
        return self.owners.submit(submitted)

    # Passes.

    def predict(self, query: BlockVector) -> Predicted:
        """Return the predictions of weights that are stored or constant: one half of a pass."""
        node = query.node
        if node.is_constant and not np.any(node.value):
            return Predicted(self._of_segments("zeros", tasks.zeros, self.outputs))
        self._store_constant(query)
        self.readings += 1
        assert node.pieces is not None
        name = self.owners.name("forward")
        submitted: list[Pinned] = []
        for s in range(self.segments):
            sums = []
            for first in range(0, self.blocks, ADDED_TOGETHER):
                together = range(first, min(first + ADDED_TOGETHER, self.blocks))
                for j in together:
                    arguments = (self.columns[j], s, self.readings, self.shifts[j], *node.pieces[j])
                    submitted.append(Pinned((name, j, s), self.owners.of_block(j), tasks.forward, arguments))
                parts = tuple(TaskRef((name, j, s)) for j in together)
                key = (f"{name}-sum", first, s)
                submitted.append(Pinned(key, self.owners.of_block(first), tasks.added, parts))
                sums.append(TaskRef(key))
            submitted.append(Pinned((f"{name}-all", s), self.owners.of_segment(s), tasks.added, tuple(sums)))
        return Predicted(self.owners.submit(submitted, [(f"{name}-all", s) for s in range(self.segments)]))

    def _store_constant(self, query: BlockVector) -> None:
        """Store weights that are all the same: a pass needs them in memory."""
        node = query.node
        if not node.is_constant:
            self.store(query)
            return
        value = node.value
        assert value is not None
        name = self.owners.name("constant")
        pieces = self.owners.submit(
            [
                Pinned((name, j), self.owners.of_block(j), np.tile, (value, (width, 1, 1)))
                for j, width in enumerate(self.widths)
            ]
        )
        query.node = stored([Piece(piece, None) for piece in pieces], node.shape, node.dtype)

    def losses(self, query: BlockVector, loss: Loss) -> np.ndarray:
        """Return the sums of the losses at the candidates of a query whose predictions are known, (m,)."""
        if query.line is not None:
            start, direction, steps = query.line
            at: tuple = (steps, start.predicted.futures, direction.predicted.futures)
        else:
            at = (None, query.predicted.futures)
        found = self.owners.results(self._of_segments("losses", tasks.losses, loss, query.constant, *at))
        return sum(found[1:], found[0])

    def slopes(self, v: BlockVector, loss: Loss, with_moments: bool = False) -> Slopes:
        """Return the slopes of the rows at a point whose predictions are known, and the sums there."""
        predicted = v.predicted
        arguments: tuple = (loss, v.constant, predicted.step, predicted.number, with_moments, predicted.futures)
        if predicted.direction is not None:
            arguments = (*arguments, predicted.direction)
        name = self.owners.name("slopes")
        submitted = []
        for s in range(self.segments):
            given = [argument[s] if isinstance(argument, list) else argument for argument in arguments]
            submitted.append(Pinned((name, s), self.owners.of_segment(s), tasks.look, (self.values[s], *given)))
        z, slopes, looked = self._items(name, submitted, [0, 1, 2])
        found = self.owners.results(looked)
        total = found[0]
        for each in found[1:]:
            total = Looked(*(a + b for a, b in zip(total, each, strict=True)))
        return Slopes(slopes, Predicted(z), total)

    def backward(self, v: BlockVector, ridge: tasks.Ridge, slopes: Slopes, with_moments: bool = False) -> list[Node]:
        """Return the gradient at a vector, for one half of a pass, without the intercepts'.

        With moments the sums of the columns and of their squares come behind it.
        """
        self.readings += 1
        at: list[tuple] = [()] * self.blocks
        if not v.node.is_constant:
            self.store(v)
            assert v.node.pieces is not None
            at = v.node.pieces
        name = self.owners.name("backward")
        submitted = []
        for j in range(self.blocks):
            shift = self.shifts[j]
            arguments = (
                self.columns[j],
                self.readings,
                shift,
                ridge,
                with_moments,
                slopes.futures,
                self.weights,
                *at[j],
            )
            submitted.append(Pinned((name, j), self.owners.of_block(j), tasks.backward, arguments))
        shapes = [(self.outputs, 1)]
        if with_moments:
            shapes += [(1, 1), (1, 1)]
        futures = self.owners.submit(submitted)
        nodes = []
        for number, shape in enumerate(shapes):
            nodes.append(stored([Piece(future, number) for future in futures], shape, np.dtype(float)))
        return nodes
