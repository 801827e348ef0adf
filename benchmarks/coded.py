"""The flights as a table of codes, for the contestants of run.py: as each of them wants it, and the optimum.

A column of L levels is L - 1 features: the first level is what the others are compared with. All contestants have the
same features in the same order, and the same L2 penalty on them.
"""

from __future__ import annotations

from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from scipy import sparse

#: The first column is a number, the others are codes.
COLUMNS = ("distance", "hour", "weekday", "origin", "destination")
NUMBER, *FACTORS = COLUMNS
TARGETS = ("late", "delay")


class Flights:
    """The columns of a store of flights, read anew by each method, as a contestant would."""

    def __init__(self, store: str | Path, y: str):
        self.group = zarr.open_group(store, mode="r")
        self.y = y

    @property
    def rows(self) -> int:
        return self.group[self.y].shape[0]

    def levels(self, name: str) -> list:
        return self.group[name].attrs["levels"]

    @property
    def has_dense_rows(self) -> bool:
        """Whether the store has the same features written out."""
        features = 1 + sum(len(self.levels(name)) - 1 for name in FACTORS)
        return "X" in self.group and self.group["X"].shape[1] == features

    @property
    def target(self) -> np.ndarray:
        return self.group[self.y][:].astype(float)

    def indicators(self) -> sparse.csr_array:
        """The features as CSR, by scikit-learn's encoder."""
        from sklearn.preprocessing import OneHotEncoder

        codes = np.stack([self.group[name][:] for name in FACTORS], axis=1)
        categories = [np.arange(len(self.levels(name))) for name in FACTORS]
        encoded = OneHotEncoder(categories=categories, drop="first").fit_transform(codes)
        number = self.group[NUMBER][:].astype(float)
        return sparse.csr_array(sparse.hstack([number[:, None], encoded], format="csr"))

    def frame(self):
        """A data frame with categorical columns."""
        import pandas as pd

        columns: dict[str, Any] = {NUMBER: self.group[NUMBER][:].astype(float)}
        for name in FACTORS:
            levels = [str(level) for level in self.levels(name)]
            columns[name] = pd.Categorical.from_codes(self.group[name][:], categories=levels)
        return pd.DataFrame(columns)

    def write_parquet(self, path: Path, files: int = 16) -> None:
        """Numbers and codes for Spark, whose encoder leaves out the last level: the first comes last."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        if (path / "complete").exists():
            return
        path.mkdir(parents=True, exist_ok=True)
        columns = {NUMBER: self.group[NUMBER][:].astype(float), "label": self.target}
        for name in FACTORS:
            levels = len(self.levels(name))
            columns[name] = (self.group[name][:].astype("i4") - 1) % levels
        table = pa.table(columns)
        edges = np.linspace(0, self.rows, files + 1).astype(int)
        for i, (start, stop) in enumerate(pairwise(edges)):
            pq.write_table(table.slice(start, stop - start), path / f"{i:02}.parquet")
        (path / "complete").touch()


class Objective:
    """The mean logistic loss with an L2 penalty of strength ``alpha``, in plain NumPy and SciPy, over all rows."""

    def __init__(self, flights: Flights, alpha: float):
        self.flights = flights
        self.alpha = alpha

    @cached_property
    def rows(self) -> tuple[sparse.csr_array, np.ndarray]:
        """The features with a column of ones at the end, and the targets."""
        x = self.flights.indicators()
        ones = np.ones((x.shape[0], 1))
        return sparse.csr_array(sparse.hstack([x, ones], format="csr")), self.flights.target

    def __call__(self, w: np.ndarray) -> float:
        """The objective at (p + 1,) parameters, the intercept last."""
        x, y = self.rows
        z = x @ w
        return float((np.logaddexp(0.0, z) - y * z).mean() + self.alpha / 2 * (w[:-1] ** 2).sum())

    def step(self, w: np.ndarray) -> tuple[np.ndarray, float]:
        """Newton's step, and how much of the objective it promises to take off, doubled."""
        x, y = self.rows
        mean = 1 / (1 + np.exp(-(x @ w)))
        penalty = np.full(len(w), self.alpha)
        penalty[-1] = 0.0
        gradient = x.T @ (mean - y) / len(y) + penalty * w
        scaled = sparse.csr_array(x.multiply((mean * (1 - mean))[:, None]))
        hessian = (x.T @ scaled).toarray() / len(y) + np.diag(penalty)
        step = np.linalg.solve(hessian, gradient)
        return step, float(gradient @ step)

    def optimum(self) -> float:
        """The least objective: Newton's method until what a step gains is nothing next to 1e-8 of it."""
        w = np.zeros(self.rows[0].shape[1])
        value = self(w)
        gain = value
        while gain > 1e-13 * value:
            step, gain = self.step(w)
            after = self(w - step)
            while after > value * (1 + 1e-14):
                step = step / 2
                after = self(w - step)
            w = w - step
            value = after
        return value


def copy_rows(store: Path, path: Path, rows: int, chunk: int | None = None) -> Path:
    """A store of the first rows of another one, in the same codecs; in at least eight chunks, unless they are given."""
    if path.exists() and zarr.open_group(path, mode="r").attrs.get("complete"):
        return path
    source = zarr.open_group(store, mode="r")
    group = zarr.open_group(path, mode="w", zarr_format=3)
    for name in (*COLUMNS, *TARGETS):
        array = source[name]
        group.create_array(
            name,
            data=array[:rows],
            chunks=(chunk or min(array.chunks[0], max(1, rows // 8)),),
            compressors=array.compressors,
            attributes=dict(array.attrs),
            config={"write_empty_chunks": True},
        )
    group.attrs["complete"] = True
    return path


def fit_spark_pipeline(table, alpha: float, max_iter: int, **options):
    """Spark's own encoder, assembler and logistic regression, as one pipeline; the parameters, the intercept last."""
    from pyspark.ml import Pipeline
    from pyspark.ml.classification import LogisticRegression
    from pyspark.ml.feature import OneHotEncoder, VectorAssembler

    encoded = [f"{name}_encoded" for name in FACTORS]
    penalty = {"regParam": alpha, "elasticNetParam": 0.0, "standardization": False}
    stages = [
        OneHotEncoder(inputCols=list(FACTORS), outputCols=encoded, dropLast=True),
        VectorAssembler(inputCols=[NUMBER, *encoded], outputCol="features"),
        LogisticRegression(maxIter=max_iter, **penalty, **options),
    ]
    model = Pipeline(stages=stages).fit(table).stages[-1]
    return np.append(model.coefficients.toArray(), model.intercept), model.summary.totalIterations
