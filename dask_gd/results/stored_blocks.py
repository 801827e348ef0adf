"""Weights of a run that are in blocks in files: a lazy array with a chunk for each."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import dask.array as da
import numpy as np
from dask import delayed

from ..store.block_files import BlockFile, read_block
from ..store.store import Checkpoint


def lazy_weights(pieces: list[Any], edges: list[int], outputs: int | None) -> da.Array:
    """Return weights (p,) or (p, outputs) whose blocks, (width, outputs or 1, 1), are Delayed objects or futures."""
    chunks = []
    for piece, (start, stop) in zip(pieces, pairwise(edges), strict=True):
        width = stop - start
        block = da.from_delayed(piece, (width, outputs or 1, 1), np.dtype(float))
        if outputs is None:
            chunks.append(block[:, 0, 0])
        else:
            chunks.append(block[:, :, 0])
    return da.concatenate(chunks)


def with_stored_weights(checkpoint: Checkpoint, directory: str) -> Checkpoint:
    """Return a checkpoint with its weights, which are in files of this directory if they are in blocks."""
    fields = checkpoint.attributes["dask_gd"]
    if not fields.get("blocks") or "weights" in checkpoint.arrays:
        return checkpoint
    blocks = fields["blocks"]
    node = blocks["nodes"][blocks["vectors"][blocks["state"]["weights"]]["node"]]
    dims, intercept = checkpoint.arrays["intercept"]
    outputs = intercept.shape[0] if intercept.ndim else None
    edges = fields["edges"]
    if "files" in node:
        files = [BlockFile.of(file) for file in node["files"]]
        pieces = [delayed(read_block, pure=True)(directory, file) for file in files]
        weights = lazy_weights(pieces, edges, outputs)
    else:
        # All the same, as at the start.
        chunks = (tuple(np.diff(edges).tolist()), *((size,) for size in intercept.shape))
        weights = da.full((edges[-1], *intercept.shape), np.ravel(node["value"])[0], chunks=chunks, dtype=float)
    arrays: dict[str, Any] = {**checkpoint.arrays, "weights": (("feature", *dims), weights)}
    return checkpoint._replace(arrays=arrays)
