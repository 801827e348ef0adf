"""What do factors of very many levels (fixed effects) cost?

    python benchmarks/levels.py [--peers PYTHON] [--alone]

1,000,000 rows with 50,000 workers, 1,000 firms and 5 numbers, as codes in Zarr on 2 workers of one thread. "random" has
all pairs of workers and firms alike. In "chain" a worker has been with three neighbouring firms only, so that firms far
from each other are connected through all that are between them. Squared loss without a penalty, to standard errors as
well, and logistic loss with L2(1e-6), and without a penalty, where levels with one class are left out. "long chain" has
100,000 workers and 20,000 firms, for which no matrix of the firms is formed.

"ns a row" is the CPU time of a pass with the curvature in parts, in this process; memory is a worker's peak above what
it held before, and the client's. CPU is that of the client and of the workers together. ``--peers`` is the Python of an
environment with pyfixest, hdfe-stream and pyarrow; their seconds are of a second fit, from a frame in memory or from
Parquet, unpenalised.

Targets: 1.5 s squared and 4 s logistic for random pairs, 2 s and 6 s for the chain, 500 MB for a worker, 170 ns a row.
"""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import numpy as np
import zarr
from common import arguments, cluster, finish, scratch
from memory import peak, resident

import dask_gd
from dask_gd.kernels.base import Part, Request
from dask_gd.kernels.curvature_parts import InParts
from dask_gd.losses import as_loss
from dask_gd.worker_env import one_blas_thread

ROWS, CHUNK, MOST_MB, MOST_NS = 1_000_000, 100_000, 500, 170
HEADER = (
    "data",
    "loss",
    "solver",
    "s",
    "CPU s",
    "target s",
    "iterations",
    "passes",
    "gradient",
    "worker MB",
    "client MB",
)
TARGETS = {
    ("random", "squared"): 1.5,
    ("random", "logistic"): 4.0,
    ("chain", "squared"): 2.0,
    ("chain", "logistic"): 6.0,
}
LEVELS = {"random": (50_000, 1_000), "chain": (50_000, 1_000), "long chain": (100_000, 20_000)}
WEIGHTS = (0.5, -0.3, 0.2, 0.0, 0.1)


def make_levels(directory: Path, kind: str, loss: str) -> Path:
    """Numbers, codes of workers and firms, and targets that follow from all of them; as Zarr, and as .npy for peers."""
    path = directory / f"{kind}-{loss}".replace(" ", "-")
    if (path / "complete").exists():
        return path
    workers, firms = LEVELS[kind]
    rng = np.random.default_rng(0)
    worker = rng.integers(0, workers, ROWS, dtype=np.int32)
    firm = rng.integers(0, firms, ROWS, dtype=np.int32)
    if kind != "random":
        near = worker // (workers // firms) + rng.integers(-1, 2, ROWS, dtype=np.int32)
        firm = np.clip(near, 0, firms - 1).astype(np.int32)
    x = rng.normal(size=(ROWS, len(WEIGHTS)))
    z = x @ WEIGHTS + 0.5 * rng.normal(size=workers)[worker] + 0.5 * rng.normal(size=firms)[firm]
    if loss == "squared":
        y = z + rng.normal(size=ROWS)
    else:
        y = (rng.random(ROWS) < 1 / (1 + np.exp(-z))).astype(float)
    group = zarr.open_group(path / "rows.zarr", mode="w")
    for name, values in {"x": x, "worker": worker, "firm": firm, "y": y}.items():
        chunks = (CHUNK, *values.shape[1:])
        group.create_array(name, data=values, chunks=chunks, config={"write_empty_chunks": True})
        np.save(path / f"{name}.npy", values)
    group["worker"].attrs["levels"] = list(range(workers))
    group["firm"].attrs["levels"] = list(range(firms))
    (path / "complete").touch()
    return path


def rows_of(path: Path) -> dask_gd.Source:
    return dask_gd.open(path / "rows.zarr", x=["x", "worker", "firm"], y="y")


def pass_ns(path: Path, loss: str) -> float:
    """CPU nanoseconds of a row in a pass with the curvature in parts, over a chunk in memory, on one thread."""
    source = rows_of(path)
    columns = [np.load(path / f"{name}.npy")[:CHUNK] for name in ("x", "worker", "firm", "y")]
    rows = tuple(column.reshape(len(column), -1) for column in columns[:3])
    query = np.full((source.shape[1], 1, 1), 0.01)
    part = Part(0, query, as_loss(loss), Request(), source.row_format)
    best = np.inf
    for _ in range(5):
        with one_blas_thread():
            began = time.thread_time()
            kernel = InParts().make(part)
            kernel.add(rows, columns[3][:, None], None)
            kernel.sums()
            best = min(best, time.thread_time() - began)
    return best / CHUNK * 1e9


def fit_of(path: Path, loss: str, **options) -> tuple[dask_gd.FitResult, float]:
    """A fit and its seconds, opening the rows counted."""
    began = time.perf_counter()
    run = dask_gd.fit(rows_of(path), loss=loss, fit_intercept=False, **options)
    return run, time.perf_counter() - began


def measure(directory: Path, kind: str, loss: str, others: bool) -> tuple[list[tuple], dict[str, float]]:
    """The rows of a case, and its seconds by solver and penalty."""
    path = make_levels(directory, kind, loss)
    penalty = None if loss == "squared" else dask_gd.L2(1e-6)
    cases = [("auto", penalty, {})]
    if loss == "logistic":
        cases.append(("auto", None, {}))
    if others and kind != "long chain":
        cases.append(("lbfgs", penalty, {"max_iter": 200}))
    rows, seconds = [], {}
    for solver, strength, options in cases:
        with cluster(2, "2GB") as client:
            # Workers have loaded what they need, and the data's files are in memory.
            fit_of(path, loss, penalty=strength, solver=solver, max_iter=1)
            before, mine = client.run(resident), resident()
            cpu = time.process_time() + sum(client.run(time.process_time).values())
            run, took = fit_of(path, loss, penalty=strength, solver=solver, **options)
            cpu = time.process_time() + sum(client.run(time.process_time).values()) - cpu
            worker = max(after - before[address] for address, after in client.run(peak).items())
            client_mb = peak() - mine
        target = TARGETS.get((kind, loss)) if solver == "auto" else None
        name = f"{loss}, {strength}, {len(run.dropped_levels)} levels left out" if loss == "logistic" else loss
        share = float(run.history.grad_norm[-1])
        found = (run.n_iter, round(float(run.history.passes.sum()), 1), share, round(worker), round(client_mb))
        rows.append((kind, name, solver, round(took, 2), round(cpu, 2), target or "-", *found))
        if target:
            seconds[f"{kind}, {loss}, {strength}: {took:.2f} of {target} s"] = took / target
            seconds[f"{kind}, {loss}, {strength}: a worker {worker:.0f} of {MOST_MB} MB"] = worker / MOST_MB
        if solver == "auto" and strength is None and loss == "squared":
            began = time.perf_counter()
            table = dask_gd.infer(run, rows_of(path)).table
            took = time.perf_counter() - began
            print(f"{kind}: standard errors in {took:.2f} s, of x[0] {float(table.standard_error[0]):.6f}")
    return rows, seconds


def peers(python: str, path: Path, loss: str) -> list[tuple]:
    """The peers' seconds."""
    script = Path(__file__).with_name("levels_peers.py")
    done = subprocess.run([python, script, path, loss], capture_output=True, text=True, check=True)
    found = []
    for name, result in json.loads(done.stdout.splitlines()[-1]).items():
        if "error" in result:
            found.append((path.name, loss, f"{name}: {result['error']}", *["-"] * 8))
            continue
        print(path.name, name, "coefficients", np.round(result["coefficients"], 8).tolist())
        found.append((path.name, loss, name, round(result["seconds"][1], 2), *["-"] * 7))
    return found


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--peers", help="the Python of an environment with pyfixest, hdfe-stream and pyarrow")
    parser.add_argument("--alone", action="store_true", help="leave out L-BFGS")
    parser.add_argument("--kinds", nargs="+", default=list(LEVELS))
    args = parser.parse_args()
    table, verdicts = [], {}
    with scratch(args.directory) as directory:
        for kind in args.kinds:
            for loss in ("squared", "logistic"):
                rows, seconds = measure(directory, kind, loss, not args.alone)
                table += rows
                verdicts |= {name: share <= 1 for name, share in seconds.items()}
                path = make_levels(directory, kind, loss)
                ns = pass_ns(path, loss)
                verdicts[f"{kind}, {loss}: {ns:.0f} of {MOST_NS} ns a row in a pass with the curvature"] = ns <= MOST_NS
                if args.peers:
                    table += peers(args.peers, path, loss)
    finish("Factors of very many levels", HEADER, table, verdicts, args.output)


if __name__ == "__main__":
    main()
