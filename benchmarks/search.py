"""What does a search cost, beside one fit, one pass and scikit-learn's?

    python benchmarks/search.py --directory scratch --repeat 3

1,000,000 x 100 float64 from Zarr in 20 chunks of 40 MB, with 2 workers; scikit-learn has the same rows in memory, its
loading not counted, and the same folds. Taken in turns, in medians.

logistic  5 folds x 10 values of C from 1e-4 to 1e4: at most 2.5 times one fit's time, and at least 3 times as fast as
          LogisticRegressionCV
ridge     5 folds x 100 alphas: at most 1.5 times a pass that collects the sufficient statistics of all rows
lasso     5 folds x 100 alphas, LassoCV; no target

With --alone scikit-learn is left out: PYTHONPATH=BUILD then tells builds apart, in turns.

The scores must agree to 1e-6 with scikit-learn's; its tolerance is the loosest of a few with which they do.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import zarr
from common import arguments, cluster, finish, make_problem, scratch
from sklearn.linear_model import LassoCV, LogisticRegressionCV, Ridge
from sklearn.model_selection import PredefinedSplit

import dask_gd
from dask_gd import passes
from dask_gd.kernels.base import EXACT, Request

FOLDS, CS, ALPHAS = 5, np.geomspace(1e-4, 1e4, 10), np.geomspace(1e-2, 1e6, 100)
OF_FIT, OF_PEER, OF_PASS, AGREE = 2.5, 3.0, 1.5, 1e-6
HEADER = ("case", "what", "passes", "median s", "ratio", "all s", "note")


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = function()
    return time.perf_counter() - began, result


def in_turns(repeat: int, **functions: Callable[[], Any]) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """The seconds of each, and its last result."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    results: dict[str, Any] = {}
    for _ in range(repeat):
        for name, function in functions.items():
            taken, results[name] = timed(function)
            seconds[name].append(taken)
    return seconds, results


def row(case: str, what: str, took: int | str, seconds: list[float], base: float, note: str = "") -> tuple:
    return case, what, took, median(seconds), median(seconds) / base, " ".join(f"{s:.2f}" for s in seconds), note


def logistic(path: Path, repeat: int, alone: bool) -> tuple[list[tuple], dict[str, bool]]:
    source = dask_gd.open(path, x="x", y="y")
    n, middle = source.shape[0], dask_gd.L2(1 / (CS[5] * source.shape[0]))
    seconds, results = in_turns(
        repeat,
        fit=lambda: dask_gd.fit(source, loss="logistic", penalty=middle),
        search=lambda: dask_gd.search(source, loss="logistic", Cs=CS, folds=FOLDS),
    )
    fit, found = (median(seconds[name]) for name in ("fit", "search"))
    rows = [
        row("logistic", "one fit", round(float(results["fit"].history.passes.sum()), 1), seconds["fit"], fit),
        row(
            "logistic",
            "search",
            round(results["search"].passes),
            seconds["search"],
            fit,
            "and its samples",
        ),
    ]
    verdicts = {f"logistic: {found / fit:.2f} times one fit, at most {OF_FIT}": found <= OF_FIT * fit}
    if alone:
        return rows, verdicts
    group = zarr.open_group(path, mode="r")
    x, y = group["x"][:], group["y"][:]
    cv = PredefinedSplit(dask_gd.Folds(FOLDS).of_rows(np.arange(n), n))
    ours = results["search"].scores.values
    taken = apart = np.inf
    for tol in (1e-4, 1e-5, 1e-6, 1e-7):
        model = LogisticRegressionCV(
            Cs=CS, cv=cv, l1_ratios=(0.0,), scoring="neg_log_loss", tol=tol, max_iter=1000, use_legacy_attributes=False
        )
        taken, _ = timed(lambda model=model: model.fit(x, y))
        apart = float(np.abs(model.scores_[:, 0].T - ours).max())
        rows.append(row("logistic", f"scikit-learn, tol={tol:g}", "", [taken], fit, f"scores differ by {apart:.1e}"))
        if apart <= AGREE:
            break
    verdicts |= {
        f"logistic: scikit-learn takes {taken / found:.1f} times as long, at least {OF_PEER}": taken >= OF_PEER * found,
        f"logistic: scores agree to {apart:.1e}, at least {AGREE}": apart <= AGREE,
    }
    return rows, verdicts


def ridge(path: Path, repeat: int, alone: bool) -> tuple[list[tuple], dict[str, bool]]:
    source = dask_gd.open(path, x="x", y="z")
    n, p = source.shape
    zeros, request = np.zeros((p + 1, 1, 1)), Request(curvature=EXACT, moments=True)
    numbers = iter(range(repeat))
    seconds, results = in_turns(
        repeat,
        one=lambda: passes.evaluate(source, zeros, dask_gd.Squared(), request, "bench", next(numbers)),
        search=lambda: dask_gd.search(source, Cs=1 / ALPHAS, folds=FOLDS, scoring="r2"),
    )
    one, found = median(seconds["one"]), median(seconds["search"])
    rows = [
        row("ridge", "one pass", 1, seconds["one"], one),
        row("ridge", "search", round(results["search"].passes), seconds["search"], one),
    ]
    verdicts = {f"ridge: {found / one:.2f} times one pass, at most {OF_PASS}": found <= OF_PASS * one}
    if alone:
        return rows, verdicts
    group = zarr.open_group(path, mode="r")
    x, z, fold = group["x"][:], group["z"][:], dask_gd.Folds(FOLDS).of_rows(np.arange(n), n)
    apart = 0.0
    for i in (0, 50, 99):
        theirs = Ridge(alpha=ALPHAS[i]).fit(x[fold != 1], z[fold != 1]).score(x[fold == 1], z[fold == 1])
        apart = max(apart, abs(theirs - float(results["search"].scores[i, 1])))
    verdicts[f"ridge: scores agree to {apart:.1e}, at least {AGREE}"] = apart <= AGREE
    return rows, verdicts


def lasso(path: Path, repeat: int, alone: bool) -> tuple[list[tuple], dict[str, bool]]:
    source = dask_gd.open(path, x="x", y="z")
    n = source.shape[0]
    options = {"alphas": 100, "l1_ratios": [1.0], "folds": FOLDS, "scoring": "neg_mean_squared_error"}
    seconds, results = in_turns(repeat, search=lambda: dask_gd.search(source, **options))
    found = median(seconds["search"])
    rows = [row("lasso", "search", round(results["search"].passes), seconds["search"], found)]
    if alone:
        return rows, {}
    group = zarr.open_group(path, mode="r")
    x, z = group["x"][:], group["z"][:]
    cv = PredefinedSplit(dask_gd.Folds(FOLDS).of_rows(np.arange(n), n))
    taken, model = timed(lambda: LassoCV(alphas=100, cv=cv, tol=1e-7).fit(x, z))
    apart = float(np.abs(model.mse_path_ + results["search"].scores.values).max())
    rows.append(row("lasso", "scikit-learn, tol=1e-7", "", [taken], found, f"errors differ by {apart:.1e}"))
    return rows, {f"lasso: errors agree to {apart:.1e}, at least {AGREE}": apart <= AGREE}


CASES = {"logistic": logistic, "ridge": ridge, "lasso": lasso}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=CASES)
    parser.add_argument("--alone", action="store_true", help="without scikit-learn, as when two builds are compared")
    args = parser.parse_args()
    rows: list[tuple] = []
    verdicts: dict[str, bool] = {}
    with scratch(args.directory) as directory, cluster(2, "2GB"):
        path = make_problem(directory, args.rows, 100, 50_000)
        dask_gd.fit(dask_gd.open(path, x="x", y="y"), loss="logistic")  # the files are in the page cache, and code read
        for case in args.cases:
            found, met = CASES[case](path, args.repeat, args.alone)
            rows, verdicts = rows + found, verdicts | met
    finish("Searches", HEADER, rows, verdicts, args.output)


if __name__ == "__main__":
    main()
