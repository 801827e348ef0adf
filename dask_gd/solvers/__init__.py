"""Solvers: ``init(weights) -> State`` and ``step(state, objective) -> State``, pure functions over arrays.

No I/O, no Dask, no printing, and no data: a solver sees the objective at its query and answers with the next query.
"""

from __future__ import annotations

import numpy as np

from ..errors import InvalidArgumentError, choose
from ..kernels.base import GRAM_LIMIT
from ..model.losses import Loss, Model, classes_of
from ..model.penalties import Penalty
from .base import Solver
from .first_order import SGD, Adam, GradientDescent, Momentum, Nesterov
from .lbfgs import LBFGS
from .line_search import STALLED
from .local import ADMM, LocalSGD
from .newton.newton import Newton

SOLVERS = {
    "gradient_descent": GradientDescent,
    "momentum": Momentum,
    "nesterov": Nesterov,
    "adam": Adam,
    "sgd": SGD,
    "local_sgd": LocalSGD,
    "admm": ADMM,
    "lbfgs": LBFGS,
    "newton": Newton,
}

#: Width up to which Newton's few passes repay a curvature whose cost grows with the square of the width.
NEWTON_WIDTH = 512

#: Classes up to which Newton's curvature, a matrix for each two of them, is cheap.
NEWTON_CLASSES = 24

#: The same where the penalty bends: the curvature is then 128 MiB.
WIDEST_BENT = 4096


def as_solver(solver: str | Solver, loss: Loss, penalty: Penalty, q: int) -> Solver:
    """A solver from its name or itself, that serves the loss and the penalty; "auto" chooses by these and the width.

    A smooth objective is solved by Newton while its (q, q) curvature is cheap, which for a quadratic loss, whose
    curvature is computed once, is up to `GRAM_LIMIT`, and with a penalty that bends, where L-BFGS takes many steps, up
    to `WIDEST_BENT`; wider data by L-BFGS. All classes' weights share one curvature.
    """
    classes = classes_of(loss) or 0
    q *= classes or 1
    is_nonsmooth = bool(np.any(penalty.absolute()))
    grouped = is_nonsmooth and getattr(penalty, "groups", None) is not None
    if isinstance(loss, Model) and is_nonsmooth:
        raise InvalidArgumentError(f"penalty={penalty!r} bends where a weight is 0; models take None or L2(alpha).")
    if isinstance(solver, str):
        widest = WIDEST_BENT
        if not is_nonsmooth:
            widest = GRAM_LIMIT if loss.quadratic or classes else NEWTON_WIDTH
        narrow = q <= widest and classes <= NEWTON_CLASSES and not isinstance(loss, Model)
        auto: type[Solver] = LBFGS
        if narrow:
            auto = Newton
        elif grouped:
            auto = Nesterov
        solver = choose("solver", solver, {**SOLVERS, "auto": auto})()
    elif isinstance(solver, type) or not isinstance(solver, Solver):
        choose("solver", repr(solver), {**SOLVERS, "auto": None})
    assert isinstance(solver, Solver)
    if isinstance(loss, Model) and isinstance(solver, Newton | ADMM):
        raise InvalidArgumentError(
            f"solver={solver!r} needs a curvature, of which {loss!r} has none; choose lbfgs or auto."
        )
    serves = (Newton, Nesterov, GradientDescent, ADMM) + (LBFGS,) * (not grouped)
    if is_nonsmooth and (not isinstance(solver, serves) or isinstance(solver, LocalSGD)):
        raise InvalidArgumentError(
            f"solver={solver!r} does not serve {penalty!r}, which bends where a weight is 0; choose auto, newton, "
            f"{'' if grouped else 'lbfgs, '}nesterov, gradient_descent, sgd or admm, or penalty=L2(alpha)."
        )
    automatic = getattr(solver, "learning_rate", None) == "auto"
    if loss.curvature_bound is None and (automatic or isinstance(solver, ADMM)):
        raise InvalidArgumentError(
            f"solver={solver!r}: the curvature of {loss!r} has no bound, and so no step is safe; "
            f"{'give learning_rate a number, or ' * automatic}choose {'newton' if grouped else 'auto'}."
        )
    return solver


def reliefs(solver: Solver, loss: Loss, penalty: Penalty, size: int) -> tuple[Solver, ...]:
    """Return the solvers that take over, in this order, where a solver stalls short of a minimum.

    ``size`` is the number of parameters. What stalls one that knows the whole curvature need not stall one that
    remembers a few steps, and the other way round.
    """
    grouped = bool(np.any(penalty.absolute())) and getattr(penalty, "groups", None) is not None
    if isinstance(solver, Newton):
        if not grouped:
            return (LBFGS(),)
        return ()
    if isinstance(solver, LBFGS) and size <= NEWTON_WIDTH and not isinstance(loss, Model):
        return (Newton(),)
    return ()


__all__ = [
    "ADMM",
    "LBFGS",
    "SGD",
    "SOLVERS",
    "STALLED",
    "Adam",
    "GradientDescent",
    "LocalSGD",
    "Momentum",
    "Nesterov",
    "Newton",
    "Solver",
    "as_solver",
    "reliefs",
]
