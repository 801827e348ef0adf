"""What may stand in a formula's expressions: arithmetic, NumPy's functions of single values, and transforms.

Nothing else is evaluated, so that a formula is no program, and each row's value follows from this row and from what was
learnt. ``x - x.mean()`` would have another mean in each chunk.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

import numpy as np

from ...errors import InvalidArgumentError

#: Transforms that learn from the rows, and those among them that have several columns.
STATEFUL = ("bs", "cc", "center", "cr", "cs", "poly", "scale", "standardize")
WIDE = ("bs", "cc", "cr", "cs", "poly")
#: NumPy's functions by the names that they have without ``np.``.
BARE = ("exp", "exp2", "log", "log10", "log2")
#: NumPy's functions of single values that are no ufuncs, and their numbers of arguments.
MORE = {"clip": 3, "round": 1, "where": 3}
CONSTANTS = ("e", "pi")
#: Contrasts of C: attributes of ``contr``, and patsy's names.
CONTRASTS = ("treatment", "SAS", "sum", "helmert", "diff", "poly")
PATSY_CONTRASTS = ("Treatment", "Sum", "Helmert", "Diff", "Poly")

OPERATORS: dict[type, Any] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.true_divide,
    ast.FloorDiv: np.floor_divide,
    ast.Mod: np.mod,
    ast.Pow: np.power,
    ast.BitAnd: np.minimum,
    ast.BitOr: np.maximum,
}
COMPARISONS: dict[type, Any] = {
    ast.Eq: np.equal,
    ast.NotEq: np.not_equal,
    ast.Lt: np.less,
    ast.LtE: np.less_equal,
    ast.Gt: np.greater,
    ast.GtE: np.greater_equal,
}
#: Functions that formulaic has and that are refused, and why.
REFUSED = {
    "lag": "it takes values from other rows, which lie in other chunks",
    "hashed": "levels are learnt in any number: write C(column)",
    "exp10": "in formulaic it is x**10, not 10**x: write whichever is meant",
}
ALLOWED = (
    "Allowed are columns, numbers, + - * / // % **, comparisons with & | ~, NumPy's functions of single values "
    "(np.log, np.where, np.clip, ...), I, Q, C with its contrasts, " + ", ".join(STATEFUL) + ", and offset"
)


def name_of_function(node: ast.Call) -> str:
    """Return the name that is called, "" if it is none."""
    if isinstance(node.func, ast.Name):
        return node.func.id
    return ""


def numpy_function(node: ast.Call) -> Any:
    """Return the function of NumPy that is called; None if it is none that is allowed."""
    function = node.func
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name) and function.value.id == "np":
        name = function.attr
    elif isinstance(function, ast.Name) and function.id in BARE:
        name = function.id
    else:
        return None
    found = getattr(np, name, None)
    is_ufunc = isinstance(found, np.ufunc) and found.nout == 1 and found.signature is None
    if is_ufunc or name in MORE:
        return found
    return None


def arguments_taken(node: ast.Call) -> int:
    """Return how many arguments a function has; more would be written to."""
    function = numpy_function(node)
    if function is None:
        return 1
    return MORE.get(function.__name__) or function.nin


def stateful_nodes(tree: ast.expr) -> Iterator[ast.Call]:
    """Yield the calls of transforms that learn, the inner ones before the outer."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.expr):
            yield from stateful_nodes(child)
    if isinstance(tree, ast.Call) and name_of_function(tree) in STATEFUL and not is_raw(tree):
        yield tree


def is_raw(node: ast.Call) -> bool:
    """Return whether these are powers, which learn nothing: ``poly(x, 2, raw=True)``."""
    _, positional, named = arguments_of(node)
    third = positional[1:2] or (named.get("raw", False),)
    return name_of_function(node) == "poly" and bool(third[0])


def arguments_of(node: ast.Call) -> tuple[ast.expr, tuple[Any, ...], dict[str, Any]]:
    """Return what a transform is of, and its options, which are literals."""
    first, *rest = node.args
    positional = tuple(ast.literal_eval(each) for each in rest)
    named = {str(each.arg): ast.literal_eval(each.value) for each in node.keywords}
    return first, positional, named


def check_expression(tree: ast.expr, text: str, is_offset: bool = False) -> tuple[str, ...]:
    """Return the columns of an expression; refuse what is not evaluated.

    Raises
    ------
    InvalidArgumentError
        Naming the expression, and what of it is not allowed.
    """
    check = Check(text)
    if is_offset:
        assert isinstance(tree, ast.Call)
        if len(tree.args) != 1 or tree.keywords:
            raise check.refused(tree, "offset has a single argument")
        tree = tree.args[0]
    check.factor(tree)
    return tuple(dict.fromkeys(check.columns))


class Check:
    """Looks at each part of an expression, and collects its columns."""

    def __init__(self, text: str):
        self.text = text
        self.columns: list[str] = []

    def refused(self, node: ast.AST, why: str) -> InvalidArgumentError:
        """Return the error about a part of the expression."""
        return InvalidArgumentError(f"formula, {self.text!r}: {ast.unparse(node)!r}: {why}. {ALLOWED}.")

    def factor(self, node: ast.expr) -> None:
        """Check a factor: levels, several columns, or a number for each row."""
        name = ""
        if isinstance(node, ast.Call):
            name = name_of_function(node)
        if name == "C":
            assert isinstance(node, ast.Call)
            self.categorical(node)
        elif name in WIDE:
            assert isinstance(node, ast.Call)
            self.transform(node)
        elif name == "I" and isinstance(node, ast.Call) and len(node.args) == 1:
            self.factor(node.args[0])
        else:
            self.number(node)

    def categorical(self, node: ast.Call) -> None:
        """Check C(...)."""
        options = {each.arg: each.value for each in node.keywords}
        unknown = set(options) - {"contrasts", "levels", "spans_intercept"}
        if not 1 <= len(node.args) <= 2 or unknown or (len(node.args) == 2 and "contrasts" in options):
            raise self.refused(node, "C takes a column, contrasts, and levels=")
        self.number(node.args[0])
        for name in ("levels", "spans_intercept"):
            if name in options:
                self.literal(options[name])
        for contrast in (*node.args[1:], *(options[name] for name in ("contrasts",) if name in options)):
            self.contrast(contrast)

    def contrast(self, node: ast.expr) -> None:
        """Check contrasts: by name, with options that are literals, or numbers."""
        named = node
        if isinstance(node, ast.Call):
            named = node.func
            for each in (*node.args, *(keyword.value for keyword in node.keywords)):
                self.literal(each)
        of_contr = isinstance(named, ast.Attribute) and isinstance(named.value, ast.Name) and named.value.id == "contr"
        if of_contr and named.attr in CONTRASTS:  # type: ignore[attr-defined]
            return
        if isinstance(named, ast.Name) and named.id in PATSY_CONTRASTS:
            return
        if isinstance(node, ast.Dict | ast.List | ast.Tuple):
            self.literal(node)
            return
        raise self.refused(node, f"contrasts are contr.{', contr.'.join(CONTRASTS)}, or a dict or list of numbers")

    def transform(self, node: ast.Call) -> None:
        """Check a transform: a number for each row, and options that are literals."""
        if not node.args:
            raise self.refused(node, "it is of a column")
        for each in (*node.args[1:], *(keyword.value for keyword in node.keywords)):
            self.literal(each)
        if any(keyword.arg is None for keyword in node.keywords):
            raise self.refused(node, "options have names")
        self.number(node.args[0])

    def literal(self, node: ast.expr) -> None:
        """Refuse anything but numbers, texts, and lists of them."""
        try:
            ast.literal_eval(node)
        except ValueError as error:
            raise self.refused(node, "this option must be a number, a text, or a list of them") from error

    def number(self, node: ast.expr) -> None:
        """Check an expression that is a number for each row."""
        if isinstance(node, ast.Name):
            self.columns.append(node.id)
        elif isinstance(node, ast.Constant):
            if isinstance(node.value, str | bytes | complex) or node.value is None or node.value is Ellipsis:
                raise self.refused(node, "no number")
        elif isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
            if isinstance(node.op, ast.BitAnd | ast.BitOr):
                self.condition(node.left)
                self.condition(node.right)
            self.number(node.left)
            self.number(node.right)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.UAdd | ast.USub | ast.Invert):
            if isinstance(node.op, ast.Invert):
                self.condition(node.operand)
            self.number(node.operand)
        elif isinstance(node, ast.Compare):
            self.comparison(node)
        elif isinstance(node, ast.Call):
            self.call(node)
        elif not is_numpy_constant(node):
            raise self.refused(node, "this is not evaluated in formulas")

    def condition(self, node: ast.expr) -> None:
        """Refuse anything but conditions as operands of ``& | ~``."""
        if not is_condition(node):
            raise self.refused(node, "& | and ~ are of conditions, each in parentheses: (a > 1) & (b > 1)")

    def comparison(self, node: ast.Compare) -> None:
        """Check a comparison, of numbers, or of a column and a text."""
        if len(node.ops) != 1 or type(node.ops[0]) not in COMPARISONS:
            raise self.refused(node, "a comparison is of two values, by == != < <= > or >=")
        for side, other in ((node.left, node.comparators[0]), (node.comparators[0], node.left)):
            if is_text(side):
                if not isinstance(other, ast.Name) or not isinstance(node.ops[0], ast.Eq | ast.NotEq):
                    raise self.refused(node, "a text is compared with a column, by == or !=")
                continue
            self.number(side)

    def call(self, node: ast.Call) -> None:
        """Check a call inside of an expression."""
        name = name_of_function(node)
        if name in REFUSED:
            raise self.refused(node, REFUSED[name])
        if name in ("C", "offset", *WIDE):
            raise self.refused(node, f"{name} is a factor of its own, and stands in no other expression")
        if name in STATEFUL:
            self.transform(node)
        elif name == "Q" and len(node.args) == 1 and is_text(node.args[0]) and not node.keywords:
            self.columns.append(node.args[0].value)  # type: ignore[attr-defined]
        elif (name == "I" or numpy_function(node) is not None) and not node.keywords:
            takes = arguments_taken(node)
            if len(node.args) != takes:
                raise self.refused(node, f"this function takes {takes} argument(s), each a number for each row")
            for each in node.args:
                self.number(each)
        else:
            raise self.refused(node.func, "this function is none that formulas have")


def is_condition(node: ast.expr | None) -> bool:
    """Return whether an expression is true or false for each row."""
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, ast.BitAnd | ast.BitOr)
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, ast.Invert)
    is_asked = isinstance(node, ast.Call) and numpy_function(node) in (np.isnan, np.isfinite, np.isinf)
    return isinstance(node, ast.Compare) or is_asked


def is_text(node: ast.expr) -> bool:
    """Return whether this is a text."""
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def is_numpy_constant(node: ast.expr) -> bool:
    """Return whether this is ``np.pi`` or ``np.e``."""
    is_attribute = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "np"
    return is_attribute and node.attr in CONSTANTS  # type: ignore[attr-defined]
