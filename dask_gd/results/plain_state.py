"""The state of objects that hold xarray's, in plain arrays, dicts and tuples.

xarray's classes have slots, which formats of files that refuse to run code on loading do not take: skops is one.
"""

from __future__ import annotations

from typing import Any

import xarray as xr

#: The keys of the one item of a dict that stands for an object of xarray's.
KINDS: dict[str, Any] = {
    "dask_gd:DataArray": xr.DataArray,
    "dask_gd:Dataset": xr.Dataset,
}


def plain_state(state: dict[str, Any]) -> dict[str, Any]:
    """Return the state with a dict of arrays in place of each DataArray and Dataset."""
    return {name: _plain(value) for name, value in state.items()}


def restored_state(state: dict[str, Any]) -> dict[str, Any]:
    """Return the state that `plain_state` was given. States without such dicts stay as they are."""
    return {name: _restored(value) for name, value in state.items()}


class PlainState:
    """It is pickled with `plain_state`, and so by skops too."""

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes in plain arrays."""
        return plain_state(vars(self))

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Set the attributes, of results pickled before this too."""
        vars(self).update(restored_state(state))


def _plain(value: Any) -> Any:
    """Return a dict of arrays for an object of xarray's; other values stay."""
    for key, kind in KINDS.items():
        # An index of several levels is more than its values.
        if isinstance(value, kind) and not _has_levels(value):
            return {key: value.to_dict(data="array")}
    return value


def _restored(value: Any) -> Any:
    """Return the object of xarray's that a dict of arrays stands for; other values stay."""
    if isinstance(value, dict) and len(value) == 1:
        [key] = value
        if key in KINDS:
            return KINDS[key].from_dict(value[key])
    return value


def _has_levels(value: xr.DataArray | xr.Dataset) -> bool:
    """Return whether an index has several levels."""
    return any(getattr(index, "nlevels", 1) > 1 for index in value.indexes.values())
