"""The contestants of run.py: each fits one problem to one tolerance and says how long it took.

    python benchmarks/peers.py PEER problem.json result.npz

All minimise the same objective, the mean loss with an intercept (and for a lasso a penalty), over the rows of the same
Zarr store. A peer takes a `Problem` and returns its parameters (the intercept last), seconds to load, seconds to fit,
and what else there is to say, such as passes. Before the clock starts each has fitted a tiny problem, on the workers
too.

dask_gd, dask-glm and dask-ml get a fresh cluster of single-threaded worker processes; starting it is not timed.
dask-glm is given its best: blocks of about 40 MB of the Zarr's whole chunks, the column of ones appended inside each
block, in the data's own dtype, no normalisation pass (``normalize=False``), and tolerances that spare it its last step.
"persisted" holds the blocks in the workers' memory; its time includes the loading. dask-ml's Incremental is one SGD
model that goes over the blocks, with the steps that served it best.

scikit-learn and glum load all rows into memory, and have as many threads as the others have workers.

On the flights as codes (coded.py) dask_gd reads the codes. glum has a data frame of categories, of which it makes its
own matrix within its time. scikit-learn has sparse rows (CSR) that its encoder makes, within the time to load. Spark
encodes by its own pipeline, within its time. "dense rows" is dask_gd on the same features written out, where the store
has them.

Spark has as many threads, and half of the machine's memory. It reads its own vectors, in float64, from parquet files
that are written outside the clock: it reads no Zarr. Its session is started, but nothing fitted, before the first fit;
the second in the same session finds the JVM warm. "persisted" holds the table in memory and on disk from the first fit
on, so that the second reads no file.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from coded import COLUMNS, Flights, Objective, fit_spark_pipeline
from common import TARGETS, cluster, objective, optimum

MAX_STEPS = 2000
PACKAGES = {"Spark": "pyspark"}  # where it is not the peer's first word


@dataclass(frozen=True)
class Problem:
    """What to fit, on how much of the machine, and how far (``options``, a rung of the peer's ladder)."""

    store: str
    x: str
    y: str
    loss: str
    tiny: str
    parquet: str
    workers: int = 2
    memory: str = "1GB"
    options: dict | None = None
    alpha: float = 0.0
    #: The flights as codes, with an L2 penalty of alpha; else it is an L1 penalty.
    coded: bool = False

    @property
    def kind(self) -> str:
        """What the ladders are for: the loss, the lasso, or the flights as codes."""
        if self.coded:
            return "codes"
        return "lasso" if self.alpha else self.loss

    @property
    def key(self) -> str:
        """What the optimum and the tolerances found are remembered by."""
        return f"{self.store} {self.kind}" + (f" {self.alpha:g}" if self.alpha else "")

    @property
    def flights(self) -> Flights:
        return Flights(self.store, self.y)

    @property
    def rows(self) -> int:
        return zarr.open_group(self.store, mode="r")[self.y].shape[0]

    def objective(self) -> Callable[[np.ndarray], float]:
        """The objective at parameters, the intercept last."""
        if self.coded:
            return Objective(self.flights, self.alpha)
        x, y = self.arrays
        return lambda parameters: float(objective(x, y, self.loss, parameters, self.alpha))

    def optimum(self) -> float:
        """The least objective."""
        if self.coded:
            return Objective(self.flights, self.alpha).optimum()
        return optimum(*self.arrays, self.loss, self.alpha)

    @property
    def arrays(self) -> tuple[zarr.Array, zarr.Array]:
        group = zarr.open_group(self.store, mode="r")
        return group[self.x], group[self.y]

    @property
    def stored_dtype(self) -> np.dtype:
        """That of the features; of codes, that of the products."""
        if self.coded:
            return np.dtype(float)
        return self.arrays[0].dtype

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.options.get("dtype", self.stored_dtype))

    def warm_up(self) -> Problem:
        if self.coded:
            return replace(self, store=self.tiny)
        return replace(self, store=self.tiny, x="x", y=TARGETS[self.loss])


Fitted = tuple[np.ndarray, float, float, dict]


def timed(function: Callable, *arguments, **options) -> tuple[Any, float]:
    began = time.perf_counter()
    result = function(*arguments, **options)
    return result, time.perf_counter() - began


def on_cluster(fit: Callable[[Problem], Any], problem: Problem) -> tuple[Any, float]:
    """What ``fit`` returns on a fresh, warm cluster, and its seconds."""
    with cluster(problem.workers, problem.memory):
        fit(problem.warm_up())
        return timed(fit, problem)


def fit_dask_gd(problem: Problem, solver: str, dense: bool = False) -> Fitted:
    import dask_gd

    def fit(problem: Problem):
        penalty = None
        if problem.coded:
            penalty = dask_gd.L2(problem.alpha)
        elif problem.alpha:
            penalty = dask_gd.L1(problem.alpha)
        # The tiny problem has no dense rows.
        if problem.coded and not (dense and problem.store != problem.tiny):
            source = dask_gd.open(problem.store, x=list(COLUMNS), y=problem.y, drop="first")
        else:
            source = dask_gd.open(problem.store, x=problem.x, y=problem.y)
        options = {"loss": problem.loss, "penalty": penalty, "solver": solver, "max_iter": MAX_STEPS}
        return dask_gd.fit(source, **options, **problem.options)

    run, seconds = on_cluster(fit, problem)
    passes = run.history.passes.values
    extra = {"passes": round(float(passes.sum()), 2), "full": int((passes == 1).sum()), "reason": run.reason}
    return run.parameters.squeeze(axis=1) if run.weights.ndim == 1 else run.parameters, 0.0, seconds, extra


def blocks(problem: Problem):
    """x and y as Dask arrays in blocks of whole chunks of x."""
    import dask.array as da

    x, y = problem.arrays
    rows, size = x.chunks[0], x.chunks[0] * x.shape[1] * x.dtype.itemsize
    x = da.from_zarr(x, chunks=(rows * max(1, round(40e6 / size)), x.shape[1])).astype(problem.dtype)
    return x, da.from_zarr(y).rechunk((x.chunks[0],)).astype(problem.dtype)


def with_ones(block: np.ndarray) -> np.ndarray:
    return np.column_stack([block, np.ones(len(block), block.dtype)])


def fit_dask_glm(problem: Problem, solver: str, persist: bool = False) -> Fitted:
    import dask_glm.algorithms
    from dask_glm import families

    family = families.Logistic if problem.loss == "logistic" else families.Normal
    steps: list[int] = []

    class Counted(family):  # passes, by what each step must build
        @staticmethod
        def pointwise_loss(*arguments):
            steps.append(1)
            return family.pointwise_loss(*arguments)

        @staticmethod
        def hessian(*arguments):
            steps.append(1)
            return family.hessian(*arguments)

    def fit(problem: Problem) -> np.ndarray:
        steps.clear()
        x, y = blocks(problem)
        x = x.map_blocks(with_ones, chunks=(x.chunks[0], (x.shape[1] + 1,)), dtype=x.dtype)
        if persist:
            x, y = x.persist(), y.persist()
        function = getattr(dask_glm.algorithms, solver)
        found = function(x, y, normalize=False, family=Counted, max_iter=MAX_STEPS, tol=problem.options["tol"])
        return np.asarray(found)

    parameters, seconds = on_cluster(fit, problem)
    return parameters, 0.0, seconds, {"passes": len(steps)}


def fit_dask_ml(problem: Problem) -> Fitted:
    from dask_ml.wrappers import Incremental
    from sklearn.linear_model import SGDClassifier, SGDRegressor

    logistic = problem.loss == "logistic"

    def fit(problem: Problem):
        steps = {"learning_rate": "invscaling", "eta0": 0.1 if logistic else 0.01, "penalty": None}
        estimator = SGDClassifier(loss="log_loss", **steps) if logistic else SGDRegressor(**steps)
        model = Incremental(estimator, random_state=0)
        for _ in range(problem.options["epochs"]):
            model.partial_fit(*blocks(problem), **({"classes": [0, 1]} if logistic else {}))
        return model.estimator_

    model, seconds = on_cluster(fit, problem)
    return coefficients(model), 0.0, seconds, {"passes": problem.options["epochs"]}


def coefficients(model) -> np.ndarray:
    if np.size(model.intercept_) > 1:
        return np.vstack([model.coef_.T, model.intercept_])
    return np.append(np.ravel(model.coef_), model.intercept_)


def fit_in_memory(problem: Problem, make_model: Callable, read: Callable[[Flights], Any]) -> Fitted:
    from threadpoolctl import threadpool_limits

    def load(problem: Problem) -> list:
        if problem.coded:
            return [read(problem.flights), problem.flights.target]
        return [array[:].astype(problem.dtype, copy=False) for array in problem.arrays]

    make_model(problem).fit(*load(problem.warm_up()))
    with threadpool_limits(problem.workers):
        data, loading = timed(load, problem)
        model, fitting = timed(make_model(problem).fit, *data)
    return coefficients(model), loading, fitting, {"steps": int(np.max(getattr(model, "n_iter_", None) or 1))}


def make_scikit_learn(problem: Problem, solver: str):
    from sklearn.linear_model import Lasso, LinearRegression, LogisticRegression, Ridge

    if solver == "descent":
        return Lasso(problem.alpha, tol=problem.options["tol"], max_iter=MAX_STEPS, copy_X=False)
    if solver == "lstsq":
        return LinearRegression(copy_X=False)
    if solver == "cholesky":
        return Ridge(alpha=0.0, solver=solver, copy_X=False)
    strength = np.inf
    if problem.coded:
        strength = 1 / (problem.alpha * problem.rows)
    return LogisticRegression(C=strength, solver=solver, max_iter=MAX_STEPS, tol=problem.options["tol"])


def make_glum(problem: Problem):
    from glum import GeneralizedLinearRegressor

    family = {"logistic": "binomial", "squared": "normal"}.get(problem.loss, problem.loss)
    tol = problem.options["tol"]
    options = {"family": family, "gradient_tol": tol, "max_iter": MAX_STEPS, "copy_X": False}
    if problem.coded:
        return GeneralizedLinearRegressor(alpha=problem.alpha, l1_ratio=0.0, drop_first=True, **options)
    return GeneralizedLinearRegressor(alpha=problem.alpha, l1_ratio=float(problem.alpha > 0), **options)


def fit_spark(problem: Problem, persist: bool = False) -> Fitted:
    import psutil
    from pyspark import StorageLevel
    from pyspark.ml.classification import LogisticRegression
    from pyspark.ml.linalg import VectorUDT
    from pyspark.ml.regression import LinearRegression
    from pyspark.sql import SparkSession
    from pyspark.sql.types import DoubleType, StructField, StructType

    memory = f"{psutil.virtual_memory().total // 2 >> 20}m"
    builder = SparkSession.builder.master(f"local[{problem.workers}]").config("spark.driver.memory", memory)
    session = builder.config("spark.ui.enabled", "false").config("spark.driver.host", "127.0.0.1").getOrCreate()
    session.range(1).count()
    schema = StructType([StructField("features", VectorUDT()), StructField("label", DoubleType())])
    if problem.coded:
        table = session.read.parquet(problem.parquet)
        arguments = (fit_spark_pipeline, table, problem.alpha, MAX_STEPS)
        (parameters, steps), first = timed(*arguments, **problem.options)
        _, again = timed(*arguments, **problem.options)
        session.stop()
        return parameters, 0.0, first, {"steps": steps, "again": again}
    estimator = LinearRegression if problem.loss == "squared" else LogisticRegression

    def fit():
        table = session.read.schema(schema).parquet(problem.parquet)
        if persist:  # the same plan again is found in the cache
            table = table.persist(StorageLevel.MEMORY_AND_DISK)
        options = {"regParam": problem.alpha, "elasticNetParam": float(problem.alpha > 0), "standardization": False}
        return estimator(maxIter=MAX_STEPS, **options, **problem.options).fit(table)

    _, first = timed(fit)
    model, again = timed(fit)
    steps = None if problem.options.get("solver") == "normal" else model.summary.totalIterations
    if problem.loss == "softmax":
        parameters = np.vstack([model.coefficientMatrix.toArray().T, model.interceptVector.toArray()])
    else:
        parameters = np.append(model.coefficients.toArray(), model.intercept)
    session.stop()
    return parameters, 0.0, first, {"steps": steps, "again": again}


def write_parquet(problem: Problem, files: int = 16) -> None:
    """The rows as Spark's own vectors and labels, uncompressed, in row groups of at most 128 MB."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if problem.coded:
        problem.flights.write_parquet(Path(problem.parquet))
        return
    path, (x, y) = Path(problem.parquet), problem.arrays
    if (path / "complete").exists():
        return
    path.mkdir(parents=True, exist_ok=True)
    (n, p), group = x.shape, max(1, (128 << 20) // (8 * x.shape[1]))
    edges = np.linspace(0, n, files + 1).astype(int)
    for i, (start, stop) in enumerate(pairwise(edges)):
        with contextlib.ExitStack() as stack:
            writer = None
            for first in range(start, stop, group):
                rows = slice(first, min(first + group, stop))
                m = rows.stop - rows.start
                values = pa.ListArray.from_arrays(np.arange(m + 1, dtype="i4") * p, x[rows].astype(float).ravel())
                vectors = pa.StructArray.from_arrays(
                    [pa.array(np.ones(m, "i1")), pa.nulls(m, pa.int32()), pa.nulls(m, pa.list_(pa.int32())), values],
                    names=["type", "size", "indices", "values"],
                )
                table = pa.table({"features": vectors, "label": y[rows].astype(float)})
                if writer is None:
                    file = path / f"{i:02}.parquet"
                    writer = stack.enter_context(pq.ParquetWriter(file, table.schema, compression="none"))
                writer.write_table(table)
    (path / "complete").touch()


def scikit_learn(solver: str) -> Callable[[Problem], Fitted]:
    """scikit-learn's contestant of this solver; codes become sparse rows."""
    return partial(fit_in_memory, make_model=partial(make_scikit_learn, solver=solver), read=Flights.indicators)


PEERS: dict[str, Callable[[Problem], Fitted]] = {
    "dask_gd auto": partial(fit_dask_gd, solver="auto"),
    "dask_gd dense rows": partial(fit_dask_gd, solver="auto", dense=True),
    "dask_gd newton": partial(fit_dask_gd, solver="newton"),
    "dask_gd lbfgs": partial(fit_dask_gd, solver="lbfgs"),
    "dask-glm newton": partial(fit_dask_glm, solver="newton"),
    "dask-glm newton, persisted": partial(fit_dask_glm, solver="newton", persist=True),
    "dask-glm lbfgs": partial(fit_dask_glm, solver="lbfgs"),
    "dask-glm lbfgs, persisted": partial(fit_dask_glm, solver="lbfgs", persist=True),
    "dask-ml Incremental": fit_dask_ml,
    "scikit-learn lbfgs": scikit_learn("lbfgs"),
    "scikit-learn newton-cholesky": scikit_learn("newton-cholesky"),
    "scikit-learn newton-cg": scikit_learn("newton-cg"),
    "scikit-learn saga": scikit_learn("saga"),
    "scikit-learn Ridge": scikit_learn("cholesky"),
    "scikit-learn Lasso": scikit_learn("descent"),
    "scikit-learn LinearRegression": scikit_learn("lstsq"),
    "glum": partial(fit_in_memory, make_model=make_glum, read=Flights.frame),
    "Spark MLlib": fit_spark,
    "Spark MLlib, persisted": partial(fit_spark, persist=True),
    "Spark MLlib normal": fit_spark,
}

#: Those that have the rows of codes written out, and those that do not take part where there are codes.
DENSE = ("dask_gd dense rows",)
NOT_OF_CODES = ("Spark MLlib, persisted",)


def rungs(*tolerances: float, double: tuple[float, ...] = (), **options) -> list[dict]:
    """A ladder: these tolerances in the data's own dtype, then those of ``double`` in float64, for float32 data."""
    ladder = [{"tol": tol, **options} for tol in tolerances]
    return ladder + [{"tol": tol, "dtype": "float64", **options} for tol in double]


FIRST_ORDER = (1e-2, 5e-3, 2e-3, 1e-3, 5e-4, 2e-4, 1e-4, 5e-5, 2e-5, 1e-5, 5e-6, 2e-6, 1e-6, 1e-7, 1e-8)
NEWTON = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-8)
SAGA = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7)  # the largest change of a coefficient, of the largest
LASSO = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10)
SPARK = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-12)

#: By peer (up to a comma: those that follow share it) and loss, from loose to tight; a peer without one for a loss does
#: not take part.
LADDERS: dict[str, dict[str, list[dict]]] = {
    "dask_gd auto": {
        "logistic": rungs(*FIRST_ORDER),
        "squared": rungs(1e-2, 1e-4, 1e-6, 1e-8),
        "lasso": rungs(1e-2, 1e-4, 1e-6, 1e-8),
        "softmax": rungs(*FIRST_ORDER),
        "codes": rungs(*FIRST_ORDER),
    },
    "dask_gd dense rows": {"codes": rungs(*FIRST_ORDER)},
    "dask_gd newton": {"logistic": rungs(*FIRST_ORDER), "squared": rungs(1e-2, 1e-4, 1e-6, 1e-8)},
    "dask_gd lbfgs": {loss: rungs(*FIRST_ORDER) for loss in ("logistic", "squared", "softmax", "codes")},
    "dask-glm newton": {  # the largest change of a coefficient
        "logistic": rungs(1.0, 0.5, 0.2, 0.1, 1e-2, 1e-3, 1e-5, double=(0.1, 1e-2, 1e-3)),
        "squared": rungs(1e9, 1.0, 1e-3, double=(1e9, 1.0)),
    },
    "dask-glm lbfgs": {  # the largest component of the sum's gradient; SciPy's factr ends it at the tight end
        "logistic": rungs(500.0, 200.0, 100.0, 50.0, 20.0, 10.0, 1.0, 1e-4, double=(100.0, 10.0, 1e-4)),
        "squared": rungs(500.0, 200.0, 100.0, 50.0, 20.0, 10.0, 1.0, 1e-4, double=(100.0, 10.0, 1e-4)),
    },
    "dask-ml Incremental": {loss: [{"epochs": n} for n in (1, 4, 16)] for loss in ("logistic", "squared")},
    "scikit-learn lbfgs": {
        **{loss: rungs(*FIRST_ORDER, double=FIRST_ORDER[7:]) for loss in ("logistic", "softmax")},
        "codes": rungs(*FIRST_ORDER),
    },
    "scikit-learn newton-cholesky": {
        **{loss: rungs(*NEWTON, double=NEWTON[2:]) for loss in ("logistic", "softmax")},
        "codes": rungs(*NEWTON),
    },
    "scikit-learn newton-cg": {"codes": rungs(*NEWTON)},
    "scikit-learn saga": {"codes": rungs(*SAGA)},
    "scikit-learn Ridge": {"squared": rungs(1e-4, double=(1e-4,))},  # direct: no tolerance is used
    "scikit-learn LinearRegression": {"squared": rungs(1e-4, double=(1e-4,))},
    "scikit-learn Lasso": {"lasso": rungs(*LASSO)},  # the duality gap, of the targets' sum of squares
    "glum": {
        **{kind: rungs(*NEWTON, double=NEWTON[2:]) for kind in ("logistic", "squared", "lasso")},
        "codes": rungs(*NEWTON),
    },
    "Spark MLlib": {
        "logistic": rungs(*SPARK),
        "softmax": rungs(*SPARK),
        "squared": rungs(*SPARK, solver="l-bfgs"),
        "lasso": rungs(*SPARK, solver="l-bfgs"),
        "codes": rungs(*SPARK),
    },
    "Spark MLlib normal": {"squared": rungs(1e-6, solver="normal")},
}


def family(peer: str) -> str:
    """The peer whose ladder it shares."""
    return peer.split(",")[0]


def main() -> None:
    peer, given, output = sys.argv[1:]
    warnings.simplefilter("ignore")
    with contextlib.suppress(OSError):  # where memory runs out, this process goes and not the bench
        Path("/proc/self/oom_score_adj").write_text("1000")
    package = PACKAGES.get(peer.split()[0], peer.split()[0])
    result: dict[str, Any] = {}
    try:
        parameters, load, fit, extra = PEERS[peer](Problem(**json.loads(Path(given).read_text())))
        result = {"load": load, "fit": fit, "version": version(package), **extra}
    except ImportError as error:
        result, parameters = {"error": f"not installed: {error}"}, np.empty(0)
    except MemoryError as error:
        result, parameters = {"error": f"out of memory: {error}"}, np.empty(0)
    except Exception as error:
        first = (str(error).strip() or "no message").splitlines()[0]
        result, parameters = {"error": f"{type(error).__name__}: {first}"}, np.empty(0)
    np.savez(output, parameters=parameters, result=json.dumps(result))


if __name__ == "__main__":
    main()
