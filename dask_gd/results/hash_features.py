"""Hash text and categories to sparse rows: `hash_features` to Zarr, once and out of core, and `hash_rows` in memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import dask
import numpy as np
import zarr
from scipy.sparse import csr_array, vstack

from ..cluster import compute
from ..errors import DataError, InvalidArgumentError, InvalidTypeError
from .beside import beside, check_not_read, check_place
from .hash_parts import Parts, parts_at
from .hash_rows import HashedRows, read_partition, rows_to_hash
from .hashing import Hashing, hashing_from, hashing_of
from .kept_parts import directory_of
from .places import place_of
from .sparse_store import check_length, check_name, column_beside, write_blocks

#: The attribute of the group of the rows that has the settings.
ATTRIBUTE = "hash_features"


def hash_features(
    rows: Any,
    path: str | os.PathLike,
    features: Any = None,
    *,
    like: str | os.PathLike | None = None,
    missing: str | None = None,
    name: str = "X",
    resume: bool = True,
    overwrite: bool = False,
    **columns: Any,
) -> str:
    """Hash text and categories to sparse rows, and write these to a Zarr group, out of core and once.

    Parameters
    ----------
    rows : data frame, bag, array, list, or path
        A data frame or a column (Dask, pandas, Arrow), a Dask bag, a Dask, NumPy, Zarr or xarray array (n,) or a list
        of text, the path of Parquet files, or that of a text file (or a list of `pathlib.Path`), whose lines are rows.
        On a cluster each partition is hashed where it is read.
    path : path
        Where the group is to be, on a disk that all workers share.
    features : hasher, or dict
        A `sklearn.feature_extraction.text.HashingVectorizer` for text or a `sklearn.feature_extraction.FeatureHasher`,
        to which rows are given as they are. For a frame a dict: the name of a column, or a tuple of names to be
        crossed, and its hasher. A HashingVectorizer takes text. A FeatureHasher takes categories, text, whole numbers
        or booleans, as the tokens ``"origin=ATL"``, and crossed ``"origin=ATL & hour=7"``. Each hasher has columns of
        its own, side by side in the dict's order; entries with the same hasher object share its columns.
    like : path, optional
        A store that `hash_features` has written, whose settings are taken in place of ``features``.
    missing : {"error", "empty"}, optional
        Refuse missing values, or hash nothing in their place. By default "error", or as in the store ``like``.
    name : str
        Of the group of the rows within the group.
    resume : bool
        Go on from the parts that a call with the same settings has left that did not end. Rows are read again, and
        those of a partition hashed again if they have changed. False: begin anew.
    overwrite : bool
        Replace the Zarr that is there; nothing else is replaced.
    **columns : str, or array (n,) or (n, k)
        What is to stand beside the rows, by name: columns of the frame, or arrays; targets, weights, offsets.

    Returns
    -------
    str
        The absolute path.

    Raises
    ------
    InvalidArgumentError, InvalidTypeError
        Before anything is hashed: a place that is taken, columns that are not there, hashers with more than 2^31 - 1
        columns together or with settings that cannot be stored, and parts there of other settings, by name.
    DataError, InvalidTypeError
        Naming row and column, where a value is missing or is neither text nor a category.

    Notes
    -----
    Matrix and columns are those of scikit-learn's `transform` of all rows at once, whatever the partitions, and the
    bytes of the store too. It is complete or not there. Each partition is first a file in the directory ``.NAME.parts``
    beside the store NAME, which is kept when the writer is killed and removed at the end; the disk needs room for the
    rows twice meanwhile. A task needs the memory of a partition's rows, hashed and not.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn.feature_extraction.text import HashingVectorizer
    >>> texts = ["good and good", "not good", "bad", "so bad"]
    >>> path = dask_gd.hash_features(
    ...     texts, f"{tempfile.mkdtemp()}/texts.zarr", HashingVectorizer(n_features=2**18), y=np.array([1, 1, 0, 0])
    ... )
    >>> run = dask_gd.fit(dask_gd.open(path, x="X", y="y"), loss="logistic", penalty=dask_gd.L2(0.01))
    >>> run.predict(dask_gd.hash_rows(["good", "bad bad"], like=path)).round(1).tolist()
    [0.9, 0.1]
    """
    target = place_of(path, "hash_features")
    if isinstance(target, str):
        raise InvalidArgumentError(
            f"hash_features(path={target!r}): parts that a later call can go on from are files on a disk that all "
            "workers share. Give a path, and copy the store to the URL when it is there."
        )
    check_name(name, columns, "hash_features")
    hashing = _hashing(features, like, missing, name)
    check_place(target, overwrite, "hash_features")

    # What is read beside the rows: columns of the frame, with its partitions, and arrays.
    of_frame = {key: values for key, values in columns.items() if isinstance(values, str)}
    hashed = rows_to_hash(rows, hashing, of_frame)
    if not hashed.partitions:
        raise InvalidArgumentError("hash_features(rows=...): there are no rows.")
    arrays = {
        key: column_beside(values, key, hashed.length, "hash_features")
        for key, values in columns.items()
        if key not in of_frame
    }
    if os.path.lexists(target):
        for data in (rows, *arrays.values()):
            if dask.is_dask_collection(data) or isinstance(data, zarr.Array):
                check_not_read(data, target, "hash_features")

    with parts_at(directory_of(target), _identity(hashed, hashing), len(hashed.partitions), resume) as parts:
        parts.hash(hashed, hashing)
        with beside(target, overwrite, "hash_features") as (new, _):
            _write(zarr.open_group(new, mode="w", zarr_format=3), name, parts, hashed, hashing, arrays)
    return str(target)


def hash_rows(
    rows: Any,
    features: Any = None,
    *,
    like: str | os.PathLike | None = None,
    missing: str | None = None,
    name: str = "X",
) -> csr_array:
    """Hash rows in memory as `hash_features` does, and return the matrix.

    Parameters
    ----------
    rows : data frame, array or list
        A few rows in memory, see `hash_features`.
    features, like, missing, name
        See `hash_features`.

    Returns
    -------
    scipy.sparse.csr_array (n, p)

    Raises
    ------
    InvalidTypeError
        For rows that are not in memory.
    InvalidArgumentError, DataError
        See `hash_features`.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn.feature_extraction import FeatureHasher
    >>> frame = pd.DataFrame({"origin": ["ATL", "JFK"], "hour": [7, 8]})
    >>> hasher = FeatureHasher(n_features=2**20)
    >>> dask_gd.hash_rows(frame, {"origin": hasher, "hour": hasher, ("origin", "hour"): hasher}).shape
    (2, 1048576)
    """
    hashing = _hashing(features, like, missing, name)
    hashed = rows_to_hash(rows, hashing, {})
    if not hashed.in_memory:
        raise InvalidTypeError(f"hash_rows(rows=...): a {type(rows).__name__} is not in memory; use hash_features.")
    matrices = [hashing.matrix(read_partition(values), place) for values, place in hashed.partitions]
    if not matrices:
        return csr_array((0, hashing.features), dtype=hashing.dtype)
    return csr_array(vstack(matrices, format="csr"))


def _hashing(features: Any, like: Any, missing: str | None, name: str) -> Hashing:
    """Return the hashing that is asked for: by hashers, or by a store that has been written."""
    if (features is None) == (like is None):
        raise InvalidArgumentError(
            "hash_features: give features=..., the hashers, or like=..., a store to take them of."
        )
    if like is None:
        return hashing_of(features, missing or "error")
    place = f"{os.fspath(like)!r}, {name!r}"
    try:
        group = zarr.open_group(os.fspath(like), path=name, mode="r")
    except (OSError, ValueError, KeyError, zarr.errors.BaseZarrError) as error:
        raise InvalidArgumentError(f"hash_features(like=...): {place} is no Zarr group.") from error
    settings: Any = group.attrs.get(ATTRIBUTE)
    if settings is None:
        raise InvalidArgumentError(f"hash_features(like=...): {place} has not been written by hash_features.")
    return hashing_from(settings, missing, place)


def _identity(hashed: HashedRows, hashing: Hashing) -> dict[str, Any]:
    """Return all that parts depend on, beside their rows: a call with the same may go on from them."""
    import sklearn

    return {
        "hashers": hashing.settings()["groups"],
        "columns": {key: [column, str(dtype)] for key, (column, dtype) in hashed.beside.items()},
        "scikit-learn": sklearn.__version__,
    }


def _write(
    group: zarr.Group,
    name: str,
    parts: Parts,
    hashed: HashedRows,
    hashing: Hashing,
    arrays: dict[str, Any],
) -> None:
    """Put the parts one after the other into the store, with the columns beside them."""
    lengths = parts.lengths()
    n = sum(lengths)
    if not n:
        raise InvalidArgumentError("hash_features(rows=...): there are no rows.")
    like = {key: np.empty(0, dtype) for key, (_, dtype) in hashed.beside.items()}
    for key, array in arrays.items():
        check_length(array, key, n, "hash_features")
        like[key] = np.empty((0, *array.shape[1:]), array.dtype)
    written = write_blocks(
        group,
        name,
        shape=(n, hashing.features),
        dtype=hashing.dtype,
        like=like,
        blocks=_blocks(parts, lengths, arrays),
        attributes={ATTRIBUTE: hashing.settings()},
    )
    if written != n:
        raise DataError(f"hash_features: {written} rows were written of {n}; its parts have changed meanwhile.")


def _blocks(
    parts: Parts, lengths: list[int], arrays: dict[str, Any]
) -> Iterator[tuple[csr_array, dict[str, np.ndarray]]]:
    """Yield the parts, with their rows of the arrays."""
    start = 0
    for part, length in zip(parts.read(), lengths, strict=True):
        beside_rows = dict(part.beside)
        for key, array in arrays.items():
            [values] = compute(array[start : start + length], what=f"hash_features, {key}")
            beside_rows[key] = np.asarray(values)
        yield part.matrix, beside_rows
        start += length
