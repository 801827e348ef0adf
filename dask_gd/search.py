"""`search`: penalties and learning rates compared on rows held out, all folds and candidates in shared passes."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import reduce
from typing import Any

import numpy as np

from . import passes
from .errors import DataError, InvalidArgumentError
from .folds import Assigned, ByFold, Folds, Unseen, apart, classes_before
from .loop import check_arguments, fit, for_targets, start_of
from .losses import Loss, Model, as_loss, classes_of
from .penalties import L1, L2, ElasticNet, Penalty, as_penalty, check_features
from .process import one_blas_thread
from .run import rounding_of
from .scores import LOSS, OfRows, score_of_rows
from .search_result import SearchResult
from .solvers import Newton, Solver, as_solver
from .sources import Source, as_source
from .sources.base import align
from .sources.columns import as_rows, check_shapes
from .sources.lazy import column as column_of
from .sources.lazy import dask_rows
from .sources.xarray import FieldRows
from .stats import BOUND, EXACT, Needs, Quadratic, Stats, combine, coupled
from .trials import ALL, Trial

logger = logging.getLogger("dask_gd")

#: What the trials of one batch may hold on the client, and what the sums of one pass may be: candidates beyond that are
#: tried after these.
BATCH_BYTES, SUMS_BYTES = 1 << 30, 64 << 20


@dataclass(frozen=True)
class Candidate:
    """A point of the grid. ``C`` is there in place of ``alpha`` where the strength depends on the weight of the rows,
    ``1 / (C sum s)``."""

    penalty: Penalty | None = None
    alpha: float | None = None
    C: float | None = None
    l1_ratio: float | None = None
    learning_rate: float | None = None

    def of(self, weight: float) -> Penalty:
        """The penalty of the mean loss over rows of so much weight."""
        if self.penalty is not None:
            return self.penalty
        assert self.C is not None
        alpha = 1.0 / (self.C * weight)
        return L2(alpha) if self.l1_ratio is None else ElasticNet(alpha, self.l1_ratio)


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
        Rows with the same number are in the same fold.
    scoring : str
        "neg_loss", the mean loss of the rows held out, without the penalty; "neg_log_loss" and "accuracy" of classes;
        "r2", "neg_mean_squared_error" and "neg_mean_absolute_error" of real targets. The greater the better, and
        weighted as the rows are.
    solver : str or Solver
        "auto", "newton", "lbfgs", "nesterov", "gradient_descent", "momentum" or "adam".
    max_iter, tol
        Of `fit`, of each trial.
    initial_weights : array or FitResult, optional
        Where all trials begin; by default Newton and L-BFGS at a fit to all rows with the middle one of the penalties,
        others at zeros.
    seed : int
        Of that fit.

    Returns
    -------
    SearchResult

    Raises
    ------
    InvalidArgumentError
        Also an empty grid, less than two folds, a scoring that does not suit the loss.
    DataError
        Also a fold without rows, or with one class left to fit.

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
    source = as_source(x, y, sample_weight, offset=offset, **data)
    loss = for_targets(as_loss(loss), source)
    if isinstance(loss, Model):
        raise InvalidArgumentError("search fits losses of linear predictions; a Model is fitted by dask_gd.fit.")
    score = score_of_rows(scoring, loss, source.outputs or 1)
    source, assigned = assigned_folds(source, folds, groups, loss)
    p, k = source.shape[1], classes_of(loss) or source.outputs or 1
    start = start_of(initial_weights, p, k, fit_intercept)
    penalties = [candidate.of(float(source.shape[0])) for candidate in candidates]
    for penalty in penalties:
        check_features(penalty, p)
    solvers = [
        _solver(solver, loss, penalty, len(start), candidate.learning_rate)
        for penalty, candidate in zip(penalties, candidates, strict=True)
    ]
    shared = Shared(source, loss, assigned, score, candidates, solvers, max_iter, tol, fit_intercept)
    if isinstance(alphas, int | np.integer):
        shared.scale_path(start)
    if initial_weights is None and not loss.quadratic and all(s.searches for s in solvers):
        middle = shared.candidates[len(candidates) // 2].of(float(source.shape[0]))
        run = fit(
            source, loss=loss, penalty=middle, solver=solver, fit_intercept=fit_intercept, tol=START_TOL, seed=seed
        )
        start = run.parameters[: len(start), :, None]
    trials = shared.run(start)
    return SearchResult.of(trials, shared, scoring)


#: A strength with which every weight is 0.
ALL_BUT_INFINITE = 1e100

#: Of the fit that the trials begin at, which need not be a minimum of any of theirs.
START_TOL = 1e-3


def candidates_of(
    alphas: Any, Cs: Any, l1_ratios: Any, penalty_grid: Any, learning_rates: Any, eps: float
) -> list[Candidate]:
    """The grid, checked. Of a path with so many alphas these are shares of the largest, see `Shared.scale_path`."""

    def numbers(name: str, given: Any, least: float, most: float = np.inf, above: bool = False) -> list[float]:
        values = np.atleast_1d(np.asarray(given, dtype=float)).ravel()
        good = (values > least if above else values >= least) & (values <= most)
        if not values.size or not good.all():
            bound = f"above {least:g}" if above else f"{least:g} or more"
            upper = f" and at most {most:g}" if most < np.inf else ""
            raise InvalidArgumentError(f"{name}={given!r}: give at least one number, each {bound}{upper}.")
        return values.tolist()

    given = [name for name, v in (("alphas", alphas), ("Cs", Cs), ("penalty_grid", penalty_grid)) if v is not None]
    if len(given) > 1:
        raise InvalidArgumentError(f"{' and '.join(given)} are alternatives; give one of them.")
    if l1_ratios is not None and given not in (["alphas"], ["Cs"]):
        raise InvalidArgumentError("l1_ratios go with alphas or Cs.")
    if not given and learning_rates is None:
        raise InvalidArgumentError("search needs candidates: alphas, Cs, penalty_grid or learning_rates.")
    ratios = [None] if l1_ratios is None else numbers("l1_ratios", l1_ratios, 0.0, 1.0)
    if isinstance(alphas, int | np.integer):
        if isinstance(alphas, bool) or alphas < 1 or not all(ratios) or not 0 < eps < 1:
            raise InvalidArgumentError(
                f"alphas={alphas!r} with l1_ratios={l1_ratios!r}, eps={eps!r}: a path has 1 or more alphas, l1_ratios "
                "above 0 (without absolute values no alpha makes every weight 0) and an eps between 0 and 1."
            )
        alphas = np.geomspace(1.0, eps, alphas)
    grid = [Candidate(L2(0.0))]
    if alphas is not None:
        values = numbers("alphas", alphas, 0.0)
        grid = [
            Candidate(L2(a) if r is None else ElasticNet(a, r), alpha=a, l1_ratio=r) for r in ratios for a in values
        ]
    elif Cs is not None:
        grid = [Candidate(C=C, l1_ratio=r) for r in ratios for C in numbers("Cs", Cs, 0.0, above=True)]
    elif penalty_grid is not None:
        grid = [Candidate(as_penalty(penalty)) for penalty in penalty_grid]
        if not grid:
            raise InvalidArgumentError("penalty_grid is empty; give at least one penalty.")
    if learning_rates is None:
        return grid
    rates = numbers("learning_rates", learning_rates, 0.0, above=True)
    return [replace(candidate, learning_rate=rate) for candidate in grid for rate in rates]


def _solver(solver: str | Solver, loss: Loss, penalty: Penalty, q: int, rate: float | None) -> Solver:
    found = as_solver(solver, loss, penalty, q)
    if getattr(found, "batch", 1.0) < 1.0 or found.name in ("admm", "local_sgd"):
        raise InvalidArgumentError(
            f"solver={solver!r}: search takes newton, lbfgs, nesterov, gradient_descent, momentum or adam."
        )
    if rate is None:
        return found
    if "learning_rate" not in {f.name for f in fields(found)}:  # type: ignore[arg-type]
        raise InvalidArgumentError(
            f"learning_rates are for solvers that have one: nesterov, gradient_descent, momentum, adam; not {found!r}."
        )
    return replace(found, learning_rate=rate)  # type: ignore[type-var]


def assigned_folds(source: Source, folds: Any, groups: Any, loss: Loss) -> tuple[Source, Assigned]:
    """The source with the column that decides, if there is one, and the rows' folds."""
    n, first, column = source.shape[0], source.bounds[0], ""
    if hasattr(folds, "split"):
        folds, groups = split(folds, source, groups), None
    given: Any = groups
    if isinstance(folds, int | np.integer) and not isinstance(folds, bool):
        folds = Folds(int(folds))
    if not isinstance(folds, Folds):
        if groups is not None:
            raise InvalidArgumentError("groups go with a number of folds; the array folds says it all.")
        if isinstance(folds, str) or not hasattr(folds, "__len__"):
            raise InvalidArgumentError(
                f"folds={folds!r}: a number, dask_gd.Folds(...), an array (n,) or a splitter of scikit-learn."
            )
        given, column = folds, "folds"
    elif groups is not None:
        if folds.by != "hash":
            raise InvalidArgumentError(f"groups are shared out by a hash; folds={folds!r} says otherwise.")
        column = "groups"
    if folds.by == "class" and not column:
        count = classes_of(loss) or (2 if loss.name in ("logistic", "hinge", "squared_hinge") else 0)
        if not count or source.nan == "drop" or isinstance(source.y, FieldRows):
            raise InvalidArgumentError(
                f"folds={folds!r} are for losses of classes, and for arrays without rows to drop; take by='hash', or "
                "give each row's fold as an array."
            )
        before = classes_before(dask_rows(column_of(source, "y")), source.bounds, count)
        return source, Assigned(folds, n, first, before=before)
    if not column:
        return source, Assigned(folds, n, first)
    rows = as_rows(given, column)
    check_shapes(source.x, source.y, **{"weight": rows})
    if column == "folds":
        largest = dask_rows(given, column).max().compute()
        folds = Folds(max(2, int(largest) + 1))
    return replace(source, fold=align(rows, source.bounds)), Assigned(folds, n, first, column)


def split(splitter: Any, source: Source, groups: Any) -> np.ndarray:
    """Each row's fold, from a splitter of scikit-learn that trains on all rows but those of the test set."""
    y = column_of(source, "y")
    if not isinstance(y, np.ndarray):
        raise InvalidArgumentError(
            f"folds={splitter!r} lists rows, for data in memory; of lazy data give dask_gd.Folds."
        )
    n = source.shape[0]
    found = np.full(n, -1)
    for f, (seen, out) in enumerate(splitter.split(np.zeros((n, 1)), y, groups)):
        if len(seen) + len(out) < n or (found[out] >= 0).any():
            raise InvalidArgumentError(
                f"folds={splitter!r}: its test sets must be disjoint, and it must train on all other rows."
            )
        found[out] = f
    return found


class Shared:
    """The passes that the trials share."""

    def __init__(
        self,
        source: Source,
        loss: Loss,
        assigned: Assigned,
        score: OfRows | None,
        candidates: list[Candidate],
        solvers: list[Solver],
        max_iter: int,
        tol: float,
        fit_intercept: bool,
    ):
        self.fit_intercept = fit_intercept
        self.source, self.loss, self.assigned, self.score = source, loss, assigned, score
        self.candidates, self.solvers, self.max_iter, self.tol = candidates, solvers, max_iter, tol
        self.count, self.name, self.passes = assigned.folds.count, uuid.uuid4().hex[:8], 0

    def run(self, start: np.ndarray) -> list[Trial]:
        """All trials, from a start (q, k, 1)."""
        if not self.passes:
            self.begin(start)
        if self.loss.quadratic:
            trials = self.without_passes(start)
        else:
            trials = [trial for batch in self.batches(start) for trial in self.together(batch, start)]
        if self.score is not None and any(np.isnan(trial.held[1]) for trial in trials):
            self.score_held(trials)
        return trials

    def begin(self, start: np.ndarray) -> None:
        """The first pass: the sums of each fold at the start."""
        self.source = passes.hold(self.source)
        needs = Needs(curvature=EXACT if self.loss.quadratic else _curvature(self.solvers, start), scale=True)
        self.folds = self.by_fold(start, needs)[0]
        self.everything = reduce(combine, self.folds)
        self.check_folds()

    def scale_path(self, start: np.ndarray) -> None:
        """Multiply the alphas with the least that makes every weight 0: the largest slope of the mean loss by a weight,
        where all are 0 and the intercept is the best, over l1_ratio (Friedman, Hastie and Tibshirani, 2010,
        "Regularization paths for generalized linear models via coordinate descent", section 2.5).
        """
        p = self.source.shape[1]
        nothing = np.zeros_like(start)
        if self.loss.quadratic:
            self.begin(start)
            sums = Quadratic(start, self.everything)(nothing)
            assert sums.curvature is not None
            h = sums.curvature[:, :, 0]
            slope = sums.gradient[:p, :, 0] - h[:p, p:] @ (sums.gradient[p:, :, 0] / h[p:, p:].reshape(-1, 1))
        else:
            without = L1(ALL_BUT_INFINITE)
            run = fit(self.source, loss=self.loss, penalty=without, fit_intercept=self.fit_intercept, tol=self.tol)
            nothing[p:] = run.parameters[p : len(start), :, None]
            sums = passes.evaluate(self.source, nothing, self.loss, Needs(), self.name, -1)
            slope = sums.gradient[:p, :, 0]
        top = float(np.abs(slope).max() / sums.weight)

        def scaled(candidate: Candidate) -> Candidate:
            assert candidate.alpha is not None
            assert candidate.l1_ratio is not None
            alpha = candidate.alpha * top / candidate.l1_ratio
            return replace(candidate, alpha=alpha, penalty=ElasticNet(alpha, candidate.l1_ratio))

        self.candidates = [scaled(candidate) for candidate in self.candidates]

    def batches(self, start: np.ndarray) -> list[list[int]]:
        """Candidates that fit in memory together."""
        q, k, _ = start.shape
        newton = any(isinstance(s, Newton) for s in self.solvers)
        each = 8 * (self.count + 1) * ((q * k) ** 2 * 3 if newton else q * k * 40)
        some = max(1, min(BATCH_BYTES // each, SUMS_BYTES // (8 * q * k * (self.count + 1))))
        n = len(self.candidates)
        if some < n:
            logger.warning("%d candidates do not fit in memory together; %d are tried at a time.", n, some)
        return [list(range(i, min(i + some, n))) for i in range(0, n, some)]

    def together(self, batch: list[int], start: np.ndarray) -> list[Trial]:
        """The trials of some candidates, in passes that they share."""
        seen = {fold: self.seen(self.folds, fold) for fold in (ALL, *range(self.count))}
        trials = [self.trial(c, fold, start, seen[fold].weight) for c in batch for fold in seen]
        # All begin at the same point, which the first pass has evaluated.
        with one_blas_thread():
            for trial in trials:
                held = np.array([[0.0], [np.nan]])
                if trial.fold != ALL:
                    held[0] = self.folds[trial.fold].loss
                trial.tell(seen[trial.fold]._replace(held=held), self.max_iter, self.tol)
        while left := [trial for trial in trials if not trial.done]:
            told = self.evaluate(left)
            with one_blas_thread():
                for trial, sums in zip(left, told, strict=True):
                    trial.tell(sums, self.max_iter, self.tol)
        return trials

    def without_passes(self, start: np.ndarray) -> list[Trial]:
        """All trials of a squared loss, from each fold's sufficient statistics.

        From the strongest penalty down, each where the one before has ended, if its solver does not depend on where it
        begins; those with L2 alone end where `ridge_path` says, if that is within ``tol``.
        """
        trials = []
        own = [Quadratic(start, part) for part in self.folds]
        for fold in (ALL, *range(self.count)):
            sums = self.seen(self.folds, fold)
            seen, at = Quadratic(start, sums), start
            penalties = [candidate.of(sums.weight) for candidate in self.candidates]
            order = np.argsort([-np.max(p.absolute()) - np.max(p.curvature()) for p in penalties], kind="stable")
            ridge = ridge_path(start, sums, self.source.shape[1], np.array([np.max(p.curvature()) for p in penalties]))
            for c in order.tolist():
                begin = start
                if self.solvers[c].searches:
                    plain = isinstance(penalties[c], L2) and not np.ndim(penalties[c].curvature())
                    begin = ridge[:, :, c, None] if plain and np.isfinite(ridge[:, :, c]).all() else at
                trial = self.trial(c, fold, begin, sums.weight)
                with one_blas_thread():
                    while not trial.done:
                        query = trial.state.query
                        held = np.full((2, query.shape[2]), np.nan)
                        held[0] = 0.0 if fold == ALL else own[fold](query).loss
                        trial.tell(seen(query)._replace(held=held), self.max_iter, self.tol)
                at = trial.state.weights if np.isfinite(trial.state.weights).all() else at
                trials.append(trial)
        return trials

    def trial(self, candidate: int, fold: int, start: np.ndarray, weight: float) -> Trial:
        solver, penalty = self.solvers[candidate], self.candidates[candidate].of(weight)
        state = solver.init(start, rounding_of(self.source))
        moments = self.everything.scale
        assert moments is not None
        width = self.source.shape[1]
        of_all = width, moments, self.everything.weight
        return Trial(candidate, fold, self.loss, penalty, solver, state, *of_all, weight)

    def evaluate(self, trials: list[Trial]) -> list[Stats]:
        """The sums at the trials' queries, in a pass; and in another one curvatures, where some are asked for."""
        queries = [trial.state.query for trial in trials]
        sizes = [query.shape[2] for query in queries]
        of = np.repeat([trial.fold for trial in trials], sizes)
        query = np.ascontiguousarray(np.concatenate(queries, axis=2))
        sums = self.read(query, Needs(kernel=Unseen(self.assigned, of, self.score)))
        assert sums.held is not None
        edges = np.cumsum([0, *sizes])
        found = []
        for i, trial in enumerate(trials):
            own = slice(edges[i], edges[i + 1])
            weight = trial.weight
            found.append(Stats(0, weight, sums.loss[own], sums.gradient[:, :, own], None, None, held=sums.held[:, own]))
        asking = [i for i, trial in enumerate(trials) if trial.solver.needs(trial.state).curvature]
        if not asking:
            return found
        # One point for all folds of a candidate: where the fit to all rows is, or any other that still runs.
        points: dict[int, Trial] = {}
        for i in reversed(asking):
            points[trials[i].candidate] = trials[i]
        numbers = {candidate: number for number, candidate in enumerate(points)}
        query = np.concatenate([trial.state.query[:, :, :1] for trial in points.values()], axis=2)
        by_fold = self.by_fold(query, Needs(curvature=EXACT))
        for i in asking:
            trial = trials[i]
            curvature = self.seen(by_fold[numbers[trial.candidate]], trial.fold).curvature
            found[i] = found[i]._replace(curvature=curvature)
        return found

    def by_fold(self, query: np.ndarray, needs: Needs) -> list[list[Stats]]:
        """For each candidate in the query (q, k, m) the sums over each fold's rows, and over those in none."""
        sums = self.read(query, needs._replace(kernel=ByFold(self.assigned)))
        parts = [coupled(part, self.loss, needs) for part in apart(sums)]
        size = self.count + 1
        return [parts[i : i + size] for i in range(0, len(parts), size)]

    def seen(self, parts: list[Stats], fold: int) -> Stats:
        """The sums over all rows but the fold's."""
        return reduce(combine, [part for f, part in enumerate(parts) if f != fold])

    def score_held(self, trials: list[Trial]) -> None:
        """Scores of trials that took no pass."""
        query = np.concatenate([trial.state.weights for trial in trials], axis=2)
        of = np.array([trial.fold for trial in trials])
        sums = self.read(query, Needs(kernel=Unseen(self.assigned, of, self.score)))
        assert sums.held is not None
        for trial, held in zip(trials, sums.held.T, strict=True):
            trial.held = held

    def read(self, query: np.ndarray, needs: Needs) -> Stats:
        self.passes += 1
        return passes.evaluate(self.source, query, self.loss, needs, self.name, self.passes, keep=self.passes > 2)

    def check_folds(self) -> None:
        """Every fold has rows, and what is left without it can be fitted."""
        for fold in range(self.count):
            if not self.folds[fold].weight > 0:
                raise DataError(f"Fold {fold} of {self.count} holds no row with a positive weight; take fewer folds.")
            seen = self.seen(self.folds, fold)
            assert seen.scale is not None
            if not seen.weight > 0:
                raise DataError(f"Without fold {fold} there is no row with a positive weight left to fit.")
            try:
                self.loss.check_target_mean(seen.scale.targets / seen.weight)
            except DataError as error:
                raise DataError(f"Without the rows of fold {fold} there is nothing to tell apart: {error}") from error


def _curvature(solvers: list[Solver], start: np.ndarray) -> str | None:
    """What the first pass must compute."""
    asked = {s.needs(s.init(start, 0.0)).curvature for s in solvers}
    return EXACT if EXACT in asked else BOUND if BOUND in asked else None


def ridge_path(start: np.ndarray, sums: Stats, p: int, strengths: np.ndarray) -> np.ndarray:
    """The minima of a squared loss with each of these L2 strengths (m,), (q, k, m), from the sums at ``start``.

    One eigendecomposition of the centred curvature serves all, as one of the singular values does in Golub, Heath and
    Wahba (1979), "Generalized cross-validation as a method for choosing a good ridge parameter". NaN where the strength
    is so small that there is no single minimum up to rounding.
    """
    assert sums.curvature is not None
    h, g, w = sums.curvature[:, :, 0] / sums.weight, sums.gradient[:, :, 0] / sums.weight, start[:, :, 0]
    # An intercept is not penalised: its best value is linear in the others.
    across = h[:p, p:] / np.sqrt(h[p:, p:]).reshape(-1)
    centred = h[:p, :p] - across @ across.T
    values, vectors = np.linalg.eigh(centred)
    slope = g[:p] - h[:p, p:] @ (g[p:] / h[p:, p:].reshape(-1, 1))
    curved = values[:, None] + strengths
    curved = np.where(curved > p * np.finfo(float).eps * values[-1], curved, np.nan)
    rotated = vectors.T @ (centred @ w[:p] - slope)
    found = np.tensordot(vectors, rotated[:, :, None] / curved[:, None], axes=1)
    moved = np.tensordot(h[p:, :p], found - w[:p, :, None], axes=1)
    intercept = w[p:, :, None] - (g[p:, :, None] + moved) / h[p:, p:].reshape(-1, 1, 1)
    return np.concatenate([found, intercept])
