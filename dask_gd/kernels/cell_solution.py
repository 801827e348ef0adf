"""From the sums of a block of cells to their coefficients, errors and measures of fit.

The normal equations of all cells are solved at once, by Cholesky's factors written out over the features and
vectorised over the cells, each matrix scaled to a unit diagonal. A pivot near 0 marks a cell whose features are
collinear in the rows that it has.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .cell_design import Design
from .cell_own_sums import OwnSums
from .cell_sums import SharedSums

#: What became of a cell, by its status.
STATUS = ("ok", "no_values", "too_few", "collinear")
OK, NO_VALUES, TOO_FEW, COLLINEAR_CELL = range(4)

#: The least pivot of a matrix with a unit diagonal: the share of a feature's squares that those before it leave.
LEAST_PIVOT = 1e-10


class Equations(NamedTuple):
    """The normal equations of some cells, in the coordinates of the design: last axes are cells, or 1 for all."""

    gram: np.ndarray  # (m, m, cells or 1)
    right: np.ndarray  # (m, cells)
    squares: np.ndarray  # (cells,)
    ones: np.ndarray  # (cells,): the target times 1
    weight: np.ndarray  # (cells or 1,)
    rows: np.ndarray  # (cells or 1,): how many there are
    reference: np.ndarray  # (cells,)
    #: First values of the features that vary by cell, (v, cells or 1).
    shifts: np.ndarray


def estimates_of(sums: SharedSums | OwnSums, design: Design, penalty: np.ndarray | None) -> dict[str, np.ndarray]:
    """Return what is known of each cell of a block.

    Parameters
    ----------
    sums : SharedSums or OwnSums
    design : Design
    penalty : (p,), optional
        The strength of an L2 penalty for each feature; None without a penalty.

    Returns
    -------
    dict
        ``coefficient`` and ``standard_error`` (k, cells), ``nobs``, ``dof``, ``loss``, ``rsquared``, ``dispersion`` and
        ``status`` (cells,); NaN where there is none.
    """
    if isinstance(sums, OwnSums):
        cells = sums.gram.shape[1]
        results = _nothing(design, cells)
        _solve_into(results, np.arange(cells), _own_equations(sums, design), design, penalty)
        return results
    results = _nothing(design, len(sums.squares))
    # Cells without gaps have one matrix.
    has_gaps = np.zeros(len(sums.squares), bool)
    if sums.missing is not None:
        has_gaps[sums.cells] = sums.missing[-1] > 0
    for has_these, missing in ((~has_gaps, None), (has_gaps, sums.missing)):
        which = np.flatnonzero(has_these & sums.has_value)
        if len(which):
            if missing is not None:
                missing = missing[:, np.searchsorted(sums.cells, which)]
            equations = _shared_equations(sums, which, missing, design)
            _solve_into(results, which, equations, design, penalty)
    return results


def _nothing(design: Design, cells: int) -> dict[str, np.ndarray]:
    """Return the estimates of cells without a value."""
    k = design.parameters
    results: dict[str, np.ndarray] = {name: np.full((k, cells), np.nan) for name in ("coefficient", "standard_error")}
    results |= {name: np.full(cells, np.nan) for name in ("loss", "rsquared", "dispersion")}
    results |= {name: np.zeros(cells) for name in ("nobs", "dof")}
    results["status"] = np.full(cells, NO_VALUES, np.int8)
    return results


def _shared_equations(
    sums: SharedSums,
    which: np.ndarray,
    missing: np.ndarray | None,
    design: Design,
) -> Equations:
    """Return the equations of cells whose features are the same, without gaps or with their missing rows."""
    total = sums.total[:, None]
    if missing is not None:
        total = total - missing
    right = sums.products[:, which]
    ones = design.ones @ right if design.fit_intercept else np.zeros(right.shape[1])
    return Equations(
        gram=_unpacked(total[:-2], design.width),
        right=right,
        squares=sums.squares[which],
        ones=ones,
        weight=total[-2],
        rows=total[-1],
        reference=sums.reference[which],
        shifts=np.zeros((0, 1)),
    )


def _own_equations(sums: OwnSums, design: Design) -> Equations:
    """Return the equations of cells that have features or weights of their own."""
    q = design.width
    cells = sums.gram.shape[1]
    m = q + len(design.varying)
    gram = np.empty((m, m, cells))
    gram[:q, :q] = _unpacked(sums.gram[:-2], q)
    gram[:q, q:] = sums.products[:, 1:]
    gram[q:, :q] = sums.products[:, 1:].transpose(1, 0, 2)
    gram[q:, q:] = sums.values[1:, 1:]
    ones = design.ones @ sums.products[:, 0] if design.fit_intercept else np.zeros(cells)
    reference = np.nan_to_num(sums.reference)
    return Equations(
        gram=gram,
        right=np.concatenate([sums.products[:, 0], sums.values[1:, 0]]),
        squares=sums.values[0, 0],
        ones=ones,
        weight=sums.gram[-2],
        rows=sums.gram[-1],
        reference=reference[0],
        shifts=reference[1:],
    )


def _unpacked(packed: np.ndarray, q: int) -> np.ndarray:
    """Return symmetric matrices (q, q, cells) of their upper triangles (pairs, cells)."""
    matrices = np.empty((q, q, packed.shape[1]))
    for pair, (i, j) in enumerate(zip(*np.triu_indices(q), strict=True)):
        matrices[i, j] = packed[pair]
        matrices[j, i] = packed[pair]
    return matrices


def _solve_into(
    results: dict[str, np.ndarray],
    cells: np.ndarray,
    equations: Equations,
    design: Design,
    penalty: np.ndarray | None,
) -> None:
    """Solve the equations of some cells, and put what is known of these in its place."""
    k = design.parameters
    count = np.broadcast_to(equations.rows, len(cells))
    weight = np.broadcast_to(equations.weight, len(cells))
    gram = equations.gram
    right = equations.right
    with np.errstate(all="ignore"):
        if penalty is not None:
            p = len(penalty)
            pull = (design.back[:p].T * penalty) @ design.back[:p]
            gram = gram / equations.weight + pull[:, :, None]
            right = right / weight
        factor, pivot = inverse_factor(gram)
        solution = solved(factor, right)
        coefficient = _coefficients(solution, equations, design)
        # The residuals' sum of squares: about the solution of a penalised problem the gradient is not 0.
        residual = equations.squares - (solution * equations.right).sum(axis=0)
        if penalty is not None:
            bent = np.einsum("mnc,nc->mc", np.broadcast_to(equations.gram, (*gram.shape[:2], len(cells))), solution)
            residual -= (solution * (equations.right - bent)).sum(axis=0)
        residual = np.maximum(residual, 0.0)
        total = equations.squares
        if design.fit_intercept:
            total = total - equations.ones**2 / weight
        loss = residual / (2.0 * weight)
        if penalty is not None:
            loss = loss + 0.5 * (penalty[:, None] * coefficient[: len(penalty)] ** 2).sum(axis=0)
        dof = weight - k
        dispersion = np.where(dof > 0, residual / dof, np.nan)
        values = {
            "coefficient": coefficient,
            "standard_error": np.sqrt(dispersion) * _unit_errors(factor, equations, design),
            "loss": loss,
            "rsquared": np.where(total > 0, 1.0 - residual / total, np.nan),
            "dispersion": dispersion,
        }
    status = _status(count, np.broadcast_to(pivot, len(cells)), k, penalty is not None)
    is_ok = status == OK
    for name, value in values.items():
        results[name][..., cells] = np.where(is_ok, value, np.nan)
    results["status"][cells] = status
    results["nobs"][cells] = weight
    results["dof"][cells] = np.maximum(dof, 0.0)


def _status(count: np.ndarray, pivot: np.ndarray, k: int, is_penalised: bool) -> np.ndarray:
    """Return what became of each cell."""
    status = np.full(len(count), OK, np.int8)
    status[~(pivot > LEAST_PIVOT)] = COLLINEAR_CELL
    if not is_penalised:
        status[count <= k] = TOO_FEW
    status[count == 0] = NO_VALUES
    return status


def inverse_factor(gram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return lower triangles M (m, m, cells) with ``M^T M`` the inverse of each matrix, and its least pivot (cells,).

    Pivots are those of the matrix scaled to a unit diagonal.
    """
    m = len(gram)
    diagonal = np.einsum("mmc->mc", gram)
    scale = np.where(diagonal > 0, 1.0 / np.sqrt(np.abs(diagonal)), 0.0)
    lower = np.zeros_like(gram)
    least = np.full(gram.shape[2], np.inf)
    for j in range(m):
        column = gram[j:, j] * scale[j:] * scale[j]
        for i in range(j):
            column = column - lower[j:, i] * lower[j, i]
        pivot = column[0]
        least = np.fmin(least, np.where(np.isfinite(pivot), pivot, 0.0))
        lower[j:, j] = column / np.sqrt(np.maximum(pivot, np.finfo(float).tiny))
    # The inverse of the factor, a row at a time.
    inverse = np.zeros_like(gram)
    for i in range(m):
        for j in range(i + 1):
            total = np.full(gram.shape[2], float(i == j))
            for r in range(j, i):
                total = total - lower[i, r] * inverse[r, j]
            inverse[i, j] = total / lower[i, i]
    return inverse * scale[None], least


def solved(factor: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the solutions (m, cells) for right sides (m, cells), by the factors of `inverse_factor`."""
    if factor.shape[2] == 1:
        return factor[:, :, 0].T @ (factor[:, :, 0] @ right)
    half = np.einsum("mnc,nc->mc", factor, right)
    return np.einsum("nmc,nc->mc", factor, half)


def _coefficients(solution: np.ndarray, equations: Equations, design: Design) -> np.ndarray:
    """Return the coefficients (k, cells) of the features, and the intercept, from those of the design."""
    coefficient = design.back @ solution
    if design.fit_intercept:
        coefficient[-1] += equations.reference
        v = len(design.varying)
        if v:
            coefficient[-1] -= (solution[-v:] * equations.shifts).sum(axis=0)
    return coefficient


def _unit_errors(factor: np.ndarray, equations: Equations, design: Design) -> np.ndarray:
    """Return the standard errors (k, cells or 1) where the dispersion is 1."""
    errors = []
    v = len(design.varying)
    for number, row in enumerate(design.back):
        vector = np.tensordot(row, factor, axes=(0, 1))
        if v and design.fit_intercept and number == design.parameters - 1:
            vector = vector - np.einsum("mvc,vc->mc", factor[:, -v:], equations.shifts)
        errors.append(np.sqrt((vector**2).sum(axis=0)))
    return np.stack(errors)
