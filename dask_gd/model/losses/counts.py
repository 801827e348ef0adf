"""Losses of counts and amounts, whose mean is ``exp(z)``: half the unit deviance of a Tweedie model.

The deviance compares a prediction with the best possible prediction, ``z = log y``. It is 0 there and never negative,
and it is written so that nothing cancels near there. It has no bound of its curvature. Its exponentials overflow for
predictions beyond 700; a solver takes the infinite loss as a step too far.

Jorgensen, "Exponential dispersion models", 1987.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real

import numpy as np

from ...errors import DataError, InvalidArgumentError

#: Predictions up to which exponentials neither overflow nor lose digits.
FINITE = 700.0


@dataclass(frozen=True)
class Tweedie:
    """Half the Tweedie deviance of a target of mean ``exp(z)`` and variance ``mean^power``.

    ``exp((2 - power) z) / (2 - power) - y exp((1 - power) z) / (1 - power)``, but for a term that depends on y alone.
    scikit-learn's ``TweedieRegressor`` minimises the same, with ``L2(alpha)``.

    Parameters
    ----------
    power : float
        Between 1, a Poisson model, and 2, a Gamma model, where the loss is convex. Between them a target is 0 with a
        positive probability and positive otherwise: rain, or the cost of an insured in a year.

    Examples
    --------
    >>> value, slope = Tweedie(1.5).value_and_slope(np.log([1.0, 4.0]), np.array([1.0, 1.0]))
    >>> value.round(12).tolist(), slope.round(12).tolist()
    ([0.0, 1.0], [0.0, 1.5])
    """

    power: float = 1.5
    name = "tweedie"
    target_kind = "amount"
    quadratic = False
    smooth = True
    curvature_bound = None

    def __post_init__(self):
        if not (isinstance(self.power, Real) and 1 <= self.power <= 2):
            raise InvalidArgumentError(
                f"Tweedie(power={self.power!r}): from 1 to 2, where the loss is convex; power 0 is the squared loss."
            )

    def __repr__(self) -> str:
        return {1.0: "Poisson()", 2.0: "Gamma()"}.get(self.power, f"Tweedie(power={self.power})")

    @property
    def targets(self) -> str:
        """The targets that are allowed, in words."""
        if self.power < 2:
            return "numbers of 0 or more"
        return "numbers above 0"

    @property
    def likelihood(self) -> str:
        """Whether the dispersion is known: it is 1 for counts of Poisson's distribution."""
        if self.power == 1:
            return "known dispersion"
        return "estimated dispersion"

    def value_and_slope(self, z, y):
        """Return half the deviance, and ``exp((2 - power) z) - y exp((1 - power) z)``."""
        a = 2.0 - self.power
        b = self.power - 1.0
        is_positive = y > 0
        all_positive = is_positive.all()
        safe_y = y
        if not all_positive:
            safe_y = np.where(is_positive, y, 1.0)
        log_y = np.log(safe_y)
        # With d = z - log y, 0 for the best prediction, both are sums of exp - 1 of multiples of d, times y^a. A term
        # divided by its exponent tends to d or -d where the exponent tends to 0.
        d = z - log_y
        if b == 0:
            rising = np.expm1(d)
            value = safe_y * (rising - d)
            slope = safe_y * rising
        elif a == 0:
            falling = np.expm1(-d)
            value = d + falling
            slope = -falling
        else:
            rising = np.expm1(a * d)
            falling = np.expm1(-b * d)
            scale = np.exp(a * log_y)
            value = scale * (rising / a + falling / b)
            slope = scale * (rising - falling)
        if all_positive:
            return value, slope
        # For a target of 0 both are multiples of exp(a z).
        at_zero = np.exp(a * z)
        value = np.where(is_positive, value, at_zero / a)
        slope = np.where(is_positive, slope, at_zero)
        return value, slope

    def saturated(self, y):
        """Return the part of the loss that y alone has, up to multiples of y.

        It is ``- y^(2 - power) / ((2 - power) (power - 1))``, and ``y log y`` and ``- log y`` at the ends.
        """
        a = 2.0 - self.power
        b = self.power - 1.0
        if b == 0:
            return y * np.log(np.where(y > 0, y, 1.0))
        if a == 0:
            return -np.log(y)
        return -(y**a) / (a * b)

    def log_likelihood_base(self, y):
        """Return what the log likelihood of each target has beside its deviance, but for terms of the dispersion.

        For Poisson's it is the logarithm of the probability of y where the mean is y, for Gamma's ``- log y``. For
        powers between there is no closed form, and it is NaN.
        """
        if self.power == 1:
            # Not imported at the top: a fit has no need of it.
            from scipy.special import gammaln

            return self.saturated(y) - y - gammaln(y + 1.0)
        if self.power == 2:
            return -np.log(y)
        return np.full(np.shape(y), np.nan)

    def log_likelihood_of(self, deviance, base, n, dispersion):
        """Return the log likelihood of n targets from the sums of their deviance and of `log_likelihood_base`."""
        found = base - 0.5 * deviance / dispersion
        if self.power == 1:
            return found
        from scipy.special import gammaln

        # Gamma's distribution with this shape.
        shape = 1.0 / dispersion
        return found + n * (shape * np.log(shape) - shape - gammaln(shape))

    def curvature(self, z, y):
        """Return ``(2 - power) exp((2 - power) z) + (power - 1) y exp((1 - power) z)``."""
        a = 2.0 - self.power
        b = self.power - 1.0
        if b == 0:
            return np.exp(z)
        if np.abs(z).max(initial=0.0) < FINITE:
            of_target = b * np.maximum(y, 0.0) * np.exp(-b * z)
        else:
            # Not y times an exponential, which would be 0 times infinity.
            is_positive = y > 0
            log_y = np.where(is_positive, np.log(np.where(is_positive, y, 1.0)), -np.inf)
            of_target = b * np.exp(log_y - b * z)
        if a == 0:
            return of_target
        return a * np.exp(a * z) + of_target

    def inverse_link(self, z):
        """Return ``exp(z)``, the mean of the target."""
        return np.exp(z)

    def link(self, mean):
        """Return ``log(mean)``."""
        return np.log(mean)

    def bad_target(self, y):
        """Return where the target is negative, or 0 if 0 has no probability."""
        if self.power < 2:
            return y < 0
        return y <= 0

    def check_target_mean(self, mean):
        """Refuse data that is 0 throughout: its intercept would be minus infinity."""
        if np.any(mean <= 0):
            raise DataError(f"The {self.name} loss needs a target above 0; every target with a positive weight is 0.")


def Poisson() -> Tweedie:
    """Return ``Tweedie(1)``, half the Poisson deviance of counts of mean ``exp(z)``.

    scikit-learn's ``PoissonRegressor`` minimises it.

    Examples
    --------
    >>> value, slope = Poisson().value_and_slope(np.log([3.0, 3.0]), np.array([3.0, 0.0]))
    >>> value.round(12).tolist(), slope.round(12).tolist()
    ([0.0, 3.0], [0.0, 3.0])
    """
    return Tweedie(1.0)


def Gamma() -> Tweedie:
    """Return ``Tweedie(2)``, half the Gamma deviance of positive amounts of mean ``exp(z)``.

    scikit-learn's ``GammaRegressor`` minimises it.

    Examples
    --------
    >>> value, slope = Gamma().value_and_slope(np.array([0.0]), np.array([1.0]))
    >>> value.tolist(), slope.tolist()
    ([0.0], [0.0])
    """
    return Tweedie(2.0)
