"""The page `/gd` of Dask's dashboard: how events get there from the client, and how the scheduler gets the page.

Every fit and search on a cluster does so by itself. Dask's configuration ``dask_gd.dashboard: False`` turns it off.
"""

from __future__ import annotations

import logging
import time
import weakref
from dataclasses import fields

import dask
from distributed import Client

from ..events import Callback, Event
from ..passes import active_client
from .board import TOPIC, Board

logger = logging.getLogger("dask_gd")

#: Clients whose scheduler has been asked for the page, and whether it can have it.
_asked: weakref.WeakKeyDictionary[Client, bool] = weakref.WeakKeyDictionary()


class Publish:
    """A callback that logs events with the scheduler."""

    def __init__(self, client: Client):
        self.client = client

    def __call__(self, event: Event) -> None:
        """Send what the event says."""
        message = {f.name: getattr(event, f.name) for f in fields(event) if f.name != "snapshot"}
        message |= {"event": type(event).__name__, "time": time.time(), "client": self.client.id}
        try:
            self.client.log_event(TOPIC, message)
        except Exception:
            # A scheduler that is gone ends the fit with the fit's own error, if at all.
            logger.debug("Could not tell the scheduler of %s.", message["event"], exc_info=True)


def watching() -> tuple[Callback, ...]:
    """The callback that feeds the page of the active client's scheduler; none without one, or where turned off."""
    client = active_client()
    if client is None or not dask.config.get("dask_gd.dashboard", True):
        return ()
    if client not in _asked:
        _asked[client] = has_page(client)
    return (Publish(client),) if _asked[client] else ()


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
