"""Gradient descent for data that does not fit in memory.

`fit` minimises a penalised mean loss over the rows of chunked Zarr, Dask, NumPy or xarray arrays, one pass over
the data for each step of the solver, on whatever Dask cluster is active, with every iteration safe on disk.
"""

from . import interrupt  # noqa: F401 - before all that takes time

# isort: split
from importlib.metadata import version

from . import accessor, callbacks, errors, events, losses, penalties
from .dashboard.progress import Progress
from .errors import DaskGDError
from .fitting.block_plan import block_plan
from .fitting.fit import fit
from .fitting.fit_plan import fit_plan
from .fitting.folds import Folds
from .fitting.search import search
from .fitting.search_result import SearchResult
from .measures import Measures, measure
from .model.losses import (
    Gamma,
    Hinge,
    Huber,
    Logistic,
    Model,
    Poisson,
    Quantile,
    Softmax,
    Squared,
    SquaredHinge,
    Tweedie,
)
from .model.penalties import L1, L2, ElasticNet, GroupLasso
from .reports import report
from .results.block_columns import block_columns
from .results.cell_fit import CellFit
from .results.fit_result import FitResult
from .results.hash_features import hash_features, hash_rows
from .results.inference import infer
from .results.inference_table import Inference
from .results.loading import load
from .results.prediction import write
from .results.sparse_store import write_sparse
from .results.svmlight import convert_svmlight
from .results.table_store import write_table
from .solvers import ADMM, LBFGS, SGD, Adam, GradientDescent, LocalSGD, Momentum, Nesterov, Newton, NewtonSchur
from .sources import Source, open
from .sources.categories import Categories
from .store.store import Store

__version__ = version("dask_gd")

__all__ = [
    "ADMM",
    "L1",
    "L2",
    "LBFGS",
    "SGD",
    "Adam",
    "Categories",
    "CellFit",
    "DaskGDError",
    "ElasticNet",
    "FitResult",
    "Folds",
    "Gamma",
    "GradientDescent",
    "GroupLasso",
    "Hinge",
    "Huber",
    "Inference",
    "LocalSGD",
    "Logistic",
    "Measures",
    "Model",
    "Momentum",
    "Nesterov",
    "Newton",
    "NewtonSchur",
    "Poisson",
    "Progress",
    "Quantile",
    "SearchResult",
    "Softmax",
    "Source",
    "Squared",
    "SquaredHinge",
    "Store",
    "Tweedie",
    "accessor",
    "block_columns",
    "block_plan",
    "callbacks",
    "convert_svmlight",
    "errors",
    "events",
    "fit",
    "fit_plan",
    "hash_features",
    "hash_rows",
    "infer",
    "load",
    "losses",
    "measure",
    "open",
    "penalties",
    "report",
    "search",
    "write",
    "write_sparse",
    "write_table",
]
