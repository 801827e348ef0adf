"""What the benchmarks share: making data, its optimum, a small cluster, a table, and the outcome as an exit code."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import zarr
from distributed import Client, LocalCluster
from zarr.codecs import BloscCodec, ZstdCodec

logging.getLogger("dask_gd").setLevel(logging.ERROR)  # the data made here has no checksums, on purpose

CODECS = {"none": None, "lz4": BloscCodec(cname="lz4", shuffle="shuffle"), "zstd": ZstdCodec(level=3)}


def arguments(doc: str) -> argparse.ArgumentParser:
    """A parser with the options that every benchmark has."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, help="where the data is made and kept; default a temporary directory")
    parser.add_argument("--output", type=Path, help="write the result here as JSON")
    return parser


@contextlib.contextmanager
def scratch(directory: Path | None) -> Iterator[Path]:
    """The given directory, or a temporary one that is removed at the end."""
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
        yield directory
    else:
        with tempfile.TemporaryDirectory() as temporary:
            yield Path(temporary)


def make_problem(
    directory: Path, rows: int, features: int, chunk_rows: int, codec: str = "none", seed: int = 0
) -> Path:
    """A Zarr group of float64 ``x`` (rows, features), 0/1 ``y`` and real ``z`` (rows,), written chunk by chunk.

    Features are correlated, of unit variance, with means between 1 and 2. The targets follow a linear model with
    an intercept; the first two rows have different classes. Data that is already there is used again.
    """
    path = directory / f"problem-{rows}x{features}-{chunk_rows}-{codec}-{seed}.zarr"
    if path.exists() and zarr.open_group(path, mode="r").attrs.get("complete"):
        return path
    group = zarr.open_group(path, mode="w", zarr_format=3)
    options = {"dtype": "f8", "compressors": CODECS[codec], "config": {"write_empty_chunks": True}}
    x = group.create_array("x", shape=(rows, features), chunks=(chunk_rows, features), **options)
    y, z = (group.create_array(name, shape=(rows,), chunks=(chunk_rows,), **options) for name in "yz")
    w = np.random.default_rng(seed).normal(size=features) / np.sqrt(features)
    means = 1.0 + np.arange(features) / features
    for chunk, start in enumerate(range(0, rows, chunk_rows)):
        rng, n = np.random.default_rng([seed, chunk]), min(chunk_rows, rows - start)
        block = rng.normal(size=(n, features))
        block = 0.9 * block + 0.435 * rng.normal(size=(n, 1)) + means
        eta = (block - means) @ w - 0.5
        classes = (rng.random(n) < 1 / (1 + np.exp(-eta))).astype(float)
        for row in range(max(0, 2 - start)):
            classes[row : row + 1] = start + row
        x[start : start + n], y[start : start + n] = block, classes
        z[start : start + n] = eta + rng.normal(size=n)
    group.attrs["complete"] = True
    return path


def make_classes(path: Path, classes: int = 10, seed: int = 0) -> None:
    """Add ``c`` (rows,), one of so many classes for each row of a problem, drawn from a softmax of its features."""
    group = zarr.open_group(path)
    if "c" in group:
        return
    x = group["x"]
    w = np.random.default_rng([seed, classes]).normal(size=(x.shape[1], classes)) / np.sqrt(x.shape[1])
    c = np.empty(x.shape[0])
    for start in range(0, len(c), x.chunks[0]):
        z = x[start : start + x.chunks[0]] @ w
        # The largest of predictions with Gumbel's noise has the softmax's probabilities.
        c[start : start + len(z)] = (z + np.random.default_rng([seed, start]).gumbel(size=z.shape)).argmax(axis=1)
    group.create_array("c", data=c, chunks=(x.chunks[0],), compressors=None, config={"write_empty_chunks": True})


def make_amounts(path: Path, seed: int = 0) -> None:
    """Add counts ``n`` and positive amounts ``g`` (rows,) to a problem, of Poisson and Gamma distributions."""
    group = zarr.open_group(path)
    if "g" in group:
        return
    x = group["x"]
    p = x.shape[1]
    w = np.random.default_rng([seed, 3]).normal(size=p) / (2 * np.sqrt(p))
    means = 1.0 + np.arange(p) / p
    counts = np.empty(x.shape[0])
    amounts = np.empty(x.shape[0])
    for start in range(0, len(counts), x.chunks[0]):
        z = (x[start : start + x.chunks[0]] - means) @ w + 0.5
        rng = np.random.default_rng([seed, start])
        counts[start : start + len(z)] = rng.poisson(np.exp(z))
        amounts[start : start + len(z)] = rng.gamma(2.0, np.exp(z) / 2)
    options = {"chunks": (x.chunks[0],), "compressors": None, "config": {"write_empty_chunks": True}}
    group.create_array("n", data=counts, **options)
    group.create_array("g", data=amounts, **options)


def forget(path: Path) -> None:
    """Ask the system to drop the files from its page cache."""
    for file in path.rglob("*"):
        if file.is_file():
            descriptor = os.open(file, os.O_RDONLY)
            with contextlib.closing(os.fdopen(descriptor)):
                os.fsync(descriptor)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


@contextlib.contextmanager
def cluster(workers: int, memory: str) -> Iterator[Client]:
    """A fresh cluster of single-threaded worker processes that listens on this machine only."""
    with (
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            memory_limit=memory,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
        ) as local,
        Client(local) as client,
    ):
        yield client


def objective(x: zarr.Array, y: zarr.Array, loss: str, w: np.ndarray, alpha: float = 0.0, curvature: bool = False):
    """The mean loss at (p + 1,) parameters, the intercept last, and ``alpha`` times the coefficients' absolute values.

    Of the softmax loss the parameters are (p + 1, classes), and its gradient and Hessian those of the raveled ones.
    With ``curvature`` the mean loss's gradient and Hessian too. Plain NumPy, one chunk at a time, in float64 whatever
    the data's dtype.
    """
    n, step = x.shape[0], x.chunks[0]
    by_output = w.reshape(len(w), -1)
    total, gradient, hessian = 0.0, np.zeros(by_output.shape), np.zeros(2 * by_output.shape)
    for start in range(0, n, step):
        block, target = (array[start : start + step].astype(float, copy=False) for array in (x, y))
        value, slope, curve = OBJECTIVES[loss](block @ by_output[:-1] + by_output[-1], target)
        total += value
        if curvature:
            block = np.column_stack([block, np.ones(len(block))])
            gradient += block.T @ slope
            for i, j in np.ndindex(curve.shape[1:]):
                if i <= j:
                    hessian[:, i, :, j] += block.T @ (curve[:, i, j, None] * block)
    for i, j in zip(*np.tril_indices(by_output.shape[1], -1), strict=True):
        hessian[:, i, :, j] = hessian[:, j, :, i]
    value = total / n + alpha * np.abs(w[:-1]).sum()
    return (value, gradient.ravel() / n, hessian.reshape(w.size, w.size) / n) if curvature else value


def squared(z: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """The summed loss of (n, k) predictions, its (n, k) slopes and (n, k, k) curvatures; so do the next two."""
    slope = z - y[:, None]
    return (slope**2).sum() / 2, slope, np.ones((*z.shape, 1))


def logistic(z: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    mean = 1 / (1 + np.exp(-z))
    return (np.logaddexp(0.0, z) - y[:, None] * z).sum(), mean - y[:, None], (mean * (1 - mean))[:, :, None]


def softmax(z: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    z = z - z.max(axis=1, keepdims=True)
    shares = np.exp(z)
    sums = shares.sum(axis=1, keepdims=True)
    shares /= sums
    hit = y[:, None] == np.arange(z.shape[1])
    curve = shares[:, :, None] * (np.eye(z.shape[1]) - shares[:, None, :])
    return np.log(sums).sum() - z[hit].sum(), shares - hit, curve


def poisson(z: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Half the deviance, which is 0 where the prediction is the target; so is the next."""
    y = y[:, None]
    mean = np.exp(z)
    value = mean - y + y * (np.log(np.maximum(y, 1.0)) - z)
    return value.sum(), mean - y, mean[:, :, None]


def gamma(z: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    share = y[:, None] / np.exp(z)
    return (share - np.log(share) - 1).sum(), 1 - share, share[:, :, None]


OBJECTIVES = {"squared": squared, "logistic": logistic, "softmax": softmax, "poisson": poisson, "gamma": gamma}
#: The targets of a problem for each loss.
TARGETS = {"squared": "z", "logistic": "y", "softmax": "c", "poisson": "n", "gamma": "g"}


def optimum(x: zarr.Array, y: zarr.Array, loss: str, alpha: float = 0.0) -> float:
    """The least objective: Newton's method until what a step gains is nothing next to a suboptimality of 1e-8.

    The softmax loss starts from the optimum of a twentieth of the rows: a step costs a product for each two classes.
    """
    if alpha:
        return lasso_optimum(x, y, np.zeros(x.shape[1] + 1), alpha)
    w = np.zeros(x.shape[1] + 1)
    if loss == "softmax":
        first = [zarr.array(array[: y.shape[0] // 20]) for array in (x, y)]
        w = newton(*first, loss, np.zeros((len(w), 1 + int(max(y[:])))))[1]
    return newton(x, y, loss, w)[0]


def newton(x: zarr.Array, y: zarr.Array, loss: str, w: np.ndarray) -> tuple[float, np.ndarray]:
    """The least objective and its parameters, from ``w``; a step that leads upwards is halved."""
    step, least = np.zeros(w.shape), np.inf
    while True:
        value, gradient, hessian = objective(x, y, loss, w - step, curvature=True)
        if not value <= least:
            step = step / 2
            continue
        w, least = w - step, value
        step = np.linalg.lstsq(hessian, gradient)[0].reshape(w.shape)
        if gradient @ step.ravel() <= 1e-12 * value:
            return value, w


def lasso_optimum(x: zarr.Array, y: zarr.Array, w: np.ndarray, alpha: float) -> float:
    """By scikit-learn, to its last digits, on as many rows as there are features that have the data's moments."""
    from sklearn.linear_model import Lasso

    _, gradient, hessian = objective(x, y, "squared", w, curvature=True)
    means, p = hessian[-1, :-1], len(w) - 1
    root = np.linalg.cholesky(hessian[:-1, :-1] - np.outer(means, means)).T * np.sqrt(p)
    target = p * np.linalg.solve(root.T, means * gradient[-1] - gradient[:-1])
    found = Lasso(alpha, fit_intercept=False, tol=1e-14, max_iter=10**6).fit(root, target).coef_
    return float(objective(x, y, "squared", np.append(found, -gradient[-1] - means @ found), alpha))


def machine() -> str:
    """Where and with what this was measured, in one line."""
    packages = ("dask_gd", "dask", "distributed", "zarr", "numpy")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    date = datetime.now(UTC).date().isoformat()
    return f"{date}, {os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}, {versions}"


def table(header: tuple[str, ...], rows: list[tuple]) -> str:
    """A Markdown table; floats with four digits."""
    cells = [header, *([f"{c:.4g}" if isinstance(c, float) else str(c) for c in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |" for row in cells]
    return "\n".join([lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]])


def finish(
    title: str,
    header: tuple[str, ...],
    rows: list[tuple],
    verdicts: dict[str, bool],
    output: Path | None,
    details: dict | None = None,
):
    """Print the table and the verdicts, write the JSON, with ``details``, and exit: 1 if a target was missed."""
    print(f"\n{title}\n{machine()}\n\n{table(header, rows)}\n")
    for target, met in verdicts.items():
        print(f"{'met   ' if met else 'MISSED'} {target}")
    if output is not None:
        result = {"title": title, "machine": machine(), "targets": {t: bool(m) for t, m in verdicts.items()}}
        result["rows"] = [dict(zip(header, row, strict=True)) for row in rows]
        result |= details or {}
        output.write_text(json.dumps(result, indent=2) + "\n")
    sys.exit(0 if all(verdicts.values()) else 1)


def in_turns(doc: str, title: str, header: tuple[str, ...], measure: Callable, repeat: int) -> None:
    """The script of a benchmark whose ``measure(directory, repeat)`` gives the table's rows and the verdicts."""
    parser = arguments(doc)
    parser.add_argument("--repeat", type=int, default=repeat)
    args = parser.parse_args()
    with scratch(args.directory) as directory:
        rows, verdicts = measure(directory, args.repeat)
    finish(title, header, rows, verdicts, args.output)
