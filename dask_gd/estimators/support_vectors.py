"""Linear support vector machines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..errors import InvalidArgumentError
from ..model.losses import Hinge, SquaredHinge
from ..model.penalties import L1, L2, Penalty
from ..validate import choose
from .base import strength
from .classification import Classifier
from .parameters import ABOVE_0, Liblinear, StrOptions

#: The losses of `LinearSVC`, by name.
HINGES = {"hinge": Hinge, "squared_hinge": SquaredHinge}


@dataclass(kw_only=True, repr=False, eq=False)
class LinearSVC(Liblinear, Classifier):
    """A linear support vector machine of two classes or more.

    It minimises ``C sum s L + sum(w^2) / 2``; s are the row weights, times the weights of the classes, and L is the
    squared hinge ``max(0, 1 - (2 y - 1) (x w + b))^2`` or the hinge. More than two classes are separated each from all
    others, in the same passes.

    It differs from scikit-learn's in three ways. scikit-learn penalises the intercept, the less the larger
    ``intercept_scaling``; this estimator does not, so that coefficients agree exactly only without an intercept. The
    hinge's corner is rounded (see `dask_gd.Hinge`), so that its coefficients are about a fifth smaller; the squared
    hinge is not changed. For more than two classes the weights of the classes are those of the rows in each of the
    separations, where scikit-learn weighs the rows of the class that is separated.

    Other parameters, and the attributes, are those of `dask_gd.estimators.base.Estimator`; and ``classes_``.

    Parameters
    ----------
    loss : {"squared_hinge", "hinge"}
    penalty : {"l2", "l1"}
        "l1" is ``sum(abs(w))`` in place of ``sum(w^2) / 2``.
    C : float
    multi_class : {"ovr"}
        scikit-learn's "crammer_singer" is refused.
    class_weight : dict, "balanced" or None

    Examples
    --------
    >>> from dask_gd.estimators import LinearSVC
    >>> model = LinearSVC().fit([[0.0], [1.0], [2.0], [3.0]], [False, False, True, True])
    >>> model.predict([[0.5], [2.5]]).tolist()
    [False, True]
    """

    penalty: str = field(default="l2", kw_only=False)
    loss: str = field(default="squared_hinge", kw_only=False)
    C: float = 1.0
    multi_class: str = "ovr"
    dual: bool | str = "auto"

    one_against_all = True

    def constraints(self) -> dict[str, Any]:
        """Return what parameters may be."""
        return {
            "loss": [StrOptions(set(HINGES))],
            "penalty": [StrOptions({"l1", "l2"})],
            "C": [ABOVE_0],
        }

    def _loss(self) -> Any:
        if self.multi_class != "ovr":
            raise InvalidArgumentError(
                f"LinearSVC(multi_class={self.multi_class!r}) is not served; 'ovr' separates each class from all "
                "others."
            )
        return choose("loss", self.loss, HINGES)()

    def _penalty(self, total: Callable[[], float]) -> Penalty:
        alpha = strength(self, self.C, total)
        if self.penalty == "l1":
            return L1(alpha)
        return L2(alpha)
