"""Robust covariances of coefficients: the sandwich ``inverse meat inverse``, from a pass at the solution.

The inverse is that of the observed information, and the meat is what scores vary by in truth: of rows by themselves
(White, "A heteroskedasticity-consistent covariance matrix estimator and a direct test for heteroskedasticity", 1980;
with leverages MacKinnon and White, "Some heteroskedasticity-consistent covariance matrix estimators with improved
finite sample properties", 1985), within groups (Liang and Zeger, "Longitudinal data analysis using generalized linear
models", 1986; of several groupings Cameron, Gelbach and Miller, "Robust inference with multiway clustering", 2011), or
near each other in time (Newey and West, "A simple, positive semi-definite, heteroskedasticity and autocorrelation
consistent covariance matrix", 1987; of several rows at a time Driscoll and Kraay, "Consistent covariance matrix
estimation with spatially dependent panel data", 1998).
"""

from __future__ import annotations

from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from distributed.system import MEMORY_LIMIT

from ..cluster import active_client
from ..errors import IndefiniteWarning, InvalidArgumentError, warn
from ..kernels import scores
from ..kernels.lagged_scores import Lags, within
from ..kernels.sums import sums_bytes
from ..sources import Source
from ..sources.row_groups import Groups, groups_of, intersection, with_groups
from .covariance_type import CovarianceType
from .information import NormalEquations

#: Columns of groups at most: of so many there are 2^d - 1 combinations.
MOST_COLUMNS = 4

#: Copies of the sums of all groups that a worker has at a time, beside one for each of its threads: those of two parts
#: of the rows, and of both together.
COPIES = 3

#: Eigenvalues of a covariance, beside that of the model, which are rounding where they are below 0.
ROUNDING = 1e-10


class Prepared(NamedTuple):
    """What a pass sums for a covariance, with the columns of the source that it needs."""

    source: Source
    meat: scores.MeatSpec
    #: Of each part of the meat whether it is added or subtracted.
    signs: tuple[int, ...] = (1,)


class Term(NamedTuple):
    """A part of a covariance."""

    sign: int
    matrix: np.ndarray  # (k, p + 1, p + 1), of the rows less the shift
    #: Groups, or points in time; 0 where rows stand alone.
    groups: int


def prepared(kind: CovarianceType, source: Source, x: Any, q: int, k: int) -> Prepared:
    """Return what a pass sums for a kind of covariances, of q parameters for each of k outputs."""
    n = source.shape[0]
    if kind.kind == "HAC":
        if source.x.fields is not None and len(source.x.fields.dims) > 1 and kind.time is None:
            dims = source.x.fields.dims
            raise InvalidArgumentError(
                f"infer(cov_type='HAC'): the rows have the dimensions {dims!r} and no order in time; say what time is, "
                f"such as time={dims[0]!r}, for the covariance of Driscoll and Kraay."
            )
        if kind.time is None:
            _check_lags(kind, source, n, "rows")
            return Prepared(source, Lags(kind.maxlags))
    if kind.by_group is None:
        return Prepared(source, scores.White())
    # The groups of each column, or the points in time.
    argument = "groups" if kind.kind == "cluster" else "time"
    columns = groups_of(source, x, kind.by_group, argument)
    for column in columns:
        if column.size < 2:
            raise InvalidArgumentError(
                f"infer({argument}=...): all rows are in one group; there must be two, and there should be dozens."
            )
    if kind.kind == "HAC":
        if len(columns) > 1:
            raise InvalidArgumentError("infer(time=...): a single column of points in time.")
        _check_lags(kind, source, columns[0].size, "points in time")
    if len(columns) > MOST_COLUMNS:
        raise InvalidArgumentError(f"infer(groups=...): {len(columns)} columns; at most {MOST_COLUMNS} are served.")
    return _by_group(source, columns, q, k)


def _check_lags(kind: CovarianceType, source: Source, n: int, what: str) -> None:
    """Refuse as many lags as there are rows, or points in time, and weights that repeat rows in time."""
    if kind.maxlags >= n:
        raise InvalidArgumentError(f"infer(maxlags={kind.maxlags}): there are {n} {what}; give fewer lags.")
    if "weight" in source.by_role and not kind.analytic:
        raise InvalidArgumentError(
            "infer(cov_type='HAC'): weights that repeat rows leave no order in time. Where they are no repetitions, "
            "say so by weights='analytic'."
        )


def _by_group(source: Source, columns: list[Groups], q: int, k: int) -> Prepared:
    """Return the sums by the groups of each column, and of the combinations that several columns have in common."""
    terms: list[tuple[int, Groups]] = [(1, column) for column in columns]
    for size in range(2, len(columns) + 1):
        for chosen in combinations(columns, size):
            terms.append(((-1) ** (size + 1), intersection(source, chosen)))
    _check_room([groups.size for _, groups in terms], q, k)
    parts = []
    for number, (_, groups) in enumerate(terms):
        role = f"group {number}"
        source = with_groups(source, role, groups)
        parts.append(scores.Groups(role, groups.size, groups.has_single))
    return Prepared(source, scores.Several(tuple(parts)), tuple(sign for sign, _ in terms))


def _check_room(counts: list[int], q: int, k: int) -> None:
    """Refuse sums by group for which a worker, or this process, has no memory."""
    each = 8 * q * k * sum(counts)
    limits = {"This process": (MEMORY_LIMIT, 1)}
    client = active_client()
    if client is not None:
        workers = client.scheduler_info()["workers"]
        limits = {f"Worker {name}": (worker["memory_limit"], worker["nthreads"]) for name, worker in workers.items()}
    for name, (limit, threads) in limits.items():
        needed = each * (COPIES + threads)
        if limit and needed > limit:
            raise InvalidArgumentError(
                f"infer(groups=...): the sums of {max(counts):,} groups, {q:,} parameters for each of {k:,} outputs, "
                f"take {each / 1e9:.2f} GB, and {needed / 1e9:.2f} GB while they are added up. {name} has "
                f"{limit / 1e9:.2f} GB and {threads} threads. Give it more memory or fewer threads, fit fewer "
                "features, or infer the outputs some at a time."
            )


def likelihood_with(kind: CovarianceType, meat: scores.MeatSpec, q: int, k: int) -> scores.RobustLikelihood:
    """Return the request for the sums of a fit's likelihood and of a meat."""
    nbytes = meat.nbytes(q, k)
    entries = 0
    if isinstance(meat, scores.Several):
        entries = 4 * sum(part.size for part in meat.parts)
    return scores.RobustLikelihood(
        meat=meat,
        analytic=kind.analytic,
        times=-(-nbytes // sums_bytes(q, k, 2, k)),
        entries=entries,
    )


def with_leverages(kind: CovarianceType, equations: NormalEquations) -> scores.White | None:
    """Return what a second pass sums, which knows the inverse of the information; None where it is not needed."""
    power = {"HC2": 1, "HC3": 2}.get(kind.kind)
    if power is None:
        return None
    return scores.White(power, np.stack([each.span for each in equations.inverses], axis=2))


def terms_of(kind: CovarianceType, meat: Any, signs: tuple[int, ...]) -> list[Term]:
    """Return the parts of a meat from its sums over all rows."""
    if isinstance(meat, scores.WhiteSums):
        if meat.leverage > scores.FULL_LEVERAGE:
            raise InvalidArgumentError(
                f"infer(cov_type={kind.kind!r}): a row has a leverage of 1, as it alone determines a coefficient, and "
                "no error can be told from its residual, which is 0. Take HC0 or HC1, or leave the feature out."
            )
        return [Term(1, meat.matrix, 0)]
    if not isinstance(meat, scores.SeveralSums):
        return [Term(1, meat.matrix, 0)]
    terms = []
    for sign, part in zip(signs, meat.parts, strict=True):
        if kind.kind == "HAC":
            matrix = np.stack([within(of_output, kind.maxlags) for of_output in part.by_key.sums])
        else:
            matrix = part.squares + np.swapaxes(part.by_key.sums, 1, 2) @ part.by_key.sums
        if part.groups < 2:
            raise InvalidArgumentError("infer(groups=...): the rows with a weight are all in one group.")
        terms.append(Term(sign, matrix, part.groups))
    return terms


def sandwich(
    kind: CovarianceType,
    terms: list[Term],
    equations: NormalEquations,
    n: float,
    is_linear: bool,
) -> np.ndarray:
    """Return the covariances (q, q, k), of the rows less the shift.

    Where terms are subtracted a covariance may be indefinite. It is left as it is, with a warning, if each coefficient
    has a positive variance; else negative eigenvalues, beside the covariance of the model, become 0.
    """
    q, _, k = equations.inverse.shape
    # In fixest's way all terms have the factor of the smallest number of groups.
    smallest = min(term.groups for term in terms)
    found = []
    is_indefinite = False
    is_negative = False
    for output in range(k):
        inverse = equations.of_output(output)
        meat = np.zeros((q, q))
        for term in terms:
            groups = term.groups
            if kind.small_sample == "fixest":
                groups = smallest
            factor = term.sign * kind.factor(n, q, groups, is_linear)
            meat += factor * (inverse.span.T @ term.matrix[output] @ inverse.span)
        covariance = inverse.root @ meat @ inverse.root.T
        if len(terms) > 1:
            values, vectors = np.linalg.eigh(meat)
            is_indefinite |= values[0] < -ROUNDING * abs(values).max()
            if (np.diagonal(covariance) <= 0).any():
                is_negative = True
                positive = (vectors * np.maximum(values, 0.0)) @ vectors.T
                covariance = inverse.root @ positive @ inverse.root.T
        found.append(covariance)
    if is_indefinite or is_negative:
        _warn_of_indefinite(is_negative)
    return np.stack(found, axis=2)


def _warn_of_indefinite(is_negative: bool) -> None:
    """Warn of a covariance that is none, and say what became of it."""
    what = (
        "The errors of the coefficients are as they are; a test of several coefficients together may have a negative "
        "statistic."
    )
    if is_negative:
        what = (
            "That of a coefficient is negative: negative eigenvalues were set to 0 (Cameron, Gelbach and Miller, "
            "2011), and errors are those of the next covariance."
        )
    warn(
        "infer: by several groupings, some combination of coefficients has a negative variance, as happens where a "
        f"grouping has few groups, or the rows do not depend on each other within them. {what}",
        IndefiniteWarning,
    )
