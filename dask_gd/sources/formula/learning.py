"""Learn what a formula needs to know of all rows: levels, means, knots, in one reduction over the parts of a table.

Transforms of transforms are learnt one after the other, and order statistics of very many values take further readings
of their columns alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import dask

from ...errors import InvalidArgumentError
from ..census import total_of
from ..frames import kind_of
from ..levels import TEXT, Found, found_in
from ..room import check_counted
from .categorical import column_of_levels, has_float_levels, is_categorical, levels_of, series_of
from .data import Data
from .design import Formula
from .expressions import Values, labels_by_name, text_of, transforms_of
from .functions import arguments_of, name_of_function, stateful_nodes
from .grammar import Expression
from .transforms import Asked, Learning, State


class Seen(NamedTuple):
    """What some rows have: their number, the levels of factors, and what transforms have asked for."""

    rows: tuple[int, ...]
    found: dict[str, Found]
    sums: dict[str, Any]

    def plus(self, other: Seen) -> Seen:
        """Return what the rows of both have, those of the other after one's own."""
        found = {}
        for text, each in self.found.items():
            found[text] = each.plus(other.found[text])
            check_counted(text, found[text].counts)
        sums = {text: each.plus(other.sums[text]) for text, each in self.sums.items()}
        return Seen(self.rows + other.rows, found, sums)


def added(*parts: Seen) -> Seen:
    """Return what the rows of all parts have, in their order."""
    total = parts[0]
    for part in parts[1:]:
        total = total.plus(part)
    return total


@dataclass(frozen=True)
class Look:
    """Looks at rows for what is asked: levels of factors, and sums of the arguments of transforms."""

    expressions: tuple[Expression, ...]
    factors: tuple[Expression, ...]
    asked: dict[str, Asked]
    states: dict[str, State]
    labels: dict[str, Any]
    #: The columns in which a missing value leaves a row out.
    complete: tuple[str, ...]

    def __call__(self, part: Any, where: str = "") -> Seen:
        """Return what a frame of pandas has."""
        rows = len(part)
        if self.complete:
            labels = [self.labels.get(name, name) for name in self.complete]
            part = part[part[labels].notna().all(axis=1)]
        values = Values(part, self.states, self.labels)
        found = {}
        for factor in self.factors:
            found[factor.text] = found_in(series_of(factor, values), factor.text, where)
        sums = {}
        for expression in self.expressions:
            quoted = dict(expression.quoted)
            for text, node in transforms_of(expression):
                if text in self.asked and text not in sums:
                    first, _, _ = arguments_of(node)
                    sums[text] = self.asked[text].of(values.number(first, quoted))
        return Seen((rows,), found, sums)


class Learner:
    """Learns of a table what a formula needs."""

    def __init__(self, formula: Formula, data: Data, others: tuple[str, ...], drops_rows: bool):
        self.formula = formula
        self.data = data
        parsed = formula.parsed
        #: All that is evaluated, targets first.
        self.expressions = (*parsed.targets, *parsed.expressions)
        names = [name for expression in self.expressions for name in expression.columns]
        self.columns = tuple(dict.fromkeys((*names, *others)))
        self.data = data.with_columns(self.columns)
        self.labels = labels_by_name(self.data.empty, self.columns)
        self.complete: tuple[str, ...] = ()
        if drops_rows:
            self.complete = self.columns
        self.rows: tuple[int, ...] = ()

    def learnt(self) -> Formula:
        """Return the formula with what it has learnt; ``rows`` are then the parts' numbers of rows."""
        factors, undecided = self._factors()
        learnings = self._learnings()
        states: dict[str, State] = {}
        found: dict[str, Found] = {}
        is_first = True
        while is_first or len(states) < len(learnings):
            asked = {text: learnings[text].asked for text in self._ready(learnings, states)}
            counted: tuple[Expression, ...] = ()
            if is_first:
                counted = (*factors, *undecided)
            seen = self._look(counted, asked, states)
            if is_first:
                self.rows = seen.rows
                found = seen.found
            is_first = False
            for text, total in seen.sums.items():
                state = learnings[text].learn(total)
                if state is not None:
                    states[text] = state
        factors += [factor for factor in undecided if TEXT in found[factor.text].kinds]
        return self._with(factors, found, states)

    def _factors(self) -> tuple[list[Expression], list[Expression]]:
        """Return the factors that are levels, and those of which the values say whether they are."""
        dtypes = self.data.empty.dtypes
        factors = []
        undecided = []
        for expression in dict.fromkeys(self.expressions):
            if is_categorical(expression):
                factors.append(expression)
            elif expression.column is not None and expression not in self.formula.parsed.offsets:
                kind = kind_of(dtypes[self.labels[expression.column]])
                if kind == "factor":
                    factors.append(expression)
                elif kind == "undecided":
                    undecided.append(expression)
        return factors, undecided

    def _kind(self, name: str) -> str:
        """Return the kind of a column's dtype, or of its categories."""
        dtype: Any = self.data.empty.dtypes[self.labels[name]]
        categories = getattr(dtype, "categories", None)
        if categories is not None:
            dtype = categories.dtype
        return dtype.kind

    def _learnings(self) -> dict[str, Learning]:
        """Return the transforms that learn, by their texts."""
        learnings = {}
        for expression in self.expressions:
            for text, node in transforms_of(expression):
                _, positional, named = arguments_of(node)
                learnings[text] = Learning(name_of_function(node), positional, named, text)
        return learnings

    def _ready(self, learnings: dict[str, Learning], states: dict[str, State]) -> list[str]:
        """Return the transforms that know nothing yet, and whose arguments are known."""
        ready = []
        for expression in self.expressions:
            quoted = dict(expression.quoted)
            for text, node in transforms_of(expression):
                inner = [text_of(each, quoted) for each in stateful_nodes(node)][:-1]
                if text not in states and all(each in states for each in inner):
                    ready.append(text)
        return ready

    def _look(
        self,
        factors: tuple[Expression, ...],
        asked: dict[str, Asked],
        states: dict[str, State],
    ) -> Seen:
        """Return what all rows have of what is asked."""
        look = Look(self.expressions, factors, asked, states, self.labels, self.complete)
        if self.data.memory is not None:
            return look(self.data.memory)
        # Only columns that this reading is about.
        needed = list(self.complete)
        for expression in self.expressions:
            if expression in factors or any(text in asked for text, _ in transforms_of(expression)):
                needed += expression.columns
        parts = self.data.parts([self.labels[name] for name in needed])
        task = dask.delayed(look, pure=True)
        seen = [task(part, f" of partition {i}") for i, part in enumerate(parts)]
        return total_of(seen, added, "what the formula learns of the rows")

    def _with(self, factors: list[Expression], found: dict[str, Found], states: dict[str, State]) -> Formula:
        """Return the formula with what it has learnt."""
        dtypes = self.data.empty.dtypes
        targets = self.formula.parsed.targets
        levels = {}
        floats = []
        target_levels = None
        for factor in factors:
            name = column_of_levels(factor)
            dtype = None
            if name is not None:
                dtype = dtypes[self.labels[name]]
            own = levels_of(factor, found[factor.text], dtype)
            if factor in targets:
                target_levels = own
            if factor in self.formula.parsed.factors:
                levels[factor.text] = own
            # Levels that are floats have a decimal point in formulaic's names.
            if has_float_levels(factor, self._kind):
                floats.append(factor.text)
        if target_levels is not None and len(targets) > 1:
            raise InvalidArgumentError(f"formula {self.formula.text!r}: several targets are numbers, one has levels.")
        return Formula(
            text=self.formula.text,
            available=self.formula.available,
            states=states,
            levels=levels,
            floats=tuple(floats),
            target_levels=target_levels,
            sample_dims=self.data.sample_dims,
        )
