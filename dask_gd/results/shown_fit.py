"""How a fit is shown: a picture of its history, a page for notebooks, and a summary in text."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..display.texts import plural
from ..names import default_name

#: Coefficients that a summary has at most.
COEFFICIENTS = 60


class Summary:
    """A summary of a fit, which is shown as its text."""

    def __init__(self, text: str):
        self.text = text

    def __str__(self) -> str:
        return self.text

    __repr__ = __str__


class ShownFit:
    """The part of a result that shows it."""

    history: Any
    reason: str

    def plot(self, axes: Any = None) -> np.ndarray:
        """Draw the loss and the norm of the gradient against the iteration, with matplotlib, and return the two Axes.

        Iterations that read a sample of the rows, and iterations that took no pass, have markers of their own.

        Parameters
        ----------
        axes : two matplotlib Axes, optional
            Where to draw; by default in a new figure.
        """
        from ..display.plots import plot_fit

        return plot_fit(self.history, self.reason, axes)

    def _repr_html_(self) -> str:
        """Show the fit in a notebook."""
        from ..display.html import html_of_fit

        return html_of_fit(self)  # type: ignore[arg-type]

    def summary(self) -> Summary:
        """Summarise the fit: what was fitted, to how many rows, how it ended, and the coefficients.

        Standard errors and tests take a pass over the rows: `dask_gd.infer`. How well rows are predicted says
        `dask_gd.measure`.

        Examples
        --------
        >>> run = dask_gd.fit(np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([1.0, 2.0, 4.0, 5.0]))
        >>> print(run.summary())
        Squared() loss, no penalty
        4 rows, 2 parameters, 2 degrees of freedom
        converged after 1 step, 1 pass, loss 0.025
                     coefficient
        x0                   1.4
        (intercept)          0.9
        """
        return Summary(summary_of(self))


def summary_of(run: Any) -> str:
    """Return the summary of a fit."""
    penalty = "no penalty"
    if run.penalised:
        penalty = "a penalty"
    heading = f"{run.loss!r} loss, {penalty}"
    if run.formula is not None:
        heading += f", {run.formula.text}"
    # The rows of a pass over all of them, and the parameters of each output.
    rows = int(run.history.rows.max())
    p = len(run.weights)
    parameters = p + bool(run.fit_intercept)
    counts = f"{plural(rows, 'row')}, {plural(parameters, 'parameter')}"
    if not run.penalised:
        counts += f", {rows - parameters:,} degrees of freedom"
    if run.dropped:
        counts += f", {plural(run.dropped, 'row')} left out for missing values"
    passes = float(run.history.passes.sum())
    ending = f"{run.reason} after {plural(run.n_iter, 'step')}, {passes:.4g} {'pass' if passes == 1 else 'passes'}"
    ending += f", loss {float(run.history.loss[-1]):.6g}"
    lines = [heading, counts, ending]
    if run.formula is not None and run.formula.target_levels is not None and run.weights.ndim == 1:
        lines.append(f"1 is {run.formula.target_levels[1]!r}, 0 is {run.formula.target_levels[0]!r}")
    return "\n".join(lines + _coefficients(run, p))


def _coefficients(run: Any, p: int) -> list[str]:
    """Return the table of coefficients, a line for each, the first of very many."""
    shown = min(p, COEFFICIENTS)
    weights = np.asarray(run.weights[:shown]).reshape(shown, -1)
    names = [default_name(i) for i in range(shown)]
    if "feature" in run.weights.coords:
        names = [str(name) for name in run.weights.coords["feature"].values[:shown]]
    values = [list(row) for row in weights]
    if run.fit_intercept:
        names.append("(intercept)")
        values.append(list(np.ravel(run.intercept.values)))
    heads = ["coefficient"]
    if run.weights.ndim == 2:
        heads = [str(name) for name in _outputs(run)]
    cells = [heads, *([f"{value:.6g}" for value in row] for row in values)]
    widths = [max(len(row[j]) for row in cells) for j in range(len(heads))]
    longest = max(map(len, names))
    lines = []
    for name, row in zip(["", *names], cells, strict=True):
        numbers = "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        lines.append(f"{name:{longest}}  {numbers}")
    if p > shown:
        lines.insert(shown + 1, f"... and {p - shown:,} more")
    return lines


def _outputs(run: Any) -> list[Any]:
    """Return the names of the outputs, or their numbers."""
    if "output" in run.weights.coords:
        return run.weights.coords["output"].values.tolist()
    return list(range(run.weights.shape[1]))
