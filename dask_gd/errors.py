"""Every error and warning of the package, so that a caller can catch one base class or the built-in they expect.

An error's message says what was asked, what was received, what is allowed and what to do. Errors travel from
workers to the client by pickle, so they carry nothing but their message.
"""

from __future__ import annotations

import sys
import warnings

#: Packages that a warning is not about: ours, and those through which estimators are called.
PASSED_OVER = ("dask_gd", "sklearn", "contextlib")


class DaskGDError(Exception):
    """Base class of all errors raised on purpose by dask_gd."""


class InvalidArgumentError(DaskGDError, ValueError):
    """A parameter, a shape or a name that cannot be served."""


class InvalidTypeError(DaskGDError, TypeError):
    """An argument of a kind that cannot be served: object, complex or datetime data, a list where an array is
    needed."""


class NotFittedError(DaskGDError, ValueError, AttributeError):
    """Something was asked of a run that has no finished iteration."""


class DataError(DaskGDError, ValueError):
    """The data itself is at fault. The message names the array, the chunk and the rows."""


class MissingChunkError(DataError):
    """A Zarr chunk that the grid promises is not in the store; Zarr alone would read it as ``fill_value``."""


class UnreachableStoreError(MissingChunkError):
    """A Zarr store, of which the client has the metadata, that a worker cannot see at all, or that is gone."""


class CorruptChunkError(DataError):
    """A Zarr chunk is there, but could not be decoded or failed its checksum."""


class UnreadableChunkError(DataError):
    """The store did not give a chunk's bytes: it refused, its credentials expired, it was busy, or the line was cut.

    The bytes may be good. No OSError: one that is a ValueError too would not survive the way from a worker.
    """


class NonFiniteError(DataError):
    """NaN or infinity in features, targets or weights."""


class StoreError(DaskGDError):
    """The run's store cannot serve: locked by another fit, unwritable, or without a readable iteration."""


class StoreMismatchError(StoreError, ValueError):
    """The stored run was made with other data, loss, penalty, solver or dtype; the message names the field."""


class ClusterError(DaskGDError, RuntimeError):
    """The cluster failed in the middle of a pass; what was committed before is intact."""


class DivergenceWarning(UserWarning):
    """The fit stopped because the loss grew without bound; the last finite weights are returned."""


class StalledWarning(UserWarning):
    """The fit stopped short of a minimum: no solver found a step that lowers the loss, and the gradient is not zero."""


class IndefiniteWarning(UserWarning):
    """The covariance of coefficients by several groupings has a negative variance of some combination of them."""


class CallbackWarning(UserWarning):
    """A callback raised; it is not called again, and the fit goes on."""


class CorruptCheckpointWarning(UserWarning):
    """A stored iteration is unreadable; the one before it is used."""


def warn(message: str, category: type[Warning]) -> None:
    """Warn at the line that called into dask_gd, however deep in it the reason was found."""
    level = 1
    frame = sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in PASSED_OVER:
        frame = frame.f_back
        level += 1
    warnings.warn(message, category, stacklevel=level)
