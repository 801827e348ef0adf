"""scikit-learn's own callbacks on our estimators: the one adapter between the two."""

from __future__ import annotations

import copy
from typing import Any

from sklearn.callback import CallbackContext

from ..events import Event, IterationEnded, StopFit
from ..sources import Source


class Adapter:
    """A callback of `dask_gd.events` that calls those which ``estimator.set_callbacks(...)`` was given.

    Each iteration is a task of scikit-learn's, of which its callbacks hear the beginning and the end, with the
    estimator as it would be if the fit had ended there. One that returns True then ends the fit.
    """

    def __init__(self, estimator: Any, context: CallbackContext, source: Source, data: tuple[Any, ...]):
        self.estimator = estimator
        self.context = context
        self.source = source
        X, y, weight = (*data, None)[:3]
        metadata = None
        if weight is not None:
            metadata = {"sample_weight": weight}
        self.options = {"estimator": estimator, "X": X, "y": y, "metadata": metadata}

    def __call__(self, event: Event) -> None:
        """Pass an iteration on."""
        if not isinstance(event, IterationEnded):
            return

        def fitted() -> dict[str, Any]:
            there = copy.copy(self.estimator)
            there._take(event.result, self.source)
            return {name: value for name, value in vars(there).items() if name.endswith("_")}

        task = self.context.subcontext(task_name="iteration")
        task.call_on_fit_task_begin(**self.options)
        if task.call_on_fit_task_end(**self.options, reconstruction_attributes=fitted):
            raise StopFit("callback")
