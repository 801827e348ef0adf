"""The candidates of a search, from what users give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import InvalidArgumentError
from ..model.non_negative import NonNegative
from ..model.penalties import L2, ElasticNet, Penalty, as_penalty

#: What a candidate may be told apart by, and where of a penalty given as such its repr stands.
PARAMETERS = ("alpha", "C", "l1_ratio", "learning_rate", "penalty")


@dataclass(frozen=True)
class Candidate:
    """A point of the grid.

    ``C`` is there in place of ``alpha`` where the strength depends on the weight of the rows, ``1 / (C sum s)``.
    """

    penalty: Penalty | None = None
    alpha: float | None = None
    C: float | None = None
    l1_ratio: float | None = None
    learning_rate: float | None = None
    positive: bool = False

    def of(self, weight: float) -> Penalty:
        """Return the penalty of the mean loss over rows of this weight."""
        if self.penalty is not None:
            return self.penalty
        assert self.C is not None
        alpha = 1.0 / (self.C * weight)
        return _penalty_of(alpha, self.l1_ratio, self.positive)


def candidates_of(
    alphas: Any,
    Cs: Any,
    l1_ratios: Any,
    penalty_grid: Any,
    learning_rates: Any,
    eps: float,
    positive: bool = False,
) -> list[Candidate]:
    """Return the candidates of the grid, checked.

    Where ``alphas`` is a number, a path of that many, the alphas are shares of the largest: see `scale_path`.
    """
    # Which kinds of penalties there are: at most one.
    alternatives = {"alphas": alphas, "Cs": Cs, "penalty_grid": penalty_grid}
    kinds = [name for name, values in alternatives.items() if values is not None]
    if len(kinds) > 1:
        raise InvalidArgumentError(f"{' and '.join(kinds)} are alternatives; give one of them.")
    if l1_ratios is not None and kinds not in (["alphas"], ["Cs"]):
        raise InvalidArgumentError("l1_ratios go with alphas or Cs.")
    if not kinds and learning_rates is None:
        raise InvalidArgumentError("search needs candidates: alphas, Cs, penalty_grid or learning_rates.")

    # The ratios, and the alphas of a path, which needs them.
    ratios: list[Any] = [None]
    if l1_ratios is not None:
        ratios = _numbers("l1_ratios", l1_ratios, 0.0, most=1.0)
    if isinstance(alphas, int | np.integer):
        if isinstance(alphas, bool) or alphas < 1 or not all(ratios) or not 0 < eps <= 1:
            raise InvalidArgumentError(
                f"alphas={alphas!r} with l1_ratios={l1_ratios!r}, eps={eps!r}: a path has 1 or more alphas, l1_ratios "
                "above 0 (without absolute values no alpha makes every weight 0) and an eps above 0 and at most 1."
            )
        alphas = np.geomspace(1.0, eps, alphas)

    # The penalties, with the ratios on the outside.
    grid = [Candidate(_penalty_of(0.0, None, positive))]
    if alphas is not None:
        values = _numbers("alphas", alphas, 0.0)
        grid = [
            Candidate(_penalty_of(alpha, ratio, positive), alpha=alpha, l1_ratio=ratio)
            for ratio in ratios
            for alpha in values
        ]
    elif Cs is not None:
        values = _numbers("Cs", Cs, 0.0, above=True)
        grid = [Candidate(C=C, l1_ratio=ratio, positive=positive) for ratio in ratios for C in values]
    elif penalty_grid is not None:
        if positive:
            raise InvalidArgumentError("positive=True goes with alphas or Cs; give dask_gd.penalties.NonNegative.")
        grid = [Candidate(as_penalty(penalty)) for penalty in penalty_grid]
        if not grid:
            raise InvalidArgumentError("penalty_grid is empty; give at least one penalty.")

    # Each of them with every learning rate.
    if learning_rates is None:
        return grid
    rates = _numbers("learning_rates", learning_rates, 0.0, above=True)
    return [replace(candidate, learning_rate=rate) for candidate in grid for rate in rates]


def strongest_first(penalties: Sequence[Penalty]) -> list[int]:
    """Return the numbers of penalties, the strongest first, by their strengths of absolute values and squares."""
    absolute = [-np.max(penalty.absolute()) for penalty in penalties]
    squares = [np.max(penalty.curvature()) for penalty in penalties]
    return np.argsort(np.array(absolute) - np.array(squares), kind="stable").tolist()


def _penalty_of(alpha: float, l1_ratio: float | None, positive: bool) -> Penalty:
    """Return the penalty of this strength, L2 where there is no ratio."""
    if positive:
        return NonNegative(alpha, l1_ratio or 0.0)
    if l1_ratio is None:
        return L2(alpha)
    return ElasticNet(alpha, l1_ratio)


def _numbers(
    name: str,
    argument: Any,
    least: float,
    most: float = np.inf,
    above: bool = False,
) -> list[float]:
    """Return the numbers of an argument; refuse an empty one, and numbers that are out of bounds."""
    try:
        values = argument
        if not np.ndim(argument):
            values = [argument]
        numbers = np.array(values, dtype=float).ravel()
    except (TypeError, ValueError):
        numbers = np.array([np.nan])
    if above:
        good = numbers > least
        bound = f"above {least:g}"
    else:
        good = numbers >= least
        bound = f"{least:g} or more"
    good &= numbers <= most
    if not numbers.size or not good.all():
        upper = ""
        if most < np.inf:
            upper = f" and at most {most:g}"
        raise InvalidArgumentError(f"{name}={argument!r}: give at least one number, each {bound}{upper}.")
    return numbers.tolist()
