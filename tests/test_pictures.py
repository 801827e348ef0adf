"""Pictures, notebooks' tables and reports: what they show is what was found, whatever was found, and only that."""

import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

import dask.array as da
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

import dask_gd
from dask_gd.cli.shown import weights_table
from dask_gd.display.html import WEIGHTS, sparkline
from dask_gd.display.plots import LARGEST, plot_fit
from dask_gd.errors import InvalidArgumentError, InvalidTypeError, NotFittedError
from dask_gd.reports import report

FLIGHTS = "data/flights.zarr"
VOID = {"meta", "br", "hr"}
SAMPLE = "a sample of the rows, not comparable"

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def _no_figures_stay():
    yield
    plt.close("all")


def problem(n=400, p=5, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, p))
    z = x @ np.arange(1.0, p + 1) + 0.5
    return x, z + 0.1 * rng.standard_normal(n), (z + rng.logistic(size=n) > 0).astype(float)


def log_cosh(z, y):
    return np.log(np.cosh(z - y))


def slope(z, y):
    return np.tanh(z - y)


def plane(params, x, y, weight):
    residual = x @ params["slopes"][0] + params["level"] - y
    return residual @ residual / 2, {"slopes": (residual @ x)[None], "level": residual.sum()}


def history(loss, grad_norm=None, passes=None):
    loss = np.asarray(loss, dtype=float)
    given = {
        "loss": loss,
        "grad_norm": np.abs(loss) if grad_norm is None else np.asarray(grad_norm, dtype=float),
        "passes": np.ones(len(loss)) if passes is None else np.asarray(passes, dtype=float),
    }
    given["full_passes"] = np.floor(given["passes"])
    data = xr.Dataset({name: ("iteration", values) for name, values in given.items()})
    return data.assign_coords(iteration=np.arange(len(loss)))


class Reader(HTMLParser):
    """Checks that tags are closed in order, and collects cells and references."""

    def __init__(self, text):
        super().__init__()
        self.open, self.cells, self.rows, self.references, self.tags = [], [], [], [], set()
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.references += [value for name, value in attrs if name in ("src", "href", "xlink:href", "data", "action")]
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag in ("td", "th"):
            self.cells.append("")
            self.rows[-1].append("")
        if tag == "tr":
            self.rows.append([])
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if {"td", "th"} & set(self.open):
            self.cells[-1] += data
            self.rows[-1][-1] += data


def told(text):
    """Of tables with names in the first column: the second."""
    return {row[0]: row[1] for row in Reader(text).rows if len(row) >= 2}


def assert_alone(path):
    """A document that fetches nothing and runs nothing."""
    text = path.read_text(encoding="utf-8")
    read = Reader(text)
    assert text.startswith("<!doctype html>")
    assert read.tags.isdisjoint({"script", "link", "iframe", "img", "object", "embed", "base"})
    assert all(reference.startswith("#") for reference in read.references)
    without = re.sub(r'xmlns(:\w+)?="[^"]*"', "", text)
    assert "http" not in without
    assert "@import" not in without
    assert all(place.startswith("#") for place in re.findall(r"url\(([^)]*)\)", without))
    assert "svg" in read.tags
    return text


# Pictures


def test_a_fit_is_drawn_as_its_history():
    x, _, y = problem()
    run = dask_gd.fit(x, y, loss="logistic", solver="lbfgs")
    loss, gradient = run.plot()
    np.testing.assert_array_equal(loss.lines[0].get_ydata(), run.history.loss)
    np.testing.assert_array_equal(gradient.lines[0].get_ydata(), run.history.grad_norm)
    assert (loss.get_yscale(), gradient.get_yscale()) == ("linear", "log")
    assert run.reason in loss.get_title(loc="left")


def test_iterations_on_samples_and_unseen_ones_are_told_apart():
    axes = Figure().subplots(1, 2)
    # A step over all rows may have read a sample beside them.
    given = history([4.0, 3.0, 2.0, 1.5], passes=[0.0625, 0.25, 1.125, 0.0])
    assert (plot_fit(given, "converged", axes) == axes).all()
    for ax in axes:
        markers = {line.get_label(): line.get_xdata().tolist() for line in ax.lines[1:]}
        assert markers == {"all rows": [2], SAMPLE: [0, 1], "without a pass": [3]}
        faces = {line.get_label(): line.get_markerfacecolor() for line in ax.lines[1:]}
        assert faces["all rows"] != faces[SAMPLE]
        # No line leads from a sample's loss to another.
        assert np.isnan(ax.lines[0].get_ydata()).tolist() == [True, True, False, False]
    assert len(axes[0].get_legend().get_texts()) == 3


def test_a_legend_is_only_where_there_is_something_to_tell():
    assert plot_fit(history([3.0, 2.0]), axes=Figure().subplots(1, 2))[0].get_legend() is None


@pytest.mark.parametrize(
    ("loss", "scale"),
    [([1.0, 0.5], "linear"), ([1e5, 1.0, 1e-3], "log"), ([1e5, 0.0], "linear"), ([1e5, -1.0], "linear")],
)
def test_the_loss_is_logarithmic_where_it_is_positive_and_falls_far(loss, scale):
    assert plot_fit(history(loss), axes=Figure().subplots(1, 2))[0].get_yscale() == scale


@pytest.mark.parametrize(
    "loss",
    [
        [1.0],
        [0.0],
        [np.nan],
        [np.inf, np.nan],
        [1.0, np.nan, 0.5, np.inf],
        [1.0, 1e308, -1e308],
        [1e-320, 1e300, np.inf],
        np.full(3, 2.0),
        -np.arange(5.0),
        np.geomspace(1e6, 1e-6, 10_000),
    ],
    ids=repr,
)
def test_any_history_is_drawn(loss, tmp_path):
    figure = Figure(layout="constrained")
    plot_fit(history(loss), "max_iter", figure.subplots(1, 2))
    for ending in ("png", "svg"):
        figure.savefig(tmp_path / f"fit.{ending}")
    assert (tmp_path / "fit.svg").stat().st_size < 1e6


def test_long_histories_have_few_markers_with_the_first_and_the_last():
    ax = plot_fit(history(np.arange(10_000.0)), axes=Figure().subplots(1, 2))[0]
    at = ax.lines[1].get_xdata()
    assert len(at) <= 50
    assert (at[0], at[-1]) == (0, 9_999)
    assert len(ax.lines[0].get_xdata()) == 10_000


def test_two_axes_are_needed():
    with pytest.raises(InvalidArgumentError, match=r"there are 1; give two.*subplots\(1, 2\)"):
        plot_fit(history([1.0]), axes=Figure().subplots())


def test_a_picture_is_one_figure_of_pyplot_and_none_with_axes_given():
    x, y, _ = problem()
    run = dask_gd.fit(x, y)
    run.plot(Figure().subplots(1, 2))
    assert plt.get_fignums() == []
    run.plot()
    assert len(plt.get_fignums()) == 1


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch, tmp_path):
    x, y, _ = problem()
    run = dask_gd.fit(x, y)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    for ask in (run.plot, lambda: report(run, tmp_path / "a.html")):
        with pytest.raises(ImportError, match=r'pip install "dask_gd\[examples\]"'):
            ask()
    assert "<table" in run._repr_html_()


def test_matplotlib_is_not_imported_before_it_is_asked_for():
    code = "import sys, dask_gd; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def searched(kind):
    x, y, binary = problem()
    if kind == "rates":
        options = {"learning_rates": [0.01, 0.1, 1.0], "solver": "gradient_descent"}
    elif kind == "many rates":
        options = {"learning_rates": np.geomspace(1e-3, 1e3, 12).tolist(), "solver": "gradient_descent"}
    elif kind == "lost":
        options = {"learning_rates": [1e300, 1e305], "solver": "gradient_descent"}
        return dask_gd.search(x, y, folds=3, max_iter=20, **options)
    elif kind == "rates and alphas":
        options = {"learning_rates": [0.1, 1.0], "alphas": [1e-3, 0.1], "solver": "gradient_descent"}
    elif kind == "penalties":
        options = {"penalty_grid": [dask_gd.L2(0.1), dask_gd.L1(0.01), dask_gd.L2([0.1, 0.2, 0.3, 0.4, 0.5])]}
    else:
        options = {"alphas": [1e-3, 0.1], "l1_ratios": [0.5, 1.0]}
    return dask_gd.search(x, binary, loss="logistic", folds=3, max_iter=20, **options)


KINDS = ["rates", "many rates", "rates and alphas", "lost", "alphas", "penalties"]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_any_search_is_drawn_and_told(kind, tmp_path):
    found = searched(kind)
    axes = found.plot()
    axes.figure.savefig(tmp_path / "search.png")
    # One for each rate; or for each ratio, and where the best is.
    curves = {"alphas": 3, "penalties": 2}.get(kind, found.data.sizes["candidate"])
    assert len(axes.lines) == curves
    html = found._repr_html_()
    # The table that print shows, cell by cell.
    assert [[cell.strip() for cell in row] for row in Reader(html).rows] == [
        [cell.strip() for cell in line] for line in found.lines()
    ]
    assert ("<b>*</b>" in html) == (kind != "lost")
    text = assert_alone(report(found, tmp_path / "search.html"))
    if kind != "lost":
        for name, value in found.best.items():
            assert told(text)[f"best {name}"] == (value if isinstance(value, str) else f"{value:.6g}")
        best = found.data.all_weights.isel(candidate=found.best_index)
        assert all(f"{v:.6g}" in Reader(text).cells for v in best.values)


# Notebooks


def test_the_numbers_are_those_of_the_fit():
    source = dask_gd.open(FLIGHTS, x="X", y="late")
    run = dask_gd.fit(source, loss="logistic", penalty=dask_gd.L2(1e-4))
    html = run._repr_html_()
    found = told(html)
    assert f"{run.reason} after {run.n_iter} steps" in html
    assert float(found["last loss"]) == pytest.approx(run.history.loss[-1].item(), rel=1e-9)
    assert found["last gradient"] == f"{run.history.grad_norm[-1].item():.2e} of its scale"
    full = run.history.full_passes.sum().item()
    samples = run.history.passes.sum().item() - full
    assert samples > 0
    assert found["passes"] == f"{full:.4g} passes over all rows, {samples:.3g} in samples"
    assert found["rows used"] == f"{run.history.rows.sum().item():,.0f}"
    assert float(found["seconds"].replace(",", "")) == pytest.approx(run.history.seconds.sum().item(), rel=1e-2)
    assert found["(intercept)"] == f"{run.intercept.item():.6g}"
    order = np.argsort(-np.abs(run.weights.values))
    named = [row for row in Reader(html).rows if row[0] in set(run.weights.feature.values.tolist())]
    assert [row[0] for row in named] == run.weights.feature.values[order[:WEIGHTS]].tolist()
    assert [row[1] for row in named] == [f"{v:.6g}" for v in run.weights.values[order[:WEIGHTS]]]
    assert f"{WEIGHTS} features with the largest weights, of {len(run.weights)}" in html


@given(st.lists(st.text(min_size=1, max_size=20), min_size=3, max_size=3, unique=True))
def test_names_are_escaped(names):
    names = [*names, "<script>alert('&')</script>", '"><img src=x onerror=alert(1)>']
    x, y, _ = problem(50)
    run = dask_gd.fit(xr.DataArray(x, dims=("row", "feature"), coords={"feature": names}), y)
    html = run._repr_html_()
    assert Reader(html).tags.isdisjoint({"script", "img"})
    assert "&lt;script&gt;alert(&#x27;&amp;&#x27;)&lt;/script&gt;" in html
    cells = [unescape(cell) for cell in re.findall(r"<td[^>]*>([^<]*)</td>", html)]
    assert set(names) <= set(cells)


def test_names_of_outputs_arrays_and_losses_are_escaped(tmp_path):
    x, y, _ = problem()
    targets = xr.DataArray(np.stack([y, -y], 1), dims=("row", "target"), coords={"target": ["<b>one", "two</b>"]})
    run = dask_gd.fit(x, targets, store=tmp_path / "<script>")
    for text in (run._repr_html_(), assert_alone(report(tmp_path / "<script>", tmp_path / "a.html"))):
        assert {"<b>one", "two</b>"} <= set(Reader(text).cells)
    group = zarr.open_group(tmp_path / "data.zarr", mode="w")
    group.create_array("<script>", data=x)
    group.create_array("y&amp;", data=y)
    html = dask_gd.open(tmp_path / "data.zarr", x="<script>", y="y&amp;", missing="fill")._repr_html_()
    assert {"<script>", "y&amp;"} <= set(Reader(html).cells)


def test_several_outputs_have_a_column_each_up_to_some():
    x, y, _ = problem()
    few = dask_gd.fit(x, np.stack([y, 2 * y], 1))
    rows = {row[0]: row[1:] for row in Reader(few._repr_html_()).rows}
    assert rows["feature"] == ["output 0", "output 1"]
    assert rows["x4"] == [f"{v:.6g}" for v in few.weights.values[4]]
    assert rows["(intercept)"] == [f"{v:.6g}" for v in few.intercept.values]
    many = dask_gd.fit(x, np.outer(y, np.arange(1.0, 10.0)))._repr_html_()
    assert "the first 6 of 9 outputs" in many


def test_a_models_parameters_have_their_names(tmp_path):
    x, y, _ = problem()
    model = dask_gd.Model(plane, {"slopes": np.zeros((1, 5)), "level": 0.0})
    run = dask_gd.fit(x, y, loss=model, store=tmp_path / "store")
    page = assert_alone(report(tmp_path / "store", tmp_path / "a.html"))
    for text in (run._repr_html_(), page):
        found = told(text)
        assert found["level"] == f"{float(run.params['level']):.6g}"
        assert found["slopes[0, 3]"] == f"{run.params['slopes'][0, 3]:.6g}"
        assert "(intercept)" not in found


def test_there_is_no_intercept_where_none_was_fitted():
    x, y, _ = problem()
    assert "(intercept)" not in dask_gd.fit(x, y, fit_intercept=False)._repr_html_()


def test_losses_of_samples_are_marked_as_not_comparable(tmp_path):
    x, _, y = problem(4000)
    rows = da.from_array(x, chunks=(100, -1)), da.from_array(y, chunks=100)
    run = dask_gd.fit(*rows, loss="logistic", solver="lbfgs", store=tmp_path / "store")
    samples = (run.history.full_passes == 0).values & (run.history.passes > 0).values
    assert 0 < samples.sum() < 20
    html = run._repr_html_()
    assert html.count('r="2"') == samples.sum()
    assert points(run.history.loss.values, samples) == (~samples).sum()
    assert "not comparable" in html
    text = report(tmp_path / "store", tmp_path / "a.html").read_text()
    marked = {int(row[0]): row[1].endswith("*") for row in Reader(text).rows if len(row) == 11 and row[0].isdigit()}
    assert marked == {i: samples[i] for i in marked}
    assert "*: of a sample of the rows: not comparable" in text
    # Batches of SGD are samples to the end.
    sgd = dask_gd.fit(*rows, loss="logistic", solver=dask_gd.SGD(batch=0.25), max_iter=4)
    assert told(sgd._repr_html_())["last loss"].endswith(" of 25% of the rows, not comparable")
    # Without a sample nothing is said of any.
    whole = dask_gd.fit(x, y, loss="logistic")
    assert "comparable" not in whole._repr_html_() + report(whole, tmp_path / "b.html").read_text()


@pytest.mark.parametrize("lost", [[0.5, np.nan, 3.0, -4.0, np.inf], [0.5, np.nan, np.nan, 1.0, 2.0]])
def test_weights_that_are_nan_come_first_and_are_counted(lost):
    x, y, _ = problem()
    run = dask_gd.fit(x, y)
    run = replace(run, weights=run.weights.copy(data=np.array(lost)), reason="diverged")
    count = int(np.isnan(lost).sum())
    shown = weights_table(run, 3).splitlines()
    rows = [row for row in Reader(run._repr_html_()).rows if row[0].startswith("x")]
    for first in ([line.split()[1] for line in shown[1:]], [row[1] for row in rows]):
        assert first[:count] == ["nan"] * count
        assert float(first[count]) == max(abs(value) for value in lost if not np.isnan(value))
    note = f"{count} of 5 weights {'is' if count == 1 else 'are'} NaN"
    assert shown[-1] == note
    assert note in run._repr_html_()


def test_outputs_without_targets_do_not_hide_the_largest_weights():
    x, y, _ = problem()
    run = dask_gd.fit(x, np.stack([y, np.full(len(y), np.nan)], 1), nan="drop")
    for text in (weights_table(run, 2), run._repr_html_()):
        assert "1 of 2 outputs has no weights: its targets are NaN in all rows" in text
    assert weights_table(run, 2).splitlines()[1].split()[0] == "x4"


def test_one_iteration_is_told():
    x, y, _ = problem()
    run = dask_gd.fit(x, y, max_iter=0)
    assert "max_iter after 0 steps, not converged" in run._repr_html_()
    assert points(run.history.loss.values) == 1


def points(values, samples=None):
    found = re.search(r'points="([^"]*)"', sparkline(np.asarray(values, dtype=float), samples))
    return len(found[1].split()) if found else 0


@given(st.lists(st.floats(), max_size=50))
def test_the_line_has_a_point_for_each_finite_loss(values):
    values = np.array(values, dtype=float)
    assert points(values) == (np.abs(values) <= LARGEST).sum()
    text = sparkline(values)
    assert "nan" not in re.sub("<title>.*</title>", "", text)
    Reader(text)


def test_long_lines_are_thinned():
    assert points(np.arange(10_000.0)) == 200


def test_colours_are_the_notebooks():
    x, y, _ = problem()
    for thing in (dask_gd.fit(x, y), searched("alphas"), dask_gd.open(FLIGHTS, x="X", y="late")):
        html = thing._repr_html_()
        assert "background" not in html
        assert set(re.findall(r'(?:stroke|fill|color)="([^"]*)"', html)) <= {"currentColor", "none"}


def test_a_source_tells_its_plan(tmp_path):
    x, y, _ = problem()
    dataset = xr.Dataset({"a": ("row", x[:, 0]), "b": ("row", x[:, 1]), "y": ("row", y), "s": ("row", np.abs(y))})
    options = {"features": ["a", "b"], "target": "y", "sample_dims": "row", "sample_weight": "s"}
    sources = {
        "zarr": dask_gd.open(FLIGHTS, x="X", y="late"),
        "numpy": dask_gd.sources.as_source(x, y, np.ones(len(y)), offset=y),
        "dask": dask_gd.sources.as_source(da.from_array(x, chunks=(100, 2)), y, nan="drop"),
        "dataset": dask_gd.open(dataset, **options),
    }
    expected = {
        "zarr": ["x", "y"],
        "numpy": ["x", "y", "sample_weight", "offset"],
        "dask": ["x", "y"],
        "dataset": ["x", "y", "sample_weight"],
    }
    for kind, source in sources.items():
        found, plan = told(source._repr_html_()), source.plan()
        assert found["rows x features"] == f"{source.shape[0]:,} x {source.shape[1]:,}"
        assert found["tasks in a pass"] == f"{plan.tasks:,} at most"
        assert found["partitions"].startswith(f"{plan.partitions:,} of at most {plan.rows:,} rows")
        assert found["products in"] == str(source.dtype)
        assert found["rows with NaN"] == ("left out" if kind == "dask" else "refused")
        rows = Reader(source._repr_html_()).rows
        assert [row[0] for row in rows[[row[0] for row in rows].index("column") + 1 :]] == expected[kind]
    assert told(sources["zarr"]._repr_html_())["read in a pass"] == "132.3 MB"


# Reports


def test_a_stored_run_says_how_it_was_made(tmp_path):
    x, _, y = problem()
    store = tmp_path / "runs" / "flights"
    run = dask_gd.fit(x, y, loss="logistic", penalty=dask_gd.L2(0.125), solver="lbfgs", seed=7, store=store)
    before = time.time()
    os.utime(dask_gd.Store(store).file(run.n_iter), (0, 86_400))
    out = report(store, tmp_path / "report.html")
    assert out == tmp_path / "report.html"
    text = assert_alone(out)
    found = told(text)
    assert (found["solver"], found["penalty"], found["penalty: alpha"], found["seed"]) == ("lbfgs", "l2", "0.125", "7")
    assert found["data: shape"] == str(x.shape)
    source = dask_gd.sources.as_source(x, y)
    assert {found[f"data: {role}"] for role in "xy"} == {source.fingerprint()[role] for role in "xy"}
    assert "1970-01-02 at 00:00:00 UTC" in text
    assert f"Iteration {run.n_iter} of" in text
    assert found["last loss"] == f"{run.history.loss[-1].item():.10g}"
    assert all(f"{v:.6g}" in Reader(text).cells for v in run.weights.values)
    assert os.stat(out).st_mtime >= before - 5


def test_a_live_fit_reads_as_its_store_does(tmp_path):
    x, y, _ = problem()
    run = dask_gd.fit(x, y, solver="gradient_descent", max_iter=60, tol=0.0, store=tmp_path / "store")
    texts = [report(r, tmp_path / "a.html").read_text() for r in (run, dask_gd.load(tmp_path / "store"))]
    assert texts[0] == texts[1]
    rows = Reader(texts[0]).rows
    numbers = [int(row[0]) for row in rows if len(row) == 11 and row[0] != "iteration"]
    assert numbers == list(range(run.n_iter + 1))[-20:]
    assert f"{run.n_iter + 1 - 20} before them are left out" in texts[0]


def test_an_interrupted_run_is_reported(tmp_path):
    def interrupt(event):
        if getattr(event, "iteration", 0) == 3:
            raise KeyboardInterrupt

    x, _, y = problem()
    with pytest.raises(KeyboardInterrupt):
        dask_gd.fit(x, y, loss="logistic", solver="gradient_descent", store=tmp_path / "store", callbacks=[interrupt])
    text = assert_alone(report(tmp_path / "store", tmp_path / "a.html"))
    assert "interrupted after 3 steps, not converged" in told(text)["ended"]


def test_a_run_can_be_looked_at_while_it_goes_on(tmp_path):
    texts = []
    states = []

    def look(event):
        if hasattr(event, "grad_norm"):
            texts.append(report(tmp_path / "store", tmp_path / "a.html").read_text())
            states.append(told(texts[-1]).get("state"))

    x, _, y = problem()
    run = dask_gd.fit(x, y, loss="logistic", store=tmp_path / "store", callbacks=[look])
    assert [f"Iteration {i} of" in text for i, text in enumerate(texts)] == [True] * (run.n_iter + 1)
    # It runs until its last iteration, which has the reason.
    for i, state in enumerate(states[:-1]):
        assert re.fullmatch(rf"running \(last commit \d+ s ago\), {i} steps? so far", state)
    assert states[-1] is None
    assert run.reason in told(texts[-1])["ended"]


def test_the_speed_is_that_of_passes():
    x, y, _ = problem()
    run = dask_gd.fit(x, y, solver="gradient_descent", max_iter=50, tol=0.0)
    speed = told(run._repr_html_())["speed of passes"]
    assert float(speed.partition(" ")[0].replace(",", "")) == pytest.approx(
        len(x) / run.history.seconds[0].item(), rel=1e-2
    )


def test_a_loss_of_ones_own_is_reported_without_it(tmp_path):
    x, y, _ = problem()
    run = dask_gd.fit(x, y, loss=(log_cosh, slope), store=tmp_path / "store")
    with pytest.raises(InvalidArgumentError, match="your own"):
        dask_gd.load(tmp_path / "store")
    found = told(assert_alone(report(tmp_path / "store", tmp_path / "a.html")))
    assert found["loss"] == "custom"
    assert "log_cosh" in found["loss: value"]
    assert found["x4"] == f"{run.weights.values[4]:.6g}"
    assert " at 0x" not in run._repr_html_()


def test_weights_beyond_some_hundreds_are_counted(tmp_path):
    x, y, _ = problem(500, 400)
    run = dask_gd.fit(x, y, penalty=dask_gd.L2(0.1))
    text = assert_alone(report(run, tmp_path / "a.html"))
    assert "The 300 features with the largest weights, of 400." in text
    smallest = np.argmin(np.abs(run.weights.values))
    assert str(smallest) not in told(text)


def test_a_diverged_fit_is_reported(tmp_path):
    x, y, _ = problem()
    with pytest.warns(dask_gd.errors.DivergenceWarning):
        run = dask_gd.fit(x, y, solver=dask_gd.GradientDescent(learning_rate=1e5), max_iter=300)
    assert_alone(report(run, tmp_path / "a.html"))
    assert "diverged" in run._repr_html_()


def test_places_that_cannot_be_written_are_refused(tmp_path):
    x, y, _ = problem()
    run = dask_gd.fit(x, y)
    with pytest.raises(InvalidArgumentError, match="is a directory; name a file in it"):
        report(run, tmp_path)
    with pytest.raises(InvalidArgumentError, match=r"there is no directory .*; make it first"):
        report(run, tmp_path / "none" / "a.html")
    with pytest.raises(InvalidTypeError, match="run is a Dataset; give a FitResult"):
        report(run.history, tmp_path / "a.html")
    with pytest.raises(NotFittedError, match="no finished iteration"):
        report(tmp_path / "none", tmp_path / "a.html")
    assert list(tmp_path.iterdir()) == []


def test_the_store_of_a_search_is_refused(tmp_path):
    x, _, y = problem()
    dask_gd.search(x, y, loss="logistic", alphas=[0.1, 1.0], folds=3, store=tmp_path / "store")
    with pytest.raises(InvalidArgumentError, match="holds a search"):
        report(tmp_path / "store", tmp_path / "a.html")


def test_a_report_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    x, y, _ = problem()
    out = report(dask_gd.fit(x, y, max_iter=0), tmp_path / "a.html")
    first = out.read_text()

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        with pytest.raises(InvalidArgumentError, match=r"No space left on device\. Choose a writable place"):
            report(dask_gd.fit(x, y), out)
    assert out.read_text() == first
    assert list(tmp_path.iterdir()) == [out]
    assert report(dask_gd.fit(x, y), out).read_text() != first


def test_pyplot_keeps_no_figure_of_a_report(tmp_path):
    x, y, _ = problem()
    report(dask_gd.fit(x, y), tmp_path / "a.html")
    assert plt.get_fignums() == []
