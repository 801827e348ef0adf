"""Estimators that take steps on some of the rows each, and can go on with more rows."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import _check_partial_fit_first_call

from ..errors import DivergenceWarning, InvalidArgumentError, choose, positive
from ..fitting.fit import fit
from ..model.losses import Hinge, Huber, Logistic, Squared, SquaredHinge
from ..model.penalties import L1, L2, ElasticNet, Penalty
from ..results.fit_result import FitResult
from ..solvers import SGD, GradientDescent
from ..solvers.first_order import SCHEDULES
from ..sources import Source
from .base import Estimator
from .classification import Classifier, rowwise, two_classes
from .lazy import total_weight
from .regression import Regressor

#: A share of the partitions that is all of them, of a fit that is not told that these are all the data.
ALL_BUT_ONE_BIT = float(np.nextafter(1.0, 0.0))

#: A pass that leaves more than so many times the loss that it began with has not been one of descent.
GROWN = 10.0


@dataclass(kw_only=True, repr=False, eq=False)
class Stochastic(Estimator):
    """Steps of `dask_gd.SGD`: each is along the gradient over some of the partitions, drawn anew with the seed.

    What is one partition, as data in memory up to about a MiB, has all its rows in each step: gradient descent.

    Parameters
    ----------
    penalty : {"l2", "l1", "elasticnet"} or None
    alpha : float
        What the penalty of the mean loss is multiplied with; and how fast the "optimal" steps shrink.
    l1_ratio : float
        Of "elasticnet": from 0 (squares only) to 1 (absolute values only).
    max_iter : int
        Passes over the data: ``max_iter / batch`` steps.
    tol : float
        Where a step reads all rows the fit may end earlier, when every component of the gradient is at most this share
        of its scale. Of some rows the gradient tells no such thing, and all steps are taken.
    learning_rate : {"optimal", "invscaling", "constant"}
        How large step t = 0, 1, ... is: ``eta0 / (1 + alpha eta0 t)``, which is ``1 / (alpha (t + t0))``;
        ``eta0 / sqrt(1 + t)``; or ``eta0``. scikit-learn's are of the same form, with t counting rows, where here it
        counts steps.
    eta0 : float or "auto"
        The first step. "auto" is 1 / L with L a bound of the curvature on the rows of the first step, found in a pass
        over them.
    batch : float
        Share of the partitions that a step reads, above 0 and at most 1; at least one is read.
    random_state : int
        The seed: the same one gives the same bits.

    Attributes
    ----------
    n_iter_ : int
        Passes over the data, in the last call.
    t_ : int
        Steps taken since the last `fit`, or the first `partial_fit`.
    eta0_ : float
        The first step's size.
    """

    penalty: str | None = "l2"
    alpha: float = 0.0001
    l1_ratio: float = 0.15
    tol: float | None = 1e-3
    learning_rate: str = "optimal"
    eta0: float | str = "auto"
    batch: float = 0.1
    random_state: int = 0
    # No parameter.
    solver: Any = field(default="sgd", init=False)

    def _penalty(self, total: Callable[[], float]) -> Penalty:
        penalties = {
            "None": L2(0.0),
            "l2": L2(self.alpha),
            "l1": L1(self.alpha),
            "elasticnet": ElasticNet(self.alpha, self.l1_ratio),
        }
        return choose("penalty", str(self.penalty), penalties)

    def _more(self, X: Any, y: Any, sample_weight: Any):
        """One pass over rows, from where the last call ended; the first one begins. The mean is over the weights of
        these rows, which are all that is known."""
        source = self._source(X, y, sample_weight, more=True)
        if hasattr(self, "result_"):
            source = self._as_before(source)
        result = self._descend(source, getattr(self, "result_", None), 1)
        first, last = result.history.loss.values[[0, -1]]
        if not last <= GROWN * first:
            warnings.warn(
                f"partial_fit: the loss went from {first:.3g} to {last:.3g}; eta0={self.eta0_:.3g} is too much for "
                "these rows. Scale the features alike in all calls, or give a smaller eta0.",
                DivergenceWarning,
                stacklevel=3,
            )
        self._take(result, source)
        return self

    def _minimise(self, source: Source, start: FitResult | None, store: Any) -> FitResult:
        self.t_ = 0
        return self._descend(source, start, self.max_iter, tol=self._tolerance(source), store=store)

    def _descend(self, source: Source, start: FitResult | None, passes: int, **options: Any) -> FitResult:
        """Steps that read the rows so many times, the first of them the ``t_``-th."""
        owner = type(self).__name__
        size = self._size(source)
        for name, number in (("random_state", self.random_state), ("max_iter", passes)):
            if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < 0:
                raise InvalidArgumentError(f"{owner}({name}={number!r}): a whole number, 0 or more.")
        self.t_ = getattr(self, "t_", 0)
        steps = partial(
            fit,
            source,
            loss=self._loss(),
            penalty=self._penalty(partial(total_weight, source)),
            fit_intercept=self.fit_intercept,
            initial_weights=start,
            seed=int(self.random_state) + self.t_,
        )
        # Rows that are not all there will be may lack a class, and their gradient does not tell when to stop.
        share = min(size / source.partitions, ALL_BUT_ONE_BIT)
        if self.t_ == 0:
            self.eta0_ = self._first_step(steps, share)
        schedule = self._schedule(self.eta0_, self.t_)
        whole = bool(options) and size == source.partitions
        if whole:
            solver = GradientDescent(**schedule)
        else:
            solver = SGD(batch=share, **schedule)
        result = steps(solver=solver, max_iter=-(-passes * source.partitions // size), callbacks=self._told, **options)
        self.t_ += result.n_iter
        return result

    def _first_step(self, steps: Callable[..., FitResult], batch: float) -> float:
        if self.eta0 == "auto":
            return float(steps(solver=SGD(batch=batch), max_iter=0).history.step_size[0])
        positive(type(self).__name__, eta0=self.eta0)  # type: ignore[arg-type]
        return float(self.eta0)

    def _schedule(self, eta0: float, t: int) -> dict[str, Any]:
        """As `SGD` takes it, from step t on: the rest of a schedule is one of the same form."""
        schedules = {
            "optimal": (self.alpha * eta0, "inverse"),
            "invscaling": (1.0, "sqrt"),
            "constant": (0.0, "constant"),
        }
        decay, name = choose("learning_rate", self.learning_rate, schedules)
        fallen = 1.0 + decay * t
        return {"learning_rate": eta0 * SCHEDULES[name](fallen), "decay": decay / fallen, "schedule": name}

    def _size(self, source: Source) -> int:
        """Partitions that a step reads."""
        return max(1, round(SGD(batch=self.batch).batch * source.partitions))

    def _take(self, result: FitResult, source: Source) -> None:
        super()._take(result, source)
        self.n_iter_ = round(result.n_iter * self._size(source) / source.partitions)


@dataclass(kw_only=True, repr=False, eq=False)
class SGDClassifier(Stochastic, Classifier):
    """Classes by stochastic gradient descent: the mean loss plus
    ``alpha (l1_ratio sum(abs(w)) + (1 - l1_ratio) / 2 sum(w^2))`` is approached.

    The objective is scikit-learn's, but that the hinge's corner is rounded (see `dask_gd.Hinge`) and that the mean is
    over the sum of the row weights, times those of the classes. Of more than two classes each is told from the rest,
    all in the same passes; class weights are then the rows' weights for each of them.

    Other parameters, and the attributes, are those of `dask_gd.estimators.stochastic.Stochastic` and
    `dask_gd.estimators.base.Estimator`; and ``classes_``.

    Parameters
    ----------
    loss : {"hinge", "log_loss", "squared_hinge"}
        With "log_loss" there is `predict_proba`.
    class_weight : dict, "balanced" or None

    Examples
    --------
    >>> from dask_gd.estimators import SGDClassifier
    >>> model = SGDClassifier().fit([[0.0], [1.0], [2.0], [3.0]], ["no", "no", "yes", "yes"])
    >>> model.predict([[0.5], [2.5]]).tolist()
    ['no', 'yes']
    """

    loss: str = "hinge"

    multiclass = True

    def partial_fit(self, X: Any, y: Any = None, classes: Any = None, sample_weight: Any = None):
        """One pass over rows, from where the last call ended; the steps' sizes go on from there too.

        Parameters
        ----------
        X, y, sample_weight
            As of `fit`. ``store`` is for `fit` only.
        classes : array-like (classes,)
            All there will be; for the first call.

        Returns
        -------
        self
        """
        if self.class_weight == "balanced":
            raise InvalidArgumentError(
                "partial_fit: class_weight='balanced' needs all rows; give the weights, as a dict or as sample_weight."
            )
        if _check_partial_fit_first_call(self, classes):
            self._take_classes(self.classes_, more=False)
        return self._more(X, y, sample_weight)

    def _loss(self) -> Any:
        return choose("loss", self.loss, {"hinge": Hinge, "log_loss": Logistic, "squared_hinge": SquaredHinge})()

    def _targets(self, y: Any, codes: Any) -> Any:
        k = len(self.classes_)
        if k == 2:
            return super()._targets(y, codes)
        return rowwise(partial(_indicators, classes=k), codes, float, k)

    @available_if(lambda self: self.loss == "log_loss")
    def predict_proba(self, X: Any) -> Any:
        """The probability of each class, (n, classes), with the log loss: of more than two, each one's over their
        sum. Dask, not computed, for Dask, Zarr and Source."""
        return self._probability(self.decision_function(X), _each_over_sum)

    @available_if(lambda self: self.loss == "log_loss")
    def predict_log_proba(self, X: Any) -> Any:
        """Their logarithms, (n, classes)."""
        return np.log(self.predict_proba(X))


def _each_over_sum(z: np.ndarray) -> np.ndarray:
    if z.ndim == 1:
        return two_classes(z)
    # So that they do not all vanish.
    share = Logistic().inverse_link(np.maximum(z, -700.0))
    return share / share.sum(axis=1, keepdims=True)


@dataclass(kw_only=True, repr=False, eq=False)
class SGDRegressor(Stochastic, Regressor):
    """Real targets by stochastic gradient descent: the mean loss plus
    ``alpha (l1_ratio sum(abs(w)) + (1 - l1_ratio) / 2 sum(w^2))`` is approached.

    The objective is scikit-learn's, but that the mean is over the sum of the row weights.

    Other parameters, and the attributes, are those of `dask_gd.estimators.stochastic.Stochastic` and
    `dask_gd.estimators.base.Estimator`.

    Parameters
    ----------
    loss : {"squared_error", "huber"}
        ``(y - x w - b)^2 / 2``; which for "huber" goes on straight beyond ``epsilon``.
    epsilon : float
        In the target's units.

    Examples
    --------
    >>> from dask_gd.estimators import SGDRegressor
    >>> model = SGDRegressor().fit([[-1.0], [0.0], [1.0]], [1.0, 3.0, 5.0])
    >>> model.coef_.round(2).tolist(), round(float(model.intercept_), 2)
    ([2.0], 3.0)
    """

    loss: str = "squared_error"
    epsilon: float = 0.1

    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None):
        """One pass over rows, from where the last call ended; the steps' sizes go on from there too.

        Parameters
        ----------
        X, y, sample_weight
            As of `fit`. ``store`` is for `fit` only.

        Returns
        -------
        self
        """
        return self._more(X, y, sample_weight)

    def _loss(self) -> Any:
        return choose("loss", self.loss, {"huber": Huber(self.epsilon), "squared_error": Squared()})


def _indicators(codes: np.ndarray, classes: int) -> np.ndarray:
    """Return 1 in the column of each row's class, else 0, (n, classes); NaN for a row whose code is NaN."""
    rows = np.vstack([np.eye(classes), np.full(classes, np.nan)])
    return rows[np.nan_to_num(codes, nan=classes).astype(int)]
