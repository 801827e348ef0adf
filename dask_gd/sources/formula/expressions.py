"""Evaluate expressions of a table's columns, a number in float64 for each row, NaN where a value is missing.

A missing value makes each value that it enters a missing one, comparisons and splines too; only NumPy's own functions
for missing values (`np.isnan`, `np.fmax`, ...) and the condition of `np.where` with them do away with it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...errors import InvalidArgumentError
from ..coding import number_values
from ..frames import empty_of, labels_of
from ..levels import factorized
from .functions import (
    COMPARISONS,
    OPERATORS,
    arguments_of,
    is_raw,
    is_text,
    name_of_function,
    numpy_function,
    stateful_nodes,
)
from .grammar import Expression
from .transforms import State, Wide, apply


@dataclass
class Values:
    """Evaluates expressions of the columns of a frame of pandas, with what transforms have learnt."""

    part: Any
    #: The state of each transform, by its text.
    states: dict[str, State]
    #: The labels of columns that are no texts, by their names.
    labels: dict[str, Any] = field(default_factory=dict)
    #: The numbers of columns that have been read.
    read: dict[str, np.ndarray] = field(default_factory=dict)

    def column(self, name: str) -> Any:
        """Return a column of the frame."""
        return self.part[self.labels.get(name, name)]

    def numbers(self, name: str) -> np.ndarray:
        """Return the numbers of a column."""
        if name not in self.read:
            self.read[name] = number_values(self.column(name), name, "formula")
        return self.read[name]

    def of(self, expression: Expression) -> np.ndarray | Wide:
        """Return the value of each row, or columns of values."""
        if expression.column is not None:
            return self.numbers(expression.column)
        return self.factor(expression.tree, dict(expression.quoted))

    def factor(self, node: ast.expr, quoted: dict[str, str]) -> np.ndarray | Wide:
        """Return what a factor that is no levels is."""
        name = ""
        if isinstance(node, ast.Call):
            name = name_of_function(node)
        if isinstance(node, ast.Call) and name in ("I", "offset"):
            return self.factor(node.args[0], quoted)
        if isinstance(node, ast.Call) and name in ("bs", "cc", "cr", "cs", "poly"):
            return self.transformed(node, quoted)
        return self.number(node, quoted)

    def number(self, node: ast.expr, quoted: dict[str, str]) -> np.ndarray:
        """Return the number that each row has."""
        with np.errstate(all="ignore"):
            value = np.asarray(self._number(node, quoted), float)
        return np.broadcast_to(value, (len(self.part),))

    def transformed(self, node: ast.Call, quoted: dict[str, str]) -> Any:
        """Return what a transform makes of its argument."""
        first, positional, named = arguments_of(node)
        x = self.number(first, quoted)
        state: State = {}
        if not is_raw(node):
            state = self.states[text_of(node, quoted)]
        return apply(name_of_function(node), x, positional, named, state, text_of(node, quoted))

    def _number(self, node: ast.expr, quoted: dict[str, str]) -> Any:
        """Return the value of a node that has been checked."""
        if isinstance(node, ast.Name):
            return self.numbers(quoted.get(node.id, node.id))
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.BinOp):
            left = self._number(node.left, quoted)
            right = self._number(node.right, quoted)
            return OPERATORS[type(node.op)](np.asarray(left, float), np.asarray(right, float))
        if isinstance(node, ast.UnaryOp):
            operand = self._number(node.operand, quoted)
            if isinstance(node.op, ast.Invert):
                return 1.0 - operand
            return {ast.UAdd: np.positive, ast.USub: np.negative}[type(node.op)](operand)  # type: ignore[index]
        if isinstance(node, ast.Compare):
            return self._compared(node, quoted)
        if isinstance(node, ast.Call):
            return self._called(node, quoted)
        assert isinstance(node, ast.Attribute)
        return getattr(np, node.attr)

    def _compared(self, node: ast.Compare, quoted: dict[str, str]) -> np.ndarray:
        """Return 1 where a comparison holds, 0 where it does not, NaN where a value is missing."""
        compare = COMPARISONS[type(node.ops[0])]
        sides = (node.left, node.comparators[0])
        texts = [side for side in sides if is_text(side)]
        if texts:
            [name] = [quoted.get(side.id, side.id) for side in sides if isinstance(side, ast.Name)]
            codes, levels = factorized(self.column(name))
            # The last entry is that of missing values.
            table = np.array([*(float(compare(level == texts[0].value, True)) for level in levels), np.nan])  # type: ignore[attr-defined]
            return table[codes]
        left, right = (np.asarray(self._number(side, quoted), float) for side in sides)
        return np.where(np.isnan(left) | np.isnan(right), np.nan, compare(left, right))

    def _called(self, node: ast.Call, quoted: dict[str, str]) -> Any:
        """Return what a function makes of its arguments."""
        name = name_of_function(node)
        if name == "I":
            return self._number(node.args[0], quoted)
        if name == "Q":
            return self.numbers(node.args[0].value)  # type: ignore[attr-defined]
        if name in ("center", "scale", "standardize"):
            return self.transformed(node, quoted)
        function = numpy_function(node)
        values = [np.asarray(self._number(each, quoted), float) for each in node.args]
        if function is np.where:
            condition, *_ = values
            return np.where(np.isnan(condition), np.nan, np.where(condition != 0, *values[1:]))
        try:
            return np.asarray(function(*values), float)
        except TypeError as error:
            raise InvalidArgumentError(f"formula, {text_of(node, quoted)!r}: {error}") from error


def text_of(node: ast.expr, quoted: dict[str, str]) -> str:
    """Return an expression as it was written, but for blanks, with quoted columns."""
    text = ast.unparse(node)
    for name, column in quoted.items():
        text = text.replace(name, f"`{column}`")
    return text


def transforms_of(expression: Expression) -> Iterator[tuple[str, ast.Call]]:
    """Yield the transforms that learn, the inner ones first, by their texts."""
    if expression.column is None:
        quoted = dict(expression.quoted)
        for node in stateful_nodes(expression.tree):
            yield text_of(node, quoted), node


def labels_by_name(frame: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """Return the labels of columns by their names; refuse names of none."""
    if not names:
        return {}
    labels = labels_of(empty_of(frame), list(names), "formula")
    return dict(zip(names, labels, strict=True))
