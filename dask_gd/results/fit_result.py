"""Hold the result of a fit, live or loaded from its store: `FitResult`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
import zarr

from ..errors import InvalidArgumentError
from ..kernels.products import linear
from ..model.losses import Loss, Model, as_loss, loss_of
from ..sources import Source
from ..sources.coded_table import CodedTable
from ..sources.column_grid import is_in_columns
from ..sources.columns import as_rows, feature_names_of
from ..sources.dataset_column import decoded, predicted
from ..sources.encoding import Encoding, encoding_of
from ..sources.formula.design import Formula, formula_of
from ..sources.frame_source import coded_for_prediction
from ..sources.frames import column_named, frame_of, with_columns_of_fit
from ..sources.levels_in_fit import with_features_of
from ..sources.opening import make_source
from ..store.content import HISTORY
from ..store.former_names import full_passes_of
from ..store.store import Checkpoint
from .block_prediction import predict_in_blocks
from .features import (
    check_features,
    codes_of_table,
    features_of_array,
    features_of_source,
    linear_of_codes,
    offset_array,
    prediction_dtype,
    references_left_out,
    refuse_codes,
)
from .formula_prediction import predict_by_formula
from .lazy_weights import is_in_blocks, is_lazy, values_of
from .plain_state import PlainState
from .shown_fit import ShownFit


@dataclass(frozen=True)
class FitResult(ShownFit, PlainState):
    """A fitted model and how it came about.

    Attributes
    ----------
    weights : xarray.DataArray
        Coefficients, dims ("feature",), or ("feature", "output") for a target with columns. Feature names, where the
        data has them, are the coordinate "feature". After a fit with weights in blocks they are lazy, a Dask array
        with a chunk for each column block.
    intercept : xarray.DataArray
        Dims () or ("output",); 0 without an intercept.
    history : xarray.Dataset
        Over "iteration", from 0, the start: ``loss`` (the objective, penalty included), ``grad_norm`` (the
        largest component of the gradient over its scale, see `fit`), ``step_size``, and the cost of the iteration:
        ``passes``, ``rows`` (used), ``bytes_read`` (decoded) and ``seconds``. ``full_passes`` of the ``passes`` were
        over all rows, and the rest readings of samples. Where none was over all rows, loss and gradient are those of a
        sample, not comparable with others. Where ``passes`` is 0 in the last row of a Newton fit, no pass was taken
        after the step: loss and gradient are forecasts, see `fit`.
    n_iter : int
        Steps taken.
    converged : bool
        True if the fit reached ``tol`` or ``target_loss``.
    reason : str
        "converged", "target_loss", "max_iter", "precision" (the gradient is zero within the rounding of what it is
        computed from, and gets no better), "stalled" (no solver finds a step that lowers the loss, and the gradient is
        not zero; a `StalledWarning` says so) or "diverged"; the reason that a callback gave a
        `dask_gd.events.StopFit`; "interrupted" in a stored run that has not ended.
    loss : Loss
    fit_intercept, penalised : bool
        Whether there is an intercept, and a penalty.
    dropped : int
        Rows left out by ``nan="drop"`` of those last read, which unless the fit was cut short are all.
    dropped_levels : array (levels, 2)
        The levels of factors that were left out with their rows, as no rows determine their coefficients, which are
        NaN: the column of each, and its code. See `docs/levels.md`.
    sample_dims : tuple of str, or None
        The dimensions whose points were the rows, of a Dataset.
    roles : dict
        The columns beside the features, by argument of `fit` ("target", "sample_weight", "offset"): the names of the
        variables for a Dataset, of the columns for a data frame, else True.
    encoding : Encoding or None
        The columns of numbers and codes that the features stand for, with the levels of each; None where the features
        are columns themselves.
    formula : dask_gd.sources.formula.design.Formula, or None
        The formula of the fit with the levels, means and knots that it has learnt, by which `predict`, `infer` and
        `measure` read tables.
    smoothing : tuple of float, or None
        For a quantile without a ``smoothing`` of its own: the width, for each output, over which the corner of the
        loss was rounded at the end.
    """

    weights: xr.DataArray
    intercept: xr.DataArray
    history: xr.Dataset
    n_iter: int
    converged: bool
    reason: str
    loss: Loss = field(repr=False)
    fit_intercept: bool = field(repr=False)
    penalised: bool = field(repr=False)
    dropped: int = 0
    sample_dims: tuple[str, ...] | None = None
    target_attrs: dict[str, str] = field(default_factory=dict, repr=False)
    encoding: Encoding | None = field(default=None, repr=False)
    roles: dict[str, Any] = field(default_factory=dict, repr=False)
    smoothing: tuple[float, ...] | None = field(default=None, repr=False)
    formula: Formula | None = field(default=None, repr=False)
    dropped_levels: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), int), repr=False, compare=False)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Set the attributes, of results pickled before passes were told from samples too."""
        super().__setstate__(state)
        if "full_passes" not in self.history:
            vars(self)["history"] = self.history.assign(full_passes=full_passes_of(self.history.passes))

    def __str__(self) -> str:
        from ..display.html import in_words

        return in_words(self)

    @property
    def parameters(self) -> np.ndarray:
        """Weights with the intercept as last row, (p + 1, k)."""
        weights = values_of(self.weights, "run.parameters").reshape(len(self.weights), -1)
        intercept = self.intercept.values.reshape(1, -1)
        return np.vstack([weights, intercept])

    @property
    def params(self) -> Any:
        """Return the parameters of a `Model`, in the shapes in which they were given."""
        if not isinstance(self.loss, Model):
            raise AttributeError("params are those of a dask_gd.Model; this fit has weights and an intercept.")
        return self.loss.unpacked(values_of(self.weights, "run.params"))

    def predict(self, x: Any, offset: Any = None) -> Any:
        """Return the mean of the target for each row: ``inverse_link(x w + b)``.

        For the logistic loss that is the probability of class 1; the hinges give the class, the quantile loss the
        quantile.

        Parameters
        ----------
        x : array (n, p), data frame, Dataset or Source
            NumPy, Dask, Zarr or a 2-D DataArray whose second dimension holds the features; sparse rows of SciPy, of a
            Zarr group, or Dask's blocks of them; a data frame that has the features among its columns, in any order; or
            a Dataset that has them as variables or coordinates.
        offset : array (n,), optional
            Added to the predictions ``x w + b``; of a Dataset the name of a variable, or a DataArray; of a data frame
            the name of a column, or an array. A Source has its own.

        Returns
        -------
        array (n,) or (n, k), float32 for features of float32 or float16, else float64
            NumPy for NumPy, SciPy and data frames in memory. Dask, not yet computed, for Dask, Zarr and Source. A
            DataArray with the coordinates of the rows for a DataArray. For a Dataset (or a Source of one) a DataArray
            over the sample dimensions, and any other dimensions that its variables have, with its coordinates; not yet
            computed, in their chunks, if one of them is not in memory. ``long_name``, ``standard_name`` and ``units``
            are the target's.

        Raises
        ------
        InvalidArgumentError
            If the width or the feature names are not those of the fit, or a Dataset or a data frame lacks some.
        DataError
            Naming the column, the row and the level where a level is none of the fit's, see `Categories`; of a lazy
            data frame where the prediction is computed.

        Examples
        --------
        >>> x = np.array([[0.0], [1.0], [2.0]])
        >>> run = dask_gd.fit(x, np.array([1.0, 3.0, 5.0]))
        >>> run.predict(np.array([[10.0]])).round(6).tolist()
        [21.0]
        """
        # A model is no pointwise loss: it has no linear prediction.
        if isinstance(self.loss, Model):
            raise InvalidArgumentError(f"predict: what {self.loss!r} predicts is yours to say, from run.params.")
        # Few lazy weights come into this process, and those of levels, whose names take no less memory.
        if is_lazy(self.weights) and (self.encoding is not None or not is_in_blocks(self.weights)):
            return replace(self, weights=self.weights.compute()).predict(x, offset)
        # A table is read by the formula of the fit.
        if self.formula is not None:
            return predict_by_formula(self, x, offset)
        # A data frame is read by the names of its columns, and its levels become codes.
        frame = frame_of(x)
        if frame is not None:
            offset = column_named(frame, offset, "offset")
            if self.encoding is not None:
                array, encoding = coded_for_prediction(frame, self.encoding, drops_rows=True)
                # Of levels that were left out only references have no coefficient of NaN.
                columns = references_left_out(self.encoding, self.dropped_levels)
                left_out = np.array([(column, 0) for column in columns], int).reshape(-1, 2)
                run = replace(self, encoding=encoding, dropped_levels=left_out)
                return run.predict(CodedTable(array, encoding, array.dtype), offset)
            x = with_columns_of_fit(frame, self.column_names)
        # An offset is added to the linear prediction, and a Dataset is read by the names of its variables.
        if offset is not None or (isinstance(x, Source) and x.offset is not None):
            return self._predict_with_offset(x, offset)
        if isinstance(x, xr.Dataset):
            return self._predict_dataset(x)
        if isinstance(x, Source) and x.x.dataset is not None:
            return self._predict_dataset(x.x.dataset)
        if isinstance(x, xr.DataArray):
            return self._predict_dataarray(x)
        # The others are arrays of rows and features, with or without names.
        in_blocks = is_in_blocks(self.weights)
        if in_blocks and isinstance(x, zarr.Array):
            x = make_source(x)
        if in_blocks and isinstance(x, Source) and is_in_columns(x):
            array = with_features_of(x, self.column_names)
            names = array.feature_names
        elif isinstance(x, Source):
            array, names = features_of_source(x, self.encoding, self.column_names)
        elif isinstance(x, CodedTable):
            names = None
            array = features_of_array(codes_of_table(x, self.encoding))
        else:
            refuse_codes(self.encoding)
            names = feature_names_of(x)
            array = features_of_array(x)
        self._check_features(array, names)
        if in_blocks:
            return predict_in_blocks(array, self.weights.data, self.intercept.values, self.loss)
        if not isinstance(array, da.Array):
            return self._mean(array)
        # A lazy array is predicted block by block, each block with all features of its rows.
        array = array.rechunk({1: -1})
        dtype = prediction_dtype(array)
        meta = np.empty((0,) * self.weights.ndim, dtype)
        if self.weights.ndim == 1:
            return array.map_blocks(self._mean, drop_axis=1, dtype=dtype, meta=meta, name=None)
        chunks = (array.chunks[0], (self.weights.shape[1],))
        return array.map_blocks(self._mean, chunks=chunks, dtype=dtype, meta=meta)

    def _predict_with_offset(self, x: Any, offset: Any) -> Any:
        """Return the inverse link of the linear prediction and the offset, for each row."""
        # Separate the rows from their offset, and make the offset a column.
        data = x
        if isinstance(x, Source):
            if x.x.dataset is not None:
                data = x.x.dataset
            else:
                data = x.with_columns(offset=None)
            if offset is None:
                offset = x.offset
            else:
                offset = as_rows(offset, "offset", lengths=False)
        elif not isinstance(x, xr.Dataset):
            offset = as_rows(offset, "offset", lengths=False)
        # The squared loss has the identity as its link: its prediction is the linear one.
        z = replace(self, loss=as_loss("squared")).predict(data)
        # Bring the offset to the kind of the prediction.
        if isinstance(data, xr.Dataset):
            # xarray aligns variables of a Dataset by their dimensions.
            if not isinstance(offset, str | xr.DataArray):
                # The column of a Source: the name of its variable.
                offset = offset.variables
            if isinstance(offset, str):
                offset = data[offset]
        else:
            offset = offset_array(offset, x, z)
        return self.loss.inverse_link(z + offset).astype(z.dtype)

    def _predict_dataarray(self, x: xr.DataArray) -> xr.DataArray:
        """Return the prediction for a DataArray of rows and features, with the coordinates of the rows."""
        self._check_features(x, feature_names_of(x))
        rows = x.dims[0]
        dims = (rows, *self.weights.dims[1:])
        coords = {name: coord for name, coord in x.coords.items() if coord.dims in ((), (rows,))}
        if "output" in self.weights.coords:
            coords["output"] = self.weights.coords["output"]
        prediction = self.predict(decoded(x, "x").data)
        return xr.DataArray(prediction, dims=dims, coords=coords, name="prediction")

    def _predict_dataset(self, dataset: xr.Dataset) -> xr.DataArray:
        """Return the prediction for a Dataset, over its sample dimensions."""
        if "feature" not in self.weights.coords:
            raise InvalidArgumentError("predict(dataset): the features of this fit have no names; give x as an array.")
        # Variables are found by the names of the features, which take no less memory than the weights.
        if is_lazy(self.weights):
            return replace(self, weights=self.weights.compute())._predict_dataset(dataset)
        outputs = None
        if self.weights.ndim == 2:
            outputs = self.weights.shape[1]
        names = self.weights.coords["feature"].values.tolist()
        dims, array = predicted(dataset, names, self.sample_dims, self._mean, outputs)
        # Coordinates of the rows stay.
        coords = {name: coord for name, coord in dataset.coords.items() if set(coord.dims) <= set(dims)}
        if "output" in self.weights.coords:
            coords["output"] = self.weights.coords["output"]
        return xr.DataArray(
            array,
            dims=(*dims, *self.weights.dims[1:]),
            coords=coords,
            name="prediction",
            attrs=self.target_attrs,
        )

    def _mean(self, block: np.ndarray) -> np.ndarray:
        """Return the mean of the target for the rows of a block."""
        weights = self.weights.values
        intercept = self.intercept.values
        if self.encoding is None:
            z = linear(block, weights, intercept)
        else:
            without_reference = references_left_out(self.encoding, self.dropped_levels)
            z = linear_of_codes(self.encoding, block, weights, intercept, without_reference)
        prediction = self.loss.inverse_link(z)
        return prediction.astype(prediction_dtype(block), copy=False)

    def _check_features(self, x: Any, names: tuple | None) -> None:
        """Refuse features whose number or names are not those of the fit."""
        width = self.weights.shape[0]
        if self.encoding is not None:
            width = len(self.encoding.columns)
        check_features(x, width, names, self.column_names)

    @property
    def column_names(self) -> tuple[str, ...] | None:
        """The names of the columns that the features stand for, or None where they have no names."""
        if self.encoding is not None:
            return tuple(column.name for column in self.encoding.columns)
        if "feature" in self.weights.coords:
            return tuple(self.weights.coords["feature"].values.tolist())
        return None


def result_of(checkpoint: Checkpoint, loss: Loss | None = None) -> FitResult:
    """Return the result at a committed iteration, with the given loss or else the loss that the iteration names."""
    run = checkpoint.attributes["dask_gd"]
    arrays = checkpoint.arrays
    # Weights and intercept with the names of features and outputs.
    coords = {name: arrays[name][1].tolist() for name in ("feature", "output") if name in arrays}
    labelled = {}
    for name in ("weights", "intercept"):
        dims, values = arrays[name]
        array = xr.DataArray(values, dims=dims)
        known = {dim: (dim, coords[dim]) for dim in array.dims if dim in coords}
        labelled[name] = array.assign_coords(known).rename(name)
    # The history of the iterations, from the start.
    history = xr.Dataset({name: ("iteration", arrays[name][1]) for name in HISTORY})
    history = history.assign_coords(iteration=np.arange(history.sizes["iteration"]))
    # What older stores, other losses and other data do not have.
    if loss is None:
        loss = loss_of(run["loss"])
        assert loss is not None
    reason = run["reason"] or "interrupted"
    dropped = 0
    if "dropped" in arrays:
        dropped = int(arrays["dropped"][1])
    dropped_levels = np.zeros((0, 2), int)
    if "dropped_levels" in arrays:
        dropped_levels = arrays["dropped_levels"][1]
    sample_dims = run.get("sample_dims")
    if sample_dims is not None:
        sample_dims = tuple(sample_dims)
    encoding = run.get("encoding")
    if encoding is not None:
        encoding = encoding_of(encoding)
    formula = run.get("formula")
    if formula is not None:
        formula = formula_of(formula)
    smoothing = None
    if "smoothing/widths" in arrays:
        smoothing = tuple(arrays["smoothing/widths"][1].tolist())
    return FitResult(
        **labelled,
        history=history,
        n_iter=checkpoint.iteration,
        converged=reason in ("converged", "target_loss"),
        reason=reason,
        loss=loss,
        fit_intercept=run["fit_intercept"],
        penalised=run["penalised"],
        dropped=dropped,
        sample_dims=sample_dims,
        target_attrs=run.get("target_attrs", {}),
        encoding=encoding,
        roles=run.get("roles", {}),
        smoothing=smoothing,
        formula=formula,
        dropped_levels=dropped_levels,
    )
