"""Hold the models of all cells: `CellFit`, live or opened from its Zarr."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from ..errors import InvalidArgumentError, NotFittedError
from ..sources.dataset_column import DESCRIBE, decoded
from ..sources.variables import variable
from .inference_table import INTERCEPT
from .places import place_of
from .prediction import write_data

#: The attribute of a Zarr group that says that it holds a `CellFit`.
ATTRIBUTE = "dask_gd_cells"
#: What became of a cell, see the CF conventions on flags.
MEANINGS = ("ok", "no_values", "too_few", "collinear")

LONG_NAMES = {
    "weights": "coefficients of the features",
    "intercept": "intercept",
    "standard_error": "standard errors of the coefficients",
    "loss": "mean loss, with the penalty",
    "rsquared": "share of the variance that the model explains",
    "dispersion": "variance of the residuals",
    "nobs": "observations: the sum of the row weights",
    "dof": "degrees of freedom of the residuals",
    "status": "what became of the cell's fit",
}


@dataclass(frozen=True, eq=False, repr=False)
class CellFit:
    """The models of all cells of a target, each fitted to the values of its own cell.

    Attributes
    ----------
    table : xarray.Dataset
        All that is known of the cells, in the dimensions and coordinates of the target. Each of its variables is an
        attribute of the result too.
    weights : xarray.DataArray
        Coefficients, dims ("feature", ...) and then the target's dimensions outside of the sample dimensions. NaN
        where ``status`` is not "ok".
    intercept : xarray.DataArray
        Over the cells; 0 without an intercept.
    standard_error : xarray.DataArray
        Of the coefficients, dims ("parameter", ...): the features and "(intercept)". Not with a penalty.
    loss : xarray.DataArray
        The objective at the minimum: half of the mean of the squared residuals, and the penalty.
    rsquared : xarray.DataArray
        ``1 - residuals / total``, about the mean if there is an intercept.
    dispersion : xarray.DataArray
        The residuals' sum of squares by ``dof``, their variance.
    nobs, dof : xarray.DataArray
        Observations of the cell, the sum of their weights, and these less the number of parameters.
    status : xarray.DataArray
        int8 with the attributes ``flag_values`` and ``flag_meanings``: 0 "ok", 1 "no_values", 2 "too_few" (no more
        observations than parameters), 3 "collinear" (in the rows that the cell has).
    features : tuple of str
    target : str
    sample_dims : tuple of str
    dims : tuple of str
        The dimensions of the target.
    fit_intercept, penalised : bool
    """

    table: xr.Dataset
    features: tuple[str, ...]
    target: str
    sample_dims: tuple[str, ...]
    dims: tuple[str, ...]
    fit_intercept: bool
    penalised: bool
    target_attrs: dict[str, str] = field(default_factory=dict)
    #: Of the data and the arguments, where the run has a store.
    identity: str = ""

    @property
    def cell_dims(self) -> tuple[str, ...]:
        """The target's dimensions outside of the sample dimensions."""
        return tuple(d for d in self.dims if d not in self.sample_dims)

    @property
    def weights(self) -> xr.DataArray:
        """The coefficients of the features."""
        return self.table["weights"]

    @property
    def intercept(self) -> xr.DataArray:
        """The intercept."""
        if not self.fit_intercept:
            return xr.DataArray(0.0, name="intercept")
        return self.table["intercept"]

    @property
    def standard_error(self) -> xr.DataArray:
        """The standard errors of the coefficients."""
        if self.penalised:
            raise InvalidArgumentError(
                "standard_error: the fit has a penalty, which draws coefficients to 0, and standard errors hold only "
                "for those of greatest likelihood. Fit with penalty=None."
            )
        return self.table["standard_error"]

    @property
    def loss(self) -> xr.DataArray:
        """The objective at the minimum."""
        return self.table["loss"]

    @property
    def rsquared(self) -> xr.DataArray:
        """The share of the variance that the model explains."""
        return self.table["rsquared"]

    @property
    def dispersion(self) -> xr.DataArray:
        """The variance of the residuals."""
        return self.table["dispersion"]

    @property
    def nobs(self) -> xr.DataArray:
        """The observations of each cell."""
        return self.table["nobs"]

    @property
    def dof(self) -> xr.DataArray:
        """The degrees of freedom of the residuals."""
        return self.table["dof"]

    @property
    def status(self) -> xr.DataArray:
        """What became of each cell."""
        return self.table["status"]

    def predict(self, dataset: xr.Dataset) -> xr.DataArray:
        """Return the prediction for each sample and cell, ``x w + b`` with the coefficients of the cell.

        Parameters
        ----------
        dataset : xarray.Dataset
            With the features among its variables and coordinates, and the cells of the fit or some of them.

        Returns
        -------
        xarray.DataArray
            float64, with the dimensions of the target in their order, and the coordinates of the Dataset. Not yet
            computed where the target or a feature is not in memory, or the weights are not. ``long_name``,
            ``standard_name`` and ``units`` are the target's.

        Raises
        ------
        InvalidArgumentError
            If a feature is not there, or a cell is none of the fit's.
        """
        if not isinstance(dataset, xr.Dataset):
            raise InvalidArgumentError(
                f"predict: a {type(dataset).__name__}; a fit by cell predicts for an xarray.Dataset with its features, "
                f"{', '.join(map(repr, self.features))}."
            )
        chunks = self._chunks(dataset)
        columns = []
        for name in self.features:
            column = variable(dataset, "predict", name)
            feature = decoded(xr.DataArray(column, name=name), name).astype(float)
            columns.append(_in_chunks(feature, chunks))
        total = self._of_cells(self.intercept, dataset, chunks)
        weights = self._of_cells(self.weights, dataset, chunks)
        for i, feature in enumerate(columns):
            total = total + weights.isel(feature=i, drop=True) * feature
        # Sample dimensions that no feature has.
        for d in self.dims:
            if d not in total.dims and d in dataset.sizes:
                total = total.expand_dims({d: dataset.sizes[d]})
        dims = tuple(d for d in self.dims if d in total.dims)
        coords = {name: coord for name, coord in dataset.coords.items() if set(coord.dims) <= set(dims)}
        data = total.variable.transpose(*dims).data
        return xr.DataArray(data, dims=dims, coords=coords, name="prediction", attrs=self.target_attrs)

    def _chunks(self, dataset: xr.Dataset) -> dict[Any, Any]:
        """Return the chunks of the largest lazy variable along each dimension, empty where all is in memory."""
        names = [name for name in (self.target, *self.features) if name in dataset.variables]
        lazy = [variable(dataset, "predict", name) for name in names if not dataset[name].variable._in_memory]
        lazy += [dataset[name].variable for name in names if isinstance(dataset[name].variable._data, da.Array)]
        found: dict[Any, Any] = {}
        for column in sorted(lazy, key=lambda v: -v.nbytes):
            if column.chunks is not None:
                for d, sizes in zip(column.dims, column.chunks, strict=True):
                    found.setdefault(d, sizes)
        return found

    def _of_cells(self, array: xr.DataArray, dataset: xr.Dataset, chunks: Mapping[Any, Any]) -> xr.DataArray:
        """Return estimates of the cells that a Dataset has, without coordinates."""
        for d in self.cell_dims:
            if d not in array.dims or d not in dataset.sizes:
                continue
            if d in array.indexes and d in dataset.indexes and not array.indexes[d].equals(dataset.indexes[d]):
                try:
                    array = array.sel({d: dataset.indexes[d]})
                except KeyError as error:
                    raise InvalidArgumentError(
                        f"predict: the fit has not all of these labels of {d!r}: {error}."
                    ) from error
            elif array.sizes[d] != dataset.sizes[d]:
                raise InvalidArgumentError(
                    f"predict: the dataset has {dataset.sizes[d]} points along {d!r}, and the fit {array.sizes[d]}."
                )
        array = array.reset_coords(drop=True).drop_vars(list(array.indexes), errors="ignore")
        return _in_chunks(array, chunks)

    def to_zarr(
        self,
        path: str | os.PathLike,
        *,
        overwrite: bool = False,
        storage_options: dict[str, Any] | None = None,
    ) -> str:
        """Write the result to Zarr, complete or not at all; `dask_gd.load` opens it again.

        Parameters are those of `dask_gd.write`. xarray opens the group as a Dataset: that is `table`.
        """
        data = self.table.assign_attrs({ATTRIBUTE: self.description()})
        target = place_of(path, "to_zarr", storage_options)
        return write_data(data, target, caller="to_zarr", overwrite=overwrite, storage_options=storage_options)

    def description(self) -> str:
        """Return what the table does not say, as JSON."""
        names = ("features", "target", "sample_dims", "dims", "fit_intercept", "penalised", "target_attrs", "identity")
        return json.dumps({name: getattr(self, name) for name in names}, sort_keys=True)

    def __repr__(self) -> str:
        counts = ""
        status = self.status.variable._data
        if isinstance(status, np.ndarray):
            parts = [f"{np.count_nonzero(status == i):,} {name}" for i, name in enumerate(MEANINGS)]
            counts = f": {', '.join(part for part in parts if not part.startswith('0 '))}"
        sizes = ", ".join(f"{d} {self.status.sizes[d]:,}" for d in self.cell_dims)
        return f"<CellFit of {self.target!r} on {', '.join(self.features)}; {sizes}{counts}>"

    def _repr_html_(self) -> str:
        """Show the table in a notebook."""
        return self.table._repr_html_()


def _in_chunks(array: xr.DataArray, chunks: Mapping[Any, Any]) -> xr.DataArray:
    """Return an array in chunks along the dimensions that it has; as it is, if there are no chunks."""
    if not chunks:
        return array
    return array.chunk({d: sizes for d, sizes in chunks.items() if d in array.dims})


def labelled(
    arrays: Mapping[str, Any],
    target: xr.DataArray,
    cell_dims: tuple[str, ...],
    features: tuple[str, ...],
    parameters: list[str],
) -> xr.Dataset:
    """Return estimates as a Dataset, with the coordinates that the target has over its cells."""
    coords = {}
    for name, coord in target.coords.items():
        if set(coord.dims) <= set(cell_dims) and coord.ndim:
            coords[name] = coord.compute().variable
    coords["feature"] = xr.Variable("feature", np.array(features, dtype=object))
    coords["parameter"] = xr.Variable("parameter", np.array(parameters, dtype=object))
    variables = {}
    for name, array in arrays.items():
        first = {"weights": ("feature",), "standard_error": ("parameter",)}.get(name, ())
        attrs: dict[str, Any] = {"long_name": LONG_NAMES[name]}
        if name == "status":
            attrs["flag_values"] = np.arange(len(MEANINGS), dtype=np.int8)
            attrs["flag_meanings"] = " ".join(MEANINGS)
        variables[name] = xr.Variable((*first, *cell_dims), array, attrs)
    return xr.Dataset(variables, coords=coords)


def parameter_names(features: tuple[str, ...], fit_intercept: bool) -> list[str]:
    """Return the names of a cell's parameters."""
    if fit_intercept:
        return [*features, INTERCEPT]
    return list(features)


def describing(target: xr.DataArray) -> dict[str, str]:
    """Return the attributes that hold of a prediction as of its target."""
    return {key: str(target.attrs[key]) for key in DESCRIBE if key in target.attrs}


def is_cell_fit(path: Any) -> bool:
    """Return whether there is a Zarr group at a path that holds a `CellFit`."""
    try:
        with open(os.path.join(os.fspath(path), "zarr.json")) as file:
            return ATTRIBUTE in json.load(file).get("attributes", {})
    except (OSError, TypeError, ValueError):
        return False


def load_cells(path: str | os.PathLike) -> CellFit:
    """Open a stored `CellFit`, whose arrays are lazy.

    Raises
    ------
    NotFittedError
        If there is none.
    """
    place = str(place_of(path, "load"))
    if not is_cell_fit(place):
        raise NotFittedError(f"{place} holds no fit by cell.")
    table = xr.open_zarr(place)
    about = json.loads(table.attrs.pop(ATTRIBUTE))
    for name in ("features", "sample_dims", "dims"):
        about[name] = tuple(about[name])
    # Names as objects, as they were before they were stored.
    names = {name: (name, table[name].values.astype(object)) for name in ("feature", "parameter") if name in table}
    return CellFit(table.assign_coords(names), **about)
