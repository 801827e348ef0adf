"""Measure how well a fit predicts rows, in one pass: `measure`."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import xarray as xr

from . import passes
from .errors import InvalidArgumentError, InvalidTypeError
from .fitting.measure_sums import Measured, MeasureSums, Targets, has_deviance, summaries_of
from .fitting.score_errors import r2
from .fitting.score_order import ROUNDING_BITS, average_precision, average_precision_error, roc_auc, roc_auc_error
from .kernels.base import Request
from .model.losses import Loss, Model, classes_of, is_log_loss, target_kind_of
from .results.features import source_of_fit
from .results.fit_result import FitResult
from .results.inference import InDoubles
from .results.inference_data import as_in_fit, check_data
from .results.lazy_weights import is_lazy
from .sources import as_source
from .sources.targets import with_values
from .validate import is_whole

#: What the measures are, as they are printed.
TITLES = {
    "mean_loss": "mean loss",
    "r2": "R2",
    "rmse": "root mean squared error",
    "mae": "mean absolute error",
    "bias": "mean of prediction less target",
    "deviance": "deviance",
    "null_deviance": "deviance of the mean",
    "d2": "deviance explained",
    "log_loss": "log loss",
    "brier": "Brier score",
    "accuracy": "accuracy",
    "roc_auc": "area under the ROC curve",
    "average_precision": "average precision",
    "calibration_error": "mean distance of predicted from observed shares",
}


@dataclass(frozen=True, eq=False, repr=False)
class Measures:
    """Measures of a fit's predictions. ``measures["r2"]`` is one of them; printed, they are a table.

    Attributes
    ----------
    table : xarray.Dataset
        A variable for each measure that suits the loss, see `measure`; dims () or ("output",).
    calibration : xarray.Dataset or None
        Of probabilities of two classes, over "bin": ``lower`` and ``upper`` (the edges), ``mean_predicted``,
        ``observed`` (the share of class 1), ``weight`` and ``rows``; bins without rows have NaN.
    errors : dict
        Bounds of the errors of "roc_auc" and "average_precision", 0 where they are exact but for rounding.
    n : float
        The sum of the row weights.
    rows : int
    loss : Loss
    """

    table: xr.Dataset
    calibration: xr.Dataset | None
    errors: dict[str, float]
    n: float
    rows: int
    loss: Loss

    def __getitem__(self, name: str) -> Any:
        """Return a measure: a float, or a DataArray over outputs."""
        if name not in self.table:
            raise InvalidArgumentError(f"measures[{name!r}]: there are {', '.join(map(str, self.table.data_vars))}.")
        found = self.table[name]
        if found.ndim == 0:
            return found.item()
        return found

    def __iter__(self) -> Iterator[str]:
        """Yield the names of the measures."""
        return iter(map(str, self.table.data_vars))

    def __str__(self) -> str:
        lines = [f"{self.loss!r} loss, {self.rows:,} rows, sum of weights {self.n:,.12g}"]
        width = max(len(TITLES[name]) for name in self)
        for name in self:
            values = "  ".join(f"{value:.6g}" for value in np.ravel(self.table[name].values))
            bound = self.errors.get(name, 0.0)
            if bound > 0:
                values += f"  (within {bound:.1g})"
            lines.append(f"{TITLES[name]:{width}}  {values}")
        if self.calibration is not None and self.calibration.mean_predicted.ndim == 1:
            lines.append("")
            lines.append(f"{'probability':>13}  {'predicted':>9}  {'observed':>9}  {'weight':>12}")
            for i in range(self.calibration.sizes["bin"]):
                each = self.calibration.isel(bin=i)
                edges = f"{each.lower.item():.3g} to {each.upper.item():.3g}"
                means = f"{each.mean_predicted.item():9.4f}  {each.observed.item():9.4f}"
                lines.append(f"{edges:>13}  {means}  {each.weight.item():12,.6g}")
        return "\n".join(lines)

    __repr__ = __str__


def measure(
    run: FitResult,
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    offset: Any = None,
    features: Any = None,
    target: Any = None,
    sample_dims: Any = None,
    nan: str = "error",
    bins: int = 10,
) -> Measures:
    """Measure how well a fit predicts rows, of the fit or held out, in one pass over them.

    Parameters
    ----------
    run : FitResult
        Of any loss but a `Model`.
    x : Source, array (n, p), data frame, Dataset or table
    y : array (n,) or (n, k)
        The rows, of any kind that `fit` takes. Leave y out with a Source, and with a table after a fit of a formula.
    sample_weight : array (n,), optional
        How much a row counts. Columns named as weights and offset in the fit are found by their names.
    offset, features, target, sample_dims, nan
        See `fit`; by default those of the fit.
    bins : int
        Of the calibration table, of equal width in the probability.

    Returns
    -------
    Measures
        Always ``mean_loss``, without a penalty. Of numbers and amounts ``r2``, ``rmse``, ``mae`` and ``bias``; of
        likelihoods ``deviance``, ``null_deviance`` (that of the rows' own mean) and ``d2``, the share explained: of the
        logistic loss McFadden's R2. Of two classes ``accuracy``, ``roc_auc`` and ``average_precision``; of their
        probabilities ``log_loss``, ``brier``, and the calibration table with its ``calibration_error``. Of several
        classes ``log_loss``, ``brier`` and ``accuracy``.

    Raises
    ------
    InvalidArgumentError, InvalidTypeError, DataError
        As in `fit`, and for rows of other features than the fit's.

    Notes
    -----
    All are those of scikit-learn, of the same names or nearly, with its ``sample_weight``. Products are taken in
    float64. The areas are exact for up to 262,144 different predictions (those that agree in 12 digits are ties);
    beyond that neighbours are joined, and ``errors`` bounds what that may change.

    Examples
    --------
    >>> x = np.array([[0.0], [1.0], [2.0], [3.0]])
    >>> y = np.array([1.0, 2.0, 4.0, 5.0])
    >>> found = dask_gd.measure(dask_gd.fit(x, y), x, y)
    >>> round(found["r2"], 6), round(found["rmse"], 6)
    (0.98, 0.223607)
    """
    # Check the arguments, and that the rows are like those of the fit.
    if not isinstance(run, FitResult):
        raise InvalidTypeError(f"measure(run, x, y): run is a {type(run).__name__}; give the FitResult of dask_gd.fit.")
    if isinstance(run.loss, Model):
        raise InvalidArgumentError("measure: what a dask_gd.Model predicts is yours to say, from run.params.")
    if not is_whole(bins, least=1):
        raise InvalidArgumentError(f"measure(bins={bins!r}): a whole number, 1 or more.")
    if is_lazy(run.weights):
        run = replace(run, weights=run.weights.compute())
    arguments = {
        "sample_weight": sample_weight,
        "offset": offset,
        "features": features,
        "target": target,
        "sample_dims": sample_dims,
    }
    rows = with_values(as_source(x, y, **as_in_fit(run, x, y, arguments, "measure"), nan=nan))
    rows = source_of_fit(rows, run.encoding, run.column_names, "measure")
    source = InDoubles(**{field.name: getattr(rows, field.name) for field in fields(rows)})
    check_data(run, source, "measure")

    # One pass at the fit's parameters.
    query = run.parameters[:, :, None]
    if not run.fit_intercept:
        query = query[:-1]
    outputs = query.shape[1]
    summaries = summaries_of(run.loss, outputs, bins)
    nbytes = sum(each.bytes_of_sums(source.shape[0], outputs) for each in summaries.values())
    times = 1 + outputs * nbytes // (8 * query.size)
    request = Request(targets=True, kernel=Measured(summaries, times))
    persisted = passes.persist(source)
    try:
        key = f"measure-{uuid.uuid4().hex[:8]}"
        found = passes.evaluate(persisted, np.ascontiguousarray(query), run.loss, request, key, 0)
    finally:
        passes.unpersist(persisted)
    if not np.isfinite(found.at_query.loss).all():
        raise InvalidArgumentError(
            "measure: predictions are not finite: coefficients of the fit are none, as of levels that it has left out."
        )
    if not found.at_query.weight > 0:
        raise InvalidArgumentError("measure: the weights of the rows sum to 0.")
    return _measures(run, found, summaries)


def _measures(run: FitResult, found: MeasureSums, summaries: dict[str, Any]) -> Measures:
    """Return the measures that follow from the sums."""
    sums = found.summaries
    table: dict[str, np.ndarray] = {}
    of_targets: Targets = summaries["targets"]
    targets = sums["targets"]
    weight = targets.weight
    table["mean_loss"] = targets.losses / weight
    if "errors" in sums:
        errors = sums["errors"]
        squares = errors.error_squares / errors.weight + errors.error_mean**2
        table["r2"] = r2(errors)
        table["rmse"] = np.sqrt(squares)
        table["mae"] = errors.row_losses / errors.weight
        table["bias"] = -errors.error_mean
    if run.loss.quadratic and "errors" in sums:
        table["deviance"] = 2 * targets.losses
        table["null_deviance"] = sums["errors"].squares
        table["d2"] = table["r2"]
    elif has_deviance(run.loss):
        table["deviance"] = 2 * targets.losses
        table["null_deviance"] = of_targets.null_deviance(targets)
        with np.errstate(divide="ignore", invalid="ignore"):
            table["d2"] = 1 - table["deviance"] / table["null_deviance"]
    calibration = None
    bounds: dict[str, float] = {}
    if target_kind_of(run.loss) in ("two classes", "classes"):
        if is_log_loss(run.loss):
            table["log_loss"] = targets.losses / weight
            table["brier"] = targets.squared / weight
        table["accuracy"] = targets.right / weight
    if "order" in sums:
        bounds = _areas(table, sums["order"])
    if "bins" in sums:
        table["calibration_error"] = np.array([summaries["bins"].score(each) for each in sums["bins"]])
        calibration = _calibration(run, sums["bins"], summaries["bins"].edges)
    return Measures(
        table=xr.Dataset({name: _labelled(run, values) for name, values in table.items()}),
        calibration=calibration,
        errors=bounds,
        n=float(weight),
        rows=found.at_query.rows,
        loss=run.loss,
    )


def _areas(table: dict[str, np.ndarray], orders: list[Any]) -> dict[str, float]:
    """Add the areas under the curves of each output to the table, and return bounds of their errors."""
    measured = {
        "roc_auc": (roc_auc, roc_auc_error),
        "average_precision": (average_precision, average_precision_error),
    }
    bounds = {}
    for name, (area, error) in measured.items():
        areas = []
        bounds[name] = 0.0
        for order in orders:
            # Without rows of both classes there is no curve.
            if not (order.weights.sum(axis=1) > 0).all():
                areas.append(np.nan)
                continue
            areas.append(area(*order.weights))
            if order.bits > ROUNDING_BITS:
                bounds[name] = max(bounds[name], error(*order.weights))
        table[name] = np.array(areas)
    return bounds


def _labelled(run: FitResult, values: np.ndarray, *dims: str) -> xr.DataArray:
    """Return values with the outputs as their last axis as a DataArray; without it where there is a single one."""
    if run.weights.ndim == 1 or classes_of(run.loss):
        return xr.DataArray(values[..., 0], dims=dims)
    coords = {}
    if "output" in run.weights.coords:
        coords["output"] = run.weights.coords["output"].values
    return xr.DataArray(values, dims=(*dims, "output"), coords=coords)


def _calibration(run: FitResult, bins: list[Any], edges: np.ndarray) -> xr.Dataset:
    """Return the calibration table of all outputs."""
    columns: dict[str, list[np.ndarray]] = {"mean_predicted": [], "observed": [], "weight": [], "rows": []}
    for sums in bins:
        with np.errstate(divide="ignore", invalid="ignore"):
            columns["mean_predicted"].append(sums.predicted / sums.weights)
            columns["observed"].append(sums.observed / sums.weights)
        columns["weight"].append(sums.weights)
        columns["rows"].append(sums.rows.astype(int))
    table = xr.Dataset({name: _labelled(run, np.stack(each, axis=-1), "bin") for name, each in columns.items()})
    return table.assign_coords(lower=("bin", edges[:-1]), upper=("bin", edges[1:]))
