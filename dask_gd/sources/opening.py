"""The ways to make a `Source`: from a Zarr group, from a Dataset, and from whatever `fit` accepts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import xarray as xr
import zarr

from ..errors import InvalidArgumentError
from .coded_table import CodedTable
from .column import Column
from .column_blocks import check_none_in_blocks, column_blocks, is_column_blocks
from .columns import as_rows, check_coordinates, check_shapes, feature_names_of
from .dataset_column import dataset_columns
from .encoding import Encoding
from .formula.design import Formula
from .formula.grammar import is_formula
from .formula.source import refuse_beside_formula, source_of_table
from .frame_source import coded_source, frame_source
from .frames import frame_of, frame_of_parquet, may_have_factors
from .metadata import named_array, understood
from .side_by_side_column import SideBySideColumn, side_by_side
from .source import Source
from .sparse_group import is_sparse_group
from .stores import group_location
from .table import table_of
from .table_column import TableColumn


def open(
    path: Any,
    *,
    x: str | Sequence[str] | None = None,
    y: str | None = None,
    features: Any = None,
    target: Any = None,
    sample_dims: Any = None,
    sample_weight: Any = None,
    offset: Any = None,
    rows: slice = slice(None),
    missing: str = "error",
    drop: str | None = "auto",
    categorical: Any = None,
) -> Source:
    """Open the arrays of a Zarr group, the variables of an xarray Dataset, or the columns of a table as a source.

    Parameters
    ----------
    path : path, URL, zarr.Group, xarray.Dataset or data frame
        The path of a Zarr group, or of Parquet: a file or a pattern of files that end in ``.parquet`` or ``.pq``, or a
        directory of such files. Parquet is read by Dask, a part at a time.
    x : str or list of str
        The name of an array of features (n, p) in the group, or of a group of sparse rows as anndata writes them, see
        `write_sparse`, or of column blocks of these, see `block_columns`; or names of columns of numbers and codes of
        levels, and of sparse rows, in the order of the features: arrays (n,) or (n, columns), or groups. A column of L
        levels is L features, which are never written out. `sources.table` says how codes and levels are stored.
    y, sample_weight, offset : str
        Names of arrays in the group: targets (n,) or (n, k), row weights (n,), offsets (n,). Rows to predict need no
        targets.
    features, target, sample_dims, sample_weight, offset, categorical
        Of a Dataset or a table, see `fit`. The arguments below are for groups; of a Dataset select with its own
        ``isel``.
    rows : slice
        Consecutive rows to use, such as ``slice(0, 240_000)`` for training and the rest for testing.
    missing : {"error", "fill"}
        What to do about a chunk that is not in the store: refuse, or take it as the array's fill value, which is right
        where the writer dropped chunks that hold nothing else.
    drop : {"auto", "first", None}
        Whether the first level of each column of codes has a feature (None), or is the reference that the others are
        compared with ("first"). Without a penalty, an intercept and the features of all levels are not determined:
        "auto" then has references, as `Categories` has for data frames.

    Returns
    -------
    Source
        Features are named by ``x``'s attribute ``feature_names``, where it has one; those of levels ``column=level``.

    Raises
    ------
    InvalidArgumentError
        A name that is not in the group or the Dataset, lengths that differ, dimensions that are no sample dimensions.
    InvalidTypeError
        A variable that holds no real numbers.
    MissingChunkError
        With ``missing="error"``, where chunks are absent.

    Examples
    --------
    >>> source = dask_gd.open("data/flights.zarr", x="X", y="late", rows=slice(0, 240_000))
    >>> source.shape[0], source.dtype
    (240000, dtype('float32'))
    """
    # Variables and columns are named by other arguments than a group's arrays.
    frame = frame_of_parquet(path)
    if frame is None:
        frame = frame_of(path)
    if frame is not None or isinstance(path, xr.Dataset):
        if (x, y, rows, missing, drop) != (None, None, slice(None), "error", "auto"):
            raise InvalidArgumentError(
                "x, y, rows, missing and drop are for Zarr groups; of a Dataset or a table give features and target, "
                "and select rows beforehand, such as with dataset.isel(...). The reference levels of a table are "
                "Categories(drop=...)."
            )
        data = path
        if frame is not None:
            data = frame
        return as_source(
            data,
            features=features,
            target=target,
            sample_dims=sample_dims,
            sample_weight=sample_weight,
            offset=offset,
            categorical=categorical,
        )
    _only_beside_columns(path, features=features, target=target)
    _only_beside_dataset(sample_dims=sample_dims)
    _only_beside_frame(categorical)
    if x is None:
        raise InvalidArgumentError("open(group, ...) needs the names of its arrays: x='...', y='...'.")
    # A store that answers in its own words is explained.
    try:
        with understood(f"group {path}", OSError, ImportError, zarr.errors.ContainsArrayError):
            if isinstance(path, zarr.Group):
                group = path
            else:
                group = zarr.open_group(group_location(path), mode="r")
    except (FileNotFoundError, zarr.errors.ContainsArrayError) as error:
        raise InvalidArgumentError(f"{path} is not a Zarr group.") from error
    if missing not in ("error", "fill"):
        raise InvalidArgumentError(f"missing={missing!r}: choose 'error' or 'fill'.")
    # Arrays that were named must be there.
    arrays: dict[str, Any] = {"x": _stored_features(group, x, path, drop, missing)}
    names = {"y": y, "sample_weight": sample_weight, "offset": offset}
    for argument, name in names.items():
        if name is not None:
            arrays[argument] = named_array(group, argument, name, path)
    return make_source(**arrays, rows=rows, missing=missing)


def _stored_features(group: zarr.Group, x: str | Sequence[str], path: Any, drop: str | None, missing: str) -> Any:
    """Return an array of features, a group of sparse rows, or the columns of numbers and codes of these names."""
    # A list of a single name is that name, but for a single column of numbers (n,).
    if not isinstance(x, str) and len(x) == 1 and not _is_column(group, x[0]):
        return _stored_features(group, x[0], path, drop, missing)
    if isinstance(x, str):
        with understood(f"array {x!r} in {path}", OSError):
            member = group.get(x)
        if is_sparse_group(member):
            return member
        if is_column_blocks(member):
            assert isinstance(member, zarr.Group)
            return column_blocks(member, missing)
    elif x is not None:
        members = {name: group.get(name) for name in x if isinstance(name, str)}
        check_none_in_blocks(members)
        if any(map(is_sparse_group, members.values())):
            return side_by_side(group, x, lambda names: _table(group, names, path, drop, missing), missing)
    table = table_of(group, x, path, drop, missing)
    if table is None:
        assert isinstance(x, str)
        return named_array(group, "x", x, path)
    return table


def _is_column(group: zarr.Group, name: Any) -> bool:
    """Return whether this is the name of an array (n,)."""
    member = None
    if isinstance(name, str):
        with understood(f"array {name!r}", OSError):
            member = group.get(name)
    return isinstance(member, zarr.Array) and member.ndim == 1


def _table(group: zarr.Group, names: list[str], path: Any, drop: str | None, missing: str) -> TableColumn:
    """Return columns of numbers and codes by a list of their names."""
    table = table_of(group, names, path, drop, missing)
    assert table is not None
    return table


def as_source(
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    features: Any = None,
    target: Any = None,
    sample_dims: Any = None,
    offset: Any = None,
    nan: str = "error",
    fold: Any = None,
    categorical: Any = None,
    encoding: Encoding | None = None,
    predicts: bool = False,
    formula: Formula | None = None,
) -> Source:
    """Return a source of whatever `fit` accepts, see `fit`; of a formula x is the formula, and y the table.

    ``fold`` is for a Dataset, as ``sample_weight`` is; an ``encoding`` for a frame, that of an earlier fit, which says
    what becomes of unknown levels where it ``predicts``; else they are refused. A ``formula`` is that of an earlier fit
    too, and x the table.
    """
    if nan not in ("error", "drop"):
        raise InvalidArgumentError(f"nan={nan!r}: choose 'error' or 'drop'.")
    if formula is not None or is_formula(x):
        refuse_beside_formula(features=features, target=target, categorical=categorical, fold=fold)
        beside = {"sample_weight": sample_weight, "offset": offset, "sample_dims": sample_dims}
        source = source_of_table(x, y, formula, beside, drops_rows=nan == "drop")
    elif isinstance(x, xr.Dataset):
        if y is not None:
            raise InvalidArgumentError("y was given beside a Dataset; name its variable: target='...'.")
        _only_beside_frame(categorical)
        source = dataset_source(
            x,
            features=features,
            target=target,
            sample_dims=sample_dims,
            sample_weight=sample_weight,
            offset=offset,
            fold=fold,
        )
    else:
        _only_beside_dataset(sample_dims=sample_dims)
        named = {"features": features, "target": target, "categorical": categorical, "encoding": encoding}
        source = _of_rows(x, y, sample_weight, offset, named, predicts=predicts, drops_rows=nan == "drop")
        # Tasks get their columns only if the workers can be sent the stores.
        for column in source.columns:
            column.check_sendable()
    if nan == "drop":
        return replace(source, nan="drop")
    return source


def dataset_source(
    dataset: xr.Dataset,
    features: Any,
    target: Any,
    sample_dims: Any,
    sample_weight: Any,
    offset: Any,
    fold: Any = None,
) -> Source:
    """Return a source of the variables of a dataset, see `fit`."""
    columns = dataset_columns(
        dataset,
        features=features,
        target=target,
        sample_dims=sample_dims,
        sample_weight=sample_weight,
        offset=offset,
        fold=fold,
    )
    x = columns["x"]
    # A target named by a string is 1-D, and its coefficients have no axis of outputs.
    output_names = None
    if not isinstance(target, str):
        output_names = columns["y"].fields.names
    return Source(
        {**columns},
        bounds=x.partition_bounds(0, x.shape[0]),
        feature_names=x.fields.names,
        output_names=output_names,
    )


def _of_rows(
    x: Any,
    y: Any,
    sample_weight: Any,
    offset: Any,
    named: dict[str, Any],
    predicts: bool,
    drops_rows: bool,
) -> Source:
    """Return a source of columns of a data frame if any of ``named`` is given, or if it has factors; else of arrays."""
    frame = frame_of(x)
    is_named = any(value is not None for value in named.values())
    if frame is not None and (is_named or may_have_factors(frame)):
        return frame_source(frame, y, sample_weight, offset, **named, predicts=predicts, drops_rows=drops_rows)
    _only_beside_columns(x, features=named["features"], target=named["target"])
    _only_beside_frame(named["categorical"])
    if isinstance(x, CodedTable):
        return coded_source(x, y, sample_weight, offset)
    return _of_arrays(x, y, sample_weight, offset)


def _only_beside_dataset(**arguments: Any) -> None:
    """Refuse arguments that only a Dataset takes."""
    for name, value in arguments.items():
        if value is not None:
            raise InvalidArgumentError(f"{name}={value!r} is for an xarray.Dataset; the data is none.")


def _only_beside_columns(x: Any, **arguments: Any) -> None:
    """Refuse arguments that only Datasets and data frames take."""
    for name, value in arguments.items():
        if value is not None:
            raise InvalidArgumentError(
                f"{name}={value!r} names variables of an xarray.Dataset or columns of a data frame (pandas, Dask, "
                f"pyarrow, polars); the data is a {type(x).__name__}."
            )


def _only_beside_frame(categorical: Any) -> None:
    """Refuse options for the columns of a data frame."""
    if categorical is not None:
        raise InvalidArgumentError(f"categorical={categorical!r:.80} is for a data frame; the data is none.")


def _of_arrays(x: Any, y: Any, sample_weight: Any, offset: Any) -> Source:
    """Return a source of arrays, or a source with row weights and offsets beside it."""
    if isinstance(x, Source):
        if y is not None:
            raise InvalidArgumentError("y was given beside a Source, which has its own target; leave y out.")
        if not x.has_target:
            raise InvalidArgumentError("This source has no target to fit: name it, dask_gd.open(..., y='...').")
        # These take the place of the source's own weights and offsets.
        if sample_weight is not None:
            x = x.with_columns(weight=_beside_source(x, "weight", "sample_weight", sample_weight))
        if offset is not None:
            x = x.with_columns(offset=_beside_source(x, "offset", "offset", offset))
        return x
    if y is None:
        raise InvalidArgumentError("fit(x, y) needs a target y, or a Source from dask_gd.open(path, x=..., y=...).")
    return make_source(x, y, sample_weight, offset)


def make_source(
    x,
    y=None,
    sample_weight=None,
    offset=None,
    *,
    rows: slice = slice(None),
    missing: str = "error",
) -> Source:
    """Check shapes and dtypes, align the columns and fix the partitions."""
    # Names and labels, which arrays of numbers no longer have.
    if isinstance(x, TableColumn):
        names: tuple | None = x.encoding.feature_names
    elif isinstance(x, SideBySideColumn):
        names = x.feature_names
    else:
        names = feature_names_of(x)
    output_names = None
    check_coordinates(x=x, y=y, sample_weight=sample_weight, offset=offset)
    is_labelled = isinstance(y, xr.DataArray) or hasattr(y, "columns")
    if is_labelled and len(y.shape) == 2:
        output_names = feature_names_of(y)

    # The columns, and the checks of them that need no values.
    arguments = {
        "x": ("x", x),
        "y": ("y", y),
        "weight": ("sample_weight", sample_weight),
        "offset": ("offset", offset),
    }
    columns: dict[str, Column] = {}
    for role, (argument, values) in arguments.items():
        if isinstance(values, TableColumn | SideBySideColumn):
            columns[role] = values
        elif values is not None or role == "x":
            columns[role] = as_rows(values, argument, missing)
    rows_of_x = columns["x"].shape[0]
    check_shapes(columns["x"], columns.get("y", columns["x"]), columns.get("weight"), columns.get("offset"))
    start, stop, step = rows.indices(rows_of_x)
    if step != 1 or start >= stop:
        raise InvalidArgumentError(f"rows={rows}: must be consecutive rows of {rows_of_x}, at least one.")
    for column in columns.values():
        column.check(missing, start, stop)

    # The features decide where partitions begin, and the other columns follow.
    bounds = columns["x"].partition_bounds(start, stop)
    aligned = {role: column.aligned(bounds) for role, column in columns.items()}
    return Source(aligned, bounds, feature_names=names, output_names=output_names)


def _beside_source(source: Source, role: str, argument: str, values: Any) -> Column:
    """Return row weights or offsets beside a source as a column of it."""
    if source.sample_dims is not None:
        raise InvalidArgumentError(f"{argument} beside a Source of a Dataset: give it beside the Dataset.")
    rows = source.x.shape[0]
    if source.bounds[0] != 0 or source.bounds[-1] != rows:
        raise InvalidArgumentError(f"{argument} beside a Source of some rows: name it in dask_gd.open(...).")
    # The same checks and the same partitions as for columns that a source begins with.
    column: Column = as_rows(values, argument)
    check_shapes(source.x, source.y, **{role: column})
    column.check("error", 0, rows)
    return column.aligned(source.bounds)
