"""Offer callbacks for users: stop early on rows held out, log to a file, keep every n-th iteration."""

from __future__ import annotations

import csv
import json
import os
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from . import passes
from .display.texts import size
from .errors import InvalidArgumentError
from .events import Ended, FitEnded, FitStarted, IterationEnded, Listener, OfIteration, Started, Stepped, StopFit
from .kernels.base import Request, Sums
from .kernels.shift import read_shifted
from .model.losses import Model
from .results.features import source_of_fit
from .results.fit_result import FitResult
from .results.lazy_weights import WHOLE_BYTES
from .sources import Source, as_source
from .sources.frames import frame_of, may_have_factors
from .store.store import Store
from .validate import is_whole

__all__ = ["Checkpoint", "EarlyStopping", "LogFile"]


class EarlyStopping(Listener):
    """End a fit whose mean loss on rows held out has not fallen for a number of iterations.

    The loss is ``sum s L(y, x w + b) / sum s`` over these rows, without the penalty; it takes a pass over them after
    each iteration. A fit that is resumed from a store stops where it would have stopped without the interruption.

    Parameters
    ----------
    x, y, data
        Rows held out, of any kind that `dask_gd.fit` takes; ``data`` are its arguments ``sample_weight``, ``offset``,
        ``nan``, and for a Dataset ``features``, ``target`` and ``sample_dims``.
    patience : int
        Iterations, 1 or more, to wait after the best for a better iteration.
    min_delta : float
        A loss is better if it is less than the best by more than this.

    Attributes
    ----------
    losses : list of float
        On the rows held out, for each iteration: all, unless the fit was begun without this callback.
    best_iteration : int
    best : FitResult
        The model of the best iteration. The fit itself returns the model of the last.

    Raises
    ------
    InvalidArgumentError
        For rows that do not suit the fit, when the fit starts or here.

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
        # Refuse arguments before a fit starts.
        if not is_whole(patience, least=1):
            raise InvalidArgumentError(f"EarlyStopping(patience={patience!r}): a whole number, 1 or more.")
        if not 0 <= min_delta < float("inf"):
            raise InvalidArgumentError(f"EarlyStopping(min_delta={min_delta!r}): a finite number, 0 or more.")
        # The levels of a data frame are those of the fit, which its first iteration knows.
        self._frame: tuple[Any, ...] | None = None
        self.source: Source | None = None
        frame = frame_of(x)
        # The formula of a fit, which names the target, is known then too.
        has_target = y is not None or data.get("target") is not None
        has_levels = frame is not None and (may_have_factors(frame) or data.get("categorical") is not None)
        if frame is not None and (has_levels or not has_target):
            self._frame = (frame, y, data)
        else:
            weight = data.pop("sample_weight", None)
            self.source = as_source(x, y, weight, **data)
        self.patience = patience
        self.min_delta = min_delta
        self.run = uuid.uuid4().hex[:8]
        self.passes = 0
        # Subtracted from the rows held out; known from the first pass.
        self._shift: np.ndarray | None = None
        self._clear()

    def _clear(self) -> None:
        """Forget the fit before."""
        # By iteration: a resumed fit may have begun without this callback.
        self._losses: dict[int, float] = {}
        self.best_iteration = 0
        self._best = np.zeros((0, 0))
        self._restored = False
        self._result: FitResult | None = None

    @property
    def losses(self) -> list[float]:
        """Mean losses on the rows held out, by iteration."""
        return list(self._losses.values())

    def stepped(self, event: Stepped) -> None:
        """Evaluate an iteration on the rows held out; raise StopFit where the loss has not fallen for long enough."""
        if not isinstance(event, IterationEnded):
            return
        # An iteration of a resumed fit may have been evaluated before.
        result = event.result
        n = event.iteration
        before = {i: loss for i, loss in self._losses.items() if i < n}
        loss = self._loss(result)
        self._losses = {**before, n: loss}
        self._result = result
        # Compare with the best before.
        best = before.get(self.best_iteration, np.nan)
        if np.isnan(best) or loss < best - self.min_delta:
            self.best_iteration = n
            self._best = result.parameters
        if n - self.best_iteration >= self.patience:
            raise StopFit("early_stopping")

    def started(self, event: Started) -> None:
        """Begin anew unless the fit is resumed, and refuse rows that do not suit the fit."""
        if not isinstance(event, FitStarted):
            return
        _check_blocks("EarlyStopping keeps the weights of the best iteration", event)
        if not self._restored:
            self._clear()
        self._restored = False
        # The fit may have reference levels, which its result tells.
        if self.source is None or getattr(self.source.x, "drops", False):
            return
        features = self.source.shape[1]
        outputs = self.source.outputs or 1
        if (features, outputs) != (event.features, event.outputs):
            raise InvalidArgumentError(
                f"EarlyStopping: the rows held out have {features} features and {outputs} outputs; those of the fit "
                f"{event.features} and {event.outputs}."
            )

    def _loss(self, result: FitResult) -> float:
        """Return the mean loss on the rows held out."""
        source = self._source_of(result)
        p = len(result.weights)
        query = result.parameters[:, :, None]
        if not result.fit_intercept:
            query = query[:p]
        query = np.ascontiguousarray(query)
        # The first pass finds the shift; a model takes its rows as they are.
        needs_moments = self.passes == 0 and not isinstance(result.loss, Model)

        def read(query: np.ndarray, shift: np.ndarray | None) -> Sums:
            self.passes += 1
            request = Request(moments=needs_moments, shift=shift)
            return passes.evaluate(source, query, result.loss, request, self.run, self.passes)

        sums, self._shift = read_shifted(read, query, self._shift, source.row_format)
        if sums.weight <= 0:
            raise InvalidArgumentError("EarlyStopping: the weights of the rows held out sum to 0.")
        return float(sums.loss[0] / sums.weight)

    def _source_of(self, result: FitResult) -> Source:
        """Return the rows held out, with the levels and the features of the fit."""
        if self.source is None:
            assert self._frame is not None
            frame, y, data = self._frame
            options = {name: value for name, value in data.items() if name != "categorical"}
            if result.formula is not None:
                own = {name: value for name, value in options.items() if name not in ("features", "target")}
                source = as_source(frame, y, formula=result.formula, **own)
            else:
                source = as_source(frame, y, encoding=result.encoding, predicts=True, **options)
        else:
            source = source_of_fit(self.source, result.encoding, result.column_names, "EarlyStopping")
        if source.shape[1] != len(result.weights):
            raise InvalidArgumentError(
                f"EarlyStopping: the rows held out have {source.shape[1]} features; those of the fit "
                f"{len(result.weights)}."
            )
        return source

    @property
    def best(self) -> FitResult:
        """Model of the best iteration."""
        if self._result is None:
            raise AttributeError("best is that of a fit, of which this callback has not heard yet.")
        # The last result has the shapes and the names; the weights and the history are those of the best.
        result = self._result
        p = len(result.weights)
        weights = self._best[:p].reshape(result.weights.shape)
        intercept = self._best[p].reshape(result.intercept.shape)
        return replace(
            result,
            weights=result.weights.copy(data=weights),
            intercept=result.intercept.copy(data=intercept),
            history=result.history.isel(iteration=slice(self.best_iteration + 1)),
            n_iter=self.best_iteration,
        )

    def state(self) -> dict[str, np.ndarray]:
        """Return the arrays that a resumed fit needs."""
        # Without a loss there is nothing to go on from.
        if not self._losses:
            return {}
        losses = np.array(list(self._losses.items()))
        return {"losses": losses, "iteration": np.array(self.best_iteration), "best": self._best}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Take the arrays of `state` back."""
        # The event that the fit has started follows, and must not clear this.
        self._losses = {int(i): loss for i, loss in arrays["losses"].tolist()}
        self.best_iteration = int(arrays["iteration"])
        self._best = arrays["best"]
        self._restored = True


def _check_blocks(what: str, event: FitStarted) -> None:
    """Refuse weights in blocks that are too many to come together in this process; ``what`` would need them there."""
    nbytes = 8 * event.features * event.outputs
    if event.blocks and nbytes > WHOLE_BYTES:
        raise InvalidArgumentError(
            f"{what} in this process; those of this fit are in {event.blocks} blocks on the workers, {size(nbytes)}. "
            f"Up to {size(WHOLE_BYTES)} are brought here. Iterations in the fit's store=... have all blocks; your own "
            "callback may look at the loss, or at some of event.result.weights, and raise dask_gd.events.StopFit."
        )


class LogFile(Listener):
    """Write a line for each iteration of a fit, or each pass of a search, to a file.

    A fit begins the file anew; a resumed fit continues it, without gaps or lines that come twice.

    Parameters
    ----------
    path : path
        Ends with ``.csv`` for comma-separated values with a header, ``.jsonl`` for an object of JSON in each line.

    Raises
    ------
    InvalidArgumentError
        For another suffix, or a directory that does not exist.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "fit.csv"
    >>> x = np.array([[0.0], [1.0], [2.0]])
    >>> run = dask_gd.fit(x, np.array([1.0, 3.0, 5.0]), callbacks=[dask_gd.callbacks.LogFile(path)])
    >>> path.read_text().splitlines()[0]
    'iteration,loss,grad_norm,step_size,passes,rows,bytes_read,seconds,full_passes'
    """

    def __init__(self, path: str | os.PathLike):
        # Refuse a path before a fit starts.
        self.path = Path(path)
        if self.path.suffix not in (".csv", ".jsonl"):
            raise InvalidArgumentError(f"LogFile({str(path)!r}): the name must end with .csv or .jsonl.")
        if not self.path.parent.is_dir():
            raise InvalidArgumentError(f"LogFile({str(path)!r}): there is no directory {self.path.parent}.")

    def started(self, event: Started) -> None:
        """Remove the lines of another run, and those of this run that its store does not have."""
        self._truncate(event.resumed_from or 0)

    def stepped(self, event: Stepped) -> None:
        """Write a line for an iteration or a round, after the lines of those before."""
        # A resumed fit repeats its last iteration, which may have been written.
        if isinstance(event, IterationEnded):
            self._truncate(event.iteration)
        row = event.as_message()
        for name in ("event", "kind", "run"):
            del row[name]
        self._append(row)

    def _append(self, row: dict[str, Any]) -> None:
        """Write a line, in the format of the file."""
        # JSON needs no header.
        with open(self.path, "a", newline="") as file:
            if self.path.suffix == ".jsonl":
                finite = {name: _finite(value) for name, value in row.items()}
                file.write(json.dumps(finite) + "\n")
                return
            if file.tell() == 0:
                csv.writer(file).writerow(row)
            # A file that another version has begun may have fewer columns.
            with open(self.path, newline="") as begun:
                columns = next(csv.reader(begun), list(row))
            csv.DictWriter(file, columns, extrasaction="ignore").writerow(row)

    def _truncate(self, iteration: int) -> None:
        """Remove the lines from this iteration on, if the file has them; at the start, the header as well."""
        # Iteration n follows n lines, and the header of a file of comma-separated values.
        if not self.path.exists():
            return
        lines = iteration
        if iteration and self.path.suffix == ".csv":
            lines += 1
        with open(self.path, "r+", newline="") as file:
            for _ in range(lines):
                file.readline()
            file.truncate(file.tell())

    def state(self) -> dict[str, np.ndarray]:
        """Return nothing. A resumed fit repeats the event of its last iteration, which may not have been written."""
        return {}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Take nothing back."""


def _finite(value: float) -> float | None:
    """Return None for NaN and infinity, which JSON does not know."""
    return value if np.isfinite(value) else None


class Checkpoint(Listener):
    """Keep every n-th iteration of a fit, and the last, in a directory of their own. Nothing is kept of searches.

    ``dask_gd.fit(..., store=path)`` commits every iteration and keeps the newest few, to resume from. This callback
    keeps iterations for good, whether or not there is a store. `dask_gd.load` reads the newest; each is a zipped Zarr
    group.

    Parameters
    ----------
    path : path
        A directory, made if it does not exist; not the fit's store, nor one with iterations of another fit.
    every : int
        Iterations from a kept iteration to the next.

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
        if not is_whole(every, least=1):
            raise InvalidArgumentError(f"Checkpoint(every={every!r}): a whole number, 1 or more.")
        self.store = Store(path, keep=None)
        self.every = every

    def started(self, event: Started) -> None:
        """Refuse the fit's store, and a directory with iterations of another fit."""
        if event.kind != "fit":
            return
        if isinstance(event, FitStarted):
            _check_blocks("Checkpoint writes the weights of an iteration", event)
        path = self.store.path
        if event.store is not None and path.resolve() == Path(event.store).resolve():
            raise InvalidArgumentError(f"Checkpoint({str(path)!r}) is the fit's store; choose another.")
        # A resumed fit has made the iterations up to its own.
        kept = self.store.iterations()
        if kept and (event.resumed_from is None or kept[-1] > event.resumed_from):
            raise InvalidArgumentError(f"Checkpoint({str(path)!r}) holds iterations of another fit; choose another.")

    def stepped(self, event: Stepped) -> None:
        """Keep an iteration, if it is its turn."""
        if isinstance(event, IterationEnded) and event.iteration % self.every == 0:
            self._keep(event)

    def ended(self, event: Ended) -> None:
        """Keep the last iteration."""
        if isinstance(event, FitEnded):
            self._keep(event)

    def _keep(self, event: OfIteration) -> None:
        """Commit an iteration."""
        with self.store as store:
            store.commit(event.checkpoint)

    def state(self) -> dict[str, np.ndarray]:
        """Return nothing. A resumed fit repeats the event of its last iteration, which may not have been kept."""
        return {}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Take nothing back."""
