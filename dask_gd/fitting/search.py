"""`search`: penalties and learning rates compared on rows held out, all folds and candidates in shared passes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from .. import passes
from ..dashboard.publish import watching
from ..errors import InvalidArgumentError
from ..events import Callback, Callbacks, SearchEnded
from ..interrupt import exiting_on_sigterm
from ..model.losses import Loss, Model, as_loss, classes_of
from ..model.non_negative import within_bounds
from ..model.penalties import Penalty, penalises
from ..solvers import Solver
from ..sources import Source, as_source
from ..sources.categories import Categories
from ..sources.formula.grammar import is_formula
from ..sources.frames import column_named, frame_of
from ..sources.levels_in_fit import in_fit
from ..sources.stamps import Stamps
from ..sources.targets import with_values
from ..store.store import Store
from .alpha_path import scale_path
from .block_search import search_in_blocks, solvers_in_blocks
from .fit import check_arguments
from .fold_assignment import assign_folds
from .fold_track import warn_of_stalled
from .grid import candidates_of
from .of_targets import for_targets
from .score_summaries import OfPredictions
from .scores import LOSS, score_of
from .search_engine import SearchEngine, check_room_for_predictions
from .search_joining import joined, stores_of
from .search_result import SearchResult
from .search_run import SearchRun
from .search_solvers import solvers_of
from .search_start import begin
from .start import start_of
from .track import Stopping


def search(
    x: Any,
    y: Any = None,
    *,
    features: Sequence[str] | str | None = None,
    target: Sequence[str] | str | None = None,
    sample_dims: Sequence[str] | str | None = None,
    categorical: Sequence[str] | Categories | None = None,
    loss: str | Loss | tuple = "squared",
    alphas: Any = None,
    Cs: Any = None,
    l1_ratios: Any = None,
    eps: float = 1e-3,
    positive: bool = False,
    penalty_grid: Iterable[Penalty | None] | None = None,
    learning_rates: Any = None,
    folds: Any = 5,
    groups: Any = None,
    scoring: str | OfPredictions = LOSS,
    solver: str | Solver = "auto",
    fit_intercept: bool = True,
    sample_weight: Any = None,
    offset: Any = None,
    nan: str = "error",
    max_iter: int = 100,
    tol: float = 1e-6,
    initial_weights: Any = None,
    seed: int = 0,
    weights: str = "auto",
    store: str | os.PathLike | Store | None = None,
    callbacks: Iterable[Callback] = (),
) -> SearchResult:
    """Compare penalties, or learning rates, by cross-validation in shared passes.

    Each candidate is fitted to all rows but those of one fold, for each fold in turn, and scored on these. All of them
    share each reading of the data, where one more costs a column in a product, and leave it once they have converged.
    Newton's method begins them all at the minimum of a sample, or at a fit to all rows, with curvatures of which one
    serves all folds: each row's belongs to one fold, and what a fold's fit sees is the sum of the others'. Its last
    steps are taken without a look where it is foretold that they end within ``tol``. A squared loss takes a single pass
    for all of them (two, where scores need predictions).

    Parameters
    ----------
    x, y, features, target, sample_dims, categorical, sample_weight, offset, nan, fit_intercept
        As for `fit`. The factors of a data frame have a reference level if no candidate has a penalty.
    loss : str, Loss or pair of functions
        As for `fit`; no Model.
    alphas : floats or int, optional
        Candidates `L2(alpha)`, or with ``l1_ratios`` each `ElasticNet(alpha, l1_ratio)`. An int, with l1_ratios above
        0: a path of this many alphas from the least with which every weight is 0 down to ``eps`` times that, evenly in
        logarithms.
    Cs : floats, optional
        In place of alphas, scikit-learn's C: ``alpha = 1 / (C sum s)``, s being the weights of the rows that are
        fitted. Ridge's alpha is ``1 / C``.
    l1_ratios : floats, optional
    positive : bool
        Keep all weights at 0 or above, in all candidates: `dask_gd.penalties.NonNegative`.
    penalty_grid : penalties, optional
        Any others, None among them; not beside alphas or Cs.
    learning_rates : floats, optional
        Candidates for a first-order solver, which must be given; with each of the penalties.
    folds : int, Folds, array (n,) or splitter
        The number of folds, shared out by a hash of the row's number; or `Folds`; or each row's fold, whole numbers
        from 0 on, -1 for rows that are never held out; or, of data in memory, a splitter of scikit-learn; or a list of
        splits, pairs of the numbers of the rows to fit and of those held out. Splits whose test sets overlap, or that
        leave out rows, take a search each, or for each set of them with disjoint test sets, one after the other; in
        ``data`` they are folds in their order.
    groups : array (n,), optional
        Rows of the same group, a number or a string, are in the same fold, and folds have as many groups, up to one.
        Of a Dataset the name of a variable, or a DataArray, and so are ``folds`` row by row; of a data frame the name
        of a column.
    scoring : str or callable
        "neg_loss", the mean loss of the rows held out, without the penalty. Of classes "accuracy", "neg_log_loss" and
        "neg_brier_score"; "balanced_accuracy", "matthews_corrcoef", and "precision", "recall", "f1" and "jaccard", of
        the second of two classes, or as averages over all classes with "_macro", "_micro" and "_weighted"; of two
        classes "roc_auc" and "average_precision". Of numbers "r2", "explained_variance", "neg_max_error",
        "neg_mean_squared_error", "neg_root_mean_squared_error", "neg_mean_absolute_error" and
        "neg_mean_absolute_percentage_error"; of counts and amounts "neg_mean_poisson_deviance" and
        "neg_mean_gamma_deviance" too. They are scikit-learn's, the greater the better, and weighted as the rows are.

        Where the passes of the fits do not have it, the score takes a pass after them. The areas under the curves are
        exact up to 2^18 different predictions in a fold; beyond that neighbouring ones are joined, and
        ``scores.attrs["error"]`` bounds the error.

        A function is called for each candidate and fold with the targets (n,) or (n, k) of the fold's rows, their
        linear predictions of the same shape (of several classes (n, classes)) and their weights (n,) or None; it
        returns a number, the greater the better. These are in the memory of this process, in the order of the rows, but
        never the features.
    solver : str or Solver
        "auto", "newton", "lbfgs", "nesterov", "gradient_descent", "momentum", "adam" or "sgd", whose steps read
        the same partitions for all candidates.
    max_iter, tol
        As for `fit`, for each of its fits.
    initial_weights : array or FitResult, optional
        Where all fits begin; by default Newton and L-BFGS at a fit to all rows, or to a sample, with the middle one of
        the penalties, others where `fit` begins.
    seed : int
        Of that fit and its samples, and of the partitions that SGD draws.
    weights : {"auto", "whole", "blocks"}
        As for `fit`. In blocks the fits are made one at a time, for each fold from the strongest penalty on, each from
        the weights of the one before; then the best candidate alone is fitted to all rows. With a store each fit goes
        on from its last iteration, and the weights of all of them stay there.
    store : path or Store, optional
        A directory where the fits are committed after each pass that they share; a search of the same data and
        arguments goes on from there, to the same bits. Of a squared loss there is nothing to go on from but its pass.
        Of splits that take several searches a path, with a directory for each.
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
    # The arguments that can be checked without the rows.
    check_arguments(max_iter, tol, None, seed)
    candidates = candidates_of(
        alphas=alphas,
        Cs=Cs,
        l1_ratios=l1_ratios,
        penalty_grid=penalty_grid,
        learning_rates=learning_rates,
        eps=eps,
        positive=positive,
    )

    # The rows.
    if is_formula(x):
        raise InvalidArgumentError(
            f"search({x!r:.60}, ...): a search takes no formula; give features= and target=, or fit the formula."
        )
    x, folds, groups = _folds_in_frame(x, folds, groups)
    source = as_source(
        x,
        y,
        sample_weight,
        offset=offset,
        features=features,
        target=target,
        sample_dims=sample_dims,
        nan=nan,
        fold=_fold_column(x, folds, groups),
        categorical=categorical,
    )
    is_penalised = any(penalises(candidate.of(float(source.shape[0]))) for candidate in candidates)
    source = in_fit(source, is_penalised, fit_intercept)
    stamps = Stamps(source)
    loss = _loss_of(loss, source)
    source = with_values(source)
    score = score_of(scoring, loss, source.outputs or 1, "score_weight" in source.by_role)
    assigned = assign_folds(source, folds, groups, loss)
    is_path = isinstance(alphas, int | np.integer)

    # Weights in blocks never are in one place, and their fits share no passes.
    in_blocks = solvers_in_blocks(weights, source, loss, candidates, solver, bool(fit_intercept))
    if in_blocks is not None:
        return search_in_blocks(
            assigned,
            scoring,
            is_path=is_path,
            store=store,
            loss=loss,
            candidates=candidates,
            solvers=in_blocks,
            stopping=Stopping(max_iter, tol),
            fit_intercept=bool(fit_intercept),
            initial_weights=initial_weights,
            seed=int(seed),
            callbacks=Callbacks((*callbacks, *watching())),
            stamps=stamps,
        )

    # A search for each set of splits, or the only one.
    start = start_of(initial_weights, source.shape[1], classes_of(loss) or source.outputs or 1, fit_intercept)
    start = within_bounds(start, source.shape[1], (candidate.of(1.0) for candidate in candidates))
    stores = stores_of(store, len(assigned))
    has_start = initial_weights is not None
    results = []
    for with_folds, own_store in zip(assigned, stores, strict=True):
        count = with_folds.assignment.folds.count
        check_room_for_predictions(score.summary, loss, source, count)
        solvers = solvers_of(solver, loss, candidates, start, with_folds.source, count)
        engine = SearchEngine(
            source=with_folds.source,
            loss=loss,
            assignment=with_folds.assignment,
            score=score,
            candidates=candidates,
            solvers=solvers,
            stopping=Stopping(max_iter, tol),
            fit_intercept=fit_intercept,
            seed=seed,
        )
        engine.stamps = stamps
        run = SearchRun(engine, Callbacks((*callbacks, *watching())), score.name)
        results.append(_run(run, start, own_store, solver, is_path=is_path, has_start=has_start))
    return joined(results, [with_folds.splits for with_folds in assigned])


def _loss_of(loss: str | Loss | tuple, source: Source) -> Loss:
    """Return the loss for the targets of a source; refuse a model, whose predictions are not linear."""
    of_targets = for_targets(as_loss(loss), source)
    if isinstance(of_targets, Model):
        raise InvalidArgumentError("search fits losses of linear predictions; a Model is fitted by dask_gd.fit.")
    return of_targets


def _folds_in_frame(x: Any, folds: Any, groups: Any) -> tuple[Any, Any, Any]:
    """Return data, folds and groups, with columns in the place of their names where the data is a frame."""
    if not isinstance(groups, str) and not isinstance(folds, str):
        return x, folds, groups
    frame = frame_of(x)
    if frame is None:
        return x, folds, groups
    return frame, column_named(frame, folds, "folds"), column_named(frame, groups, "groups")


def _fold_column(x: Any, folds: Any, groups: Any) -> Any:
    """Return what is a column of the source beside a Dataset: the name of a variable, or a DataArray."""
    if not isinstance(x, xr.Dataset):
        return None
    if groups is not None:
        return groups
    if isinstance(folds, str | xr.DataArray):
        return folds
    return None


def _run(
    run: SearchRun,
    start: np.ndarray,
    store: str | os.PathLike | Store | None,
    solver: str | Solver,
    is_path: bool,
    has_start: bool,
) -> SearchResult:
    """Return the result of a search, and tell its callbacks and the dashboard of it as it goes."""
    engine = run.engine
    # Whatever happens, the workers drop what they keep, the store is closed and the callbacks hear of a failure.
    with contextlib.ExitStack() as stack:
        stack.callback(engine.release)
        if is_path:
            scale_path(engine, start)
        if store is not None:
            if not isinstance(store, Store):
                store = Store(store)
            run.open(stack.enter_context(store))
        stack.enter_context(run.callbacks.hear_of_failure(engine.name, kind="search"))
        stack.enter_context(exiting_on_sigterm("search", engine.said_of_store))
        stack.enter_context(passes.passes_of("search", engine.name, run.committed))
        run.callbacks.tell(run.started())

        # From a fit to all rows to the end of all tracks.
        start = begin(run, start, solver, has_start)
        tracks = run.run(start)
        warn_of_stalled(tracks)

        # Where every candidate diverged in some fold there is no best.
        result = SearchResult.of(tracks, engine, run.scoring)
        best = "none"
        means = result.scores.mean("fold", skipna=False)
        if not means.isnull().all():
            best = f"{result.best}"
        run.callbacks.tell(SearchEnded(engine.name, best, result.passes, result.full_passes))
    return result
