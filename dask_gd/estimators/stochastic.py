"""Estimators whose steps read a sample of the rows each, and which can go on with more rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.base import is_classifier
from sklearn.exceptions import ConvergenceWarning

from ..errors import DivergenceWarning, InvalidArgumentError, warn
from ..model.penalties import L1, L2, ElasticNet, Penalty
from ..results.fit_result import FitResult
from ..sources import Source
from ..validate import choose
from .base import Estimator
from .descent import Data, held_out
from .parameters import SHARE, Seeded, StrOptions, Verbose, check_parameters
from .steps import Descending

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

#: The learning rates of scikit-learn that are served.
SERVED_RATES = ("adaptive", "constant", "invscaling", "optimal")

#: A pass that multiplies the loss by more than this factor is no descent.
GROWN = 10.0


@dataclass(kw_only=True, repr=False, eq=False)
class Stochastic(Descending, Seeded, Verbose, Estimator):
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
    learning_rate : {"optimal", "invscaling", "constant", "adaptive"}
        The size of step t = 0, 1, ...: ``eta0 / (1 + alpha eta0 t)``, which is ``1 / (alpha (t + t0))``;
        ``eta0 / sqrt(1 + t)``; or ``eta0``. scikit-learn's are of the same form, but there t counts rows, and here it
        counts steps. "adaptive" is ``eta0`` until ``n_iter_no_change`` passes in a row have not lowered the mean loss
        by ``tol``, or raised the score with ``early_stopping``; then a fifth of it, and so on. The fit ends where steps
        would fall below 1e-6.
    eta0 : float or "auto"
        The size of the first step. "auto" is 1 / L with L a bound of the curvature on the rows of the first step, found
        in a pass over them.
    batch : float
        Share of the partitions that a step reads, above 0 and at most 1; at least one partition is read.
    random_state : int, numpy.random.RandomState or None
        The seed: the same seed gives the same bits. None is 0.
    early_stopping : bool
        Hold out ``validation_fraction`` of the rows, and end the fit when ``n_iter_no_change`` passes in a row have not
        raised the score on them by ``tol``. Rows in memory are split as in scikit-learn, lazy ones by a hash of their
        number. The last weights are kept, as there.
    average : bool or int
        Set ``coef_`` and ``intercept_`` to the mean of the weights after each step; a number is that of the rows seen
        with which the mean begins. ``result_`` has the last weights, from which `partial_fit` goes on.
    power_t : float
        Served is 0.5, for "invscaling".

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
        data = Data(X, y, sample_weight)
        try:
            if self.early_stopping:
                self._check_served()
                data, self._validation = held_out(
                    data,
                    fraction=self.validation_fraction,
                    random_state=self.random_state,
                    seed=self._seed,
                    stratified=is_classifier(self),
                )
            return self._fit(*data)
        finally:
            # An estimator does not keep rows.
            del self._initial
            self._validation = None

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
        owner = type(self).__name__
        check_parameters(self)
        if in_parts and self.early_stopping:
            raise InvalidArgumentError("early_stopping should be False with partial_fit.")
        if self.penalty == "elasticnet" and self.l1_ratio is None:
            raise InvalidArgumentError("l1_ratio must be set when penalty is 'elasticnet'.")
        choose("learning_rate", self.learning_rate, {name: None for name in SERVED_RATES})
        if self.learning_rate == "invscaling" and self.power_t != 0.5:
            raise InvalidArgumentError(
                f"{owner}(power_t={self.power_t!r}) is not served, only 0.5; scikit-learn's own estimator has it, for "
                "data that fits in memory."
            )
        if self.store is not None and (self.average or self._is_watched):
            raise InvalidArgumentError(
                f"{owner}(store=...): a fit that went on from a store would not know the passes before; leave out "
                "average, early_stopping and learning_rate='adaptive', or the store."
            )

    @property
    def _is_watched(self) -> bool:
        """Whether the passes decide about the steps, or about the end."""
        return self.early_stopping or self.learning_rate == "adaptive"

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
        self._rows_seen = 0.0
        self._average_count = 0
        self._average = None
        start = self._start(source, start)
        if self._is_watched:
            return self._descend_watched(source, start)
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

    def _set_attributes(self, result: FitResult, source: Source) -> None:
        super()._set_attributes(result, source)
        # Passes, not steps.
        self.n_iter_ = round(result.n_iter * self._batch_size(source) / source.partitions)
        if self._is_watched and self._passes:
            self.n_iter_ = self._passes
        if self.average and self._average is not None:
            averages = self._average.astype(self.coef_.dtype)
            self._set_coefficients(averages[:-1].T, averages[-1], len(source.y.shape) == 2)
