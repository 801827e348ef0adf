"""How many of the rows a curvature of classes is made of: as many as its parameters need, and not all."""

from __future__ import annotations

from typing import Any

from ..kernels.base import EXACT, Request, curvatures
from ..model.losses import classes_of

#: Entries of the curvatures of all rows, one for each row, matrix and pair of features, that cost next to nothing.
CHEAP = 2e9
#: Rows for each parameter that a curvature is made of.
ROWS_EACH = 12
#: A product of features takes this part of the time that a gradient takes for each of its own.
FASTER = 4
#: Steps of a stage after which a curvature is made of so many times the rows, and again after as many.
PATIENCE = 3
MORE = 4
#: Hardly any rows: one in so many.
HARDLY_ANY = 1 << 20


def thinned(track: Any, request: Request) -> Request:
    """Return a request with the curvature of some of the rows in place of all, where these tell enough.

    A curvature of classes costs many times the gradient, and need not be exact: steps correct it by what gradients tell
    of it, and all rows tell whether a step is taken. It need not cost less than the gradient, either. Should a
    stage take many steps, its curvature tells too little; it is then made of more rows, and in the end of all.
    """
    if request.curvature != EXACT or request.kernel is not None or not _can_be_thinned(track):
        return request
    q, k, _ = track.state.query.shape
    matrices = curvatures(k, track.loss, request)
    rows = track.size
    if matrices <= k or rows * matrices * q**2 <= CHEAP:
        return request

    # Products of features for each that the gradient takes: that is what the curvature costs more.
    products = matrices * q / (2 * k)
    thin = min(rows / (ROWS_EACH * q * k), products / FASTER)
    steps = max(0, track.iteration + 1 - track.since)
    thin /= MORE ** (steps // PATIENCE)
    return request._replace(thin=max(1, int(thin)))


def rechecked(track: Any, request: Request) -> Request:
    """Return the request of a pass that is taken again, where the curvature is of no interest."""
    if request.curvature == EXACT and _can_be_thinned(track):
        return request._replace(thin=HARDLY_ANY)
    return request


def _can_be_thinned(track: Any) -> bool:
    """Return whether a curvature of some of the rows may be asked for."""
    if not classes_of(track.loss) or track.source.row_format.cheap_gram:
        return False
    # Without an intercept the curvature is that of the rows as they are, and the features' sizes are not.
    return track.fit_intercept or track.engine.shift is None
