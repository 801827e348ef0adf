"""The adapter that calls scikit-learn's callbacks in fits of these estimators."""

from __future__ import annotations

import copy
from typing import Any

from ..events import IterationEnded, Listener, Stepped, StopFit
from ..sources import Source

try:
    from sklearn.callback import CallbackContext, CallbackSupportMixin, with_callbacks
except ImportError:
    # scikit-learn before 1.9 has no callbacks.
    CallbackContext = Any

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """The base of estimators with callbacks: without them, nothing."""

    def with_callbacks(method: Any) -> Any:
        """Return the method as it is."""
        return method


class Adapter(Listener):
    """A callback of `dask_gd.events` that calls scikit-learn's callbacks, set by ``estimator.set_callbacks(...)``.

    Each iteration is a task of scikit-learn. Its callbacks are called at the beginning and the end of the task, with
    the estimator as it would be if the fit had ended there. A callback that returns True at the end ends the fit.
    """

    def __init__(
        self,
        estimator: Any,
        context: CallbackContext,
        source: Source,
        data: tuple[Any, ...],
    ):
        self.estimator = estimator
        self.context = context
        self.source = source
        # Estimators may be fitted without weights, and some with an offset too, which the callbacks do not know.
        X, y, weight = (*data, None)[:3]
        metadata = None
        if weight is not None:
            metadata = {"sample_weight": weight}
        self.options = {
            "estimator": estimator,
            "X": X,
            "y": y,
            "metadata": metadata,
        }

    def stepped(self, event: Stepped) -> None:
        """Pass an iteration on to scikit-learn's callbacks."""
        if not isinstance(event, IterationEnded):
            return

        # A function, because only callbacks that ask for the attributes pay for them.
        def fitted_attributes() -> dict[str, Any]:
            """Return the attributes that the estimator would have if the fit ended here."""
            fitted = copy.copy(self.estimator)
            fitted._set_attributes(event.result, self.source)
            return {name: value for name, value in vars(fitted).items() if name.endswith("_")}

        task = self.context.subcontext(task_name="iteration")
        task.call_on_fit_task_begin(**self.options)
        is_to_stop = task.call_on_fit_task_end(
            **self.options,
            reconstruction_attributes=fitted_attributes,
        )
        if is_to_stop:
            raise StopFit("callback")
