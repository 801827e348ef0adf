"""Which worker owns which block, and how tasks get there: each task runs where its block is, and nowhere else.

Tasks are pinned: work stealing would move weights about. Dask waits without a word for a pinned task whose worker is
gone, so that the client looks at the workers while it waits, and says `OwnerLost`.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import itertools
import uuid
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import dask
from dask._task_spec import GraphNode, Task, TaskRef
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from dask.typing import Key
from distributed import Client, Future, KilledWorker
from distributed.client import FutureCancelledError
from distributed.scheduler import NoValidWorkerError

from ..cluster import SCHEDULER_ERRORS, Watch, are_done, leaving_thread, scheduler_gone, threads_of, timeout
from ..errors import ClusterError
from ..passes.reduction import span_of
from .handles import Handle, renew
from .pieces import Piece, Summands
from .tasks import added, array_of

#: Adjacent blocks whose partial predictions are added up before they travel to the rows' owner. An even number.
ADDED_TOGETHER = 4
#: Seconds between two looks at the workers.
LOOK_EVERY = 1.0


class OwnerLost(ClusterError):
    """A worker that owns blocks is gone, and its blocks with it."""


class Pinned(NamedTuple):
    """A task, and the worker that runs it.

    Its arguments may be `Handle`, `Piece`, `Summands`, and `TaskRef` of tasks beside it.
    """

    key: Key
    worker: str
    function: Callable
    arguments: tuple


def owner(number: int, count: int, workers: int) -> int:
    """Return which of the workers owns the block or segment of this number: neighbours have the same, if they can."""
    return number * workers // count


def bundles_of(owners: Sequence[Any], threads: Mapping[Any, int]) -> list[range]:
    """Return the blocks that share a task: adjacent ones of a worker, of which each thread has some.

    ``owners`` are the workers of all blocks, ``threads`` those of each worker. The partial predictions of a bundle are
    added to one sum, see `ADDED_TOGETHER`.
    """
    bundles = []
    first = 0
    while first < len(owners):
        worker = owners[first]
        most = -(-owners.count(worker) // threads[worker])
        stop = first + 1
        while stop < len(owners) and stop % ADDED_TOGETHER and stop - first < most and owners[stop] == worker:
            stop += 1
        bundles.append(range(first, stop))
        first = stop
    return bundles


class Later:
    """Results of tasks that are fetched with others: each fetching asks each worker once."""

    def __init__(self, owners: Owners, handles: Sequence[Handle]):
        self.owners = owners
        self.handles = list(handles)
        self.found: list[Any] | None = None

    def results(self) -> list[Any]:
        """Return the results; wait for them, if they have not come yet."""
        if self.found is None:
            self.owners.results([])
        assert self.found is not None
        return self.found


class Owners:
    """The workers that own the blocks of weights and the segments of rows."""

    def __init__(self, client: Client, blocks: int, segments: int, run: str):
        self.client = client
        self.run = run
        self.threads = threads_of(client, run)
        self.workers = sorted(self.threads)
        if not self.workers:
            raise ClusterError("weights='blocks' needs workers, and this cluster has none: start some.")
        self.blocks = blocks
        self.segments = segments
        self.watch = Watch(client, run, f"the blocks of weights of run {run}", timeout())
        # Names that no other owners of this run have used: Dask would hand back what these had.
        self.token = uuid.uuid4().hex[:4]
        self.numbers = itertools.count()
        #: The graph that is put together, and its futures, see `one_graph`.
        self.held: dict[Key, Pinned] | None = None
        self.wanted: dict[Key, Future] = {}
        #: What tasks have left that depends on others.
        self.handles: weakref.WeakSet[Handle] = weakref.WeakSet()
        #: What comes with the next results that are waited for, as long as somebody has a use for it.
        self.pending: list[weakref.ref[Later]] = []

    def of_block(self, j: int) -> str:
        """Return the worker that owns a block of columns."""
        return self.workers[owner(j, self.blocks, len(self.workers))]

    def bundles(self) -> list[range]:
        """Return the blocks that share a task."""
        return bundles_of([self.of_block(j) for j in range(self.blocks)], self.threads)

    def of_segment(self, s: int) -> str:
        """Return the worker that owns a segment of rows."""
        return self.workers[owner(s, self.segments, len(self.workers))]

    def name(self, stage: str) -> str:
        """Return a name that no other stage has."""
        return f"gd-{stage}-{self.run}-{self.token}-{next(self.numbers)}"

    @contextlib.contextmanager
    def one_graph(self) -> Iterator[None]:
        """Have all tasks that are submitted meanwhile sent as one graph, at the end."""
        if self.held is not None:
            yield
            return
        self.held = {}
        try:
            yield
            if self.held:
                self._send(list(self.held.values()), list(self.wanted))
        finally:
            self.held = None
            self.wanted = {}

    def submit(self, tasks: Sequence[Pinned], wanted: Sequence[Key] | None = None) -> list[Handle]:
        """Send tasks as one graph, and return the handles of the wanted ones, or of all."""
        workers = {task.key: task.worker for task in tasks}
        keys = list(workers if wanted is None else wanted)
        if self.held is None:
            futures = self._send(tasks, keys)
        else:
            # Futures are there before their graph is sent, as the client itself has it: others can refer to them.
            self.held.update({task.key: task for task in tasks})
            futures = [Future(key, self.client) for key in keys]
            self.wanted.update(zip(keys, futures, strict=True))
        return [self._handle(future, workers[key]) for future, key in zip(futures, keys, strict=True)]

    def compute(self, collection: Any, worker: str, optimize_graph: bool = True) -> Handle:
        """Have a worker compute a Dask collection, and return the handle of its value."""
        future = self.client.compute(
            collection, workers=[worker], allow_other_workers=False, optimize_graph=optimize_graph
        )
        return self._handle(future, worker)

    def _handle(self, future: Future, worker: str) -> Handle:
        """Return the handle of a future."""
        handle = Handle(future, worker)
        self.handles.add(handle)
        return handle

    def handed_out(self, tasks: Sequence[Pinned]) -> list[Future]:
        """Send tasks as one graph, and return their futures for others, who find their values as long as they wish."""
        return self._send(tasks, [task.key for task in tasks])

    def forget_past(self) -> None:
        """Have the cluster forget what the present values were made of, once all tasks are done.

        Raises
        ------
        OwnerLost, ClusterError
            As `results` does.
        """
        handles = list(self.handles)
        self.finished(handles)
        try:
            with leaving_thread():
                renew(self.client, handles, self.name("kept"))
        except (KeyError, OSError, *SCHEDULER_ERRORS) as error:
            # A worker that went meanwhile is named.
            self.look()
            raise OwnerLost(f"A worker did not keep what it has ({error!r}).") from error
        self.handles.clear()

    def _send(self, tasks: Sequence[Pinned], wanted: Sequence[Key]) -> list[Future]:
        """Send tasks as one graph, and return the futures of the wanted ones."""
        nodes: dict[Key, GraphNode] = {}
        places: dict[Key, str] = {}
        for key, worker, function, arguments in tasks:
            nodes[key] = Task(key, function, *map(_argument, arguments))
            places[key] = worker
        pinned = {"workers": partial(_place, places), "allow_other_workers": False}
        annotations = {**dask.get_annotations(), **span_of(self.run), **pinned}
        name = str(tasks[0].key)
        layer = MaterializedLayer(nodes, annotations=annotations)
        graph = HighLevelGraph({name: layer}, {name: set()})
        return self.client.get(graph, list(wanted), sync=False)

    def results(self, handles: Sequence[Handle]) -> list[Any]:
        """Return what tasks have returned; look at the workers while they are waited for.

        Raises
        ------
        OwnerLost
            A worker that owns blocks is gone.
        ClusterError
            The scheduler is gone.
        """
        pending = [later for each in self.pending if (later := each()) is not None]
        together = [handle.future for handle in (*handles, *(other for each in pending for other in each.handles))]
        with self._told_of_losses(together), leaving_thread():
            found = iter(self._fetch(together))
        # Not before: what has not come is asked for again.
        self.pending = []
        results = [next(found) for _ in handles]
        for each in pending:
            each.found = [next(found) for _ in each.handles]
            each.handles = []
        return results

    def later(self, handles: Sequence[Handle]) -> Later:
        """Return what will have the results of tasks, which come with the next that are waited for."""
        later = Later(self, handles)
        self.pending.append(weakref.ref(later))
        return later

    def finished(self, handles: Sequence[Handle]) -> None:
        """Wait for tasks whose results stay where they are, and raise the error of the first that failed.

        Raises
        ------
        OwnerLost, ClusterError
            As `results` does.
        """
        futures = [handle.future for handle in handles]
        with self._told_of_losses(futures), leaving_thread():
            while not are_done(self.client, futures, LOOK_EVERY):
                self.look()
            for future in futures:
                # Of a task that was cancelled, as its worker has gone, this is an error too.
                if future.status != "finished":
                    future.result()

    def _fetch(self, futures: list[Future]) -> list[Any]:
        """Return what tasks have returned, and look at the workers meanwhile.

        A result may be lost with its worker when its task is long done: Dask then waits for a pinned task to run again.
        """
        results: Any = self.client.gather(futures, direct=self._direct(), asynchronous=True)
        loop: Any = self.client.loop
        fetched = asyncio.run_coroutine_threadsafe(results, loop.asyncio_loop)
        try:
            while not concurrent.futures.wait([fetched], timeout=LOOK_EVERY).done:
                self.look()
            return fetched.result()
        finally:
            fetched.cancel()

    @contextlib.contextmanager
    def _told_of_losses(self, futures: list[Future]) -> Iterator[None]:
        """Raise `OwnerLost` or `ClusterError` for what Dask raises where a worker or the scheduler is gone."""
        try:
            yield
        except (KilledWorker, NoValidWorkerError) as error:
            raise OwnerLost(str(error)) from error
        except SCHEDULER_ERRORS as error:
            if any(future.status == "error" for future in futures):
                raise
            # What a dead worker had is gone without an error of its own.
            self.look()
            if isinstance(error, FutureCancelledError):
                # There may be another worker at its address by now.
                raise OwnerLost(f"What a worker had is gone ({error}).") from error
            raise scheduler_gone(self.client, self.run, error) from error

    def look(self) -> None:
        """Raise `OwnerLost` if a worker is gone, and log what has lasted too long."""
        there = threads_of(self.client, self.run)
        gone = [worker for worker in self.workers if worker not in there]
        if gone:
            raise OwnerLost(f"Worker {gone[0]} is gone.")
        self.watch.look()

    def _direct(self) -> bool | None:
        """Return whether results come straight from the workers, which this process has started."""
        direct = self.client.direct_to_workers
        if direct is None and self.client.cluster is not None:
            return True
        return direct


def _place(places: dict[Key, str], key: Key) -> list[str]:
    """Return the only worker of a task."""
    return [places[key]]


def _argument(value: Any) -> Any:
    """Return an argument of a task: a handle by its key, pieces as they are taken and added up in the task itself."""
    if isinstance(value, Handle):
        return TaskRef(value.key)
    if isinstance(value, Piece):
        if not value.path:
            return TaskRef(value.handle.key)
        return Task(None, array_of, TaskRef(value.handle.key), value.path)
    if isinstance(value, Summands):
        return Task(None, added, *map(_argument, value.pieces))
    if isinstance(value, list) and any(isinstance(each, Handle | TaskRef) for each in value):
        from dask._task_spec import List

        return List(*map(_argument, value))
    return value
