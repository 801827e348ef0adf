"""Show a fit, a search and a source in notebooks: tables and a line of losses, in the notebook's own colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import prod
from typing import Any

import numpy as np
import xarray as xr

from ..model.losses import LOSSES
from ..names import default_name
from .largest import largest_of
from .plots import drawable, spans_decades, thinned
from .texts import NOT_COMPARABLE, is_sampled, plural, readings, rounded, sampled, shortened, size, state

#: Weights that a notebook shows.
WEIGHTS = 10
#: Outputs that a notebook shows.
OUTPUTS = 6
#: Points of a line of losses.
POINTS = 200

#: Styles of cells: names, numbers, and the names of pairs.
LEFT = ' style="text-align:left"'
RIGHT = ' style="text-align:right;white-space:nowrap"'
HEAD = ' style="text-align:left;white-space:nowrap"'


def html_of_fit(run: Any) -> str:
    """Show a fit: how it ended, what it took, and the largest weights.

    Examples
    --------
    >>> run = dask_gd.fit(np.array([[0.0], [1.0], [2.0]]), np.array([1.0, 3.0, 5.0]))
    >>> "converged" in html_of_fit(run)
    True
    """
    intercept = None
    if run.fit_intercept:
        intercept = run.intercept
    samples = is_sampled(run.history.passes.values, run.history.full_passes.values)
    if run.weights.chunks is None:
        table_of_weights = weights(run.weights, intercept, shapes_of(run.loss), nan_first=not len(run.dropped_levels))
    else:
        table_of_weights = lazy_weights(run.weights, intercept)
    return block(
        f"<b>dask_gd.FitResult</b>: {escape(ended(run)[1])}",
        pairs(summary(run)),
        f"<div>loss {sparkline(run.history.loss.values, samples)}</div>",
        table_of_weights,
    )


def html_of_search(result: Any) -> str:
    """Show a search: the table that it prints, with the best candidate in bold.

    Examples
    --------
    >>> x = np.arange(40.0)[:, None]
    >>> found = dask_gd.search(x, 2 * x[:, 0] + x[:, 0] % 3, alphas=[0.1, 1.0, 10.0], folds=4)
    >>> html_of_search(found).count("<tr>") == len(found.lines())
    True
    """
    return block(f"<b>dask_gd.SearchResult</b>: {escape(result.heading())}", candidates(result))


def html_of_source(source: Any) -> str:
    """Show a source: its rows, its columns, and what a pass over them takes. Nothing is read.

    Examples
    --------
    >>> source = dask_gd.open("data/flights.zarr", x="X", y="late")
    >>> "33 at most" in html_of_source(source)
    True
    """
    # The rows, and the plan of a pass.
    n, p = source.shape
    plan = source.plan()
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
    # The columns, each with the array that its values come from.
    rows = []
    for column in source.columns:
        if column is None:
            continue
        name = column.name
        if name == column.role:
            name = ""
        shape = " x ".join(f"{length:,}" for length in column.shape)
        rows.append([column.role, name, shape, str(column.dtype), size(column.nbytes(n))])
    columns = table(["column", "array", "shape", "dtype", "read in a pass"], rows, left=2)
    return block(f"<b>dask_gd.Source</b>: {escape(source.kind)}", pairs(about), columns)


def summary(run: Any) -> dict[str, str]:
    """Say where a fit has ended and what it took, as names and words."""
    history = run.history
    # Totals of all iterations.
    seconds = float(history["seconds"].sum())
    rows = float(history["rows"].sum())
    nbytes = float(history["bytes_read"].sum())
    # For a loss of the user's own the repr may be addresses.
    loss = run.loss.name
    if loss in LOSSES:
        loss = repr(run.loss)
    rows_of_last = sampled(float(history.passes[-1]), float(history.full_passes[-1]))
    lines = {
        "loss": shortened(loss),
        "last loss": f"{float(history.loss[-1]):.10g} {rows_of_last}".rstrip(),
        "last gradient": f"{float(history.grad_norm[-1]):.2e} of its scale",
        "passes": readings(float(history.full_passes.sum()), float(history.passes.sum())),
        "rows used": f"{rows:,.0f}",
        "read": size(nbytes),
        "seconds": f"{seconds:,.3g}",
    }
    # Iterations without a pass say nothing about its speed.
    seconds_reading = float(history.seconds.where(history.rows > 0).sum())
    if seconds_reading > 0:
        rows_per_second = rounded(rows / seconds_reading)
        megabytes_per_second = rounded(nbytes / 1e6 / seconds_reading)
        lines["speed of passes"] = f"{rows_per_second} rows/s, {megabytes_per_second} MB/s"
    if run.dropped:
        lines["rows left out for NaN"] = f"{run.dropped:,}"
    return lines


def ended(run: Any) -> tuple[str, str]:
    """Say why and after how many steps a fit has ended, or that it runs, with a name before it."""
    name, text = state(run.reason, run.n_iter, "step")
    if name == "ended" and not run.converged:
        text += ", not converged"
    return name, text


def in_words(run: Any) -> str:
    """Say in a line how a fit has ended, or stands, and what it has read.

    Examples
    --------
    >>> run = dask_gd.fit(np.array([[0.0], [1.0], [2.0]]), np.array([1.0, 3.0, 5.0]))
    >>> in_words(run).rpartition(",")[0].partition(" of its scale")[2]
    '; 1 pass over all rows'
    """
    _, text = ended(run)
    last = run.history.isel(iteration=-1)
    total = run.history.sum()
    loss = f"loss {float(last['loss']):.10g}, gradient {float(last.grad_norm):.2e} of its scale"
    read = readings(float(total.full_passes), float(total.passes))
    return f"{text}: {loss}; {read}, {float(total.seconds):.3g} s"


def weights(
    array: xr.DataArray,
    intercept: xr.DataArray | None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    limit: int = WEIGHTS,
    outputs: int = OUTPUTS,
    nan_first: bool = True,
) -> str:
    """Tabulate the weights that are largest in any output, and the intercept, with a note of what is left out.

    Weights that are NaN come first, or last where levels were left out.
    """
    found = largest_of(array, limit, nan_first)
    indices = found.indices.tolist()
    p = found.features
    k = len(found.nan)
    # A column for each output, a row for each weight.
    if array.ndim == 1:
        columns = ["weight"]
    elif "output" in array.coords:
        columns = [str(name) for name in array.output.values]
    else:
        columns = [f"output {i}" for i in range(k)]
    rows = []
    for name, values in zip(names_of(indices, array, shapes), found.values, strict=True):
        rows.append([shortened(name), *_cells(values[:outputs])])
    if intercept is not None:
        rows.append(["(intercept)", *_cells(np.ravel(intercept.values)[:outputs])])
    # What the table has, and what it leaves out.
    kind = "feature"
    if shapes:
        kind = "parameter"
    if p > len(indices):
        note = f"The {plural(len(indices), kind)} with the largest weights, of {p:,}"
    else:
        note = f"All {plural(len(indices), kind)}, by size"
    if k > outputs:
        note += f"; the first {outputs} of {k:,} outputs"
    if found.note:
        note += f". {found.note}"
    return f"<div>{note}.</div>" + table([kind, *map(shortened, columns[:outputs])], rows)


def lazy_weights(array: xr.DataArray, intercept: xr.DataArray | None) -> str:
    """Tabulate the size of weights that are not in memory, and the intercept; none of them is computed."""
    assert array.chunks is not None
    lengths = [f"{dim}: {length:,}" for dim, length in array.sizes.items()]
    about = {
        "weights": ", ".join(lengths),
        "dtype": str(array.dtype),
        "bytes": size(array.nbytes),
        "chunks": f"{prod(map(len, array.chunks)):,} of at most {size(array.data.chunksize[0] * _row_bytes(array))}",
    }
    if intercept is not None:
        about["(intercept)"] = ", ".join(_cells(np.ravel(intercept.values)[:OUTPUTS]))
    return "<div>The weights are not in memory; dask_gd.report finds the largest.</div>" + pairs(about)


def _row_bytes(array: xr.DataArray) -> int:
    """Return the bytes of the weights of a feature."""
    return prod(array.shape[1:]) * array.dtype.itemsize


def _cells(values: np.ndarray) -> list[str]:
    """Format the weights of a feature."""
    return [f"{value:.6g}" for value in values]


def names_of(indices: list[int], array: xr.DataArray, shapes: Mapping[str, Sequence[int]] | None) -> list[str]:
    """Name weights by their indices: as features, as elements of a model's parameters, or by number."""
    if not shapes:
        if "feature" in array.coords:
            return list(map(str, array.feature.values[indices]))
        return list(map(default_name, indices))
    # A model's parameters lie behind one another, each flattened.
    parameters = list(shapes.items())
    starts = np.cumsum([0, *(prod(shape) for shape in shapes.values())])
    names = []
    for i in indices:
        number = int(np.searchsorted(starts, i, side="right")) - 1
        name, shape = parameters[number]
        if shape:
            index = np.unravel_index(i - starts[number], tuple(shape))
            name += f"[{', '.join(map(str, index))}]"
        names.append(name)
    return names


def shapes_of(loss: Any) -> Mapping[str, Sequence[int]] | None:
    """Return the shapes of a model's parameters by their names, or None for another loss."""
    return getattr(loss, "shapes", None)


def candidates(result: Any) -> str:
    """Tabulate the candidates of a search, the best in bold."""
    head, *lines = result.lines()
    is_best = [line[0] == "*" for line in lines]
    return table(head, lines, bold=is_best)


def sparkline(
    values: np.ndarray,
    samples: np.ndarray | None = None,
    width: int = 240,
    height: int = 40,
) -> str:
    """Draw the finite values as a line, at most 200 of them; an inline SVG in the colour of the text.

    Values of samples, where ``samples`` is true, cannot be compared with others: they are circles beside the line, and
    a note says so.

    Examples
    --------
    >>> sparkline(np.array([3.0, np.nan, 2.0])).partition("points=")[2][:24]
    '"4.0,4.0 236.0,36.0" fil'
    """
    # Values that can be drawn, thinned.
    finite = np.flatnonzero(np.isfinite(drawable(values)))
    if not len(finite):
        return "has no finite value"
    shown = thinned(finite, POINTS)
    y = values[shown]
    title = f"{y[0]:.6g} at iteration {shown[0]}, {y[-1]:.6g} at iteration {shown[-1]}"
    if spans_decades(y):
        y = np.log(y)
        title += "; logarithmic"
    # Scale both axes to 0 ... 1, the y axis downwards, and then to the picture with a margin.
    x = shown / max(1, len(values) - 1)
    span = np.ptp(y)
    if span > 0:
        y = (y.max() - y) / span
    else:
        y = np.full(len(y), 0.5)
    x = 4 + x * (width - 8)
    y = 4 + y * (height - 8)
    # A line of the values of all rows, with a dot at its end, and circles for the others.
    is_sample = np.zeros(len(shown), bool)
    if samples is not None:
        is_sample = samples[shown]
    points = [f"{a:.1f},{b:.1f}" for a, b in zip(x[~is_sample], y[~is_sample], strict=True)]
    marks = f'<polyline points="{" ".join(points)}" fill="none" stroke="currentColor" stroke-width="1.5"/>'
    if points:
        across, down = points[-1].split(",")
        marks += f'<circle cx="{across}" cy="{down}" r="2.5" fill="currentColor"/>'
    for across, down in zip(x[is_sample], y[is_sample], strict=True):
        marks += f'<circle cx="{across:.1f}" cy="{down:.1f}" r="2" fill="none" stroke="currentColor"/>'
    note = ""
    if is_sample.any():
        note = f" circles: {NOT_COMPARABLE}"
    return (
        f'<svg width="{width}" height="{height}" role="img" style="vertical-align:middle"><title>{title}</title>'
        f"{marks}</svg>{note}"
    )


def block(*parts: str) -> str:
    """Set parts below one another."""
    divisions = []
    for part in parts:
        if part.startswith("<table"):
            divisions.append(part)
        else:
            divisions.append(f"<div>{part}</div>")
    return "<div>" + "".join(divisions) + "</div>"


def pairs(texts: Mapping[str, str]) -> str:
    """Tabulate names and their texts, escaped, in two columns."""
    rows = []
    for name, text in texts.items():
        rows.append(f"<tr><th{HEAD}>{escape(name)}</th><td{LEFT}>{escape(text)}</td></tr>")
    return f"<table><tbody>{''.join(rows)}</tbody></table>"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1, bold: Sequence[bool] = ()) -> str:
    """Tabulate text, escaped; the first columns are aligned as names, the others as numbers."""

    def line(cells: Sequence[str], tag: str, is_bold: bool = False) -> str:
        styled = []
        for i, cell in enumerate(cells):
            style = LEFT if i < left else RIGHT
            text = escape(cell)
            if is_bold:
                text = f"<b>{text}</b>"
            styled.append(f"<{tag}{style}>{text}</{tag}>")
        return f"<tr>{''.join(styled)}</tr>"

    bold = bold or [False] * len(rows)
    body = "".join(line(cells, "td", is_bold) for cells, is_bold in zip(rows, bold, strict=True))
    return f"<table><thead>{line(head, 'th')}</thead><tbody>{body}</tbody></table>"
