"""Names that the doctests use without importing them."""

import numpy as np
import pytest

import dask_gd


@pytest.fixture(autouse=True)
def _doctest_names(doctest_namespace):
    doctest_namespace["np"] = np
    doctest_namespace["dask_gd"] = dask_gd
