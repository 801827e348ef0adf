"""What the rows of a search's folds must have in common with no other: weight, and targets to tell apart."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..errors import DataError
from ..model.losses import Loss


class FoldSums(NamedTuple):
    """The weight of some rows, and the weighted sums of their targets, (k,)."""

    weight: float
    targets: np.ndarray


def check_fold(
    fold: int,
    count: int,
    own: FoldSums,
    others: FoldSums,
    loss: Loss,
    needs_both_classes: bool,
) -> None:
    """Refuse a fold, one of ``count``, without rows, and one without which the others cannot be fitted.

    Raises
    ------
    DataError
        Naming the fold.
    """
    if not own.weight > 0:
        raise DataError(f"Fold {fold} of {count} holds no row with a positive weight; take fewer folds.")
    if needs_both_classes and not 0 < own.targets[0] < own.weight:
        number = int(own.targets[0] > 0)
        raise DataError(
            f"Fold {fold} of {count} holds rows of class {number} only, and the score needs both classes; "
            "take dask_gd.Folds(..., by='class'), or fewer folds."
        )
    if not others.weight > 0:
        raise DataError(f"Without fold {fold} there is no row with a positive weight left to fit.")
    try:
        loss.check_target_mean(others.targets / others.weight)
    except DataError as error:
        raise DataError(f"Without the rows of fold {fold} there is nothing to tell apart: {error}") from error
