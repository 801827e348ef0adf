"""The page `/gd` of Dask's dashboard: how events get there from the client, and how the scheduler gets the page.

Every fit and search on a cluster does so by itself. Dask's configuration ``dask_gd.dashboard: False`` turns it off.
"""

from __future__ import annotations

import logging
import time
import weakref
from dataclasses import fields
from typing import Any

import dask
import numpy as np
from distributed import Client

from ..cluster import active_client
from ..events import Callback, Event
from .plugin import TOPIC, Board

logger = logging.getLogger("dask_gd")

#: Seconds that a fit waits for the scheduler to take a message.
ANSWER_WITHIN = 5.0

#: Clients whose scheduler has been asked for the page, and whether it can have it.
_asked: weakref.WeakKeyDictionary[Client, bool] = weakref.WeakKeyDictionary()


class Publish:
    """A callback that logs events with the scheduler."""

    def __init__(self, client: Client):
        self.client = client
        self.heard = True

    def __call__(self, event: Event) -> None:
        """Send what the event says."""
        if not self.heard or self.client.status != "running":
            return
        message = {f.name: _plain(getattr(event, f.name)) for f in fields(event)}
        message |= {"event": type(event).__name__, "time": time.time(), "client": self.client.id}
        try:
            scheduler: Any = self.client.scheduler
            self.client.sync(scheduler.log_event, topic=TOPIC, msg=message, callback_timeout=ANSWER_WITHIN)
        except Exception as error:
            # A scheduler that is gone ends the fit with the fit's own error, if at all.
            self.heard = False
            logger.warning("The scheduler does not hear of the fit any more, for its page /gd: %r.", error)


def _plain(value: Any) -> Any:
    """NumPy's scalars are no message."""
    if isinstance(value, np.generic):
        return value.item()
    return value


def watching() -> tuple[Callback, ...]:
    """The callback that feeds the page of the active client's scheduler; none without one, or where turned off."""
    client = active_client()
    if client is None or not dask.config.get("dask_gd.dashboard", True):
        return ()
    if client not in _asked:
        _asked[client] = has_page(client)
    if _asked[client]:
        return (Publish(client),)
    return ()


def has_page(client: Client) -> bool:
    """Have the scheduler add the page, if it has not yet; False, with a note why, if it cannot."""
    try:
        client.register_plugin(Board(), name=Board.name)
    except Exception as error:
        logger.warning(
            "The page /gd could not be added to the scheduler's dashboard (%s: %s); fits go on without it. The "
            "scheduler's environment needs dask_gd and bokeh.",
            type(error).__name__,
            str(error).partition("\n")[0],
        )
        return False
    return True
