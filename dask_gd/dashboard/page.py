"""Draw the page `/gd` with Bokeh, in the scheduler's own server, in the look of Dask's other pages."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import numpy as np
from bokeh.layouts import column, row
from bokeh.models import ColumnDataSource, HoverTool, LayoutDOM
from bokeh.models.widgets import Div
from bokeh.palettes import Category10_10
from bokeh.plotting import figure
from distributed import Scheduler
from tornado.ioloop import IOLoop

from ..display.texts import is_sampled
from .table import STYLE, caption, table
from .watched import Board, Watched

logger = logging.getLogger("dask_gd")

#: Points of a curve that are drawn.
DRAWN = 400
#: Numbers of a fit that are drawn against its iteration.
HEIGHTS = ("loss", "grad_norm", "step_size")
#: The columns of the curves of fits and of searches.
OF_FITS = ("run", "color", "x", *HEIGHTS)
OF_SEARCHES = ("run", "color", "x", "running", "candidates")
#: Milliseconds between looks at the board.
INTERVAL = 500


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
    """Draw the board in a browser's document, and keep it up to date. A link of the page chooses a run."""
    from distributed.dashboard.components import add_periodic_callback
    from distributed.dashboard.components.scheduler import BOKEH_THEME, env

    # The run that the page's address asks for.
    asked = None
    if doc.session_context is not None:
        asked = doc.session_context.request.arguments.get("run", [b""])[0].decode()
    # The document has the look of Dask's pages.
    view = View(board, asked)
    doc.title = "Dask: gradient descent"
    doc.add_root(view.root)
    doc.template = env.get_template("simple.html")
    doc.template_variables.update(extra)
    doc.theme = BOKEH_THEME
    # It is drawn now, and then again and again.
    view.update()
    add_periodic_callback(doc, view, INTERVAL)


class View:
    """A table of fits and searches, and the curves of one of them on its own scale, or of all.

    ``asked`` is the name of a run, or "all". By default it is the newest that runs, or else the newest.
    """

    root: LayoutDOM

    def __init__(self, board: Board, asked: str | None = None):
        self.board = board
        self.asked = asked
        self.last_chosen: str | None = None
        # What the curves were drawn from: the runs, and the number of points of each.
        self.drawn: list[tuple] = []
        self.table = Div(text="", sizing_mode="stretch_width")
        self.caption = Div(text="", sizing_mode="stretch_width")
        # Values by run: the iterations of fits, and the rounds of searches.
        self.curves = ColumnDataSource(name="curves", data=no_values(OF_FITS))
        self.rounds = ColumnDataSource(name="rounds", data=no_values(OF_SEARCHES))
        # Steps of all fits that have read a sample: no line leads to them.
        self.samples = ColumnDataSource(name="samples", data=no_values(OF_FITS))
        fit_plots = [
            _plot("loss", self.curves, self.samples, y="loss", x="iteration", scale="linear"),
            _plot("loss, log scale", self.curves, self.samples, y="loss", x="iteration", scale="log"),
            _plot("gradient norm", self.curves, self.samples, y="grad_norm", x="iteration", scale="log"),
            _plot("step size", self.curves, self.samples, y="step_size", x="iteration", scale="log"),
        ]
        search_plots = [
            _plot("fits of a search still running", self.rounds, y="running", x="pass", scale="linear"),
            _plot("candidates still running", self.rounds, y="candidates", x="pass", scale="linear"),
        ]
        # Side by side where there is room.
        wrapped: dict[str, Any] = {"sizing_mode": "stretch_width", "styles": {"flex-wrap": "wrap"}}
        self.fit_plots = row(fit_plots, **wrapped)
        self.search_plots = row(search_plots, **wrapped)
        parts = [self.table, self.caption, self.fit_plots, self.search_plots]
        self.root = column(parts, sizing_mode="stretch_width")

    def update(self) -> None:
        """Bring the table and the curves up to date with the board."""
        # The table has times, which change by themselves.
        watched = list(self.board.watched.values())
        colors = {}
        for number, each in enumerate(watched):
            colors[each.run] = Category10_10[number % 10]
        chosen = self.chosen(watched)
        names = [each.run for each in chosen]
        self.table.text = STYLE + table(self.board, watched, colors, names)
        self.caption.text = STYLE + caption(chosen)
        # The curves change only with new points.
        state = [(each.run, each.count) for each in chosen]
        if state == self.drawn:
            return
        self.drawn = state
        # Runs without a point have no curve.
        with_points = [each for each in chosen if each.count]
        fits = [each for each in with_points if not each.is_search]
        searches = [each for each in with_points if each.is_search]
        lines, points = curves_of(fits, colors)
        self.curves.data = lines
        self.samples.data = points
        self.rounds.data = rounds_of(searches, colors)
        self.fit_plots.visible = bool(fits) or not searches
        self.search_plots.visible = bool(searches)

    def chosen(self, watched: list[Watched]) -> list[Watched]:
        """Return the runs whose curves are drawn."""
        if self.asked == "all":
            return watched
        asked = [each for each in watched if each.run == self.asked]
        # A run that fails while it is drawn stays, with its error, until a newer one begins.
        current = []
        for each in watched:
            is_drawn_with_error = each.has_failed and each.run == self.last_chosen
            if each.running or is_drawn_with_error:
                current.append(each)
        candidates = asked or current or watched
        if not candidates:
            self.last_chosen = None
            return []
        newest = candidates[-1]
        self.last_chosen = newest.run
        return [newest]


def no_values(columns: Iterable[str]) -> dict[str, list]:
    """Return the columns of curves that have no points yet."""
    return {name: [] for name in columns}


def rounds_of(searches: list[Watched], colors: dict[str, str]) -> dict[str, list]:
    """Return the columns of the lines of searches."""
    lines = no_values(OF_SEARCHES)
    for search in searches:
        lines["run"].append(search.run)
        lines["color"].append(colors[search.run])
        lines["x"].append(thin(search.curves["passes"]))
        lines["running"].append(thin(search.curves["running"]))
        lines["candidates"].append(thin(search.curves["candidates"]))
    return lines


def curves_of(fits: list[Watched], colors: dict[str, str]) -> tuple[dict[str, list], dict[str, list]]:
    """Return the columns of the lines, with gaps at steps that have read a sample, and of these steps."""
    lines = no_values(OF_FITS)
    points = no_values(OF_FITS)
    for fit in fits:
        color = colors[fit.run]
        is_sample = is_sampled(thin(fit.curves["passes"]), thin(fit.curves["full_passes"]))
        iteration = thin(fit.curves["iteration"])
        # A line for each fit, and a point for each step.
        lines["run"].append(fit.run)
        lines["color"].append(color)
        lines["x"].append(iteration)
        samples = int(is_sample.sum())
        points["run"] += [fit.run] * samples
        points["color"] += [color] * samples
        points["x"] += iteration[is_sample].tolist()
        # A scale of logarithms has no place for what is not above 0.
        for name in HEIGHTS:
            values = thin(fit.curves[name])
            if name != "loss":
                values = np.where(values > 0, values, np.nan)
            lines[name].append(np.where(is_sample, np.nan, values))
            points[name] += values[is_sample].tolist()
    return lines, points


def _plot(
    title: str,
    lines: ColumnDataSource,
    points: ColumnDataSource | None = None,
    *,
    y: str,
    x: str,
    scale: Any,
) -> Any:
    """Return a plot with a line for each run: the column y of the source against its x, which is named ``x``.

    Circles are at the ``points``, as far as there are any.
    """
    plot = figure(
        title=title,
        name=title,
        x_axis_label=x,
        y_axis_type=scale,
        height=270,
        min_width=330,
        sizing_mode="stretch_width",
        styles={"flex": "1 1 45%"},
        tools="pan,wheel_zoom,box_zoom,reset",
        toolbar_location="above",
    )
    line = plot.multi_line("x", y, source=lines, color="color", line_width=2)
    tips = [("", "@run"), (x, "$data_x"), (title, "$data_y")]
    plot.add_tools(HoverTool(renderers=[line], tooltips=tips))
    if points is not None:
        marks = plot.scatter("x", y, source=points, line_color="color", fill_color="white", size=6)
        note = ("", "of a sample of the rows, not comparable")
        plot.add_tools(HoverTool(renderers=[marks], tooltips=[*tips, note], visible=False))
    return plot


def thin(values: list[float]) -> np.ndarray:
    """Return as many of the values as are drawn, evenly spaced, with the last."""
    count = min(len(values), DRAWN)
    indices = np.unique(np.linspace(0, len(values) - 1, count).astype(int))
    return np.asarray(values, dtype=float)[indices]
