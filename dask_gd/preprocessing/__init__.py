"""Preparation of data for a linear model, with scikit-learn's names, on rows that need not fit in memory.

`StandardScaler` and `OneHotEncoder` learn from a pass over the rows. They transform lazy data (Dask arrays, Zarr
arrays, DataArrays) lazily, in the tasks that read the result, so that no wide data is stored. They transform data in
memory (NumPy, pandas) at once. `OrdinalEncoder` and `TargetEncoder` put numbers in the place of strings and categories
of data frames. `train_test_split` splits rows by a hash of their number.
"""

# Before any module imports scikit-learn itself, so that the error names the extra that installs it.
try:
    import sklearn  # noqa: F401
except ImportError as error:
    raise ImportError(
        "dask_gd.preprocessing needs scikit-learn, which is not installed: pip install 'dask_gd[sklearn]'."
    ) from error

from .encoder import OneHotEncoder
from .ordinal import OrdinalEncoder
from .scaler import StandardScaler
from .split import train_test_split
from .target_encoder import TargetEncoder

__all__ = ["OneHotEncoder", "OrdinalEncoder", "StandardScaler", "TargetEncoder", "train_test_split"]
