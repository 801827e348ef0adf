"""The candidates of a search, from what users give."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import InvalidArgumentError
from ..model.penalties import L2, ElasticNet, Penalty, as_penalty

#: What a candidate may be told apart by, and where of a penalty given as such its repr stands.
PARAMETERS = ("alpha", "C", "l1_ratio", "learning_rate", "penalty")


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
        if self.l1_ratio is None:
            return L2(alpha)
        return ElasticNet(alpha, self.l1_ratio)


def candidates_of(
    alphas: Any, Cs: Any, l1_ratios: Any, penalty_grid: Any, learning_rates: Any, eps: float
) -> list[Candidate]:
    """The grid, checked. Of a path with so many alphas these are shares of the largest, see `Shared.scale_path`."""

    def numbers(name: str, given: Any, least: float, most: float = np.inf, above: bool = False) -> list[float]:
        try:
            values = np.array(given if np.ndim(given) else [given], dtype=float).ravel()
        except (TypeError, ValueError):
            values = np.array([np.nan])
        good = (values > least if above else values >= least) & (values <= most)
        if not values.size or not good.all():
            if above:
                bound = f"above {least:g}"
            else:
                bound = f"{least:g} or more"
            upper = ""
            if most < np.inf:
                upper = f" and at most {most:g}"
            raise InvalidArgumentError(f"{name}={given!r}: give at least one number, each {bound}{upper}.")
        return values.tolist()

    given = [name for name, v in (("alphas", alphas), ("Cs", Cs), ("penalty_grid", penalty_grid)) if v is not None]
    if len(given) > 1:
        raise InvalidArgumentError(f"{' and '.join(given)} are alternatives; give one of them.")
    if l1_ratios is not None and given not in (["alphas"], ["Cs"]):
        raise InvalidArgumentError("l1_ratios go with alphas or Cs.")
    if not given and learning_rates is None:
        raise InvalidArgumentError("search needs candidates: alphas, Cs, penalty_grid or learning_rates.")
    if l1_ratios is None:
        ratios: list[Any] = [None]
    else:
        ratios = numbers("l1_ratios", l1_ratios, 0.0, 1.0)
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
