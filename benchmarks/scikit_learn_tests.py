"""Runs scikit-learn's own tests of its linear models against the estimators of dask_gd, and says what does not pass.

    python benchmarks/scikit_learn_tests.py [--only test_ridge] [--seconds 20] [--output outcomes.json]

The tests are those that the installed scikit-learn ships, as they stand: while they run, the names of scikit-learn's
linear models lead to ours, and nothing else is changed. Tests that never make an estimator of ours are left out: they
test scikit-learn. Every other test is in the table: passed, skipped (by itself), or not passed, with the reason, which
the rules in `scikit_learn_reasons` give.

The file is two things: the script, and a plugin of pytest that the script gives to each of its runs of pytest.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import pytest
from scikit_learn_reasons import reason_of

#: The test modules, below the package ``sklearn``.
MODULES = (
    "linear_model/tests/test_base.py",
    "linear_model/tests/test_huber.py",
    "linear_model/tests/test_quantile.py",
    "linear_model/_glm/tests/test_glm.py",
    "linear_model/tests/test_logistic.py",
    "linear_model/tests/test_coordinate_descent.py",
    "linear_model/tests/test_sparse_coordinate_descent.py",
    "linear_model/tests/test_ridge.py",
    "linear_model/tests/test_sgd.py",
    "svm/tests/test_svm.py",
    "svm/tests/test_sparse.py",
    "svm/tests/test_bounds.py",
)

#: The environment's variable with the path to which the plugin appends an outcome a line.
OUTCOMES = "SCIKIT_LEARN_TESTS_OUTCOMES"

#: How often pytest is started for a module at most.
ATTEMPTS = 5

#: The names of our estimators that the present test has made or was given.
made: set[str] = set()


# The plugin


def replaced() -> dict[str, type]:
    """Return our estimators by the names that they share with scikit-learn."""
    from dask_gd import estimators

    return {name: getattr(estimators, name) for name in estimators.__all__}


def pytest_configure(config: pytest.Config) -> None:
    """Let scikit-learn's names lead to our estimators, and note which of these are made."""
    if OUTCOMES not in os.environ:
        return
    # What scikit-learn itself uses is imported before, so that it stays scikit-learn's.
    for module in ("calibration", "ensemble", "feature_selection", "model_selection", "multiclass", "multioutput"):
        importlib.import_module(f"sklearn.{module}")
    from dask_gd.estimators.base import Estimator

    for name, ours in replaced().items():
        for module in ("sklearn.linear_model", "sklearn.svm"):
            namespace = importlib.import_module(module)
            if hasattr(namespace, name):
                setattr(namespace, name, ours)

    def noted(cls: type, *_: object, **__: object) -> object:
        """Make an estimator and note its name."""
        made.add(cls.__name__)
        return object.__new__(cls)

    Estimator.__new__ = noted  # type: ignore[method-assign, assignment]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out the tests that a run before this began."""
    begun = {outcome["test"] for outcome in written()}
    items[:] = [item for item in items if name_of(item) not in begun]


def name_of(item: pytest.Item) -> str:
    """Return the name of a test, with that of its module."""
    return f"{item.path.stem}::{item.name}"


def written() -> list[dict]:
    """Return the outcomes that are written, and the tests that have begun."""
    with open(os.environ[OUTCOMES]) as file:
        return [json.loads(line) for line in file]


def write(**outcome: object) -> None:
    """Append an outcome."""
    with open(os.environ[OUTCOMES], "a") as file:
        file.write(json.dumps(outcome) + "\n")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item):
    """Note which of our estimators a test has in its parameters, or makes."""
    from dask_gd.estimators.base import Estimator

    made.clear()
    callspec = getattr(item, "callspec", None)
    if callspec is not None:
        for value in callspec.params.values():
            kind = value if isinstance(value, type) else type(value)
            if issubclass(kind, Estimator):
                made.add(kind.__name__)
    write(test=name_of(item), outcome="begun", estimators=[], error="", seconds=0.0)
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo):
    """Append the outcome of a test."""
    report = yield
    is_end = report.when == "call" or report.outcome != "passed"
    if is_end and OUTCOMES in os.environ:
        error = ""
        if call.excinfo is not None:
            error = f"{call.excinfo.typename}: {call.excinfo.value}"
        write(
            test=name_of(item),
            outcome=report.outcome,
            estimators=sorted(made),
            error=error[:2000],
            seconds=round(call.duration, 2),
        )
    return report


# The script


def run_module(module: Path, seconds: int, selection: str) -> list[dict]:
    """Run a test module in a process of its own and return the outcomes of the tests that make our estimators."""
    with tempfile.TemporaryDirectory() as temporary:
        outcomes = Path(temporary) / "outcomes"
        outcomes.touch()
        environment = {
            **os.environ,
            OUTCOMES: str(outcomes),
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]),
        }
        command = [sys.executable, "-m", "pytest", "-q", "--no-header", "--tb=no", "-p", "no:cacheprovider"]
        command += ["-p", Path(__file__).stem, "-c", os.devnull, f"--rootdir={temporary}"]
        command += [f"--timeout={seconds}", "--timeout-method=signal", "-W", "ignore::pytest.PytestWarning"]
        if selection:
            command += ["-k", selection]
        # A time limit may end all of pytest, in code that has no lines: the rest is run then.
        for _ in range(ATTEMPTS):
            done = subprocess.run(
                [*command, str(module)],
                cwd=temporary,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            # 0 and 1 are tests that have run, 5 that there are none.
            if done.returncode in (0, 1, 5):
                break
            print(done.stdout[-1000:], done.stderr[-1000:], file=sys.stderr)
        lines = [json.loads(line) for line in outcomes.read_text().splitlines()]

    # A test that has begun and has no end took too long.
    last = {line["test"]: line for line in lines}
    for line in last.values():
        if line["outcome"] == "begun":
            line.update(outcome="failed", estimators=["?"], error="Failed: Timeout, which has ended pytest too")
    return [outcome for outcome in last.values() if outcome["estimators"]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="the modules whose names have this in them")
    parser.add_argument("-k", default="", help="the tests that pytest selects by this")
    parser.add_argument("--seconds", type=int, default=20, help="the time that a test may take")
    parser.add_argument("--output", type=Path, help="write the outcomes here as JSON")
    options = parser.parse_args()

    import sklearn

    root = Path(sklearn.__file__).parent
    every = {}
    for module in MODULES:
        if options.only in module:
            every[module] = run_module(root / module, options.seconds, options.k)
            print(f"{module}: {Counter(outcome['outcome'] for outcome in every[module])}", file=sys.stderr, flush=True)
            if options.output is not None:
                options.output.write_text(json.dumps(every, indent=1))

    print(f"scikit-learn {version('scikit-learn')}, dask_gd {version('dask_gd')}\n")
    print(table(every))
    return 0


def table(every: dict[str, list[dict]]) -> str:
    """Return the outcomes as Markdown: a row for each module, and a row for each reason."""
    lines = ["| tests of scikit-learn | make ours | pass | skipped | do not pass |", "|---|---|---|---|---|"]
    total: Counter = Counter()
    reasons: Counter = Counter()
    for module, outcomes in every.items():
        counts = Counter(outcome["outcome"] for outcome in outcomes)
        counts["all"] = len(outcomes)
        total.update(counts)
        lines.append(row(f"`{Path(module).stem}`", counts))
        reasons.update(reason_of(outcome) for outcome in outcomes if outcome["outcome"] == "failed")
    lines.append(row("all", total))
    lines += ["", "| reason of those that do not pass | tests |", "|---|---|"]
    lines += [f"| {reason} | {count} |" for reason, count in reasons.most_common()]
    return "\n".join(lines)


def row(name: str, counts: Counter) -> str:
    """Return a row of the table."""
    return f"| {name} | {counts['all']} | {counts['passed']} | {counts['skipped']} | {counts['failed']} |"


if __name__ == "__main__":
    sys.exit(main())
