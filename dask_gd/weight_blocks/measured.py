"""What a fit with weights in blocks takes of each worker, as it turns out: the peak of its memory, and bytes sent."""

from __future__ import annotations

from typing import NamedTuple

from distributed import Client, Worker

from ..worker_env import peak, resident


class Taken(NamedTuple):
    """Bytes of a worker's process: its memory when a fit began and at the most since, and what it has sent since."""

    before: int
    peak: int
    sent: int

    @property
    def memory(self) -> int:
        """The memory that has come on top."""
        return self.peak - self.before


class Meter:
    """The measurement of the workers of a fit, from its beginning on."""

    def __init__(self, client: Client, workers: list[str]):
        self.client = client
        began = client.run(_begin, workers=workers, on_error="return")
        #: What the workers had then, but for those that have gone meanwhile.
        self.began: dict[str, tuple[int, int]] = {}
        for worker, found in began.items():
            if isinstance(found, tuple):
                self.began[worker] = found

    def read(self) -> dict[str, Taken]:
        """Return what each worker has taken since then, of those that are still there, by address."""
        there = set(self.client.scheduler_info(n_workers=-1)["workers"])
        workers = [worker for worker in self.began if worker in there]
        if not workers:
            return {}
        read = self.client.run(_read, workers=workers, on_error="return")
        taken = {}
        for worker, found in read.items():
            if isinstance(found, tuple):
                before, sent = self.began[worker]
                taken[worker] = Taken(before, found[0], found[1] - sent)
        return taken


def _begin(dask_worker: Worker) -> tuple[int, int]:
    """Begin to measure on a worker; return its memory, and the bytes that it has ever sent."""
    before = resident()
    peak.bytes = before
    return before, dask_worker.transfer_outgoing_bytes_total


def _read(dask_worker: Worker) -> tuple[int, int]:
    """Return the peak of a worker's memory since the beginning, and the bytes that it has ever sent."""
    peak.note()
    return peak.bytes, dask_worker.transfer_outgoing_bytes_total
