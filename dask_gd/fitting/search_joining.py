"""The searches of several sets of splits, joined to one result."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import xarray as xr

from ..errors import InvalidArgumentError
from ..store.store import Store
from .search_result import SearchResult


def stores_of(store: str | os.PathLike | Store | None, count: int) -> Sequence[str | os.PathLike | Store | None]:
    """Return the store of each search: directories below the path where there are several."""
    if store is None or count == 1:
        return [store] * count
    if isinstance(store, Store):
        raise InvalidArgumentError(
            f"store=Store(...) is for a single search, and these splits take {count}: give its path, below which each "
            "has a directory."
        )
    return [Path(store) / f"splits-{i:02}" for i in range(count)]


def joined(results: list[SearchResult], splits: Sequence[tuple[int, ...] | None]) -> SearchResult:
    """Return the results of all sets of splits as one, whose folds are the splits in their order."""
    if len(results) == 1:
        return results[0]
    # Histories are as long as the longest.
    longest = max(result.data.sizes["iteration"] for result in results)
    padded = []
    for result in results:
        missing = longest - result.data.sizes["iteration"]
        padded.append(result.data.pad(iteration=(0, missing)))

    # What has folds is put side by side, and the fits to all rows are those of the first search.
    first = padded[0]
    by_fold = [name for name in first.data_vars if "fold" in first[name].dims]
    numbers = np.concatenate([np.array(of_set) for of_set in splits])
    together = xr.concat([data[by_fold] for data in padded], dim="fold", coords="minimal", compat="override")
    in_order = together.isel(fold=np.argsort(numbers)).assign_coords(fold=np.arange(len(numbers)))
    data = first.drop_vars([*by_fold, "fold"]).merge(in_order)
    errors = [result.data["score"].attrs.get("error", 0.0) for result in results]
    if max(errors):
        data["score"].attrs["error"] = max(errors)
    return replace(
        results[0],
        data=data[list(first.data_vars)],
        passes=sum(result.passes for result in results),
        full_passes=sum(result.full_passes for result in results),
    )
