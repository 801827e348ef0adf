"""Invert the information of a fit, and find how far its coefficients are from the optimum of the rows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..errors import InvalidArgumentError
from ..kernels.sums import Sums

#: Least eigenvalue of the information scaled to a unit diagonal. Rounding to float64 moves it by about 1e-15, so that
#: from there on standard errors keep three digits. Features that depend on each other but for their own rounding to
#: float32 have eigenvalues as small.
SINGULAR = 1e-12

#: Singular values below this share of the root of SINGULAR are rounding.
SLIGHT = 1e-4


class Inverse(NamedTuple):
    """The inverse of an information, ``root root^T``, of the parameters of the fit, whatever their units."""

    root: np.ndarray  # (q, q)
    #: The root as parameters of the rows less the shift: ``[x 1] span`` are rows whose information is the unit matrix.
    span: np.ndarray  # (p + 1, q)
    #: The roots of the diagonal of the information.
    sizes: np.ndarray  # (q,)

    @property
    def matrix(self) -> np.ndarray:
        """The inverse itself, (q, q)."""
        return self.root @ self.root.T


class NormalEquations(NamedTuple):
    """The inverses of the information, and the way to the optimum. All belong to the rows less the shift."""

    #: Of each output, or a single one that all outputs share.
    inverses: list[Inverse]
    inverse: np.ndarray  # (q, q, k)
    step: np.ndarray  # (q, k)
    #: The part of the step that is rounding.
    noise: np.ndarray  # (q, k)

    def of_output(self, output: int) -> Inverse:
        """Return the inverse of an output."""
        return self.inverses[min(output, len(self.inverses) - 1)]


def normal_equations(
    sums: Sums,
    parameters: np.ndarray,
    shift: np.ndarray | None,
    names: list[str],
) -> NormalEquations:
    """Return the inverses of the information at parameters (p + 1, k) of the rows less the shift, and the next step."""
    assert sums.curvature is not None
    p = len(parameters) - 1
    k = parameters.shape[1]
    # The ties map the parameters of the fit to those of the rows less the shift, which always have an intercept: in a
    # fit without an intercept, it is the contribution of the shift.
    ties = np.eye(p + 1, len(names))
    if shift is not None and len(names) == p:
        ties[p] = shift
    informations = np.moveaxis(sums.curvature, 2, 0)
    inverses = [inverted(information, ties, names) for information in informations]
    # A quadratic loss has a single information for all outputs.
    repeats = k // len(informations)
    inverse = np.stack([each.matrix for each in inverses], axis=2).repeat(repeats, axis=2)
    # A step of Newton's method leads to the optimum.
    step = np.einsum("qrk,rk->qk", inverse, ties.T @ sums.gradient[:, :, 0])
    # Rounding of predictions and sums moves the step by this much: where the residuals are 0, there is nothing else.
    information = np.broadcast_to(sums.curvature, (p + 1, p + 1, k))
    squares = np.einsum("qk,qrk,rk->k", parameters, information, parameters)
    unit = 8 * np.finfo(float).eps * np.sqrt(squares)
    sizes = np.stack([each.sizes for each in inverses], axis=1).repeat(repeats, axis=1)
    noise = unit * np.einsum("qrk,rk->qk", np.abs(inverse), sizes)
    return NormalEquations(inverses, inverse, step, noise)


def unshifted(covariance: np.ndarray, shift: np.ndarray | None) -> np.ndarray:
    """Return the covariance (q, q, k) for the rows as they are from the covariance for the rows less the shift.

    Both are the same without an intercept, since no other parameter depends on the shift.
    """
    q = len(covariance)
    if shift is None or q == len(shift):
        return covariance
    back = np.eye(q)
    back[-1, :-1] = -shift
    return np.einsum("ai,ijk,bj->abk", back, covariance, back)


def inverted(information: np.ndarray, ties: np.ndarray, names: list[str]) -> Inverse:
    """Return the inverse of ``ties^T information ties``.

    The product is never formed: columns far from 0 without an intercept are nearly multiples of each other, and the
    singular values of a factor of it have twice as many digits.

    Raises
    ------
    InvalidArgumentError
        Where there is no inverse; it names the parameters.
    """
    # Factor the information, scaled to a unit diagonal.
    root = np.sqrt(np.diagonal(information))
    unit = np.where(root > 0, root, 1.0)
    values, vectors = np.linalg.eigh(information / np.outer(unit, unit))
    values = np.where(values > SINGULAR, values, 0.0)
    factor = (np.sqrt(values)[:, None] * vectors.T * root) @ ties
    # Columns of the factor that are 0, or a combination of the others, leave parameters undetermined.
    size = np.sqrt((factor**2).sum(axis=0))
    if (size == 0).any():
        _refuse_undetermined(names, size == 0)
    _, singular, right = np.linalg.svd(factor / size, full_matrices=False)
    if singular[-1] <= np.sqrt(SINGULAR) * SLIGHT:
        shares = np.abs(right[-1])
        _refuse_undetermined(names, shares > 0.1 * shares.max())
    inverse_root = (right.T / singular) / size[:, None]
    return Inverse(inverse_root, ties @ inverse_root, size)


def _refuse_undetermined(names: list[str], is_undetermined: np.ndarray) -> None:
    """Refuse rows that do not determine these coefficients, and name the first of them."""
    undetermined = [names[i] for i in np.flatnonzero(is_undetermined)]
    shown = ", ".join(undetermined[:10])
    if len(undetermined) > 10:
        shown += f" and {len(undetermined) - 10} more"
    raise InvalidArgumentError(
        f"infer: these rows do not determine the coefficients of {shown}: a combination of them is constant (0 without "
        "an intercept), or so nearly that rounding hides the rest. Leave one of them out and fit again."
    )
