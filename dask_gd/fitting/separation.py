"""Levels of factors whose coefficients no rows determine, which are left out of a fit without a penalty.

Where all rows of a level have the same class, or counts of 0, its coefficient is infinite; and a level with a single
row predicts that row whatever the others say. Such levels are left out with their rows, and since other levels may then
lose rows, again until none is left (Correia, Guimaraes and Zylkin, 2020, "Fast Poisson estimation with high-dimensional
fixed effects", on separated observations).
"""

from __future__ import annotations

import logging

import numpy as np

from ..errors import DataError
from ..kernels.base import Request
from ..kernels.factors import CodedColumns
from ..kernels.level_counts import LevelCounts, LevelCountSums, ends_of, features_of, levels_of
from ..model.losses import Loss, likelihood_of
from ..model.losses.traits import target_kind_of
from ..solvers import NewtonSchur
from ..sources.encoding import FactorColumn, level_name
from .fit_state import FitState

logger = logging.getLogger("dask_gd")

#: Levels that are named at most.
NAMED = 5


def may_separate(track: FitState) -> bool:
    """Return whether there may be levels to leave out: of a likelihood that can be infinitely far away."""
    if not isinstance(track.solvers[0], NewtonSchur) or likelihood_of(track.loss) is None:
        return False
    return target_kind_of(track.loss) in ("two classes", "amount") and bool(_is_open(track).any())


def leave_out_separated(track: FitState) -> None:
    """Find the levels to leave out, by passes that count their rows, and leave them out of all passes that follow."""
    engine = track.engine
    columns: CodedColumns = track.source.row_format  # type: ignore[assignment]
    is_open = _is_open(track)
    query = np.zeros((len(track.start), 1, 1))
    marks = np.zeros(len(is_open), bool)
    before: int | None = None
    # Rows that go with a level are missing from others, which are counted anew.
    while True:
        found = track.read(query, Request(kernel=LevelCounts())).own
        rows = _rows(columns, found)
        if before is None:
            before = rows
        new = is_open & is_undetermined(found, track.loss)
        if not new.any():
            break
        marks = marks | new
        engine.left_out = marks
    if engine.left_out is not None:
        _tell(track, levels_of(columns, marks), before, rows)


def is_undetermined(counts: LevelCountSums, loss: Loss) -> np.ndarray:
    """Return which levels have a single row, or rows that all have the same class or a target of 0."""
    rows = counts.rows
    found = (rows == 1) | ((rows > 0) & (counts.zeros == rows))
    # All rows of the other class.
    if target_kind_of(loss) == "two classes":
        found |= (rows > 0) & (counts.zeros == 0)
    return found


def _is_open(track: FitState) -> np.ndarray:
    """Return which levels have no penalty, with an entry for each, see `level_counts`."""
    columns: CodedColumns = track.source.row_format  # type: ignore[assignment]
    penalised = np.broadcast_to(track.penalty.curvature(), columns.features) > 0
    entries = []
    for i in columns.factors:
        factor = columns.columns[i]
        assert factor is not None
        of_factor = np.zeros(factor.levels + 1, bool)
        features = slice(columns.starts[i], columns.starts[i + 1])
        of_factor[factor.drop_first : -1] = ~penalised[features]
        # A level without a feature has its coefficient in the others'.
        of_factor[: factor.drop_first] = not penalised[features].any()
        entries.append(of_factor)
    return np.concatenate(entries)


def _rows(columns: CodedColumns, counts: LevelCountSums) -> int:
    """Return the number of rows: each has a level of the first factor."""
    return int(counts.rows[: ends_of(columns)[0]].sum())


def _tell(track: FitState, levels: np.ndarray, before: int, after: int) -> None:
    """Say how many levels and rows are left out, and name the first levels."""
    columns: CodedColumns = track.source.row_format  # type: ignore[assignment]
    encoding = track.source.x.encoding
    names = track.source.feature_names
    # The first levels by their names; a reference has no feature, and a name all the same.
    named = []
    for column, code in levels[:NAMED].tolist():
        features = features_of(columns, np.array([[column, code]]))
        factor = None
        if encoding is not None:
            factor = encoding.columns[column]
        if isinstance(factor, FactorColumn):
            named.append(f"{factor.name}={level_name(factor.levels[code])}")
        elif names is not None and len(features):
            named.append(str(names[features[0]]))
        else:
            named.append(f"level {code} of column {column}")
    more = ""
    if len(levels) > NAMED:
        more = f" and {len(levels) - NAMED:,} more"
    listed = ", ".join(named) + more
    what = "a single row, or rows that all have the same class"
    if target_kind_of(track.loss) == "amount":
        what = "a single row, or a target of 0 in all rows"
    if after == 0:
        raise DataError(
            f"No row is left to fit: without a penalty the coefficients of {listed} are not finite, as these levels "
            f"have {what}. Give a penalty, such as dask_gd.L2(alpha)."
        )
    logger.warning(
        "%s of %s rows are left out, those of levels that have %s. Without a penalty the coefficients of these levels "
        "are not finite, or tell of that row alone; with a penalty they stay. They are (%s): %s.",
        f"{before - after:,}",
        f"{before:,}",
        what,
        f"{len(levels):,}",
        listed,
    )
