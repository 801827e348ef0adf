"""Parse a formula: its terms, as formulaic parses them, each factor checked to be one that `expressions` evaluates."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ...errors import InvalidArgumentError
from .functions import check_expression

#: A column's name in backquotes, inside of an expression.
QUOTED = re.compile(r"`([^`]+)`")
#: The names that stand for quoted columns in expressions begin so.
STANDS_FOR = "_quoted_column_"
#: Colours that formulaic puts into its messages.
COLOURS = re.compile(r"\x1b\[[0-9;]*m|[⧛⧚]|\[[01];31m|\[0m")


@dataclass(frozen=True)
class Expression:
    """A factor of a term: the name of a column, or an expression of columns."""

    #: As formulaic writes it, which names the columns of the design.
    text: str
    #: The column that it is; None for an expression.
    column: str | None
    #: The columns that it is made of.
    columns: tuple[str, ...]
    #: The names of quoted columns, by the names that stand for them in the parsed expression.
    quoted: tuple[tuple[str, str], ...] = ()

    @property
    def tree(self) -> ast.expr:
        """The parsed expression."""
        return _tree(_without_quotes(self.text)[0])


@dataclass(frozen=True)
class Term:
    """A product of factors, times a number."""

    factors: tuple[Expression, ...]
    scale: float = 1.0


@dataclass(frozen=True)
class Parsed:
    """A formula's sides."""

    targets: tuple[Expression, ...]
    terms: tuple[Term, ...]
    has_intercept: bool
    offsets: tuple[Expression, ...]

    @property
    def factors(self) -> tuple[Expression, ...]:
        """The factors of all terms, each once."""
        return tuple(dict.fromkeys(factor for term in self.terms for factor in term.factors))

    @property
    def expressions(self) -> tuple[Expression, ...]:
        """All expressions of the right-hand side: factors of terms, and offsets."""
        return (*self.factors, *self.offsets)


def is_formula(x: Any) -> bool:
    """Return whether an argument is a formula, such as ``"y ~ x"``: no path has a tilde in the middle."""
    return isinstance(x, str) and "~" in x.lstrip().removeprefix("~/")


def formulaic() -> Any:
    """Return the module formulaic.

    Raises
    ------
    InvalidArgumentError
        Where it is not installed.
    """
    try:
        import formulaic as module
    except ImportError as error:
        raise InvalidArgumentError(
            "Formulas need the package formulaic: pip install 'dask_gd[formula]'. Or give features= and target=."
        ) from error
    return module


@lru_cache(maxsize=64)
def parse(text: str, available: tuple[str, ...] = ()) -> Parsed:
    """Return the sides of a formula; ``.`` stands for the columns ``available`` that are not on the left.

    Raises
    ------
    InvalidArgumentError
        For a formula that cannot be parsed, has several parts, or an expression that is not evaluated.
    """
    formula = _formula(text, available)
    left = getattr(formula, "lhs", None)
    right = getattr(formula, "rhs", None)
    if left is None or right is None:
        raise InvalidArgumentError(f"formula {text!r}: give a target and terms, 'target ~ term + term'.")
    if isinstance(left, tuple) or isinstance(right, tuple):
        raise InvalidArgumentError(
            f"formula {text!r}: '|' makes several parts, of which a fit has no use; fit each by itself. In a "
            "condition put it between braces, {(a > 1) | (b > 1)}."
        )
    # The left-hand side: a target for each term.
    targets = []
    for term in left:
        if len(term.factors) != 1 or term.factors[0].eval_method.value == "literal":
            raise InvalidArgumentError(f"formula {text!r}: {term!r} is no target; several are 'y1 + y2 ~ ...'.")
        targets.append(_expression(term.factors[0], text))
    if not targets:
        raise InvalidArgumentError(f"formula {text!r} has no target: 'target ~ term + term'.")
    # The right-hand side: the intercept, offsets, and all other terms.
    terms = []
    offsets = []
    has_intercept = False
    for term in right:
        scale = 1.0
        factors = []
        for factor in term.factors:
            if factor.eval_method.value == "literal":
                scale *= float(ast.literal_eval(factor.expr))
            else:
                factors.append(factor)
        if not factors:
            has_intercept = True
        elif any(factor.expr.startswith("offset(") for factor in factors):
            if len(factors) != 1 or scale != 1:
                raise InvalidArgumentError(f"formula {text!r}: offset(...) is a term of its own.")
            offsets.append(_expression(factors[0], text, is_offset=True))
        else:
            terms.append(Term(tuple(_expression(factor, text) for factor in factors), scale))
    return Parsed(tuple(targets), tuple(terms), has_intercept, tuple(offsets))


def _formula(text: str, available: tuple[str, ...]) -> Any:
    """Return the formula as formulaic parses it."""
    module = formulaic()
    from formulaic.errors import FormulaicError

    try:
        return module.Formula(text, _context={"__formulaic_variables_available__": list(available)})
    except (FormulaicError, SyntaxError, ValueError, TypeError) as error:
        said = " ".join(COLOURS.sub("", str(error)).split())
        raise InvalidArgumentError(f"formula {text!r} cannot be parsed: {said}") from error


def _expression(factor: Any, formula: str, is_offset: bool = False) -> Expression:
    """Return a factor of formulaic's as an expression."""
    text = factor.expr
    if factor.eval_method.value == "lookup":
        return Expression(text, text, (text,))
    plain, quoted = _without_quotes(text)
    try:
        tree = _tree(plain)
    except SyntaxError as error:
        raise InvalidArgumentError(f"formula {formula!r}: {text!r} is no expression.") from error
    columns = check_expression(tree, text, is_offset)
    names = dict(quoted)
    return Expression(text, None, tuple(names.get(name, name) for name in columns), quoted)


def _without_quotes(text: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Return an expression with a name in place of each quoted column, and what these names stand for."""
    quoted: dict[str, str] = {}

    def replaced(match: re.Match) -> str:
        """Return the name that stands for a quoted column."""
        name = f"{STANDS_FOR}{len(quoted)}"
        quoted[name] = match.group(1)
        return name

    plain = QUOTED.sub(replaced, text)
    return plain, tuple(quoted.items())


@lru_cache(maxsize=512)
def _tree(text: str) -> ast.expr:
    """Return the parsed expression."""
    return ast.parse(text, mode="eval").body
