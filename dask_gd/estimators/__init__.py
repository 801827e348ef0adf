"""scikit-learn's linear models, with its names, parameters and attributes, on rows that need not fit in memory.

They translate names and parametrisations; `dask_gd.fit` does the rest. NumPy arrays and data frames are checked as
scikit-learn checks them. Dask arrays and data frames, Zarr arrays, DataArrays and a `Source` stay lazy: they are read
in the passes of the fit, and predictions for them are lazy too. Datasets are for `dask_gd.fit`.
"""

# Before any module imports scikit-learn itself, so that the error names the extra that installs it.
try:
    import sklearn  # noqa: F401
except ImportError as error:
    raise ImportError(
        "dask_gd.estimators needs scikit-learn, which is not installed: pip install 'dask_gd[sklearn]'."
    ) from error

from .classification import LogisticRegression
from .counts import GammaRegressor, PoissonRegressor, TweedieRegressor
from .huber import HuberRegressor
from .logistic_search import LogisticRegressionCV
from .regression import ElasticNet, Lasso, LinearRegression, QuantileRegressor
from .ridge import Ridge
from .ridge_search import RidgeCV
from .search import ElasticNetCV, LassoCV
from .stochastic_models import SGDClassifier, SGDRegressor
from .support_vectors import LinearSVC

__all__ = [
    "ElasticNet",
    "ElasticNetCV",
    "GammaRegressor",
    "HuberRegressor",
    "Lasso",
    "LassoCV",
    "LinearRegression",
    "LinearSVC",
    "LogisticRegression",
    "LogisticRegressionCV",
    "PoissonRegressor",
    "QuantileRegressor",
    "Ridge",
    "RidgeCV",
    "SGDClassifier",
    "SGDRegressor",
    "TweedieRegressor",
]
