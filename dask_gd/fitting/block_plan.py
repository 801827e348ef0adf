"""The costs of a fit whose weights are in blocks, known before its first task: memory, tasks, bytes that move."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from ..cluster import active_client, threads_of
from ..display.texts import plural, size
from ..errors import DataError, InvalidArgumentError
from ..model.losses import Loss, as_loss, classes_of
from ..model.penalties import Penalty, as_penalty
from ..solvers import LBFGS, Adam, GradientDescent, Momentum, Nesterov, Solver, as_solver
from ..sources import Source
from ..sources.column_grid import ColumnGrid, grid_of
from ..validate import is_whole
from ..weight_blocks.owners import ADDED_TOGETHER, bundles_of, owner
from ..weight_blocks.space import EXACT_UP_TO

FLOAT = 8
#: Vectors of float64 that are in memory at once where it is most, in the middle of a step: those of the step before,
#: those of the step, and what the step is made of.
WORKING: dict[type, int] = {GradientDescent: 7, Momentum: 10, Nesterov: 10, Adam: 13, LBFGS: 2}
#: Vectors that a step writes to a store.
WRITTEN: dict[type, int] = {GradientDescent: 2, Momentum: 3, Nesterov: 3, Adam: 4, LBFGS: 1}
#: Vectors that stay for the whole fit: means and spreads of the features, and of L-BFGS the first curvature.
FIXED = 2
#: Of L-BFGS with absolute values, whose trials do not lie on a line: candidates of a query, and of the next.
TRIALS = 8
#: Vectors of rows that an owner of rows has at once: targets, predictions at two points and along a direction, slopes,
#: and sums of predictions that have just come.
OF_ROWS = 6
#: Tasks of an iteration for each bundle of blocks: a forward one, a backward one with the vectors, its sums; of L-BFGS
#: the new changes apart, and those of the direction.
TASKS_OF_BUNDLE: dict[type, int] = {GradientDescent: 3, Momentum: 3, Nesterov: 3, Adam: 3, LBFGS: 6}
#: Tasks for each segment of rows: losses and slopes at a step, and two for their parts.
TASKS_OF_SEGMENT = 3

#: Bytes of a worker's process in which all is imported.
PROCESS_BYTES = 120 << 20
#: Share of its limit from which a worker of Dask writes to disk what it has.
SPILLS_AT = 0.7


@dataclass(frozen=True)
class BlockPlan:
    """The costs of a fit whose weights are in blocks, at most; memory is that of the worker that has most.

    Attributes
    ----------
    blocks, segments, workers : int
        Blocks of columns, segments of rows, and the workers that own them.
    width : int
        Features of the widest block.
    vectors : int
        Vectors as long as the weights that are in memory at once, where it is most: of all workers together.
    state_bytes : int
        Bytes of the vectors on a worker.
    row_bytes : int
        Bytes of what a worker has for each row: targets, predictions, slopes.
    buffer_bytes : int
        Bytes into which each of a worker's threads reads rows of a block, and takes products as wide as the block.
    memory : int
        The sum of these: bytes that a worker needs beside its process.
    kept_bytes : int
        Bytes of the rows that a worker keeps between passes, as far as they leave half of its memory free.
    tasks : int
        Tasks of an iteration. They do not depend on the number of blocks of rows.
    bytes_read : int
        Bytes of an iteration, decoded, where no rows are kept: the features are read twice.
    bytes_moved : int
        Bytes that move between workers in an iteration.
    bytes_written : int
        Bytes that an iteration writes to a store; 0 without one.
    memory_of_workers : tuple of int
        ``memory`` of each worker, in the order of their addresses.
    """

    blocks: int
    segments: int
    workers: int
    width: int
    vectors: int
    state_bytes: int
    row_bytes: int
    buffer_bytes: int
    memory: int
    kept_bytes: int
    tasks: int
    bytes_read: int
    bytes_moved: int
    bytes_written: int
    memory_of_workers: tuple[int, ...]

    def __str__(self) -> str:
        return (
            f"{plural(self.blocks, 'block')} of at most {self.width:,} features on {plural(self.workers, 'worker')}, "
            f"{self.vectors} vectors; a worker needs {size(self.memory)} beside its process ({size(self.state_bytes)} "
            f"of weights and state), and up to {size(self.kept_bytes)} for rows that it keeps; an iteration has "
            f"{self.tasks} tasks, reads {size(self.bytes_read)}, moves {size(self.bytes_moved)} between workers and "
            f"writes {size(self.bytes_written)} to disk"
        )


def block_plan(
    source: Source,
    *,
    loss: str | Loss | tuple = "squared",
    penalty: Penalty | None = None,
    solver: str | Solver = "lbfgs",
    workers: int | None = None,
    threads: int = 1,
    store: bool = True,
) -> BlockPlan:
    """Return the plan of a fit with weights in blocks: memory of a worker, tasks, bytes read, moved and written.

    Nothing of the features is read but what tells where rows begin.

    Parameters
    ----------
    source : Source
        With features in column blocks (`block_columns`), or in a Zarr array whose chunks cut its columns.
    loss, penalty, solver
        As in `fit`. "softmax" needs the number of classes: ``dask_gd.Softmax(classes=3)``.
    workers : int, optional
        The workers that share the blocks; by default those of the active `distributed.Client`, or 1.
    threads : int
        Threads of each worker.
    store : bool
        Whether iterations are committed to a store.

    Returns
    -------
    BlockPlan
        Bytes, and numbers of blocks, tasks and vectors; ``print(plan)`` is a sentence of them.

    Raises
    ------
    InvalidArgumentError
        If the features are not stored in blocks of columns; for a solver that needs all weights in one place.

    Examples
    --------
    >>> import tempfile
    >>> import scipy.sparse
    >>> x = scipy.sparse.random_array((1000, 1 << 20), density=1e-5, format="csr", rng=np.random.default_rng(0))
    >>> path = dask_gd.block_columns(x, tempfile.mkdtemp() + "/x.zarr", y=np.ones(1000), width=1 << 18)
    >>> plan = dask_gd.block_plan(dask_gd.open(path, x="X", y="y"), workers=2)
    >>> plan.blocks, plan.width, plan.vectors, plan.state_bytes
    (4, 262144, 27, 113246208)
    """
    if workers is None:
        client = active_client()
        workers = max(1, len(threads_of(client, "")))
    for name, value in {"workers": workers, "threads": threads}.items():
        if not is_whole(value, least=1):
            raise InvalidArgumentError(f"block_plan({name}={value!r}): a whole number, 1 or more.")
    grid = grid_of(source)
    the_loss = as_loss(loss)
    if getattr(the_loss, "target_kind", None) == "classes" and classes_of(the_loss) is None:
        raise InvalidArgumentError(f"block_plan(loss={loss!r}): say how many classes, dask_gd.Softmax(classes=3).")
    outputs = classes_of(the_loss) or source.outputs or 1
    the_penalty = as_penalty(penalty)
    the_solver = as_solver(solver, the_loss, the_penalty, grid.edges[-1] + 1, source.row_format, outputs=outputs)
    if type(the_solver) not in WORKING:
        raise InvalidArgumentError(
            f"block_plan(solver={solver!r}): it needs all weights in one place; choose lbfgs, nesterov, "
            "gradient_descent, momentum or adam."
        )
    return plan_of(
        grid,
        source,
        penalty=the_penalty,
        solver=the_solver,
        outputs=outputs,
        workers=workers,
        threads=threads,
        has_store=store,
    )


def plan_of(
    grid: ColumnGrid,
    source: Source,
    *,
    penalty: Penalty,
    solver: Solver,
    outputs: int,
    workers: int,
    threads: int = 1,
    has_store: bool = True,
) -> BlockPlan:
    """Return the plan of a fit with weights in blocks of a grid."""
    blocks = len(grid.columns)
    widths = np.diff(grid.edges)
    owners = [owner(j, blocks, workers) for j in range(blocks)]
    vectors = _vectors_of(solver, penalty, outputs, wide=grid.edges[-1] * outputs > EXACT_UP_TO)
    rows = _rows_of_segments(grid)
    rows_of_workers = np.zeros(workers, int)
    for s, count in enumerate(rows):
        rows_of_workers[owner(s, len(rows), workers)] += count

    # What each worker has.
    needs = []
    for worker in range(workers):
        own = [j for j in range(blocks) if owners[j] == worker]
        state = int(widths[own].sum()) * vectors.bytes_of_weight
        columns = [grid.columns[j] for j in own]
        # Partial predictions of pairs of blocks wait for those of adjacent ones; the slopes of all rows come.
        waiting = min(-(-len(own) // 2), ADDED_TOGETHER // 2) + 1
        of_rows = OF_ROWS * int(rows_of_workers[worker]) + waiting * sum(rows)
        buffer = max((_buffer_of(grid, j, outputs) for j in own), default=0)
        kept = sum(column.nbytes(sum(rows)) for column in columns)
        needs.append(_Need(state, FLOAT * outputs * of_rows, buffer, kept))
    memory = tuple(need.state + need.rows + threads * need.buffer for need in needs)
    fullest = needs[int(np.argmax(memory))]

    # What an iteration does.
    groups = -(-blocks // ADDED_TOGETHER)
    bundles = len(bundles_of(owners, dict.fromkeys(range(workers), threads)))
    tasks = TASKS_OF_BUNDLE[type(solver)] * bundles + len(rows) * (groups + TASKS_OF_SEGMENT)
    written = 0
    if has_store:
        tasks += vectors.files * blocks
        written = grid.edges[-1] * vectors.written_of_weight
        if isinstance(solver, LBFGS):
            tasks += len(rows)
            written += FLOAT * outputs * sum(rows)
    return BlockPlan(
        blocks=blocks,
        segments=len(rows),
        workers=workers,
        width=int(widths.max()),
        vectors=vectors.at_once,
        state_bytes=fullest.state,
        row_bytes=fullest.rows,
        buffer_bytes=fullest.buffer,
        memory=max(memory),
        kept_bytes=fullest.kept,
        tasks=tasks,
        bytes_read=2 * sum(column.nbytes(sum(rows)) for column in grid.columns),
        bytes_moved=FLOAT * outputs * _values_moved(rows, owners, workers),
        bytes_written=written,
        memory_of_workers=memory,
    )


class _Need(NamedTuple):
    """Bytes that a worker needs."""

    state: int
    rows: int
    buffer: int
    kept: int


class _Vectors(NamedTuple):
    """The vectors of a fit: their number, the bytes of a weight in all of them, and what a step writes of it."""

    at_once: int
    bytes_of_weight: int
    files: int
    written_of_weight: int


def _vectors_of(solver: Solver, penalty: Penalty, outputs: int, wide: bool) -> _Vectors:
    """Return the vectors of a fit; what is remembered of ``wide`` weights has float32."""
    working = WORKING[type(solver)]
    files = WRITTEN[type(solver)]
    remembered = 0
    fixed = FIXED
    if isinstance(solver, LBFGS):
        # The pairs with the newest, and the gradients of two steps; the step's direction is that of its pair.
        remembered = 2 * solver.memory + 2
        fixed += 1
        if float(np.asarray(penalty.absolute())) > 0:
            working += TRIALS
            files += 1
    short = FLOAT // 2 if wide else FLOAT
    written = FLOAT * files
    if isinstance(solver, LBFGS):
        files += 3
        written += 3 * short
    return _Vectors(
        at_once=working + remembered + fixed,
        bytes_of_weight=FLOAT * outputs * working + short * (outputs * remembered + fixed),
        files=files,
        written_of_weight=outputs * written,
    )


def _rows_of_segments(grid: ColumnGrid) -> list[int]:
    """Return the number of rows of each segment."""
    return [stop - start for start, stop in pairwise(grid.segments)]


def _buffer_of(grid: ColumnGrid, j: int, outputs: int) -> int:
    """Return the bytes into which a thread reads and takes the rows of a block, with a product as wide as the block."""
    column = grid.columns[j]
    row_format = grid.formats[j]
    rows = row_format.nbytes(min(row_format.block_rows, column.read_rows))
    return column.buffer_bytes + rows + FLOAT * outputs * column.shape[1]


def _values_moved(rows: list[int], owners: list[int], workers: int) -> int:
    """Return how many values of rows move between workers in an iteration: partial predictions, and slopes."""
    moved = 0
    for s, count in enumerate(rows):
        of_rows = owner(s, len(rows), workers)
        for first in range(0, len(owners), ADDED_TOGETHER):
            # Partial predictions of pairs of blocks go to the owner of the first, and their sum to that of the rows.
            together = owners[first : first + ADDED_TOGETHER]
            halves = {(j // 2, each) for j, each in enumerate(together)}
            moved += count * sum(each != together[0] for _, each in halves)
            moved += count * (together[0] != of_rows)
        moved += count * len(set(owners) - {of_rows})
    return moved


def check_block_room(plan: BlockPlan, limits: Mapping[str, int], warn: Callable[[str], Any]) -> None:
    """Refuse blocks that a worker has no memory for, before the first task; ``warn`` of those that Dask would spill.

    ``limits`` are the workers' bytes, 0 for none, by address in the order of the plan.

    Raises
    ------
    DataError
        Naming the worker, what it needs and what it has.
    """
    for (worker, limit), memory in zip(limits.items(), plan.memory_of_workers, strict=True):
        needed = memory + PROCESS_BYTES
        if not limit or needed <= SPILLS_AT * limit:
            continue
        described = (
            f"Worker {worker} owns weights in blocks ({plural(plan.blocks, 'block')} of at most {plan.width:,} "
            f"features on {plural(plan.workers, 'worker')}, {plan.vectors} vectors), which take {size(needed)} with "
            f"its process; it has {size(limit)}"
        )
        advice = (
            "Start more workers (up to one for each block), or larger ones; let L-BFGS remember less, "
            "solver=dask_gd.LBFGS(memory=3); or take a first-order solver, solver='nesterov'."
        )
        if needed > limit:
            raise DataError(f"{described}. {advice}")
        warn(f"{described}, of which Dask begins to write to disk at {SPILLS_AT:.0%}. {advice}")
        return


def limits_of(client: Any) -> dict[str, int]:
    """Return the memory limit of each worker in bytes, 0 for none, by address in their order."""
    workers = client.scheduler_info(n_workers=-1)["workers"]
    return {address: workers[address]["memory_limit"] or 0 for address in sorted(workers)}
