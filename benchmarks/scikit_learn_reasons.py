"""Rules that say why a test of scikit-learn does not pass with an estimator of ours."""

from __future__ import annotations


def reason_of(outcome: dict) -> str:
    """Return the reason of an outcome."""
    return outcome["error"].split("\n")[0][:100]
