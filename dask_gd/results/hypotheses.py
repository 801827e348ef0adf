"""Tests of coefficients and of combinations of them, by their covariance."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from dask.system import CPU_COUNT

from ..errors import InvalidArgumentError

#: Values of a distribution from which on they are worth a thread for each core: they take 2 ms or more.
MANY = 10_000

#: Least eigenvalue of a covariance of combinations, scaled to a unit diagonal: below, they depend on each other.
DEPENDENT = 1e-11


def table_columns(
    coefficient: np.ndarray,
    error: np.ndarray,
    t_df: float | None,
    level: float,
) -> dict[str, np.ndarray]:
    """Return the columns of a table for coefficients and their errors: tests of 0, and intervals.

    ``t_df`` are the degrees of freedom of Student's t, None for the normal distribution.
    """
    # Not imported at the top: that takes half a second, and a fit has no need of it.
    from scipy.special import ndtr, ndtri, stdtr, stdtrit

    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = coefficient / error
    tail = (1.0 - level) / 2.0
    if t_df is not None:
        p_value = 2.0 * in_threads(partial(stdtr, t_df), -np.abs(statistic))
        width = -stdtrit(t_df, tail)
    else:
        p_value = 2.0 * in_threads(ndtr, -np.abs(statistic))
        width = -ndtri(tail)
    return {
        "coefficient": coefficient,
        "standard_error": error,
        "statistic": statistic,
        "p_value": p_value,
        "lower": coefficient - width * error,
        "upper": coefficient + width * error,
    }


def in_threads(function: Callable[[np.ndarray], np.ndarray], values: np.ndarray) -> np.ndarray:
    """Return a function of each of the values, computed on all cores where there are many."""
    if values.size < MANY:
        return function(values)
    parts = np.array_split(values.ravel(), CPU_COUNT)
    with ThreadPoolExecutor(CPU_COUNT) as pool:
        found = list(pool.map(function, parts))
    return np.concatenate(found).reshape(values.shape)


def wald_test(inference: Any, hypothesis: Any, value: Any) -> xr.Dataset:
    """Return the test that combinations of coefficients have given values, see `Inference.wald_test`."""
    from scipy.special import chdtrc, fdtrc

    if isinstance(hypothesis, str):
        hypothesis = [hypothesis]
    matrix = np.atleast_2d(_matrix(inference, hypothesis, "wald_test"))
    r = len(matrix)
    value = np.asarray(value, float)
    if value.shape not in ((), (1,), (r,)):
        raise InvalidArgumentError(f"wald_test(value=...) has the shape {value.shape}; give a number, or {r} of them.")
    estimate, covariance = _combined(inference, matrix)
    t_df = inference.t_degrees_of_freedom
    statistics = []
    for output in range(estimate.shape[1]):
        difference = estimate[:, output] - value
        statistics.append(difference @ _solved(covariance[:, :, output], difference))
    statistic = np.array(statistics)
    if t_df is None:
        p_value = chdtrc(r, statistic)
        df_residual = np.inf
    else:
        statistic = statistic / r
        p_value = fdtrc(r, t_df, statistic)
        df_residual = t_df
    return _dataset(inference, {"statistic": statistic, "p_value": p_value}, []).assign(df=r, df_residual=df_residual)


def contrast(inference: Any, combination: Any) -> xr.Dataset:
    """Return estimates of combinations of coefficients with their errors, see `Inference.contrast`."""
    matrix = _matrix(inference, combination, "contrast")
    estimate, covariance = _combined(inference, np.atleast_2d(matrix))
    variance = np.einsum("rrk->rk", covariance)
    if (variance < 0).any():
        raise InvalidArgumentError(
            "contrast: the covariance by several groupings gives this combination a negative variance; it has no error."
        )
    columns = table_columns(estimate, np.sqrt(variance), inference.t_degrees_of_freedom, inference.level)
    if matrix.ndim == 1:
        return _dataset(inference, {name: values[0] for name, values in columns.items()}, [])
    return _dataset(inference, columns, ["contrast"])


def _matrix(inference: Any, combination: Any, what: str) -> np.ndarray:
    """Return combinations as factors of all parameters, (q,) or (r, q)."""
    names = inference.table.parameter.values.tolist()
    if isinstance(combination, Mapping):
        row = np.zeros(len(names))
        for name, factor in combination.items():
            row[_position(names, name, what)] = factor
        return row
    if isinstance(combination, list | tuple) and all(isinstance(name, str) for name in combination) and combination:
        rows = np.zeros((len(combination), len(names)))
        for i, name in enumerate(combination):
            rows[i, _position(names, name, what)] = 1.0
        return rows
    matrix = np.asarray(combination, float)
    if matrix.ndim not in (1, 2) or matrix.shape[-1] != len(names) or not np.isfinite(matrix).all():
        raise InvalidArgumentError(
            f"{what}: factors of the shape {matrix.shape}; give finite ones for each of the {len(names)} parameters "
            f"{', '.join(names[:10])}, a row for each combination, or names."
        )
    return matrix


def _position(names: list[str], name: Any, what: str) -> int:
    """Return the place of a parameter by its name."""
    if name not in names:
        raise InvalidArgumentError(f"{what}: there is no parameter {name!r}; there are {', '.join(names[:20])}.")
    return names.index(name)


def _combined(inference: Any, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return combinations (r, q) of coefficients, (r, k), and their covariances, (r, r, k)."""
    q = matrix.shape[1]
    coefficient = inference.table.coefficient.values.reshape(q, -1)
    covariance = inference.covariance.values.reshape(q, q, -1)
    # Parameters that have no part in it may have NaN, such as those that the rows do not determine.
    used = (matrix != 0).any(axis=0)
    matrix = matrix[:, used]
    covariance = covariance[np.ix_(used, used)]
    return matrix @ coefficient[used], np.einsum("aq,qrk,br->abk", matrix, covariance, matrix)


def _solved(covariance: np.ndarray, difference: np.ndarray) -> np.ndarray:
    """Return the inverse of a covariance times a difference."""
    size = np.sqrt(np.maximum(np.diagonal(covariance), 0.0))
    if not (np.isfinite(covariance).all() and (size > 0).all()):
        raise InvalidArgumentError("wald_test: a combination has no error, or one of 0, that it can be tested by.")
    scaled = covariance / np.outer(size, size)
    least = np.linalg.eigvalsh(scaled)[0]
    if least < DEPENDENT:
        raise InvalidArgumentError(
            "wald_test: the covariance of these combinations is not positive definite: they depend on each other, or "
            "there are more of them than groups that errors are clustered by, or a covariance by several groupings is "
            "indefinite. Test fewer of them."
        )
    return np.linalg.solve(scaled, difference / size) / size


def _dataset(inference: Any, columns: dict[str, np.ndarray], dims: list[str]) -> xr.Dataset:
    """Return values by name as a Dataset, over the outputs where there is such a dimension."""
    coords = {}
    output = []
    if "output" in inference.table.dims:
        output = ["output"]
        coords["output"] = inference.table.output.values
    variables = {}
    for name, values in columns.items():
        if not output:
            values = values[..., 0]
        variables[name] = ((*dims, *output), values)
    return xr.Dataset(variables, coords=coords)
