"""What notebooks show of a fit, a search and a source: tables and a line of losses, in the notebook's own colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import prod
from typing import Any

import numpy as np
import xarray as xr

from ..model.losses import LOSSES
from ..names import default_name
from .plots import drawable, spans_decades, thinned

#: Weights and outputs that a notebook shows.
WEIGHTS, OUTPUTS = 10, 6
#: Points of a line of losses.
POINTS = 200
#: Characters of a name, or of what describes a loss.
LONGEST = 80

LEFT, RIGHT, HEAD = (
    f' style="text-align:{s}"' for s in ("left", "right;white-space:nowrap", "left;white-space:nowrap")
)


def html_of_fit(run: Any) -> str:
    """A fit: how it ended, what it took, and the largest weights.

    Examples
    --------
    >>> run = dask_gd.fit(np.array([[0.0], [1.0], [2.0]]), np.array([1.0, 3.0, 5.0]))
    >>> "converged" in html_of_fit(run)
    True
    """
    history = run.history
    parts = [
        f"<b>dask_gd.FitResult</b>: {escape(ended(run))}",
        pairs(summary(run)),
        f"<div>loss {sparkline(history.loss.values)}</div>",
        weights(run.weights, run.intercept if run.fit_intercept else None, shapes_of(run.loss)),
    ]
    return block(*parts)


def html_of_search(found: Any) -> str:
    """A search: the table that it prints, with the best candidate in bold.

    Examples
    --------
    >>> x = np.arange(40.0)[:, None]
    >>> found = dask_gd.search(x, 2 * x[:, 0] + x[:, 0] % 3, alphas=[0.1, 1.0, 10.0], folds=4)
    >>> html_of_search(found).count("<tr>") == len(found.lines())
    True
    """
    return block(f"<b>dask_gd.SearchResult</b>: {escape(found.heading())}", candidates(found))


def html_of_source(source: Any) -> str:
    """A source: its rows, its columns, and what a pass over them takes. Nothing is read.

    Examples
    --------
    >>> source = dask_gd.open("data/flights.zarr", x="X", y="late")
    >>> "33 at most" in html_of_source(source)
    True
    """
    (n, p), plan = source.shape, source.plan()
    about = {
        "rows x features": f"{n:,} x {p:,}",
        "outputs": str(source.outputs or 1),
        "products in": str(source.dtype),
        "rows with NaN": "left out" if source.nan == "drop" else "refused",
        "partitions": f"{plan.partitions:,} of at most {plan.rows:,} rows",
        "tasks in a pass": f"{plan.tasks:,} at most",
        "read in a pass": size(plan.bytes_read),
        "chunks of x": size(plan.chunk_bytes),
        "memory for each thread": f"{size(plan.memory)} at most",
        "passes": "1 for a squared loss, 2 where it is polished. Of other losses, measured on two large data sets: "
        "2 and 7 by Newton's method, 4 and 22 by L-BFGS.",
    }
    rows = [
        [
            column.role,
            column.name if column.name != column.role else "",
            " x ".join(f"{length:,}" for length in column.shape),
            str(column.dtype),
            size(column.nbytes(n)),
        ]
        for column in source.columns
        if column is not None
    ]
    columns = table(["column", "array", "shape", "dtype", "read in a pass"], rows, left=2)
    return block(f"<b>dask_gd.Source</b>: {escape(source.kind)}", pairs(about), columns)


def summary(run: Any) -> dict[str, str]:
    """Where a fit has ended and what it took, in words."""
    history = run.history
    seconds, rows, read = (float(history[name].sum()) for name in ("seconds", "rows", "bytes_read"))
    reading = float(history.seconds.where(history.rows > 0).sum())
    found = {
        # Of a loss of the user's own the repr may be addresses.
        "loss": shortened(repr(run.loss) if run.loss.name in LOSSES else run.loss.name),
        "last loss": f"{float(history.loss[-1]):.10g}",
        "last gradient": f"{float(history.grad_norm[-1]):.2e} of its scale",
        "passes": f"{float(history.passes.sum()):,.4g}",
        "rows used": f"{rows:,.0f}",
        "read": size(read),
        "seconds": f"{seconds:,.3g}",
    }
    if reading > 0:
        found["speed of passes"] = f"{rounded(rows / reading)} rows/s, {rounded(read / 1e6 / reading)} MB/s"
    if run.dropped:
        found["rows left out for NaN"] = f"{run.dropped:,}"
    return found


def ended(run: Any) -> str:
    """Why and when."""
    return f"{run.reason} after {plural(run.n_iter, 'step')}" + ("" if run.converged else ", not converged")


def weights(
    found: xr.DataArray,
    intercept: xr.DataArray | None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    limit: int = WEIGHTS,
    outputs: int = OUTPUTS,
) -> str:
    """A table of the weights that are largest in any output, and the intercept, with a note of what is left out."""
    values = found.values.reshape(len(found), -1)
    sizes = np.abs(values).max(axis=1)
    # Those that are not finite come first, as what went wrong.
    order = np.argsort(np.where(np.isnan(sizes), -np.inf, -sizes), kind="stable")[:limit]
    p, k = values.shape
    if found.ndim == 1:
        columns = ["weight"]
    else:
        if "output" in found.coords:
            columns = [str(v) for v in found.output.values]
        else:
            columns = [f"output {i}" for i in range(k)]
    places = order.tolist()
    rows = [
        [shortened(name), *(f"{v:.6g}" for v in values[i, :outputs])]
        for i, name in zip(places, names_of(places, found, shapes), strict=True)
    ]
    if intercept is not None:
        rows.append(["(intercept)", *(f"{v:.6g}" for v in np.ravel(intercept.values)[:outputs])])
    what = "parameter" if shapes else "feature"
    note = f"{'The' if p > len(order) else 'All'} {plural(len(order), what)}"
    if p > len(order):
        note += f" with the largest weights, of {p:,}"
    else:
        note += ", by size"
    if k > outputs:
        note += f"; the first {outputs} of {k:,} outputs"
    else:
        note += ""
    return f"<div>{note}.</div>" + table([what, *map(shortened, columns[:outputs])], rows)


def names_of(places: list[int], found: xr.DataArray, shapes: Mapping[str, Sequence[int]] | None) -> list[str]:
    """What some of the weights are called: features, places in a model's parameters, or numbers."""
    if not shapes:
        return list(map(str, found.feature.values[places] if "feature" in found.coords else map(default_name, places)))
    starts = np.cumsum([0, *(prod(shape) for shape in shapes.values())])
    names = []
    for i in places:
        which = int(np.searchsorted(starts, i, side="right")) - 1
        name, shape = list(shapes.items())[which]
        if shape:
            at = np.unravel_index(i - starts[which], tuple(shape))
        else:
            at = ()
        names.append(name + (f"[{', '.join(map(str, at))}]" if shape else ""))
    return names


def shapes_of(loss: Any) -> Mapping[str, Sequence[int]] | None:
    """Of a model's parameters."""
    return getattr(loss, "shapes", None)


def candidates(found: Any) -> str:
    """The table of a search."""
    head, *lines = found.lines()
    best = [line[0] == "*" for line in lines]
    return table(head, lines, bold=best)


def sparkline(values: np.ndarray, width: int = 240, height: int = 40) -> str:
    """The finite values as a line, at most 200 of them; an inline SVG in the colour of the text.

    Examples
    --------
    >>> sparkline(np.array([3.0, np.nan, 2.0])).partition("points=")[2][:24]
    '"4.0,4.0 236.0,36.0" fil'
    """
    finite = np.flatnonzero(np.isfinite(drawable(values)))
    if not len(finite):
        return "has no finite value"
    shown = thinned(finite, POINTS)
    y = values[shown]
    told = f"{y[0]:.6g} at iteration {shown[0]}, {y[-1]:.6g} at iteration {shown[-1]}"
    if spans_decades(y):
        y = np.log(y)
        told = told + "; logarithmic"
    x = shown / max(1, len(values) - 1)
    span = np.ptp(y)
    if span > 0:
        y = (y.max() - y) / span
    else:
        y = np.full(len(y), 0.5)
    x = 4 + x * (width - 8)
    y = 4 + y * (height - 8)
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    return (
        f'<svg width="{width}" height="{height}" role="img" style="vertical-align:middle"><title>{told}</title>'
        f'<polyline points="{points}" fill="none" stroke="currentColor" stroke-width="1.5" stroke-linejoin="round"/>'
        f'<circle cx="{x[-1]:.1f}" cy="{y[-1]:.1f}" r="2.5" fill="currentColor"/></svg>'
    )


def block(*parts: str) -> str:
    """Parts below one another."""
    return "<div>" + "".join(part if part.startswith("<table") else f"<div>{part}</div>" for part in parts) + "</div>"


def pairs(found: Mapping[str, str]) -> str:
    """Names and what they are, escaped, in two columns."""
    rows = (f"<tr><th{HEAD}>{escape(k)}</th><td{LEFT}>{escape(v)}</td></tr>" for k, v in found.items())
    return f"<table><tbody>{''.join(rows)}</tbody></table>"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1, bold: Sequence[bool] = ()) -> str:
    """A table of text, escaped; the first columns and the others aligned as names and numbers are."""

    def line(cells: Sequence[str], tag: str, strong: bool = False) -> str:
        inner = (f"<b>{escape(c)}</b>" if strong else escape(c) for c in cells)
        styled = (f"<{tag}{LEFT if i < left else RIGHT}>{c}</{tag}>" for i, c in enumerate(inner))
        return f"<tr>{''.join(styled)}</tr>"

    bold = bold or [False] * len(rows)
    body = "".join(line(cells, "td", strong) for cells, strong in zip(rows, bold, strict=True))
    return f"<table><thead>{line(head, 'th')}</thead><tbody>{body}</tbody></table>"


def size(count: float) -> str:
    """Bytes for people."""
    if count >= 1e9:
        return f"{count / 1e9:,.2f} GB"
    if count >= 1e5:
        return f"{count / 1e6:,.1f} MB"
    return f"{count:,.0f} B"


def rounded(value: float) -> str:
    """To three digits, of large numbers with zeros after them."""
    if value >= 100:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.3g}"


def plural(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def shortened(text: str) -> str:
    if len(text) <= LONGEST:
        return text
    return text[: LONGEST - 3] + "..."
