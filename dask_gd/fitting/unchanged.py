"""Whether the data is still what a stored run has read: the sums of its last pass, taken again, have the same bits.

A fingerprint of large data is a sample of it. What a pass adds up is all of it, so that one more pass, at the query and
over the partitions of the last one, finds a change anywhere. Only where another kind of processor, or another BLAS,
adds up may bits differ though the data does not; there sums must agree to rounding.
"""

from __future__ import annotations

import contextlib
import logging
import platform
import uuid
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.linalg  # noqa: F401 - its BLAS is loaded wherever this is asked
from distributed import Future, wait
from threadpoolctl import threadpool_info

from ..cluster import active_client
from ..errors import StoreMismatchError
from ..kernels.base import Moments, Sums
from ..sources.row_hash import row_hashes

logger = logging.getLogger("dask_gd")

#: Sums that differ by less than this many times what rounding does may be those of the same data, added up elsewhere.
MARGIN = 1000.0

#: Seconds in which workers should say what they compute with.
ANSWER_WITHIN = 30.0


class Seen(NamedTuple):
    """The last pass of a run: where it was, and what it added up."""

    query: np.ndarray  # (q, k, m)
    partitions: np.ndarray  # those that were read, none of them for all
    curvature: str | None
    sums: np.ndarray  # (3, m), see `summary`
    alone: bool  # and did nothing else beside, which may take the rows in other blocks


def summary(sums: Sums) -> np.ndarray:
    """Return of each candidate the loss, a sum over the gradient with arbitrary signs, and the rows' weight, (3, m)."""
    q, k, m = sums.gradient.shape
    is_odd = row_hashes(0, 0, q * k) & np.uint64(1)
    signs = np.where(is_odd, 1.0, -1.0).reshape(q, k, 1)
    with np.errstate(all="ignore"):
        signed = (signs * sums.gradient).sum(axis=(0, 1))
        weight = np.full(m, sums.weight)
        # A gradient of extended precision is stored in float64, as all is.
        return np.stack([sums.loss, signed, weight]).astype(float)


def rounding_of_sums(
    first_loss: float,
    moments: Moments,
    weight: float,
    sums: np.ndarray,
    unit: float,
) -> np.ndarray:
    """Return what rounding may do to a `summary`, (3, m), where it does ``unit`` to a sum of numbers of one sign."""
    loss = np.abs(sums[0]) + abs(first_loss) * weight
    products = moments.features[:, None] * moments.slopes[None, :]
    slope = np.sqrt(np.abs(products)).sum()
    sizes = np.stack([loss, np.full_like(loss, slope), np.abs(sums[2])])
    return MARGIN * unit * sizes


def agree(stored: np.ndarray, now: np.ndarray, rounding: np.ndarray | float = 0.0) -> bool:
    """Return whether sums are the same, up to ``rounding``."""
    with np.errstate(invalid="ignore"):
        near = np.abs(stored - now) <= rounding
    are_same = stored == now
    are_nan = np.isnan(stored) & np.isnan(now)
    return bool((near | are_same | are_nan).all())


def check_unchanged(
    stored: np.ndarray,
    now: np.ndarray,
    rounding: np.ndarray,
    same: Callable[[], bool],
    path: Path,
) -> None:
    """Refuse to go on where the sums of the data are not those that the run at ``path`` has stored.

    Raises
    ------
    StoreMismatchError
        Where a sum is another: by a bit, if the processors are the ``same``, else by more than ``rounding``.
    """
    if agree(stored, now):
        return
    same_bits = same()
    if not same_bits and agree(stored, now, rounding):
        logger.warning(
            "%s was written by another kind of processor, or with another BLAS: its sums agree to rounding, and so "
            "will the weights.",
            path,
        )
        return

    # The first sum that differs: the weight tells most, and then the loss.
    column = int(np.argmax((stored != now).any(axis=0)))
    first = next(i for i in (2, 0, 1) if stored[i, column] != now[i, column])
    name = ("loss", "slope", "weight of the rows")[first]
    before = float(stored[first, column])
    after = float(now[first, column])
    rest = ""
    if not same_bits:
        rest = ", by more than rounding on another processor does"
    raise StoreMismatchError(
        f"{path} holds a run made with other data: at the weights of its last pass the data no longer has the sums "
        f"that are stored ({name}: stored {before!r}, now {after!r}{rest}). Use the data as it was to resume the run; "
        f"or begin a new one in another store, with initial_weights=dask_gd.load({str(path)!r}) if you like."
    )


@lru_cache(maxsize=1)
def processor() -> str:
    """Return what decides the bits of this process's sums: the processor, NumPy and its BLAS."""
    blas = []
    for library in threadpool_info():
        if library["user_api"] == "blas":
            name = f"{library['internal_api']} {library['version']} {library.get('architecture', '')}"
            blas.append(name.strip())
    # What NumPy makes use of, of what the processor can do.
    umath = getattr(np._core, "_multiarray_umath", None)  # type: ignore[attr-defined]
    features = getattr(umath, "__cpu_features__", {})
    enabled = sorted(name for name, on in features.items() if on)
    return ", ".join([platform.machine(), f"numpy {np.__version__}", *sorted(blas), " ".join(enabled)])


class Processors:
    """The kinds of `processor` of a cluster's workers, which answer when they can, or of this process."""

    def __init__(self) -> None:
        self.found: set[str] = set()
        self.asked: list[Future] = []
        client = active_client()
        if client is None:
            self.found.add(processor())
            return
        name = f"gd-processor-{uuid.uuid4().hex[:8]}"
        for i, address in enumerate(client.nthreads()):
            answer = client.submit(processor, workers=[address], key=f"{name}-{i}", pure=False)
            self.asked.append(answer)

    def known(self, within: float = 0.0) -> list[str]:
        """Return all that have answered within so many seconds, and "unknown" for the others."""
        if self.asked and within:
            with contextlib.suppress(TimeoutError):
                wait(self.asked, timeout=within)
        waiting = []
        for future in self.asked:
            if not future.done():
                waiting.append(future)
            elif future.status == "finished":
                self.found.add(future.result())
        self.asked = waiting
        if waiting:
            return sorted({*self.found, "unknown"})
        return sorted(self.found)

    def are(self, stored: list[str]) -> bool:
        """Return whether all processors are of one kind, and of the stored one."""
        is_one_kind = len(stored) == 1 and "unknown" not in stored
        return is_one_kind and self.known(ANSWER_WITHIN) == stored
