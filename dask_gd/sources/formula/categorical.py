"""Factors of a formula that are levels: the column, its contrasts, and the names of what they make of the levels."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ...errors import DataError, InvalidArgumentError
from ..encoding import FactorColumn, Level
from ..levels import Found, check_kinds, declared_levels
from .expressions import Values
from .functions import is_condition, name_of_function
from .grammar import Expression
from .transforms import functions


def is_categorical(expression: Expression) -> bool:
    """Return whether a factor is C(...)."""
    if expression.column is not None:
        return False
    node = expression.tree
    return isinstance(node, ast.Call) and name_of_function(node) == "C"


@dataclass(frozen=True)
class Marked:
    """The arguments of C(...); those of a column that is levels by itself are the defaults."""

    #: The expression of the values, or a column.
    node: ast.expr | None
    contrasts: ast.expr | None = None
    levels: tuple[Level, ...] | None = None
    spans_intercept: bool = True


def marked(expression: Expression) -> Marked:
    """Return what a factor says of its levels."""
    if not is_categorical(expression):
        return Marked(None)
    node = expression.tree
    assert isinstance(node, ast.Call)
    named = {each.arg: each.value for each in node.keywords}
    contrasts = named.get("contrasts")
    if len(node.args) == 2:
        contrasts = node.args[1]
    levels = None
    if "levels" in named:
        levels = tuple(ast.literal_eval(named["levels"]))
    spans = True
    if "spans_intercept" in named:
        spans = bool(ast.literal_eval(named["spans_intercept"]))
    return Marked(node.args[0], contrasts, levels, spans)


def column_of_levels(expression: Expression) -> str | None:
    """Return the column whose values are the levels; None where they are made of columns."""
    if expression.column is not None:
        return expression.column
    node = marked(expression).node
    if isinstance(node, ast.Name):
        return dict(expression.quoted).get(node.id, node.id)
    return None


def series_of(expression: Expression, values: Values) -> Any:
    """Return the values that are levels, as a pandas column."""
    import pandas as pd

    name = column_of_levels(expression)
    if name is not None:
        return values.column(name)
    node = marked(expression).node
    assert node is not None
    numbers = values.number(node, dict(expression.quoted))
    if is_condition(node):
        # Levels are False and True.
        truths: Any = np.where(np.isnan(numbers), np.array(None), numbers == 1)
        return pd.Series(truths, index=values.part.index)
    return pd.Series(np.array(numbers), index=values.part.index)


def has_float_levels(expression: Expression, kind_of_column: Callable[[str], str]) -> bool:
    """Return whether the levels of a factor are floats, by the kinds of its columns' dtypes ("f", "i", ...)."""
    name = column_of_levels(expression)
    if name is not None:
        return kind_of_column(name) == "f"
    node = marked(expression).node
    quoted = dict(expression.quoted)
    if is_condition(node):
        return False
    # Whole numbers stay so in most operations.
    for each in ast.walk(node):  # type: ignore[arg-type]
        if isinstance(each, ast.Name) and kind_of_column(quoted.get(each.id, each.id)) == "f":
            return True
        if isinstance(each, ast.Constant) and isinstance(each.value, float):
            return True
        if isinstance(each, ast.Div | ast.Call):
            return True
    return False


def levels_of(expression: Expression, found: Found, dtype: Any) -> tuple[Level, ...]:
    """Return the levels of a factor in the order that formulaic has: as given, declared, or sorted.

    Raises
    ------
    DataError
        For levels of several kinds, and where there is none.
    """
    given = marked(expression).levels
    if given is not None:
        return given
    check_kinds(found, expression.text)
    declared = declared_levels(dtype)
    if declared is not None:
        return declared
    levels = sorted(level for level in found.counts if level is not None)  # type: ignore[type-var]
    if not levels:
        raise DataError(f"formula, {expression.text!r}: there is no level, all values are missing.")
    return tuple(levels)


class Coding(NamedTuple):
    """What a factor's levels become: indicators of all, or of all but one, or numbers."""

    names: list[str]
    #: The level without an indicator, None if all have one; where these are indicators.
    base: int | None
    #: The columns' values by level (levels, columns); None for indicators.
    matrix: np.ndarray | None


def coding_of(expression: Expression, levels: tuple[Level, ...], is_reduced: bool, as_floats: bool) -> Coding:
    """Return what the contrasts of a factor make of its levels; names of levels ``as_floats`` have a decimal point.

    Raises
    ------
    InvalidArgumentError
        Where contrasts do not suit the levels.
    """
    from formulaic.transforms.contrasts import CustomContrasts, TreatmentContrasts

    made = _contrasts(marked(expression).contrasts)
    named: list[Any] = list(levels)
    if as_floats:
        named = [float(level) for level in levels if level is not None]
    if not is_reduced and not isinstance(made, CustomContrasts):
        # All contrasts but a user's own have an indicator for each level, where none is left out.
        made = TreatmentContrasts()
    try:
        fields = list(made.get_coding_column_names(named, reduced_rank=is_reduced))
        template = made.get_factor_format(named, reduced_rank=is_reduced)
        names = [template.format(name=expression.text, field=field) for field in fields]
        # Indicators are not written out.
        if isinstance(made, TreatmentContrasts):
            base = None
            if is_reduced:
                # The first level that is not where it would be if all had a column.
                base = next(i for i, level in enumerate(named) if fields[i : i + 1] != [level])
            return Coding(names, base, None)
        if len(levels) == 1 and is_reduced:
            return Coding([], None, np.zeros((1, 0)))
        matrix = np.asarray(made.get_coding_matrix(named, reduced_rank=is_reduced), float)
    except (ValueError, TypeError, IndexError) as error:
        raise InvalidArgumentError(f"formula, {expression.text!r}: {error}") from error
    return Coding(names, None, matrix)


def _contrasts(node: ast.expr | None) -> Any:
    """Return the contrasts that C was given, of formulaic's."""
    from formulaic.transforms import ContrastsRegistry
    from formulaic.transforms import contrasts as theirs

    if node is None:
        return theirs.TreatmentContrasts()
    function = node
    positional: list[Any] = []
    named: dict[str, Any] = {}
    if isinstance(node, ast.Call):
        function = node.func
        positional = [ast.literal_eval(each) for each in node.args]
        named = {str(each.arg): ast.literal_eval(each.value) for each in node.keywords}
    if isinstance(function, ast.Attribute):
        kind = getattr(ContrastsRegistry, function.attr)
    elif isinstance(function, ast.Name):
        kind = functions()[function.id]
    else:
        return theirs.CustomContrasts(ast.literal_eval(node))
    return kind(*positional, **named)


def factor_column(expression: Expression, levels: tuple[Level, ...]) -> FactorColumn:
    """Return the levels of a factor as rows are coded by them."""
    return FactorColumn(expression.text, levels)
