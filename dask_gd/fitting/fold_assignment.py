"""The assignment of a source's rows to folds, from what users give: a rule, a column, groups or a splitter."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple

import dask.array as da
import numpy as np

from ..cluster import compute
from ..errors import InvalidArgumentError
from ..model.losses import Loss, classes_of, target_kind_of
from ..sources import Source
from ..sources.lazy import column as column_of
from ..sources.lazy import dask_rows, in_partitions, label_rows, unique
from .fold_splits import is_splits, sets_of, splits_of
from .folds import Assignment, ByClass, Folds, SplitFolds, classes_before


class Assigned(NamedTuple):
    """A source with the column that decides about folds, if there is one, and the assignment of its rows to them."""

    source: Source
    assignment: Assignment
    #: Of splits, the number of each fold's.
    splits: tuple[int, ...] | None = None


def assign_folds(
    source: Source,
    folds: Any,
    groups: Any,
    loss: Loss,
) -> list[Assigned]:
    """Return the assignment of a source's rows to folds; of splits that one search cannot serve, several."""
    if not is_splits(folds):
        return [Assigned(*assign_by_rows(source, folds, groups, loss))]
    # Folds of splits are a column like any other, and have heeded the groups.
    assigned = []
    for of_set in sets_of(splits_of(folds, source, _as_array(groups)), source.shape[0]):
        count = len(of_set.numbers)
        if of_set.is_whole and count > 1:
            with_column, assignment = _assign_by_column(source, of_set.fold, of_set.fold, "folds")
        else:
            with_column = source.with_columns(fold=in_partitions(source, of_set.fold, "folds"))
            assignment = Assignment(
                folds=SplitFolds(count),
                total=source.shape[0],
                first=source.bounds[0],
                column="splits",
            )
        assigned.append(Assigned(with_column, assignment, of_set.numbers))
    return assigned


def assign_by_rows(
    source: Source,
    folds: Any,
    groups: Any,
    loss: Loss,
) -> tuple[Source, Assignment]:
    """Return the source with the column that decides, and the assignment, where each row is in one fold or none."""
    folds = _as_array(folds)
    groups = _as_array(groups)
    if isinstance(folds, int | np.integer) and not isinstance(folds, bool):
        folds = Folds(int(folds))

    # By a column of folds or of groups, or else by a rule.
    if not isinstance(folds, Folds):
        if groups is not None:
            raise InvalidArgumentError("groups go with a number of folds; the array folds says it all.")
        if not hasattr(folds, "shape") and "fold" not in source.by_role:
            raise InvalidArgumentError(
                f"folds={folds!r}: a number, dask_gd.Folds(...), an array (n,) or a splitter of scikit-learn."
            )
        return _assign_by_column(source, folds, folds, "folds")
    if groups is not None:
        if folds.by != "hash":
            raise InvalidArgumentError(f"groups are shared out by a hash; folds={folds!r} says otherwise.")
        return _assign_by_column(source, folds, groups, "groups")
    return source, _assign_by_rule(source, folds, loss)


def fold_numbers(source: Source, assignment: Assignment) -> np.ndarray:
    """Return the fold of each row, (n,) int in memory; of arrays whose rows are all kept."""
    n = source.shape[0]
    if assignment.column == "folds":
        return np.asarray(dask_rows(column_of(source, "fold"))).ravel().astype(int)
    if assignment.before is not None:
        # Each class from its first row on.
        of_classes = ByClass(assignment.folds, np.zeros_like(assignment.before[0]))
        codes = np.asarray(dask_rows(column_of(source, "y"))).reshape(n, -1)
        return of_classes(SimpleNamespace(y=codes))
    return assignment.folds.of_rows(np.arange(n), n)


def _as_array(argument: Any) -> Any:
    """Return an array in place of a list or tuple of rows, and anything else as it is."""
    if isinstance(argument, list | tuple):
        return np.asarray(argument)
    return argument


def _assign_by_rule(source: Source, folds: Folds, loss: Loss) -> Assignment:
    """Return the assignment by the rows' numbers, or by their numbers within each class."""
    n = source.shape[0]
    first = source.bounds[0]
    if folds.count > n:
        raise InvalidArgumentError(f"{folds.count} folds need as many rows at least; there is n_samples={n}.")
    if folds.by != "class":
        return Assignment(folds, n, first, fields=source.x.fields)
    # The losses of two classes do not count them.
    count = classes_of(loss)
    if target_kind_of(loss) == "two classes":
        count = 2
    if not count or source.nan == "drop" or source.sample_dims is not None:
        raise InvalidArgumentError(
            f"folds={folds!r} are for losses of classes, and for arrays without rows to drop; take by='hash', or "
            "give each row's fold as an array."
        )
    y = dask_rows(column_of(source, "y"))
    before = classes_before(y, source.bounds, count)
    return Assignment(folds, n, first, before=before)


def _assign_by_column(
    source: Source,
    folds: Any,
    values: Any,
    column: str,
) -> tuple[Source, Assignment]:
    """Return the source with a column of folds or of groups, and the assignment by it."""
    assignment = Assignment(
        folds=Folds(),
        total=source.shape[0],
        first=source.bounds[0],
        column=column,
    )

    # A Dataset's variable is among the source's columns already.
    in_dataset = source.by_role.get("fold")
    if in_dataset is not None and in_dataset.fields is not None:
        (variable,) = in_dataset.arrays
        return source, _with_values(assignment, folds, variable)
    if source.x.fields is not None:
        raise InvalidArgumentError(f"{column} beside a Dataset: the name of a variable, or a DataArray.")

    # An array becomes one, in the source's partitions.
    if column == "groups":
        values = number_groups(values)
    source = source.with_columns(fold=in_partitions(source, values, column))
    return source, _with_values(assignment, folds, dask_rows(values, column))


def _with_values(assignment: Assignment, folds: Any, values: da.Array) -> Assignment:
    """Return the assignment with as many folds as the column says, or with all its groups: a reduction over it."""
    # What there is to know of the column.
    if assignment.column == "folds":
        lazy = values.max()
    else:
        lazy = da.unique(values.ravel())
    [known] = compute(lazy, what=f"the values of {assignment.column}")
    known = np.atleast_1d(known)
    if not np.isfinite(known).all():
        raise InvalidArgumentError(f"{assignment.column} holds NaN or infinity; give each row a number.")

    # Its largest number says how many folds there are; groups are shared out to the folds that are asked for.
    if assignment.column == "folds":
        count = max(2, int(known[0]) + 1)
        return assignment._replace(folds=Folds(count))
    if len(known) < folds.count:
        raise InvalidArgumentError(
            f"groups has {len(known)} different ones; {folds.count} folds need as many at least."
        )
    return assignment._replace(folds=folds, groups=known.astype(float))


def number_groups(groups: Any) -> Any:
    """Return numbers for groups that are strings, their places among the sorted ones; a reduction where they are lazy.

    Groups that are numbers are returned as they are.
    """
    values = label_rows(groups, "groups")
    if values.dtype.kind not in "OU":
        return groups
    known = unique(values)
    if isinstance(values, da.Array):
        return da.map_blocks(partial(np.searchsorted, known), values, dtype=int)
    return np.searchsorted(known, values)
