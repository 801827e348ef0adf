"""Log events of the client with the scheduler, and give the scheduler the page `/gd` of Dask's dashboard.

Every fit and search on a cluster does so by itself. Dask's configuration ``dask_gd.dashboard: False`` turns this off.
"""

from __future__ import annotations

import logging
import time
import weakref
from typing import Any

import dask
from distributed import Client

from ..cluster import active_client
from ..events import Callback, Event
from .plugin import TOPIC, Board

logger = logging.getLogger("dask_gd")

#: Seconds that a fit waits for the scheduler to take a message.
ANSWER_WITHIN = 5.0

#: Clients whose scheduler has been asked to add the page, and whether it could.
_has_page: weakref.WeakKeyDictionary[Client, bool] = weakref.WeakKeyDictionary()


class Publish:
    """A callback that logs events with the scheduler."""

    def __init__(self, client: Client):
        self.client = client
        self.is_heard = True

    def __call__(self, event: Event) -> None:
        """Send the fields of the event."""
        if not self.is_heard or self.client.status != "running":
            return
        message = {**event.as_message(), "time": time.time(), "client": self.client.id}
        try:
            scheduler: Any = self.client.scheduler
            self.client.sync(scheduler.log_event, topic=TOPIC, msg=message, callback_timeout=ANSWER_WITHIN)
        except Exception as error:
            # A scheduler that is gone ends the fit with the fit's own error, if at all.
            self.is_heard = False
            logger.warning("The scheduler does not hear of the fit any more, for its page /gd: %r.", error)


def watching() -> tuple[Callback, ...]:
    """Return the callback that feeds the page of the active client's scheduler, if there is a page."""
    # Without a client nobody listens, and the configuration may turn the page off.
    client = active_client()
    if client is None or not dask.config.get("dask_gd.dashboard", True):
        return ()
    # Each scheduler is asked once.
    if client not in _has_page:
        _has_page[client] = add_page(client)
    if _has_page[client]:
        return (Publish(client),)
    return ()


def add_page(client: Client) -> bool:
    """Have the scheduler add the page unless it has it; return False, and log why, if the scheduler cannot."""
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
