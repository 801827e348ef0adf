"""Estimators whose steps read a sample of the rows each, and which can go on with more rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state

from ..errors import DivergenceWarning, InvalidArgumentError, warn
from ..fitting.fit import fit
from ..model.penalties import L1, L2, ElasticNet, Penalty
from ..results.fit_result import FitResult
from ..solvers import SGD, GradientDescent
from ..solvers.first_order import SCHEDULES
from ..sources import Source
from ..validate import choose, positive
from .base import Estimator
from .lazy import total_weight
from .parameters import SHARE, Seeded, StrOptions, Verbose, check_parameters

#: The names of the losses that scikit-learn has; those that are served are looked up later.
LOSSES_OF_SCIKIT_LEARN = (
    "epsilon_insensitive",
    "hinge",
    "huber",
    "log_loss",
    "modified_huber",
    "perceptron",
    "squared_epsilon_insensitive",
    "squared_error",
    "squared_hinge",
)

#: A share of the partitions that rounds to all of them, but by which the fit does not take the rows for all the data.
ALL_BUT_ONE_BIT = float(np.nextafter(1.0, 0.0))

#: A pass that multiplies the loss by more than this factor is no descent.
GROWN = 10.0


@dataclass(kw_only=True, repr=False, eq=False)
class Stochastic(Seeded, Verbose, Estimator):
    """Steps of `dask_gd.SGD`: each is along the gradient over a sample of the partitions, drawn anew with the seed.

    Data of a single partition, such as data in memory up to about a MiB, have all rows in each step: gradient descent.

    Parameters
    ----------
    penalty : {"l2", "l1", "elasticnet"} or None
    alpha : float
        The factor of the penalty of the mean loss. It also determines how fast the "optimal" steps shrink.
    l1_ratio : float
        For "elasticnet": from 0 (squares only) to 1 (absolute values only).
    max_iter : int
        Passes over the data: ``max_iter / batch`` steps.
    tol : float
        Where a step reads all rows the fit may end earlier, when every component of the gradient is at most this share
        of its scale. The gradient of a sample does not show that, and all steps are taken.
    learning_rate : {"optimal", "invscaling", "constant"}
        The size of step t = 0, 1, ...: ``eta0 / (1 + alpha eta0 t)``, which is ``1 / (alpha (t + t0))``;
        ``eta0 / sqrt(1 + t)``; or ``eta0``. scikit-learn's are of the same form, but there t counts rows, and here it
        counts steps.
    eta0 : float or "auto"
        The size of the first step. "auto" is 1 / L with L a bound of the curvature on the rows of the first step, found
        in a pass over them.
    batch : float
        Share of the partitions that a step reads, above 0 and at most 1; at least one partition is read.
    random_state : int, numpy.random.RandomState or None
        The seed: the same seed gives the same bits. None is 0.
    early_stopping, average, power_t
        Served are False, False and 0.5, other values are refused. ``validation_fraction`` and ``n_iter_no_change`` are
        for early stopping.

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
    power_t: float = 0.5
    epsilon: float = 0.1
    batch: float = 0.1
    shuffle: bool = True
    early_stopping: bool = False
    validation_fraction: float = 0.1
    n_iter_no_change: int = 5
    average: bool | int = False
    # An attribute of all estimators, but no parameter of these.
    solver: Any = field(default="sgd", init=False)

    #: The coefficients and intercepts with which the present fit begins, if they are given.
    _initial = (None, None)  # type: tuple[Any, Any]

    def fit(  # type: ignore[override]
        self,
        X: Any,
        y: Any = None,
        coef_init: Any = None,
        intercept_init: Any = None,
        sample_weight: Any = None,
    ):
        """Fit to rows.

        Parameters
        ----------
        X, y, sample_weight
            As for `dask_gd.estimators.base.Estimator.fit`. The order is scikit-learn's.
        coef_init, intercept_init : arrays, optional
            The start, in the shapes of ``coef_`` and ``intercept_``.

        Returns
        -------
        self
        """
        self._initial = (coef_init, intercept_init)
        try:
            return self._fit(X, y, sample_weight)
        finally:
            del self._initial

    def _start(self, source: Source, start: FitResult | None) -> Any:
        """Return the start of the fit: what is given in place of it, (p + 1, k), or the last fit."""
        coef, intercept = self._initial
        if coef is None and intercept is None:
            return start
        outputs = source.outputs or 1
        parameters = np.zeros((source.shape[1] + 1, outputs))
        if start is not None:
            parameters[:] = start.parameters
        for name, given, place in (
            ("coef_init", coef, parameters[:-1].T),
            ("intercept_init", intercept, parameters[-1]),
        ):
            if given is None:
                continue
            values = np.asarray(given, dtype=float)
            if values.size != place.size or values.ndim > place.ndim:
                raise InvalidArgumentError(
                    f"Provided {name} does not match dataset: it has shape {values.shape}, and the fit {place.shape}."
                )
            place[:] = values.reshape(place.shape)
        return parameters[: source.shape[1] + self.fit_intercept]

    def constraints(self) -> dict[str, Any]:
        """Return what parameters may be."""
        return {
            "l1_ratio": [SHARE, None],
            "loss": [StrOptions(set(LOSSES_OF_SCIKIT_LEARN))],
        }

    def _check_served(self, in_parts: bool = False) -> None:
        """Refuse what scikit-learn's estimator does and this does not; ``in_parts`` is for `partial_fit`."""
        check_parameters(self)
        if in_parts and self.early_stopping:
            raise InvalidArgumentError("early_stopping should be False with partial_fit.")
        if self.penalty == "elasticnet" and self.l1_ratio is None:
            raise InvalidArgumentError("l1_ratio must be set when penalty is 'elasticnet'.")
        served: dict[str, tuple] = {
            "early_stopping": (False,),
            "average": (False, 0),
            "learning_rate": ("optimal", "invscaling", "constant"),
        }
        if self.learning_rate == "invscaling":
            served["power_t"] = (0.5,)
        for name, values in served.items():
            value = getattr(self, name)
            if value not in values:
                allowed = " or ".join(map(repr, values))
                raise InvalidArgumentError(
                    f"{type(self).__name__}({name}={value!r}) is not served, only {allowed}; scikit-learn's own "
                    "estimator has it, for data that fits in memory."
                )

    def _seed(self) -> int:
        """Return the seed: a whole number."""
        if self.random_state is None:
            return 0
        if isinstance(self.random_state, Integral):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _tolerance(self, source: Source) -> float:
        """Return ``tol``; without it all steps are taken."""
        if self.tol is None:
            return 0.0
        return self.tol

    def _penalty(self, total: Callable[[], float]) -> Penalty:
        # A name for each, None too, so that an unknown name is refused with the list of them.
        penalties = {
            "None": L2(0.0),
            "l2": L2(self.alpha),
            "l1": L1(self.alpha),
            "elasticnet": ElasticNet(self.alpha, self.l1_ratio or 0.0),
        }
        return choose("penalty", str(self.penalty), penalties)

    def _continue(self, X: Any, y: Any, sample_weight: Any):
        """Take one pass over rows, from where the last call ended; the first call begins at the start.

        The mean is over the weights of these rows, because no others are known.
        """
        self._check_served(in_parts=True)
        try:
            self._go_on(self._source(X, y, sample_weight, goes_on=True))
        finally:
            # An estimator does not keep rows.
            self._rows = None
        return self

    def _go_on(self, source: Source) -> None:
        """Take one pass over rows that are checked."""
        start = getattr(self, "result_", None)
        if start is not None:
            source = self._with_fitted_names(source)
        result = self._descend(source, start, passes=1)
        # Rows on another scale than those before may make the steps diverge. NaN is no descent either.
        first, last = result.history.loss.values[[0, -1]]
        if not last <= GROWN * first:
            warn(
                f"partial_fit: the loss went from {first:.3g} to {last:.3g}; eta0={self.eta0_:.3g} is too much for "
                "these rows. Scale the features alike in all calls, or give a smaller eta0.",
                DivergenceWarning,
            )
        self._set_attributes(result, source)

    def _minimise(
        self,
        source: Source,
        start: FitResult | None,
        store: Any,
    ) -> FitResult:
        """Return a fit of ``max_iter`` passes to rows that are all the data."""
        self.t_ = 0
        start = self._start(source, start)
        tol = self._tolerance(source)
        result = self._descend(source, start, self._steps(), tol=tol, store=store)
        # The gradient of a sample does not tell how far it is.
        is_known = self._batch_size(source) == source.partitions
        if is_known and tol > 0 and result.reason == "max_iter":
            warn(
                f"{type(self).__name__} took max_iter={self._steps()} passes and the gradient is still "
                f"{float(result.history.grad_norm[-1]):.1e} of its scale, above tol={tol:g}. "
                "Raise max_iter or tol, or scale the features.",
                ConvergenceWarning,
            )
        return result

    def _descend(
        self,
        source: Source,
        start: FitResult | None,
        passes: int,
        **options: Any,
    ) -> FitResult:
        """Return a fit whose steps read the rows ``passes`` times, the first of them the ``t_``-th step.

        ``options`` of the fit are passed on if the rows are all the data, and only then.
        """
        self._check_served()
        batch_size = self._batch_size(source)
        self.t_ = getattr(self, "t_", 0)
        take_steps = partial(
            fit,
            source,
            loss=self._loss(),
            penalty=self._penalty(partial(total_weight, source)),
            fit_intercept=self.fit_intercept,
            initial_weights=start,
            seed=self._seed() + self.t_,
        )
        # Rows that are not all the data may lack a class, and their gradient does not tell when to stop.
        share = min(batch_size / source.partitions, ALL_BUT_ONE_BIT)
        if self.t_ == 0:
            self.eta0_ = self._first_step(take_steps, share)
        schedule = self._schedule(self.eta0_, self.t_)
        # Where each step reads all the data there is nothing to draw, and the gradient tells when to stop.
        is_full_batch = bool(options) and batch_size == source.partitions
        if is_full_batch:
            solver = GradientDescent(**schedule)
        else:
            solver = SGD(batch=share, **schedule)
        # As many steps as cover the passes.
        steps = -(-passes * source.partitions // batch_size)
        result = take_steps(
            solver=solver,
            max_iter=steps,
            callbacks=self._all_callbacks,
            **options,
        )
        self.t_ += result.n_iter
        return result

    def _first_step(self, take_steps: Callable[..., FitResult], batch: float) -> float:
        """Return the size of the first step, by default from a fit without steps."""
        if self.eta0 == "auto":
            run = take_steps(solver=SGD(batch=batch), max_iter=0)
            return float(run.history.step_size[0])
        positive(type(self).__name__, eta0=self.eta0)  # type: ignore[arg-type]
        return float(self.eta0)

    def _schedule(self, eta0: float, t: int) -> dict[str, Any]:
        """Return the schedule from step t on, as arguments of `SGD`."""
        schedules = {
            "optimal": (self.alpha * eta0, "inverse"),
            "invscaling": (1.0, "sqrt"),
            "constant": (0.0, "constant"),
        }
        decay, name = choose("learning_rate", self.learning_rate, schedules)
        # The rest of a schedule has the same form, with a smaller first step and a slower decay.
        decayed = 1.0 + decay * t
        return {
            "learning_rate": eta0 * SCHEDULES[name](decayed),
            "decay": decay / decayed,
            "schedule": name,
        }

    def _batch_size(self, source: Source) -> int:
        """Return the number of partitions that a step reads."""
        # `SGD` checks the share.
        share = SGD(batch=self.batch).batch
        return max(1, round(share * source.partitions))

    def _set_attributes(self, result: FitResult, source: Source) -> None:
        super()._set_attributes(result, source)
        # Passes, not steps.
        self.n_iter_ = round(result.n_iter * self._batch_size(source) / source.partitions)
