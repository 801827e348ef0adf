"""Sources of formulas: the rows that a design makes of a table's parts, with targets, weights and offsets beside."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import dask
import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph
from scipy.sparse import csr_array

from ...errors import InvalidArgumentError
from ..census import total_of
from ..column import Column
from ..columns import as_rows, check_shapes
from ..dask_column import DaskColumn
from ..dask_frames import array_of_parts
from ..frame_column import FrameColumn
from ..frame_source import cut_columns
from ..source import Source
from .categorical import factor_column
from .data import Data, data_of
from .design import Design, Formula, Rows
from .expressions import labels_by_name
from .grammar import Expression, parse
from .learning import Learner, Look, added


@dataclass(frozen=True)
class Beside:
    """The values beside the features that a part has: targets, a weight, an offset."""

    targets: tuple[Expression, ...]
    #: The names of columns of weights and offsets, and offsets of the formula.
    weight: str | None = None
    offset: str | None = None
    offsets: tuple[Expression, ...] = ()

    @property
    def widths(self) -> dict[str, int]:
        """The number of columns of each role."""
        widths = {"y": len(self.targets)}
        if self.weight is not None:
            widths["weight"] = 1
        if self.offset is not None or self.offsets:
            widths["offset"] = 1
        return {role: width for role, width in widths.items() if width}

    def of(self, rows: Rows, formula: Formula) -> np.ndarray:
        """Return the values of rows, (n, columns)."""
        values = rows.values
        columns: list[Any] = []
        for target in self.targets:
            if formula.target_levels is None:
                columns.append(values.of(target))
            else:
                column = factor_column(target, formula.target_levels)
                columns.append(rows.codes(target, column))
        if self.weight is not None:
            columns.append(values.numbers(self.weight))
        offset: Any = None
        for each in self.offsets:
            value = values.of(each)
            if offset is None:
                offset = value
            else:
                offset = offset + value
        if self.offset is not None:
            offset = values.numbers(self.offset)
        if offset is not None:
            columns.append(offset)
        if not columns:
            return np.empty((len(values.part), 0))
        return np.stack(columns, axis=1)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Maker:
    """Makes of a part, in its task, the rows of a design and the values beside them."""

    design: Design
    beside: Beside
    complete: tuple[str, ...] = ()

    def array(self, part: Any) -> np.ndarray:
        """Return numbers and codes, and the values beside them behind, (n, columns)."""
        rows = self.design.rows(part, self.complete, " of its partition")
        width = self.design.width
        out = np.empty((len(part), width + sum(self.beside.widths.values())))
        self.design.array(rows, out[:, :width])
        out[:, width:] = self.beside.of(rows, self.design.formula)
        return out

    def pair(self, part: Any) -> tuple[csr_array, np.ndarray]:
        """Return sparse rows, and the values beside them."""
        rows = self.design.rows(part, self.complete, " of its partition")
        return self.design.sparse(rows), self.beside.of(rows, self.design.formula)


def refuse_beside_formula(**arguments: Any) -> None:
    """Refuse arguments whose place a formula takes."""
    for name, value in arguments.items():
        if value is not None:
            raise InvalidArgumentError(
                f"{name}={value!r:.60} is given beside a formula, which says this itself: 'target ~ features', and "
                "C(column) for a column of numbers that are levels."
            )


def source_of_table(
    x: Any,
    y: Any,
    formula: Formula | None,
    beside: dict[str, Any],
    drops_rows: bool,
) -> Source:
    """Return the source of a formula x and a table y, or of a table x and a formula that has learnt.

    ``beside`` are row weights, offset and sample dimensions by argument.
    """
    options: dict[str, Any] = {**beside, "drops_rows": drops_rows}
    if formula is not None:
        if y is not None:
            raise InvalidArgumentError("y is given beside a formula, which names the target: leave y out.")
        return source_of_formula(formula, x, **options)
    if y is None:
        raise InvalidArgumentError(f"fit({x!r:.60}, data): a formula needs a table.")
    return formula_source(x, y, **options)


def formula_source(
    text: str,
    data: Any,
    *,
    sample_weight: Any = None,
    offset: Any = None,
    sample_dims: Any = None,
    drops_rows: bool = False,
) -> Source:
    """Return the source of a formula of a table, from whose rows it learns levels and knots.

    Raises
    ------
    InvalidArgumentError, InvalidTypeError, DataError
        As in `fit`.
    """
    table = data_of(data, sample_dims)
    available: tuple[str, ...] = ()
    if "." in text:
        available = tuple(name for name in table.names if name not in (sample_weight, offset))
    parsed = parse(text, available)
    if parsed.offsets and offset is not None:
        raise InvalidArgumentError(f"offset={offset!r:.40} beside a formula with offset(...): give one of them.")
    others = tuple(name for name in (sample_weight, offset) if isinstance(name, str))
    learner = Learner(Formula(text, available), table, others, drops_rows)
    formula = learner.learnt()
    return _source(formula, learner.data, learner.rows, sample_weight, offset, learner.complete, has_targets=True)


def source_of_formula(
    formula: Formula,
    data: Any,
    *,
    sample_weight: Any = None,
    offset: Any = None,
    sample_dims: Any = None,
    drops_rows: bool = False,
) -> Source:
    """Return the source of a formula that has learnt already."""
    table = data_of(data, sample_dims, formula.sample_dims)
    parsed = formula.parsed
    names = [name for expression in (*parsed.targets, *parsed.expressions) for name in expression.columns]
    names += [name for name in (sample_weight, offset) if isinstance(name, str)]
    columns = tuple(dict.fromkeys(names))
    table = table.with_columns(columns)
    rows: tuple[int, ...] = ()
    if table.memory is None:
        look = dask.delayed(Look((), (), {}, {}, {}, ()), pure=True)
        rows = total_of([look(part) for part in table.parts([])], added, "the rows of the table").rows
    complete = columns if drops_rows else ()
    return _source(formula, table, rows, sample_weight, offset, complete, has_targets=True)


def _source(
    formula: Formula,
    table: Data,
    rows: tuple[int, ...],
    sample_weight: Any,
    offset: Any,
    complete: tuple[str, ...],
    has_targets: bool,
) -> Source:
    """Return the source of a table with a formula that has learnt."""
    parsed = formula.parsed
    beside = Beside(
        parsed.targets,
        sample_weight if isinstance(sample_weight, str) else None,
        offset if isinstance(offset, str) else None,
        parsed.offsets,
    )
    names = [name for expression in (*parsed.targets, *parsed.expressions) for name in expression.columns]
    names += [name for name in (beside.weight, beside.offset) if name is not None]
    columns = tuple(dict.fromkeys(names))
    labels = labels_by_name(table.empty, columns)
    design = Design(formula, table.empty.iloc[:0], labels)
    maker = Maker(design, beside, complete)
    arrays = _arrays(maker, table, rows, [labels[name] for name in columns])

    # Columns by role; those given beside the table are arrays.
    by_role: dict[str, Column] = {"x": _features(design, arrays["x"])}
    named: dict[str, list[Any]] = {
        "y": [target.text for target in parsed.targets],
        "weight": [beside.weight],
        "offset": [beside.offset],
    }
    if parsed.offsets:
        named["offset"] = [" + ".join(each.text for each in parsed.offsets)]
    arguments = {"y": "target", "weight": "sample_weight", "offset": "offset"}
    for role in ("y", "weight", "offset"):
        if role in arrays:
            made = as_rows(arrays[role], arguments[role])
            assert isinstance(made, DaskColumn)
            by_role[role] = FrameColumn(made.array, arguments[role], made.memory, names=tuple(map(str, named[role])))
    for role, given in (("weight", sample_weight), ("offset", offset)):
        if given is not None and not isinstance(given, str):
            by_role[role] = as_rows(given, arguments[role])
    check_shapes(by_role["x"], by_role["y"], by_role.get("weight"), by_role.get("offset"))

    output_names = None
    if len(parsed.targets) > 1:
        output_names = tuple(target.text for target in parsed.targets)
    bounds = by_role["x"].partition_bounds(0, by_role["x"].shape[0])
    aligned = {role: column.aligned(bounds) for role, column in by_role.items()}
    return Source(
        aligned,
        bounds,
        feature_names=design.feature_names,
        output_names=output_names,
        formula=formula,
    )


def _features(design: Design, array: Any) -> Column:
    """Return the features as a column: numbers and codes, or sparse rows."""
    made = as_rows(array, "x")
    if not isinstance(made, DaskColumn):
        return made
    encoding = design.encoding
    names = design.feature_names
    if encoding is not None:
        names = tuple(column.name for column in encoding.columns)
    return FrameColumn(made.array, "x", made.memory, names=names, levels=encoding)


def _arrays(maker: Maker, table: Data, rows: tuple[int, ...], labels: list[Any]) -> dict[str, Any]:
    """Return the arrays of all roles that columns of the table have."""
    design = maker.design
    widths = maker.beside.widths
    if table.memory is not None:
        found = {"x": design.of(table.memory, maker.complete)}
        others: Any = maker.beside.of(design.rows(table.memory, maker.complete), design.formula)
        start = 0
    else:
        made, others = lazy_arrays(maker, table.parts(labels), rows)
        found = {"x": made}
        start = 0
    # Each role has some of the columns behind the features.
    for role, width in widths.items():
        columns: int | slice = slice(start, start + width)
        if width == 1:
            columns = start
        start += width
        if isinstance(others, np.ndarray):
            found[role] = np.ascontiguousarray(others[:, columns])
        else:
            found[role] = cut_columns(others, columns, np.dtype(float))
    return found


def lazy_arrays(maker: Maker, parts: list[Any], rows: tuple[int, ...] | None) -> tuple[da.Array, da.Array]:
    """Return the rows of a design and the values beside them, as blocks that are cut from the same tasks."""
    if maker.design.is_sparse:
        return _sparse_arrays(maker, parts, rows)
    width = maker.design.width
    total = width + sum(maker.beside.widths.values())
    array = array_of_parts(parts, maker.array, total, rows)
    pieces = [cut_columns(array, columns, np.dtype(float)) for columns in (slice(0, width), slice(width, total))]
    return pieces[0], pieces[1]


def _sparse_arrays(maker: Maker, parts: list[Any], rows: tuple[int, ...] | None) -> tuple[da.Array, da.Array]:
    """Return the sparse rows, and the values beside them, cut from the same tasks."""
    chunks: tuple[float, ...] = (np.nan,) * len(parts)
    if rows is not None:
        chunks = rows
    name = f"dask_gd-formula-{tokenize(maker, [part.key for part in parts])}"
    made: dict[Any, Any] = {(name, i): (maker.pair, part.key) for i, part in enumerate(parts)}
    whole = HighLevelGraph.from_collections(name, made, dependencies=parts)
    arrays = []
    widths = (len(maker.design.feature_names), sum(maker.beside.widths.values()))
    metas: tuple[Any, ...] = (csr_array((0, widths[0])), np.empty((0, 0)))
    for which, (width, meta) in enumerate(zip(widths, metas, strict=True)):
        own = f"{name}-{which}"
        graph: dict[Any, Any] = {(own, i, 0): (operator.getitem, (name, i), which) for i in range(len(parts))}
        layers = {**whole.layers, own: graph}
        dependencies = {**whole.dependencies, own: {name}}
        arrays.append(da.Array(HighLevelGraph(layers, dependencies), own, (chunks, (width,)), meta=meta, dtype=float))
    return arrays[0], arrays[1]
