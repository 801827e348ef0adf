"""The snippets of the pages about rows that are not dense run as they are printed, one after the other."""

import re
from pathlib import Path

import dask.array as da
import dask.bag as db
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import zarr
from dask.distributed import Client
from sklearn.datasets import dump_svmlight_file
from sklearn.feature_extraction.text import HashingVectorizer

import dask_gd

ROOT = Path(__file__).parent.parent
N = 700
TEXTS = ["so very good", "not good", "bad and bad", "very bad"]
SNIPPET = re.compile(r"```python\n(.*?)```", re.DOTALL)


def snippets(page):
    """Return the snippets of a page with the numbers of the lines before them."""
    text = (ROOT / page).read_text()
    return [(text[: match.start(1)].count("\n"), match[1]) for match in SNIPPET.finditer(text)]


@pytest.fixture
def names(tmp_path, monkeypatch):
    """The names that snippets take for granted, and the files in the folder in which they run."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    airports = ["ABQ", "ATL", "BOS", "JFK"]
    flights = pd.DataFrame(
        {
            "distance": rng.normal(size=N),
            "hour": np.arange(N) % 3,
            "weekday": rng.permutation(N) % 7,
            "origin": np.take(airports, rng.permutation(N) % 4),
            "destination": np.take(airports, rng.permutation(N) % 4),
            "carrier": np.take(["AA", "DL"], rng.permutation(N) % 2),
            "tail_number": np.char.add("N", (rng.permutation(N) % 30).astype(str)),
            "remarks": np.take(TEXTS, rng.permutation(N) % 4),
            "late": rng.integers(0, 2, N),
        }
    )
    flights.to_parquet("flights.parquet")
    codes = ["distance", "hour", "weekday", "origin", "destination", "late"]
    for path in ("flights.zarr", "later.zarr"):
        dask_gd.write_table(flights[codes], path, categorical=["hour", "weekday"])
    # Sparse rows beside columns of observations, as anndata writes them.
    x = scipy.sparse.random_array((N, 20), density=0.2, rng=rng, format="csr")
    y = rng.integers(0, 2, N).astype(float)
    cells = zarr.open_group(dask_gd.write_sparse(x, "cells.zarr"), mode="r+")
    cells.create_array("obs/age", data=rng.normal(size=N))
    cells.create_array("obs/n_genes", data=rng.normal(size=N))
    cells.create_array("obs/cell_type/codes", data=(np.arange(N) % 3).astype("i1"))
    cells.create_array("obs/cell_type/categories", data=np.arange(3))
    wages = {"age": rng.normal(size=N), "wage": rng.normal(size=N)}
    wages |= {"worker": rng.permutation(N) % 60, "firm": rng.permutation(N) % 9}
    dask_gd.write_table(pd.DataFrame(wages), "wages.zarr", categorical=["worker", "firm"])
    for file in ("a.svm", "b.svm"):
        dump_svmlight_file(x, y, file, zero_based=False)
    return {
        "np": np,
        "scipy": scipy,
        "dask_gd": dask_gd,
        "HashingVectorizer": HashingVectorizer,
        "flights": flights,
        "frame": flights,
        "later": flights,
        "group": zarr.open_group("new_group.zarr", mode="w"),
        "x": x,
        "y": y,
        "p": 64,
        "Client": Client,
        "clicks": x,
        "texts": da.from_array(flights.remarks.to_numpy(dtype=object), chunks=100),
        "new_texts": TEXTS,
        "bag": db.from_sequence(flights.remarks, npartitions=3),
        "vectorise": HashingVectorizer(n_features=64).transform,
    }


@pytest.mark.parametrize("page", ["rows", "categories", "levels", "blocks", "formulas", "measures"])
def test_snippets_run_as_they_are_printed(page, names):
    for line, code in snippets(f"docs/{page}.md"):
        # Empty lines before it, so that an error has the line of the page.
        exec(compile("\n" * line + code, f"docs/{page}.md", "exec"), names)


def test_the_snippet_of_the_readme_about_rows_runs(names):
    [(line, code)] = [(line, code) for line, code in snippets("README.md") if "hash_features" in code]
    exec(compile("\n" * line + code, "README.md", "exec"), names)
    assert names["cells"].shape == (N, 20 + 3 + 1)
