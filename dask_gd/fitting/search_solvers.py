"""The solvers of a search's candidates, and what a search refuses of them."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np

from ..errors import InvalidArgumentError
from ..kernels.curvature_parts import has_parts
from ..model.losses import Loss
from ..model.penalties import Penalty, check_features
from ..solvers import SOLVERS, WIDEST_NONSMOOTH, Newton, Solver, as_solver
from ..sources import Source
from ..validate import choose
from .grid import Candidate
from .room import check_room


def solvers_of(
    solver: str | Solver,
    loss: Loss,
    candidates: list[Candidate],
    start: np.ndarray,
    source: Source,
    folds: int,
) -> list[Solver]:
    """Return each candidate's solver; refuse penalties that do not fit the features, and too many features."""
    n, p = source.shape
    penalties = [candidate.of(float(n)) for candidate in candidates]
    for penalty in penalties:
        check_features(penalty, p)
    # Folds of a squared loss have curvatures that are added up.
    if loss.quadratic and p > WIDEST_NONSMOOTH and has_parts(source.row_format):
        raise InvalidArgumentError(
            f"search of a squared loss sums a curvature of all pairs of {p:,} features in each fold; rows with factors "
            f"are served up to {WIDEST_NONSMOOTH:,}. Compare penalties by dask_gd.fit on some rows, and "
            "FitResult.predict on the others."
        )
    solvers = []
    for penalty, candidate in zip(penalties, candidates, strict=True):
        rate = candidate.learning_rate
        chosen = solver_of(solver, loss, penalty, len(start), rate)
        check_room(source, loss, chosen, len(start), start.shape[1], folds)
        solvers.append(chosen)
    return solvers


def solver_of(
    solver: str | Solver,
    loss: Loss,
    penalty: Penalty,
    q: int,
    rate: float | None,
) -> Solver:
    """Return the solver of a candidate, with its learning rate if it has one."""
    if rate is not None:
        chosen = solver
        if isinstance(solver, str):
            chosen = choose("solver", solver, {**SOLVERS, "auto": Newton})()
        names = {f.name for f in fields(chosen)}  # type: ignore[arg-type]
        if "learning_rate" not in names:
            raise InvalidArgumentError(
                "learning_rates are for solvers that have one: nesterov, gradient_descent, momentum, adam, sgd; not "
                f"{chosen!r}."
            )
        solver = replace(chosen, learning_rate=rate)  # type: ignore[type-var]
    chosen = as_solver(solver, loss, penalty, q)
    # These have sums of their own in each partition, which tracks cannot share.
    if chosen.name in ("admm", "local_sgd", "newton_schur"):
        raise InvalidArgumentError(
            f"solver={solver!r}: search takes newton, lbfgs, nesterov, gradient_descent, momentum, adam or sgd."
        )
    return chosen
