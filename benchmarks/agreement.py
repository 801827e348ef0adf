"""Do the coefficients agree with scikit-learn's on the same objective?

    python benchmarks/agreement.py

Logistic regression (C = 1 / (n alpha)) and ridge (alpha_sk = n alpha) with an intercept, on synthetic data of 1 to a
million rows and on data/flights.zarr, in chunks that divide the rows evenly and in chunks that do not, from Zarr and
from Dask, with the solvers "auto" and "lbfgs". scikit-learn gets float64 copies of what is float32 in the store;
"float64" in the table is the same data cast before the fit, "float32" is as stored, and its products are too.

Target: max |difference| of coefficients and intercept <= 1e-6 max(1, max |coefficient|), in every case.
"""

from __future__ import annotations

import time
import warnings
from pathlib import Path

import dask.array as da
import numpy as np
import zarr
from common import arguments, finish, make_problem, scratch
from sklearn.linear_model import LogisticRegression, Ridge

import dask_gd

FLIGHTS = Path(__file__).parents[1] / "data" / "flights.zarr"
TARGET, TOL, ALPHA = 1e-6, 1e-13, 1e-3
HEADER = ("data", "rows", "chunks", "read as", "dtype", "loss", "solver", "iterations", "reason", "difference", "s")


def reference(x: np.ndarray, y: np.ndarray, loss: str) -> np.ndarray:
    """scikit-learn's coefficients, with the intercept last."""
    if loss == "squared":
        model = Ridge(alpha=len(x) * ALPHA, solver="cholesky").fit(x, y)
    else:
        model = LogisticRegression(C=1 / (len(x) * ALPHA), solver="newton-cholesky", tol=1e-12, max_iter=1000).fit(x, y)
    return np.append(np.ravel(model.coef_), model.intercept_)


def compare(case: tuple, x, y, loss: str, expected: np.ndarray) -> list[tuple]:
    """One row of the table for each solver."""
    rows = []
    for solver in ("auto", "lbfgs"):
        began = time.perf_counter()
        run = dask_gd.fit(x, y, loss=loss, penalty=dask_gd.L2(ALPHA), solver=solver, tol=TOL, max_iter=2000)
        found = np.append(run.weights.values, run.intercept.values)
        difference = np.abs(found - expected).max() / max(1.0, np.abs(expected).max())
        seconds = round(time.perf_counter() - began, 1)
        rows.append((*case, loss, solver, run.n_iter, run.reason, float(difference), seconds))
    return rows


def cases(x: zarr.Array, y: zarr.Array, name: str, loss: str, expected: np.ndarray) -> list[tuple]:
    """The same data as Zarr as it is chunked, and as Dask in those chunks and in others."""
    n, chunk = x.shape[0], min(x.chunks[0], x.shape[0])
    dx, dy = da.from_zarr(x), da.from_zarr(y)
    rows = compare((name, n, chunk, "zarr", str(x.dtype)), x, y, loss, expected)
    if x.dtype != np.float64:
        rows += compare((name, n, chunk, "dask", "float64"), dx.astype(float), dy, loss, expected)
        return rows
    rows += compare((name, n, chunk, "dask", "float64"), dx, dy, loss, expected)
    if n > 2:
        sizes = (1, n // 3, n - 1 - n // 3)
        rows += compare((name, n, "1, n/3, rest", "dask", "float64"), dx.rechunk((sizes, -1)), dy, loss, expected)
    return rows


def main() -> None:
    args = arguments(__doc__).parse_args()
    warnings.simplefilter("ignore")  # the reference warns when it can go no further
    rows = []
    with scratch(args.directory) as directory:
        for n in (1, 2, 10, 1000, 100_000, 1_000_000):
            for chunk in sorted({-(-n // 10), -(-3 * n // 10) + (n > 10)}):
                group = zarr.open_group(make_problem(directory, n, 12, chunk), mode="r")
                for loss, target in (("logistic", "y"), ("squared", "z")):
                    if loss == "logistic" and n == 1:
                        continue
                    expected = reference(group["x"][:], group[target][:], loss)
                    rows += cases(group["x"], group[target], "synthetic", loss, expected)
    if FLIGHTS.exists():
        group = zarr.open_group(FLIGHTS, mode="r")
        for loss, target in (("logistic", "late"), ("squared", "delay")):
            expected = reference(group["X"][:].astype(float), group[target][:], loss)
            rows += cases(group["X"], group[target], "flights", loss, expected)
    worst = {kind: max((row[9] for row in rows if row[4] == kind), default=0.0) for kind in ("float64", "float32")}
    verdicts = {f"{kind}: largest difference {d:.1e}, target {TARGET:.0e}": d <= TARGET for kind, d in worst.items()}
    finish("Difference from scikit-learn's coefficients", HEADER, rows, verdicts, args.output)


if __name__ == "__main__":
    main()
