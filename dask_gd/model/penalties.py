"""Penalties on the weights. They never see data and never touch the intercept.

Each takes the coefficients ``w`` of shape (p, k, m), candidate last, without the intercept's row.
"""

from __future__ import annotations

import hashlib
import reprlib
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, fields
from numbers import Real
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ..errors import InvalidArgumentError, choose
from .prox import NonSmooth

#: A number, or one for each feature.
Strength = float | tuple[float, ...]

#: Values of a penalty that are written out in messages.
SHOWN = 8


@runtime_checkable
class Penalty(Protocol):
    """A smooth part, of which there is a gradient, and a sum of norms, which bends at 0.

    The norms are the absolute values of the weights or, if the penalty has an attribute ``groups``, a label for each
    feature, those of all the weights with the same label.
    """

    name: str

    def value(self, w: np.ndarray) -> np.ndarray:
        """All of it, (m,)."""
        ...

    def gradient(self, w: np.ndarray) -> np.ndarray:
        """Of the smooth part, (p, k, m)."""
        ...

    def curvature(self) -> float | np.ndarray:
        """The diagonal of the smooth part's Hessian, which has nothing else: a number, or (p,)."""
        ...

    def absolute(self) -> float | np.ndarray:
        """What the norm of each weight's group is multiplied with: a number, or (p,). 0 for a smooth penalty."""
        ...


def _check_strength(owner: str, alpha: object) -> Strength:
    try:
        values = np.array(np.nan if isinstance(alpha, str) or alpha is None else alpha, dtype=float)
    except (TypeError, ValueError, OverflowError):
        values = np.array(np.nan)
    if values.ndim > 1 or not values.size or not (np.isfinite(values) & (values >= 0)).all():
        raise InvalidArgumentError(
            f"{owner}(alpha={reprlib.repr(alpha)}): alpha must be a finite number, 0 or more, or one such for each "
            "feature."
        )
    if values.ndim:
        return tuple(values.tolist())
    return float(values)


def _by_feature(alpha: Strength) -> float | np.ndarray:
    """As it multiplies (p, k, m)."""
    if isinstance(alpha, tuple):
        return np.array(alpha)[:, None, None]
    return alpha


def _shown(penalty: Any) -> str:
    """A repr without a value for each feature where these are many."""
    values = ((f.name, getattr(penalty, f.name)) for f in fields(penalty))
    short = (f"{n}={f'<{len(v)} values>' if isinstance(v, tuple) and len(v) > SHOWN else repr(v)}" for n, v in values)
    return f"{type(penalty).__name__}({', '.join(short)})"


@dataclass(frozen=True, repr=False)
class L2:
    """``alpha / 2 * ||w||^2``, added to the *mean* loss (ridge, weight decay).

    scikit-learn's ``Ridge(alpha=a)`` is ``L2(a / n)`` with n the sum of the row weights, and
    ``LogisticRegression(C=c)`` is ``L2(1 / (n c))``.

    Parameters
    ----------
    alpha : float or array-like (p,)
        Strength, at least 0; one for all features, or one for each.

    Examples
    --------
    >>> L2(0.5).value(np.array([[[2.0]]])).tolist()
    [1.0]
    >>> L2([0.5, 0.0]).gradient(np.array([[[2.0]], [[3.0]]])).ravel().tolist()
    [1.0, 0.0]
    """

    alpha: Strength
    name = "l2"
    __repr__ = _shown

    def __post_init__(self):
        object.__setattr__(self, "alpha", _check_strength("L2", self.alpha))

    def value(self, w):
        """``alpha / 2 * sum(w^2)`` over features and outputs, shape (m,)."""
        return 0.5 * np.einsum("pkm,pkm->m", self.gradient(w), w)

    def gradient(self, w):
        """``alpha * w``, shape (p, k, m)."""
        return _by_feature(self.alpha) * w

    def curvature(self):
        """``alpha``."""
        return np.array(self.alpha)

    def absolute(self):
        """0: it is smooth."""
        return 0.0


@dataclass(frozen=True, repr=False)
class ElasticNet:
    """``alpha (l1_ratio ||w||_1 + (1 - l1_ratio) / 2 ||w||^2)``, added to the *mean* loss (Zou and Hastie, 2005).

    scikit-learn's ``ElasticNet(alpha=a, l1_ratio=r)`` minimises the same, its ``LogisticRegression(C=c, l1_ratio=r)``
    with a = 1 / (n c). ``||w||_1`` makes weights exactly 0.

    Parameters
    ----------
    alpha : float or array-like (p,)
        Strength, at least 0; one for all features, or one for each (Zou, 2006, the adaptive lasso).
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
    __repr__ = _shown

    def __post_init__(self):
        object.__setattr__(self, "alpha", _check_strength("ElasticNet", self.alpha))
        if not (isinstance(self.l1_ratio, Real) and 0 <= self.l1_ratio <= 1):
            raise InvalidArgumentError(f"ElasticNet(l1_ratio={self.l1_ratio!r}): l1_ratio must be from 0 to 1.")
        object.__setattr__(self, "l1_ratio", float(self.l1_ratio))

    def value(self, w):
        """Over features and outputs, shape (m,)."""
        sizes = self.l1_ratio * np.abs(w) + 0.5 * (1.0 - self.l1_ratio) * w * w
        return (_by_feature(self.alpha) * sizes).sum(axis=(0, 1))

    def gradient(self, w):
        """``alpha (1 - l1_ratio) w``, of the squares, shape (p, k, m)."""
        return _by_feature(self.alpha) * (1.0 - self.l1_ratio) * w

    def curvature(self):
        """``alpha (1 - l1_ratio)``, of the squares."""
        return np.array(self.alpha) * (1.0 - self.l1_ratio)

    def absolute(self):
        """``alpha l1_ratio``."""
        return np.array(self.alpha) * self.l1_ratio


def L1(alpha: Any) -> ElasticNet:
    """``alpha ||w||_1``, added to the *mean* loss: ``ElasticNet(alpha, l1_ratio=1)``, the lasso (Tibshirani, 1996).

    scikit-learn's ``Lasso(alpha=a)`` minimises the same. ``alpha`` may be one number for each feature.

    Examples
    --------
    >>> L1(0.5).value(np.array([[[2.0]], [[-3.0]]])).tolist()
    [2.5]
    """
    return ElasticNet(alpha, 1.0)


@dataclass(frozen=True, repr=False)
class GroupLasso:
    """``alpha sum_g sqrt(p_g) ||w_g||``, added to the *mean* loss (Yuan and Lin, 2006): weights are 0 by groups.

    ``w_g`` are the ``p_g`` weights of a group, such as those of the categories of one variable. Each output has
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
    __repr__ = _shown

    def __post_init__(self):
        alpha = _check_strength("GroupLasso", self.alpha)
        groups = self.groups
        labels = groups
        if hasattr(groups, "__array__"):
            labels = np.asarray(groups).tolist()
        if isinstance(labels, Iterable) and not isinstance(labels, str):
            labels = tuple(labels)
        else:
            labels = ()
        if isinstance(alpha, tuple) or not labels or not all(isinstance(v, Hashable) and v == v for v in labels):
            raise InvalidArgumentError(
                f"GroupLasso(groups={reprlib.repr(groups)}): alpha must be one number for all groups, and groups a "
                "label for each feature, a number or a string."
            )
        object.__setattr__(self, "alpha", alpha)
        object.__setattr__(self, "groups", labels)

    def value(self, w):
        """Over groups and outputs, shape (m,)."""
        return nonsmooth(self, len(w), len(w)).value(w)

    def gradient(self, w):
        """0: all of it bends."""
        return np.zeros_like(w)

    def curvature(self):
        """0."""
        return 0.0

    def absolute(self):
        """``alpha sqrt(p_g)`` for each feature, (p,)."""
        numbers = _numbered(self.groups)
        return self.alpha * np.sqrt(np.bincount(numbers)[numbers])


def _numbered(labels: Iterable) -> np.ndarray:
    """Each label's number, in the order in which they come."""
    numbers: dict[Any, int] = {}
    return np.array([numbers.setdefault(label, len(numbers)) for label in labels])


def nonsmooth(penalty: Penalty, p: int, q: int) -> NonSmooth:
    """What bends, for the first p of q parameters; the others are intercepts, which never do."""
    strength = np.zeros((q, 1, 1))
    groups = np.zeros(0, int)
    strength[:p, 0, 0] = penalty.absolute()
    labels = getattr(penalty, "groups", None)
    if labels is not None:
        numbers = _numbered(labels)
        groups = np.append(numbers, numbers.max() + 1 + np.arange(q - p))
    return NonSmooth(strength, groups)


def check_features(penalty: Penalty, p: int) -> None:
    """Refuse a penalty made for another number of features."""
    given: dict[str, Any] = {name: getattr(penalty, name, None) for name in ("alpha", "groups")}
    for name, values in {**given, "curvature()": penalty.curvature(), "absolute()": penalty.absolute()}.items():
        if np.ndim(values) and len(values) != p:
            raise InvalidArgumentError(
                f"penalty={penalty!r}: {name} has {len(values)} values, one for each feature, but there are {p}."
            )


def parameters_of(penalty: Penalty) -> dict[str, Any]:
    """What a stored run remembers of it; of a value for each feature a hash."""

    def short(value: Any) -> Any:
        if not isinstance(value, tuple):
            return value
        return f"{len(value)} values {hashlib.blake2b(repr(value).encode(), digest_size=8).hexdigest()}"

    return {name: short(value) for name, value in vars(penalty).items()}


def as_penalty(penalty: Penalty | None) -> Penalty:
    """A penalty from itself or None (no penalty). Names are refused: every penalty needs its strength."""
    if penalty is None:
        return L2(0.0)
    if isinstance(penalty, type) or not isinstance(penalty, Penalty):
        choices = ("L2(alpha)", "L1(alpha)", "ElasticNet(alpha, l1_ratio)", "GroupLasso(alpha, groups)")
        named = dict.fromkeys(["None", *(f"dask_gd.{c}" for c in choices)])
        choose("penalty", penalty if isinstance(penalty, str) else repr(penalty), named)
    return penalty
