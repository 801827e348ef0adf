"""Hashers of scikit-learn, which have no state: their settings, as JSON has them, say all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import InvalidArgumentError, InvalidTypeError


def settings_of(hasher: Any) -> dict[str, Any]:
    """Return the settings of a hasher, as JSON has them.

    Raises
    ------
    InvalidArgumentError
        For functions, which cannot be stored.
    """
    settings: dict[str, Any] = {"kind": type(hasher).__name__}
    for name, value in sorted(hasher.get_params().items()):
        if name == "dtype":
            value = np.dtype(value).name
        elif callable(value):
            raise InvalidArgumentError(
                f"hash_features: {type(hasher).__name__}({name}={value!r}): a function cannot be stored with the rows, "
                "and rows to predict need the same. Apply it to the text first, for example by dask.bag's map."
            )
        elif isinstance(value, set | frozenset):
            value = sorted(value)
        elif isinstance(value, tuple):
            value = list(value)
        elif isinstance(value, np.generic):
            value = value.item()
        settings[name] = value
    return settings


def hasher_from(settings: Mapping[str, Any]) -> Any:
    """Return the hasher of these settings, see `settings_of`."""
    from sklearn.feature_extraction import FeatureHasher
    from sklearn.feature_extraction.text import HashingVectorizer

    kinds = {kind.__name__: kind for kind in (FeatureHasher, HashingVectorizer)}
    parameters = dict(settings)
    kind = kinds[parameters.pop("kind")]
    parameters["dtype"] = np.dtype(parameters["dtype"]).type
    if "ngram_range" in parameters:
        parameters["ngram_range"] = tuple(parameters["ngram_range"])
    return kind(**parameters)


def check_hasher(hasher: Any) -> None:
    """Refuse what is no hasher of scikit-learn, and settings that cannot be stored."""
    from sklearn.feature_extraction import FeatureHasher
    from sklearn.feature_extraction.text import HashingVectorizer

    # A subclass may do anything, and the settings would not say it.
    if type(hasher) not in (FeatureHasher, HashingVectorizer):
        raise InvalidTypeError(
            f"hash_features(features=...): {hasher!r:.80} is no hasher; give a HashingVectorizer for text or a "
            "FeatureHasher for categories, of sklearn.feature_extraction, or a dict with one for each column."
        )
    if is_text_hasher(hasher) and hasher.input != "content":
        raise InvalidArgumentError(
            f"hash_features: HashingVectorizer(input={hasher.input!r}); rows are the text itself, input='content'."
        )
    # scikit-learn checks settings where they are used; an error there would come from the first task.
    nothing: Any = {}
    if is_text_hasher(hasher):
        nothing = ""
    try:
        hasher.transform([nothing])
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError(f"hash_features: {error}") from error
    settings_of(hasher)


def is_text_hasher(hasher: Any) -> bool:
    """Return whether a hasher takes text, and not tokens."""
    return hasattr(hasher, "ngram_range")
