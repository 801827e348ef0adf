"""Use the Dask cluster: find the active client, check that the cluster can serve, and watch it while waiting.

Dask waits without a word for workers that never come, for a worker that has stopped, and for tasks that no worker can
load. `compute` looks at the cluster while it waits. A state that can pass is logged; any other ends with a
`ClusterError` that says what was committed last and what to do.

The setting ``dask_gd.timeout`` of Dask's configuration (60 s by default) is how long a pass may see no sign of life.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from typing import Any

import dask
import dask.local
import dask.threaded
from dask.base import get_scheduler
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph
from dask.utils import parse_timedelta
from distributed import Client, Future, KilledWorker, LocalCluster, default_client, futures_of, rejoin, secede, wait
from distributed.client import FutureCancelledError
from distributed.comm import CommClosedError
from distributed.scheduler import NoValidWorkerError

from .errors import ClusterError

logger = logging.getLogger("dask_gd")

#: Name in Dask's configuration of the time without a sign of life.
TIMEOUT = "dask_gd.timeout"
#: That time, where the configuration has none.
DEFAULT_TIMEOUT = "60s"
#: Looks at the cluster within that time.
LOOKS = 6

#: Dask's schedulers that run tasks in this process.
IN_THREADS = (dask.threaded.get, dask.local.get_sync)

#: Errors that mean the scheduler is gone or does not answer.
SCHEDULER_ERRORS = (
    FutureCancelledError,
    CommClosedError,
    ConnectionError,
    asyncio.TimeoutError,
    asyncio.CancelledError,
)

#: Sentences on what has been committed, by the name of the fit or search that runs.
_committed: dict[str, Callable[[], str]] = {}
#: What the last pass of a fit or search that runs has left on the cluster. It is released once the next has been asked
#: for: Dask sends what it has to say of tasks some milliseconds apart, and that would come first.
_to_release: dict[str, list[Future]] = {}
#: Addresses whose versions have been compared with this process's, by client.
_compared: weakref.WeakKeyDictionary[Client, set[tuple[str, str]]] = weakref.WeakKeyDictionary()


def active_client() -> Client | None:
    """Return the `distributed.Client` that Dask would use now, or None for local threads."""
    try:
        return default_client()
    except ValueError:
        return None


@contextlib.contextmanager
def telling_commits(run: str, committed: Callable[[], str]) -> Iterator[None]:
    """Have errors and warnings of this fit's or search's passes say what has been committed."""
    _committed[run] = committed
    _to_release[run] = []
    try:
        yield
    finally:
        release_last(run)
        del _to_release[run]
        del _committed[run]


def last_commit(run: str) -> str:
    """Return a sentence on what has been committed; an empty text for anything but a fit or a search."""
    if run in _committed:
        return _committed[run]()
    return ""


def threads_of(client: Client | None, run: str) -> dict[str, int]:
    """Return the number of threads of each worker, by address.

    Raises
    ------
    ClusterError
        If the scheduler does not answer.
    """
    if client is None:
        return {}
    try:
        return ask(client, "ncores", workers=None)
    except (OSError, *SCHEDULER_ERRORS) as error:
        raise scheduler_gone(client, run, error) from error


def ask(client: Client, what: str, /, **arguments: Any) -> Any:
    """Return the scheduler's answer to a remote call; it must come within `timeout`."""
    scheduler: Any = client.scheduler
    return client.sync(getattr(scheduler, what), **arguments, callback_timeout=timeout())


def timeout() -> float:
    """Return the seconds that a pass may see no sign of life."""
    return float(parse_timedelta(dask.config.get(TIMEOUT, DEFAULT_TIMEOUT)))


def compute(
    *collections: Any,
    run: str = "",
    what: str = "the computation",
    named: Callable[[Any], str] = "Task {}".format,
    one_task: bool = False,
) -> tuple:
    """Return the results of Dask collections, computed where Dask would; look at the cluster while waiting.

    Parameters
    ----------
    collections : Delayed or Array
        Values that are known are returned as they are.
    run : str
        The fit or search, see `telling_commits`.
    what : str
        A name of the computation, for messages.
    named : callable
        Returns the name of a task from its key, for messages.
    one_task : bool
        No two tasks could run at once, so that on this machine no other thread is needed.

    Raises
    ------
    ClusterError
        Where there are no workers within the time allowed, workers die again and again, or the scheduler is gone.
    """
    # Without a cluster there is nothing to watch.
    if not any(map(dask.is_dask_collection, collections)):
        return collections
    scheduler = get_scheduler(collections=collections)
    client = getattr(scheduler, "__self__", None)
    if not isinstance(client, Client):
        return compute_here(scheduler, collections, one_task)
    # Tasks that the cluster has lost are submitted again.
    futures: list[Future] = []
    with leaving_thread():
        try:
            watch = Watch(client, run, what, timeout())
            done = False
            while not done:
                results = submit(client, collections)
                futures = futures_of(results)
                release_last(run)
                done = watch_until_done(watch, futures)
            # Workers that this process has started give their results without a stop at the scheduler.
            direct = client.direct_to_workers
            if direct is None and isinstance(client.cluster, LocalCluster):
                direct = True
            found = tuple(client.gather(results, direct=direct))
            if run in _to_release:
                _to_release[run], futures = futures, []
            return found
        except KilledWorker as error:
            raise workers_killed(named(error.task), error, run, what) from error
        except NoValidWorkerError as error:
            raise no_workers(run, what) from error
        except SCHEDULER_ERRORS as error:
            # A task may have raised it.
            if any(future.status == "error" for future in futures):
                raise
            raise scheduler_gone(client, run, error) from error
        finally:
            # An error's traceback keeps this frame for as long as somebody keeps the error.
            for future in futures:
                future.release()


def submit(client: Client, collections: tuple) -> list:
    """Have the cluster compute collections, and return futures of those that it computes."""
    if not all(isinstance(collection, Delayed) for collection in collections):
        return client.compute(list(collections))
    # There is nothing to optimise in the graphs of Delayed tasks, and to look for it takes as long as to send them.
    graph = HighLevelGraph.merge(*{id(each.dask): each.dask for each in collections}.values())
    return client.get(graph, [each.key for each in collections], sync=False)


def release_last(run: str) -> None:
    """Release what the last pass of a run has left on the cluster."""
    for future in _to_release.get(run, ()):
        future.release()


def compute_here(scheduler: Callable, collections: tuple, one_task: bool) -> tuple:
    """Return the results of Dask collections, computed on this machine."""
    if scheduler not in IN_THREADS or not all(isinstance(collection, Delayed) for collection in collections):
        return dask.compute(*collections)
    # Delayed tasks go to the scheduler as they are: there is nothing to optimise, and to look for it takes as long as
    # a pass over small data.
    if one_task:
        scheduler = dask.local.get_sync
    graph: dict = {}
    for collection in collections:
        graph.update(collection.__dask_graph__())
    return scheduler(graph, [collection.key for collection in collections])


@contextlib.contextmanager
def leaving_thread() -> Iterator[None]:
    """Leave the worker's thread to the tasks that are waited for, where this code itself runs in a task."""
    # Outside of a task there is no thread to leave.
    try:
        secede()
    except (KeyError, ValueError, AttributeError):
        yield
        return
    try:
        yield
    finally:
        rejoin()


def watch_until_done(watch: Watch, futures: list[Future]) -> bool:
    """Wait for futures, and look at the cluster now and then; return False where they must be submitted again.

    Dask may lose a task without a word when workers die together. Such tasks are submitted once more, and not again:
    tasks that workers cannot load get lost each time.
    """
    while not are_done(watch.client, futures, watch.patience / LOOKS):
        try:
            watch.look()
        except ClusterError:
            watch.client.cancel(futures, reason="dask_gd gave up waiting")
            raise
        if watch.tasks_lost and not watch.submitted_again:
            watch.submitted_again = True
            for future in futures:
                future.release()
            # Until the client's loop has released them.
            watch.client.sync(asyncio.sleep, 0)
            return False
    return True


def are_done(client: Client, futures: list[Future], seconds: float) -> bool:
    """Return whether futures are done within some seconds."""
    if all(future.done() for future in futures):
        return True
    return client.sync(_are_done, futures, seconds)


async def _are_done(futures: list[Future], seconds: float) -> bool:
    """Return what `are_done` does, in the client's loop.

    A TimeoutError in the thread that waits would keep all that its callers had: Dask's frames refer to the error, and
    the error to the frames.
    """
    try:
        await wait(futures, timeout=seconds)
    except TimeoutError:
        return False
    return True


class Watch:
    """The state of a cluster, as it was seen while a pass is waited for."""

    def __init__(self, client: Client, run: str, what: str, patience: float):
        self.client = client
        self.run = run
        self.what = what
        self.patience = patience
        self.noted: set[str] = set()
        # When each worker was first seen with the heartbeat that it has now.
        self.heartbeats: dict[str, tuple[float, float]] = {}
        now = time.monotonic()
        self.worker_seen = now
        self.work_seen = now
        # Whether tasks seem to be lost, and whether they have been submitted once more.
        self.tasks_lost = False
        self.submitted_again = False

    def look(self) -> None:
        """Look once; log states that have lasted for too long, and raise an error for those that cannot pass."""
        # A scheduler that does not answer may be busy.
        try:
            workers = ask(self.client, "identity")["workers"]
        except (OSError, *SCHEDULER_ERRORS):
            address = getattr(self.client.scheduler, "address", "its address")
            self.note("scheduler", f"The scheduler at {address} has not answered for {self.patience:.0f} s.")
            return
        # Workers that can load the tasks, then workers that live, then workers that work.
        now = time.monotonic()
        compare_versions(self.client, workers, self.run)
        self.look_for_workers(workers, now)
        any_silent = self.look_for_heartbeats(workers, now)
        self.look_for_work(workers, now, any_silent)

    def look_for_workers(self, workers: dict, now: float) -> None:
        """Raise an error if there has been no worker for too long."""
        if workers:
            self.worker_seen = now
        elif now - self.worker_seen >= self.patience:
            raise no_workers(self.run, self.what)

    def look_for_heartbeats(self, workers: dict, now: float) -> bool:
        """Log workers that have not been heard of, and those that are paused; return whether there are any."""
        any_silent = False
        for address, worker in workers.items():
            heartbeat, since = self.heartbeats.get(address, (None, now))
            if heartbeat != worker["last_seen"]:
                self.heartbeats[address] = (worker["last_seen"], now)
            elif now - since >= self.patience / 2:
                # Stopped, or cut off.
                any_silent = True
                self.note(
                    address,
                    f"Worker {address} has not been heard of for {now - since:.0f} s. The scheduler gives its tasks to "
                    "others after distributed.scheduler.worker-ttl "
                    f"({dask.config.get('distributed.scheduler.worker-ttl', None)} in this process's configuration); "
                    "to go on sooner, end that worker.",
                )
            elif worker["status"] == "paused":
                # Alive, but without room for data.
                any_silent = True
                self.note(
                    f"{address} paused",
                    f"Worker {address} is paused, since its memory is nearly full; it takes no tasks. Give it more, or "
                    "fewer threads, or write the data in smaller chunks.",
                )
        return any_silent

    def look_for_work(self, workers: dict, now: float, any_silent: bool) -> None:
        """Log that no task runs anywhere, though there are workers and none of them is silent."""
        counts = [worker["metrics"].get("task_counts", {}) for worker in workers.values()]
        busy = any(count.get(state, 0) for count in counts for state in ("executing", "long-running", "flight"))
        if busy or any_silent or not workers:
            self.work_seen = now
        elif now - self.work_seen >= self.patience:
            self.tasks_lost = True
            self.note(
                "work",
                f"No worker has run a task for {now - self.work_seen:.0f} s, though there are {len(workers)}. "
                "The tasks are asked for once more. Workers that cannot load a task drop it without an error: look at "
                "their logs and environments.",
            )

    def note(self, about: str, message: str) -> None:
        """Log a warning about a subject, once."""
        if about not in self.noted:
            self.noted.add(about)
            logger.warning("Waiting for %s. %s %s", self.what, message, last_commit(self.run))


def no_workers(run: str, what: str) -> ClusterError:
    """Return the error that there has been no worker for too long."""
    return ClusterError(
        f"There has been no worker for {what} for {timeout():.0f} s. Start workers, wait for them with "
        f"client.wait_for_workers(1), or allow more time with dask.config.set({{{TIMEOUT!r}: '1h'}}). "
        f"{last_commit(run)}"
    )


def workers_killed(task: str, error: KilledWorker, run: str, what: str) -> ClusterError:
    """Return the error that a task has killed the workers that it was given to."""
    return ClusterError(
        f"{task} killed {error.allowed_failures + 1} workers, or waited on them, in {what}. "
        "Look at the workers' logs and memory; smaller chunks need less. "
        f"{last_commit(run) or 'What was committed before is intact.'}"
    )


def scheduler_gone(client: Client, run: str, error: BaseException) -> ClusterError:
    """Return the error that the scheduler is gone, or has cancelled the tasks."""
    address = getattr(client.scheduler, "address", "its address")
    reason = str(error) or type(error).__name__
    return ClusterError(
        f"The scheduler at {address} is gone, or has dropped what it was asked ({reason}). Start a cluster and run the "
        f"same again. {last_commit(run)}"
    )


def compare_versions(client: Client, addresses: Iterable[str], run: str, packages: tuple[str, ...] = ()) -> None:
    """Refuse workers, and a scheduler, that lack dask_gd or have another version of it, or of these packages.

    Such workers drop tasks that they cannot load, without an error, or compute something else. Each is asked once.

    Raises
    ------
    ClusterError
        It names a worker, the version that it has, and the version that is needed.
    """
    # Most calls find nothing new.
    names = ("dask_gd", *packages)
    compared = _compared.setdefault(client, set())
    new = [address for address in addresses if not {(address, name) for name in names} <= compared]
    if not new and ("scheduler", names[-1]) in compared:
        return
    # Ask all at once.
    message = {"op": "versions", "packages": list(names)}
    try:
        answers = ask(client, "broadcast", msg=message, workers=new, on_error="ignore")
        answers["scheduler"] = ask(client, "versions", packages=list(names))
    except (OSError, *SCHEDULER_ERRORS):
        logger.warning("Workers %s did not say within %.0f s which versions they have.", ", ".join(new), timeout())
        return
    # A worker that has ended meanwhile does not answer.
    for address, versions in answers.items():
        if not isinstance(versions, dict):
            continue
        for name in names:
            check_version(address, name, versions["packages"].get(name), run)
            compared.add((address, name))


def check_version(address: str, name: str, there: str | None, run: str) -> None:
    """Refuse any other version of dask_gd than this process has, and another minor version of other packages."""
    here = version(name)
    digits = None if name == "dask_gd" else 2
    if there is not None and there.split(".")[:digits] == here.split(".")[:digits]:
        return
    # Name the process and its version.
    process = "The scheduler"
    if address != "scheduler":
        process = f"Worker {address}"
    if there is None:
        state = f"cannot import {name}"
    else:
        state = f"has {name} {there}"
    raise ClusterError(
        f"{process} {state}; this process has {here}. Install the same version on the client, the scheduler and all "
        f"workers, and start them again. {last_commit(run)}"
    )
