"""The places that Zarr is written to: paths on this machine, and URLs, where the metadata comes last."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from zarr.abc.store import Store
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import FsspecStore, LocalStore, MemoryStore

from ..errors import ClusterError, InvalidArgumentError
from .beside import beside, check_not_read, check_place
from .chunks import Where, keys_of

#: A key at a URL from before the first chunk to after the last metadata.
UNFINISHED = ".dask_gd-unfinished"

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
#: A URL after `pathlib.Path` has collapsed its slashes.
COLLAPSED = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/[^/]")


def place_of(path: str | os.PathLike, caller: str, storage_options: dict[str, Any] | None = None) -> Path | str:
    """Return an absolute path on this machine, or a URL as a str; ``caller`` is the function that was called.

    Raises
    ------
    InvalidArgumentError
        For a URL that is none any more, and for options without a URL.
    """
    place = os.fspath(path).removeprefix("file://")
    if URL.match(place):
        return place
    if COLLAPSED.match(place):
        raise InvalidArgumentError(f"{caller}(path={path!r}): a Path is no URL; give a str, with two slashes.")
    if storage_options is not None:
        raise InvalidArgumentError(f"{caller}(storage_options=...) is for URLs; a path on this machine has none.")
    return Path(os.path.abspath(place))


class NewStore(NamedTuple):
    """A Zarr store that appears when all of it is written."""

    #: Where the chunks go.
    chunks: Store
    #: Where the metadata goes.
    metadata: Store
    where: Where


@contextlib.contextmanager
def new_store(
    target: Path | str,
    caller: str,
    overwrite: bool,
    storage_options: dict[str, Any] | None,
    data: Iterable[Any],
) -> Iterator[NewStore]:
    """Yield a store at a place of `place_of`, which appears there at the end; ``data`` is what is written.

    Raises
    ------
    InvalidArgumentError
        If the place is taken, or the data is read from it.
    """
    if isinstance(target, str):
        with appearing_at(target, caller, overwrite, storage_options) as (store, template):
            yield NewStore(store, template, Where(target, None))
        return
    # A path is written beside the target, and then renamed.
    check_place(target, overwrite, caller)
    if os.path.lexists(target):
        for each in data:
            check_not_read(each, target, caller)
    with beside(target, overwrite, caller) as (directory, marker):
        local = LocalStore(directory)
        yield NewStore(local, local, Where(str(target), str(marker)))


@contextlib.contextmanager
def appearing_at(
    url: str,
    caller: str,
    overwrite: bool,
    storage_options: dict[str, Any] | None,
) -> Iterator[tuple[Store, MemoryStore]]:
    """Yield the store at a URL for chunks, and one for metadata, which goes to the URL at the end, the root's last.

    Until then no reader finds anything. Any failure leaves nothing.

    Raises
    ------
    InvalidArgumentError
        If there is something at the URL.
    """
    # Nothing that somebody else has written is replaced.
    if overwrite:
        raise InvalidArgumentError(f"{caller}({url!r}, overwrite=True): nothing at a URL is replaced; delete it first.")
    store = FsspecStore.from_url(url, storage_options=storage_options)
    present = set(sync(keys_of(store)))
    if present and UNFINISHED not in present:
        raise InvalidArgumentError(
            f"{caller}: there is something at {url}, such as {min(present)}; choose another place."
        )
    # Anything that is left was written by a writer that was killed.
    sync(delete(store, present))
    template = MemoryStore()
    try:
        sync(put(store, {UNFINISHED: b""}))
        yield store, template
        # The metadata of the arrays.
        items = {key: value.to_bytes() for key, value in template._store_dict.items()}
        root = items.pop("zarr.json")
        sync(put(store, items))
        lacking = items.keys() - set(sync(keys_of(store)))
        if lacking:
            raise ClusterError(f"{min(lacking)} was written to {url} and is not there.")
        # The metadata of the root, by which readers find the rest.
        sync(put(store, {"zarr.json": root}))
    except BaseException:
        with contextlib.suppress(Exception):
            sync(delete(store, set(sync(keys_of(store)))))
        raise
    sync(delete(store, {UNFINISHED}))


async def put(store: Store, items: dict[str, bytes]) -> None:
    """Write values to a store by their keys."""
    for key, value in items.items():
        await store.set(key, default_buffer_prototype().buffer.from_bytes(value))


async def delete(store: Store, keys: set[str]) -> None:
    """Delete keys of a store."""
    for key in keys:
        await store.delete(key)
