"""The options by which columns of a data frame become factors: `Categories`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

from ..errors import InvalidArgumentError
from ..validate import is_whole

#: The ways to treat a level that the fit did not have, a missing value, and the first level.
HANDLES = ("error", "ignore", "infrequent_if_exist")
MISSING_VALUES = ("error", "level")
DROPS = ("auto", "first", None)


@dataclass(frozen=True)
class Categories:
    """How columns of a data frame become factors, whose levels have a coefficient each.

    Columns of strings and of a categorical dtype are factors without being named. The names of most options are those
    of scikit-learn's ``OneHotEncoder``.

    Parameters
    ----------
    columns : sequence of names
        Columns of numbers or booleans that are factors too, such as the hour of the day.
    handle_unknown : {"error", "ignore", "infrequent_if_exist"}
        What `FitResult.predict`, and `infer`, ``partial_fit`` and `callbacks.EarlyStopping` too, do about a level that
        the fit did not have: refuse it by its name; take the other columns alone, as if the level's coefficient were 0
        (with ``drop="first"`` that is the reference level); or take it for the infrequent level, where the column has
        one, and else ignore it.
    min_frequency : int or float, optional
        Levels that occur in fewer rows than this, or in a smaller share of the rows if it is below 1, share one
        coefficient: that of the level "infrequent", the last.
    missing : {"error", "level"}
        A missing value is refused, as one of a number is, or its row is left out with ``nan="drop"``; or it is a level
        of its own, "missing", after all others.
    drop : {"auto", "first", None}
        The first level is the reference that the others are compared with, and has no coefficient; or all levels have
        one. "auto" drops it where there is no penalty, since one coefficient of each factor then follows from the
        others and the intercept, and keeps all levels where there is a penalty. Without a penalty and without an
        intercept the first of the factors keeps all of its levels.

    Raises
    ------
    InvalidArgumentError
        For an option that is none of these.

    Examples
    --------
    >>> import pandas as pd
    >>> flights = pd.DataFrame({"origin": ["ATL", "BOS", "ATL", "JFK"] * 5, "hour": [7, 8, 8, 7] * 5})
    >>> flights["delay"] = (flights.origin == "BOS") + 3.0 * (flights.origin == "JFK") + 2.0 * (flights.hour == 8)
    >>> run = dask_gd.fit(flights, features=["origin", "hour"], target="delay", categorical=["hour"])
    >>> run.weights.feature.values.tolist()
    ['origin=BOS', 'origin=JFK', 'hour=8']
    >>> run.weights.values.round(6).tolist()
    [1.0, 3.0, 2.0]
    >>> options = dask_gd.Categories(["hour"], drop=None, min_frequency=6)
    >>> run = dask_gd.fit(flights, features=["origin", "hour"], target="delay", categorical=options, max_iter=0)
    >>> run.weights.feature.values.tolist()
    ['origin=ATL', 'origin=infrequent', 'hour=7', 'hour=8']
    """

    columns: Sequence[Any] = ()
    handle_unknown: str = "error"
    min_frequency: int | float | None = None
    missing: str = "error"
    drop: str | None = "auto"

    def __post_init__(self) -> None:
        choices: tuple[tuple[str, Any, tuple], ...] = (
            ("handle_unknown", self.handle_unknown, HANDLES),
            ("missing", self.missing, MISSING_VALUES),
            ("drop", self.drop, DROPS),
        )
        for name, value, allowed in choices:
            if not any(value is each or value == each for each in allowed):
                raise InvalidArgumentError(
                    f"Categories({name}={value!r}): choose one of {', '.join(map(repr, allowed))}."
                )
        least = self.min_frequency
        if least is not None and not is_whole(least, least=1) and not _is_share(least):
            raise InvalidArgumentError(
                f"Categories(min_frequency={least!r}): a whole number of rows, 1 or more, or a share of them between 0 "
                "and 1."
            )
        if isinstance(self.columns, str):
            object.__setattr__(self, "columns", (self.columns,))
        else:
            object.__setattr__(self, "columns", tuple(self.columns))

    def least_rows(self, rows: int) -> float:
        """Return the number of rows below which a level is infrequent, of this number of rows in all."""
        least = self.min_frequency
        if least is None:
            return 0.0
        if _is_share(least):
            return float(least) * rows
        return float(least)


def _is_share(value: Any) -> bool:
    """Return whether a value is a share of the rows, and no number of them."""
    return isinstance(value, Real) and not is_whole(value, least=0) and 0 < float(value) < 1


def as_categories(categorical: Any) -> Categories:
    """Return the options for the argument ``categorical``: names of columns, or the options.

    Raises
    ------
    InvalidArgumentError
        For anything else.
    """
    if categorical is None:
        return Categories()
    if isinstance(categorical, Categories):
        return categorical
    if isinstance(categorical, str | list | tuple):
        return Categories(categorical)
    raise InvalidArgumentError(
        f"categorical={categorical!r:.80}: give the names of columns whose numbers are levels, such as ['hour'], or "
        "dask_gd.Categories(['hour'], ...) with options."
    )
