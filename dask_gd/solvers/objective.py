"""The objective at a query, from the sums over rows: divided once, and penalised. Solvers see no more of the data."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..kernels.base import Moments, Sums
from ..model.losses import Loss
from ..model.penalties import Penalty, nonsmooth
from ..model.prox import Prox
from .vectors import Vector, dot


class Objective(NamedTuple):
    """The objective at a query, divided and penalised: ``J(w) = sum_i s_i L_i / sum_i s_i + penalty(w)``.

    The solvers see this and nothing else of the data. ``diagonal`` bounds the diagonal of J's Hessian at any
    weights (for a loss without a bound it is about the diagonal at the query) and ``means`` are the features' (0 for
    the intercept, and everywhere if there is none); they come with the first pass. ``gradient``, ``curvature`` and
    ``diagonal`` are without the nonsmooth part of the penalty.
    """

    loss: np.ndarray  # (m,)
    gradient: Vector  # (q, k, m)
    curvature: np.ndarray | None  # (q, q, k or 1), or of classes (q k, q k, 1), see `expand_class_pairs`
    diagonal: Vector | None  # (q, 1, 1)
    means: Vector | None  # (q, 1, 1)
    nonsmooth: Prox
    ridge: Vector  # (q, 1, 1) the penalty's curvature
    features: int  # parameters that are no intercepts, which come last
    quadratic: bool  # J without its nonsmooth part
    own: Any = None  # the sums of the kernel that the solver asked for, see `own_steps` and `least_squares`
    cheap_curvature: bool = False  # the curvature costs no more than reading the rows again


def objective(
    sums: Sums,
    query: np.ndarray,
    penalty: Penalty,
    loss: Loss,
    p: int,
    own: Any = None,
    cheap_curvature: bool = False,
) -> Objective:
    """Divide the sums once and add the penalty to the first p rows, the coefficients.

    ``own`` are the sums of a kernel that the solver has asked for.
    """
    gradient = sums.gradient / sums.weight
    gradient[:p] += penalty.gradient(query[:p])
    ridge = np.zeros((len(query), 1, 1))
    ridge[:p, 0, 0] = penalty.curvature()

    # The penalty curves each coefficient; where classes share a matrix, each class's.
    curvature = None
    if sums.curvature is not None:
        curvature = sums.curvature / sums.weight
        outputs = len(curvature) // len(query)
        features = np.arange(p * outputs)
        added = ridge[:p, 0, 0].repeat(len(features) // p)
        curvature[features, features] += added[:, None]

    # The first pass tells the scale of the curvature.
    diagonal = None
    means = None
    if sums.moments is not None:
        bound = loss.curvature_bound
        if bound is None:
            bound = float(sums.moments.curvatures.max() / sums.weight)
        diagonal = bound * sums.moments.features / sums.weight
        diagonal = diagonal[:, None, None] + ridge
        means = np.zeros((len(query), 1, 1))
        if len(query) > p:
            means[:p, 0, 0] = sums.moments.sums[:p] / sums.weight

    if own is not None:
        own = own.finalize(sums.weight)
    return Objective(
        loss=sums.loss / sums.weight + penalty.value(query[:p]),
        gradient=gradient,
        curvature=curvature,
        diagonal=diagonal,
        means=means,
        nonsmooth=nonsmooth(penalty, p, len(query)),
        ridge=ridge,
        features=p,
        quadratic=loss.quadratic,
        own=own,
        cheap_curvature=cheap_curvature,
    )


def about_mean(sums: Sums, loss: Loss, p: int) -> Sums:
    """Return the sums with the moments of the slopes about their mean, for a squared loss with an intercept.

    Targets far from 0 have slopes as far from 0 at the start. The part that the intercept takes away is no scale for
    the rest. Other losses begin at the targets' mean, or have slopes that are bounded.
    """
    if sums.moments is None or not loss.quadratic:
        return sums
    if len(sums.gradient) == p or not sums.weight > 0:
        return sums
    raw = sums.moments.slopes
    intercept = sums.gradient[p, :, 0]
    centred = np.maximum(raw - intercept**2 / sums.weight, 1e-12 * raw)
    return sums._replace(moments=sums.moments._replace(slopes=centred))


def gradient_cosine(
    gradient: np.ndarray,
    moments: Moments,
    weight: float,
    p: int,
    weights: np.ndarray | None = None,
    penalty: Penalty | None = None,
) -> float:
    """Return the largest component of the gradient (q, k) over its natural size.

    The size is ``rms(x_j) * rms(dL/dz)`` at the start. Where the penalty is nonsmooth at the weights (q, k), the
    subgradient of least norm takes the gradient's place.

    By Cauchy-Schwarz no component of the loss's gradient at the start exceeds that size, so that this is the cosine
    of an angle, whatever the units of x and y. For least squares it is the stopping rule of LSQR (Paige and Saunders,
    1982, test 2), taken component by component. With an intercept both are those of centred features, and for a squared
    loss those of centred slopes, so that it does not depend on their offsets either.
    """
    squares = moments.features / weight
    gradient = gradient.copy()

    # With an intercept: the gradient, and the size, as if the features had a mean of 0.
    if len(gradient) > p:
        means = moments.sums[:p] / weight
        gradient[:p] -= means[:, None] * gradient[p]
        centred = squares[:p] - means**2
        squares[:p] = np.maximum(centred, 1e-12 * squares[:p])
    if weights is not None and penalty is not None:
        part = nonsmooth(penalty, p, p)
        gradient[:p] = part.steepest(weights[:p, :, None], gradient[:p, :, None])[:, :, 0]

    # A column of zeros has no size. The penalty's slope at its weight is measured by the other columns' size.
    slopes = moments.slopes[None, :] / weight
    size = squares[:, None] * slopes
    np.sqrt(size, out=size)
    largest = size.max()
    # Moments that have overflowed measure nothing: beside them every gradient would be 0.
    if not np.isfinite(largest):
        return float("inf")
    np.copyto(size, largest, where=size <= 0)
    # No gradient is no share, whatever the size.
    np.abs(gradient, out=gradient)
    if largest > 0:
        return float((gradient / size).max())
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.where(gradient == 0, 0.0, gradient / size).max())


class Quadratic:
    """A squared loss as its sufficient statistics: the sums at any query from the sums of one pass.

    With ``g`` and ``H`` the gradient and the curvature at ``center``, exactly
    ``L(w) = L(center) + <g, d> + <d, H d> / 2`` and ``grad L(w) = g + H d``, where ``d = w - center``. An iteration of
    gradient descent, which takes a pass elsewhere, is then a product with a (q, q) matrix.
    """

    def __init__(self, center: np.ndarray, sums: Sums):
        self.center = center
        self.sums = sums
        assert sums.curvature is not None
        self.curvature = sums.curvature[:, :, 0]

    def __call__(self, query: np.ndarray) -> Sums:
        """Return the sums at ``query`` (q, k, m)."""
        d = query - self.center
        q, k, m = query.shape
        # All outputs and candidates in one product.
        change = self.curvature @ d.reshape(q, k * m)
        change = change.reshape(q, k, m)
        g = self.sums.gradient
        gained = dot(d, g + 0.5 * change)
        return self.sums._replace(
            loss=self.sums.loss + gained,
            gradient=g + change,
        )


class CentredCurvature(NamedTuple):
    """The mean curvature of a squared loss by the coefficients, at the best intercept, and its eigenvectors.

    Without an intercept there is nothing to eliminate, and it is the curvature as it is.
    """

    matrix: np.ndarray  # (p, p)
    values: np.ndarray  # (p,), which rise
    vectors: np.ndarray  # (p, p), a column for each value


def centred_curvature(sums: Sums, p: int) -> CentredCurvature:
    """Return the centred mean curvature of a squared loss from the sums of one pass."""
    assert sums.curvature is not None
    h = sums.curvature[:, :, 0] / sums.weight
    # The best value of an intercept is linear in the coefficients.
    scale = np.sqrt(h[p:, p:]).reshape(-1)
    across = h[:p, p:] / scale
    matrix = h[:p, :p] - across @ across.T
    values, vectors = np.linalg.eigh(matrix)
    return CentredCurvature(matrix, values, vectors)


def ridge_path(
    start: np.ndarray,
    sums: Sums,
    p: int,
    strengths: np.ndarray,
    centred: CentredCurvature | None = None,
) -> np.ndarray:
    """Return the minima of a squared loss with each of these L2 strengths (m,), from the sums at ``start``: (q, k, m).

    One eigendecomposition of the centred curvature serves all, as a singular value decomposition does in Golub, Heath
    and Wahba (1979), "Generalized cross-validation as a method for choosing a good ridge parameter". Minima are NaN
    where the strength is so small that there is no single minimum up to rounding. ``centred`` is the decomposition, if
    it is known.
    """
    assert sums.curvature is not None
    if centred is None:
        centred = centred_curvature(sums, p)
    h = sums.curvature[:, :, 0] / sums.weight
    g = sums.gradient[:, :, 0] / sums.weight
    w = start[:, :, 0]

    # An intercept is not penalised: its best value is linear in the others. Without one there is nothing to eliminate.
    intercept_curvature = h[p:, p:].reshape(-1, 1)
    slope = g[:p] - h[:p, p:] @ (g[p:] / intercept_curvature)

    # In the eigenvectors every strength has a minimum that is a quotient.
    curved = centred.values[:, None] + strengths
    singular = p * np.finfo(float).eps * centred.values[-1]
    curved = np.where(curved > singular, curved, np.nan)
    rotated = centred.vectors.T @ (centred.matrix @ w[:p] - slope)
    quotients = rotated[:, :, None] / curved[:, None]
    coefficients = np.tensordot(centred.vectors, quotients, axes=1)

    # The intercept follows the coefficients.
    change = coefficients - w[:p, :, None]
    gradient = g[p:, :, None] + np.tensordot(h[p:, :p], change, axes=1)
    intercept = w[p:, :, None] - gradient / intercept_curvature[:, :, None]
    return np.concatenate([coefficients, intercept])
