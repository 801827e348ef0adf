"""`fit`: the optimizer loop, the only place where a pass, a solver, a store and callbacks meet."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from typing import Any

from .. import passes
from ..dashboard.publish import watching
from ..errors import InvalidArgumentError
from ..events import Callback, Callbacks
from ..interrupt import exiting_on_sigterm
from ..model.losses import Loss, Model, as_loss, classes_of
from ..model.losses.families import loss_of_family
from ..model.non_negative import within_bounds
from ..model.penalties import Penalty, as_penalty, check_features, penalises
from ..results.fit_result import FitResult
from ..solvers import Solver, as_solver
from ..sources import as_source
from ..sources.categories import Categories
from ..sources.cells import has_cells
from ..sources.levels_in_fit import in_fit
from ..sources.stamps import Stamps
from ..sources.targets import with_values
from ..store.store import Store
from ..validate import is_whole
from .block_fit import fit_in_blocks, in_blocks
from .cell_fit import fit_cells
from .checkpoint import take
from .engine import Engine
from .fit_run import FitRun
from .fit_track import FitTrack
from .of_targets import for_targets, intercept_of
from .room import check_room
from .stages import begin_on_samples, go_on_smoothing
from .start import check_levels, start_of, start_of_model
from .track import Stopping


def fit(
    x: Any,
    y: Any = None,
    *,
    features: Sequence[str] | str | None = None,
    target: Sequence[str] | str | None = None,
    sample_dims: Sequence[str] | str | None = None,
    categorical: Sequence[str] | Categories | None = None,
    loss: str | Loss | tuple | None = None,
    family: str | None = None,
    penalty: Penalty | None = None,
    solver: str | Solver = "auto",
    fit_intercept: bool = True,
    sample_weight: Any = None,
    offset: Any = None,
    nan: str = "error",
    max_iter: int = 100,
    tol: float = 1e-6,
    target_loss: float | None = None,
    initial_weights: Any = None,
    seed: int = 0,
    weights: str = "auto",
    store: str | os.PathLike | Store | None = None,
    callbacks: Iterable[Callback] = (),
) -> Any:
    """Minimise a penalised mean loss over rows that need not fit in memory.

    ``J(w, b) = (1 / sum_i s_i) sum_i s_i L(y_i, x_i w + b) + penalty(w)``; the intercept b is never penalised. Runs on
    the active `distributed.Client`, or without one on Dask's threads, with the same bits on any number of workers.

    Parameters
    ----------
    x : Source, array (n, p), data frame, xarray.Dataset or formula
        From `dask_gd.open`, or a Zarr, Dask, NumPy or xarray array. Zarr is streamed, a few chunks at a time for
        each thread; the blocks of a Dask array must fit in a worker's memory one by one, and so must the partitions of
        a Dask data frame. Data frames are those of pandas, pyarrow and polars too. Their columns of strings and of a
        categorical dtype are factors, with a feature for each level, such as ``origin=ATL``: see `Categories`.
        Numbers packed after the CF conventions are decoded in the task, to the values that xarray
        decodes, in float64: where the attributes of a Zarr array, a DataArray or a Dataset's variable are
        ``scale_factor``, ``add_offset``, ``_FillValue``, ``missing_value`` (both NaN) or ``_Unsigned``. A formula such
        as ``"late ~ distance + C(carrier) * hour + bs(month, 4)"`` is of the table y, see ``docs/formulas.md``.
    y : array (n,) or (n, k)
        Targets, for the softmax loss the classes' numbers from 0 on, (n,); of any of these kinds, with any chunks.
        Leave out with a Source or a Dataset, and with a data frame that has it. With a formula it is the table: a data
        frame, the path of Parquet, or a Dataset.
    features, target : names
        Of a data frame's columns; by default all that have no other role are features. Or of a Dataset's variables or
        coordinates, each over some of ``sample_dims``. Several targets are several outputs.
        They are broadcast inside the task, some rows at a time, and never stored so. A chunk that is missing from the
        store is what xarray reads, the fill value.
    sample_dims : names
        The dimensions of a Dataset whose points are the rows. Where the target has others, each of their points is a
        cell with a model of its own, and the result is a `CellFit`: see ``docs/cells.md``.
    categorical : names or Categories, optional
        The columns of a data frame whose numbers are levels too, or options for all factors: `dask_gd.Categories`.
    loss : str, Loss or pair of functions
        "squared" (the default), "logistic", "softmax", "poisson", "gamma", "tweedie", "huber", "quantile", "hinge",
        "squared_hinge".
        A name takes the loss's default parameters; `dask_gd.Huber(delta=2.0)` and the like take others.
        ``(value, slope)`` is a loss of your own, see `dask_gd.losses.Custom`; `dask_gd.Model` any other function of
        parameters and rows, for which ``fit_intercept`` has no meaning.
    family : str, optional
        In place of ``loss``, by the name that statsmodels and R have: "gaussian", "binomial", "poisson", "gamma",
        "tweedie" (all but the first two with the log for a link), "multinomial".
    penalty : dask_gd.L2, L1, ElasticNet, GroupLasso or None
        Or `dask_gd.penalties.NonNegative`, for weights of at least 0, or a `dask_gd.penalties.Penalty` of your own.
    solver : str or Solver
        "newton", "newton_schur", "lbfgs", "gradient_descent", "momentum", "nesterov", "adam", "sgd", "local_sgd",
        "admm"; or "auto", which takes Newton for narrow data, and where the penalty bends for up to 4,096 parameters,
        else L-BFGS, for a group lasso Nesterov. These serve penalties that bend, and so do gradient descent and SGD.
        For wide rows with factors and a penalty that does not bend it takes Newton with the largest factor eliminated,
        "newton_schur".
    fit_intercept : bool
        Of a formula, ``0 + ...`` says that there is none.
    sample_weight : array (n,), optional
        Row weights s, 0 or more; 1 each by default. Of a data frame also the name of a column. Of a Dataset also the
        name of a variable, or a DataArray, over some of ``sample_dims``.
    offset : array (n,), optional
        Added to the prediction ``x w + b`` of each row, with a coefficient of 1: the log of the exposure where counts
        are modelled. Of a data frame or a Dataset as ``sample_weight`` is.
    nan : {"error", "drop"}
        What to do about rows with NaN in x, y, weight or offset: refuse, or leave them out. How many these are says
        the log, and ``dropped`` in the result. Infinity is always refused. A row is left out for all targets if one of
        them is NaN there; but targets that are NaN in all rows (the sea in a map of the land) have coefficients of NaN
        and a warning in the log, and the others are fitted as they are without them.
    max_iter : int
        Steps at most. 0 evaluates the start.
    tol : float
        Stop when every component of the gradient is at most ``tol`` times its scale: the root mean square of
        its feature times that of dL/dz where the fit first reads all rows. If there is an intercept it is that of the
        feature about its mean, and for the squared loss of dL/dz about its mean too. This is the cosine of an angle,
        whatever the units of x and y. Where the penalty bends the subgradient of least norm counts.
    target_loss : float, optional
        Stop as soon as J is at most this.
    initial_weights : array (p,) or (p, k), or FitResult, optional
        The start: coefficients, with intercept 0 (or in one more row); or another fit's coefficients and intercept.
        Zeros by default; but for Poisson, Gamma and Tweedie losses the intercept begins at the log of the targets'
        mean, which takes a pass.
    seed : int
        Draws the partitions on which Newton's method and L-BFGS start (see Notes).
    weights : {"auto", "whole", "blocks"}
        Where the weights are, and what the solver keeps beside them. "blocks": on the workers, each of which owns some
        columns, for features that are stored by columns (`block_columns`, or a Zarr array whose chunks cut its
        columns); they are never in one place, and ``weights`` of the result is lazy. "auto" does so where they would
        take more than a quarter of the client's or of a worker's memory. See Notes.
    store : path or Store, optional
        A directory where every iteration is committed before the next begins. If it holds an unfinished run of the same
        data and arguments, that run goes on from its last iteration, to the same bits as if it had never stopped.
    callbacks : callables
        Each takes one event of `dask_gd.events`; ``[print]`` prints a line for each iteration. See also
        `dask_gd.callbacks`.

    Returns
    -------
    FitResult
        Or, for a Dataset's target with dimensions outside of ``sample_dims``, a `CellFit`.

    Raises
    ------
    InvalidArgumentError, InvalidTypeError
        Before the first pass: arguments, shapes, names or dtypes that cannot be served.
    DataError
        Missing or damaged chunks, NaN or infinity, targets that the loss does not know; more levels or features than a
        worker or the client has memory for, by the factor's name; Zarr chunks that were overwritten in the meantime,
        which is looked for at the end, as far as the store tells.
    ClusterError
        No workers for ``dask_gd.timeout`` of Dask's configuration (60 s), workers that die of a task or have another
        version of dask_gd, a scheduler that is gone.
    StoreError
        A store that is locked, cannot be written, or holds a run made otherwise.

    Warns
    -----
    DivergenceWarning
        If the loss grows without bound; the result has the last finite weights.
    StalledWarning
        If no step lowers the loss any more short of a minimum.
    CallbackWarning
        If a callback raises; the fit goes on without it.

    Notes
    -----
    For the squared loss gradient descent, momentum, Nesterov and Adam need one pass: it collects the sufficient
    statistics ``sum s x x^T`` and ``sum s x y`` (as long as x has at most about 1,000 columns), from which the iterates
    follow exactly.

    Products are taken in the dtype of x. Where a column's mean is far from 0 beside its spread (8 spreads in float32,
    1,000 in float64) the means are subtracted from the rows in the cache before products are taken, for which the first
    pass is made again; the objective is the one asked for, and columns near 0 cost nothing. Learning rates are then
    those of centred features, if there is an intercept.

    For every loss but the squared and models, on data of 16 partitions or more, Newton's method and L-BFGS take their
    first steps on a sixteenth of the partitions and then on a quarter, if ``max_iter`` is 25 or more and there are no
    ``initial_weights``; the last are always on all rows. Until then the history's loss and gradient are those of the
    rows read, not comparable with those of other rows, and ``passes`` is the share of them.

    A pass of Newton's method over all rows may be followed by one or two over such a sample, corrected by that pass,
    which lead nearer to the minimum: they are part of its step, whose ``passes`` are 1.1 for example and whose
    ``full_passes`` are 1. That is done for losses with a continuous curvature and up to 192 parameters, where the
    sample is like all rows; see ``docs/one_pass.md``, and `fit_plan` for what a fit will read.

    Newton's last step is taken without a pass where the steps before it tell that it ends within ``tol``: for squared,
    logistic, Poisson, Gamma and Tweedie losses, the last four without a penalty that bends. The history's
    last row then has ``passes`` 0, the loss that the step promises, and a bound of the gradient, with a margin of five,
    or of ten where only the sample has told it.

    Rows with factors whose coefficients nothing decides without a penalty, as all rows of a level have one class or
    counts of 0, are left out by "newton_schur", which says so; ``dropped_levels`` of the result has the levels, whose
    coefficients are NaN.

    Where Newton's method stalls short of a minimum, L-BFGS goes on from its weights, and the other way round for data
    narrow enough.

    "quantile" is minimised through a sequence of smoothed losses, see `dask_gd.Quantile`; the history's ``loss`` is
    theirs, above the pinball loss. Each takes a few steps, all but the last ones on samples where others start so.

    With ``weights="blocks"`` a step reads the rows twice, once for predictions and once for the gradient, and only
    vectors as long as the rows move between workers. Solvers are "lbfgs" (from inner products alone; it is what "auto"
    takes), "gradient_descent", "momentum", "nesterov" and "adam"; penalties None, `L2`, `L1` and `ElasticNet` with one
    strength; a `Model` and a quantile loss without smoothing are refused. A worker needs the memory that `block_plan`
    says, and is refused where it has less. ``store`` must be a directory that all workers share; without one a worker
    that dies has the fit begin again, to the same bits.

    On a cluster, from the fourth pass over all rows on, workers keep decoded rows of compressed or remote Zarr, and
    sparse rows of any Zarr, up to half of their memory limit, until the fit ends.

    Examples
    --------
    >>> source = dask_gd.open("data/flights.zarr", x="X", y="late")
    >>> run = dask_gd.fit(source, loss="logistic", penalty=dask_gd.L2(1e-4))
    >>> run.reason, run.weights.sizes["feature"] == source.shape[1]
    ('converged', True)

    A field over time and latitude on a series and a coordinate, which stay as they are:

    >>> import xarray as xr
    >>> heat = xr.Dataset({"co2": ("time", [1.0, 2.0, 4.0])}, coords={"lat": [0.0, 30.0, 60.0, 90.0]})
    >>> heat["t2m"] = 300 + 2 * heat.co2 - 0.5 * heat.lat
    >>> run = dask_gd.fit(heat, features=["co2", "lat"], target="t2m", sample_dims=("time", "lat"))
    >>> round(run.weights.sel(feature="lat").item(), 6), run.predict(heat).dims
    (-0.5, ('time', 'lat'))

    A formula of a table:

    >>> import pandas as pd
    >>> table = pd.DataFrame({"y": [1.0, 2.0, 4.0, 3.0], "x": [1.0, 2.0, 3.0, 4.0], "g": ["a", "b", "b", "a"]})
    >>> dask_gd.fit("y ~ x + g", table).weights.feature.values.tolist()
    ['x', 'g[T.b]']

    A model for each latitude, of its own values:

    >>> run = dask_gd.fit(heat, features="co2", target="t2m", sample_dims="time")
    >>> run.weights.dims, run.intercept.values.round(6).tolist()
    (('feature', 'lat'), [300.0, 285.0, 270.0, 255.0])
    """
    # What was asked for, and of which rows.
    check_arguments(max_iter, tol, target_loss, seed)
    loss = as_loss(loss_of_family(loss, family))
    if y is None and isinstance(target, str) and has_cells(x, target, sample_dims):
        return fit_cells(
            x,
            features=features,
            target=target,
            sample_dims=sample_dims,
            loss=loss,
            penalty=penalty,
            fit_intercept=bool(fit_intercept),
            sample_weight=sample_weight,
            nan=nan,
            store=store,
            callbacks=callbacks,
            categorical=categorical,
            solver=solver,
            offset=offset,
            target_loss=target_loss,
            initial_weights=initial_weights,
            weights=weights,
        )
    stopping = Stopping(max_iter, tol, target_loss)
    penalty = as_penalty(penalty)
    data: dict[str, Any] = {"features": features, "target": target, "sample_dims": sample_dims, "nan": nan}
    source = as_source(x, y, sample_weight, offset=offset, categorical=categorical, **data)
    source = in_fit(source, penalises(penalty), fit_intercept)
    if source.formula is not None:
        fit_intercept = intercept_of(source.formula, fit_intercept)
    check_levels(initial_weights, source)
    stamps = Stamps(source)
    loss = for_targets(as_loss(loss), source)
    if isinstance(loss, Model):
        start = start_of_model(loss, source, initial_weights)
        check_features(penalty, len(start))
        solver = as_solver(solver, loss, penalty, len(start), source.row_format)
        # Its parameters are never in blocks: this refuses them where they are asked for.
        in_blocks(weights, source, loss, penalty, solver, bool(fit_intercept))
    else:
        source = with_values(source)
        outputs = classes_of(loss) or source.outputs or 1
        q = source.shape[1] + bool(fit_intercept)
        if weights == "blocks" and isinstance(solver, str) and solver == "auto":
            # The others need all weights in one place.
            solver = "lbfgs"
        solver = as_solver(solver, loss, penalty, q, source.row_format, outputs=outputs)
        if in_blocks(weights, source, loss, penalty, solver, bool(fit_intercept)):
            return fit_in_blocks(
                source,
                loss,
                penalty=penalty,
                solver=solver,
                fit_intercept=bool(fit_intercept),
                stopping=stopping,
                initial_weights=initial_weights,
                seed=seed,
                store=store,
                callbacks=callbacks,
                stamps=stamps,
            )
        # Before there is any array of their number.
        check_room(source, loss, solver, q, outputs)
        start = start_of(initial_weights, source.shape[1], outputs, fit_intercept, source.present)
        check_features(penalty, source.shape[1])
        start = within_bounds(start, source.shape[1], [penalty])

    # The fit's track, at its start or where the store has it.
    engine = Engine(source, loss)
    engine.stamps = stamps
    has_start = initial_weights is not None
    track = FitTrack(
        engine,
        penalty=penalty,
        solver=solver,
        start=start,
        seed=int(seed),
        given=has_start,
        callbacks=Callbacks((*callbacks, *watching())),
    )
    if isinstance(initial_weights, FitResult):
        go_on_smoothing(track, initial_weights.smoothing)
    begin_on_samples(track, max_iter)
    with contextlib.ExitStack() as stack:
        if store is not None:
            take(track, stack.enter_context(store if isinstance(store, Store) else Store(store)))
        # Rows in memory are given to the cluster once, and taken back in any case.
        passes.note_memory(source)
        engine.persist()
        stack.callback(engine.release)
        stack.enter_context(track.callbacks.hear_of_failure(engine.name, kind="fit"))
        stack.enter_context(exiting_on_sigterm("fit", engine.said_of_store))
        stack.enter_context(passes.passes_of("fit", engine.name, track.committed))
        return FitRun(track, stopping).run()


def check_arguments(max_iter: int, tol: float, target_loss: float | None, seed: int) -> None:
    """Refuse numbers that cannot be."""
    if not is_whole(seed, least=0):
        raise InvalidArgumentError(f"seed={seed!r}: a whole number, 0 or more.")
    if not is_whole(max_iter, least=0):
        raise InvalidArgumentError(f"max_iter={max_iter!r}: a whole number, 0 or more.")
    if not 0 <= tol < float("inf"):
        raise InvalidArgumentError(f"tol={tol!r}: a finite number, 0 or more.")
    if target_loss is not None and not -float("inf") < target_loss < float("inf"):
        raise InvalidArgumentError(f"target_loss={target_loss!r}: a finite number, or None.")
