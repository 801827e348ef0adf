"""What an iteration holds of a fit whose weights are in blocks, and how the fit goes on from it."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import StoreError
from ..model import penalties
from ..model.identity import code_of
from ..model.losses import classes_of, parameters_of
from ..store.block_files import DIRECTORY, remove_others
from ..store.content import FORMAT, HISTORY, check_content, check_format, numbers, require
from ..store.store import Checkpoint, Store, check_same
from ..weight_blocks.manifest import Manifest, files_of
from ..weight_blocks.owners import Owners
from ..weight_blocks.scale import Scale
from ..weight_blocks.vector import BlockVector
from .block_track import BlockTrack
from .checkpoint import memories_of

#: Names of features up to which they are stored: others are their numbers.
MOST_NAMES = 1 << 16


def spec_of(track: BlockTrack) -> dict[str, Any]:
    """Return what a fit must have in common with the one that it goes on from."""
    solver: Any = track.solver
    penalty = track.penalty
    grid = track.space.grid
    return {
        "loss": {"name": track.loss.name, **parameters_of(track.loss)},
        "penalty": {"name": penalty.name, **penalties.parameters_of(penalty), **code_of(penalty)},
        "solver": {"name": solver.name, **asdict(solver), **code_of(solver)},
        "weights": "blocks",
        "fit_intercept": track.fit_intercept,
        "given": track.given,
        "seed": track.seed,
        "data": {**track.source.fingerprint(), "edges": str(grid.edges), "segments": str(grid.segments)},
    }


class BlockCommits:
    """The commits of a fit in blocks: the files of its blocks, and the iterations that name them."""

    def __init__(self, track: BlockTrack, store: Store):
        self.track = track
        self.store = store
        self.directory = str((store.path / DIRECTORY).absolute())
        track.directory = self.directory
        #: The files that each iteration names, of those that are known.
        self.files: dict[int, set[str]] = {}
        #: What has been read of an iteration that is being looked at: where its vectors are, and these.
        self._restored: tuple[dict[str, Any], list[BlockVector]] | None = None

    def latest(self) -> Checkpoint | None:
        """Return the newest iteration whose blocks can all be read by their owners."""
        self._restored = None
        return self.store.latest(self._check)

    def _check(self, stored: Checkpoint) -> None:
        """Refuse an iteration of this very fit from which it cannot go on."""
        check_content(stored)
        fields = stored.attributes["dask_gd"]
        if fields.get("format") != FORMAT or fields["spec"] != self.track.engine.spec:
            return  # `check_format` or `check_same` says why.
        blocks = fields["blocks"]
        for name in ("state", "scale"):
            require(isinstance(blocks.get(name), dict), f"it does not say where the {name} is")
        numbers(stored, "fit/inverse_slopes", (1, self.track.space.outputs, 1))
        manifest = Manifest(self.track.space, self.directory)
        restored = manifest.restore(blocks)
        self.files[stored.iteration] = files_of(blocks)
        self._restored = (blocks, restored)

    def restore(self, stored: Checkpoint) -> None:
        """Take up an iteration that `latest` has returned."""
        track = self.track
        path: Path = self.store.path
        check_format(stored, path)
        check_same(stored.attributes["dask_gd"]["spec"], track.engine.spec, path)
        assert self._restored is not None
        blocks, restored = self._restored
        # From now on the track alone has them.
        self._restored = None
        arrays = {name: array for name, (_, array) in stored.arrays.items()}

        # The solver's state, whose vectors are in files.
        begun = track.solver.init(track.start(), track.engine.rounding)
        state: dict[str, Any] = {}
        for name in begun._fields:
            place = blocks["state"].get(name)
            if place is None:
                state[name] = arrays[f"state/{name}"]
            elif isinstance(place, int):
                state[name] = restored[place]
            else:
                state[name] = tuple((restored[s], restored[y]) for s, y in place)
        track.state = type(begun)(**state)
        track.scale = Scale(
            means=restored[blocks["scale"]["means"]],
            inverse_spreads=restored[blocks["scale"]["inverse_spreads"]],
            inverse_slopes=arrays["fit/inverse_slopes"],
            curvature=float(arrays["fit/curvature"]),
        )
        for v in (track.scale.means, track.scale.inverse_spreads):
            v.node.lasts = True
        if "shift" in blocks["scale"]:
            track.shift = restored[blocks["scale"]["shift"]]
            track.space.take_shift(track.shift)

        # What the fit remembers beside it.
        track.history = {name: arrays[name].tolist() for name in HISTORY}
        track.grad_norm = track.history["grad_norm"][-1]
        track.resumed_from = stored.iteration
        track.committed_reason = stored.attributes["dask_gd"]["reason"]
        track.callbacks.restore(memories_of(arrays))

    def commit(self) -> Checkpoint:
        """Write the blocks that no file has yet, and then the iteration that names them: this is the commit."""
        track = self.track
        manifest, places = described(track, self.directory)
        manifest.write(track.iteration)
        blocks = {**manifest.described(), **places}
        stored = checkpoint(track, blocks)
        self.store.commit(stored)
        self.files[track.iteration] = files_of(blocks)
        self._remove_unnamed()
        # What older iterations were read for.
        self._restored = None
        return stored

    def _remove_unnamed(self) -> None:
        """Remove the files that no iteration on disk names."""
        named: set[str] = set()
        for iteration in self.store.iterations():
            if iteration not in self.files:
                # Of an earlier process, which may be damaged: then nothing is known to be superfluous.
                try:
                    self.files[iteration] = files_of(self.store.read(iteration).attributes["dask_gd"]["blocks"])
                except Exception:
                    return
            named |= self.files[iteration]
        remove_others(self.directory, named)


def described(track: BlockTrack, directory: str) -> tuple[Manifest, dict[str, Any]]:
    """Return the description of the track's vectors, and where in it each is."""
    manifest = Manifest(track.space, directory)
    state: dict[str, Any] = {}
    for name, value in track.state._asdict().items():
        if isinstance(value, BlockVector):
            state[name] = manifest.add(value)
        elif isinstance(value, tuple):
            state[name] = [[manifest.add(s), manifest.add(y)] for s, y in value]
    assert track.scale is not None
    scale = {
        "means": manifest.add(track.scale.means),
        "inverse_spreads": manifest.add(track.scale.inverse_spreads),
    }
    if track.shift is not None:
        scale["shift"] = manifest.add(track.shift)
    return manifest, {"state": state, "scale": scale}


def checkpoint(track: BlockTrack, blocks: dict[str, Any] | None) -> Checkpoint:
    """Return what a reader wants, and with blocks all that is needed to go on."""
    engine = track.engine
    parameters = {name: value for name, value in parameters_of(track.loss).items() if name != "name"}
    source = track.source
    attributes = {
        "format": FORMAT,
        "seen": None,
        "spec": engine.spec,
        "reason": track.reason,
        "loss": {"name": track.loss.name, "parameters": parameters},
        "fit_intercept": track.fit_intercept,
        "penalised": track.penalised,
        "encoding": None,
        "sample_dims": None,
        "target_attrs": source.target_attrs,
        "roles": source.roles,
        "blocks": blocks or {},
        "edges": list(track.space.grid.edges),
    }
    outputs = classes_of(track.loss) or source.outputs
    intercept = track.intercept()
    arrays: dict[str, Any] = {"dropped": ((), np.array(track.dropped))}
    if outputs is None:
        arrays["intercept"] = ((), intercept[0].reshape(()))
    else:
        arrays["intercept"] = (("output",), intercept)
    if source.feature_names is not None and len(source.feature_names) <= MOST_NAMES:
        arrays["feature"] = (("feature",), np.array(source.feature_names, dtype=object))
    if source.output_names is not None and outputs == source.outputs:
        arrays["output"] = (("output",), np.array(source.output_names, dtype=object))
    for name, values in track.history.items():
        arrays[name] = (("iteration",), np.array(values, dtype=float))

    # What is needed to go on, beside the blocks.
    groups: dict[str, dict[str, Any]] = {"callbacks": track.callbacks.state()}
    if blocks:
        assert track.scale is not None
        state = track.state._asdict()
        groups["state"] = {name: value for name, value in state.items() if name not in blocks["state"]}
        groups["fit"] = {
            "inverse_slopes": track.scale.inverse_slopes,
            "curvature": np.array(track.scale.curvature),
        }
    for group, members in groups.items():
        for name, array in members.items():
            dims = tuple(f"{name}_{i}" for i in range(array.ndim))
            arrays[f"{group}/{name}"] = (dims, array)
    return Checkpoint(track.iteration, {"dask_gd": attributes}, arrays)


def probe(owners: Owners, run: str, store: Store) -> None:
    """Refuse a store that not all workers share with this process, before the first pass of a run of this name.

    Raises
    ------
    StoreError
        Naming a worker, and what it does not see.
    """
    directory = store.path.absolute() / DIRECTORY
    directory.mkdir(exist_ok=True)
    client = owners.client
    workers = owners.workers
    written = client.run(_write_probe, str(directory), run, workers=workers)
    names = sorted(name for name in written.values() if name is not None)
    seen = client.run(partial(_missing, str(directory)), names, workers=workers)
    here = _missing(str(directory), names)
    for name in names:
        (directory / name).unlink(missing_ok=True)
    for worker in workers:
        if written[worker] is None or seen[worker] or here:
            raise StoreError(
                f"Weights in blocks are written by their owners: all workers and this process must share "
                f"{store.path.absolute()}. Worker {worker} "
                f"{'cannot write there' if written[worker] is None else 'and others do not see each other there'}. "
                "Give store= a directory on a file system that they share, or no store to keep the weights in memory."
            )


def _write_probe(directory: str, run: str, dask_worker: Any) -> str | None:
    """Write a file on a worker; None where that cannot be done."""
    name = f".probe-{run}-{abs(hash(dask_worker.address)):x}.tmp"
    try:
        (Path(directory) / name).write_text(dask_worker.address)
    except OSError:
        return None
    return name


def _missing(directory: str, names: list[str]) -> list[str]:
    """Return the names of files that this process does not see."""
    return [name for name in names if not (Path(directory) / name).exists()]
