"""Callbacks for users: stop early on rows held out, log to a file, keep every so many iterations."""

from __future__ import annotations

import csv
import json
import os
import uuid
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from . import passes
from .errors import InvalidArgumentError
from .events import Event, FitEnded, FitStarted, IterationEnded, RoundEnded, SearchStarted, StopFit
from .kernels.base import Request, Sums
from .kernels.shift import read_shifted
from .model.losses import Model
from .results.fit_result import FitResult
from .sources import as_source
from .store.store import Store

__all__ = ["Checkpoint", "EarlyStopping", "LogFile"]


class EarlyStopping:
    """End a fit whose mean loss on rows held out has not fallen for some iterations.

    The loss is ``sum s L(y, x w + b) / sum s`` over these rows, without the penalty; it takes a pass over them after
    each iteration. A fit that is resumed from a store stops where it would have stopped without the interruption.

    Parameters
    ----------
    x, y, data
        Rows held out, of any kind that `dask_gd.fit` takes; ``data`` are its arguments ``sample_weight``, ``offset``,
        ``nan``, and of a Dataset ``features``, ``target`` and ``sample_dims``.
    patience : int
        Iterations, 1 or more, after the best for which to wait for a better one.
    min_delta : float
        A loss is better if it is less than the best by more than this.

    Attributes
    ----------
    losses : list of float
        On the rows held out, of each iteration that it has heard about: all, but of a fit that was begun without it.
    best_iteration : int
    best : FitResult
        The model of the best iteration. What the fit itself gives back is that of the last.

    Raises
    ------
    InvalidArgumentError
        Of rows that do not suit the fit, when that starts or here.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x, y = rng.normal(size=(60, 40)), rng.normal(size=60)
    >>> stopping = dask_gd.callbacks.EarlyStopping(x[40:], y[40:], patience=3)
    >>> run = dask_gd.fit(x[:40], y[:40], solver="gradient_descent", callbacks=[stopping])
    >>> run.reason, run.n_iter - stopping.best_iteration, stopping.best.n_iter == stopping.best_iteration
    ('early_stopping', 3, True)
    """

    def __init__(self, x: Any, y: Any = None, *, patience: int = 5, min_delta: float = 0.0, **data: Any):
        if isinstance(patience, bool) or not isinstance(patience, int) or patience < 1:
            raise InvalidArgumentError(f"EarlyStopping(patience={patience!r}): a whole number, 1 or more.")
        if not 0 <= min_delta < float("inf"):
            raise InvalidArgumentError(f"EarlyStopping(min_delta={min_delta!r}): a finite number, 0 or more.")
        weight = data.pop("sample_weight", None)
        self.source = as_source(x, y, weight, **data)
        self.patience = patience
        self.min_delta = min_delta
        self.run = uuid.uuid4().hex[:8]
        self.passes = 0
        # Subtracted from the rows held out; the first look tells what it is.
        self._shift: np.ndarray | None = None
        self._clear()

    def _clear(self) -> None:
        # By iteration: a resumed fit may have begun without this callback.
        self._losses: dict[int, float] = {}
        self.best_iteration = 0
        self._best = np.zeros((0, 0))
        self._restored = False
        self._result: FitResult | None = None

    @property
    def losses(self) -> list[float]:
        return list(self._losses.values())

    def __call__(self, event: Event) -> None:
        """Look at an iteration; raises StopFit if it is time."""
        if isinstance(event, FitStarted):
            if not self._restored:
                self._clear()
            self._restored = False
            held = self.source.shape[1], self.source.outputs or 1
            if held != (event.features, event.outputs):
                raise InvalidArgumentError(
                    f"EarlyStopping: the rows held out have {held[0]} features and {held[1]} outputs; those of the fit "
                    f"{event.features} and {event.outputs}."
                )
        if not isinstance(event, IterationEnded):
            return
        result = event.result
        n = event.iteration
        # One that is resumed may have been looked at before.
        before = {i: loss for i, loss in self._losses.items() if i < n}
        loss = self._loss(result)
        self._losses = {**before, n: loss}
        self._result = result
        best = before.get(self.best_iteration, np.nan)
        if np.isnan(best) or loss < best - self.min_delta:
            self.best_iteration = n
            self._best = result.parameters
        if n - self.best_iteration >= self.patience:
            raise StopFit("early_stopping")

    def _loss(self, result: FitResult) -> float:
        w = result.parameters[:, :, None]
        p = len(result.weights)
        at = np.ascontiguousarray(w if result.fit_intercept else w[:p])

        first = self.passes == 0 and not isinstance(result.loss, Model)

        def read(query: np.ndarray, shift: np.ndarray | None) -> Sums:
            self.passes += 1
            request = Request(moments=first, shift=shift)
            return passes.evaluate(self.source, query, result.loss, request, self.run, self.passes)

        sums, self._shift = read_shifted(read, at, self._shift, p, self.source.dtype)
        if sums.weight <= 0:
            raise InvalidArgumentError("EarlyStopping: the weights of the rows held out sum to 0.")
        return float(sums.loss[0] / sums.weight)

    @property
    def best(self) -> FitResult:
        if self._result is None:
            raise AttributeError("best is that of a fit, of which this callback has not heard yet.")
        result = self._result
        w = self._best
        p = len(result.weights)
        history = result.history.isel(iteration=slice(self.best_iteration + 1))
        coefficients = w[:p].reshape(result.weights.shape)
        return replace(
            result,
            weights=result.weights.copy(data=coefficients),
            intercept=result.intercept.copy(data=w[p].reshape(result.intercept.shape)),
            history=history,
            n_iter=self.best_iteration,
        )

    def state(self) -> dict[str, np.ndarray]:
        """What a resumed fit needs."""
        if not self._losses:
            return {}
        told = np.array(list(self._losses.items()))
        return {"losses": told, "iteration": np.array(self.best_iteration), "best": self._best}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Take it back."""
        self._losses = {int(i): loss for i, loss in arrays["losses"].tolist()}
        self.best_iteration = int(arrays["iteration"])
        self._best = arrays["best"]
        self._restored = True


class LogFile:
    """Write a line for each iteration of a fit, or each pass of a search, to a file.

    A fit begins the file anew; one that is resumed goes on with it, without gaps or lines that come twice.

    Parameters
    ----------
    path : path
        Ends with ``.csv`` for comma-separated values with a header, ``.jsonl`` for an object of JSON in each line.

    Raises
    ------
    InvalidArgumentError
        Another suffix, or a directory that does not exist.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "fit.csv"
    >>> x = np.array([[0.0], [1.0], [2.0]])
    >>> run = dask_gd.fit(x, np.array([1.0, 3.0, 5.0]), callbacks=[dask_gd.callbacks.LogFile(path)])
    >>> path.read_text().splitlines()[0]
    'iteration,loss,grad_norm,step_size,passes,rows,bytes_read,seconds'
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        if self.path.suffix not in (".csv", ".jsonl"):
            raise InvalidArgumentError(f"LogFile({str(path)!r}): the name must end with .csv or .jsonl.")
        if not self.path.parent.is_dir():
            raise InvalidArgumentError(f"LogFile({str(path)!r}): there is no directory {self.path.parent}.")

    def __call__(self, event: Event) -> None:
        """Write a line."""
        if isinstance(event, FitStarted | SearchStarted):
            resumed = getattr(event, "resumed_from", None)
            self._keep(0 if resumed is None else resumed)
        elif isinstance(event, IterationEnded | RoundEnded):
            if isinstance(event, IterationEnded):
                self._keep(event.iteration)
            row = {f.name: getattr(event, f.name) for f in fields(event) if f.name != "run"}
            with open(self.path, "a", newline="") as file:
                if self.path.suffix == ".jsonl":
                    file.write(json.dumps({name: _finite(value) for name, value in row.items()}) + "\n")
                    return
                writer = csv.DictWriter(file, row)
                if file.tell() == 0:
                    writer.writeheader()
                writer.writerow(row)

    def _keep(self, lines: int) -> None:
        """Leave out what is written of the iterations from this one on, if it is."""
        header = self.path.suffix == ".csv"
        if not self.path.exists():
            return
        with open(self.path, "r+", newline="") as file:
            for _ in range(lines + header if lines else 0):
                file.readline()
            file.truncate(file.tell())

    def state(self) -> dict[str, np.ndarray]:
        """None; but a resumed fit tells of its last iteration, which may not have been written."""
        return {}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Nothing to take back."""


def _finite(value: float) -> float | None:
    """JSON knows neither NaN nor infinity."""
    return value if np.isfinite(value) else None


class Checkpoint:
    """Keep every so many iterations of a fit, and the last, in a directory of their own. Of searches nothing is kept.

    ``dask_gd.fit(..., store=path)`` commits every iteration and keeps the newest few, to resume from; this keeps some
    for good, whether or not there is a store. `dask_gd.load` reads the newest; each is a zipped Zarr group.

    Parameters
    ----------
    path : path
        A directory, made if it does not exist; not the fit's store, nor one with iterations of another fit.
    every : int
        Iterations from one to the next.

    Examples
    --------
    >>> import tempfile
    >>> keep = dask_gd.callbacks.Checkpoint(tempfile.mkdtemp(), every=2)
    >>> x = np.array([[0.0], [1.0], [2.0]])
    >>> options = {"solver": "adam", "max_iter": 5}
    >>> run = dask_gd.fit(x, np.array([1.0, 3.0, 5.0]), **options, callbacks=[keep])
    >>> keep.store.iterations()
    [0, 2, 4, 5]
    """

    def __init__(self, path: str | os.PathLike, every: int = 10):
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise InvalidArgumentError(f"Checkpoint(every={every!r}): a whole number, 1 or more.")
        self.store = Store(path, keep=None)
        self.every = every

    def __call__(self, event: Event) -> None:
        """Keep an iteration, if it is its turn."""
        if isinstance(event, FitStarted):
            self._check(event)
        elif isinstance(event, FitEnded) or (isinstance(event, IterationEnded) and event.iteration % self.every == 0):
            self._keep(event)

    def _check(self, event: FitStarted) -> None:
        path = self.store.path
        if event.store is not None and path.resolve() == Path(event.store).resolve():
            raise InvalidArgumentError(f"Checkpoint({str(path)!r}) is the fit's store; choose another.")
        kept = self.store.iterations()
        if kept and (event.resumed_from is None or kept[-1] > event.resumed_from):
            raise InvalidArgumentError(f"Checkpoint({str(path)!r}) holds iterations of another fit; choose another.")

    def _keep(self, event: IterationEnded | FitEnded) -> None:
        with self.store as store:
            store.commit(event.checkpoint)

    def state(self) -> dict[str, np.ndarray]:
        """None; but a resumed fit tells of its last iteration, which may not have been kept."""
        return {}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Nothing to take back."""
