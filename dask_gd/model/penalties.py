"""Penalties on the weights. They never see data and never touch the intercept.

Each takes the coefficients ``w`` of shape (p, k, m), candidate last, without the intercept's row.
"""

from __future__ import annotations

import hashlib
import reprlib
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from numbers import Real
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ..errors import InvalidArgumentError
from ..validate import choose
from .prox import NonSmooth, Prox
from .strength import Strength, by_feature, check_strength, shown


@runtime_checkable
class Penalty(Protocol):
    """A smooth part, which has a gradient, and a nonsmooth part, which has corners.

    The nonsmooth part is a sum of norms, with a corner at 0: `absolute` says of what strength. The norms are the
    absolute values of the weights. If the penalty has an attribute ``groups``, a label for each feature, they are the
    norms of all the weights with the same label.

    A penalty with another nonsmooth part has a method ``nonsmooth(p, q)``, which returns that part as a `Prox` on the
    first p of q parameters; the others are intercepts. Its `absolute` returns 0. An attribute ``orthants = True`` says
    that the part is linear where no weight changes its sign, so that L-BFGS serves it; its `Prox.free` then says which
    parameters it leaves alone.

    Examples
    --------
    Weights below 0 cost alpha times their size, and others nothing:

    >>> class NegativePart(dask_gd.penalties.Prox):
    ...     def __init__(self, alpha, p, q):
    ...         self.alpha = alpha * (np.arange(q) < p)[:, None, None]
    ...     def value(self, u):
    ...         return (self.alpha * np.maximum(-u, 0.0)).sum(axis=(0, 1))
    ...     def prox(self, u, rate):
    ...         return np.where(u > 0, u, np.minimum(u + rate * self.alpha, 0.0))
    ...     def steepest(self, u, gradient):
    ...         at_zero = np.clip(0.0, gradient - self.alpha, gradient)
    ...         return np.where(u > 0, gradient, np.where(u < 0, gradient - self.alpha, at_zero))
    >>> class Negative:
    ...     name = "negative"
    ...     def __init__(self, alpha):
    ...         self.alpha = alpha
    ...     def value(self, w):
    ...         return self.nonsmooth(len(w), len(w)).value(w)
    ...     def gradient(self, w):
    ...         return np.zeros_like(w)
    ...     def curvature(self):
    ...         return 0.0
    ...     def absolute(self):
    ...         return 0.0
    ...     def nonsmooth(self, p, q):
    ...         return NegativePart(self.alpha, p, q)
    >>> x = np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 1.0], [3.0, 0.0]])
    >>> run = dask_gd.fit(x, np.array([0.0, 3.0, 4.0, 7.0]), penalty=Negative(10.0))
    >>> run.weights.values.round(4).tolist()
    [2.2, 0.0]
    """

    name: str

    def value(self, w: np.ndarray) -> np.ndarray:
        """Return the whole penalty, (m,)."""
        ...

    def gradient(self, w: np.ndarray) -> np.ndarray:
        """Return the gradient of the smooth part, (p, k, m)."""
        ...

    def curvature(self) -> float | np.ndarray:
        """Return the diagonal of the smooth part's Hessian, which has nothing else: a number, or (p,)."""
        ...

    def absolute(self) -> float | np.ndarray:
        """Return the factor of the norm of each weight's group: a number, or (p,).

        It is 0 for a smooth penalty, and for a penalty with a nonsmooth part of its own.
        """
        ...


@dataclass(frozen=True, repr=False)
class L2:
    """``alpha / 2 * ||w||^2``, added to the *mean* loss (ridge, weight decay).

    scikit-learn's ``Ridge(alpha=a)`` is ``L2(a / n)`` with n the sum of the row weights, and
    ``LogisticRegression(C=c)`` is ``L2(1 / (n c))``.

    Parameters
    ----------
    alpha : float or array-like (p,)
        Strength, at least 0: a number for all features, or a number for each feature.

    Examples
    --------
    >>> L2(0.5).value(np.array([[[2.0]]])).tolist()
    [1.0]
    >>> L2([0.5, 0.0]).gradient(np.array([[[2.0]], [[3.0]]])).ravel().tolist()
    [1.0, 0.0]
    """

    alpha: Strength
    name = "l2"
    __repr__ = shown

    def __post_init__(self):
        # The only change of the frozen field: to the value that was checked.
        object.__setattr__(self, "alpha", check_strength("L2", self.alpha))

    def value(self, w):
        """Return ``alpha / 2 * sum(w^2)`` over features and outputs, shape (m,)."""
        # The gradient is ``alpha * w``.
        return 0.5 * np.einsum("pkm,pkm->m", self.gradient(w), w)

    def gradient(self, w):
        """Return ``alpha * w``, shape (p, k, m)."""
        return by_feature(self.alpha) * w

    def curvature(self):
        """Return ``alpha``."""
        return np.array(self.alpha)

    def absolute(self):
        """Return 0: the penalty is smooth."""
        return 0.0


@dataclass(frozen=True, repr=False)
class ElasticNet:
    """``alpha (l1_ratio ||w||_1 + (1 - l1_ratio) / 2 ||w||^2)``, added to the *mean* loss (Zou and Hastie, 2005).

    scikit-learn's ``ElasticNet(alpha=a, l1_ratio=r)`` minimises the same, its ``LogisticRegression(C=c, l1_ratio=r)``
    with a = 1 / (n c). ``||w||_1`` makes weights exactly 0.

    Parameters
    ----------
    alpha : float or array-like (p,)
        Strength, at least 0: a number for all features, or a number for each feature (Zou, 2006, the adaptive lasso).
    l1_ratio : float
        Share of the absolute values, from 0 to 1.

    Examples
    --------
    >>> ElasticNet(2.0, l1_ratio=0.25).value(np.array([[[2.0]], [[-2.0]]])).tolist()
    [8.0]
    """

    alpha: Strength
    l1_ratio: float = 0.5
    name = "elastic_net"
    __repr__ = shown

    def __post_init__(self):
        object.__setattr__(self, "alpha", check_strength("ElasticNet", self.alpha))
        if not (isinstance(self.l1_ratio, Real) and 0 <= self.l1_ratio <= 1):
            raise InvalidArgumentError(f"ElasticNet(l1_ratio={self.l1_ratio!r}): l1_ratio must be from 0 to 1.")
        object.__setattr__(self, "l1_ratio", float(self.l1_ratio))

    def value(self, w):
        """Return the penalty, summed over features and outputs, shape (m,)."""
        absolute_values = self.l1_ratio * np.abs(w)
        squares = 0.5 * (1.0 - self.l1_ratio) * w * w
        terms = by_feature(self.alpha) * (absolute_values + squares)
        return terms.sum(axis=(0, 1))

    def gradient(self, w):
        """Return the gradient of the squares, ``alpha (1 - l1_ratio) w``, shape (p, k, m)."""
        return by_feature(self.alpha) * (1.0 - self.l1_ratio) * w

    def curvature(self):
        """Return the second derivative of the squares, ``alpha (1 - l1_ratio)``."""
        return np.array(self.alpha) * (1.0 - self.l1_ratio)

    def absolute(self):
        """Return the factor of the absolute values, ``alpha l1_ratio``."""
        return np.array(self.alpha) * self.l1_ratio


def L1(alpha: Any) -> ElasticNet:
    """Return ``ElasticNet(alpha, l1_ratio=1)``: ``alpha ||w||_1``, added to the *mean* loss (Tibshirani, 1996, lasso).

    scikit-learn's ``Lasso(alpha=a)`` minimises the same. ``alpha`` may be an array with a number for each feature.

    Examples
    --------
    >>> L1(0.5).value(np.array([[[2.0]], [[-3.0]]])).tolist()
    [2.5]
    """
    return ElasticNet(alpha, 1.0)


@dataclass(frozen=True, repr=False)
class GroupLasso:
    """``alpha sum_g sqrt(p_g) ||w_g||``, added to the *mean* loss (Yuan and Lin, 2006): weights are 0 by groups.

    ``w_g`` are the ``p_g`` weights of a group, such as the weights of the categories of a variable. Each output has
    groups of its own. `Newton` and `Nesterov` serve it.

    Parameters
    ----------
    alpha : float
        Strength, at least 0.
    groups : array-like (p,)
        A label for each feature, numbers or strings. A feature alone in its group is penalised as by `L1`.

    Examples
    --------
    >>> penalty = GroupLasso(0.5, groups=["carrier", "carrier", "distance"])
    >>> penalty.value(np.array([[[3.0]], [[4.0]], [[-1.0]]])).round(4).tolist()
    [4.0355]
    """

    alpha: float
    groups: tuple
    name = "group_lasso"
    __repr__ = shown

    def __post_init__(self):
        alpha = check_strength("GroupLasso", self.alpha)
        # Labels are Python's own values, in a tuple, so that penalties can be compared and hashed.
        labels = self.groups
        if hasattr(labels, "__array__"):
            labels = np.asarray(labels).tolist()
        if isinstance(labels, Iterable) and not isinstance(labels, str):
            labels = tuple(labels)
        else:
            labels = ()
        # NaN equals no label, not even itself.
        are_labels = all(isinstance(label, Hashable) and label == label for label in labels)
        if isinstance(alpha, tuple) or not labels or not are_labels:
            raise InvalidArgumentError(
                f"GroupLasso(groups={reprlib.repr(self.groups)}): alpha must be one number for all groups, and groups "
                "a label for each feature, a number or a string."
            )
        object.__setattr__(self, "alpha", alpha)
        object.__setattr__(self, "groups", labels)

    def value(self, w):
        """Return the penalty, summed over groups and outputs, shape (m,)."""
        return nonsmooth(self, len(w), len(w)).value(w)

    def gradient(self, w):
        """Return 0: there is no smooth part."""
        return np.zeros_like(w)

    def curvature(self):
        """Return 0: there is no smooth part."""
        return 0.0

    def absolute(self):
        """Return ``alpha sqrt(p_g)`` for each feature, (p,)."""
        numbers = _numbered(self.groups)
        sizes = np.bincount(numbers)[numbers]
        return self.alpha * np.sqrt(sizes)


def _numbered(labels: Iterable) -> np.ndarray:
    """Return a number for each label: equal labels have the same, and the first label has 0."""
    numbers: dict[Any, int] = {}
    return np.array([numbers.setdefault(label, len(numbers)) for label in labels])


def _groups_of(penalty: Penalty) -> Any:
    """Return the label of each feature whose weights have norms in common, or None where each has its own."""
    return getattr(penalty, "groups", None)


def has_own_part(penalty: Penalty) -> bool:
    """Return whether the penalty makes its nonsmooth part itself, where others have a sum of norms."""
    return callable(getattr(penalty, "nonsmooth", None))


def is_nonsmooth(penalty: Penalty) -> bool:
    """Return whether the penalty has a nonsmooth part."""
    return has_own_part(penalty) or bool(np.any(penalty.absolute()))


def penalises(penalty: Penalty) -> bool:
    """Return whether the penalty has any strength."""
    return is_nonsmooth(penalty) or bool(np.any(penalty.curvature()))


def capabilities(penalty: Penalty) -> frozenset[str]:
    """Return the names of what a solver may need of a penalty, and this penalty has.

    "smooth": a gradient everywhere. "prox": a nonsmooth part, if any, that is a `Prox`. "orthants": a nonsmooth part,
    if any, that is linear where no weight changes its sign. A solver's ``needs`` is one of these.
    """
    if not is_nonsmooth(penalty):
        return frozenset({"smooth", "prox", "orthants"})
    # Norms of single weights are linear in an orthant; of a part of its own the penalty says whether it is.
    has_orthants = _groups_of(penalty) is None
    if has_own_part(penalty):
        has_orthants = getattr(penalty, "orthants", False)
    if has_orthants:
        return frozenset({"prox", "orthants"})
    return frozenset({"prox"})


def nonsmooth(penalty: Any, p: int, q: int) -> Prox:
    """Return the nonsmooth part of a penalty on the first p of q parameters; the others are intercepts, without any."""
    if has_own_part(penalty):
        return penalty.nonsmooth(p, q)
    return sum_of_norms(penalty, p, q)


def sum_of_norms(penalty: Penalty, p: int, q: int) -> NonSmooth:
    """Return the nonsmooth part that `Penalty.absolute` and the groups describe."""
    strength = np.zeros((q, 1, 1))
    strength[:p, 0, 0] = penalty.absolute()
    groups = np.zeros(0, int)
    labels = _groups_of(penalty)
    if labels is not None:
        # Each intercept is a group by itself.
        numbers = _numbered(labels)
        intercept_numbers = numbers.max() + 1 + np.arange(q - p)
        groups = np.append(numbers, intercept_numbers)
    return NonSmooth(strength, groups)


def check_features(penalty: Penalty, p: int) -> None:
    """Refuse a penalty made for another number of features."""
    # Each of these may be a number, which fits any features, or have a value for each.
    parameters: dict[str, Any] = {
        "alpha": getattr(penalty, "alpha", None),
        "groups": _groups_of(penalty),
        "curvature()": penalty.curvature(),
        "absolute()": penalty.absolute(),
    }
    for name, values in parameters.items():
        if np.ndim(values) and len(values) != p:
            raise InvalidArgumentError(
                f"penalty={penalty!r}: {name} has {len(values)} values, one for each feature, but there are {p}."
            )
    part = nonsmooth(penalty, p, p)
    if not isinstance(part, Prox):
        raise InvalidArgumentError(
            f"penalty={penalty!r}: nonsmooth(p, q) must return a dask_gd.penalties.Prox, it returned {part!r}."
        )


def parameters_of(penalty: Penalty) -> dict[str, Any]:
    """Return the parameters that a stored run remembers; for a value of each feature there is a hash of them all."""
    parameters = {}
    for name, value in vars(penalty).items():
        if isinstance(value, tuple):
            digest = hashlib.blake2b(repr(value).encode(), digest_size=8).hexdigest()
            parameters[name] = f"{len(value)} values {digest}"
        else:
            parameters[name] = value
    return parameters


def as_penalty(penalty: Penalty | None) -> Penalty:
    """Return a penalty from itself or None (no penalty). Names are refused: every penalty needs its strength."""
    if penalty is None:
        # The solvers need not know of None.
        return L2(0.0)
    if isinstance(penalty, type) or not isinstance(penalty, Penalty):
        # The error lists how each penalty is made.
        signatures = ("L2(alpha)", "L1(alpha)", "ElasticNet(alpha, l1_ratio)", "GroupLasso(alpha, groups)")
        choices = dict.fromkeys(["None", *(f"dask_gd.{signature}" for signature in signatures)])
        asked: Any = penalty
        if not isinstance(penalty, str):
            asked = repr(penalty)
        choose("penalty", asked, choices)
    if callable(getattr(penalty, "prox", None)) and not has_own_part(penalty):
        raise InvalidArgumentError(
            f"penalty={penalty!r} has a method prox, which no solver would call: give it a method nonsmooth(p, q) that "
            "returns a dask_gd.penalties.Prox with that method."
        )
    return penalty
