"""The kinds of covariances that `infer` has, their arguments, and the conventions of other programs about them.

`docs/inference.md` has the conventions as a table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ..errors import InvalidArgumentError
from ..validate import choose, is_whole

#: Each kind, and what it is, as a heading has it.
KINDS = {
    "nonrobust": "of the model",
    "HC0": "robust to unequal variances (HC0)",
    "HC1": "robust to unequal variances (HC1)",
    "HC2": "robust to unequal variances (HC2)",
    "HC3": "robust to unequal variances (HC3)",
    "cluster": "robust to dependence within groups",
    "HAC": "robust to unequal variances and autocorrelation",
}
#: Other names that statsmodels has, and the kind that they are here.
ALIASES = {"hac-groupsum": "HAC", "nw-groupsum": "HAC"}
#: Keys of ``cov_kwds``, which are arguments too but for the last.
KEYS = ("groups", "maxlags", "time", "use_correction")

SMALL_SAMPLE = {"statsmodels": None, "fixest": None}
WEIGHTS = {"frequency": None, "analytic": None}


class CovarianceType(NamedTuple):
    """A kind of covariances with its arguments, which have been checked as far as they can be without data."""

    kind: str = "nonrobust"
    groups: Any = None
    time: Any = None
    maxlags: int = 0
    use_t: bool | None = None
    small_sample: str = "statsmodels"
    #: Whether weights are analytic, and do not repeat their rows.
    analytic: bool = False
    #: Whether the factors of small samples are taken that can be left out; None by the convention.
    use_correction: bool | None = None

    @property
    def is_robust(self) -> bool:
        return self.kind != "nonrobust"

    @property
    def by_group(self) -> Any:
        """What tells the groups whose scores are summed: groups, or points in time; None without any."""
        if self.kind == "cluster":
            return self.groups
        return self.time

    def factor(self, n: float, q: int, groups: int, is_linear: bool) -> float:
        """Return the factor of the covariance for small samples, of n observations and q parameters.

        ``groups`` are the number of groups, or of points in time, where scores are summed by these.
        """
        of_rows = n / (n - q)
        is_fixest = self.small_sample == "fixest"
        if self.kind == "nonrobust":
            # The dispersion of a linear model is by n - q already.
            if is_fixest and not is_linear:
                return (n - 1.0) / (n - q)
            return 1.0
        if self.use_correction is False:
            return 1.0
        if self.by_group is not None:
            return groups / (groups - 1.0) * (n - 1.0) / (n - q)
        if is_fixest and self.kind != "HC0":
            return of_rows
        if self.kind == "HC1" and is_linear:
            return of_rows
        if self.kind == "HAC" and self.use_correction:
            return of_rows
        return 1.0

    def degrees_of_freedom(self, n: float, q: int, groups: int, is_linear: bool) -> float | None:
        """Return those of Student's t that tests are by; None where they are by the normal distribution.

        Arguments are those of `factor`, with the smallest number of groups.
        """
        use_t = self.use_t
        if use_t is None:
            use_t = is_linear and (self.small_sample == "fixest" or not self.is_robust)
        if not use_t:
            return None
        if self.by_group is not None:
            return groups - 1.0
        if self.kind == "HAC" and self.small_sample == "fixest":
            # The points in time are the rows.
            return n - 1.0
        return n - q


def covariance_type(
    cov_type: Any,
    cov_kwds: Any,
    arguments: dict[str, Any],
    use_t: Any,
    small_sample: Any,
    weights: Any,
) -> CovarianceType:
    """Return the kind of covariances that was asked for, with its arguments, which fit together.

    ``arguments`` are ``groups``, ``maxlags`` and ``time``, which ``cov_kwds`` may have too.

    Raises
    ------
    InvalidArgumentError
        For an unknown kind, and for an argument that is missing, or that goes with another kind.
    """
    kind = _kind(cov_type)
    given = _given(cov_kwds, arguments)
    if use_t not in (None, True, False):
        raise InvalidArgumentError(f"infer(use_t={use_t!r}): True, False, or None for the default.")
    choose("small_sample", small_sample, SMALL_SAMPLE)
    choose("weights", weights, WEIGHTS)
    # Each argument goes with a kind, and none is ignored.
    belongs = {"groups": ("cluster",), "maxlags": ("HAC",), "time": ("HAC",), "use_correction": ("cluster", "HAC")}
    for name, value in given.items():
        if value is not None and kind not in belongs[name]:
            raise InvalidArgumentError(
                f"infer({name}=..., cov_type={cov_type!r}): {name} goes with cov_type={belongs[name][0]!r}."
            )
    if kind == "cluster" and given["groups"] is None:
        raise InvalidArgumentError(
            "infer(cov_type='cluster') needs groups=...: each row's group, an array (n,), the name of a column, or a "
            "list of several."
        )
    maxlags = given["maxlags"]
    if kind == "HAC" and not is_whole(maxlags, least=0):
        raise InvalidArgumentError(
            f"infer(cov_type='HAC', maxlags={maxlags!r}): the largest lag, a whole number of 0 or more."
        )
    if given["use_correction"] not in (None, True, False, "cluster", "hac"):
        raise InvalidArgumentError(f"infer(cov_kwds={{'use_correction': {given['use_correction']!r}}}): True or False.")
    use_correction = given["use_correction"]
    if use_correction is not None:
        use_correction = bool(use_correction)
    return CovarianceType(
        kind=kind,
        groups=given["groups"],
        time=given["time"],
        maxlags=int(maxlags or 0),
        use_t=use_t,
        small_sample=small_sample,
        analytic=weights == "analytic",
        use_correction=use_correction,
    )


def _kind(cov_type: Any) -> str:
    """Return the kind of a name, whatever its case."""
    by_name = {name.lower(): name for name in KINDS} | ALIASES
    kind = by_name.get(str(cov_type).lower())
    if kind is None:
        raise InvalidArgumentError(
            f"infer(cov_type={cov_type!r}): choose one of {', '.join(map(repr, KINDS))}; with time=... 'HAC' is "
            "Driscoll and Kraay's."
        )
    return kind


def _given(cov_kwds: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of the kind, of which each is given once."""
    given = {**arguments, "use_correction": None}
    if cov_kwds is None:
        return given
    if not isinstance(cov_kwds, Mapping):
        raise InvalidArgumentError(f"infer(cov_kwds={cov_kwds!r:.80}): a dictionary of {', '.join(KEYS)}.")
    for name, value in cov_kwds.items():
        if name not in KEYS:
            raise InvalidArgumentError(f"infer(cov_kwds={{{name!r}: ...}}): there is no such key; {', '.join(KEYS)}.")
        if given[name] is not None:
            raise InvalidArgumentError(f"infer: {name} is given twice, as an argument and in cov_kwds.")
        given[name] = value
    return given
