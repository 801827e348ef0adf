"""Fixed effects by pyfixest and hdfe-stream, for `levels.py`, in an environment that has them.

    python benchmarks/levels_peers.py DIRECTORY LOSS

DIRECTORY has the columns of the rows as .npy files, as `levels.py` writes them. Prints JSON: for each peer that is
installed the seconds of a first and of a second fit, and the coefficients of the numbers.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

FORMULA = "y ~ x0 + x1 + x2 + x3 + x4 | worker + firm"


def columns_of(directory: Path) -> pd.DataFrame:
    """The rows as a frame."""
    x = np.load(directory / "x.npy")
    columns = {f"x{i}": x[:, i] for i in range(x.shape[1])}
    for name in ("worker", "firm", "y"):
        columns[name] = np.load(directory / f"{name}.npy")
    return pd.DataFrame(columns)


def with_pyfixest(directory: Path, loss: str):
    """Fit a frame in memory."""
    import pyfixest

    frame = columns_of(directory)
    if loss == "squared":
        return lambda: pyfixest.feols(FORMULA, frame, vcov="iid").coef().to_numpy()
    return lambda: pyfixest.feglm(FORMULA, frame, family="logit", vcov="iid").coef().to_numpy()


def with_hdfe_stream(directory: Path, loss: str):
    """Fit a Parquet file."""
    import hdfe_stream

    path = directory / "rows.parquet"
    columns_of(directory).to_parquet(path, row_group_size=100_000)
    options = {"workdir": str(directory / "hdfe"), "vcov": "iid"}
    if loss == "squared":
        return lambda: values_of(hdfe_stream.feols_stream(FORMULA, str(path), **options).coef())
    return lambda: values_of(hdfe_stream.feglm_stream(FORMULA, str(path), family="logit", **options).coef())


def values_of(coefficients: dict[str, float]) -> np.ndarray:
    return np.array(list(coefficients.values()))


def main() -> None:
    directory, loss = Path(sys.argv[1]), sys.argv[2]
    warnings.simplefilter("ignore")
    found = {}
    for name, make in {"pyfixest": with_pyfixest, "hdfe-stream": with_hdfe_stream}.items():
        try:
            fit = make(directory, loss)
            seconds = []
            for _ in range(2):
                began = time.perf_counter()
                coefficients = fit()
                seconds.append(time.perf_counter() - began)
            found[name] = {"seconds": seconds, "coefficients": np.ravel(coefficients).tolist()}
        except ImportError:
            continue
        except Exception as error:
            found[name] = {"error": f"{type(error).__name__}: {error}"[:200]}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
