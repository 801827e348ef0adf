"""What a fit takes from its targets and its formula: classes, levels of a target of strings, the intercept."""

from __future__ import annotations

import logging
from dataclasses import fields, is_dataclass, replace

from .. import passes
from ..errors import InvalidArgumentError
from ..model.losses import Loss, classes_of, target_kind_of
from ..sources import Source
from ..sources.formula.design import Formula

logger = logging.getLogger("dask_gd")


def intercept_of(formula: Formula, fit_intercept: bool) -> bool:
    """Return whether a formula has an intercept; refuse an argument that says otherwise."""
    has_intercept = formula.parsed.has_intercept
    if has_intercept and not fit_intercept:
        without = formula.text.replace("~", "~ 0 +", 1)
        raise InvalidArgumentError(f"fit_intercept=False beside a formula: write {without!r}.")
    return has_intercept


def check_target_levels(loss: Loss, formula: Formula | None) -> None:
    """Refuse a target of strings for a loss of numbers, and of other than two levels for one of two classes."""
    if formula is None or formula.target_levels is None:
        return
    levels = formula.target_levels
    target = formula.parsed.targets[0].text
    kind = target_kind_of(loss)
    if kind == "two classes" and len(levels) == 2:
        logger.info("%s is 1 for %r, and 0 for %r.", target, levels[1], levels[0])
        return
    if kind == "classes":
        return
    takes = "numbers"
    if kind == "two classes":
        takes = "two"
    shown = ", ".join(map(repr, levels[:5]))
    raise InvalidArgumentError(
        f"formula: the target {target!r} has {len(levels)} levels, {shown}; the {loss.name} loss takes {takes}. "
        "family='binomial' is for two levels, 'multinomial' for more."
    )


def for_targets(loss: Loss, source: Source) -> Loss:
    """Return the loss; classes that it has and was not told the number of are counted."""
    check_target_levels(loss, source.formula)
    # A loss that says no more than its number of classes may take indicators of its own.
    if getattr(loss, "target_kind", None) != "classes":
        return loss
    if source.outputs is not None:
        raise InvalidArgumentError(
            f"y has {source.outputs} columns; the {loss.name} loss takes one, with the classes' numbers "
            "(y.argmax(axis=1) of indicators)."
        )
    if classes_of(loss) is not None:
        return loss
    if not is_dataclass(loss) or "classes" not in {field.name for field in fields(loss)}:
        raise InvalidArgumentError(
            f"loss={loss!r} says that its targets are classes, and not how many: give it an attribute `classes`, their "
            "number. To have them counted make it a frozen dataclass with a field `classes`, which may be None."
        )
    return replace(loss, classes=passes.largest_target(source) + 1)  # type: ignore[type-var]
