"""Transforms that learn from the rows: what they sum over a partition, and what they know at the end.

What is learnt is that of formulaic of all rows in memory, and formulaic's own functions apply it. A state is numbers,
texts and lists, which a store holds as JSON.
"""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

import numpy as np

from ...errors import DataError, InvalidArgumentError
from .spread import (
    MOST,
    Counted,
    Selection,
    Spread,
    between,
    first_selection,
    quantiles_of_counts,
    selected,
    spread_of,
)

#: What a transform has learnt.
State = dict[str, Any]


class Wide(NamedTuple):
    """Several columns: their fields in the order of the columns, and the values (n, columns)."""

    fields: tuple[Any, ...]
    values: np.ndarray
    #: The columns add up to 1, so that the first is left out where there is an intercept.
    spans_intercept: bool = False


def functions() -> dict[str, Any]:
    """Return formulaic's functions by the names that formulas have for them."""
    from formulaic.transforms import TRANSFORMS

    return TRANSFORMS


def apply(
    name: str,
    x: np.ndarray,
    positional: tuple[Any, ...],
    named: dict[str, Any],
    state: State,
    text: str,
) -> np.ndarray | Wide:
    """Return what a transform makes of values (n,) with the state that it has learnt.

    Raises
    ------
    DataError
        Where values lie beyond the bounds of a spline that refuses them.
    """
    is_missing = np.isnan(x)
    # A value that is there takes the place of missing ones, which come back at the end.
    known = np.where(is_missing, state.get("lower_bound", 0.0), x)
    try:
        with np.errstate(all="ignore"):
            made = functions()[name](known, *positional, _state=_as_formulaic(state), **named)
    except (ValueError, TypeError) as error:
        advice = ""
        if "extrapolation" in str(error):
            bounds = (state.get("lower_bound"), state.get("upper_bound"))
            advice = f" The bounds are {bounds[0]} and {bounds[1]}: extrapolation='clip' takes the value at the bound."
        raise DataError(f"formula, {text!r}: {error}{advice}") from error
    if isinstance(made, dict):
        values = np.stack([np.asarray(column, float) for column in made.values()], axis=1)
        fields: tuple[Any, ...] = tuple(made)
    else:
        values = np.array(made, float)
        if values.ndim == 1:
            values[is_missing] = np.nan
            return values
        about = getattr(made, "__formulaic_metadata__", None)
        fields = tuple(range(values.shape[1]))
        if about is not None and about.column_names:
            fields = tuple(about.column_names)
    values[is_missing] = np.nan
    about = getattr(made, "__formulaic_metadata__", None)
    return Wide(fields, values, bool(about is not None and about.spans_intercept))


def _as_formulaic(state: State) -> State:
    """Return a state as formulaic has it."""
    made = dict(state)
    for name in ("alpha", "norms2"):
        if name in made:
            made[name] = dict(enumerate(made[name]))
    if made.get("constraints") is not None:
        made["constraints"] = np.array(made["constraints"])
    return made


class PolySums(NamedTuple):
    """The sums of ``P_k^2`` and of ``x P_k^2``, of a polynomial of the recurrence."""

    squares: float
    moments: float

    def plus(self, other: PolySums) -> PolySums:
        """Return the sums over the values of both."""
        return PolySums(self.squares + other.squares, self.moments + other.moments)


class Asked(NamedTuple):
    """What is asked of the values of a transform's argument in one reading."""

    #: "moments", "values", "poly" or "selection".
    kind: str
    #: Values beyond these are not looked at.
    bounds: tuple[float | None, float | None] = (None, None)
    #: The recurrence of polynomials so far, or the selection of order statistics.
    so_far: Any = None

    def of(self, x: np.ndarray) -> Any:
        """Return the sums over values (n,), of those that are finite."""
        low, high = self.bounds
        x = x[np.isfinite(x)]
        if low is not None:
            x = x[x >= low]
        if high is not None:
            x = x[x <= high]
        if self.kind == "selection":
            return self.so_far.of(x)
        if self.kind == "poly":
            polynomial = polynomials(x, *self.so_far)
            return PolySums(float(polynomial @ polynomial), float((x * polynomial) @ polynomial))
        return spread_of(x, keeps_values=self.kind == "values")


def polynomials(x: np.ndarray, alpha: list[float], norms2: list[float]) -> np.ndarray:
    """Return the monic polynomial of degree ``len(alpha)`` that follows from the recurrence so far."""
    before = np.zeros_like(x)
    last = np.ones_like(x)
    for k, center in enumerate(alpha):
        following = (x - center) * last
        if k:
            following -= norms2[k] / norms2[k - 1] * before
        before, last = last, following
    return last


class Learning:
    """A transform that learns: what it asks for, and its state once it knows enough."""

    def __init__(self, name: str, positional: tuple[Any, ...], named: dict[str, Any], text: str):
        self.name = name
        self.text = text
        try:
            bound = inspect.signature(functions()[name]).bind(None, *positional, **named)
        except TypeError as error:
            raise InvalidArgumentError(f"formula, {text!r}: {error}") from error
        bound.apply_defaults()
        #: The options by their names; the argument itself is the first.
        self.options = dict(list(bound.arguments.items())[1:])
        self.options.pop("_state", None)
        self.asked = self._first()
        self.spread = Spread()
        self.found: dict[int, float] = {}
        self.alpha: list[float] = []
        self.norms2: list[float] = []

    def _first(self) -> Asked:
        """Return what is asked in the first reading."""
        if self.name in ("center", "scale", "standardize"):
            return Asked("moments")
        if self.name == "poly":
            return Asked("values")
        if self.name == "bs":
            return Asked("values", self._bounds())
        return Asked("values")

    def _bounds(self) -> tuple[float | None, float | None]:
        """Return the bounds of the values that knots are learnt from: none where splines are extended or refuse."""
        if self.options["extrapolation"] in ("raise", "extend"):
            return None, None
        return self.options["lower_bound"], self.options["upper_bound"]

    def learn(self, total: Any) -> State | None:
        """Return the state that follows from what was asked for; None if more is asked, see ``asked``."""
        try:
            return self._learn(total)
        except (ValueError, TypeError) as error:
            if isinstance(error, InvalidArgumentError | DataError):
                raise
            raise InvalidArgumentError(f"formula, {self.text!r}: {error}") from error

    def _learn(self, total: Any) -> State | None:
        """Return the state, or None."""
        if isinstance(total, Spread):
            if not total.total:
                raise DataError(f"formula, {self.text!r}: there is no value to learn from; all are missing.")
            self.spread = total
        if self.name == "poly":
            return self._poly(total)
        if self.name == "bs":
            return self._bs(total)
        if self.name in ("cc", "cr", "cs"):
            return self._cubic()
        return self._scale()

    def _scale(self) -> State:
        """Return the mean and the root mean square about it."""
        center, scale, ddof = {
            "center": lambda options: (True, False, 1),
            "scale": lambda options: (options["center"], options["scale"], options["ddof"]),
            "standardize": lambda options: (options["center"], options["rescale"], options["ddof"]),
        }[self.name](self.options)
        state: State = {"ddof": ddof, "center": None, "scale": None}
        shift = 0.0
        if center is True:
            shift = state["center"] = self.spread.mean
        elif center is not False:
            shift = state["center"] = float(center)
        if scale is True:
            squares = self.spread.squares + self.spread.total * (self.spread.mean - shift) ** 2
            state["scale"] = float(np.sqrt(squares / (self.spread.total - ddof)))
        elif scale is not False:
            state["scale"] = float(scale)
        return state

    def _poly(self, total: Any) -> State | None:
        """Return the recurrence of orthogonal polynomials, one degree after each reading of many values."""
        degree = self.options["degree"]
        values = self.spread.values
        while len(self.norms2) <= degree:
            if values is not None:
                assert self.spread.counts is not None
                last = polynomials(values, self.alpha, self.norms2)
                weighted = self.spread.counts * last
                total = PolySums(float(weighted @ last), float((values * weighted) @ last))
            elif not isinstance(total, PolySums):
                self.asked = Asked("poly", so_far=(list(self.alpha), list(self.norms2)))
                return None
            self.norms2.append(total.squares)
            if len(self.norms2) <= degree:
                self.alpha.append(total.moments / total.squares)
            total = None
        return {"alpha": self.alpha, "norms2": self.norms2}

    def _bs(self, total: Any) -> State | None:
        """Return the bounds and the knots, which are quantiles if their number is given."""
        options = self.options
        inner = options["knots"]
        if options["df"] and inner is not None:
            raise InvalidArgumentError(f"formula, {self.text!r}: give df or knots, not both.")
        if options["df"]:
            knots = options["df"] - options["degree"] - bool(options["include_intercept"])
            if knots < 0:
                least = options["degree"] + bool(options["include_intercept"])
                raise InvalidArgumentError(f"formula, {self.text!r}: df must be {least} at least.")
            shares = np.linspace(0, 1, knots + 2)[1:-1]
            found = self._quantiles(shares, total)
            if found is None:
                return None
            inner = found.tolist()
        state: State = {}
        ends = np.array([self.spread.low, self.spread.high])
        given = {**options, "df": None, "knots": inner, "extrapolation": "clip"}
        functions()["bs"](ends, **given, _state=state)
        return {
            "lower_bound": float(state["lower_bound"]),
            "upper_bound": float(state["upper_bound"]),
            "knots": [float(knot) for knot in state["knots"]],
        }

    def _quantiles(self, shares: np.ndarray, total: Any) -> np.ndarray | None:
        """Return quantiles of all values, None if more must be asked to know them."""
        spread = self.spread
        if spread.values is not None:
            assert spread.counts is not None
            return quantiles_of_counts(spread.values, spread.counts, shares)
        # The two values around each quantile, by their ranks.
        position = shares * (spread.total - 1)
        lower = np.floor(position).astype(np.int64)
        upper = np.minimum(lower + 1, spread.total - 1)
        ranks = sorted({*lower.tolist(), *upper.tolist()})
        following: Selection | None = first_selection(spread.low, spread.high)
        if isinstance(total, Counted):
            open_ranks = [rank for rank in ranks if rank not in self.found]
            following, found = selected(self.asked.so_far, total, open_ranks)
            self.found |= found
        if following is not None:
            self.asked = Asked("selection", self._bounds(), following)
            return None
        low = np.array([self.found[rank] for rank in lower.tolist()])
        high = np.array([self.found[rank] for rank in upper.tolist()])
        return between(low, high, position - lower)

    def _cubic(self) -> State:
        """Return the bounds, the knots, which are quantiles of the distinct values, and the constraints."""
        spread = self.spread
        if spread.values is None:
            raise InvalidArgumentError(
                f"formula, {self.text!r}: the knots are quantiles of the distinct values, of which there are more than "
                f"{MOST:,}. Give knots, lower_bound and upper_bound."
            )
        assert spread.counts is not None
        state: State = {}
        function = functions()[self.name]
        function(spread.values, **self.options, _state=state)
        constraints = state["constraints"]
        if isinstance(self.options["constraints"], str):
            # The mean over all rows, not over distinct values.
            free = function(spread.values, **self.options, _state={**state, "constraints": None})
            basis = np.stack(list(free.values()), axis=1)
            constraints = (spread.counts @ basis / spread.total)[None]
        if constraints is not None:
            constraints = np.atleast_2d(constraints).tolist()
        return {
            "lower_bound": float(state["lower_bound"]),
            "upper_bound": float(state["upper_bound"]),
            "cyclic": bool(state["cyclic"]),
            "constraints": constraints,
            "knots": [float(knot) for knot in state["knots"]],
        }
