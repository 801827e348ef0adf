"""The design of a formula: what it has learnt, and the columns that it makes of a table's rows.

A product of factors that are levels alone is a column of codes, which is never written out. Products with numbers are
columns of numbers; where those of levels and numbers would be more than `DENSE`, all rows are sparse.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import csr_array

from ...errors import DataError, InvalidArgumentError
from ..coding import CodedFactor
from ..encoding import Encoding, FactorColumn, Level, NumberColumn
from .categorical import Coding, coding_of, column_of_levels, factor_column, marked, series_of
from .expressions import Values
from .grammar import Expression, Parsed, parse
from .structure import Scoped, scoped_terms
from .transforms import State, Wide

#: Columns of numbers that products with levels may take before rows are sparse.
DENSE = 64
#: Rows that are made at a time, of a table in memory.
ROWS = 1 << 17
#: Features at most: their names alone take gigabytes.
MOST = 50_000_000


@dataclass(frozen=True)
class Formula:
    """A formula and what it has learnt from the rows of a fit, in numbers, texts, lists and dicts.

    Attributes
    ----------
    text : str
        The formula.
    available : tuple of str
        The columns that ``.`` stood for.
    states : dict
        What each transform has learnt: the mean of ``center(x)``, the knots of ``bs(x, 4)``.
    levels : dict
        The levels of each factor, in their order.
    floats : tuple of str
        The factors whose levels are floats, and named so.
    target_levels : tuple or None
        The levels of a target of strings: the first is 0, the second 1.
    sample_dims : tuple of str or None
        Of a Dataset.
    """

    text: str
    available: tuple[str, ...] = ()
    states: dict[str, State] = field(default_factory=dict)
    levels: dict[str, tuple[Level, ...]] = field(default_factory=dict)
    floats: tuple[str, ...] = ()
    target_levels: tuple[Level, ...] | None = None
    sample_dims: tuple[str, ...] | None = None

    @property
    def parsed(self) -> Parsed:
        """The formula's sides."""
        return parse(self.text, self.available)

    def as_attributes(self) -> dict[str, Any]:
        """Return the formula as JSON holds it; `formula_of` reads it back."""
        return {
            "text": self.text,
            "available": list(self.available),
            "states": self.states,
            "levels": {name: list(levels) for name, levels in self.levels.items()},
            "floats": list(self.floats),
            "target_levels": self.target_levels and list(self.target_levels),
            "sample_dims": self.sample_dims and list(self.sample_dims),
        }


def formula_of(attributes: dict[str, Any]) -> Formula:
    """Return the formula that `Formula.as_attributes` has written.

    Raises
    ------
    DataError
        If the attributes are something else.
    """
    try:
        return Formula(
            text=str(attributes["text"]),
            available=tuple(attributes["available"]),
            states=dict(attributes["states"]),
            levels={name: tuple(levels) for name, levels in attributes["levels"].items()},
            floats=tuple(attributes["floats"]),
            target_levels=attributes["target_levels"] and tuple(attributes["target_levels"]),
            sample_dims=attributes["sample_dims"] and tuple(attributes["sample_dims"]),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{attributes!r:.80} is no formula.") from error


class Entries(NamedTuple):
    """The columns of a product that rows have values in, and the values, both (n, entries)."""

    columns: np.ndarray
    values: np.ndarray
    width: int

    def times(self, other: Entries) -> Entries:
        """Return the products of each column with each of the other's, of which the first varies fastest."""
        rows = len(self.values)
        columns = self.columns[:, None, :] + self.width * other.columns[:, :, None]
        values = self.values[:, None, :] * other.values[:, :, None]
        shape = (rows, -1)
        return Entries(columns.reshape(shape), values.reshape(shape), self.width * other.width)


@dataclass(frozen=True)
class Piece:
    """A factor within a product: its columns' names, and how rows have values in them."""

    expression: Expression
    names: list[str]
    #: The levels, where it is a factor of levels.
    factor: FactorColumn | None = None
    coding: Coding | None = None
    #: The first columns that are left out, of a factor of several columns.
    skips: int = 0

    @property
    def is_indicators(self) -> bool:
        """Return whether it has an indicator for levels."""
        return self.coding is not None and self.coding.matrix is None

    def entries(self, rows: Rows) -> Entries:
        """Return the columns and values of rows."""
        width = len(self.names)
        if self.coding is None:
            made = rows.numbers(self.expression)
            if isinstance(made, Wide):
                made = made.values[:, self.skips :]
            values = made.reshape(len(made), width)
            return Entries(np.broadcast_to(np.arange(width), values.shape), values, width)
        assert self.factor is not None
        codes = rows.codes(self.expression, self.factor)
        is_missing = np.isnan(codes)
        known = np.where(is_missing, 0, codes).astype(np.intp)
        if self.coding.matrix is not None:
            values = self.coding.matrix[known]
            values[is_missing] = np.nan
            return Entries(np.broadcast_to(np.arange(width), values.shape), values, width)
        # The level without an indicator has an entry of 0.
        values = np.where(is_missing, np.nan, 1.0)
        if self.coding.base is not None:
            values = np.where(known == self.coding.base, 0.0 * values, values)
            known = known - (known > self.coding.base)
        return Entries(np.minimum(known, width - 1)[:, None], values[:, None], width)


@dataclass(frozen=True)
class Product:
    """Some columns of the design: a product of factors."""

    pieces: tuple[Piece, ...]
    scale: float

    @property
    def width(self) -> int:
        """The number of columns."""
        return math.prod(len(piece.names) for piece in self.pieces)

    @property
    def is_coded(self) -> bool:
        """Return whether rows have a code in place of the columns."""
        return self.scale == 1 and all(piece.is_indicators for piece in self.pieces)

    @property
    def has_reference(self) -> bool:
        """Return whether rows may have none of the columns."""
        return any(piece.coding is not None and piece.coding.base is not None for piece in self.pieces)

    @property
    def names(self) -> list[str]:
        """The names of the columns; those of the first factor vary fastest."""
        return reduce(lambda old, new: [f"{a}:{b}" for b in new for a in old], [list(p.names) for p in self.pieces])

    @property
    def text(self) -> str:
        """The product as formulas have it."""
        return ":".join(piece.expression.text for piece in self.pieces)

    def entries(self, rows: Rows) -> Entries:
        """Return the columns and values of rows."""
        found = reduce(Entries.times, (piece.entries(rows) for piece in self.pieces))
        if self.scale != 1:
            found = found._replace(values=self.scale * found.values)
        return found

    def codes(self, rows: Rows) -> np.ndarray:
        """Return the code of each row, (n,): its column, or 0 where none is, and the columns from 1 on."""
        columns, values, _ = self.entries(rows)
        codes = columns[:, 0] * 1.0
        if self.has_reference:
            codes = np.where(values[:, 0] == 0, 0.0, codes + 1)
        return np.where(np.isnan(values[:, 0]), np.nan, codes)

    def dense(self, rows: Rows) -> np.ndarray:
        """Return the columns, (n, width)."""
        columns, values, width = self.entries(rows)
        if values.shape[1] == width:
            return values
        out = np.zeros((len(values), width))
        np.put_along_axis(out, columns, values, axis=1)
        # A row that lacks a value lacks all of them.
        out[np.isnan(values).any(axis=1)] = np.nan
        return out


class Rows:
    """Rows of a table in the making: what factors are for them, each once."""

    def __init__(self, values: Values, left_out: np.ndarray | None, where: str):
        self.values = values
        self.left_out = left_out
        self.where = where
        self.made: dict[str, Any] = {}

    def numbers(self, expression: Expression) -> Any:
        """Return the values of a factor."""
        if expression.text not in self.made:
            self.made[expression.text] = self.values.of(expression)
        return self.made[expression.text]

    def codes(self, expression: Expression, factor: FactorColumn) -> np.ndarray:
        """Return the codes of a factor's levels, NaN where a value is missing."""
        if expression.text not in self.made:
            series = series_of(expression, self.values)
            label = column_of_levels(expression) or expression.text
            self.made[expression.text] = CodedFactor(factor).encoded(series, label, self.where, self.left_out)
        return self.made[expression.text]


class Design:
    """The columns that a formula makes of rows, with what it has learnt."""

    def __init__(self, formula: Formula, empty: Any, labels: dict[str, Any]):
        self.formula = formula
        self.labels = labels
        parsed = formula.parsed
        made: dict[str, Any] = {}
        values = Values(empty, formula.states, labels)
        spans = {}
        for factor in parsed.factors:
            if factor.text in formula.levels:
                spans[factor] = marked(factor).spans_intercept
                continue
            made[factor.text] = values.of(factor)
            spans[factor] = isinstance(made[factor.text], Wide) and made[factor.text].spans_intercept
        products = [self._product(scoped, made) for scoped in scoped_terms(parsed.terms, parsed.has_intercept, spans)]
        self.products = [product for product in products if product.width]
        width = sum(product.width for product in self.products)
        if not width:
            raise InvalidArgumentError(f"formula {formula.text!r} has no term but an intercept: nothing to fit.")
        if width > MOST:
            raise InvalidArgumentError(
                f"formula {formula.text!r} makes {width:,} columns, {MOST:,} at most: products of factors have one for "
                "each pair of levels, also for those that no row has. features=['a:b'] has those that occur."
            )
        self._check_names()
        mixed = [p for p in self.products if not p.is_coded and any(piece.is_indicators for piece in p.pieces)]
        #: Whether rows are sparse.
        self.is_sparse = sum(product.width for product in mixed) > DENSE

    def __dask_tokenize__(self) -> str:
        """Return what identifies the design: the formula, and what it has learnt."""
        return repr((self.formula.as_attributes(), self.labels))

    def _product(self, scoped: Scoped, made: dict[str, Any]) -> Product:
        """Return the columns of a product of factors."""
        pieces = []
        for factor, is_reduced in scoped.factors:
            levels = self.formula.levels.get(factor.text)
            if levels is not None:
                coding = coding_of(factor, levels, is_reduced, factor.text in self.formula.floats)
                pieces.append(Piece(factor, coding.names, factor_column(factor, levels), coding))
                continue
            values = made[factor.text]
            names = [factor.text]
            skips = 0
            if isinstance(values, Wide):
                skips = int(is_reduced and values.spans_intercept)
                names = [f"{factor.text}[{each}]" for each in values.fields[skips:]]
            pieces.append(Piece(factor, names, skips=skips))
        return Product(tuple(pieces), scoped.scale)

    def _check_names(self) -> None:
        """Refuse columns of one name."""
        names = Counter(name for product in self.products for name in product.names)
        [(name, count)] = names.most_common(1)
        if count > 1:
            raise InvalidArgumentError(f"formula {self.formula.text!r}: two columns are named {name!r}.")

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The names of all columns."""
        return tuple(name for product in self.products for name in product.names)

    @property
    def encoding(self) -> Encoding | None:
        """The columns of numbers and codes; None where there are no codes, or rows are sparse."""
        if self.is_sparse or not any(product.is_coded for product in self.products):
            return None
        columns: list[NumberColumn | FactorColumn] = []
        for product in self.products:
            if not product.is_coded:
                columns += [NumberColumn(name) for name in product.names]
                continue
            levels: tuple[Level, ...] = tuple(product.names)
            if product.has_reference:
                levels = ("(reference)", *levels)
            columns.append(
                FactorColumn(product.text, levels, drop_first=product.has_reference, are_features=True),
            )
        return Encoding(tuple(columns))

    @property
    def width(self) -> int:
        """The columns of an array of rows: numbers and codes, or of sparse rows all features."""
        if self.is_sparse:
            return len(self.feature_names)
        return sum(1 if product.is_coded else product.width for product in self.products)

    def rows(self, part: Any, complete: tuple[str, ...] = (), where: str = "") -> Rows:
        """Return rows of a frame of pandas; those that lack a value in the columns ``complete`` are to be left out."""
        left_out = None
        if complete:
            left_out = part[[self.labels.get(name, name) for name in complete]].isna().any(axis=1).to_numpy(bool)
        return Rows(Values(part, self.formula.states, self.labels), left_out, where)

    def array(self, rows: Rows, out: np.ndarray) -> None:
        """Write numbers and codes of rows to ``out`` (n, width)."""
        start = 0
        for product in self.products:
            if product.is_coded:
                out[:, start] = product.codes(rows)
                start += 1
            else:
                out[:, start : start + product.width] = product.dense(rows)
                start += product.width

    def sparse(self, rows: Rows) -> csr_array:
        """Return the rows as a sparse matrix, without entries of 0."""
        all_columns = []
        all_values = []
        start = 0
        for product in self.products:
            columns, values, width = product.entries(rows)
            all_columns.append(columns + start)
            all_values.append(values)
            start += width
        values = np.concatenate(all_values, axis=1)
        columns = np.concatenate(all_columns, axis=1)
        is_entry = values != 0
        indptr = np.concatenate([[0], np.cumsum(is_entry.sum(axis=1))])
        return csr_array((values[is_entry], columns[is_entry], indptr), shape=(len(values), start))

    def of(self, part: Any, complete: tuple[str, ...] = (), where: str = "") -> Any:
        """Return the rows of a frame of pandas: numbers and codes (n, width), or a sparse matrix."""
        if self.is_sparse:
            return self.sparse(self.rows(part, complete, where))
        out = np.empty((len(part), self.width))
        for start in range(0, len(part), ROWS):
            some = part.iloc[start : start + ROWS]
            self.array(self.rows(some, complete, where), out[start : start + ROWS])
        return out
