"""Load stored runs as results."""

from __future__ import annotations

import os
import time
from typing import Any

from ..display.texts import running_since
from ..errors import InvalidArgumentError, NotFittedError
from ..model.losses import Loss, as_loss, loss_of
from ..store.block_files import DIRECTORY
from ..store.content import check_content
from ..store.store import Checkpoint, Store
from .cell_fit import is_cell_fit, load_cells
from .fit_result import result_of
from .stored_blocks import with_stored_weights


def latest_of_fit(store: Store) -> Checkpoint:
    """Return the newest readable iteration of a fit; refuse a store without iterations, or of a search.

    Its weights are lazy where they are in blocks.
    """
    checkpoint = store.latest(check_content)
    path = store.path
    if checkpoint is None:
        raise NotFittedError(f"{path} holds no finished iteration of a fit.")
    if "trials" in checkpoint.attributes["dask_gd"]:
        raise InvalidArgumentError(f"{path} holds a search: dask_gd.search(..., store=path) goes on from it.")
    return with_weights(store, checkpoint)


def with_weights(store: Store, checkpoint: Checkpoint) -> Checkpoint:
    """Return an iteration of a fit with its weights, which are in files of their own where they are in blocks."""
    return with_stored_weights(checkpoint, str((store.path / DIRECTORY).absolute()))


def state_of(store: Store, reason: str | None, was_in_use: bool) -> str:
    """Say how a stored run stands: why it has ended, that it runs and when its last commit was, or "interrupted".

    ``was_in_use`` is what `Store.is_in_use` said before the iteration was read, as the run may end meanwhile. The
    ``reason`` is the iteration's, None unless the run ends with it.
    """
    if reason is not None:
        return reason
    commit = store.committed_at()
    if was_in_use and commit is not None:
        return running_since(commit, time.time())
    return "interrupted"


def load(path: str | os.PathLike | Store, loss: Loss | tuple | None = None) -> Any:
    """Load a stored run as the result of its newest readable iteration, a `FitResult`.

    Parameters
    ----------
    path : path or Store
        Or the Zarr of a fit with a model for each cell, which is a `CellFit` whose arrays are lazy.
        A `Store` with ``strict=True`` refuses a damaged iteration, in place of a warning and the iteration before it.
    loss : Loss or pair of functions, optional
        Only for a run with a loss of your own, which is not stored.

    Raises
    ------
    NotFittedError
        If there is no iteration at ``path``.
    InvalidArgumentError
        If the run's loss is none of dask_gd's, and ``loss`` is None.

    Examples
    --------
    >>> import tempfile
    >>> path = tempfile.mkdtemp()
    >>> run = dask_gd.fit(np.array([[0.0], [1.0], [2.0]]), np.array([1.0, 3.0, 5.0]), store=path)
    >>> dask_gd.load(path).weights.identical(run.weights)
    True
    """
    if isinstance(path, Store):
        store = path
    elif is_cell_fit(path):
        return load_cells(path)
    else:
        store = Store(path)
    # A loss of the user's own is not stored.
    checkpoint = latest_of_fit(store)
    stored = checkpoint.attributes["dask_gd"]["loss"]
    if loss is None and loss_of(stored) is None:
        raise InvalidArgumentError(
            f"{store.path} holds a fit with the loss {stored['name']!r}, your own: load(path, loss=...) needs it."
        )
    if loss is None:
        return result_of(checkpoint)
    return result_of(checkpoint, as_loss(loss))
