"""Solvers: ``init(weights) -> State`` and ``step(state, objective) -> State``, pure functions over arrays.

No I/O, no Dask, no printing, and no data: a solver sees the objective at its query and answers with the next query.
"""

from __future__ import annotations

from ..errors import InvalidArgumentError
from ..kernels.base import GRAM_LIMIT
from ..kernels.block import RowFormat
from ..kernels.curvature_parts import MOST_FACTORS, MOST_NUMBERS, has_parts
from ..model.losses import Loss, Model, classes_of
from ..model.penalties import Penalty, capabilities, has_own_part
from ..validate import choose
from .base import Solver
from .first_order import SGD, Adam, GradientDescent, Momentum, Nesterov
from .lbfgs import LBFGS
from .line_search import STALLED
from .local import ADMM, LocalSGD
from .newton.newton import Newton
from .newton.schur import NewtonSchur

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
    "newton_schur": NewtonSchur,
}

#: Width up to which Newton's few passes repay a curvature whose cost grows with the square of the width.
NEWTON_WIDTH = 512

#: Classes up to which Newton's curvature, a matrix for each pair of them, is cheap.
NEWTON_CLASSES = 24

#: Width up to which Newton is chosen where the penalty is nonsmooth: the curvature is then 128 MiB.
WIDEST_NONSMOOTH = 4096


def as_solver(
    solver: str | Solver,
    loss: Loss,
    penalty: Penalty,
    q: int,
    row_format: RowFormat | None = None,
    outputs: int = 1,
) -> Solver:
    """Return a solver, from its name or itself, that serves the loss, the penalty and the rows.

    "auto" chooses by these and the width q. A smooth objective is solved by Newton while its (q, q) curvature is cheap.
    For a quadratic loss, whose curvature is computed once, that is up to `GRAM_LIMIT`; with a nonsmooth penalty, where
    L-BFGS takes many steps, up to `WIDEST_NONSMOOTH`. Wider data is solved by Newton with the largest factor
    eliminated, where the rows have factors, else by L-BFGS. All classes' weights share one curvature. Without a row
    format the rows have no factors.
    """
    there = capabilities(penalty)
    # A penalty with corners is for weights of features; what the parameters of a model are is not known.
    if isinstance(loss, Model) and "smooth" not in there:
        raise InvalidArgumentError(f"penalty={penalty!r} bends where a weight is 0; models take None or L2(alpha).")

    # A name becomes a solver with its defaults; anything else that is no solver is refused with the names.
    if isinstance(solver, str):
        auto = _automatic(loss, there, q)
        if auto is LBFGS and _refusal_of_schur(loss, there, row_format, outputs) is None:
            auto = NewtonSchur
        solver = choose("solver", solver, {**SOLVERS, "auto": auto})()
    elif isinstance(solver, type) or not isinstance(solver, Solver):
        choose("solver", repr(solver), {**SOLVERS, "auto": None})
    assert isinstance(solver, Solver)

    # A pair that does not fit is refused before any row is read.
    if not _has_curvature(loss) and isinstance(solver, Newton | NewtonSchur | ADMM):
        raise InvalidArgumentError(
            f"solver={solver!r} needs a curvature, of which {loss!r} has none; choose lbfgs or auto."
        )
    _check_needs(solver, there, penalty)
    if isinstance(solver, NewtonSchur) and row_format is not None:
        refusal = _refusal_of_schur(loss, there, row_format, outputs)
        if refusal is not None:
            raise InvalidArgumentError(f"solver={solver!r} {refusal}; choose auto, newton or lbfgs.")
    if loss.curvature_bound is None:
        _check_unbounded(solver, loss, there)
    return solver


def _has_curvature(loss: Loss) -> bool:
    """Return whether second derivatives are known: a model is no pointwise loss, and gives its gradient only."""
    return not isinstance(loss, Model)


def _refusal_of_schur(
    loss: Loss,
    there: frozenset[str],
    row_format: RowFormat | None,
    outputs: int,
) -> str | None:
    """Return why `NewtonSchur` does not serve a loss, a penalty or rows, in words; None where it does."""
    if not has_parts(row_format):
        return (
            f"eliminates the largest of 1 to {MOST_FACTORS} factors, beside at most {MOST_NUMBERS} columns of numbers; "
            "these rows have others"
        )
    if not _has_curvature(loss) or classes_of(loss) or not loss.smooth:
        return f"needs a loss of one prediction with a continuous curvature, which {loss!r} is not"
    if outputs > 1 and not loss.quadratic:
        return f"takes a single output for {loss!r}, and there are {outputs}"
    if NewtonSchur.needs not in there:
        return "takes penalties without corners"
    return None


def _automatic(loss: Loss, there: frozenset[str], q: int) -> type[Solver]:
    """Return the class of the solver that "auto" chooses for a loss and a penalty with these capabilities."""
    classes = classes_of(loss) or 0
    width = q * (classes or 1)
    if "smooth" not in there:
        widest = WIDEST_NONSMOOTH
    elif loss.quadratic or classes:
        widest = GRAM_LIMIT
    else:
        widest = NEWTON_WIDTH
    if width <= widest and classes <= NEWTON_CLASSES and _has_curvature(loss):
        return Newton
    if LBFGS.needs in there:
        return LBFGS
    return Nesterov


def _check_needs(solver: Solver, there: frozenset[str], penalty: Penalty) -> None:
    """Refuse a solver that needs what is not among the capabilities of the penalty."""
    needed = getattr(solver, "needs", "smooth")
    if needed in there:
        return
    why = f"does not serve {penalty!r}, which bends where a weight is 0"
    if has_own_part(penalty):
        why = f"needs {needed!r} of a penalty, which {penalty!r} does not have"
    lbfgs = ""
    if LBFGS.needs in there:
        lbfgs = "lbfgs, "
    raise InvalidArgumentError(
        f"solver={solver!r} {why}; choose auto, newton, {lbfgs}nesterov, gradient_descent, sgd or admm, or "
        "penalty=L2(alpha)."
    )


def _check_unbounded(solver: Solver, loss: Loss, there: frozenset[str]) -> None:
    """Refuse a solver that needs a bound of the curvature, for a loss that has none."""
    automatic = getattr(solver, "learning_rate", None) == "auto"
    if not automatic and not isinstance(solver, ADMM):
        return
    number = ""
    if automatic:
        number = "give learning_rate a number, or "
    alternative = "auto"
    if LBFGS.needs not in there:
        # What "auto" takes for wide data is then Nesterov, which needs a bound.
        alternative = "newton"
    raise InvalidArgumentError(
        f"solver={solver!r}: the curvature of {loss!r} has no bound, and so no step is safe; "
        f"{number}choose {alternative}."
    )


def reliefs(
    solver: Solver,
    loss: Loss,
    penalty: Penalty,
    size: int,
) -> tuple[Solver, ...]:
    """Return the solvers that take over, in this order, where a solver stalls short of a minimum.

    ``size`` is the number of parameters. A solver that knows the whole curvature and a solver that remembers a few
    steps need not stall at the same point.
    """
    if isinstance(solver, Newton | NewtonSchur):
        if LBFGS.needs in capabilities(penalty):
            return (LBFGS(),)
        return ()
    if isinstance(solver, LBFGS) and size <= NEWTON_WIDTH and _has_curvature(loss):
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
    "NewtonSchur",
    "Solver",
    "as_solver",
    "reliefs",
]
