"""Does a worker's memory grow with the number of rows?

    python benchmarks/memory.py

Peak resident memory of each worker above what it held after a warm-up on tiny data (so that imports do not count), for
fits of n and 16 n rows in chunks of the same size, with 2 workers of one thread and 1 GB. The peak is the kernel's own
high-water mark (VmHWM, reset through /proc/self/clear_refs), so that nothing is missed between samples. Linux only.

The fits make 20 passes, so that each worker reads many chunks at n too. The data is not compressed: of compressed data
workers would keep rows between passes, up to half of their limit, on purpose.

Targets: under 4 chunks, or 16 MB where chunks are small; and at 16 n at most 8 MB more than at n, for what Dask's
worker records of its tasks and its time in a run that takes sixteen times as long.
"""

from __future__ import annotations

import re
from pathlib import Path

from common import arguments, cluster, finish, make_problem, scratch

import dask_gd

FACTOR, CHUNKS, SMALL, BOOKKEEPING = 16, 4, 16, 8  # the last two in MB
HEADER = ("solver", "chunk MB", "rows", "data MB", "worker growth MB", "largest / chunk")


def resident() -> float:
    """This process's resident memory in MB, which becomes its high-water mark."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def peak() -> float:
    """This process's high-water mark since `resident`, in MB."""
    return _status("VmHWM")


def _status(field: str) -> float:
    return int(re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024 / 1e6


def growth(path: Path, tiny: Path, solver: str) -> list[float]:
    """Peak memory of each worker above its start, in MB."""
    with cluster(2, "1GB") as client:
        fit(tiny, solver)
        before = client.run(resident)
        fit(path, solver)
        return sorted(after - before[worker] for worker, after in client.run(peak).items())


def fit(path: Path, solver: str) -> None:
    dask_gd.fit(dask_gd.open(path, x="x", y="y"), loss="logistic", solver=solver, max_iter=20, tol=0.0)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rows", type=int, default=250_000, help="n")
    args = parser.parse_args()
    rows, verdicts = [], {}
    with scratch(args.directory) as directory:
        tiny = make_problem(directory, 2_000, 100, 500)
        for chunk_rows in (1_250, 50_000):
            chunk = chunk_rows * 100 * 8 / 1e6
            paths = {n: make_problem(directory, n, 100, chunk_rows) for n in (args.rows, FACTOR * args.rows)}
            for solver in ("newton", "lbfgs"):
                largest = []
                for n, path in paths.items():
                    grown = growth(path, tiny, solver)
                    largest.append(grown[-1])
                    shown = " ".join(f"{g:.1f}" for g in grown)
                    rows.append((solver, chunk, n, n * 100 * 8 / 1e6, shown, largest[-1] / chunk))
                target = f"{solver}, {chunk:.0f} MB chunks: {largest[0]:.1f} -> {largest[1]:.1f} MB"
                few = max(largest) < max(CHUNKS * chunk, SMALL)
                verdicts[target] = few and largest[1] - largest[0] <= BOOKKEEPING
    finish("Peak memory of the workers above their start", HEADER, rows, verdicts, args.output)


if __name__ == "__main__":
    main()
