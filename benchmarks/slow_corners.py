"""Is anything slow here that is quick elsewhere? Small inputs on which fits once took many times a peer's time.

    python benchmarks/slow_corners.py [--cases logistic poisson ...] [--repeat 5]

Everything is in memory; fit and peer in turns, in medians, each after one that is not timed. Who is not installed is
left out. Where a pair has a target, the fit may take at most so many times as long as the peer, to an objective that is
no worse. How far each comes is in the table: the objective less the least of all, as a share of it. The peer of the
ratio is the first that comes within 1e-8, or else the last.

targets    y of 120 x 100,000: np.linalg.lstsq                              1.5 times, and infer no longer than the fit
logistic   375 x 20, of which some are collinear, C=1e6, L1: liblinear      3 times
poisson    200 x 400, L1: glum                                              3 times
search     5 values of C, 2 folds, 200 x 20, L1: LogisticRegressionCV       3 times
lasso      200 x 400: scikit-learn's Lasso                                  3 times
quantile   100 x 20: scikit-learn's QuantileRegressor (HiGHS)               no target
multiindex 1,904,400 stacked rows: the same arrays without labels           1.2 times
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from common import arguments, finish
from sklearn.datasets import make_classification
from sklearn.linear_model import Lasso, LogisticRegression, LogisticRegressionCV, QuantileRegressor

import dask_gd
from dask_gd import estimators

HEADER = ("case", "what", "median s", "times the peer", "above the least", "all s")
#: A share of the objective by which a fit may be worse than its peer.
NO_WORSE = 1e-8


class Fit(NamedTuple):
    """What is timed, and the objective that it reaches."""

    run: Callable[[], Any]
    reached: Callable[[Any], float] | None = None


class Case(NamedTuple):
    """Fits, the first of which has the second for a peer; the target is for their ratio, None for none."""

    fits: dict[str, Fit]
    target: float | None


def many_targets() -> dict[str, Case]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 3))
    y = x @ rng.normal(size=(3, 100_000)) + rng.normal(size=(120, 100_000))
    with_ones = np.column_stack([x, np.ones(120)])
    run = dask_gd.fit(x, y, loss="squared")
    fits = {
        "dask_gd": Fit(lambda: dask_gd.fit(x, y, loss="squared")),
        "np.linalg.lstsq": Fit(lambda: np.linalg.lstsq(with_ones, y, rcond=None)),
    }
    inference = {
        "infer": Fit(lambda: dask_gd.infer(run, x, y)),
        "the fit": fits["dask_gd"],
    }
    return {"targets": Case(fits, 1.5), "targets, infer": Case(inference, 1.0)}


def logistic_objective(x: np.ndarray, y: np.ndarray, alpha: float) -> Callable[[Any], float]:
    """Return the function of a model that gives its mean loss and L1 penalty."""

    def reached(model: Any) -> float:
        z = x @ model.coef_[0] + model.intercept_[0]
        return float((np.logaddexp(0.0, z) - y * z).mean() + alpha * np.abs(model.coef_).sum())

    return reached


def logistic() -> dict[str, Case]:
    x, y = make_classification(500, random_state=0)
    x = x[:375]
    y = y[:375]
    reached = logistic_objective(x, y, 1 / (1e6 * len(y)))
    ours = estimators.LogisticRegression(C=1e6, l1_ratio=1.0)
    # An intercept is penalised by liblinear, unless it is scaled far up.
    peer = LogisticRegression(
        C=1e6, l1_ratio=1.0, solver="liblinear", intercept_scaling=1e4, tol=1e-8, max_iter=10_000, random_state=0
    )
    fits = {
        "dask_gd": Fit(lambda: ours.fit(x, y), reached),
        "liblinear, tol=1e-8": Fit(lambda: peer.fit(x, y), reached),
    }
    return {"logistic": Case(fits, 3.0)}


def search() -> dict[str, Case]:
    x, y = make_classification(200, 20, random_state=0)
    options = {"Cs": 5, "l1_ratios": [1.0], "cv": 2}
    ours = estimators.LogisticRegressionCV(**options)
    peer = LogisticRegressionCV(
        **options, solver="liblinear", tol=1e-6, max_iter=10_000, use_legacy_attributes=False, random_state=0
    )
    fits = {
        "dask_gd": Fit(lambda: ours.fit(x, y)),
        "liblinear, tol=1e-6": Fit(lambda: peer.fit(x, y)),
    }
    return {"search": Case(fits, 3.0)}


def poisson() -> dict[str, Case]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 400))
    y = rng.poisson(np.exp(0.3 * x[:, 0])).astype(float)

    def objective(weights: np.ndarray, intercept: float) -> float:
        z = x @ weights + intercept
        return float((np.exp(z) - y * z).mean() + 0.01 * np.abs(weights).sum())

    fits = {
        "dask_gd": Fit(
            lambda: dask_gd.fit(x, y, loss="poisson", penalty=dask_gd.L1(0.01)),
            lambda run: objective(run.weights.values, float(run.intercept)),
        ),
    }
    try:
        from glum import GeneralizedLinearRegressor
    except ImportError:
        print("glum is not installed: left out")
    else:
        for tol in (1e-4, 1e-7):
            peer = GeneralizedLinearRegressor(
                family="poisson", alpha=0.01, l1_ratio=1.0, gradient_tol=tol, max_iter=1000, scale_predictors=False
            )
            fits[f"glum, gradient_tol={tol:g}"] = Fit(
                lambda peer=peer: peer.fit(x, y),
                lambda model: objective(model.coef_, float(model.intercept_)),
            )
    return {"poisson": Case(fits, 3.0)}


def lasso() -> dict[str, Case]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 400)) + rng.normal(size=(200, 1))
    y = x[:, :20] @ rng.normal(size=20) + rng.normal(size=200)

    def objective(weights: np.ndarray, intercept: float) -> float:
        residual = y - x @ weights - intercept
        return float(0.5 * (residual @ residual) / len(y) + 0.01 * np.abs(weights).sum())

    peer = Lasso(alpha=0.01, tol=1e-8, max_iter=1_000_000)
    fits = {
        "dask_gd": Fit(
            lambda: dask_gd.fit(x, y, loss="squared", penalty=dask_gd.L1(0.01)),
            lambda run: objective(run.weights.values, float(run.intercept)),
        ),
        "scikit-learn's Lasso, tol=1e-8": Fit(
            lambda: peer.fit(x, y),
            lambda model: objective(model.coef_, model.intercept_),
        ),
    }
    return {"lasso": Case(fits, 3.0)}


def quantile() -> dict[str, Case]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, 20))
    y = x @ rng.normal(size=20) + rng.normal(size=100)

    def reached(model: Any) -> float:
        residual = y - model.predict(x)
        return float(0.5 * np.abs(residual).mean() + 1e-4 * np.abs(model.coef_).sum())

    ours = estimators.QuantileRegressor(alpha=1e-4)
    peer = QuantileRegressor(alpha=1e-4)
    fits = {
        "dask_gd": Fit(lambda: ours.fit(x, y), reached),
        "HiGHS": Fit(lambda: peer.fit(x, y), reached),
    }
    return {"quantile": Case(fits, None)}


def multiindex() -> dict[str, Case]:
    rng = np.random.default_rng(0)
    shape = (100, 138, 138)
    dims = ("time", "lat", "lon")
    dataset = xr.Dataset(
        {name: (dims, rng.normal(size=shape)) for name in ("a", "b", "c")},
        coords={name: np.arange(float(n)) for name, n in zip(dims, shape, strict=True)},
    )
    dataset["y"] = 2 * dataset.a + dataset.b
    stacked = dataset.stack(sample=dims)
    x = stacked[["a", "b", "c"]].to_array("feature").transpose("sample", "feature")
    y = stacked.y
    fits = {
        "labelled": Fit(lambda: dask_gd.fit(x, y, loss="squared")),
        "arrays": Fit(lambda: dask_gd.fit(x.values, y.values, loss="squared")),
    }
    return {"multiindex": Case(fits, 1.2)}


CASES = {
    "targets": many_targets,
    "logistic": logistic,
    "poisson": poisson,
    "search": search,
    "lasso": lasso,
    "quantile": quantile,
    "multiindex": multiindex,
}


def measure(name: str, case: Case, repeat: int) -> tuple[list[tuple], dict[str, bool]]:
    """Return the rows of a case, and whether its target is met."""
    seconds: dict[str, list[float]] = {what: [] for what in case.fits}
    objectives = {}
    for turn in range(repeat + 1):
        for what, fit in case.fits.items():
            began = time.perf_counter()
            result = fit.run()
            taken = time.perf_counter() - began
            if turn > 0:
                seconds[what].append(taken)
            if fit.reached is not None:
                objectives[what] = fit.reached(result)

    # The peer is the first that comes as far, or else the last.
    ours, *peers = case.fits
    least = min(objectives.values(), default=np.nan)
    far_enough = [peer for peer in peers if peer not in objectives or objectives[peer] <= least * (1 + NO_WORSE)]
    peer = (far_enough or peers[-1:] or [ours])[0]
    base = median(seconds[peer])
    rows = []
    for what, taken in seconds.items():
        above = ""
        if what in objectives:
            above = f"{objectives[what] / least - 1:.1e}"
        rows.append((name, what, median(taken), median(taken) / base, above, " ".join(f"{s:.3f}" for s in taken)))

    verdicts = {}
    if case.target is not None and peers:
        ratio = median(seconds[ours]) / base
        verdicts[f"{name}: {ratio:.2f} times {peer}, at most {case.target}"] = ratio <= case.target
        if ours in objectives:
            no_worse = objectives[ours] <= least * (1 + NO_WORSE)
            verdicts[f"{name}: an objective no worse than the peers', to {NO_WORSE:g}"] = bool(no_worse)
    return rows, verdicts


if __name__ == "__main__":
    parser = arguments(__doc__)
    parser.add_argument("--cases", nargs="*", choices=list(CASES), default=list(CASES))
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    rows: list[tuple] = []
    verdicts: dict[str, bool] = {}
    for chosen in options.cases:
        for name, case in CASES[chosen]().items():
            found, verdict = measure(name, case, options.repeat)
            rows += found
            verdicts |= verdict
    finish("Small inputs, and peers", HEADER, rows, verdicts, options.output)
