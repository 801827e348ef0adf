"""Gradient descent for data that does not fit in memory.

`fit` minimises a penalised mean loss over the rows of chunked Zarr, Dask, NumPy or xarray arrays, one pass over
the data for each step of the solver, on whatever Dask cluster is active, with every iteration safe on disk.
"""

from . import interrupt  # noqa: F401 - before all that takes time

# isort: split
from importlib.metadata import version

from . import accessor, callbacks, errors, events
from .errors import DaskGDError
from .folds import Folds
from .inference import Inference, infer
from .loop import fit
from .losses import Gamma, Hinge, Huber, Logistic, Model, Poisson, Quantile, Softmax, Squared, SquaredHinge, Tweedie
from .monitor.progress import Progress
from .monitor.report import report
from .penalties import L1, L2, ElasticNet, GroupLasso
from .predictions import write
from .result import FitResult, load
from .search import search
from .search_result import SearchResult
from .solvers import ADMM, LBFGS, SGD, Adam, GradientDescent, LocalSGD, Momentum, Nesterov, Newton
from .sources import Source, open
from .store import Store

__version__ = version("dask_gd")

__all__ = [
    "ADMM",
    "L1",
    "L2",
    "LBFGS",
    "SGD",
    "Adam",
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
    "Model",
    "Momentum",
    "Nesterov",
    "Newton",
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
    "callbacks",
    "errors",
    "events",
    "fit",
    "infer",
    "load",
    "open",
    "report",
    "search",
    "write",
]
