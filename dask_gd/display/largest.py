"""Choose the weights to show first, and say which of them are no numbers."""

from __future__ import annotations

import numpy as np

from .texts import plural


def largest_first(values: np.ndarray, nan_first: bool = True) -> np.ndarray:
    """Return the indices of the features (p,) by the largest of their weights (p, k) in any output.

    Weights that are NaN come first, as they are what went wrong; or last, where they are those of levels that the fit
    has left out. An output whose weights are all NaN had no targets, and does not count.

    Examples
    --------
    >>> largest_first(np.array([[1.0, np.nan], [-3.0, np.nan], [np.nan, np.nan]])).tolist()
    [2, 1, 0]
    """
    sizes = np.abs(values[:, _has_weights(values)]).max(axis=1, initial=0.0)
    if nan_first:
        place_of_nan = -np.inf
    else:
        place_of_nan = np.inf
    return np.argsort(np.where(np.isnan(sizes), place_of_nan, -sizes), kind="stable")


def note_of_nan(values: np.ndarray) -> str:
    """Say how many of the weights (p, k) are NaN, and how many outputs have no other; nothing if none are.

    Examples
    --------
    >>> note_of_nan(np.array([[1.0], [np.nan], [0.0]]))
    '1 of 3 weights is NaN'
    >>> note_of_nan(np.array([[1.0, np.nan], [2.0, np.nan]]))
    '1 of 2 outputs has no weights: its targets are NaN in all rows'
    """
    has_weights = _has_weights(values)
    of_outputs = values[:, has_weights]
    count = int(np.isnan(of_outputs).sum())
    notes = []
    if count:
        verb = "is" if count == 1 else "are"
        notes.append(f"{count:,} of {plural(of_outputs.size, 'weight')} {verb} NaN")
    without = int((~has_weights).sum())
    if without:
        verb = "has" if without == 1 else "have"
        whose = "its" if without == 1 else "their"
        outputs = plural(len(has_weights), "output")
        notes.append(f"{without:,} of {outputs} {verb} no weights: {whose} targets are NaN in all rows")
    return "; ".join(notes)


def _has_weights(values: np.ndarray) -> np.ndarray:
    """Return which of the outputs (k,) have weights that are not NaN; the only one always counts."""
    has_weights = ~np.isnan(values).all(axis=0)
    if not has_weights.any():
        return np.ones(values.shape[1], bool)
    return has_weights
