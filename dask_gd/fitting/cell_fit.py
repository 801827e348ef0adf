"""Fit a model to each cell of a target: one pass, whose estimates the client puts together."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import dask
import numpy as np
import xarray as xr

from .. import passes
from ..dashboard.publish import watching
from ..errors import InvalidArgumentError
from ..events import Callback, Callbacks, FitEnded, FitStarted
from ..interrupt import exiting_on_sigterm
from ..kernels.cell_design import Design, design_of
from ..model.losses import as_loss
from ..model.penalties import L2, Penalty, as_penalty, check_features
from ..passes.cells import check_memory, estimates_in_batches, work_of
from ..results.cell_arrays import Shapes, columns_in, empty, file_of, from_files, put
from ..results.cell_fit import CellFit, describing, is_cell_fit, labelled, load_cells, parameter_names
from ..results.kept_parts import directory_of, kept_directory, write_arrays
from ..sources.cells import CellSource, cell_source
from ..worker_env import memory_of_process

#: Share of the client's memory that estimates may take; more of them need a store.
SHARE = 0.25
CALLER = "fit"


class CellModel(NamedTuple):
    """What is fitted to each cell."""

    penalty: Penalty | None
    #: The penalty's strength for each feature.
    strength: np.ndarray | None
    fit_intercept: bool


def fit_cells(
    dataset: xr.Dataset,
    *,
    features: Any,
    target: str,
    sample_dims: Any,
    loss: Any,
    penalty: Penalty | None,
    fit_intercept: bool,
    sample_weight: Any,
    nan: str,
    store: Any,
    callbacks: Iterable[Callback],
    **others: Any,
) -> CellFit:
    """Fit a model to each cell of the target, see `fit`; ``others`` are arguments that fits by cell do not have.

    Raises
    ------
    InvalidArgumentError, InvalidTypeError
        Before the first task.
    DataError
        Naming variable and index of a value that cannot be served.
    """
    _refuse(others)
    model = _model(loss, penalty, fit_intercept)
    if nan not in ("error", "drop"):
        raise InvalidArgumentError(f"nan={nan!r}: choose 'error' or 'drop'.")
    source = cell_source(dataset, features, target, sample_dims, sample_weight, drop=nan == "drop")
    if model.penalty is not None:
        check_features(model.penalty, len(source.names))
        strength = np.broadcast_to(np.asarray(model.strength, float), len(source.names))
        model = model._replace(strength=strength)
    design = design_of(source.shared, source.order, source.varying, source.weights, fit_intercept)
    check_memory(source, design)
    if store is None:
        _check_room(source, design)
    run = f"cells-{uuid.uuid4().hex[:8]}"
    heard = Callbacks((*callbacks, *watching()))
    with contextlib.ExitStack() as stack:
        stack.enter_context(heard.hear_of_failure(run, kind="fit"))
        stack.enter_context(exiting_on_sigterm("fit", lambda: _said(store)))
        stack.enter_context(passes.passes_of("fit", run, lambda: _said(store)))
        heard.tell(_started(source, model, run, store))
        result = _fitted(source, design, model, run, store)
        heard.tell(FitEnded("converged", 1, float(result.loss.mean()), run))
    return result


def _refuse(others: dict[str, Any]) -> None:
    """Refuse arguments of `fit` that fits by cell do not have, unless they are the defaults."""
    defaults = {"solver": "auto", "weights": "auto"}
    for name, value in others.items():
        if value is not None and value != defaults.get(name):
            raise InvalidArgumentError(
                f"{name}={value!r:.80}: the target has dimensions outside of sample_dims, so that each cell has a "
                f"model of its own, and such fits take no {name}. Leave it out, or add all of the target's dimensions "
                "to sample_dims for a single model."
            )


def _model(loss: Any, penalty: Penalty | None, fit_intercept: bool) -> CellModel:
    """Return the model of each cell; refuse losses and penalties that are not served."""
    if not as_loss(loss).quadratic:
        raise InvalidArgumentError(
            f"loss={loss!r}: models by cell are fitted with loss='squared'. For other losses select a cell, "
            "dataset.isel(...), or add the target's dimensions to sample_dims for a single model."
        )
    if penalty is None:
        return CellModel(None, None, fit_intercept)
    penalty = as_penalty(penalty)
    if not isinstance(penalty, L2):
        raise InvalidArgumentError(
            f"penalty={penalty!r}: models by cell are fitted without a penalty, or with dask_gd.L2(alpha)."
        )
    return CellModel(penalty, np.asarray(penalty.alpha, float), fit_intercept)


def _said(store: Any) -> str:
    """Say what becomes of the estimates of a fit that does not end."""
    if store is None:
        return "Nothing was kept: give store=path to go on from the cells that are done."
    return f"The cells that are done are beside {store}: fit again with the same to go on."


def _check_room(source: CellSource, design: Design) -> None:
    """Refuse estimates that take too much of the client's memory."""
    need = 8 * (2 * design.parameters + 6) * source.cells
    if need > SHARE * memory_of_process():
        raise InvalidArgumentError(
            f"The estimates of {source.cells:,} cells take {need / 1e9:.1f} GB, and this process has "
            f"{memory_of_process() / 1e9:.1f} GB. Give store=path: they are written there as they come, and are lazy."
        )


def _started(source: CellSource, model: CellModel, run: str, store: Any) -> FitStarted:
    """Return the event of the fit's start."""
    penalty = "none"
    if model.penalty is not None:
        penalty = repr(model.penalty)
    return FitStarted(
        run=run,
        data=f"{source.samples:,} samples of {source.cells:,} cells",
        loss="Squared()",
        penalty=penalty,
        solver="a model for each cell",
        max_iter=1,
        resumed_from=None,
        rows=source.samples,
        nbytes=source.samples * source.cells * source.target.dtype.itemsize,
        store=None if store is None else str(store),
        features=len(source.names),
        outputs=source.cells,
        label=f"{source.titles[0]} on {', '.join(source.names)}",
    )


def _fitted(source: CellSource, design: Design, model: CellModel, run: str, store: Any) -> CellFit:
    """Return the fit, in memory or in its store."""
    work = work_of(source, design, model.strength)
    shapes = Shapes(
        len(source.names),
        fit_intercept=model.fit_intercept,
        penalised=model.penalty is not None,
        is_weighted=source.weights is not None or source.weighs_cells,
    )
    every = range(len(source.grid.columns))
    if store is None:
        arrays = empty(shapes, source.grid.cell_shape)
        for batch in estimates_in_batches(work, source.persisted(), run, every):
            for column, estimates in batch.items():
                put(arrays, source.grid.columns[column], estimates, shapes)
        return _result(arrays, source, model)
    target = Path(os.path.abspath(store))
    identity = _identity(source, model)
    spelled = hashlib.blake2b(json.dumps(identity, sort_keys=True).encode(), digest_size=8).hexdigest()
    if is_cell_fit(target) and load_cells(target).identity == spelled:
        return load_cells(target)
    if os.path.lexists(target):
        raise InvalidArgumentError(
            f"store={str(store)!r} exists, and is no fit by cell of the same data and arguments. Give another path."
        )
    # Estimates are kept beside the store as they come, and put together at the end, by this process.
    parts = directory_of(target)
    with kept_directory(parts, identity, resume=True, caller=CALLER):
        left = [column for column in every if column not in columns_in(parts)]
        for batch in estimates_in_batches(work, source.persisted(), run, left):
            for column, estimates in batch.items():
                write_arrays(file_of(parts, column), estimates)
        chunks = source.grid.chunks[len(source.grid.sample_dims) :]
        lazy = from_files(parts, shapes, chunks, CALLER)
        with dask.config.set(scheduler="synchronous"):
            replace(_result(lazy, source, model), identity=spelled).to_zarr(target)
    return load_cells(target)


def _result(arrays: Mapping[str, Any], source: CellSource, model: CellModel) -> CellFit:
    """Return the result with these arrays."""
    names = parameter_names(source.names, model.fit_intercept)
    return CellFit(
        labelled(arrays, source.target, source.grid.cell_dims, source.names, names),
        features=source.names,
        target=source.titles[0],
        sample_dims=source.grid.sample_dims,
        dims=tuple(map(str, source.target.dims)),
        fit_intercept=model.fit_intercept,
        penalised=model.penalty is not None,
        target_attrs=describing(source.target),
    )


def _identity(source: CellSource, model: CellModel) -> dict[str, Any]:
    """Return what a stored run must have in common with this one, as plain values."""
    strength = None
    if model.strength is not None:
        strength = model.strength.tolist()
    return {
        "target": source.titles[0],
        "features": list(source.names),
        "sample_dims": list(source.grid.sample_dims),
        "fit_intercept": model.fit_intercept,
        "penalty": strength,
        "nan": "drop" if source.drop else "error",
        "chunks": [list(along) for along in source.grid.chunks],
        "data": source.content(),
    }
