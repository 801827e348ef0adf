#!/usr/bin/env bash
# An error of zarr or numpy that is raised in a task reaches the client without its class, or without its message.
#
# Guess, before the first run: an error that pickle can copy arrives as itself, so that the `except` clauses that fit
# without a cluster fit with one.
# Versions: distributed 2026.8.0, dask 2026.8.0, tblib 3.2.2, zarr 3.1.6, numpy 2.4.6, Python 3.11.
# Seen: zarr's ArrayNotFoundError (a ValueError and a FileNotFoundError) arrives as a bare `Exception`, and printing
# numpy's AxisError at the client raises AttributeError. Plain pickle copies both. distributed has tblib register a way
# of its own to pickle errors, which makes the copy with `cls.__new__(cls)` and no `__init__`: for a class whose bases
# are ValueError first and OSError second that call is refused, and distributed falls back to `Exception(repr(error))`;
# AxisError keeps its parts in slots, which stay empty.
# Hurts: whoever catches "the array is not there (yet)" around a computation, as they may when the same code runs
# without a cluster; and whoever logs errors: the log line itself fails.
# Do: in the task, keep the text, leave the `except` block and then raise a built-in class: raised within the block,
# even `from None`, it carries the first error as its context and loses its class too. Give a class of your own a
# `__reduce__`. Where the task is not yours, catch Exception at the client and look at its `repr`, not its `str`.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    distributed==2026.8.0 dask==2026.8.0 tblib==3.2.2 zarr==3.1.6 numpy==2.4.6
cat > "$folder/show.py" <<'PY'
import logging
import pickle

import numpy as np
import zarr


def open_missing(path):
    return zarr.open_array(path, path="target", mode="r")


def sum_wrong_axis(path):
    return np.ones(3).sum(axis=2)


def raise_within(path):
    try:
        open_missing(path)
    except FileNotFoundError as error:
        raise FileNotFoundError(str(error)) from None


def raise_after(path):
    text = ""
    try:
        open_missing(path)
    except FileNotFoundError as error:
        text = str(error)
    raise FileNotFoundError(text)


class Reduced(ValueError, OSError):
    def __reduce__(self):
        return Reduced, self.args


def raise_reduced(path):
    raise Reduced("not there")


def raised(function, path):
    try:
        function(path)
    except Exception as error:
        return error


def text(error):
    try:
        return str(error)
    except Exception as failure:
        return f"<str() raises {failure!r}>"


def show(title, error):
    bases = [base.__name__ for base in (ValueError, FileNotFoundError) if isinstance(error, base)]
    print(f"{title}: {type(error).__name__}, which is {bases}: {text(error)}")


def main():
    zarr.open_group("store.zarr", mode="w")
    for function in (open_missing, sum_wrong_axis):
        local = raised(function, "store.zarr")
        copy = pickle.loads(pickle.dumps(local))
        show(f"{function.__name__}, copied by pickle", copy)
        assert type(copy) is type(local)
        assert str(copy) == str(local)

    # Importing it changes how errors are pickled.
    from distributed import Client

    remotes = {}
    with Client(n_workers=1, threads_per_worker=1, dashboard_address=None, silence_logs=logging.CRITICAL) as client:
        for function in (open_missing, sum_wrong_axis, raise_within, raise_after, raise_reduced):
            local = raised(function, "store.zarr")
            remote = client.submit(function, "store.zarr").exception()
            show(f"{function.__name__}, called here", local)
            show(f"{function.__name__}, from the worker", remote)
            remotes[function] = remote

    assert type(remotes[open_missing]) is Exception
    assert "ArrayNotFoundError" in repr(remotes[open_missing])
    assert "AttributeError" in text(remotes[sum_wrong_axis])
    assert "AxisError" in repr(remotes[sum_wrong_axis])
    assert type(remotes[raise_within]) is Exception
    assert type(remotes[raise_after]) is FileNotFoundError
    assert type(remotes[raise_reduced]) is Reduced


if __name__ == "__main__":
    main()
PY
cd "$folder"
DASK_TEMPORARY_DIRECTORY=$folder venv/bin/python show.py
