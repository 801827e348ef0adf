"""What do weights in blocks cost, beside whole weights, SciPy, scikit-learn and Vowpal Wabbit?

    python benchmarks/blocks.py --directory DIRECTORY [--cases iteration optimum widest dense] [--peers PYTHON]
    python benchmarks/blocks.py --small    # to see that it runs: its numbers say nothing

Each contestant of blocks_fits.py runs in a process of its own, in turns, ``--repeat`` times, and medians are shown.
``--peers`` is the Python of an environment with vowpalwabbit 9.11.9. Loss logistic, L-BFGS, L2. The cases:

iteration  1,000,000 x 2^24, 40 entries a row, an iteration of L-BFGS with 5 pairs, on 4 workers of 1 GB. Beside it the
           two products of a gradient by SciPy on one thread (X @ w, X.T @ r; CSR whole, float64), a `--bfgs` pass of
           Vowpal Wabbit over its cache, and gradient steps of a plain Dask graph that sends whole weights to each
           worker, which keeps its rows. dask_gd with whole weights is there with ``--whole``: its history is 2 GB on
           the client.
optimum    400,000 x 2^20, from Zarr to scikit-learn's lbfgs optimum of the same rows, C=1: seconds of the loosest
           tolerances of both that end within a relative 1e-8 of the best objective of all.
widest     200,000 x 10^8, 40 entries a row: a few iterations with 2 pairs, on 9 workers of 2 GB.
dense      20,000 x 20,000 float32 in chunks of 2,000 x 5,000: an iteration with weights in blocks and whole, on 2
           workers of 1 GB.

The floor, for n rows, d columns, e entries, m pairs, W workers:

- A half-pass reads e entries, of a value and a local column number each (12 bytes as float64 and int32), and does 2 e
  operations. An iteration has two: "iteration" reads 0.96 GB and does 160 M operations.
- The vectors: the direction is made of 2 m + 1 vectors, the inner products are those of the three new vectors with
  2 m + 1; weights, gradient and the two new differences are written, their parts read. That is at least (4 m + 10) d
  numbers of 8 bytes, 4.0 GB in "iteration", more than the entries: d is 17 times n. At the 10 GB/s of one core 0.5 s.
- Between workers each row has a prediction, which is summed where its segment is: n numbers of 8 bytes from each worker
  but one, and as many back, 16 n (W - 1) bytes: 48 MB in "iteration". Whole weights: 16 d W bytes, 1.07 GB.
- Memory of a worker: its share of w, g, direction and the 2 m vectors of the history, 2 m + 3, and while one is
  replaced up to 2 m + 6; its entries.
- "optimum": 15.6 M entries, 0.19 GB a half-pass; the best of both takes some 40 to 80 iterations.
- "widest": a vector is 0.8 GB, ten of them 8 GB.
- "dense": 1.6 GB of rows; blocks read them twice, whole weights once.

Targets, for the full sizes: an iteration at most 2.5 times SciPy's products and 0.6 times Vowpal Wabbit's pass, in CPU
seconds of the workers, 0.15 CPU seconds of the client and the scheduler; 0.7 of the CPU and a tenth of the bytes of
whole weights. The optimum in half of scikit-learn's time. "dense" 1.6 times the iteration of whole weights. What
processes grow by once all is imported (some 200 MB, most of it libraries): the client by 150 MB whatever the width,
workers by 1.3 (2 m + 6) d / W x 8 bytes, their entries and 150 MB, in "dense" by 130 MB.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from blocks_data import Sizes, make_column_blocks, make_dense, make_sparse_rows
from blocks_fits import Task
from common import arguments, finish, scratch
from sparse_rows import make_rows

CASES = ("iteration", "optimum", "widest", "dense")
MEMORY = ("worker MB", "worker grown", "client MB", "client grown")
SHOWN = ("seconds", "wall", "workers", "client", "between", "spilled", "loopback", *MEMORY, "iterations", "loss")
HEADER = ("case", "contestant", *SHOWN)
#: Relative to the best objective of all.
CLOSE = 1e-8
TOLERANCES = {"blocks": (1e-4, 1e-5, 1e-6), "scikit-learn": (1e-5, 1e-6, 1e-7, 1e-8)}


class Case(NamedTuple):
    """The rows of a table, and what they are to reach, both for one case."""

    rows: list[tuple]
    verdicts: dict[str, bool]


class Missing(KeyError):
    """A contestant has failed of which a case needs the numbers."""


class Found(dict):
    """What contestants have measured, by name."""

    def __missing__(self, name: str) -> dict[str, Any]:
        raise Missing(name)


class Run:
    """Runs contestants, each in a process of its own."""

    def __init__(self, repeat: int, peers: str | None, limit: float, small: bool):
        self.repeat = repeat
        self.peers = peers
        self.limit = limit
        self.small = small

    def of(self, contestants: Iterable[str], tasks: dict[str, Task]) -> Found:
        """Return the medians of each contestant, which take turns; ``tasks`` are by contestant."""
        found: dict[str, list[dict[str, Any]]] = {}
        for _ in range(self.repeat):
            for name in contestants:
                result = self.once(name, tasks[name])
                if result:
                    found.setdefault(name, []).append(result)
        return Found({name: medians(results) for name, results in found.items()})

    def once(self, name: str, task: Task) -> dict[str, Any]:
        """Return what one process has measured; nothing if it failed, which is said."""
        python = sys.executable
        if name == "Vowpal Wabbit":
            if self.peers is None:
                return {}
            python = self.peers
        command = [python, str(Path(__file__).with_name("blocks_fits.py")), name, json.dumps(asdict(task))]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=self.limit)
        except subprocess.TimeoutExpired:
            print(f"{name}: stopped after {self.limit:g} s", flush=True)
            return {}
        if done.returncode:
            print(f"{name}: failed\n{done.stderr[-2000:]}", flush=True)
            return {}
        found = json.loads(done.stdout.splitlines()[-1])
        print(f"{Path(task.path).name}, {name}: {found}", flush=True)
        return found

    def verdicts(self, found: dict[str, bool]) -> dict[str, bool]:
        """Return what was reached; of small sizes nothing is asked."""
        if self.small:
            return {f"{name} (small: not asked)": True for name in found}
        return found


def medians(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the median of each number of some runs, and what is no number of the first."""
    found = {}
    for name, value in results[0].items():
        if isinstance(value, str):
            found[name] = value
        else:
            found[name] = median(result.get(name, value) for result in results)
    return found


def rows_of(case: str, found: dict[str, dict[str, Any]]) -> list[tuple]:
    """Return the rows of the table."""
    return [(case, name, *(result.get(shown, "") for shown in SHOWN)) for name, result in found.items()]


def iteration(directory: Path, run: Run, whole: bool) -> Case:
    """Measure an iteration on 2^24 columns."""
    sizes = Sizes(1_000_000, 1 << 24, 40)
    if run.small:
        sizes = Sizes(40_000, 1 << 18, 40)
    rows = make_sparse_rows(directory, sizes)
    on_rows = Task(str(rows), workers=4, scratch=str(directory))
    tasks = {
        "SciPy": on_rows,
        "blocks": replace(on_rows, path=str(make_column_blocks(rows))),
        "Vowpal Wabbit": on_rows,
        "graph of whole weights": replace(on_rows, first=2, last=5),
        "whole": replace(on_rows, first=1, last=4),
    }
    names = [name for name in tasks if name != "whole" or whole]
    found = run.of(names, tasks)

    blocks = found["blocks"]
    verdicts = {}
    for name, most in (("SciPy", 2.5), ("Vowpal Wabbit", 0.6), ("graph of whole weights", 0.7), ("whole", 0.7)):
        if name in found:
            share = blocks["workers"] / found[name]["workers"]
            verdicts[f"an iteration: {share:.2f} times the CPU of {name}, at most {most}"] = share <= most
    for name in ("graph of whole weights", "whole"):
        if name in found:
            share = blocks["loopback"] / found[name]["loopback"]
            verdicts[f"an iteration: {share:.3f} of the bytes of {name}, at most 0.1"] = share <= 0.1
    cpu = blocks["client"]
    verdicts[f"client and scheduler: {cpu:.3f} CPU s an iteration, at most 0.15"] = cpu <= 0.15
    verdicts |= memory_verdicts("iteration", blocks, tasks["blocks"], sizes)
    return Case(rows_of("iteration", found), run.verdicts(verdicts))


def memory_verdicts(case: str, found: dict[str, Any], task: Task, sizes: Sizes) -> dict[str, bool]:
    """Return whether the client and the workers took what they may."""
    vectors = 1.3 * (2 * task.pairs + 6) * sizes.columns / task.workers * 8 / 1e6
    kept = sizes.rows * sizes.entries * 12 / task.workers / 1e6
    most = vectors + kept + 150
    worker = found["worker grown"]
    client = found["client grown"]
    return {
        f"{case}: a worker grows by {worker:.0f} MB, at most {most:.0f}": worker <= most,
        f"{case}: the client grows by {client:.0f} MB, at most 150": client <= 150,
    }


def optimum(directory: Path, run: Run, whole: bool) -> Case:
    """Measure how long the optimum takes, and scikit-learn's lbfgs."""
    rows, columns, entries = 400_000, 1 << 20, 39
    if run.small:
        rows, columns = 20_000, 1 << 16
    path = make_rows(directory, rows, columns, entries)
    alpha = 1 / rows
    # Pairs as scikit-learn keeps them.
    tasks = {
        "blocks": Task(str(make_column_blocks(path)), alpha=alpha, pairs=10),
        "scikit-learn": Task(str(path), alpha=alpha),
    }
    found = {}
    for name, tolerances in TOLERANCES.items():
        for tol in tolerances:
            result = run.of([name], {name: replace(tasks[name], tol=tol)})
            found |= {f"{name}, tol={tol:g}": each for each in result.values()}
    best = min(result["objective"] for result in found.values())
    for result in found.values():
        result["loss"] = (result["objective"] - best) / best

    # The first of each one's tolerances that comes as close.
    first = {}
    for name in TOLERANCES:
        close = [r for key, r in found.items() if key.startswith(name) and r["loss"] <= CLOSE]
        if close:
            first[name] = min(result["seconds"] for result in close)
    verdicts = {"both come within 1e-8 of the best objective": len(first) == 2}
    if len(first) == 2:
        share = first["blocks"] / first["scikit-learn"]
        verdicts[f"optimum: {share:.2f} of scikit-learn's time, at most 0.5"] = share <= 0.5
    return Case(rows_of("optimum", found), run.verdicts(verdicts))


def widest(directory: Path, run: Run, whole: bool) -> Case:
    """Measure a few iterations on 10^8 columns."""
    sizes = Sizes(200_000, 100_000_000, 40)
    workers = 9
    if run.small:
        sizes = Sizes(20_000, 1_000_000, 40)
        workers = 3
    rows = make_sparse_rows(directory, sizes)
    path = make_column_blocks(rows)
    task = Task(str(path), workers=workers, memory="2GB", pairs=2, first=3, last=6)
    found = run.of(["blocks"], {"blocks": task})
    verdicts = memory_verdicts("widest", found["blocks"], task, sizes)
    return Case(rows_of("widest", found), run.verdicts(verdicts))


def dense(directory: Path, run: Run, whole: bool) -> Case:
    """Measure iterations on dense rows, with weights in blocks and whole."""
    size = 20_000
    if run.small:
        size = 2_000
    task = Task(str(make_dense(directory, size, size)), x="x", alpha=1e-3)
    names = ["blocks", "whole"]
    found = run.of(names, dict.fromkeys(names, task))
    share = found["blocks"]["wall"] / found["whole"]["wall"]
    grown = found["blocks"]["worker grown"]
    verdicts = {
        f"dense: {share:.2f} times the iteration of whole weights, at most 1.6": share <= 1.6,
        f"dense: a worker grows by {grown:.0f} MB, at most 130": grown <= 130,
    }
    return Case(rows_of("dense", found), run.verdicts(verdicts))


MEASURE = {"iteration": iteration, "optimum": optimum, "widest": widest, "dense": dense}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--peers", help="the Python of an environment with vowpalwabbit, dask_gd's packages beside")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--limit", type=float, default=900, help="seconds of a process")
    parser.add_argument("--whole", action="store_true", help="dask_gd with whole weights in the case iteration, too")
    parser.add_argument("--small", action="store_true", help="small sizes, of which nothing is asked")
    args = parser.parse_args()
    run = Run(args.repeat, args.peers, args.limit, args.small)
    table: list[tuple] = []
    verdicts: dict[str, bool] = {}
    with scratch(args.directory) as directory:
        for name in args.cases:
            try:
                case = MEASURE[name](directory, run, args.whole)
            except Missing as error:
                verdicts[f"{name}: {error.args[0]!r} ran"] = False
                continue
            table += case.rows
            verdicts |= case.verdicts
    finish("Weights in blocks (CPU seconds and MB of an iteration; peaks)", HEADER, table, verdicts, args.output)


if __name__ == "__main__":
    main()
