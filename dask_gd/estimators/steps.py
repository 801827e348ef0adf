"""The steps of stochastic descent: their sizes, the fits that take them, and what is averaged over them."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from functools import partial
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state

from ..errors import warn
from ..events import Listener
from ..fitting.fit import fit
from ..results.fit_result import FitResult
from ..solvers import SGD, GradientDescent
from ..solvers.first_order import SCHEDULES
from ..sources import Source
from ..validate import choose, positive
from .descent import LEAST_STEP, NO_CHANGE, SLOWER, Averaged, Data, Improvement
from .lazy import total_weight

#: A share of the partitions that rounds to all of them, but by which the fit does not take the rows for all the data.
ALL_BUT_ONE_BIT = float(np.nextafter(1.0, 0.0))


class Descending:
    """The part of an estimator that descends in steps, whose parameters `stochastic.Stochastic` has."""

    alpha: float
    average: bool | int
    batch: float
    eta0: float | str
    fit_intercept: bool
    learning_rate: str
    n_iter_no_change: int
    random_state: Any
    tol: float | None

    # What `stochastic.Stochastic` has besides.
    _all_callbacks: Any
    _check_served: Any
    _is_watched: Any
    _loss: Any
    _penalty: Any
    _set_attributes: Any
    _steps: Any
    score: Any
    t_: int

    #: The rows that the present fit is validated with.
    _validation = None  # type: Data | None

    #: The size of the present fit's steps with "adaptive".
    _step = 0.0  # type: float

    #: The passes of the present fit, over all sizes of steps.
    _passes = 0  # type: int

    #: What is averaged: the rows seen, the weights in the mean, and the mean (p + 1, k).
    _rows_seen = 0.0  # type: float
    _average_count = 0  # type: int
    _average = None  # type: np.ndarray | None

    def _seed(self) -> int:
        """Return the seed: a whole number."""
        if self.random_state is None:
            return 0
        if isinstance(self.random_state, Integral):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _descend_watched(self, source: Source, start: Any) -> FitResult:
        """Return a fit of ``max_iter`` passes at most, whose steps or end follow from what passes have gained."""
        score = None
        if self._validation is not None:
            score = partial(self._validated_score, source=source, validation=self._validation)
        tol = -np.inf
        if self.tol is not None:
            tol = self.tol
        steps_of_pass = -(-source.partitions // self._batch_size(source))
        improvement = Improvement(steps_of_pass, tol, self.n_iter_no_change, score)

        # A fit for each size of steps.
        self._step = 0.0
        passes_left = self._steps()
        passes = 0
        while True:
            result = self._descend(source, start, passes_left, watching=(improvement,), tol=0.0)
            taken = -(-result.n_iter // steps_of_pass)
            passes += taken
            passes_left -= taken
            has_stalled = result.reason == NO_CHANGE
            if self.learning_rate != "adaptive" or not has_stalled or passes_left <= 0 or self._step <= LEAST_STEP:
                break
            self._step /= SLOWER
            improvement.slow_down()
            start = result
        if self.tol is not None and result.reason == "max_iter":
            warn(
                f"{type(self).__name__} took max_iter={self._steps()} passes before n_iter_no_change="
                f"{self.n_iter_no_change} passes in a row gained less than tol={tol:g}. Raise max_iter or tol.",
                ConvergenceWarning,
            )
        self._passes = passes
        return result

    def _validated_score(self, result: FitResult, source: Source, validation: Data) -> float:
        """Return the score of a fit on the rows held out."""
        fitted = copy(self)
        fitted.average = False
        fitted._set_attributes(result, source)
        # Rows held out have the names of those that are fitted.
        return fitted.score(validation.X, validation.y, sample_weight=validation.weight)

    def _descend(
        self,
        source: Source,
        start: FitResult | None,
        passes: int,
        watching: tuple[Listener, ...] = (),
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
        if not self._step:
            self._step = self.eta0_
        schedule = self._schedule(self.eta0_, self.t_)
        # Where each step reads all the data there is nothing to draw, and the gradient tells when to stop.
        is_full_batch = bool(options) and batch_size == source.partitions
        if is_full_batch:
            solver = GradientDescent(**schedule)
        else:
            solver = SGD(batch=share, **schedule)
        # As many steps as cover the passes.
        steps = -(-passes * source.partitions // batch_size)
        averaged = None
        if self.average:
            averaged = Averaged(
                begin=int(self.average),
                rows_of_step=source.shape[0] * batch_size / source.partitions,
                rows=self._rows_seen,
                count=self._average_count,
                mean=self._average,
            )
            watching = (averaged, *watching)
        result = take_steps(
            solver=solver,
            max_iter=steps,
            callbacks=(*watching, *self._all_callbacks),
            **options,
        )
        self.t_ += result.n_iter
        if averaged is not None:
            self._rows_seen = averaged.rows
            self._average_count = averaged.count
            self._average = averaged.mean
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
            "adaptive": (0.0, "constant"),
        }
        if self.learning_rate == "adaptive":
            eta0 = self._step
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
