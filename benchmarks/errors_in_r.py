"""Compare robust standard errors with those of R's package sandwich, as a ratio of variances.

    python benchmarks/errors_in_r.py

It needs ``Rscript`` with the packages sandwich and lmtest. Each line has R's variance of a coefficient over ours by
statsmodels' conventions and by fixest's: 1 where the conventions are the same. `docs/inference.md` has what follows.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import numpy as np

import dask_gd

ROWS = 600
GROUPS = (30, 12)
LAGS = 6
#: The losses, and R's models for them.
MODELS = {
    "squared": "lm(y_squared ~ a + b, d)",
    "logistic": "glm(y_logistic ~ a + b, binomial, d, epsilon = 1e-14)",
    "poisson": "glm(y_poisson ~ a + b, poisson, d, epsilon = 1e-14)",
    "gamma": "glm(y_gamma ~ a + b, Gamma(link = 'log'), d, epsilon = 1e-14)",
}
#: R's covariances, and our arguments for them.
COVARIANCES = {
    "nonrobust": ("vcov(m)", {}),
    "HC0": ("vcovHC(m, 'HC0')", {"cov_type": "HC0"}),
    "HC1": ("vcovHC(m, 'HC1')", {"cov_type": "HC1"}),
    "HC2": ("vcovHC(m, 'HC2')", {"cov_type": "HC2"}),
    "HC3": ("vcovHC(m, 'HC3')", {"cov_type": "HC3"}),
    "cluster": ("vcovCL(m, ~ g)", {"cov_type": "cluster", "groups": "g"}),
    "two-way": ("vcovCL(m, ~ g + h)", {"cov_type": "cluster", "groups": ("g", "h")}),
    "HAC": (f"NeweyWest(m, lag = {LAGS}, prewhite = FALSE)", {"cov_type": "HAC", "maxlags": LAGS}),
    "HAC by time": (
        f"vcovPL(m, cluster = ~ g + t, lag = {LAGS})",
        {"cov_type": "HAC", "maxlags": LAGS, "time": "t"},
    ),
}


def data() -> dict[str, np.ndarray]:
    """Return the columns of a small table."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, ROWS))
    g = np.arange(ROWS) % GROUPS[0]
    t = np.arange(ROWS) // GROUPS[0]
    of_group = rng.normal(size=GROUPS[0])[g]
    z = 0.3 * a - 0.2 * b + 0.3 * of_group
    return {
        "a": a,
        "b": b,
        "g": g,
        "h": rng.integers(0, GROUPS[1], ROWS),
        "t": t,
        "y_squared": z + rng.normal(size=ROWS) * (0.5 + np.abs(a)),
        "y_logistic": (z + rng.logistic(size=ROWS) > 0) * 1.0,
        "y_poisson": rng.poisson(np.exp(z)) * 1.0,
        "y_gamma": rng.gamma(2.0, np.exp(z) / 2) + 1e-9,
    }


def in_r(table: dict[str, np.ndarray]) -> dict[tuple[str, str], list[float]]:
    """Return R's variances of the coefficients of a and b, for each model and covariance."""
    lines = ["suppressMessages({library(sandwich); library(lmtest)})", "d <- read.csv(commandArgs(TRUE)[1])"]
    for loss, model in MODELS.items():
        lines.append(f"m <- {model}")
        for name, (code, _) in COVARIANCES.items():
            lines.append(f"v <- tryCatch(diag({code})[c('a', 'b')], error = function(e) c(NA, NA))")
            lines.append(f"cat('{loss},{name},', format(v[1], digits = 15), ',', format(v[2], digits = 15), '\\n')")
        lines.append(f"cat('{loss},test,', attr(coeftest(m), 'method'), ',', 'none', '\\n')")
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "table.csv"
        columns = np.stack(list(table.values()), axis=1)
        np.savetxt(path, columns, delimiter=",", header=",".join(table), comments="", fmt="%.17g")
        script = Path(directory) / "errors.R"
        script.write_text("\n".join(lines))
        answer = subprocess.run(["Rscript", script, path], capture_output=True, text=True, check=True).stdout
    found = {}
    for line in answer.splitlines():
        loss, name, first, second = (each.strip() for each in line.split(","))
        if name == "test":
            print(f"R's tests of {loss}: {first}")
            continue
        found[loss, name] = [float(each.replace("NA", "nan")) for each in (first, second)]
    return found


def ours(run, table: dict[str, np.ndarray], loss: str, options: dict, small_sample: str) -> np.ndarray:
    """Return our variances of the coefficients of a and b."""
    options = dict(options)
    for name in ("groups", "time"):
        if isinstance(options.get(name), tuple):
            options[name] = [table[each] for each in options[name]]
        elif name in options:
            options[name] = table[options[name]]
    x = np.stack([table["a"], table["b"]], axis=1)
    found = dask_gd.infer(run, x, table[f"y_{loss}"], small_sample=small_sample, **options)
    return found.table.standard_error.values[:2] ** 2


def main() -> None:
    """Print the ratios."""
    table = data()
    variances = in_r(table)
    n, q = ROWS, 3
    print(f"n / (n - q) = {n / (n - q):.6f}, (n - 1) / (n - q) = {(n - 1) / (n - q):.6f}")
    print("G / (G - 1) = " + ", ".join(f"{groups / (groups - 1):.6f}" for groups in GROUPS))
    print("| loss | covariance | over statsmodels' | over fixest's |")
    print("|---|---|---|---|")
    for loss in MODELS:
        x = np.stack([table["a"], table["b"]], axis=1)
        run = dask_gd.fit(x, table[f"y_{loss}"], loss=loss, tol=1e-12)
        for name, (_, options) in COVARIANCES.items():
            ratios = []
            for small_sample in ("statsmodels", "fixest"):
                ratio = np.array(variances[loss, name]) / ours(run, table, loss, options, small_sample)
                ratios.append(" ".join(f"{each:.6f}" for each in ratio))
            print(f"| {loss} | {name} | {ratios[0]} | {ratios[1]} |")


if __name__ == "__main__":
    main()
