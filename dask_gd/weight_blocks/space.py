"""Weights, gradients and rows on the workers that own them, and the stages of a pass between these.

A stage is one graph with a task for each block of columns or segment of rows, or for each pair of the two; never one
for each block of rows. What a stage stores are handles, which the next refers to; only sums are waited for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from dask import delayed
from dask._task_spec import TaskRef
from distributed import Client, Future

from ..model.losses import Loss, classes_of
from ..solvers import vectors
from ..sources import Source
from ..sources.column_grid import ColumnGrid
from ..sources.lazy import column as column_of
from . import column_tasks, row_tasks, tasks
from .expression import Node, Sum, leaf, stored
from .fetched import Sums
from .handles import Handle
from .owners import ADDED_TOGETHER, Owners, Pinned
from .pieces import Part, Piece, Predicted, Slopes, Summands, arguments_of
from .program import compiled, leaves
from .row_tasks import Looked, Totals
from .vector import BlockVector, Pair, multiple_of, stored_node

#: Weights up to which all vectors have float64: of more of them what L-BFGS remembers, and the scale of the curvature,
#: have float32, which halves most of the memory.
EXACT_UP_TO = 1 << 22


class Backward(NamedTuple):
    """The half of a pass that gives a gradient: the leaf of what is made of it."""

    reading: int
    slopes: Slopes

    def of_bundle(self, space: BlockSpace, bundle: Sequence[int]) -> tuple:
        """Return the first arguments of `column_tasks.evaluate_behind`, and all of `column_tasks.moments`."""
        columns = [space.columns[j] for j in bundle]
        shifts = [space.shifts[j] for j in bundle]
        return columns, self.reading, shifts, self.slopes.handles, space.weights


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
        self.bundles = self.owners.bundles()
        #: Readings so far, halves of a pass: rows that are kept are told by them. And those for a query yet to come.
        self.readings = 0
        self.ahead = 0
        self.columns = self._by_block(
            "columns", [(column_tasks.Columns(grid.reader(j), run),) for j in range(self.blocks)]
        )
        #: What is subtracted from each block's columns: handles of (p,) arrays.
        self.shifts: list[Handle | None] = [None] * self.blocks
        #: Whether the squares of weights are asked for at each query.
        self.squares = False
        self.expected: list[Pair] = []
        self.to_store: list[BlockVector] = []
        #: The next query, whose predictions, losses and slopes may be computed in the graph that stores its direction;
        #: and whether it will be asked for, as far as is known.
        self.foreseen: BlockVector | None = None
        self.goes_on: Callable[[], bool] = bool
        #: The loss, and the sum of the rows' weights.
        self.loss: Any = None
        self.weight = 1.0
        self.values: list[Handle] = []
        self.weights: list[Handle] = []

    # Vectors of weights.

    def compute(self, wanted: Sequence[Node], sums: Sequence[Sum]) -> Callable[[], list[np.ndarray]]:
        """Store nodes where their blocks are, and return what waits for sums over all weights, (k, m) each."""
        wanted = [node for node in wanted if node.pieces is None and not node.is_constant]
        if not wanted and not sums:
            return list
        # A task has one leaf at most.
        for other in leaves(wanted, sums)[1:]:
            self.compute([other], [])
        program, given, leaf, to_store = compiled(wanted, sums, self.outputs)
        name = self.owners.name("weights")
        submitted: list[Pinned] = []
        for number, bundle in enumerate(self.bundles):
            places, wholes = arguments_of([node.pieces for node in given], bundle)  # type: ignore[misc]
            if leaf is None:
                widths = tuple(self.widths[j] for j in bundle)
                arguments: tuple = (program, widths, places, *wholes)
                task: Callable = column_tasks.evaluate
            else:
                arguments = (*leaf.leaf.of_bundle(self, bundle), program, places, *wholes)
                task = column_tasks.evaluate_behind
            submitted.append(Pinned((name, number), self.owners.of_block(bundle[0]), task, arguments))
        # Vectors that are stored together are dropped together, but for those that are kept for long.
        apart = []
        if len(to_store) > 1:
            apart = [number for number, node in enumerate(to_store) if node.is_apart]
        parts = [Part(column_tasks.outputs_of, number) for number in apart]
        if sums and to_store:
            parts.append(Part(tasks.item, -1))
        with self.owners.one_graph():
            stored_wholes, *others = self._with_parts(name, submitted, parts)
            for number, node in enumerate(to_store):
                if number in apart:
                    node.pieces = self._pieces(others[apart.index(number)], ())
                else:
                    node.pieces = self._pieces(stored_wholes, (number,))
                node.arguments = ()
                node.function = None
                node.leaf = None
            self._look_ahead()
        if not sums:
            return list
        handles = others[-1] if to_store else stored_wholes
        return Sums(self.owners.later(handles), sums, not to_store)

    def _look_ahead(self) -> None:
        """Ask for what the next query needs, if its direction is there, or will be when its tasks run."""
        query = self.foreseen
        if query is None:
            return
        start, direction, _ = query.line  # type: ignore[misc]
        node, factor = multiple_of(direction.node)
        if node.pieces is None or np.any(factor != 1.0) or start.predicted is None:
            return
        self.foreseen = None
        if direction.predicted is None and self.goes_on():
            direction.predicted = self.predict(direction)
            self.ahead = 1
            self._ask(query)

    def store(self, *several: BlockVector) -> None:
        """Store what vectors stand for, in one go."""
        self.compute([stored_node(v) for v in several], [])

    def alone(self, node: Node) -> list[Piece]:
        """Return the pieces of a stored vector without what is stored with them."""
        return [Piece(handle) for handle in self.owners.submit(self._alone(node))]

    def handed_out(self, node: Node) -> list[Future]:
        """Return futures of the blocks of a stored vector, which are there as long as somebody has them."""
        return self.owners.handed_out(self._alone(node))

    def _alone(self, node: Node) -> list[Pinned]:
        """Return the tasks that take the blocks of a vector from what is stored with them."""
        assert node.pieces is not None
        name = self.owners.name("alone")
        return [
            Pinned((name, j), self.owners.of_block(j), tasks.array_of, tuple(piece))
            for j, piece in enumerate(node.pieces)
        ]

    def _pieces(self, of_bundles: Sequence[Handle], path: tuple[int, ...]) -> list[Piece]:
        """Return the pieces of all blocks: in what a bundle's task has returned a block's is in its place."""
        pieces = []
        for handle, bundle in zip(of_bundles, self.bundles, strict=True):
            pieces += [Piece(handle, (place, *path)) for place in range(len(bundle))]
        return pieces

    def _with_parts(self, name: str, submitted: list[Pinned], parts: Sequence[Part]) -> list[list[Handle]]:
        """Submit tasks, and return their handles, and for each part those of this part of their results."""
        tasks_of_parts = []
        for number, part in enumerate(parts):
            for key, worker, _, _ in submitted:
                part_key = (f"{name}-part-{number}", key[1])  # type: ignore[index]
                tasks_of_parts.append(Pinned(part_key, worker, part.function, (TaskRef(key), part.number)))
        handles = self.owners.submit([*submitted, *tasks_of_parts])
        count = len(submitted)
        return [handles[start : start + count] for start in range(0, len(handles), count)]

    def _by_block(self, stage: str, arguments: Sequence[tuple]) -> list[Handle]:
        """Return a handle for each block, of what is given."""
        name = self.owners.name(stage)
        return self.owners.submit(
            [Pinned((name, j), self.owners.of_block(j), tasks.itself, given) for j, given in enumerate(arguments)]
        )

    def better_shifts(self, moments: Node, weight: float) -> list[Handle] | None:
        """Return the shifts of all blocks if a column is far from 0, else None; ``moments`` is a node of `backward`."""
        assert moments.pieces is not None
        name = self.owners.name("shift")
        submitted = []
        for j, piece in enumerate(moments.pieces):
            arguments = (self.columns[j], weight, piece.handle, piece.path[0])
            submitted.append(Pinned((name, j), self.owners.of_block(j), column_tasks.shift_of, arguments))
        _, are_far, shifts = self._with_parts(name, submitted, [Part(tasks.item, 0), Part(tasks.item, 1)])
        if any(self.owners.results(are_far)):
            return shifts
        return None

    def take_shifts(self, shifts: list[Handle]) -> BlockVector:
        """Subtract these from the columns from now on, and return them as a vector."""
        self.shifts = list(shifts)
        name = self.owners.name("shift")
        submitted = []
        for j, shift in enumerate(shifts):
            submitted.append(Pinned((name, j), self.owners.of_block(j), column_tasks.as_weights, (shift,)))
        pieces = [Piece(handle) for handle in self.owners.submit(submitted)]
        node = stored(pieces, (1, 1), np.dtype(float), lasts=True)
        return BlockVector(self, node, np.zeros((1, 1, 1)))

    def take_shift(self, shift: BlockVector) -> None:
        """Subtract a vector from the columns from now on, which `take_shifts` has returned at another time."""
        assert shift.node.pieces is not None
        name = self.owners.name("shift")
        submitted = []
        for j, piece in enumerate(shift.node.pieces):
            submitted.append(Pinned((name, j), self.owners.of_block(j), column_tasks.as_shift, tuple(piece)))
        self.shifts = list(self.owners.submit(submitted))

    def given(self, blocks: Sequence[Any]) -> list[Piece]:
        """Return pieces of Dask arrays, one for each block, whose values go to its owner."""
        pieces = []
        for j, block in enumerate(blocks):
            [piece] = block.to_delayed().ravel().tolist()
            pieces.append(Piece(self.owners.compute(piece, self.owners.of_block(j))))
        return pieces

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
            task = delayed(row_tasks.values_of)(
                names,
                loss,
                start,
                source.nan == "drop",
                outputs,
                present,
                **arrays,
                dask_key_name=(self.owners.name("rows"), s),
            )
            loaded.append(self.owners.compute(task, self.owners.of_segment(s), optimize_graph=False))
        self.values = loaded
        self.weights = self._of_segments("row-weights", row_tasks.weight_of)
        found = self.owners.results(self._of_segments("totals", row_tasks.totals, loss))
        total = found[0]
        for each in found[1:]:
            total = Totals(*(a + b for a, b in zip(total, each, strict=True)))
        return total

    def _rows(self, column: Any, s: int) -> Any:
        """Return the rows of a segment, of an array with those of the source: its first row is number 0 there."""
        start, stop = (row - self.grid.segments[0] for row in self.grid.segments[s : s + 2])
        return column[start:stop]

    def _of_segments(self, stage: str, function: Any, *arguments: Any) -> list[Handle]:
        """Return a handle for each segment of a function of its rows and further arguments; lists have one for each."""
        name = self.owners.name(stage)
        submitted = []
        for s in range(self.segments):
            given = [argument[s] if isinstance(argument, list) else argument for argument in arguments]
            submitted.append(Pinned((name, s), self.owners.of_segment(s), function, (self.values[s], *given)))
        return self.owners.submit(submitted)

    # Passes.

    def predict(self, query: BlockVector) -> Predicted:
        """Return the predictions of weights: one half of a pass."""
        node = query.node
        if node.is_constant and not np.any(node.value):
            zeros = self._of_segments("zeros", row_tasks.zeros, self.outputs)
            return Predicted([Piece(handle) for handle in zeros])
        pieces = self._pieces_of(query)
        self.readings += 1
        name = self.owners.name("forward")
        submitted: list[Pinned] = []
        for number, bundle in enumerate(self.bundles):
            places, wholes = arguments_of([pieces], bundle)
            columns, shifts = ([each[j] for j in bundle] for each in (self.columns, self.shifts))
            arguments = (bundle[0], columns, self.readings, shifts, places, *wholes)
            submitted.append(Pinned((name, number), self.owners.of_block(bundle[0]), column_tasks.forward, arguments))
        # Of some blocks together, so that less travels.
        groups = range(0, self.blocks, ADDED_TOGETHER)
        for first in groups:
            together = range(first, first + ADDED_TOGETHER)
            numbers = [number for number, bundle in enumerate(self.bundles) if bundle[0] in together]
            firsts = tuple(self.bundles[number][0] for number in numbers)
            parts = tuple(TaskRef((name, number)) for number in numbers)
            owner = self.owners.of_block(first)
            for s in range(self.segments):
                submitted.append(Pinned((f"{name}-part", first, s), owner, tasks.added_pairs, (firsts, s, *parts)))
        wanted = [(f"{name}-part", first, s) for s in range(self.segments) for first in groups]
        found = iter(self.owners.submit(submitted, wanted))
        return Predicted([Summands(tuple(Piece(next(found)) for _ in groups)) for _ in range(self.segments)])

    def _pieces_of(self, query: BlockVector) -> list[Piece]:
        """Return the pieces of weights, which are stored if they are not: a pass needs them in memory."""
        if query.node.is_constant:
            self._store_constant(query)
        node, factor = multiple_of(query.node)
        # What is compact is taken as it is.
        if node.pieces is None or np.any(factor != 1.0):
            node = query.node
            self.compute([node], [])
        assert node.pieces is not None
        return node.pieces

    def _store_constant(self, query: BlockVector) -> None:
        """Store weights that are all the same."""
        node = query.node
        value = node.value
        assert value is not None
        name = self.owners.name("constant")
        pieces = self.owners.submit(
            [
                Pinned((name, j), self.owners.of_block(j), np.tile, (value, (width, 1, 1)))
                for j, width in enumerate(self.widths)
            ]
        )
        query.node = stored([Piece(piece) for piece in pieces], node.shape, node.dtype)

    def losses(self, query: BlockVector) -> np.ndarray:
        """Return the sums of the losses at the candidates of a query whose predictions are known, (m,)."""
        if _has_one_step(query):
            # Mostly it is taken: its slopes are found in the same go.
            taken = vectors.candidate(query, 0)
            taken.asked = self.slopes(taken)
            return np.array([taken.asked.looked.loss])
        self._ask(query)
        found = self.owners.results(query.asked)
        query.asked = None
        return sum(found[1:], found[0])

    def slopes(self, v: BlockVector, with_moments: bool = False) -> Slopes:
        """Return the slopes of the rows at a point whose predictions are known, and the sums there."""
        if v.asked is None:
            v.asked = self._ask_for_slopes(v, with_moments)
        asked, v.asked = v.asked, None
        if isinstance(asked, Slopes):
            return asked
        whole, slopes, looked = asked
        found = self.owners.results(looked)
        total = found[0]
        for each in found[1:]:
            total = Looked(*(a + b for a, b in zip(total, each, strict=True)))
        return Slopes(slopes, Predicted([Piece(handle, (0,)) for handle in whole]), total)

    def _ask(self, query: BlockVector) -> None:
        """Ask for the losses at the candidates of a query, or for the slopes too where it is one step along a line."""
        if _has_one_step(query):
            taken = vectors.candidate(query, 0)
            taken.asked = self._ask_for_slopes(taken)
        elif query.asked is None:
            if query.line is None:
                at: tuple = (None, query.predicted.pieces)
            else:
                start, direction, steps = query.line
                at = (steps, start.predicted.pieces, direction.predicted.pieces)
            query.asked = self._of_segments("losses", row_tasks.losses, self.loss, query.constant, *at)

    def _ask_for_slopes(self, v: BlockVector, with_moments: bool = False) -> list[list[Handle]]:
        """Return handles of what `row_tasks.look` returns for each segment, of the slopes, and of the sums."""
        predicted = v.predicted
        options = (self.loss, self.weight, v.constant, predicted.step, predicted.number, with_moments)
        name = self.owners.name("slopes")
        submitted = []
        for s in range(self.segments):
            given = [self.values[s], *options, predicted.pieces[s]]
            if predicted.direction is not None:
                given.append(predicted.direction[s])
            submitted.append(Pinned((name, s), self.owners.of_segment(s), row_tasks.look, tuple(given)))
        return self._with_parts(name, submitted, [Part(tasks.item, 1), Part(tasks.item, 2)])

    def gradient(self, slopes: Slopes) -> Node:
        """Return the gradient of the mean loss for one half of a pass, without the intercepts'.

        The pass is made with what is made of it, in the same task of a block.
        """
        self.readings += 1
        return leaf(Backward(self.readings, slopes), (self.outputs, 1), np.dtype(float))

    def gradient_and_moments(self, slopes: Slopes) -> list[Node]:
        """Return the gradient as `gradient` does, and the sums of the columns and of their squares."""
        self.readings += 1
        of = Backward(self.readings, slopes)
        name = self.owners.name("backward")
        submitted = []
        for number, bundle in enumerate(self.bundles):
            arguments = of.of_bundle(self, bundle)
            submitted.append(Pinned((name, number), self.owners.of_block(bundle[0]), column_tasks.moments, arguments))
        handles = self.owners.submit(submitted)
        shapes = [(self.outputs, 1), (1, 1), (1, 1)]
        return [stored(self._pieces(handles, (number,)), shape, np.dtype(float)) for number, shape in enumerate(shapes)]


def _has_one_step(query: BlockVector) -> bool:
    """Return whether a query is a single step along a line."""
    return query.line is not None and len(query.line[2]) == 1
