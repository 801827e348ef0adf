"""The parameters of scikit-learn's estimators: which values each may have, and those that have no effect here.

scikit-learn's names and defaults are accepted, so that a model's parameters can be brought unchanged. Some of them say
how scikit-learn's solvers go about their work, and nothing to a fit in passes. They are the fields of the classes below
and **have no effect**:

| parameter | why |
|---|---|
| ``copy_X`` | rows are never overwritten |
| ``n_jobs`` | the Dask cluster has the workers |
| ``verbose`` | `dask_gd` logs, and ``callbacks=[print]`` prints |
| ``random_state`` | no solver but stochastic descent draws at random |
| ``precompute``, ``selection`` | the products of all columns are summed in the pass |
| ``dual``, ``intercept_scaling`` | no dual problem is solved, and the intercept is not penalised |
| ``shuffle`` | a step of stochastic descent draws partitions |
| ``gcv_mode`` | the decomposition that suits the rows is taken |
| ``solver_options`` | there is no linear programme |

A value that scikit-learn refuses is refused, of these too. The names of scikit-learn's solvers are accepted where it
accepts them: see `SOLVERS_OF_SCIKIT_LEARN`.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from sklearn.utils._param_validation import (
    HasMethods,
    Hidden,
    Interval,
    InvalidParameterError,
    StrOptions,
    validate_parameter_constraints,
)

from ..errors import InvalidArgumentError
from ..solvers import SOLVERS

#: The solvers that stand for scikit-learn's. "lbfgs" is a solver here too; what the others find, "auto" finds.
SOLVERS_OF_SCIKIT_LEARN = {
    "newton-cg": "newton",
    "newton-cholesky": "newton",
    "cholesky": "auto",
    "highs": "auto",
    "highs-ds": "auto",
    "highs-ipm": "auto",
    "interior-point": "auto",
    "liblinear": "auto",
    "lsqr": "auto",
    "revised simplex": "auto",
    "sag": "auto",
    "saga": "auto",
    "sparse_cg": "auto",
    "svd": "auto",
}

AT_LEAST_0 = Interval(Real, 0, None, closed="left")
ABOVE_0 = Interval(Real, 0, None, closed="neither")
SHARE = Interval(Real, 0, 1, closed="both")
WHOLE = Interval(Integral, 0, None, closed="left")
ABOVE_0_WHOLE = Interval(Integral, 1, None, closed="left")
NO_CHECK = "no_validation"

#: What each parameter may be, as scikit-learn describes it. An estimator where it may be something else says so.
CONSTRAINTS: dict[str, Any] = {
    "C": [Interval(Real, 0, None, closed="right")],
    "Cs": [ABOVE_0_WHOLE, "array-like"],
    "alpha": [AT_LEAST_0],
    "alphas": [ABOVE_0_WHOLE, "array-like"],
    "average": ["boolean", ABOVE_0_WHOLE],
    "batch": [Interval(Real, 0, 1, closed="right")],
    "class_weight": [dict, StrOptions({"balanced"}), None],
    "copy_X": ["boolean"],
    "dual": ["boolean", StrOptions({"auto"})],
    "early_stopping": ["boolean"],
    "eps": [ABOVE_0],
    "epsilon": [AT_LEAST_0],
    "eta0": [ABOVE_0, StrOptions({"auto"})],
    "fit_intercept": ["boolean"],
    "gcv_mode": [StrOptions({"auto", "svd", "eigen"}), None],
    "intercept_scaling": [ABOVE_0],
    "l1_ratio": [SHARE],
    "l1_ratios": ["array-like", None],
    "learning_rate": [StrOptions({"constant", "optimal", "invscaling", "adaptive", "pa1", "pa2"})],
    "link": [StrOptions({"auto", "identity", "log"})],
    "max_iter": [WHOLE, None],
    "multi_class": [StrOptions({"ovr", "crammer_singer"})],
    "n_iter_no_change": [ABOVE_0_WHOLE],
    "n_jobs": [Integral, None],
    "penalty": [StrOptions({"l1", "l2", "elasticnet"}), None],
    "positive": ["boolean"],
    "power": [Interval(Real, None, None, closed="neither")],
    "power_t": [Interval(Real, None, None, closed="neither")],
    "precompute": ["boolean", "array-like", Hidden(StrOptions({"auto"}))],
    "quantile": [Interval(Real, 0, 1, closed="neither")],
    "random_state": ["random_state"],
    "refit": ["boolean"],
    "scale": [ABOVE_0, None],
    "selection": [StrOptions({"cyclic", "random"})],
    "shuffle": ["boolean"],
    "smoothing": [ABOVE_0, None],
    "solver_options": [dict, None],
    "store_cv_results": ["boolean"],
    "tol": [AT_LEAST_0, None],
    "use_legacy_attributes": ["boolean"],
    "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
    "verbose": ["verbose"],
    "warm_start": ["boolean"],
}


class InvalidParameter(InvalidArgumentError, InvalidParameterError):
    """A parameter that scikit-learn refuses too: caught as its error, or as one of dask_gd."""


def check_parameters(estimator: Any) -> None:
    """Refuse values of parameters that cannot be, with the message of scikit-learn."""
    constraints = {**CONSTRAINTS, **estimator.constraints()}
    names = {*SOLVERS, "auto", *estimator.solvers_of_scikit_learn}
    constraints["solver"] = [StrOptions(names), HasMethods("step")]
    try:
        validate_parameter_constraints(
            constraints,
            estimator.get_params(deep=False),
            caller_name=type(estimator).__name__,
        )
    except InvalidParameterError as error:
        raise InvalidParameter(str(error)) from None


def solver_of(solver: Any) -> Any:
    """Return the solver, or the name of the solver, that stands for one of scikit-learn's."""
    if isinstance(solver, str):
        return SOLVERS_OF_SCIKIT_LEARN.get(solver, solver)
    return solver


# The parameters without effect


@dataclass(kw_only=True, repr=False, eq=False)
class Copied:
    """It has ``copy_X``, without effect."""

    copy_X: bool = True


@dataclass(kw_only=True, repr=False, eq=False)
class WithJobs:
    """It has ``n_jobs``, without effect."""

    n_jobs: int | None = None


@dataclass(kw_only=True, repr=False, eq=False)
class Verbose:
    """It has ``verbose``, without effect."""

    verbose: int = 0


@dataclass(kw_only=True, repr=False, eq=False)
class Seeded:
    """It has ``random_state``, without effect but for stochastic descent."""

    random_state: Any = None


@dataclass(kw_only=True, repr=False, eq=False)
class ByCoordinates(Copied, Seeded):
    """It has scikit-learn's parameters of coordinate descent, without effect."""

    precompute: Any = False
    selection: str = "cyclic"


@dataclass(kw_only=True, repr=False, eq=False)
class Liblinear(Seeded, Verbose):
    """It has scikit-learn's parameters of liblinear, without effect."""

    dual: bool | str = False
    intercept_scaling: float = 1
