"""What stochastic descent watches from pass to pass: when to stop or to slow down, and the mean of the weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from sklearn.model_selection import ShuffleSplit, StratifiedShuffleSplit
from sklearn.utils import _safe_indexing, check_consistent_length

from ..errors import InvalidArgumentError
from ..events import IterationEnded, Listener, Stepped, StopFit
from ..preprocessing import train_test_split
from ..results.fit_result import FitResult
from ..sources import Source
from ..sources.lazy import is_lazy

#: The size of a step below which "adaptive" steps stop getting smaller, and the factor by which they do, as in
#: scikit-learn.
LEAST_STEP = 1e-6
SLOWER = 5.0

#: The reason of a fit that `Improvement` has ended.
NO_CHANGE = "no_change"


class Data(NamedTuple):
    """Features, targets and weights as a user gives them; weights may be None."""

    X: Any
    y: Any
    weight: Any


def held_out(
    data: Data,
    fraction: float,
    random_state: Any,
    seed: Callable[[], int],
    stratified: bool,
) -> tuple[Data, Data]:
    """Return the rows to fit and those to validate with.

    Rows in memory are split as in scikit-learn, by class where ``stratified``. Lazy rows are split by a hash of their
    number, and stay lazy.
    """
    if isinstance(data.X, Source):
        raise InvalidArgumentError(
            "early_stopping=True splits the rows, which a Source does not allow; give the arrays X and y."
        )
    columns = [column for column in data if column is not None]
    if is_lazy(*columns):
        parts = train_test_split(*columns, test_size=fraction, seed=seed())
        sides = [parts[::2], parts[1::2]]
    else:
        check_consistent_length(*columns)
        splitter: Any = ShuffleSplit
        if stratified:
            splitter = StratifiedShuffleSplit
        rows = len(data.y)
        split = splitter(test_size=fraction, random_state=random_state).split(np.zeros((rows, 1)), data.y)
        sides = []
        for numbers in next(split):
            in_order = np.sort(numbers)
            sides.append([_safe_indexing(column, in_order) for column in columns])
        if data.weight is not None and not np.any(sides[1][-1]):
            raise InvalidArgumentError(
                "The sample weights for validation set are all zero, consider using a different random state."
            )
    fit, validation = (Data(*side, *[None] * (3 - len(side))) for side in sides)
    return fit, validation


class Improvement(Listener):
    """Ends a fit when a number of passes in a row have not made it better by a tolerance.

    ``score`` gives the score of a fit on rows held out. Without it the mean loss of a pass, negative, is the score: of
    the rows of its steps, each as it was before the step.
    """

    def __init__(
        self,
        steps: int,
        tol: float,
        passes: int,
        score: Callable[[FitResult], float] | None,
    ):
        self.steps = steps
        self.tol = tol
        self.passes = passes
        self.score = score
        self.best = -np.inf
        #: Passes without an improvement, in a row.
        self.without = 0
        self.losses: list[float] = []

    def slow_down(self) -> None:
        """Begin to count anew, with smaller steps."""
        self.without = 0
        self.losses = []

    def stepped(self, event: Stepped) -> None:
        """Look at the end of each pass whether it has made the fit better."""
        if not isinstance(event, IterationEnded):
            return
        if event.iteration > 0 and event.iteration % self.steps == 0:
            self._look(event)
        # The loss at the weights before the next step.
        self.losses.append(event.loss)

    def _look(self, event: IterationEnded) -> None:
        """Compare the score of a pass with the best before it."""
        if self.score is None:
            score = -float(np.mean(self.losses[-self.steps :]))
        else:
            score = self.score(event.result)
        if score < self.best + self.tol:
            self.without += 1
        else:
            self.without = 0
        self.best = max(self.best, score)
        if self.without >= self.passes:
            raise StopFit(NO_CHANGE)


class Averaged(Listener):
    """The mean of the weights after each step, from the step on with which this number of rows have been seen."""

    def __init__(self, begin: int, rows_of_step: float, rows: float, count: int, mean: np.ndarray | None):
        self.begin = begin
        self.rows_of_step = rows_of_step
        self.rows = rows
        self.count = count
        self.mean = mean

    def stepped(self, event: Stepped) -> None:
        """Add the weights after a step."""
        if not isinstance(event, IterationEnded) or event.iteration == 0:
            return
        self.rows += self.rows_of_step
        if self.rows < self.begin:
            return
        parameters = event.result.parameters
        self.count += 1
        if self.mean is None:
            self.mean = np.zeros_like(parameters)
        self.mean = self.mean + (parameters - self.mean) / self.count
