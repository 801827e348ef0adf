"""Compare the arguments and data of `infer` with those of the fit."""

from __future__ import annotations

import difflib
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from ..errors import InvalidArgumentError, InvalidTypeError
from ..model.losses import classes_of
from ..names import default_name
from ..sources import Source
from ..sources.frames import frame_of
from .fit_result import FitResult
from .inference_table import INTERCEPT


def refuse_unknown(name: str, known: list[str]) -> None:
    """Refuse an argument that `infer` does not have, and name the nearest argument that it has."""
    hint = ""
    near = difflib.get_close_matches(name, known, 1)
    if near:
        hint = f" Did you mean {near[0]!r}?"
    raise InvalidTypeError(f"infer({name}=...): there is no such argument.{hint} It takes {', '.join(known)}.")


def as_in_fit(run: FitResult, x: Any, y: Any, arguments: dict[str, Any], caller: str = "infer") -> dict[str, Any]:
    """Return the arguments of `as_source`, with the names that the fit had where a Dataset or a frame comes without.

    Raises
    ------
    InvalidArgumentError
        Where the fit had an offset, and there is none.
    """
    arguments = dict(arguments)
    in_fit: dict[str, Any] = {}
    if run.formula is not None:
        # It names the target and the features, and an offset of its own.
        own = ("sample_weight", "offset")
        in_fit = {name: run.roles[name] for name in own if name in run.roles}
        if run.formula.parsed.offsets:
            in_fit.pop("offset", None)
        arguments["formula"] = run.formula
    elif isinstance(x, xr.Dataset):
        in_fit = {**run.roles, "features": None, "sample_dims": run.sample_dims}
        if "feature" in run.weights.coords:
            in_fit["features"] = run.weights.coords["feature"].values.tolist()
    elif frame_of(x) is not None:
        in_fit = dict(run.roles)
        # The target may be beside the frame, which then may have all columns of the fit's frame or the features only.
        if y is not None:
            in_fit.pop("target", None)
        if run.column_names is not None and (run.encoding is not None or "target" in in_fit):
            in_fit["features"] = list(run.column_names)
        if run.encoding is not None:
            arguments["encoding"] = run.encoding
            # Levels that the fit has left out are those of its own codes.
            arguments["predicts"] = not len(run.dropped_levels)
    for name, value in in_fit.items():
        if arguments.get(name) is None and value is not True:
            arguments[name] = value
    # Coefficients without the offset would be others.
    source_has_offset = isinstance(x, Source) and x.offset is not None
    has_own_offset = run.formula is not None and bool(run.formula.parsed.offsets)
    if "offset" in run.roles and arguments["offset"] is None and not (source_has_offset or has_own_offset):
        raise InvalidArgumentError(
            f"{caller}: the fit had an offset, and its coefficients are those of the rest: give it again, offset=..."
        )
    return arguments


def differing_roles(run: FitResult, source: Source) -> str:
    """Say in words which columns the fit had and these data have not, or the other way round."""
    # A store may not say which columns the fit had.
    if not run.roles:
        return ""
    sentences = [f" The fit had {role}, these data have none." for role in run.roles if role not in source.roles]
    sentences += [f" The fit had no {role}." for role in source.roles if role not in run.roles]
    return "".join(sentences)


def with_targets(run: FitResult, columns: list[int]) -> FitResult:
    """Return a fit with these targets only, numbered as before where they have no names."""
    if "output" in run.weights.coords:
        names = run.weights.coords["output"].values
    else:
        names = np.arange(run.weights.shape[1])
    kept = names[columns]
    weights = run.weights.isel(output=columns).assign_coords(output=kept)
    intercept = run.intercept.isel(output=columns).assign_coords(output=kept)
    return replace(run, weights=weights, intercept=intercept)


def check_data(run: FitResult, source: Source, caller: str = "infer") -> None:
    """Refuse data whose features or targets are not those of the fit, by number or by name."""
    # Their numbers. Several classes are one target.
    outputs = run.weights.sizes.get("output")
    if classes_of(run.loss):
        outputs = None
    numbers = {
        "features": (len(run.weights), source.shape[1]),
        "columns of the target": (outputs, source.outputs),
    }
    for kind, (before, now) in numbers.items():
        if before != now:
            raise InvalidArgumentError(
                f"{caller}: the fit had {before or 1} {kind}, these data have {now or 1}; give the data of the fit."
            )
    # Their names, where both have them.
    names_in_data = {"feature": source.feature_names, "output": source.output_names}
    for dim, names in names_in_data.items():
        if names is None or dim not in run.weights.coords:
            continue
        names_in_fit = run.weights.coords[dim].values.tolist()
        for i, (before, now) in enumerate(zip(names_in_fit, names, strict=True)):
            if before != now:
                raise InvalidArgumentError(
                    f"{caller}: {dim} {i} is named {now!r} but the fit had {before!r} there; give the data of the fit."
                )


def parameter_names(run: FitResult, source: Source) -> list[str]:
    """Return the names of the parameters, the intercept last."""
    if "feature" in run.weights.coords:
        names = run.weights.coords["feature"].values.tolist()
    else:
        names = list(source.feature_names or map(default_name, range(source.shape[1])))
    if run.fit_intercept:
        return [*names, INTERCEPT]
    return names
