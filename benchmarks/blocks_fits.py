"""The contestants of blocks.py, each of which runs in a process of its own.

    python benchmarks/blocks_fits.py CONTESTANT '{"path": ..., ...}'

The arguments are JSON, see `Task`. Prints what was measured as JSON, in the last line.

dask_gd and the plain Dask graph have a fresh cluster of single-threaded worker processes. CPU seconds are those of the
workers' processes, all threads of them; the client's process has the scheduler too. They are taken from one iteration
to a later one, so that neither the first reading nor a history that is not full counts. Peaks are each process's own
high-water mark, and how far it is above what the process held once all was imported. Bytes between workers are those
of the workers' transfer logs; spilled are those that Dask has put on disk for want of memory. Bytes over the loopback
device are all that this machine's processes have sent each other meanwhile, to and from the client too.
"""

from __future__ import annotations

import json
import re
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from distributed import Client, Worker
from memory import peak, resident
from scipy.sparse import csr_array

#: Passes of the two runs of Vowpal Wabbit, of which the difference is taken.
FEW_PASSES = 2
MORE_PASSES = 5
#: Rows that are written as text at a time.
TEXT_ROWS = 5_000


@dataclass(frozen=True)
class Task:
    """What to measure: the rows, the objective, the cluster, and how far to go."""

    path: str
    #: Of the L2 penalty.
    alpha: float = 1e-6
    workers: int = 2
    memory: str = "1GB"
    #: Pairs of changes that L-BFGS keeps.
    pairs: int = 5
    #: Iterations between which CPU and bytes are taken; the fit ends with the latter.
    first: int = 6
    last: int = 12
    #: Where there is one, the fit goes on to it.
    tol: float = 0.0
    #: The names of the features.
    x: str = "X"
    #: Where a peer writes what it needs.
    scratch: str = ""

    @property
    def max_iter(self) -> int:
        if self.tol:
            return 5_000
        return self.last


@dataclass(frozen=True)
class Mark:
    """What all processes have used so far."""

    wall: float
    workers: float
    client: float
    between: float
    spilled: float
    loopback: float

    def to(self, later: Mark, iterations: int) -> dict[str, float]:
        """Return what an iteration has used until a later mark, in seconds and MB."""
        names = ("wall", "workers", "client", "between", "spilled", "loopback")
        return {name: (getattr(later, name) - getattr(self, name)) / iterations for name in names}


def mark_of(client: Client) -> Mark:
    """Return what the cluster and this process have used."""
    found = client.run(used_by_worker).values()
    return Mark(
        wall=time.perf_counter(),
        workers=sum(cpu for cpu, _, _ in found),
        client=time.process_time(),
        between=sum(received for _, received, _ in found) / 1e6,
        spilled=sum(spilled for _, _, spilled in found) / 1e6,
        loopback=loopback_bytes() / 1e6,
    )


def used_by_worker(dask_worker: Worker) -> tuple[float, int, int]:
    """Return a worker's CPU seconds, the bytes that it has received from other workers, and those put on disk."""
    received = sum(transfer["total"] for transfer in dask_worker.transfer_incoming_log)
    spilled = dask_worker.data.cumulative_metrics.get(("disk-write", "bytes"), 0)
    return time.process_time(), received, spilled


def loopback_bytes() -> int:
    """Return the bytes that have gone over the loopback device."""
    line = re.search(r"^\s*lo:\s*(\d+)", Path("/proc/net/dev").read_text(), re.M)
    return int(line[1])


class Memory:
    """The peaks of a cluster's processes, beside what they hold once all is imported."""

    def __init__(self, client: Client):
        self.client = client
        client.run(import_dask_gd)
        self.workers = client.run(resident)
        self.own = resident()

    def peaks(self) -> dict[str, float]:
        """Return the highest resident memory of any worker, that of this process, and their growth, in MB."""
        peaks = self.client.run(peak)
        own = peak()
        return {
            "worker MB": max(peaks.values()),
            "worker grown": max(mark - self.workers[address] for address, mark in peaks.items()),
            "client MB": own,
            "client grown": own - self.own,
        }


class Marks:
    """Take marks at two iterations of a fit, and follow its loss."""

    def __init__(self, client: Client, task: Task):
        self.client = client
        self.wanted = (task.first, task.last)
        self.found: dict[int, Mark] = {}

    def __call__(self, event: Any) -> None:
        if getattr(event, "iteration", None) in self.wanted:
            self.found[event.iteration] = mark_of(self.client)

    def an_iteration(self) -> dict[str, float]:
        """Return what an iteration has used; nothing where the fit ended before."""
        if len(self.found) < 2:
            return {}
        first, last = (self.found[iteration] for iteration in self.wanted)
        return first.to(last, self.wanted[1] - self.wanted[0])


def fit_dask_gd(task: Task, weights: str) -> dict[str, Any]:
    """Fit by L-BFGS, with weights in blocks or whole."""
    from common import cluster

    import dask_gd

    with cluster(task.workers, task.memory) as client:
        memory = Memory(client)
        marks = Marks(client, task)
        began = time.perf_counter()
        run = dask_gd.fit(
            dask_gd.open(task.path, x=task.x, y="y"),
            weights=weights,
            loss="logistic",
            penalty=dask_gd.L2(task.alpha),
            solver=dask_gd.LBFGS(memory=task.pairs),
            max_iter=task.max_iter,
            tol=task.tol,
            callbacks=[marks],
        )
        seconds = time.perf_counter() - began
        found: dict[str, Any] = {**marks.an_iteration(), **memory.peaks()}
        found |= {"seconds": seconds, "iterations": run.n_iter, "loss": float(run.history.loss[-1])}
        found["passes"] = float(run.history.passes.sum())
        found["reason"] = run.reason
        # The objective is that of the same function for all contestants, where the weights fit this process.
        if task.tol:
            parameters = np.append(run.weights.values, float(run.intercept))
            found["objective"] = objective_of(Path(task.path), parameters, task.alpha)
    return found


def import_dask_gd() -> None:
    """Import what the tasks need, in a worker."""
    import dask_gd  # noqa: F401


def graph_of_whole_weights(task: Task) -> dict[str, Any]:
    """Descend by gradients of a plain Dask graph: weights whole on the client and on each worker, the rows kept there.

    A pass is a task for each worker, and sums of two until one is left.
    """
    from common import cluster

    n, p = shape_of(Path(task.path))
    with cluster(task.workers, task.memory) as client:
        memory = Memory(client)
        addresses = sorted(client.scheduler_info()["workers"])
        edges = np.linspace(0, n, len(addresses) + 1).astype(int)
        parts = []
        for address, start, stop in zip(addresses, edges[:-1], edges[1:], strict=True):
            parts.append(client.submit(read_rows, task.path, int(start), int(stop), workers=[address]))
        w = np.zeros(p)
        marks = {}
        for iteration in range(task.last + 1):
            sent = client.scatter(w, broadcast=True, hash=False)
            sums = [
                client.submit(gradient_of, part, sent, workers=[a]) for part, a in zip(parts, addresses, strict=True)
            ]
            while len(sums) > 1:
                pairs = [sums[i : i + 2] for i in range(0, len(sums), 2)]
                sums = [client.submit(sum_of, *pair) for pair in pairs]
            w -= 0.1 * (sums[0].result() / n + task.alpha * w)
            del sent, sums
            if iteration in (task.first, task.last):
                marks[iteration] = mark_of(client)
        used = marks[task.first].to(marks[task.last], task.last - task.first)
        return {**used, **memory.peaks()}


def read_rows(path: str, start: int, stop: int) -> tuple[csr_array, np.ndarray]:
    """Return rows and their classes; values are float64, so that no pass converts them."""
    group = zarr.open_group(path, mode="r")
    indptr = group["X/indptr"][start : stop + 1]
    entries = slice(int(indptr[0]), int(indptr[-1]))
    data = group["X/data"][entries].astype(float)
    parts = (data, group["X/indices"][entries], (indptr - indptr[0]).astype(np.int32))
    return csr_array(parts, shape=(stop - start, group["X"].attrs["shape"][1])), group["y"][start:stop]


def gradient_of(part: tuple[csr_array, np.ndarray], w: np.ndarray) -> np.ndarray:
    x, y = part
    return x.T @ (1 / (1 + np.exp(-(x @ w))) - y)


def sum_of(*gradients: np.ndarray) -> np.ndarray:
    return sum(gradients[1:], start=gradients[0])


def shape_of(path: Path) -> tuple[int, int]:
    n, p = zarr.open_group(path, mode="r")["X"].attrs["shape"]
    return int(n), int(p)


def objective_of(path: Path, parameters: np.ndarray, alpha: float) -> float:
    """Return the mean logistic loss and the penalty at weights, the intercept last; rows are those of a CSR group."""
    from sparse_rows import load

    x, y = load(rows_beside(path))
    z = x @ parameters[:-1] + parameters[-1]
    w = parameters[:-1]
    return float((np.logaddexp(0.0, z) - y * z).mean() + alpha / 2 * w @ w)


def rows_beside(path: Path) -> Path:
    """Return the store of the same rows that is not cut by columns."""
    return path.with_name(path.name.replace("blocks-", "", 1))


def scipy_products(task: Task) -> dict[str, Any]:
    """Take the two products of a gradient in this process: CPU seconds, the least of three, in float64 and float32."""
    from sparse_rows import load

    x, _ = load(Path(task.path))
    found: dict[str, Any] = {}
    for dtype in (np.float64, np.float32):
        rows = csr_array((x.data.astype(dtype), x.indices, x.indptr), shape=x.shape)
        # Zeros that nobody has written are all one page of memory.
        w = np.full(x.shape[1], 0.1, dtype)
        r = np.full(x.shape[0], 0.1, dtype)
        name = np.dtype(dtype).name
        found[f"forward {name}"] = least_cpu(lambda rows=rows, w=w: rows @ w)
        found[f"backward {name}"] = least_cpu(lambda rows=rows, r=r: rows.T @ r)
    found["workers"] = found["forward float64"] + found["backward float64"]
    return {**found, "client MB": peak()}


def least_cpu(function: Any, repeat: int = 3) -> float:
    seconds = []
    for _ in range(repeat):
        began = time.process_time()
        function()
        seconds.append(time.process_time() - began)
    return min(seconds)


def vowpal_wabbit(task: Task) -> dict[str, Any]:
    """Take `--bfgs` passes over a cache: CPU seconds of a pass, from runs of a few passes and of more.

    Its penalty is that of the sum of losses. No row is held out, and it does not stop before the passes are made.
    """
    import vowpalwabbit

    n, p = shape_of(Path(task.path))
    text = Path(task.scratch) / f"vw-{n}x{p}.txt"
    cache = text.with_suffix(".cache")
    bits = int(p - 1).bit_length()
    options = f"--bfgs -b {bits} --mem {task.pairs} --loss_function logistic --l2 {task.alpha * n} --termination 0"
    options += f" --holdout_off --quiet --cache_file {cache} -d {text} --passes "
    if not cache.exists():
        if not text.exists():
            write_text(Path(task.path), text)
        vowpalwabbit.Workspace(options + "2 -k").finish()
    used = {}
    for passes in (FEW_PASSES, MORE_PASSES):
        began = time.perf_counter()
        before = time.process_time()
        workspace = vowpalwabbit.Workspace(options + str(passes))
        workspace.finish()
        used[passes] = (time.process_time() - before, time.perf_counter() - began)
    more, few = used[MORE_PASSES], used[FEW_PASSES]
    cpu, wall = ((a - b) / (MORE_PASSES - FEW_PASSES) for a, b in zip(more, few, strict=True))
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return {"workers": cpu, "wall": wall, "seconds": more[1], "client MB": highest}


def write_text(path: Path, text: Path) -> None:
    """Write rows as Vowpal Wabbit reads them; a column's number is its hash."""
    n, _ = shape_of(path)
    partial = text.with_suffix(".partial")
    with open(partial, "w", encoding="ascii") as file:
        for start in range(0, n, TEXT_ROWS):
            x, y = read_rows(str(path), start, min(start + TEXT_ROWS, n))
            entries = [
                f" {column}:{value:.9g}" for column, value in zip(x.indices.tolist(), x.data.tolist(), strict=True)
            ]
            for row, target in enumerate(y):
                line = "".join(entries[x.indptr[row] : x.indptr[row + 1]])
                file.write(f"{2 * int(target) - 1} |{line}\n")
    partial.rename(text)


def scikit_learn(task: Task) -> dict[str, Any]:
    """Fit by scikit-learn's lbfgs, which has the rows in memory; the loading is counted."""
    from sklearn.linear_model import LogisticRegression
    from sparse_rows import load

    began = time.perf_counter()
    x, y = load(Path(task.path))
    model = LogisticRegression(C=1 / (task.alpha * len(y)), solver="lbfgs", tol=task.tol, max_iter=task.max_iter)
    model.fit(x.astype(float), y)
    seconds = time.perf_counter() - began
    parameters = np.append(model.coef_[0], model.intercept_)
    return {
        "seconds": seconds,
        "iterations": int(model.n_iter_[0]),
        "objective": objective_of(Path(task.path), parameters, task.alpha),
        "client MB": peak(),
    }


CONTESTANTS = {
    "blocks": lambda task: fit_dask_gd(task, "blocks"),
    "whole": lambda task: fit_dask_gd(task, "whole"),
    "graph of whole weights": graph_of_whole_weights,
    "SciPy": scipy_products,
    "Vowpal Wabbit": vowpal_wabbit,
    "scikit-learn": scikit_learn,
}


if __name__ == "__main__":
    found = CONTESTANTS[sys.argv[1]](Task(**json.loads(sys.argv[2])))
    print(json.dumps(found))
