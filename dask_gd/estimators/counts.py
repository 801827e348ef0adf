"""Estimators of counts and amounts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import d2_tweedie_score

from ..errors import InvalidArgumentError
from ..model.losses import Gamma, Poisson, Squared, Tweedie
from ..model.penalties import L2, Penalty
from ..sources.coercion import checkable
from ..sources.lazy import is_lazy
from .lazy import explained, to_score
from .offset import TakesOffset
from .parameters import Verbose
from .regression import Penalised


@dataclass(kw_only=True, repr=False, eq=False)
class DevianceRegressor(Verbose, TakesOffset, Penalised):
    """A generalised linear model: it minimises the mean of half the deviance, plus ``alpha / 2 sum(w^2)``."""

    solvers_of_scikit_learn = ("lbfgs", "newton-cholesky")

    def predict(self, X: Any, offset: Any = None) -> Any:
        """Return the mean of the target for each row, (n,): Dask, not computed, for Dask, Zarr and Source.

        ``offset`` is the offset (n,) of the rows, if they have one.
        """
        self._warn_without_offset(X, offset, "predict")
        return self._predicted(X, offset=offset)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        # A negative target tells whether the loss restricts its targets. The parameters may be invalid: `fit` says so.
        try:
            refused = self._loss().bad_target(np.array([-1.0]))
            tags.target_tags.positive_only = refused is not None
        except InvalidArgumentError:
            tags.target_tags.positive_only = False
        return tags

    def _penalty(self, total: Callable[[], float]) -> Penalty:
        # scikit-learn's alpha is for the mean of half the deviance too.
        return L2(self.alpha)

    def score(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        offset: Any = None,
    ) -> float:
        """Return D^2, the share of the deviance explained, as scikit-learn defines it.

        It is a share of the deviance from the targets' mean, which knows no offset. For lazy rows it takes reductions.
        """
        self._warn_without_offset(X, offset, "score")
        loss = self._loss()
        if not is_lazy(X, y, sample_weight, offset):
            # The squared loss has no power: it is a Tweedie deviance of power 0.
            power = getattr(loss, "power", 0)
            y = checkable(y, "y")
            weight = checkable(sample_weight, "sample_weight")
            return d2_tweedie_score(y, self._predicted(X, offset=offset), sample_weight=weight, power=power)
        # The loss takes linear predictions.
        z = self._predicted(X, Squared(), offset)
        return explained(loss, *to_score(X, z, y, sample_weight))


class PoissonRegressor(DevianceRegressor):
    """Counts of mean ``exp(x w + b)``.

    It minimises the mean of half their Poisson deviance, plus ``alpha / 2 sum(w^2)``.

    alpha means the same as scikit-learn's, with row weights too.

    Other parameters, and the attributes, are those of `dask_gd.estimators.base.Estimator`.

    Parameters
    ----------
    alpha : float

    Examples
    --------
    >>> from dask_gd.estimators import PoissonRegressor
    >>> model = PoissonRegressor(alpha=0.0).fit([[0.0], [1.0], [2.0]], [1, 2, 4])
    >>> model.predict([[3.0]]).round(6).tolist()
    [8.0]
    """

    def _loss(self) -> Any:
        return Poisson()


class GammaRegressor(DevianceRegressor):
    """Positive amounts of mean ``exp(x w + b)``.

    It minimises the mean of half their Gamma deviance, plus ``alpha / 2 sum(w^2)``.

    alpha means the same as scikit-learn's, with row weights too.

    Other parameters, and the attributes, are those of `dask_gd.estimators.base.Estimator`.

    Parameters
    ----------
    alpha : float

    Examples
    --------
    >>> from dask_gd.estimators import GammaRegressor
    >>> model = GammaRegressor(alpha=0.0).fit([[0.0], [1.0], [2.0]], [1.5, 3.0, 6.0])
    >>> model.predict([[3.0]]).round(6).tolist()
    [12.0]
    """

    def _loss(self) -> Any:
        return Gamma()


@dataclass(kw_only=True, repr=False, eq=False)
class TweedieRegressor(DevianceRegressor):
    """Targets of variance ``mean^power``.

    It minimises the mean of half their Tweedie deviance, plus ``alpha / 2 sum(w^2)``.

    alpha means the same as scikit-learn's, with row weights too. Power 0 (the squared error) has the identity as link,
    powers from 1 to 2 the logarithm; other powers and links are refused.

    Other parameters, and the attributes, are those of `dask_gd.estimators.base.Estimator`.

    Parameters
    ----------
    power : float
        0, 1 (Poisson) to 2 (Gamma).
    alpha : float
    link : {"auto", "identity", "log"}

    Examples
    --------
    >>> from dask_gd.estimators import TweedieRegressor
    >>> model = TweedieRegressor(power=1.5, alpha=0.0).fit([[0.0], [1.0], [2.0]], [1.5, 3.0, 6.0])
    >>> model.predict([[3.0]]).round(6).tolist()
    [12.0]
    """

    power: float = 0.0
    alpha: float = 1.0
    link: str = "auto"

    def _loss(self) -> Any:
        power = self.power
        is_number = isinstance(power, int | float | np.number)
        if not (is_number and (power == 0 or 1 <= power <= 2)):
            raise InvalidArgumentError(f"TweedieRegressor(power={power!r}): 0, or from 1 to 2.")
        # The power determines the link.
        link = "log" if power else "identity"
        if self.link not in ("auto", link):
            raise InvalidArgumentError(
                f"TweedieRegressor(power={power!r}, link={self.link!r}): choose 'auto' or {link!r}; "
                "power 0 is served with the identity as link, 1 to 2 with the logarithm."
            )
        # Power 0 is the normal distribution.
        if power:
            return Tweedie(float(power))
        return Squared()
