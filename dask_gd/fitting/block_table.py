"""The fits of a search with weights in blocks that have ended: what is stored of them, and their Dataset."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from ..errors import StoreError
from ..results.stored_blocks import with_stored_weights
from ..store.block_files import DIRECTORY
from ..store.content import FORMAT, check_content, check_format, numbers, require
from ..store.store import Checkpoint, Store, check_same
from ..weight_blocks.manifest import Manifest
from ..weight_blocks.space import BlockSpace
from ..weight_blocks.vector import BlockVector
from .fold_track import ALL
from .search_data import Searched, coordinates_of, names_of, output_count
from .search_result import NOT_MADE

#: The directory within a store of the fits that have not ended.
FITS = "fits"


@dataclass
class Ended:
    """A fit that has ended."""

    candidate: int
    fold: int
    reason: str
    grad_norm: float
    losses: list[float]
    intercept: np.ndarray  # (k,)
    passes: float
    dropped: int
    holdout_loss: float = np.nan
    score: float = np.nan
    score_error: float = 0.0
    #: The weights' files as a manifest describes them; without a store the weights while their workers have them.
    described: dict[str, Any] | None = None
    vector: Any = None
    #: The weights as users see them, (p,) or (p, k).
    lazy: da.Array | None = None

    @property
    def key(self) -> tuple[int, int]:
        """The candidate and the fold."""
        return self.candidate, self.fold

    @cached_property
    def name(self) -> str:
        """What it is called in errors."""
        if self.fold == ALL:
            return f"candidate {self.candidate} on all rows"
        return f"candidate {self.candidate} without fold {self.fold}"


def checkpoint(ended: list[Ended], spec: dict[str, Any]) -> Checkpoint:
    """Return what a store has of the fits that have ended; the fields are those of any search."""
    arrays: dict[str, tuple[tuple[str, ...], np.ndarray]] = {"start": (("a", "b", "c"), np.zeros((0, 1, 1)))}
    trials = []
    for i, fit in enumerate(ended):
        trials.append([fit.candidate, fit.fold, fit.reason, float(fit.grad_norm)])
        losses = np.array(fit.losses)
        held = np.full(len(losses), np.nan)
        held[-1:] = fit.holdout_loss
        several = np.array([fit.passes, fit.dropped, fit.score_error])
        arrays[f"trials/{i}-losses"] = (("iteration",), losses)
        arrays[f"trials/{i}-held_losses"] = (("iteration",), held)
        arrays[f"trials/{i}-held"] = (("sum",), np.array([fit.holdout_loss, fit.score]))
        arrays[f"trials/{i}-intercept"] = (("output",), fit.intercept)
        arrays[f"trials/{i}-others"] = (("other",), several)
    fields = {
        "format": FORMAT,
        "spec": spec,
        "trials": trials,
        "blocks": [fit.described for fit in ended],
    }
    return Checkpoint(len(ended), {"dask_gd": fields}, arrays)


def check(stored: Checkpoint) -> None:
    """Refuse a checkpoint without what `restored` needs."""
    fields = stored.attributes["dask_gd"]
    blocks = fields.get("blocks")
    require(isinstance(blocks, list) and len(blocks) == len(fields["trials"]), "it does not say where its blocks are")
    for i in range(len(blocks)):
        require(isinstance(blocks[i], dict), f"it does not say where the blocks of trial {i} are")
        numbers(stored, f"trials/{i}-intercept")
        numbers(stored, f"trials/{i}-others", (3,))


def restored(stored: Checkpoint) -> list[Ended]:
    """Return the fits that a checkpoint holds."""
    arrays = {name: array for name, (_, array) in stored.arrays.items()}
    fields = stored.attributes["dask_gd"]
    ended = []
    for i, (candidate, fold, reason, grad_norm) in enumerate(fields["trials"]):
        holdout_loss, score = arrays[f"trials/{i}-held"].tolist()
        passes, dropped, score_error = arrays[f"trials/{i}-others"].tolist()
        ended.append(
            Ended(
                candidate,
                fold,
                reason,
                grad_norm=grad_norm,
                losses=arrays[f"trials/{i}-losses"].tolist(),
                intercept=arrays[f"trials/{i}-intercept"],
                passes=passes,
                dropped=int(dropped),
                holdout_loss=holdout_loss,
                score=score,
                score_error=score_error,
                described=fields["blocks"][i],
            )
        )
    return ended


def weights_in_files(fit: Ended, directory: str, edges: list[int], outputs: int | None) -> da.Array:
    """Return the weights of a fit whose blocks are in files, (p,) or (p, outputs), lazy."""
    assert fit.described is not None
    fields = {"blocks": {**fit.described, "state": {"weights": 0}}, "edges": edges}
    dims: tuple[str, ...] = ("output",)
    intercept = fit.intercept
    if outputs is None:
        dims = ()
        intercept = intercept[0].reshape(())
    alone = Checkpoint(0, {"dask_gd": fields}, {"intercept": (dims, intercept)})
    return with_stored_weights(alone, directory).arrays["weights"][1]  # type: ignore[return-value]


class Table:
    """The fits that have ended, by candidate and fold, with their weights in files where there is a store."""

    def __init__(self, edges: list[int], outputs: int | None):
        self.edges = edges
        self.outputs = outputs
        self.ended: dict[tuple[int, int], Ended] = {}
        self.store: Store | None = None
        self.spec: dict[str, Any] = {}
        #: The fits that the store held at the start, None where it was empty.
        self.resumed_from: int | None = None

    @property
    def directory(self) -> str:
        """The directory of the weights' files."""
        assert self.store is not None
        return str((self.store.path / DIRECTORY).absolute())

    def open(self, store: Store, spec: dict[str, Any], max_iter: int) -> None:
        """Take the store of a search of this specification, and the fits that it holds; refuse another search's."""
        self.store = store
        self.spec = spec
        found = store.latest(self._check)
        if found is None:
            return
        check_format(found, store.path)
        check_same(found.attributes["dask_gd"]["spec"], spec, store.path)
        self.resumed_from = found.iteration
        for fit in restored(found):
            # Where more steps are asked for now, it is made again.
            if fit.reason != "max_iter" or len(fit.losses) > max_iter:
                self._take(fit)

    def _check(self, found: Checkpoint) -> None:
        """Refuse a table of this very search that is not whole."""
        check_content(found)
        fields = found.attributes["dask_gd"]
        if fields.get("format") == FORMAT and fields["spec"] == self.spec:
            check(found)

    def _take(self, fit: Ended) -> None:
        """Take a fit that has ended, with its weights as users see them."""
        if fit.described is not None:
            fit.lazy = weights_in_files(fit, self.directory, self.edges, self.outputs)
        self.ended[fit.key] = fit

    def add(self, fit: Ended) -> None:
        """Commit a fit that has ended, and remove what was needed to go on with it."""
        self._take(fit)
        if self.store is not None:
            self.store.commit(checkpoint(list(self.ended.values()), self.spec))
            shutil.rmtree(self._path_of(*fit.key), ignore_errors=True)

    def store_of(self, candidate: int, fold: int) -> Store:
        """Return the store of a fit that has not ended."""
        assert self.store is not None
        return Store(self._path_of(candidate, fold), strict=self.store.strict)

    def _path_of(self, candidate: int, fold: int) -> Path:
        """Return the directory of a fit that has not ended."""
        assert self.store is not None
        name = str(fold)
        if fold == ALL:
            name = "all"
        return self.store.path / FITS / f"{candidate}-{name}"

    def write(self, v: BlockVector, number: int) -> dict[str, Any]:
        """Write weights, each block by its owner, to files of this number, and return their description."""
        manifest = Manifest(v.space, self.directory)  # type: ignore[arg-type]
        manifest.add(v)
        manifest.write(number)
        return manifest.described()

    def weights_of(self, fit: Ended, space: BlockSpace) -> BlockVector:
        """Return the weights of a fit on the workers, where the next begins."""
        if fit.described is None:
            return fit.vector
        try:
            [v] = Manifest(space, self.directory).restore(fit.described)
        except ValueError as error:
            raise StoreError(
                f"The weights of {fit.name} in {self.directory} cannot be read: {error}. The next fit begins there. "
                "Take another store to search anew."
            ) from error
        # The next fit has files of its own.
        v.node.files = None
        return v


class Values:
    """The values of fits as arrays, over candidates and folds, or over candidates for the fits to all rows."""

    def __init__(
        self, ended: dict[tuple[int, int], Ended], candidates: int, count: int, edges: list[int], outputs: Any
    ):
        self.ended = ended
        self.candidates = range(candidates)
        self.folds = range(count)
        self.outputs = outputs
        self.longest = max(len(fit.losses) for fit in ended.values())
        # What stands for a fit that has not been made, and for weights that nobody has.
        nothing = np.full(outputs or 1, np.nan)
        self.none = Ended(-1, ALL, NOT_MADE, np.nan, [], nothing, passes=0.0, dropped=0)
        sizes = tuple(np.diff(edges).tolist())
        self.no_weights = da.full(edges[-1], np.nan, chunks=(sizes,))
        if outputs is not None:
            self.no_weights = da.full((edges[-1], outputs), np.nan, chunks=(sizes, (outputs,)))

    def of_folds(self, value: Callable[[Ended], Any], *dims: str) -> tuple[tuple[str, ...], np.ndarray]:
        """Return a value of each fit without a fold, which has these dimensions."""
        values = [[value(self.ended[c, fold]) for fold in self.folds] for c in self.candidates]
        return ("candidate", "fold", *dims), np.array(values)

    def of_all(self, value: Callable[[Ended], Any], *dims: str) -> tuple[tuple[str, ...], np.ndarray]:
        """Return a value of each fit to all rows, which has these dimensions."""
        values = [value(self.ended.get((c, ALL), self.none)) for c in self.candidates]
        return ("candidate", *dims), np.array(values)

    def n_iter(self, fit: Ended) -> int:
        """Return the steps taken."""
        return max(0, len(fit.losses) - 1)

    def intercept(self, fit: Ended) -> Any:
        """Return the intercept, a number or (outputs,)."""
        if self.outputs is None:
            return fit.intercept[0]
        return fit.intercept

    def objective(self, fit: Ended) -> np.ndarray:
        """Return the objective at each iteration, NaN after the last."""
        return np.append(fit.losses, np.full(self.longest - len(fit.losses), np.nan))

    def history(self, fit: Ended) -> np.ndarray:
        """Return the mean loss of the rows held out at the last iteration, and NaN at all others."""
        values = np.full(self.longest, np.nan)
        if fit.losses:
            values[len(fit.losses) - 1] = fit.holdout_loss
        return values

    def weights(self, candidate: int, fold: int) -> da.Array:
        """Return the weights of a fit, lazy; NaN where there are none."""
        lazy = self.ended.get((candidate, fold), self.none).lazy
        if lazy is None:
            return self.no_weights
        return lazy


def dataset_of(search: Searched, ended: dict[tuple[int, int], Ended], count: int, edges: list[int]) -> xr.Dataset:
    """Return the Dataset of the fits, see `SearchResult`; weights are lazy, and NaN where a fit has left none."""
    outputs = output_count(search)
    output: tuple[str, ...] = ()
    if outputs is not None:
        output = ("output",)
    of = Values(ended, len(search.candidates), count, edges, outputs)
    variables: dict[str, Any] = {
        "score": of.of_folds(attrgetter("score")),
        "loss": of.of_folds(attrgetter("holdout_loss")),
        "n_iter": of.of_folds(of.n_iter),
        "grad_norm": of.of_folds(attrgetter("grad_norm")),
        "reason": of.of_folds(attrgetter("reason")),
        "intercept": of.of_folds(of.intercept, *output),
        "all_intercept": of.of_all(of.intercept, *output),
        "all_reason": of.of_all(attrgetter("reason")),
        "all_n_iter": of.of_all(of.n_iter),
        "all_grad_norm": of.of_all(attrgetter("grad_norm")),
        "all_objective": of.of_all(of.objective, "iteration"),
        "history": of.of_folds(of.history, "iteration"),
        "objective": of.of_folds(of.objective, "iteration"),
    }
    # Weights are a chunk for each block. Without a store the fits without a fold leave their scores alone.
    of_each = da.stack([of.weights(c, ALL) for c in of.candidates])
    variables["all_weights"] = (("candidate", "feature", *output), of_each)
    if any(fit.lazy is not None for fit in ended.values() if fit.fold != ALL):
        of_each = da.stack([da.stack([of.weights(c, fold) for fold in of.folds]) for c in of.candidates])
        variables["weights"] = (("candidate", "fold", "feature", *output), of_each)
    data = xr.Dataset(variables, coords={"fold": list(of.folds), **coordinates_of(search)})
    error = max(fit.score_error for fit in ended.values())
    if error:
        data["score"].attrs["error"] = error
    return data.assign_coords(names_of(search))
