"""The features of rows that a fit is to predict: as arrays, checked, and multiplied with the weights."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np

from ..errors import DataError, InvalidArgumentError
from ..sources import Source
from ..sources.coded_table import CodedTable
from ..sources.columns import as_rows, check_stored, sized
from ..sources.compressed import is_scipy, memory_rows
from ..sources.encoding import Encoding, FactorColumn
from ..sources.frame_column import FrameColumn
from ..sources.gate import is_sparse
from ..sources.kinds import product_dtype
from ..sources.levels_in_fit import with_encoding, with_features_of


def features_of_source(
    source: Source,
    encoding: Encoding | None,
    fitted: tuple[str, ...] | None,
) -> tuple[Any, tuple | None]:
    """Return the features of a Source as an array, codes as codes, and the names of its columns if they have any.

    ``fitted`` are the names of the columns of the fit.

    Raises
    ------
    InvalidArgumentError
        If codes do not stand for the levels that they stood for in the fit.
    """
    source = with_features_of(source, fitted)
    names = source.feature_names
    of_source = source.x.encoding
    if (encoding is None) != (of_source is None):
        has = {True: "columns of codes", False: "the features themselves"}
        raise InvalidArgumentError(
            f"predict(x): the fit had {has[encoding is not None]}, this source has {has[of_source is not None]}."
        )
    if encoding is not None and of_source is not None:
        check_encoding(of_source, encoding, of_frame=isinstance(source.x, FrameColumn))
        names = tuple(column.name for column in of_source.columns)
    return source.x.lazy_rows(source.bounds[0], source.bounds[-1]), names


def source_of_fit(
    source: Source,
    encoding: Encoding | None,
    names: tuple[str, ...] | None,
    what: str,
) -> Source:
    """Return a source with the encoding of a fit, or its features, where the fit has decided on reference levels.

    Raises
    ------
    InvalidArgumentError
        If codes are those of other columns, or do not stand for the levels that they stood for in the fit.
    """
    of_source = source.x.encoding
    if encoding is None or of_source is None:
        return with_features_of(source, names)
    columns = [column.name for column in of_source.columns]
    fitted = [column.name for column in encoding.columns]
    if columns != fitted:
        raise InvalidArgumentError(
            f"{what}: these data have the columns {columns!r:.200}; the fit had {fitted!r:.200}."
        )
    check_encoding(of_source, encoding, what, of_frame=isinstance(source.x, FrameColumn))
    return with_encoding(source, encoding)


def check_encoding(
    encoding: Encoding,
    fitted: Encoding,
    what: str = "predict(x)",
    of_frame: bool = False,
) -> None:
    """Refuse columns whose codes stand for other levels than in the fit; ``what`` is what was asked for.

    The levels ``of_frame`` are those that a source has found in a data frame.
    """
    advice = "Codes must be those of the fit: see run.encoding."
    if of_frame:
        advice = (
            "A source has the levels of its own rows. Give the data frame itself, which is read with those of the fit: "
            "that of Parquet is dask.dataframe.read_parquet(path)."
        )
    pairs = zip(encoding.columns, fitted.columns, strict=False)
    for own, of_fit in pairs:
        own_levels = getattr(own, "levels", None)
        levels = getattr(of_fit, "levels", None)
        if own_levels == levels:
            continue
        found = described(own_levels)
        raise InvalidArgumentError(
            f"{what}: column {own.name!r} has {found}, but the fit had {described(levels)} in {of_fit.name!r}"
            f"{first_difference(own_levels, levels)}. {advice}"
        )


def codes_of_table(table: CodedTable, encoding: Encoding | None) -> Any:
    """Return the codes of a table, whose levels must be those of the fit; its array for a fit to arrays."""
    if encoding is None:
        if table.is_lazy:
            return table.to_dask_array()
        return np.asarray(table)
    names = [column.name for column in encoding.columns]
    if [column.name for column in table.encoding.columns] != names:
        raise InvalidArgumentError(f"predict(x): the columns of x are not those of the fit, {', '.join(names)}.")
    check_encoding(table.encoding, encoding)
    return table.codes


def described(levels: tuple | None) -> str:
    """Return what a column of these levels has, in words."""
    if levels is None:
        return "numbers"
    return f"{len(levels)} levels"


def first_difference(levels: tuple | None, fitted: tuple | None) -> str:
    """Return the first code with another level than in the fit, in words; nothing if there is none."""
    for code, (level, of_fit) in enumerate(zip(levels or (), fitted or (), strict=False)):
        if level != of_fit:
            return f", and code {code} is {level!r} where it was {of_fit!r}"
    return ""


def refuse_codes(encoding: Encoding | None) -> None:
    """Refuse an array in the place of columns of levels: nobody knows what its numbers stand for."""
    if encoding is not None and encoding.has_factors:
        name = next(column.name for column in encoding.columns if isinstance(column, FactorColumn))
        raise InvalidArgumentError(
            f"predict(x): the fit had columns of levels, such as {name!r}, and an array does not tell which level a "
            "number is. Give a data frame, or a source from dask_gd.open."
        )


def features_of_array(x: Any) -> Any:
    """Return the features as a NumPy array or SciPy matrix if they are in memory, else as a Dask array."""
    if is_scipy(x):
        return memory_rows(x, "x").matrix(x.shape[1])
    rows = as_rows(x, "x", lengths=False)
    check_stored(rows, "error", 0, rows.shape[0])
    if rows.memory is None:
        return rows.lazy_rows(0, rows.shape[0])
    return rows.memory


def prediction_dtype(x: Any) -> np.dtype:
    """Return the dtype of the predictions of features: that of their products, which sparse rows have in float64."""
    if is_sparse(x) or is_sparse(getattr(x, "_meta", None)):
        return np.dtype(float)
    return product_dtype(x.dtype)


def check_features(x: Any, width: int, names: tuple | None, fitted: tuple | None) -> None:
    """Refuse columns whose number is not that of the fit, or whose names are others, where both have names."""
    if len(x.shape) != 2 or x.shape[1] != width:
        raise InvalidArgumentError(f"predict(x): x must have shape (rows, {width}), as in the fit; it has {x.shape}.")
    if names is None or fitted is None or names == fitted:
        return
    i = next(i for i in range(width) if names[i] != fitted[i])
    raise InvalidArgumentError(
        f"predict(x): feature {i} is named {names[i]!r} but the fit had {fitted[i]!r} there; "
        "select and order the features as in the fit."
    )


def linear_of_codes(
    encoding: Encoding,
    block: np.ndarray,
    weights: np.ndarray,
    constant: np.ndarray,
    without_reference: tuple[int, ...] = (),
) -> np.ndarray:
    """Return ``x w + b`` for rows (n, columns) of numbers and codes: (n, k), or (n,) for weights (p,).

    It is NaN where a value is missing, and for reference levels of columns ``without_reference``.

    Raises
    ------
    DataError
        Naming the column, for a code that stands for no level.
    """
    row_format = encoding.row_format
    check_codes(encoding, block)
    # As a fit reads and multiplies them, a block at a time.
    rows = row_format.cast(block, np.empty)
    workspace = row_format.workspace(None)
    prepared = workspace.weights(weights.reshape(len(weights), -1))
    predictions = np.empty((len(block), *weights.shape[1:]))
    for start in range(0, len(block), row_format.block_rows):
        part = slice(start, start + row_format.block_rows)
        block_of_rows = workspace.block(row_format.take(rows, part))
        product = block_of_rows.times(prepared)
        predictions[part] = product.reshape(-1, *weights.shape[1:]) + constant
    # A reference has no coefficient that could be NaN.
    for column in without_reference:
        predictions[block[:, column] == 0] = np.nan
    return predictions


def references_left_out(encoding: Encoding, dropped_levels: np.ndarray) -> tuple[int, ...]:
    """Return the columns whose reference level was left out of the fit, see `FitResult.dropped_levels`."""
    found = []
    for column, code in dropped_levels.tolist():
        described = encoding.columns[column]
        if code == 0 and isinstance(described, FactorColumn) and described.drop_first:
            found.append(column)
    return tuple(found)


def check_codes(encoding: Encoding, block: np.ndarray) -> None:
    """Refuse codes that stand for no level; a missing one is NaN, or -1."""
    for i, column in enumerate(encoding.columns):
        if not isinstance(column, FactorColumn):
            continue
        codes = block[:, i]
        with np.errstate(invalid="ignore"):
            is_outside = (codes < -1) | (codes >= len(column.levels))
            is_broken = (codes != np.trunc(codes)) & ~np.isnan(codes)
        is_bad = is_outside | is_broken
        if is_bad.any():
            raise DataError(
                f"predict(x): {codes[is_bad][0]:g} in column {column.name!r} is no code of a level; the fit had "
                f"{len(column.levels)} levels, codes 0 to {len(column.levels) - 1}, and -1 stands for a missing value."
            )


def offset_array(offset: Any, x: Any, z: Any) -> Any:
    """Return the offset as an array that can be added to the linear predictions z of the rows x."""
    # As lazy as the predictions.
    if offset.memory is None or isinstance(z, da.Array):
        start = 0
        stop = offset.shape[0]
        if isinstance(x, Source):
            start = x.bounds[0]
            stop = x.bounds[-1]
        array = offset.lazy_rows(start, stop)
    else:
        array = offset.memory
    # Sizes that are unknown are NaN. Rows of known sizes are added to none of unknown ones.
    if isinstance(array, da.Array) and not np.isnan(z.shape[0]):
        array = sized(array, "offset")
    known = not np.isnan([*array.shape, z.shape[0]]).any()
    if known and array.shape != z.shape[:1]:
        raise InvalidArgumentError(
            f"predict(x, offset): x has {z.shape[0]} rows, offset the shape {array.shape}; one for each row."
        )
    if z.ndim != 1:
        array = array[:, None]
    return array
