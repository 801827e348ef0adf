"""A function of the user's own is known by all of its content, in any process; see `dask_gd.model.identity`."""

import functools
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import dask_gd
from dask_gd.errors import StoreMismatchError
from dask_gd.model import identity
from dask_gd.model.identity import described

# A loss and its slope, with a hole in which something differs.
SCRIPT = """
import functools, sys
import numpy as np
import dask_gd
{before}
{loss}
x = np.random.default_rng(0).normal(size=(60, 2))
run = dask_gd.fit(x, x @ [1.0, 2.0], loss=loss, store=sys.argv[1], max_iter=int(sys.argv[2]), solver="lbfgs")
print(run.n_iter)
"""

PAIR = "loss = (lambda z, y: np.cosh(z - y) - 1, lambda z, y: np.sinh(z - y))"

#: What makes a loss, with {} for what differs: two values of it.
DIFFERENCES = {
    "a constant": ("", "loss = (lambda z, y: {} * (z - y) ** 2, lambda z, y: 2 * (z - y))", "1.0", "1.5"),
    "an inner function": (
        "def value(z, y):\n    def inner(a):\n        return {} * a ** 2\n    return inner(z - y)",
        "loss = (value, lambda z, y: 2 * (z - y))",
        "1.0",
        "1.5",
    ),
    "an inner function's inner function": (
        "def value(z, y):\n    return (lambda a: (lambda b: b ** {})(a))(z - y)",
        "loss = (value, lambda z, y: 2 * (z - y))",
        "2",
        "4",
    ),
    "a global": ("BY = {}", "loss = (lambda z, y: BY * (z - y) ** 2, lambda z, y: 2 * (z - y))", "1.0", "1.5"),
    "a global that an inner function reads": (
        "BY = {}\ndef value(z, y):\n    return [BY * r ** 2 for r in [z - y]][0]",
        "loss = (value, lambda z, y: 2 * (z - y))",
        "1.0",
        "1.5",
    ),
    "a function that is a global": (
        "def helper(a):\n    return {} * a ** 2",
        "loss = (lambda z, y: helper(z - y), lambda z, y: 2 * (z - y))",
        "1.0",
        "1.5",
    ),
    "a function of a user's module": (
        "import types\nmine = types.ModuleType('mine')\nexec('def helper(a): return {} * a ** 2', mine.__dict__)",
        "loss = (lambda z, y: mine.helper(z - y), lambda z, y: 2 * (z - y))",
        "1.0",
        "1.5",
    ),
    "a default": ("", "loss = (lambda z, y, by={}: by * (z - y) ** 2, lambda z, y: 2 * (z - y))", "1.0", "1.5"),
    "a keyword's default": (
        "def value(z, y, *, by={}):\n    return by * (z - y) ** 2",
        "loss = (value, lambda z, y: 2 * (z - y))",
        "1.0",
        "1.5",
    ),
    "the middle of a long array in a closure": (
        "def make():\n    a = np.zeros(100_000)\n    a[50_000] = {}\n"
        "    return lambda z, y: (1 + a.sum()) * (z - y) ** 2",
        "loss = (make(), lambda z, y: 2 * (z - y))",
        "0.0",
        "1e-9",
    ),
    "the dtype of an array": (
        "A = np.ones(3, '{}')",
        "loss = (lambda z, y: A.sum() * (z - y) ** 2, lambda z, y: 2 * (z - y))",
        "f4",
        "i4",
    ),
    "a partial's argument": (
        "def value(by, z, y):\n    return by['by'] * (z - y) ** 2",
        "loss = (functools.partial(value, dict(by={})), lambda z, y: 2 * (z - y))",
        "1.0",
        "1.5",
    ),
    "the state of a bound method's object": (
        "class Own:\n    def __init__(self, by):\n        self.by = [by]\n"
        "    def value(self, z, y):\n        return self.by[0] * (z - y) ** 2",
        "loss = (Own({}).value, lambda z, y: 2 * (z - y))",
        "1.0",
        "1.5",
    ),
    "a method that a method calls": (
        "class Own:\n    def inner(self, a):\n        return {} * a ** 2\n"
        "    def __call__(self, z, y):\n        return self.inner(z - y)",
        "loss = (Own(), lambda z, y: 2 * (z - y))",
        "1.0",
        "1.5",
    ),
    "a set": (
        "NAMES = {{'a', 'b', '{}'}}",
        "loss = (lambda z, y: len(NAMES) * (z - y) ** 2, lambda z, y: 2 * (z - y))",
        "c",
        "d",
    ),
    "a model's inner function": (
        "def function(params, x, y, weight):\n    def square(a):\n        return {} * a @ a / 2\n"
        "    r = x @ params - y\n    return square(r), x.T @ r",
        "loss = dask_gd.Model(function, np.zeros(2))",
        "1.0",
        "1.5",
    ),
    "a loss's method": (
        "class Own(dask_gd.losses.Huber):\n    def value_and_slope(self, z, y):\n"
        "        return {} * (z - y) ** 2 / 2, z - y",
        "loss = Own()",
        "1.0",
        "1.5",
    ),
}


def run(path, script, steps, seed):
    """Run a script in a process of its own, with another order of sets each time."""
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parent.parent)}
    command = [sys.executable, "-W", "ignore", "-c", script, str(path), str(steps)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)


def identities(before, loss, values):
    """The identity of a loss with each of the values."""
    found = []
    for value in values:
        scope = {"np": np, "dask_gd": dask_gd, "functools": functools, "__name__": "__main__"}
        exec(before.format(value) + "\n" + loss.format(value), scope)
        found.append(dask_gd.losses.parameters_of(dask_gd.losses.as_loss(scope["loss"])))
    return found


@pytest.mark.parametrize("name", DIFFERENCES)
def test_functions_that_differ_are_told_apart_and_equal_ones_are_not(name):
    """FOUND 30, FAULTS 35."""
    before, loss, one, other = DIFFERENCES[name]
    first, second, third = identities(before, loss, (one, other, one))
    assert first != second
    assert first == third


def test_a_script_that_runs_again_goes_on_and_one_that_was_changed_is_refused(tmp_path):
    """FOUND 30, FAULTS 35: in a new process, with other hashes of strings, and on other lines."""
    before = "NAMES = {'a', 'b', 'c', 'd'}\ndef inner(a):\n    return a * 1.0 if len(NAMES) else {'x', 'y', 'z'}\n"
    loss = "loss = (lambda z, y: np.cosh(inner(z - y)) - 1, functools.partial(lambda z, y: np.sinh(z - y)))"
    done = run(tmp_path, SCRIPT.format(before=before, loss=loss), 2, "1")
    assert done.stdout == "2\n", done.stderr
    done = run(tmp_path, SCRIPT.format(before="# A comment.\n\n" + before, loss=loss), 3, "2")
    assert done.stdout == "3\n", done.stderr
    done = run(tmp_path, SCRIPT.format(before=before.replace("1.0", "2.0"), loss=loss), 4, "3")
    assert "StoreMismatchError" in done.stderr
    assert "loss.value" in done.stderr


def test_what_a_function_itself_assigns_is_no_part_of_it():
    """A counter does not make another function of it."""
    calls = 0

    def counted(z, y):
        nonlocal calls
        calls += 1
        return z - y

    before = described(counted)
    counted(1.0, 2.0)
    assert calls == 1
    assert described(counted) == before


def test_objects_that_refer_to_themselves_and_cannot_be_copied_are_described():
    class Own:
        def __init__(self, by):
            self.own, self.by, self.connection = self, by, sys.stdout

        def __call__(self, z, y):
            return self.by * (z - y)

    assert described(Own(1.0)) == described(Own(1.0)) != described(Own(2.0))
    nested = []
    for _ in range(100_000):
        nested = [nested]
    assert described(nested) == "builtins.list"


def test_compiled_and_installed_functions_are_known_by_what_they_are():
    def helper(a, by=1.0):
        return by * a

    assert described(np.tanh) != described(np.sinh)
    assert described(np.linalg.norm) != described(np.linalg.det)
    assert described(np.random.default_rng(0).normal) != described(np.random.default_rng(1).normal)
    assert described(functools.lru_cache(helper)) != described(functools.lru_cache(functools.partial(helper, by=2.0)))
    assert described(np.vectorize(helper)) == described(np.vectorize(helper))


@dataclass(frozen=True)
class Doubled(dask_gd.losses.Huber):
    """A loss of the user's own under the name of one of ours."""

    def value_and_slope(self, z, y):
        value, slope = super().value_and_slope(z, y)
        return 2 * value, 2 * slope


def test_a_loss_that_is_made_of_one_of_ours_is_not_taken_for_it(tmp_path):
    """FAULTS 35."""
    x = np.random.default_rng(0).normal(size=(60, 2))
    y = x @ [1.0, 2.0]
    dask_gd.fit(x, y, loss=Doubled(), store=tmp_path)
    with pytest.raises(StoreMismatchError, match=r"loss\.code"):
        dask_gd.fit(x, y, loss="huber", store=tmp_path)
    with pytest.raises(dask_gd.errors.InvalidArgumentError, match="your own"):
        dask_gd.load(tmp_path)
    assert isinstance(dask_gd.load(tmp_path, loss=Doubled()).loss, Doubled)


def test_a_package_whose_name_begins_as_ours_is_the_users():
    """What is installed is known by its name alone; what only looks so is not."""

    def double(z, y):
        return 2 * (z - y)

    def triple(z, y):
        return 3 * (z - y)

    for function in (double, triple):
        file = identity.PACKAGE.rstrip(os.sep) + "_models/losses.py"
        function.__code__ = function.__code__.replace(co_filename=file)
        function.__qualname__ = "slope"
    assert described(double) != described(triple)
