#!/usr/bin/env bash
# `np.add.at` takes 20 to 60 times as long with an array that came through pickle: its dtype equals NumPy's own object.
#
# Guess, before the first run: an array that another process has sent is as fast as one made here.
# Versions: numpy 2.4.6, Python 3.11.
# Seen: `pickle.loads` gives each array a dtype object of its own. `np.add.at(table, keys, values)`, and `at` of other
# ufuncs, have a fast loop where the dtypes are NumPy's own objects, and else a slow one: 1.6 to 1.9 against 59 to 66
# nanoseconds an element for 32,768 float64 values, be it the values or the table that came through pickle; float32,
# int64 and int32 likewise. Keys do not matter. Arithmetic (`values * 1`, `np.exp(values)`) and `copy()` pass the dtype
# object on, so that what is computed from such an array is as slow. Sums, look-ups, sorting, bincount, assignment and
# arithmetic take as long as ever. numpy#32298, on `add.at`, is about threads of free-threaded builds, not about this.
# Hurts: whoever adds to tables (histograms, gradients of categories, finite elements) in processes that are sent their
# arrays: multiprocessing, joblib, Dask. A profile shows a slow `at`; the same lines are fast in a script.
# Do: `values.view(np.float64)` or `values.astype(np.float64)`, which copies, where an array arrives; or `np.bincount`.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6
cat > "$folder/show.py" <<'PY'
import pickle
import time

import numpy as np

ENTRIES, COUNT = 45_800, 32_768
FLOAT = np.dtype(np.float64)

rng = np.random.default_rng(0)
keys = rng.integers(0, ENTRIES, COUNT)
made = rng.normal(size=COUNT)
table = np.zeros(ENTRIES)


def sent(array):
    return pickle.loads(pickle.dumps(array))


def nanoseconds(function):
    """An element, the least CPU time of thirty."""
    times = []
    for _ in range(30):
        began = time.process_time_ns()
        function()
        times.append(time.process_time_ns() - began)
    return min(times) / COUNT


def adding(values, to=table):
    return nanoseconds(lambda: np.add.at(to, keys, values))


came = sent(made)
assert came.dtype == FLOAT
assert came.dtype is not FLOAT
assert made.dtype is FLOAT

values = {
    "made here": made,
    "came through pickle": came,
    "and times 1": came * 1,
    "and its exp": np.exp(came),
    "and copied": came.copy(),
    "and viewed as float64": came.view(np.float64),
    "and astype float64": came.astype(np.float64),
}
times = {name: adding(array) for name, array in values.items()}
for name, array in values.items():
    own = array.dtype is FLOAT
    print(f"np.add.at of values {name:22s} {times[name]:6.1f} ns an element, NumPy's own dtype object: {own}")
fast, slow = times["made here"], times["came through pickle"]

to_sent_table = adding(made, sent(table))
print(f"np.add.at to a table that came through pickle  {to_sent_table:6.1f}")
others = {
    "np.maximum.at": lambda values: np.maximum.at(table, keys, values),
    "np.bincount": lambda values: np.bincount(keys, values),
    "np.cumsum": np.cumsum,
    "np.exp": np.exp,
}
ratios = {}
for name, function in others.items():
    of_made = nanoseconds(lambda: function(made))
    of_came = nanoseconds(lambda: function(came))
    ratios[name] = of_came / of_made
    print(f"{name:14s} {of_made:6.1f} made here, {of_came:6.1f} came through pickle: {ratios[name]:.1f} times")

assert slow > 5 * fast
assert to_sent_table > 5 * fast
assert ratios["np.maximum.at"] > 5
for name in ("and times 1", "and its exp", "and copied"):
    assert values[name].dtype is not FLOAT
    assert times[name] > 5 * fast
for name in ("and viewed as float64", "and astype float64"):
    assert values[name].dtype is FLOAT
    assert times[name] < 3 * fast
assert ratios["np.bincount"] < 3
first = np.zeros(ENTRIES)
second = np.zeros(ENTRIES)
np.add.at(first, keys, made)
np.add.at(second, keys, came)
assert (first == second).all()
PY
cd "$folder"
venv/bin/python show.py
