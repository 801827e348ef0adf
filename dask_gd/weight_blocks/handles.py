"""Handles of what tasks have left on their workers, and how these values come to depend on nothing.

As long as somebody needs a task's value, the scheduler and the workers remember the tasks that it was made of, to make
it again. Weights are made of the weights before: these would be all tasks of a fit. No value of a fit is made again, as
a lost worker sends the fit back to its last commit. So now and then its values get other keys, as if they had been
scattered.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from dask.typing import Key
from distributed import Client, Future, Worker

from ..cluster import ask


class Handle:
    """What a task has left on its worker: the same value, whichever key it has there."""

    __slots__ = ("__weakref__", "future", "worker")

    def __init__(self, future: Future, worker: str):
        self.future = future
        self.worker = worker

    @property
    def key(self) -> Key:
        """The key that the value has at present."""
        return self.future.key


def renew(client: Client, handles: Sequence[Handle], name: str) -> None:
    """Give values of finished tasks new keys, ``(name, number)``, that depend on nothing. None is copied or moved.

    Whoever refers to a value by its former key does not find it any more, unless somebody waits for a task.
    """
    numbers = itertools.count()
    renamed = {handle: (name, next(numbers)) for handle in handles}
    of_workers: dict[str, dict[Key, Key]] = {}
    for handle, key in renamed.items():
        of_workers.setdefault(handle.worker, {})[handle.key] = key
    sizes = client.run(_rename, of_workers, workers=list(of_workers))

    # The client is told that these are there once the scheduler knows.
    who_has = {key: [worker] for worker, of_worker in sizes.items() for key in of_worker}
    futures: dict[Key, Future] = {key: Future(key, client) for key in who_has}
    nbytes = {key: size for of_worker in sizes.values() for key, size in of_worker.items()}
    ask(client, "update_data", who_has=who_has, nbytes=nbytes, client=client.id)
    for handle, key in renamed.items():
        # A value that is gone is missed where it is needed.
        if key in futures:
            handle.future = futures[key]


def _rename(of_workers: dict[str, dict[Key, Key]], dask_worker: Worker) -> dict[Key, int]:
    """Give a worker's values their new keys, and return their bytes."""
    sizes: dict[Key, int] = {}
    for before, key in of_workers[dask_worker.address].items():
        if before in dask_worker.data:
            value = dask_worker.data[before]
            # Counted twice, it might be written to disk for want of memory.
            del dask_worker.data[before]
            sizes |= dask_worker.update_data({key: value})["nbytes"]
    return sizes
