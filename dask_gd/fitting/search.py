"""`search`: penalties and learning rates compared on rows held out, all folds and candidates in shared passes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from functools import partial
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from .. import passes
from ..cluster import compute
from ..dashboard.publish import watching
from ..errors import InvalidArgumentError
from ..events import Callback, Callbacks, SearchEnded
from ..model.losses import Loss, Model, as_loss, classes_of
from ..model.losses.regression import SmoothedPinball
from ..model.penalties import Penalty, check_features
from ..solvers import SOLVERS, Newton, Solver, as_solver
from ..sources import Source, as_source
from ..sources.columns import as_rows, check_shapes
from ..sources.dataset_column import DatasetColumn
from ..sources.lazy import column as column_of
from ..sources.lazy import dask_rows, label_rows, unique
from ..sources.stamps import Stamps
from ..sources.targets import with_values
from ..store.store import Store
from ..validate import choose
from .fit import check_arguments, fit, for_targets, start_of
from .folds import Assigned, Folds, classes_before
from .grid import candidates_of
from .scores import LOSS, score_of_rows
from .search_result import SearchResult
from .search_run import SearchRun
from .smoothing import smoothing_of
from .trials import warn_of_stalled

#: Of the fit that the trials begin at, which need not be a minimum of any of theirs.
START_TOL = 1e-3


def search(
    x: Any,
    y: Any = None,
    *,
    features: Sequence[str] | str | None = None,
    target: Sequence[str] | str | None = None,
    sample_dims: Sequence[str] | str | None = None,
    loss: str | Loss | tuple = "squared",
    alphas: Any = None,
    Cs: Any = None,
    l1_ratios: Any = None,
    eps: float = 1e-3,
    penalty_grid: Iterable[Penalty | None] | None = None,
    learning_rates: Any = None,
    folds: Any = 5,
    groups: Any = None,
    scoring: str = LOSS,
    solver: str | Solver = "auto",
    fit_intercept: bool = True,
    sample_weight: Any = None,
    offset: Any = None,
    nan: str = "error",
    max_iter: int = 100,
    tol: float = 1e-6,
    initial_weights: Any = None,
    seed: int = 0,
    store: str | os.PathLike | Store | None = None,
    callbacks: Iterable[Callback] = (),
) -> SearchResult:
    """Compare penalties, or learning rates, by cross-validation in shared passes.

    Each candidate is fitted to all rows but those of one fold, for each fold in turn, and scored on these. All of them
    share each reading of the data, where one more costs a column in a product, and leave it once they have converged.
    Newton's method begins them all at a fit to all rows, with curvatures of which one serves all folds: each row's
    belongs to one fold, and what a fold's fit sees is the sum of the others'. A squared loss takes a single pass for
    all of them (two, where scores need predictions).

    Parameters
    ----------
    x, y, features, target, sample_dims, sample_weight, offset, nan, fit_intercept
        Of `fit`.
    loss : str, Loss or pair of functions
        Of `fit`; no Model.
    alphas : floats or int, optional
        Candidates `L2(alpha)`, or with ``l1_ratios`` each `ElasticNet(alpha, l1_ratio)`. An int, with l1_ratios above
        0: so many from the least with which every weight is 0 down to ``eps`` times that, evenly in logarithms.
    Cs : floats, optional
        In place of alphas, scikit-learn's C: ``alpha = 1 / (C sum s)``, s being the weights of the rows that are
        fitted. Ridge's alpha is ``1 / C``.
    l1_ratios : floats, optional
    penalty_grid : penalties, optional
        Any others, None among them; not beside alphas or Cs.
    learning_rates : floats, optional
        Candidates for a first-order solver, which must be given; with each of the penalties.
    folds : int, Folds, array (n,) or splitter
        So many by a hash of the row's number; or `Folds`; or each row's fold, whole numbers from 0 on, -1 for rows that
        are never held out; or, of data in memory, a splitter of scikit-learn with disjoint test sets.
    groups : array (n,), optional
        Rows of the same group, a number or a string, are in the same fold, and folds have as many groups, up to one.
        Of a Dataset the name of a variable, or a DataArray, and so are ``folds`` row by row.
    scoring : str
        "neg_loss", the mean loss of the rows held out, without the penalty; "neg_log_loss" and "accuracy" of classes;
        "r2", "neg_mean_squared_error" and "neg_mean_absolute_error" of real targets. The greater the better, and
        weighted as the rows are.
    solver : str or Solver
        "auto", "newton", "lbfgs", "nesterov", "gradient_descent", "momentum", "adam" or "sgd", whose steps read
        the same partitions for all candidates.
    max_iter, tol
        Of `fit`, of each trial.
    initial_weights : array or FitResult, optional
        Where all trials begin; by default Newton and L-BFGS at a fit to all rows with the middle one of the penalties,
        others where `fit` begins.
    seed : int
        Of that fit, and of the partitions that SGD draws.
    store : path or Store, optional
        A directory where the trials are committed after each pass that they share; a search of the same data and
        arguments goes on from there, to the same bits. Of a squared loss there is nothing to go on from but its pass.
    callbacks : callables
        Each takes a `dask_gd.events.SearchStarted`, a `RoundEnded` after each of these passes, and a `SearchEnded`. One
        that raises `StopFit` ends the search with that error; with a store it can go on.

    Returns
    -------
    SearchResult

    Raises
    ------
    InvalidArgumentError
        Also an empty grid, less than two folds, a scoring that does not suit the loss.
    DataError
        Also a fold without rows, or with one class left to fit.
    ClusterError
        As `fit` does.

    Examples
    --------
    >>> source = dask_gd.open("data/flights.zarr", x="X", y="late", rows=slice(0, 60_000))
    >>> found = dask_gd.search(source, loss="logistic", alphas=[1e-4, 1e-2, 1.0], folds=3)
    >>> found.best["alpha"], found.scores.dims
    (0.0001, ('candidate', 'fold'))
    >>> run = found.refit()
    >>> run.converged
    True
    """
    check_arguments(max_iter, tol, None, seed)
    candidates = candidates_of(alphas, Cs, l1_ratios, penalty_grid, learning_rates, eps)
    data: dict[str, Any] = {"features": features, "target": target, "sample_dims": sample_dims, "nan": nan}
    if isinstance(x, xr.Dataset):
        # The name of a variable, or a DataArray.
        if groups is not None:
            data["fold"] = groups
        else:
            data["fold"] = folds if isinstance(folds, str | xr.DataArray) else None
    source = as_source(x, y, sample_weight, offset=offset, **data)
    stamps = Stamps(source)
    loss = for_targets(as_loss(loss), source)
    source = with_values(source)
    if isinstance(loss, Model):
        raise InvalidArgumentError("search fits losses of linear predictions; a Model is fitted by dask_gd.fit.")
    score = score_of_rows(scoring, loss, source.outputs or 1)
    source, assigned = assigned_folds(source, folds, groups, loss)
    p = source.shape[1]
    k = classes_of(loss) or source.outputs or 1
    start = start_of(initial_weights, p, k, fit_intercept)
    penalties = [candidate.of(float(source.shape[0])) for candidate in candidates]
    for penalty in penalties:
        check_features(penalty, p)
    solvers = [
        _solver(solver, loss, penalty, len(start), candidate.learning_rate)
        for penalty, candidate in zip(penalties, candidates, strict=True)
    ]
    shared = SearchRun(source, loss, assigned, score, candidates, solvers, max_iter, tol, fit_intercept, seed)
    shared.stamps = stamps
    told = shared.callbacks = Callbacks((*callbacks, *watching()))
    with contextlib.ExitStack() as stack:
        stack.callback(shared.release)
        if isinstance(alphas, int | np.integer):
            shared.scale_path(start)
        if store is not None:
            shared.open(stack.enter_context(store if isinstance(store, Store) else Store(store)), scoring)
        stack.enter_context(told.hear_of_failure(shared.name))
        stack.enter_context(passes.passes_of("search", shared.name, shared.committed))
        told.tell(shared.started())
        start = _begin(shared, start, solver, initial_weights is not None)
        trials = shared.run(start)
        warn_of_stalled(trials)
        found = SearchResult.of(trials, shared, scoring)
        best = "none"
        if not found.scores.mean("fold", skipna=False).isnull().all():
            best = f"{found.best}"
        told.tell(SearchEnded(shared.name, best, found.passes))
    return found


def _begin(shared: SearchRun, start: np.ndarray, solver: str | Solver, given: bool) -> np.ndarray:
    """Return where the trials begin, (q, k, 1), and find how they smooth a quantile's loss: as a fit to all rows."""
    loss = shared.loss
    source = shared.source
    stored = shared.stored
    smoothing = smoothing_of(loss, start.shape[1])
    smoothed = smoothing is not None
    if stored is not None:
        if smoothing is not None:
            shared.smoothed = SmoothedPinball(smoothing.quantile, stored[0].arrays["widths"][1])
        return start
    if loss.quadratic or (given and not smoothed):
        return start
    anywhere = all(s.searches for s in shared.solvers)
    options: dict[str, Any] = {"loss": loss, "fit_intercept": shared.fit_intercept}
    if anywhere or smoothed:
        middle = shared.candidates[len(shared.candidates) // 2].of(float(source.shape[0]))
        options |= {"penalty": middle, "solver": solver if anywhere else "auto", "tol": START_TOL, "seed": shared.seed}
    elif loss.curvature_bound is None:
        # As `fit` does, begin at the targets' mean.
        options["max_iter"] = 0
    else:
        return start
    run = fit(source, **options)
    if smoothing is not None:
        shared.smoothed = SmoothedPinball(smoothing.quantile, np.array(run.smoothing))
    if given or (smoothed and not anywhere):
        return start
    return run.parameters[: len(start), :, None]


def _solver(solver: str | Solver, loss: Loss, penalty: Penalty, q: int, rate: float | None) -> Solver:
    """The solver of a candidate."""
    if rate is not None:
        found = solver
        if isinstance(solver, str):
            found = choose("solver", solver, {**SOLVERS, "auto": Newton})()
        if "learning_rate" not in {f.name for f in fields(found)}:  # type: ignore[arg-type]
            raise InvalidArgumentError(
                "learning_rates are for solvers that have one: nesterov, gradient_descent, momentum, adam, sgd; not "
                f"{found!r}."
            )
        solver = replace(found, learning_rate=rate)  # type: ignore[type-var]
    found = as_solver(solver, loss, penalty, q)
    if found.name in ("admm", "local_sgd"):
        raise InvalidArgumentError(
            f"solver={solver!r}: search takes newton, lbfgs, nesterov, gradient_descent, momentum, adam or sgd."
        )
    return found


def assigned_folds(source: Source, folds: Any, groups: Any, loss: Loss) -> tuple[Source, Assigned]:
    """The source with the column that decides, if there is one, and the rows' folds."""
    n = source.shape[0]
    first = source.bounds[0]
    column = ""
    folds, groups = (np.asarray(a) if isinstance(a, list | tuple) and not _pairs(a) else a for a in (folds, groups))
    fields = None
    if isinstance(source.x, DatasetColumn):
        fields = source.x.fields
    if hasattr(folds, "get_n_splits") or _pairs(folds):
        folds = split(folds, source, groups)
        groups = None
    given: Any = groups
    if isinstance(folds, int | np.integer) and not isinstance(folds, bool):
        folds = Folds(int(folds))
    if not isinstance(folds, Folds):
        if groups is not None:
            raise InvalidArgumentError("groups go with a number of folds; the array folds says it all.")
        if not hasattr(folds, "shape") and "fold" not in source.by_role:
            raise InvalidArgumentError(
                f"folds={folds!r}: a number, dask_gd.Folds(...), an array (n,) or a splitter of scikit-learn."
            )
        given = folds
        column = "folds"
    elif groups is not None:
        if folds.by != "hash":
            raise InvalidArgumentError(f"groups are shared out by a hash; folds={folds!r} says otherwise.")
        column = "groups"
    if not column and folds.count > n:
        raise InvalidArgumentError(f"{folds.count} folds need as many rows at least; there is n_samples={n}.")
    if not column and folds.by == "class":
        count = classes_of(loss) or (2 if loss.name in ("logistic", "hinge", "squared_hinge") else 0)
        if not count or source.nan == "drop" or source.sample_dims is not None:
            raise InvalidArgumentError(
                f"folds={folds!r} are for losses of classes, and for arrays without rows to drop; take by='hash', or "
                "give each row's fold as an array."
            )
        before = classes_before(dask_rows(column_of(source, "y")), source.bounds, count)
        return source, Assigned(folds, n, first, before=before)
    if not column:
        return source, Assigned(folds, n, first, fields=fields)
    of_dataset = source.by_role.get("fold")
    if isinstance(of_dataset, DatasetColumn):
        (variable,) = of_dataset.arrays
        return source, _by_column(folds, variable, Assigned(Folds(), n, first, column))
    if fields is not None:
        raise InvalidArgumentError(f"{column} beside a Dataset: the name of a variable, or a DataArray.")
    if column == "groups":
        given = coded_groups(given)
    rows = as_rows(given, column)
    check_shapes(source.x, source.y, **{"weight": rows})
    source = source.with_columns(fold=rows.aligned(source.bounds))
    return source, _by_column(folds, dask_rows(given, column), Assigned(Folds(), n, first, column))


def coded_groups(groups: Any) -> Any:
    """Return numbers for groups that are strings, their places among the sorted ones; a reduction where they are lazy.

    Groups that are numbers are returned as they are.
    """
    values = label_rows(groups, "groups")
    if values.dtype.kind not in "OU":
        return groups
    known = unique(values)
    if isinstance(values, da.Array):
        return da.map_blocks(partial(np.searchsorted, known), values, dtype=int)
    return np.searchsorted(known, values)


def _pairs(folds: Any) -> bool:
    """A list of pairs of train and test rows."""
    return isinstance(folds, list) and all(isinstance(f, tuple) for f in folds)


def _by_column(folds: Any, values: da.Array, assigned: Assigned) -> Assigned:
    """With as many folds as a column of them says, or all the groups that one holds: a reduction over it."""
    if assigned.column == "folds":
        wanted = values.max()
    else:
        wanted = da.unique(values.ravel())
    [found] = compute(wanted, what=f"the values of {assigned.column}")
    found = np.atleast_1d(found)
    if not np.isfinite(found).all():
        raise InvalidArgumentError(f"{assigned.column} holds NaN or infinity; give each row a number.")
    if assigned.column == "folds":
        return assigned._replace(folds=Folds(max(2, int(found[0]) + 1)))
    if len(found) < folds.count:
        raise InvalidArgumentError(
            f"groups has {len(found)} different ones; {folds.count} folds need as many at least."
        )
    return assigned._replace(folds=folds, groups=found.astype(float))


def split(splitter: Any, source: Source, groups: Any) -> np.ndarray:
    """Each row's fold, from a splitter of scikit-learn that trains on all rows but those of the test set."""
    y = column_of(source, "y")
    if not isinstance(y, np.ndarray):
        raise InvalidArgumentError(
            f"folds={splitter!r} lists rows, for data in memory; of lazy data give dask_gd.Folds."
        )
    n = source.shape[0]
    found = np.full(n, -1)
    for f, (seen, out) in enumerate(splitter if _pairs(splitter) else splitter.split(y, y, groups)):
        if len(seen) + len(out) < n or (found[out] >= 0).any():
            raise InvalidArgumentError(
                f"folds={splitter!r}: its test sets must be disjoint, and it must train on all other rows."
            )
        found[out] = f
    return found
