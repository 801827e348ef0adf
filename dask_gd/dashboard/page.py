"""Draw the page `/gd` with Bokeh, in the scheduler's own server, in the look of Dask's other pages."""

from __future__ import annotations

import logging
import math
from html import escape
from typing import Any

import numpy as np
from bokeh.layouts import column, gridplot
from bokeh.models import ColumnDataSource, HoverTool, LayoutDOM
from bokeh.models.widgets import Div
from bokeh.palettes import Category10_10
from bokeh.plotting import figure
from distributed import Scheduler
from tornado.ioloop import IOLoop

from ..events import FitStarted, SearchStarted
from .watched import Board, Watched, now

logger = logging.getLogger("dask_gd")

#: Points of a curve that are drawn.
DRAWN = 400
#: Milliseconds between looks at the board.
INTERVAL = 500

TABLE = """
<style>
  table.gd {border-collapse: collapse; font-size: 13px}
  table.gd th, table.gd td {padding: 3px 10px; text-align: right; white-space: nowrap}
  table.gd th {border-bottom: 1px solid #999; font-weight: 600}
  table.gd td.text, table.gd th.text {text-align: left}
  table.gd td.data {max-width: 240px; overflow: hidden; text-overflow: ellipsis; text-align: left}
</style>
"""


def add_page(board: Board, scheduler: Scheduler) -> None:
    """Give the scheduler's dashboard the page and an entry in its navigation; do nothing without a dashboard."""
    from distributed.dashboard.core import BokehApplication
    from distributed.dashboard.scheduler import template_variables

    # A scheduler without a dashboard has no application with a prefix.
    application = scheduler.http_application
    running = [app for app in application.applications if hasattr(app, "prefix")]
    if not running:
        logger.info("The scheduler has no dashboard to which the page /gd could be added.")
        return
    # The navigation of all pages.
    variables = template_variables(scheduler)
    if "gd" not in variables["pages"]:
        variables["pages"].append("gd")

    def page(scheduler: Scheduler, extra: dict[str, Any], doc: Any) -> None:
        draw(board, extra, doc)

    # The page itself, in an application beside Dask's.
    bokeh_application = BokehApplication(
        {"/gd": page}, scheduler, prefix=running[0].prefix, template_variables=variables
    )
    application.add_application(bokeh_application)
    bokeh_application.initialize(IOLoop.current())
    bokeh_application.start()


def draw(board: Board, extra: dict[str, Any], doc: Any) -> None:
    """Draw the board in a browser's document, and keep it up to date."""
    from distributed.dashboard.components import add_periodic_callback
    from distributed.dashboard.components.scheduler import BOKEH_THEME, env

    # The document has the look of Dask's pages.
    view = View(board)
    doc.title = "Dask: gradient descent"
    doc.add_root(view.root)
    doc.template = env.get_template("simple.html")
    doc.template_variables.update(extra)
    doc.theme = BOKEH_THEME
    # It is drawn now, and then again and again.
    view.update()
    add_periodic_callback(doc, view, INTERVAL)


class View:
    """A table of fits and searches, and their curves."""

    root: LayoutDOM

    def __init__(self, board: Board):
        self.board = board
        # What the curves were drawn from: the runs, and the number of points of each.
        self.drawn: list[tuple] = []
        self.table = Div(text="", sizing_mode="stretch_width")
        # Values by run: the iterations of fits, and the rounds of searches.
        self.curves = ColumnDataSource(
            name="curves", data={name: [] for name in ("run", "color", "x", "loss", "grad_norm", "step_size")}
        )
        self.rounds = ColumnDataSource(
            name="rounds", data={name: [] for name in ("run", "color", "x", "running", "candidates")}
        )
        # Two columns of plots below the table.
        search_plots = [
            _plot("fits of a search still running", self.rounds, y="running", x="pass", scale="linear"),
            _plot("candidates still running", self.rounds, y="candidates", x="pass", scale="linear"),
        ]
        plots = [
            [
                _plot("loss", self.curves, y="loss", x="iteration", scale="linear"),
                _plot("loss, log scale", self.curves, y="loss", x="iteration", scale="log"),
            ],
            [
                _plot("gradient norm", self.curves, y="grad_norm", x="iteration", scale="log"),
                _plot("step size", self.curves, y="step_size", x="iteration", scale="log"),
            ],
            search_plots,
        ]
        self.search_plots = search_plots
        grid = gridplot(plots, sizing_mode="stretch_width", merge_tools=False)
        self.root = column(self.table, grid, sizing_mode="stretch_width")

    def update(self) -> None:
        """Bring the table and the curves up to date with the board."""
        # The table has times, which change by themselves.
        watched = list(self.board.watched.values())
        colors = {w.run: Category10_10[i % 10] for i, w in enumerate(watched)}
        self.table.text = TABLE + table(self.board, watched, colors)
        # The curves change only with new points.
        state = [(w.run, w.count) for w in watched]
        if state == self.drawn:
            return
        self.drawn = state
        fits = [w for w in watched if not w.is_search and w.count]
        self.curves.data = {
            "run": [w.run for w in fits],
            "color": [colors[w.run] for w in fits],
            "x": [thin(w.curves["iteration"]) for w in fits],
            "loss": [thin(w.curves["loss"]) for w in fits],
            "grad_norm": [positive(thin(w.curves["grad_norm"])) for w in fits],
            "step_size": [positive(thin(w.curves["step_size"])) for w in fits],
        }
        searches = [w for w in watched if w.is_search and w.count]
        self.rounds.data = {
            "run": [w.run for w in searches],
            "color": [colors[w.run] for w in searches],
            "x": [thin(w.curves["passes"]) for w in searches],
            "running": [thin(w.curves["running"]) for w in searches],
            "candidates": [thin(w.curves["candidates"]) for w in searches],
        }
        for plot in self.search_plots:
            plot.visible = bool(searches)


def _plot(title: str, source: ColumnDataSource, *, y: str, x: str, scale: Any) -> Any:
    """Return a plot with a line for each run: the column y of the source against its x, which is named ``x``."""
    plot = figure(title=title, x_axis_label=x, y_axis_type=scale, height=300, tools="pan,wheel_zoom,box_zoom,reset")
    plot.multi_line("x", y, source=source, color="color", line_width=2)
    plot.add_tools(HoverTool(tooltips=[("", "@run"), (x, "$data_x"), (title, "$data_y")]))
    return plot


def thin(values: list[float]) -> np.ndarray:
    """Return as many of the values as are drawn, evenly spaced, with the last."""
    count = min(len(values), DRAWN)
    indices = np.unique(np.linspace(0, len(values) - 1, count).astype(int))
    return np.asarray(values, dtype=float)[indices]


def positive(values: np.ndarray) -> np.ndarray:
    """Put NaN in place of values that a logarithmic axis cannot show."""
    return np.where(values > 0, values, np.nan)


def table(board: Board, watched: list[Watched], colors: dict[str, str]) -> str:
    """Tabulate the fits and searches as HTML, the newest first, with the colours of their curves."""
    if not watched:
        return "<p>No fit has begun yet.</p>"
    heads = ["run", "status", "", "step", "loss", "gradient", "rows/s", "MB/s", "reading alone, MB/s", "this pass"]
    heads += ["time left", "last commit"]
    cells = []
    for head in heads:
        style = "text" if head in ("run", "", "status") else ""
        cells.append(f'<th class="{style}">{head}</th>')
    rows = "".join(row(board, w, colors[w.run]) for w in reversed(watched))
    return f'<table class="gd"><tr>{"".join(cells)}</tr>{rows}</table>'


def row(board: Board, watched: Watched, color: str) -> str:
    """Return the row of a fit or a search: what it is, how far it has come, and how fast, against reading alone."""
    # What it is.
    run = escape(watched.run)
    # A search has no penalty and no solver of its own.
    names = ("loss", "penalty", "solver", "data")
    fields = [str(getattr(watched.beginning, name)) for name in names if hasattr(watched.beginning, name)]
    description = escape(", ".join(fields))
    cells = [
        f'<td class="text"><span style="color: {color}">&#9632;</span> <b>{run}</b></td>',
        f'<td class="text">{escape(watched.status)}</td>',
        f'<td class="data" title="{description}">{description}</td>',
    ]
    # How far it has come, and how fast its pass is.
    time = now()
    done = None
    if watched.running:
        done = board.pass_done(watched.run)
    floor = board.reading_speed(watched.run)
    if isinstance(watched.beginning, SearchStarted):
        texts = _progress_of_search(watched, watched.beginning)
    else:
        texts = _progress_of_fit(watched, watched.beginning)
    if floor is None:
        texts.append("")
    else:
        texts.append(number(floor / 1e6, ",.0f"))
    bar = ""
    if done is not None:
        _, share = done
        bar = f'<progress value="{share:.3f}" max="1"></progress> {share:.0%}'
    texts.append(bar)
    # How long it still takes, and what is safe.
    seconds_left = watched.seconds_left(time)
    if seconds_left is None:
        texts.append("")
    else:
        texts.append(duration(seconds_left))
    commit = ""
    if watched.committed is not None:
        commit = ago(time - watched.committed)
    texts.append(commit)
    cells += [f"<td>{text}</td>" for text in texts]
    return f"<tr>{''.join(cells)}</tr>"


def _progress_of_search(watched: Watched, search: SearchStarted) -> list[str]:
    """Return the cells of a search below "step", "loss", "gradient", "rows/s" and "MB/s"."""
    candidates = f"{search.candidates} candidates"
    if not watched.count:
        return ["", candidates, f"{search.fits} fits", "", ""]
    return [
        f"pass {watched.last('passes'):.0f}",
        candidates,
        f"{watched.last('running'):.0f} of {search.fits} fits run",
        "",
        "",
    ]


def _progress_of_fit(watched: Watched, fit: FitStarted) -> list[str]:
    """Return the cells of a fit below "step", "loss", "gradient", "rows/s" and "MB/s"."""
    step = ""
    if watched.count:
        step = f"{watched.last('iteration'):.0f} of {fit.max_iter}"
    # An iteration without a pass may take no time.
    rows_per_second = math.nan
    megabytes_per_second = math.nan
    seconds = watched.last("seconds")
    if seconds:
        rows_per_second = watched.last("rows") / seconds
        megabytes_per_second = watched.last("bytes_read") / 1e6 / seconds
    return [
        step,
        number(watched.last("loss"), ".8g"),
        number(watched.last("grad_norm"), ".1e"),
        number(rows_per_second, ".3g"),
        number(megabytes_per_second, ",.0f"),
    ]


def number(value: float, spec: str) -> str:
    """Format a number, or nothing for NaN."""
    if math.isnan(value):
        return ""
    return format(value, spec)


def duration(seconds: float) -> str:
    """Format a number of seconds for people: ``8 s``, ``3 min``, ``2.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def ago(seconds: float) -> str:
    """Say how many seconds ago an event was, for people."""
    return f"{duration(max(0.0, seconds))} ago"
