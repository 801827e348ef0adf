"""``python -m dask_gd`` is the command ``dask-gd``."""

from .cli import main

if __name__ == "__main__":
    main()
