"""What a linear model's data needs first, with scikit-learn's names, on rows that need not fit in memory.

`StandardScaler` and `OneHotEncoder` learn from one pass over the rows and transform lazily what is lazy (Dask arrays,
Zarr arrays, DataArrays), in the tasks of whoever reads the result, so that nothing is stored wide. What is in memory
(NumPy, pandas) they transform at once. `train_test_split` splits rows by a hash of their number.
"""

try:
    import sklearn  # noqa: F401
except ImportError as error:
    raise ImportError(
        "dask_gd.preprocessing needs scikit-learn, which is not installed: pip install 'dask_gd[sklearn]'."
    ) from error

from .encoder import OneHotEncoder
from .scaler import StandardScaler
from .split import train_test_split

__all__ = ["OneHotEncoder", "StandardScaler", "train_test_split"]
