"""The objective at a query, from the sums over rows: divided once, and penalised. What solvers see of the data."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..kernels.base import Moments, Sums
from ..model.losses import Loss
from ..model.penalties import Penalty, nonsmooth
from ..model.prox import NonSmooth


class Objective(NamedTuple):
    """The objective at a query, divided and penalised: ``J(w) = sum_i s_i L_i / sum_i s_i + penalty(w)``.

    The solvers see this and nothing else of the data. ``diagonal`` bounds the diagonal of J's Hessian at any
    weights (of a loss without a bound it is about that at the query) and ``means`` are the features' (0 for the
    intercept, and everywhere if there is none); they come with the first pass. ``gradient``, ``curvature`` and
    ``diagonal`` are of all but what bends.
    """

    loss: np.ndarray  # (m,)
    gradient: np.ndarray  # (q, k, m)
    curvature: np.ndarray | None  # (q, q, k or 1), or of classes (q k, q k, 1), see `expand_class_pairs`
    diagonal: np.ndarray | None  # (q,)
    means: np.ndarray | None  # (q,)
    nonsmooth: NonSmooth
    ridge: np.ndarray  # (q, 1, 1) the penalty's curvature
    features: int  # parameters that are no intercepts, which come last
    quadratic: bool  # J but for what bends
    own: Any = None  # what the kernel that the solver asked for has found, see `own_steps` and `least_squares`


def objective(sums: Sums, query: np.ndarray, penalty: Penalty, loss: Loss, p: int, own: Any = None) -> Objective:
    """Divide the sums once and add the penalty to the first p rows, the coefficients.

    ``own`` are the sums of a kernel that the solver has asked for.
    """
    gradient = sums.gradient / sums.weight
    gradient[:p] += penalty.gradient(query[:p])
    curvature = diagonal = means = None
    ridge = np.zeros((len(query), 1, 1))
    ridge[:p, 0, 0] = penalty.curvature()
    if sums.curvature is not None:
        curvature = sums.curvature / sums.weight
        features = np.arange(p * (len(curvature) // len(query)))
        curvature[features, features] += ridge[:p, 0, 0].repeat(len(features) // p)[:, None]
    if sums.moments is not None:
        bound = loss.curvature_bound
        if bound is None:
            bound = float(sums.moments.curvatures.max() / sums.weight)
        diagonal = bound * sums.moments.features / sums.weight
        diagonal += ridge[:, 0, 0]
        means = np.zeros(len(query))
        if len(query) > p:
            means[:p] = sums.moments.sums[:p] / sums.weight
    loss_mean = sums.loss / sums.weight + penalty.value(query[:p])
    bent = nonsmooth(penalty, p, len(query))
    if own is not None:
        own = own.finalize(sums.weight)
    return Objective(
        loss=loss_mean,
        gradient=gradient,
        curvature=curvature,
        diagonal=diagonal,
        means=means,
        nonsmooth=bent,
        ridge=ridge,
        features=p,
        quadratic=loss.quadratic,
        own=own,
    )


def about_mean(sums: Sums, loss: Loss, p: int) -> Sums:
    """Return sums that have moments, of a squared loss with an intercept those of the slopes about their mean.

    Targets far from 0 have slopes as far from 0 at the start. What the intercept takes away is no scale for what is
    left. Other losses begin at the targets' mean, or have slopes that are bounded.
    """
    if sums.moments is None or not loss.quadratic or len(sums.gradient) == p or not sums.weight > 0:
        return sums
    raw = sums.moments.slopes
    centred = np.maximum(raw - sums.gradient[p, :, 0] ** 2 / sums.weight, 1e-12 * raw)
    return sums._replace(moments=sums.moments._replace(slopes=centred))


def gradient_cosine(
    gradient: np.ndarray,
    moments: Moments,
    weight: float,
    p: int,
    weights: np.ndarray | None = None,
    penalty: Penalty | None = None,
) -> float:
    """The largest component of the gradient (q, k) over its natural size, ``rms(x_j) * rms(dL/dz)`` at the start.

    Where the penalty bends at the weights (q, k), of the subgradient of least norm.

    By Cauchy-Schwarz no component of the loss's gradient at the start exceeds that size, so that this is the cosine
    of an angle, whatever the units of x and y. For least squares it is the stopping rule of LSQR (Paige and Saunders,
    1982, test 2), taken component by component. With an intercept both are those of centred features, and of a squared
    loss of centred slopes, so that it does not depend on their offsets either.
    """
    squares = moments.features / weight
    gradient = gradient.copy()
    if len(gradient) > p:
        means = moments.sums[:p] / weight
        gradient[:p] -= means[:, None] * gradient[p]
        squares[:p] = np.maximum(squares[:p] - means**2, 1e-12 * squares[:p])
    if weights is not None and penalty is not None:
        gradient[:p] = nonsmooth(penalty, p, p).steepest(weights[:p, :, None], gradient[:p, :, None])[:, :, 0]
    size = np.sqrt(squares[:, None] * (moments.slopes[None, :] / weight))
    # A column of zeros has no size. What a penalty makes of its weight is measured by the other columns'.
    size = np.where(size > 0, size, size.max())
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.where(gradient == 0, 0.0, np.abs(gradient) / size).max())


class Quadratic:
    """A squared loss as its sufficient statistics: the sums at any query from those of one pass.

    With ``g`` and ``H`` the gradient and the curvature at ``center``, exactly
    ``L(w) = L(center) + <g, d> + <d, H d> / 2`` and ``grad L(w) = g + H d``, where ``d = w - center``. What would
    have been one pass for each iteration of gradient descent is then a product with a (q, q) matrix.
    """

    def __init__(self, center: np.ndarray, sums: Sums):
        self.center = center
        self.sums = sums
        assert sums.curvature is not None
        self.curvature = sums.curvature[:, :, 0]

    def __call__(self, query: np.ndarray) -> Sums:
        """The sums at ``query`` (q, k, m)."""
        d = query - self.center
        q, k, m = query.shape
        change = (self.curvature @ d.reshape(q, k * m)).reshape(q, k, m)
        g = self.sums.gradient
        loss = self.sums.loss + np.einsum("qkm,qkm->m", d, g + 0.5 * change)
        return self.sums._replace(loss=loss, gradient=g + change)


def ridge_path(start: np.ndarray, sums: Sums, p: int, strengths: np.ndarray) -> np.ndarray:
    """The minima of a squared loss with each of these L2 strengths (m,), (q, k, m), from the sums at ``start``.

    One eigendecomposition of the centred curvature serves all, as one of the singular values does in Golub, Heath and
    Wahba (1979), "Generalized cross-validation as a method for choosing a good ridge parameter". NaN where the strength
    is so small that there is no single minimum up to rounding.
    """
    assert sums.curvature is not None
    h = sums.curvature[:, :, 0] / sums.weight
    g = sums.gradient[:, :, 0] / sums.weight
    w = start[:, :, 0]
    # An intercept is not penalised: its best value is linear in the others.
    across = h[:p, p:] / np.sqrt(h[p:, p:]).reshape(-1)
    centred = h[:p, :p] - across @ across.T
    values, vectors = np.linalg.eigh(centred)
    slope = g[:p] - h[:p, p:] @ (g[p:] / h[p:, p:].reshape(-1, 1))
    curved = values[:, None] + strengths
    curved = np.where(curved > p * np.finfo(float).eps * values[-1], curved, np.nan)
    rotated = vectors.T @ (centred @ w[:p] - slope)
    found = np.tensordot(vectors, rotated[:, :, None] / curved[:, None], axes=1)
    moved = np.tensordot(h[p:, :p], found - w[:p, :, None], axes=1)
    intercept = w[p:, :, None] - (g[p:, :, None] + moved) / h[p:, p:].reshape(-1, 1, 1)
    return np.concatenate([found, intercept])
