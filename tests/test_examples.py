"""Every example does what it promises; the quickstart as a user would run it, the others where all is loaded."""

import itertools
import re
import runpy
import subprocess
import sys

import helpers
import pytest


@pytest.fixture
def run(monkeypatch, capsys):
    """Run an example as a script in this process, which has loaded what it needs, and return what it printed."""

    def main(script, *arguments):
        helpers.warm()
        monkeypatch.setattr(sys, "argv", [script, *arguments])
        runpy.run_path(script, run_name="__main__")
        return capsys.readouterr().out

    return main


def losses(printed):
    """Of the iterations on all rows."""
    lines = [line for line in printed.splitlines() if "of the rows" not in line]
    return [float(value) for value in re.findall(r"iteration +\d+  loss ([^ ]+)", "\n".join(lines))]


@pytest.mark.slow
def test_quickstart(tmp_path):
    command = [sys.executable, "-W", "error::UserWarning", "examples/quickstart.py", "--store", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    printed = done.stdout
    assert re.search(r"dashboard: http://127.0.0.1:\d+/status", printed)
    falling = losses(printed)
    assert printed.count("of the rows") >= 3
    assert len(falling) >= 2
    # The last is a forecast, and the last digits printed are rounding.
    assert all(after <= before + 1e-8 for before, after in itertools.pairwise(falling))
    assert falling[-1] < falling[0]
    scores = dict(re.findall(r"^(dask_gd|scikit-learn) +([\d.]+ +[\d.]+)$", printed, re.M))
    ours, theirs = ([float(v) for v in scores[name].split()] for name in ("dask_gd", "scikit-learn"))
    assert ours == pytest.approx(theirs, abs=2e-4)
    assert ours[1] > 0.65
    assert "240,000 rows x 484 features" in printed
    assert list(tmp_path.glob("iteration-*.zarr.zip"))


@pytest.mark.slow
def test_seed_linear_regression(run):
    printed = run("examples/seed_linear_regression.py")
    assert len(losses(printed)) == 101
    slow, fast = (float(v) for v in re.findall(r"largest error of a weight ([\d.]+)%", printed))
    assert slow > 10
    assert fast < 0.1


def test_network(run):
    printed = run("examples/network.py")
    falling = losses(printed)
    assert len(falling) == 61
    assert falling[-1] < 0.1 * falling[0]
    assert float(re.search(r"([\d.]+)% of 397 digits", printed)[1]) > 90


def test_climate(run, tmp_path):
    printed = run("examples/climate.py", "--picture", str(tmp_path / "warming.png"))
    assert float(re.search(r"root mean square error: ([\d.]+) K", printed)[1]) < 0.9
    seen, predicted = (float(v) for v in re.search(r"degrees: ([\d.]+) K in the data, ([\d.]+) K", printed).groups())
    assert predicted == pytest.approx(seen, abs=0.5)
    assert float(re.search(r"NumPy's weights, relative: (.*)", printed)[1]) < 1e-6
    assert (tmp_path / "warming.png").read_bytes()[1:4] == b"PNG"


def test_trend_map(run, tmp_path):
    printed = run("examples/trend_map.py", "--picture", str(tmp_path / "trend.png"))
    assert "1,813 ok" in printed
    assert float(re.search(r"statsmodels in three cells, relative: (.*)", printed)[1]) < 1e-9
    assert (tmp_path / "trend.png").read_bytes()[1:4] == b"PNG"


def shares(printed):
    """Return the share that each way to guess has right, by its name, in the order printed."""
    found = re.findall(r"^  (.+?) +([\d.]+)%$", printed, re.M)
    return {name: float(share) for name, share in found}


def test_images(run):
    right = shares(run("examples/images.py"))
    assert list(right) == ["softmax", "nearest mean of a digit", "always the most frequent"]
    ours, nearest, frequent = right.values()
    assert ours > nearest + 3
    assert nearest > frequent + 50


def test_recommendation(run):
    printed = run("examples/recommendation.py")
    assert "60,000 rows x 4,168 features" in printed
    assert "converged" in printed
    errors = [float(error) for error in re.findall(r"^  .+  ([\d.]{6})$", printed, re.M)]
    ours, of_lecturer, of_all = errors
    # What is left of the ratings' variance: each is better by more than the error of the estimates, about 0.006.
    assert ours < of_lecturer - 0.025
    assert of_lecturer < of_all - 0.05


def test_languages(run):
    printed = run("examples/languages.py")
    assert "5,445 x 16,384, 57 entries a row, 12 languages" in printed
    assert "sparse" in printed
    assert "converged" in printed
    ours, words, frequent = shares(printed).values()
    # The standard error of a share of 1,352 is at most 1.4 %.
    assert ours > words + 4
    assert words > frequent + 50


@pytest.mark.slow
def test_clicks(run):
    printed = run("examples/clicks.py", "--rows", "60000", "--bits", "18", "--tol", "0.01")
    assert "48,000 rows x 262,144 features" in printed
    assert "column blocks of sparse rows" in printed
    assert "converged" in printed
    # The weights are shown as chunks that nobody has asked for.
    assert "dask.array<" in printed
    scores = re.findall(r"^  (.+?) +log loss ([\d.]+)   AUC ([\d.]+)$", printed, re.M)
    assert [name for name, _, _ in scores] == ["columns and crossings", "columns alone", "the share of clicks"]
    losses_of, areas = ([float(score[i]) for score in scores] for i in (1, 2))
    # The standard error of a difference of areas under the curve is some 0.005 here.
    assert losses_of[0] < losses_of[1] < losses_of[2]
    assert areas[0] > areas[1] + 0.02 > areas[2] + 0.04
