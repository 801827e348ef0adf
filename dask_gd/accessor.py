"""Offer `fit` and `FitResult.predict` from the side of the data: ``dataset.gd``."""

from __future__ import annotations

from typing import Any

import xarray as xr

from .fitting.fit import fit
from .results.fit_result import FitResult


@xr.register_dataset_accessor("gd")
class DatasetAccessor:
    """Accessor: ``ds.gd.fit(...)`` is ``dask_gd.fit(ds, ...)``, and ``ds.gd.predict(run)`` is ``run.predict(ds)``.

    Examples
    --------
    >>> lat = np.linspace(-60.0, 60.0, 5)
    >>> ds = xr.Dataset({"t": ("lat", 300 - 0.5 * lat)}, {"lat": lat})
    >>> run = ds.gd.fit(features=["lat"], target="t", sample_dims=["lat"])
    >>> ds.gd.predict(run).sel(lat=60.0).round(3).item()
    270.0
    """

    def __init__(self, dataset: xr.Dataset):
        self._dataset = dataset

    def fit(self, formula: str | None = None, **arguments: Any) -> FitResult:
        """Fit a model to variables of the Dataset, by a formula or by their names, see `dask_gd.fit`."""
        if formula is not None:
            return fit(formula, self._dataset, **arguments)
        return fit(self._dataset, **arguments)

    def predict(self, run: FitResult, **arguments: Any) -> xr.DataArray:
        """Predict from variables of the Dataset, see `dask_gd.FitResult.predict`."""
        return run.predict(self._dataset, **arguments)
