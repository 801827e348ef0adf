"""One pass over a target with a model for each cell: a task for each column of cells, which walks through the samples.

A task holds the sums of its column and a piece of the samples, whatever the number of either. Where there are few
columns the samples are cut into segments, whose sums are added up in their order: what is added to what follows from
the data, so that the bits of the results do not depend on the cluster. A column's estimates are all that goes to the
client.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import dask
import numpy as np
from dask._task_spec import DataNode, GraphNode, List, Task, TaskRef
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from dask.typing import Key
from distributed.metrics import context_meter

from ..cluster import active_client, compare_versions, compute, threads_of
from ..display.texts import size
from ..errors import DataError, InvalidArgumentError, NonFiniteError
from ..kernels.cell_design import Design
from ..kernels.cell_own_sums import OwnSums, make_sums
from ..kernels.cell_solution import estimates_of
from ..kernels.cell_sums import BLOCK, ROWS, BadCell, SharedSums
from ..sources.blocks import Blocks
from ..sources.cell_grid import CellGrid, cells_in
from ..sources.cell_variable import CellReader, Given, as_rows
from ..sources.cells import CellSource
from ..worker_env import keep_pages, memory_of_process, one_blas_thread, relieve
from .reduction import span_of

logger = logging.getLogger("dask_gd")

#: Bytes of blocks that a task is given at a time.
GIVEN_BYTES = 32 << 20
#: Bytes of estimates that come to the client at a time.
BATCH_BYTES = 64 << 20
#: Bytes that a worker has before the first task.
WORKER_BYTES = 150 << 20

Estimates = dict[str, np.ndarray]
Sums = list[SharedSums | OwnSums]


class CellWork(NamedTuple):
    """The part of the pass that all tasks have in common."""

    grid: CellGrid
    design: Design
    #: Of the target, the features that vary by cell, and weights that do.
    readers: tuple[CellReader, ...]
    #: Names of these.
    titles: tuple[str, ...]
    weighs_cells: bool
    drop: bool
    #: The strength of a ridge penalty for each feature.
    penalty: np.ndarray | None

    @property
    def has_own(self) -> bool:
        """Whether features or weights vary by cell."""
        return bool(self.design.varying) or self.weighs_cells


def work_of(source: CellSource, design: Design, penalty: np.ndarray | None) -> CellWork:
    """Return what all tasks of a pass over a source have in common."""
    return CellWork(
        source.grid,
        design,
        readers=source.readers,
        titles=source.titles,
        weighs_cells=source.weighs_cells,
        drop=source.drop,
        penalty=penalty,
    )


def walk(
    work: CellWork,
    column: int,
    pieces: tuple[int, int],
    before: Sums | None,
    given: Sequence[tuple[tuple[np.ndarray, ...]]],
    is_last: bool,
) -> Sums | Estimates:
    """Add pieces of a column to the sums of those before; return the sums, or after the last the estimates: a task.

    ``given`` has the blocks of each piece, of the only column of a source that there is.
    """
    keep_pages()
    work = work._replace(design=work.design.aligned())
    cells = work.grid.columns[column]
    count = cells_in(cells)
    if before is None:
        sums = [make_sums(work.design, min(BLOCK, count - i), work.drop, work.has_own) for i in range(0, count, BLOCK)]
    else:
        sums = [of_block.copied() for of_block in before]
    with one_blas_thread(), np.errstate(all="ignore"):
        for i, piece in enumerate(range(*pieces)):
            blocks: tuple[np.ndarray, ...] = ()
            if given:
                (blocks,) = given[i]
            samples = work.grid.pieces[piece]
            values = []
            for reader in work.readers:
                box = reader.read(work.grid, samples, cells, blocks)
                values.append(as_rows(box, samples, cells))
            with context_meter.meter("compute"):
                _add_piece(work, column, piece, sums, values)
        if is_last:
            return finish(work, sums, count)
    relieve()
    return sums


def _add_piece(work: CellWork, column: int, piece: int, sums: Sums, values: list[np.ndarray]) -> None:
    """Add a piece, some rows and a block of cells at a time."""
    rows = work.grid.rows(piece)
    numbers = np.arange(len(values[0]))
    for first in range(0, len(numbers), ROWS):
        part = slice(first, first + ROWS)
        index: Any = numbers[part]
        if isinstance(rows, slice):
            index = slice(rows.start + first, min(rows.start + first + ROWS, rows.stop))
        else:
            index = rows[part]
        design_rows = work.design.rows(index)
        for i, of_block in enumerate(sums):
            cells = slice(i * BLOCK, (i + 1) * BLOCK)
            parts = tuple(array[part, cells] for array in values)
            weight = None
            if work.weighs_cells:
                *others, weight = parts
                parts = tuple(others)
            try:
                of_block.add(design_rows, parts, weight)
            except BadCell as bad:
                refused = _refused(work, column, piece, values, first + bad.row, i * BLOCK + bad.cell, bad.values)
            else:
                continue
            raise refused


def _refused(
    work: CellWork, column: int, piece: int, values: list[np.ndarray], row: int, cell: int, number: int
) -> DataError:
    """Return the error that names a value that cannot be served."""
    grid = work.grid
    boxes = (*grid.pieces[piece], *grid.columns[column])
    samples = np.unravel_index(row, [stop - start for start, stop in grid.pieces[piece]])
    cells = np.unravel_index(cell, [stop - start for start, stop in grid.columns[column]])
    places = []
    for d, (start, _), i in zip(grid.dims, boxes, (*samples, *cells), strict=True):
        places.append(f"{d}={start + int(i)}")
    value = float(values[number][row, cell])
    where = f"at index {', '.join(places)} of variable {work.titles[number]!r}"
    if np.isfinite(value) and value < 0 and number == len(values) - 1 and work.weighs_cells:
        return DataError(f"Negative weight {value:g} {where}.")
    if np.isfinite(value):
        return NonFiniteError(f"{value:g} {where}: its square overflows; scale the variable down.")
    remedy = "Remove or fill it before fitting"
    if np.isnan(value):
        remedy += ", or leave out what each cell lacks with nan='drop'"
    return NonFiniteError(f"{value} {where}. {remedy}.")


def join(work: CellWork, column: int, before: Sums, after: Sums, is_last: bool) -> Sums | Estimates:
    """Add up the sums of two neighbouring segments of a column; return the estimates after the last: a task."""
    work = work._replace(design=work.design.aligned())
    with one_blas_thread(), np.errstate(all="ignore"):
        sums: Sums = [a.plus(b, work.design) for a, b in zip(before, after, strict=True)]  # type: ignore[arg-type]
        if is_last:
            return finish(work, sums, cells_in(work.grid.columns[column]))
    return sums


def finish(work: CellWork, sums: Sums, cells: int) -> Estimates:
    """Return the estimates of all cells of a column, and let its sums go."""
    estimates: Estimates = {}
    for start in range(0, cells, BLOCK):
        of_block = estimates_of(sums.pop(0), work.design, work.penalty)
        for name, values in of_block.items():
            if name not in estimates:
                estimates[name] = np.empty((*values.shape[:-1], cells), values.dtype)
            estimates[name][..., start : start + BLOCK] = values
    return estimates


def estimates_in_batches(
    work: CellWork, source: CellSource, run: str, columns: Sequence[int]
) -> Iterator[dict[int, Estimates]]:
    """Yield the estimates of columns by their numbers, some at a time.

    Raises
    ------
    DataError
        From a worker, naming variable and index.
    ClusterError
        When a task keeps killing its workers.
    """
    client = active_client()
    if client is not None:
        compare_versions(client, threads_of(client, run), run, ("zarr",))
    blocks, counts = source.given()
    each = 8 * (2 * work.design.parameters + 6) * max(map(cells_in, work.grid.columns))
    batch = max(1, BATCH_BYTES // each)
    for first in range(0, len(columns), batch):
        numbers = columns[first : first + batch]
        results = _computed(work, source, numbers, blocks, counts, f"{run}-{first}", run)
        yield dict(zip(numbers, results, strict=True))


def _computed(
    work: CellWork,
    source: CellSource,
    columns: Sequence[int],
    blocks: Blocks | None,
    counts: tuple[int, ...],
    key: str,
    run: str,
) -> tuple[Estimates, ...]:
    """Return the estimates of some columns."""
    common: Key = f"gd-cells-work-{key}"
    nodes: dict[Key, GraphNode] = {}
    shared: dict[Key, GraphNode] = {}
    used: list[int] = []
    roots: list[Key] = []
    for column in columns:
        roots.append(_graph_of_column(work, source, column, common, key, blocks, counts, nodes, used))
    if blocks is not None:
        shared = blocks.needed(used)
    layers = {
        f"gd-blocks-{key}": MaterializedLayer(shared),
        str(common): MaterializedLayer({common: DataNode(common, work)}),
        f"gd-cells-{key}": MaterializedLayer(nodes, annotations=dask.get_annotations()),
    }
    below: dict[str, set[str]] = {name: set() for name in layers}
    below[f"gd-cells-{key}"] = {f"gd-blocks-{key}", str(common)}
    graph = HighLevelGraph(layers, below)
    delayed = [Delayed(root, graph, layer=f"gd-cells-{key}") for root in roots]
    with dask.annotate(**span_of(run)):
        return compute(
            *delayed,
            run=run,
            what=f"the pass over {work.titles[0]!r} by cell",
            named=partial(_named, work=work),
        )


def _graph_of_column(
    work: CellWork,
    source: CellSource,
    column: int,
    common: Key,
    key: str,
    blocks: Blocks | None,
    counts: tuple[int, ...],
    nodes: dict[Key, GraphNode],
    used: list[int],
) -> Key:
    """Add the tasks of a column to the nodes, and return the key of its estimates."""
    grid = work.grid
    name = f"gd-cells-{key}"
    segments = grid.segments
    # Tasks that are given blocks have some pieces each, and hand their sums on.
    most = len(grid.pieces)
    if blocks is not None:
        most = max(1, GIVEN_BYTES // max(1, source.given_bytes))
    ends: list[Key] = []
    for number, (start, stop) in enumerate(segments):
        before: Any = DataNode(None, None)
        for first in range(start, stop, most):
            pieces = (first, min(stop, first + most))
            given: Any = DataNode(None, ())
            if blocks is not None:
                of_pieces = [grid.block(piece, column, counts) for piece in range(*pieces)]
                used.extend(of_pieces)
                given = List(*(blocks.nodes[i] for i in of_pieces))
            is_last = len(segments) == 1 and pieces[1] == stop
            end: Key = (name, column, number, first)
            nodes[end] = Task(end, walk, TaskRef(common), column, pieces, before, given, is_last)
            before = TaskRef(end)
        ends.append(end)
    # Segments are added up from the first to the last.
    total = ends[0]
    for number, end in enumerate(ends[1:], 1):
        joined: Key = (name, column, number, "joined")
        is_last = number == len(ends) - 1
        nodes[joined] = Task(joined, join, TaskRef(common), column, TaskRef(total), TaskRef(end), is_last)
        total = joined
    return total


def _named(task: Key, work: CellWork) -> str:
    """Return the cells of the task of this key, in words."""
    if not (isinstance(task, tuple) and str(task[0]).startswith("gd-cells-") and isinstance(task[1], int)):
        return f"Task {task}"
    spans = zip(work.grid.cell_dims, work.grid.columns[task[1]], strict=True)
    cells = ", ".join(f"{d} {start}-{stop - 1}" for d, (start, stop) in spans)
    return f"The column of {cells} of {work.titles[0]!r}"


def memory_of_task(source: CellSource, design: Design) -> int:
    """Return the bytes of memory that a task takes at most: a piece, the sums of its column, and its estimates."""
    cells = max(map(cells_in, source.grid.columns))
    q = design.width
    v = len(design.varying)
    numbers = q * (q + 1) // 2 + 2 + q + 3
    if source.has_own:
        numbers += (v + 1) * (q + v + 3)
    copies = 1
    if len(source.grid.segments) > 1:
        copies = 3
    elif any(isinstance(reader, Given) for reader in source.readers):
        copies = 2
    given = min(GIVEN_BYTES, source.given_bytes) + source.given_bytes
    results = 8 * cells * (2 * design.parameters + 6)
    return source.piece_bytes + given + copies * 8 * cells * numbers + results + design.basis.nbytes


def check_memory(source: CellSource, design: Design) -> None:
    """Refuse columns of cells whose sums do not fit in the memory of a worker, and say where they may not.

    Raises
    ------
    InvalidArgumentError
    """
    need = memory_of_task(source, design)
    cells = max(map(cells_in, source.grid.columns))
    advice = (
        f"A task has a column of {cells:,} cells, as the chunks of {source.titles[0]!r} have; write it in chunks of "
        "fewer cells, or give workers more memory, or fewer threads."
    )
    client = active_client()
    if client is None:
        available = memory_of_process()
        if need > available:
            raise InvalidArgumentError(f"A task takes {size(need)}, and this process has {size(available)}. {advice}")
        return
    for address, worker in client.scheduler_info()["workers"].items():
        limit = worker["memory_limit"]
        if 0 < limit < need + WORKER_BYTES:
            raise InvalidArgumentError(
                f"A task takes {size(need)}, beside {size(WORKER_BYTES)} of the process; worker {address} has "
                f"{size(limit)}. {advice}"
            )
        if 0 < limit < worker["nthreads"] * need + WORKER_BYTES:
            logger.warning(
                "Worker %s has %s for %d threads that may need %s each. %s",
                address,
                size(limit),
                worker["nthreads"],
                size(need),
                advice,
            )
            return
