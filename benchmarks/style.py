"""How the code reads, in numbers: density of lines, packing, comments, and the largest modules and functions.

    python benchmarks/style.py [folder or module] [--each]

A line of code is one that holds a token and is no part of a docstring. Tokens are Python's own, without those that end
lines or indent.
"""

from __future__ import annotations

import argparse
import ast
import io
import tokenize
from pathlib import Path

#: What does not count as a token.
LAYOUT = {tokenize.NEWLINE, tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER, tokenize.COMMENT}
#: What modules and functions may have, in lines.
LARGEST_MODULE, LARGEST_FUNCTION = 400, 60


def docstring_lines(tree: ast.AST) -> set[int]:
    """Return the lines of the docstrings of a module."""
    found: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and type(first.value.value) is str:
                found.update(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    return found


def measures(path: Path) -> dict[str, float]:
    """Return the counts of one module."""
    text = path.read_text()
    tree = ast.parse(text)
    documented = docstring_lines(tree)
    lines: set[int] = set()
    counts = dict.fromkeys(("tokens", "comments", "assignments", "packed", "conditional"), 0)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            counts["comments"] += 1
        elif token.type not in LAYOUT and token.start[0] not in documented:
            counts["tokens"] += 1
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            counts["assignments"] += 1
            both = isinstance(node.targets[0], ast.Tuple) and isinstance(node.value, ast.Tuple)
            counts["packed"] += both
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            counts["assignments"] += 1
        elif isinstance(node, ast.IfExp):
            counts["conditional"] += 1
    return {**counts, "code": len(lines), "lines": len(text.splitlines())}


def long_functions(path: Path) -> list[tuple[int, str]]:
    """Return functions whose body, without its docstring, has more lines than it should, with their lengths."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            if body:
                length = (node.end_lineno or 0) - body[0].lineno + 1
                if length > LARGEST_FUNCTION:
                    found.append((length, f"{path}:{node.lineno} {node.name}"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path("dask_gd"))
    parser.add_argument("--each", action="store_true", help="also each module, the densest first")
    arguments = parser.parse_args()
    paths = sorted(arguments.folder.rglob("*.py")) if arguments.folder.is_dir() else [arguments.folder]
    each = {path: measures(path) for path in paths}
    total = {name: sum(found[name] for found in each.values()) for name in next(iter(each.values()))}
    print(f"modules, lines, lines of code      {len(each)}, {total['lines']:,}, {total['code']:,}")
    print(f"tokens in a line of code           {total['tokens'] / total['code']:.2f}")
    print(f"assignments that are tuple = tuple {total['packed'] / max(1, total['assignments']):.1%}")
    print(f"conditional expressions in 100     {100 * total['conditional'] / total['code']:.2f}")
    print(f"comments in 100 lines of code      {100 * total['comments'] / total['code']:.2f}")
    for path, found in sorted(each.items(), key=lambda item: -item[1]["lines"]):
        if found["lines"] > LARGEST_MODULE:
            print(f"module of {found['lines']} lines: {path}")
    for length, name in sorted((entry for path in each for entry in long_functions(path)), reverse=True):
        print(f"function of {length} lines: {name}")
    if arguments.each:
        for path, found in sorted(each.items(), key=lambda item: -item[1]["tokens"] / max(1, item[1]["code"])):
            if found["code"]:
                print(f"{found['tokens'] / found['code']:6.2f} {found['packed']:4} {found['conditional']:4} {path}")


if __name__ == "__main__":
    main()
