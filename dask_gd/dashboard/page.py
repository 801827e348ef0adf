"""The page `/gd`, drawn by Bokeh in the scheduler's own server, in the look of Dask's other pages."""

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

from .watched import Board, Watched, now

logger = logging.getLogger("dask_gd")

#: Points of a curve that are drawn, and milliseconds between looks at the board.
DRAWN, INTERVAL = 400, 500

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
    """Give the scheduler's dashboard the page and an entry in its navigation; nothing if it has none."""
    from distributed.dashboard.core import BokehApplication
    from distributed.dashboard.scheduler import template_variables

    application = scheduler.http_application
    running = [app for app in application.applications if hasattr(app, "prefix")]
    if not running:
        logger.info("The scheduler has no dashboard to which the page /gd could be added.")
        return
    variables = template_variables(scheduler)
    if "gd" not in variables["pages"]:
        variables["pages"].append("gd")

    def page(scheduler: Scheduler, extra: dict[str, Any], doc: Any) -> None:
        draw(board, extra, doc)

    own = BokehApplication({"/gd": page}, scheduler, prefix=running[0].prefix, template_variables=variables)
    application.add_application(own)
    own.initialize(IOLoop.current())
    own.start()


def draw(board: Board, extra: dict[str, Any], doc: Any) -> None:
    """One browser's view of the board, kept up to date."""
    from distributed.dashboard.components import add_periodic_callback
    from distributed.dashboard.components.scheduler import BOKEH_THEME, env

    view = View(board)
    doc.title = "Dask: gradient descent"
    doc.add_root(view.root)
    doc.template = env.get_template("simple.html")
    doc.template_variables.update(extra)
    doc.theme = BOKEH_THEME
    view.update()
    add_periodic_callback(doc, view, INTERVAL)


class View:
    """A table of fits and searches, and their curves."""

    root: LayoutDOM

    def __init__(self, board: Board):
        self.board = board
        self.seen: list[tuple] = []
        self.table = Div(text="", sizing_mode="stretch_width")
        self.curves = ColumnDataSource(
            name="curves", data={name: [] for name in ("run", "color", "x", "loss", "grad_norm", "step_size")}
        )
        self.rounds = ColumnDataSource(
            name="rounds", data={name: [] for name in ("run", "color", "x", "running", "candidates")}
        )
        options: dict[str, Any] = {"height": 300, "tools": "pan,wheel_zoom,box_zoom,reset"}

        def panel(title: str, source: ColumnDataSource, y: str, x: str, scale: Any = "log", **line: Any) -> Any:
            plot = figure(title=title, x_axis_label=x, y_axis_type=scale, **options)
            plot.multi_line("x", y, source=source, color="color", line_width=2, **line)
            plot.add_tools(HoverTool(tooltips=[("", "@run"), (x, "$data_x"), (title, "$data_y")]))
            return plot

        plots = [
            [
                panel("loss", self.curves, "loss", "iteration", "linear"),
                panel("loss, log scale", self.curves, "loss", "iteration"),
            ],
            [
                panel("gradient norm", self.curves, "grad_norm", "iteration"),
                panel("step size", self.curves, "step_size", "iteration"),
            ],
            [
                panel("fits of a search still running", self.rounds, "running", "pass", "linear"),
                panel("candidates still running", self.rounds, "candidates", "pass", "linear"),
            ],
        ]
        self.search_plots = plots[2]
        grid = gridplot(plots, sizing_mode="stretch_width", merge_tools=False)
        self.root = column(self.table, grid, sizing_mode="stretch_width")

    def update(self) -> None:
        """Bring all up to date with the board."""
        watched = list(self.board.watched.values())
        colors = {w.run: Category10_10[i % 10] for i, w in enumerate(watched)}
        self.table.text = TABLE + table(self.board, watched, colors)
        seen = [(w.run, w.count) for w in watched]
        if seen == self.seen:
            return
        self.seen = seen
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


def thin(values: list[float]) -> np.ndarray:
    """As many of them as are drawn, evenly, the last among them."""
    keep = np.unique(np.linspace(0, len(values) - 1, min(len(values), DRAWN)).astype(int))
    return np.asarray(values, dtype=float)[keep]


def positive(values: np.ndarray) -> np.ndarray:
    """NaN in place of what a logarithmic axis cannot show."""
    return np.where(values > 0, values, np.nan)


def table(board: Board, watched: list[Watched], colors: dict[str, str]) -> str:
    """The fits and searches, the newest first, as HTML, with the colours of their curves."""
    if not watched:
        return "<p>No fit has begun yet.</p>"
    heads = ["run", "status", "", "step", "loss", "gradient", "rows/s", "MB/s", "reading alone, MB/s", "this pass"]
    heads += ["time left", "last commit"]
    cells = "".join(f'<th class="{"text" if head in ("run", "", "status") else ""}">{head}</th>' for head in heads)
    rows = "".join(row(board, w, colors[w.run]) for w in reversed(watched))
    return f'<table class="gd"><tr>{cells}</tr>{rows}</table>'


def row(board: Board, w: Watched, color: str) -> str:
    """One of them: what it is, where it has come to, and how fast, against reading alone."""
    time = now()
    done = None
    if w.running:
        done = board.pass_done(w.run)
    floor = board.reading_speed(w.run)
    said = ", ".join(str(w.started[name]) for name in ("loss", "penalty", "solver", "data") if name in w.started)
    seconds = w.last("seconds")
    left = None
    if not w.is_search:
        left = w.seconds_left(time)
    if w.is_search:
        size = f"{w.started['candidates']} candidates"
        fits = w.started["fits"]
        if w.count:
            left_over = f"{w.last('running'):.0f} of {fits} fits run"
        else:
            left_over = f"{fits} fits"
        numbers = [f"pass {w.last('passes'):.0f}" if w.count else "", size, left_over, "", ""]
    else:
        numbers = [
            f"{w.last('iteration'):.0f} of {w.started['max_iter']}" if w.count else "",
            number(w.last("loss"), ".8g"),
            number(w.last("grad_norm"), ".1e"),
            number(w.last("rows") / seconds if seconds else math.nan, ".3g"),
            number(w.last("bytes_read") / 1e6 / seconds if seconds else math.nan, ",.0f"),
        ]
    bar = ""
    if done is not None:
        bar = f'<progress value="{done[1]:.3f}" max="1"></progress> {done[1]:.0%}'
    commit = ""
    if w.committed is not None:
        commit = ago(time - w.committed)
    texts = [
        f'<td class="text"><span style="color: {color}">&#9632;</span> <b>{escape(w.run)}</b></td>',
        f'<td class="text">{escape(w.status)}</td>',
        f'<td class="data" title="{escape(said)}">{escape(said)}</td>',
    ]
    cells = [*numbers, number(math.nan if floor is None else floor / 1e6, ",.0f"), bar]
    cells += ["" if left is None else duration(left), commit]
    texts += [f"<td>{cell}</td>" for cell in cells]
    return f"<tr>{''.join(texts)}</tr>"


def number(value: float, form: str) -> str:
    if math.isnan(value):
        return ""
    return format(value, form)


def duration(seconds: float) -> str:
    """For people: ``8 s``, ``3 min``, ``2.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def ago(seconds: float) -> str:
    return f"{duration(max(0.0, seconds))} ago"
