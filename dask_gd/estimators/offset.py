"""Estimators that take an offset."""

from __future__ import annotations

from typing import Any

from sklearn import get_config
from sklearn.utils.validation import check_is_fitted

from ..errors import warn
from ..results.fit_result import FitResult
from ..sources import Source
from .base import Estimator


class TakesOffset(Estimator):
    """An estimator whose linear predictions may have an offset."""

    #: Whether the rows of the fit had an offset.
    _had_offset = False

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None, offset: Any = None):
        """Fit to rows.

        Parameters
        ----------
        X, y, sample_weight
            As for `dask_gd.estimators.base.Estimator.fit`.
        offset : array-like (n,), optional
            Added to the prediction ``x w + b`` of each row, like a feature whose coefficient is 1: the log of the
            exposure where counts are modelled. It is refused for more than two classes. Beside a Source it takes the
            place of the source's offset.

        Returns
        -------
        self
        """
        return self._fit(X, y, sample_weight, offset)

    def _warn_without_offset(self, X: Any, offset: Any, method: str) -> None:
        """Warn where a model that was fitted with an offset is scored without, or predicts without one in a tool.

        scikit-learn's tools, which cannot route an offset everywhere, would have numbers that mean something else. The
        prediction without one, asked for by name, is the rate: it is no fault unless metadata are routed.
        """
        check_is_fitted(self)
        if offset is not None or isinstance(X, Source) or not self._had_offset:
            return
        owner = type(self).__name__
        what_to_do = f"Give {method}(X, offset=...)."
        if method != "score":
            # Without routing nothing tells whether the user or a tool asks.
            if not get_config()["enable_metadata_routing"]:
                return
            requests = getattr(self.get_metadata_routing(), method).requests
            if requests.get("offset") is False:
                return
            what_to_do += f" If the prediction for an offset of 0 is meant, say so: set_{method}_request(offset=False)."
        warn(
            f"{owner}.{method} was given no offset, and the fit had one. scikit-learn hands an offset on to {method} "
            f"only in tools that route metadata to it, after set_{method}_request(offset=True). {what_to_do}",
            UserWarning,
        )

    def _set_attributes(self, result: FitResult, source: Source) -> None:
        super()._set_attributes(result, source)
        self._had_offset = source.offset is not None
