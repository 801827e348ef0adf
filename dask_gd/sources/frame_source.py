"""Sources of data frames: features, targets, weights and offsets are columns, and columns of strings are factors."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import dask.array as da
import numpy as np

from ..errors import InvalidArgumentError
from .categories import as_categories
from .census import encoding_of_frame, kinds_of, listed, taken
from .coded_table import CodedTable
from .coding import FrameCoder, lenient, number_values
from .coercion import is_lazy_frame, numbers
from .column import Column
from .columns import as_rows, check_shapes
from .dask_column import DaskColumn
from .dask_frames import array_of_partitions
from .encoding import Encoding, NumberColumn
from .frame_column import FrameColumn
from .frames import Interaction, columns_of, empty_of, features_named, frame_of, labels_of
from .pandas_values import common_dtype
from .source import Source


def check_columns(encoding: Encoding, labels: list[Any]) -> None:
    """Refuse other features than those of the fit whose encoding it is."""
    fitted = [column.name for column in encoding.columns]
    if fitted != [str(label) for label in labels]:
        raise InvalidArgumentError(f"features: these are {listed(labels)}; the fit had {listed(fitted)}.")


def frame_source(
    frame: Any,
    y: Any = None,
    sample_weight: Any = None,
    offset: Any = None,
    *,
    features: Any = None,
    target: Any = None,
    categorical: Any = None,
    encoding: Encoding | None = None,
    predicts: bool = False,
    drops_rows: bool = False,
) -> Source:
    """Return a source of columns of a frame; see `fit`. An ``encoding`` is that of an earlier fit.

    With ``predicts`` levels that this does not have are treated as in a prediction, else they are refused. With
    ``drops_rows`` rows that lack a value are left out, and their levels do not count.

    Raises
    ------
    InvalidArgumentError
        A column that is not there, a target that is missing or given twice.
    InvalidTypeError, DataError
        Naming a column that holds neither numbers nor levels.
    """
    # What the columns are for: targets, weights and offsets, and all others are features.
    options = as_categories(categorical)
    roles = _roles(frame, y, target, sample_weight, offset)
    if encoding is not None and features is None:
        features = [column.name for column in encoding.columns]
    labels = _features(frame, features, roles)
    if encoding is not None:
        check_columns(encoding, labels)
    # The levels are those of an earlier fit, or what occurs in the rows.
    rows: tuple[int, ...] = ()
    drops = False
    if encoding is None:
        complete: tuple[Any, ...] = ()
        if drops_rows:
            kinds = kinds_of(frame, labels, options)
            has_level = [kinds[label] != "number" and options.missing == "level" for label in labels]
            complete = _complete(labels, has_level, roles)
        encoding, rows = encoding_of_frame(frame, labels, options, complete=complete)
        drops = encoding is not None and options.drop == "auto"
    elif is_lazy_frame(frame):
        rows = taken(frame, []).rows

    # The columns of the frame, and those that were given beside it.
    complete = ()
    if drops_rows and encoding is not None:
        complete = _complete(labels, encoding.has_missing_level, roles)
    coder = None
    if encoding is not None:
        coder = FrameCoder(encoding, tuple(labels), predicts=predicts, complete=complete)
    columns: dict[str, Column] = dict(_columns(frame, labels, roles, coder, rows))
    has_names = all(isinstance(label, str | Interaction) for label in labels)
    coded_as = None
    if encoding is not None and predicts:
        coded_as = lenient(encoding)
    columns["x"] = replace(  # type: ignore[type-var]
        columns["x"],
        levels=encoding,
        coded_as=coded_as,
        drops=drops,
        has_names=has_names,
    )
    columns.update(_given_beside(roles, y, sample_weight, offset))
    columns = {role: columns[role] for role in ("x", "y", "weight", "offset") if role in columns}
    check_shapes(columns["x"], columns["y"], columns.get("weight"), columns.get("offset"))

    # The names of features and outputs.
    names = tuple(map(str, labels))
    if encoding is not None:
        names = encoding.feature_names
    output_names = None
    if "y" in roles and not roles["y"].is_single:
        output_names = tuple(map(str, roles["y"].labels))
    elif hasattr(y, "columns") and len(columns["y"].shape) == 2:
        output_names = tuple(map(str, y.columns))

    # All roles in the partitions of the features.
    bounds = columns["x"].partition_bounds(0, columns["x"].shape[0])
    aligned = {role: column.aligned(bounds) for role, column in columns.items()}
    return Source(aligned, bounds, feature_names=names, output_names=output_names)


def coded_source(
    table: CodedTable,
    y: Any,
    sample_weight: Any = None,
    offset: Any = None,
) -> Source:
    """Return a source of rows that are coded already."""
    if y is None:
        raise InvalidArgumentError("fit(x, y) needs a target y.")
    made = as_rows(table.codes, "x")
    assert isinstance(made, DaskColumn)
    # Codes are columns of a frame, whose levels are known.
    names = tuple(column.name for column in table.encoding.columns)
    x = FrameColumn(made.array, "x", made.memory, names=names, levels=table.encoding)
    # What was given beside the codes, in their partitions.
    columns: dict[str, Column] = {"x": x, **_given_beside((), y, sample_weight, offset)}
    check_shapes(x, columns["y"], columns.get("weight"), columns.get("offset"))
    bounds = x.partition_bounds(0, x.shape[0])
    aligned = {role: column.aligned(bounds) for role, column in columns.items()}
    return Source(aligned, bounds, feature_names=table.encoding.feature_names)


def _given_beside(named: Collection[str], y: Any, sample_weight: Any, offset: Any) -> dict[str, Column]:
    """Return what is given beside a frame as columns by role, but for roles that columns of the frame are named for."""
    given = {"y": ("y", y), "weight": ("sample_weight", sample_weight), "offset": ("offset", offset)}
    columns: dict[str, Column] = {}
    for role, (argument, values) in given.items():
        if values is not None and role not in named:
            columns[role] = as_rows(values, argument)
    return columns


@dataclass(frozen=True)
class Named:
    """The columns of a frame that a role beside the features has."""

    argument: str
    labels: tuple[Any, ...]
    #: A single column without an axis of columns.
    is_single: bool


def _roles(
    frame: Any,
    y: Any,
    target: Any,
    sample_weight: Any,
    offset: Any,
) -> dict[str, Named]:
    """Return the roles that columns of the frame have beside the features."""
    if y is not None and target is not None:
        raise InvalidArgumentError(f"y was given beside target={target!r}; give one of them.")
    if y is None and target is None:
        raise InvalidArgumentError(
            "fit(frame, ...) needs a target: target='...', the name of its column, or y. Predictions, of the "
            "frame itself, need none."
        )
    # A name stands for a column of the frame, anything else is an array beside it.
    named: dict[str, Any] = {"y": ("target", target)}
    for role, argument, value in (("weight", "sample_weight", sample_weight), ("offset", "offset", offset)):
        if isinstance(value, str):
            named[role] = (argument, value)
    roles = {}
    for role, (argument, names) in named.items():
        if names is not None:
            is_single = not isinstance(names, list | tuple)
            roles[role] = Named(argument, tuple(labels_of(frame, names, argument)), is_single)
    return roles


def _features(frame: Any, features: Any, roles: dict[str, Named]) -> list[Any]:
    """Return the labels of the features: by default all columns that have no other role."""
    used = {label for role in roles.values() for label in role.labels}
    if features is None:
        features = [label for label in empty_of(frame).columns if label not in used]
    # No column may be a feature and have another role.
    labels = features_named(frame, features, "features")
    for label in columns_of(labels):
        if label in used:
            raise InvalidArgumentError(f"features: {label!r} is the target, the weight or the offset too.")
    return labels


def _complete(labels: list[Any], has_level: list[bool], roles: dict[str, Named]) -> tuple[Any, ...]:
    """Return the columns in which a missing value leaves its row out; in those that have a level for it it does not."""
    found = columns_of([label for label, has in zip(labels, has_level, strict=True) if not has])
    # One of several targets may be missing in all rows, which leaves none out.
    for role, named in roles.items():
        if role != "y" or named.is_single:
            found.extend(named.labels)
    return tuple(found)


def _columns(
    frame: Any,
    labels: list[Any],
    roles: dict[str, Named],
    coder: FrameCoder | None,
    rows: tuple[int, ...],
) -> dict[str, FrameColumn]:
    """Return the columns of a frame by role; codes of features have no levels yet."""
    arrays: dict[str, Any]
    if is_lazy_frame(frame):
        arrays = _lazy_arrays(frame, labels, roles, coder, rows)
    else:
        arrays = _arrays(frame, labels, roles, coder)
    columns = {}
    for role, array in arrays.items():
        argument = "x"
        own_labels = tuple(labels)
        if role != "x":
            argument = roles[role].argument
            own_labels = roles[role].labels
        made = as_rows(array, argument)
        assert isinstance(made, DaskColumn)
        names = tuple(map(str, own_labels))
        columns[role] = FrameColumn(made.array, argument, made.memory, names=names)
    return columns


def _arrays(
    frame: Any,
    labels: list[Any],
    roles: dict[str, Named],
    coder: FrameCoder | None,
) -> dict[str, np.ndarray]:
    """Return the columns of a frame in memory as arrays by role."""
    arrays = {}
    if coder is None:
        arrays["x"] = numbers(frame[labels], "x")
    else:
        arrays["x"] = coder(frame)
    for role, named in roles.items():
        columns = [number_values(frame[label], label, named.argument) for label in named.labels]
        if named.is_single:
            arrays[role] = columns[0]
        else:
            arrays[role] = np.stack(columns, axis=1)
    return arrays


def _lazy_arrays(
    frame: Any,
    labels: list[Any],
    roles: dict[str, Named],
    coder: FrameCoder | None,
    rows: tuple[int, ...],
) -> dict[str, da.Array]:
    """Return the columns of a frame of Dask's as arrays by role, whose blocks are all cut from the same block."""
    # What is no number is refused by the dtypes alone.
    meta = frame._meta
    dtype = np.dtype(float)
    if coder is None:
        coder = FrameCoder(Encoding(tuple(NumberColumn(str(label)) for label in labels)), tuple(labels))
        dtype = common_dtype(meta[labels], "x")
    others = [(label, named.argument) for named in roles.values() for label in named.labels]
    for label, argument in others:
        common_dtype(meta[[label]], argument)
    array = coded(frame, replace(coder, others=tuple(others)), rows)

    # Each role has some of the columns, so that a partition is read once for all of them.
    cut = partial(cut_columns, array)
    arrays = {"x": cut(slice(0, len(labels)), dtype)}
    start = len(labels)
    for role, named in roles.items():
        stop = start + len(named.labels)
        if named.is_single:
            arrays[role] = cut(start, np.dtype(float))
        else:
            arrays[role] = cut(slice(start, stop), np.dtype(float))
        start = stop
    return arrays


def coded(frame: Any, coder: FrameCoder, rows: tuple[int, ...] | None) -> da.Array:
    """Return the columns of a frame of Dask's as an array; the partitions' numbers of rows are unknown if None."""
    other_labels = [label for label, _ in coder.others]
    needed = columns_of([*coder.labels, *other_labels])
    width = len(coder.labels) + len(other_labels)
    return array_of_partitions(frame[needed], coder.partition, width, rows)


def cut_columns(array: da.Array, columns: int | slice, dtype: np.dtype) -> da.Array:
    """Return a column, or some columns, of an array in blocks of rows."""
    if isinstance(columns, int):
        return da.map_blocks(
            _columns_of,
            array,
            columns=columns,
            dtype=dtype,
            drop_axis=1,
            meta=np.empty(0, dtype),
        )
    chunks = (array.chunks[0], (columns.stop - columns.start,))
    empty = np.empty((0, 0), dtype)
    return da.map_blocks(
        _columns_of,
        array,
        columns=columns,
        out=dtype,
        dtype=dtype,
        chunks=chunks,
        meta=empty,
    )


def _columns_of(block: np.ndarray, columns: int | slice, out: Any = float) -> np.ndarray:
    """Return a column, or some columns, of a block."""
    return np.ascontiguousarray(block[:, columns], dtype=out)


def with_encoding_of(
    encoding: Encoding,
    x: Any,
    y: Any,
    options: dict[str, Any],
) -> tuple[Any, Any, dict[str, Any]]:
    """Return a frame, and what `fit` takes to read it, as a source with the encoding of a search; all else as it is."""
    frame = frame_of(x)
    if frame is None:
        return x, y, options
    if "categorical" in options:
        raise InvalidArgumentError("refit(categorical=...): the levels are those of the search.")
    # What is about the frame's columns goes to the source, and all else to the fit.
    arguments = ("sample_weight", "offset", "features", "target")
    given = {name: value for name, value in options.items() if name in arguments}
    rest = {name: value for name, value in options.items() if name not in arguments}
    drops_rows = rest.get("nan") == "drop"
    return frame_source(frame, y, **given, encoding=encoding, drops_rows=drops_rows), None, rest


def coded_for_prediction(
    frame: Any,
    encoding: Encoding,
    drops_rows: bool = False,
    refuses_missing: bool = False,
) -> tuple[Any, Encoding]:
    """Return the columns of a frame as an array of numbers and codes, and the encoding that says what these are.

    Columns are found by their names, and others are ignored. With ``drops_rows`` the levels of a row that lacks a value
    in another column may be any; with ``refuses_missing`` a missing value that is no level is an unknown one.

    Raises
    ------
    InvalidArgumentError
        Naming a column that is not there.
    DataError
        Naming a level that the fit did not have; of a frame of Dask's, where the array is computed.
    """
    labels = tuple(features_named(frame, [column.name for column in encoding.columns], "predict"))
    complete: tuple[Any, ...] = ()
    if drops_rows:
        complete = _complete(list(labels), encoding.has_missing_level, {})
    coder = FrameCoder(
        encoding,
        labels,
        predicts=True,
        complete=complete,
        refuses_missing=refuses_missing,
    )
    if is_lazy_frame(frame):
        return coded(frame, coder, None), lenient(encoding)
    return coder(frame), lenient(encoding)
