"""Do fits that end without a look end within the tolerance, and are there never more passes than without correction?

    python benchmarks/one_pass.py --problems 200
    python benchmarks/one_pass.py --problems 40 --kinds sorted rare --tolerances 1e-3 1e-6
    python benchmarks/one_pass.py --timed DIRECTORY --rows 1000000 --tolerances 3e-4 1e-4 1e-6 --repeat 5
    python benchmarks/one_pass.py --timed DIRECTORY --rows 2000000 --loss poisson --tolerances 1e-4 --glum 1e-3

Random problems of every kind below, each fitted to each tolerance as it is (see docs/one_pass.md) and with
``Newton.corrects`` switched off. At the end of each fit the gradient is computed from all rows in NumPy, by nobody's
forecast, over the scale that `fit` has. The table has for each kind: the passes of both in the mean, samples counted;
fits that took more than without, and by how much at most; fits that ended without a look; and of all that converged the
largest gradient over the tolerance, which must be at most 1.

With ``--timed`` fits of rows x 100 on 2 workers of 1 GB, with correction and without in turns: passes, seconds, and
how far the end is above the least objective, relatively. With ``--glum`` and a tolerance that package fits the same
rows in memory, with its loading counted, in a process of its own of the interpreter ``--python``, as `run.py` has it.

plain       normal features, some of them far from 0
correlated  one common factor, units from 1e-3 to 1e3
condition   condition numbers to 1e6
rare        levels of a skewed factor, and flags down to 1 row in 3,000
heavy       features of Student's t with 2.5 degrees of freedom
sorted      rows in the order of a feature
sorted_y    rows in the order of the noisy target
drift       a feature that grows from row to row
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import NamedTuple

import dask.array as da
import numpy as np
import zarr
from common import TARGETS, cluster, make_amounts, make_problem, optimum
from common import objective as objective_of

import dask_gd
from dask_gd.kernels.base import Request, sums_of_rows
from dask_gd.model.losses import as_loss
from dask_gd.solvers.newton.newton import Newton
from dask_gd.solvers.objective import gradient_cosine, objective

KINDS = ("plain", "correlated", "condition", "rare", "heavy", "sorted", "sorted_y", "drift")
LOSSES = ("logistic", "poisson", "gamma", "tweedie")
PARTITIONS = 32


def features_of(kind: str, n: int, rng: np.random.Generator, widths: list[int]) -> np.ndarray:
    """Return the features (n, p) of a kind."""
    p = int(rng.choice(widths))
    if kind == "heavy":
        x = np.clip(rng.standard_t(2.5, size=(n, p)), -60, 60)
    else:
        x = rng.normal(size=(n, p))
    if kind == "correlated":
        x = (0.5 * x + rng.normal(size=(n, 1))) * 10 ** rng.uniform(-3, 3, p)
    if kind == "condition" and p > 1:
        basis, _ = np.linalg.qr(rng.normal(size=(p, p)))
        x = x @ (basis * 10 ** np.linspace(-6, 0, p)) @ basis.T
    if kind == "rare":
        level = np.minimum(rng.zipf(1.6, size=n), 15)
        levels = (level[:, None] == np.arange(2, 16)).astype(float)
        flags = (rng.random((n, 5)) < 10 ** rng.uniform(-3.5, -2, 5)).astype(float)
        x = np.hstack([x, levels, flags])
    return x + rng.uniform(-1, 1, x.shape[1]) * x.std(axis=0)


def problem(kind: str, seed: int, n: int, widths: list[int]) -> tuple[np.ndarray, np.ndarray, str, dask_gd.L2 | None]:
    """Return features, targets, the name of the loss, and the penalty of a problem."""
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    loss = LOSSES[seed % len(LOSSES)]
    x = features_of(kind, n, rng, widths)
    w = rng.normal(size=x.shape[1]) / np.maximum(x.std(axis=0), 1e-12)
    z = (x - x.mean(axis=0)) @ w
    size = rng.choice([0.2, 0.5, 0.8])
    if loss == "logistic":
        size = rng.choice([0.3, 1.0, 2.0])
    z = z / z.std() * size + rng.uniform(-2, 1)
    if kind == "heavy":
        z = np.clip(z, -5, 5)
    if loss == "logistic":
        y = (rng.random(n) < 1 / (1 + np.exp(-z))).astype(float)
    elif loss == "poisson":
        y = rng.poisson(np.exp(z)).astype(float)
    else:
        y = rng.gamma(2.0, np.exp(z) / 2) + 1e-9
    if loss == "tweedie":
        y *= rng.random(n) < 0.8
    # The order of the rows.
    keys = {"sorted": x[:, 0], "sorted_y": y + 0.5 * y.std() * rng.normal(size=n)}
    if kind in keys:
        order = np.argsort(keys[kind])
        x = x[order]
        y = y[order]
    if kind == "drift":
        x[:, 0] += 3 * np.linspace(0, 1, n) * x[:, 0].std()
    penalty = [None, dask_gd.L2(1e-4), dask_gd.L2(1e-3)][int(rng.integers(3))]
    return x, y, loss, penalty


def gradient_over_scale(x, y, loss, penalty, parameters: np.ndarray) -> float:
    """Return the gradient's largest component over its scale, of all rows, as `fit` measures it."""
    q = x.shape[1] + 1
    of_loss = as_loss(loss)
    start = np.zeros((q, 1, 1))
    if loss != "logistic":
        start[-1] = np.log(y.mean())
    first = sums_of_rows(x, y[:, None], None, start, of_loss, Request(moments=True))
    query = parameters.reshape(q, 1, 1)
    sums = sums_of_rows(x, y[:, None], None, query, of_loss, Request())
    at = objective(sums, query, penalty or dask_gd.L2(0.0), of_loss, x.shape[1])
    return gradient_cosine(at.gradient[:, :, 0], first.moments, first.weight, x.shape[1])


class Fits(NamedTuple):
    """The fits of one contestant to one tolerance."""

    seconds: list[float]
    passes: str
    parameters: np.ndarray


class Timed:
    """The rows that are timed, and the least objective of a loss on them."""

    def __init__(self, directory: Path, rows: int, loss: str):
        self.directory = directory
        self.loss = loss
        self.y = TARGETS[loss]
        self.path = self._made(rows)
        self.tiny = self._made(2_000, 500)
        group = zarr.open_group(self.path, mode="r")
        self.arrays = (group["x"], group[self.y])
        self.least = optimum(*self.arrays, loss)

    def _made(self, rows: int, chunk_rows: int = 50_000) -> Path:
        path = make_problem(self.directory, rows, 100, chunk_rows)
        make_amounts(path)
        return path

    def above(self, parameters: np.ndarray) -> str:
        """Return how far the objective is above the least."""
        value = objective_of(*self.arrays, self.loss, parameters.reshape(-1))
        return f"{(value - self.least) / self.least:.1e}"

    def fits(self, tol: float, repeat: int) -> dict[str, Fits]:
        """Return fits with correction and without, in turns on one cluster."""
        seconds: dict[str, list[float]] = {"without": [], "with": []}
        runs = {}
        with cluster(2, "1GB"):
            source = dask_gd.open(self.path, x="x", y=self.y)
            dask_gd.fit(source, loss=self.loss, max_iter=1)
            for _ in range(repeat):
                for name, each in seconds.items():
                    Newton.corrects = name == "with"
                    began = time.perf_counter()
                    runs[name] = dask_gd.fit(source, loss=self.loss, solver="newton", tol=tol)
                    each.append(time.perf_counter() - began)
        found = {}
        for name, run in runs.items():
            passes = f"{float(run.history.passes.sum()):.2f}"
            found[name] = Fits(seconds[name], passes, run.parameters)
        return found

    def by_glum(self, tol: float, python: str, repeat: int) -> Fits:
        """Return the fits of glum, in memory."""
        given = self.directory / "problem.json"
        output = self.directory / "result.npz"
        problem = {"store": str(self.path), "x": "x", "y": self.y, "loss": self.loss, "tiny": str(self.tiny)}
        given.write_text(json.dumps({**problem, "parquet": "", "options": {"tol": tol}}))
        seconds = []
        for _ in range(repeat):
            peers = Path(__file__).with_name("peers.py")
            subprocess.run([python, str(peers), "glum", str(given), str(output)], check=True)
            with np.load(output) as found:
                result = json.loads(str(found["result"]))
                parameters = found["parameters"]
            seconds.append(result["load"] + result["fit"])
        return Fits(seconds, f"{result['steps']} steps", parameters)


def print_timed(options: argparse.Namespace) -> None:
    """Print passes, seconds and relative suboptimality of fits."""
    rows = Timed(options.timed, options.rows, options.loss)
    print("| rows | fit | tol | passes | median s | all s | above the optimum |")
    print("|---|---|---|---|---|---|---|", flush=True)

    def show(name: str, tol: float, fits: Fits) -> None:
        each = " ".join(f"{s:.2f}" for s in fits.seconds)
        above = rows.above(fits.parameters)
        median = np.median(fits.seconds)
        print(f"| {options.rows:,} | {name} | {tol:g} | {fits.passes} | {median:.2f} | {each} | {above} |", flush=True)

    for tol in options.tolerances:
        for name, fits in rows.fits(tol, options.repeat).items():
            show(name, tol, fits)
    for tol in options.glum:
        show("glum", tol, rows.by_glum(tol, options.python, options.repeat))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=200)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--widths", nargs="+", type=int, default=[1, 2, 3, 5, 10, 20, 40, 60])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--tolerances", nargs="+", type=float, default=[1e-3, 1e-4, 1e-6, 1e-8])
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--timed", type=Path, help="a directory for rows to be timed")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--loss", choices=("logistic", "poisson", "gamma"), default="logistic")
    parser.add_argument("--glum", nargs="*", type=float, default=[], help="its tolerances")
    parser.add_argument("--python", default=sys.executable, help="an interpreter that has glum")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.timed is not None:
        print_timed(options)
        return
    print("| kind | tol | fits | passes | without | fewer | more | most more | unseen | gradient / tol |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for kind in options.kinds:
        count = -(-options.problems // len(KINDS))
        for tol in options.tolerances:
            passes = []
            largest = 0.0
            unseen = 0
            for seed in range(count):
                x, y, loss, penalty = problem(kind, seed, options.rows, options.widths)
                rows = da.from_array(x, chunks=(-(-options.rows // PARTITIONS), -1))
                taken = []
                for corrects in (True, False):
                    Newton.corrects = corrects
                    run = dask_gd.fit(rows, y, loss=loss, penalty=penalty, solver="newton", tol=tol)
                    taken.append(float(run.history.passes.sum()))
                    if corrects and run.converged:
                        found = gradient_over_scale(x, y, loss, penalty, run.parameters)
                        unseen += int(run.history.passes[-1] == 0)
                        largest = max(largest, found / tol)
                    if options.verbose:
                        print(
                            kind,
                            seed,
                            loss,
                            x.shape[1],
                            tol,
                            corrects,
                            run.reason,
                            taken[-1],
                            run.history.grad_norm.values,
                        )
                passes.append(taken)
            mine, before = np.array(passes).T
            more = mine - before
            print(
                f"| {kind} | {tol:g} | {count} | {mine.mean():.2f} | {before.mean():.2f} | {(more < -0.01).sum()} | "
                f"{(more > 0.01).sum()} | {max(0.0, more.max()):.2f} | {unseen} | {largest:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
