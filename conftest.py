"""What holds for tests and doctests."""

import os
import signal
import sys

# What tests start, some hundred processes, need not compile the package each.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# Two processes of pytest-xdist have a core each, and tests start workers besides. NumPy reads these when it is loaded.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")
# Workers would look a hundred times a second at what they do, and fifty times at the clock.
os.environ.setdefault("DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED", "False")
os.environ.setdefault("DASK_DISTRIBUTED__ADMIN__TICK__INTERVAL", "500ms")

# A shell that starts the tests in the background has them ignore Ctrl-C, and what they start too.
signal.signal(signal.SIGINT, signal.default_int_handler)

import numpy as np
import pytest

import dask_gd

pytest_plugins = ["pytester"]


@pytest.fixture(autouse=True)
def _doctest_names(doctest_namespace):
    """Give doctests the names that they use without importing them."""
    doctest_namespace["np"] = np
    doctest_namespace["dask_gd"] = dask_gd
