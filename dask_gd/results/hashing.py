"""Rows hashed by scikit-learn's hashers: which hasher makes which columns of the matrix, and of what.

The hashers have no state, so that their settings say all. These are plain JSON: they are kept in the store that is
written, and rows to predict are hashed by the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
from scipy.sparse import csr_array

from ..errors import DataError, InvalidArgumentError, InvalidTypeError
from ..sources.kinds import is_missing
from .hashers import check_hasher, hasher_from, is_text_hasher, settings_of

#: Columns of the matrix at most: their numbers are int32.
MOST_FEATURES = int(np.iinfo(np.int32).max)
#: What is done about missing values.
MISSING = ("error", "empty")
#: Between the crossed columns of a token.
CROSS = " & "
#: Types of categories.
CATEGORIES = (str, int, bool)


class Place(NamedTuple):
    """The place of a partition's rows, for messages: the number of the first of all rows, where it is known."""

    name: str
    start: int | None = None

    def row(self, i: int) -> str:
        """Return the name of a row of the partition."""
        if self.start is None:
            return f"row {i} of {self.name}"
        return f"row {self.start + i}"


class Group(NamedTuple):
    """The columns of the matrix that a hasher makes.

    ``entries`` are the columns of a frame whose text or categories it hashes, those of a tuple crossed. Without, each
    row is given to the hasher as it is.
    """

    hasher: Any
    entries: tuple[tuple[str, ...], ...] | None


class Hashing(NamedTuple):
    """The hashers of a matrix side by side, and what is done about missing values: "error" or "empty"."""

    groups: tuple[Group, ...]
    missing: str

    @property
    def features(self) -> int:
        """The number of columns of the matrix."""
        return int(sum(group.hasher.n_features for group in self.groups))

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the entries."""
        return np.result_type(*(np.dtype(group.hasher.dtype) for group in self.groups))

    @property
    def columns(self) -> list[str] | None:
        """The names of the columns that are hashed, each once; None where rows are given as they are."""
        names: dict[str, None] = {}
        for group in self.groups:
            if group.entries is None:
                return None
            for entry in group.entries:
                names.update(dict.fromkeys(entry))
        return list(names)

    def settings(self) -> dict[str, Any]:
        """Return all settings, as JSON has them."""
        described = []
        for group in self.groups:
            entries = None
            if group.entries is not None:
                entries = [list(entry) for entry in group.entries]
            described.append({"columns": entries, "hasher": settings_of(group.hasher)})
        return {"groups": described, "missing": self.missing}

    def matrix(self, values: Any, place: Place) -> csr_array:
        """Return a partition's rows as a matrix.

        Parameters
        ----------
        values : data frame of pandas, or sequence of rows
        place : Place

        Raises
        ------
        DataError, InvalidTypeError
            Naming row and column, where a value is missing or none that the hasher takes.
        """
        # scikit-learn refuses nothing at all.
        if not len(values):
            return csr_array((0, self.features), dtype=self.dtype)
        blocks = []
        for group in self.groups:
            try:
                hashed = group.hasher.transform(self._input(group, values, place))
            except (TypeError, ValueError, AttributeError) as error:
                if isinstance(error, DataError | InvalidTypeError):
                    raise
                raise DataError(
                    f"hash_features: {type(group.hasher).__name__} does not take the rows of {place.name}: {error}"
                ) from error
            blocks.append(csr_array(hashed))
        assert all(block.shape[0] == len(values) for block in blocks)
        if len(blocks) == 1:
            return blocks[0]
        return csr_array(scipy.sparse.hstack(blocks, format="csr", dtype=self.dtype))

    def _input(self, group: Group, values: Any, place: Place) -> list[Any]:
        """Return what a hasher is given for a partition: a text, tokens, or what the row is, for each row."""
        is_text = is_text_hasher(group.hasher)
        if group.entries is None:
            if is_text:
                return self._texts(values, place, "")
            return self._as_given(values, place)
        if is_text:
            [[name]] = group.entries
            return self._texts(list_of(values[name]), place, name)

        # The tokens of a row, one of each column and of each cross; a row has none of what is missing.
        tokens: list[list[str]] = [[] for _ in range(len(values))]
        levels = {name: self._levels(values[name], place, name) for name in self._names(group)}
        for entry in group.entries:
            for row, token in zip(tokens, crossed([levels[name] for name in entry]), strict=True):
                if token is not None:
                    row.append(token)
        return tokens

    def _names(self, group: Group) -> list[str]:
        return list(dict.fromkeys(name for entry in group.entries or () for name in entry))

    def _texts(self, values: Sequence[Any], place: Place, name: str) -> list[str]:
        """Return the texts of rows."""
        texts = []
        for i, value in enumerate(values):
            if isinstance(value, str):
                texts.append(value)
            elif is_lacking(value):
                texts.append(self._for_missing("", place.row(i), name))
            else:
                raise InvalidTypeError(
                    f"hash_features: {place.row(i)} has {_described(value)}{_in(name)}; text is str. Decode bytes "
                    "first; categories are hashed by a FeatureHasher."
                )
        return texts

    def _as_given(self, values: Sequence[Any], place: Place) -> list[Any]:
        """Return rows as they are; a missing one has no tokens."""
        rows = []
        for i, value in enumerate(values):
            if is_lacking(value):
                value = self._for_missing({}, place.row(i), "")
            rows.append(value)
        return rows

    def _levels(self, column: Any, place: Place, name: str) -> list[str | None]:
        """Return a token ``name=value`` for each category, None where it is missing."""
        check_categories(column.dtype, name)
        tokens: list[str | None] = []
        for i, value in enumerate(list_of(column)):
            if type(value) in CATEGORIES or isinstance(value, str | np.integer | np.bool_):
                tokens.append(f"{name}={value}")
            elif is_lacking(value):
                tokens.append(self._for_missing(None, place.row(i), name))
            else:
                raise _no_category(f"{place.row(i)} has {_described(value)}{_in(name)}", name)
        return tokens

    def _for_missing(self, empty: Any, row: str, name: str) -> Any:
        """Return what stands for a missing value.

        Raises
        ------
        DataError
        """
        if self.missing == "empty":
            return empty
        raise DataError(
            f"hash_features: {row} has no value{_in(name)}. missing='empty' hashes nothing there; or fill it, or leave "
            "the row out."
        )


def crossed(columns: list[list[str | None]]) -> Iterable[str | None]:
    """Return the tokens of columns joined row by row; None where one is missing."""
    if len(columns) == 1:
        return columns[0]
    tokens: list[str | None] = []
    for parts in zip(*columns, strict=True):
        if None in parts:
            tokens.append(None)
        else:
            tokens.append(CROSS.join(parts))
    return tokens


def hashing_of(features: Any, missing: str) -> Hashing:
    """Return the hashing for the argument ``features``: a hasher, or a hasher for each column or cross of columns.

    Raises
    ------
    InvalidArgumentError, InvalidTypeError
    """
    if missing not in MISSING:
        raise InvalidArgumentError(f"hash_features(missing={missing!r}): choose 'error' or 'empty'.")
    if not isinstance(features, Mapping):
        check_hasher(features)
        return _counted(Hashing((Group(features, None),), missing))
    if not features:
        raise InvalidArgumentError("hash_features(features={}): give a hasher for at least one column.")

    # Columns with the same hasher share the columns of the matrix.
    groups: list[Group] = []
    for key, hasher in features.items():
        check_hasher(hasher)
        entry = _entry(key)
        shared = [i for i, group in enumerate(groups) if group.hasher is hasher]
        if is_text_hasher(hasher) and (len(entry) > 1 or shared):
            raise InvalidArgumentError(
                f"hash_features(features={{{key!r}: ...}}): a HashingVectorizer takes the text of one column. Give "
                "each column one of its own, join their text to one column, or cross categories by a FeatureHasher."
            )
        if getattr(hasher, "input_type", None) == "pair":
            raise InvalidArgumentError(
                f"hash_features(features={{{key!r}: FeatureHasher(input_type='pair')}}): categories of a column count "
                "once each; leave input_type out."
            )
        if not shared:
            groups.append(Group(hasher, (entry,)))
            continue
        [i] = shared
        groups[i] = Group(hasher, (*(groups[i].entries or ()), entry))
    return _counted(Hashing(tuple(_of_tokens(group) for group in groups), missing))


def _entry(key: Any) -> tuple[str, ...]:
    """Return the columns that a key of ``features`` names."""
    if isinstance(key, str):
        return (key,)
    if isinstance(key, tuple) and key and all(isinstance(name, str) for name in key) and len(set(key)) == len(key):
        return key
    raise InvalidArgumentError(
        f"hash_features(features={{{key!r}: ...}}): a key is the name of a column, or a tuple of different names, "
        "which are crossed."
    )


def _of_tokens(group: Group) -> Group:
    """Return a group whose FeatureHasher takes tokens; of a dict's values of text it makes the same ones."""
    if is_text_hasher(group.hasher):
        return group
    settings = {**group.hasher.get_params(), "input_type": "string"}
    return group._replace(hasher=type(group.hasher)(**settings))


def _counted(hashing: Hashing) -> Hashing:
    """Return a hashing if its columns can be counted in int32."""
    if hashing.features > MOST_FEATURES:
        raise InvalidArgumentError(
            f"hash_features: the hashers have {hashing.features} columns together; there can be {MOST_FEATURES}. Give "
            "them a smaller n_features, or have columns share one hasher."
        )
    return hashing


def hashing_from(settings: Mapping[str, Any], missing: str | None, name: str) -> Hashing:
    """Return the hashing that has been stored as its settings; ``name`` says where, for messages."""
    groups = []
    try:
        for described in settings["groups"]:
            entries = described["columns"]
            if entries is not None:
                entries = tuple(tuple(entry) for entry in entries)
            groups.append(Group(hasher_from(described["hasher"]), entries))
        return Hashing(tuple(groups), missing or settings["missing"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"The settings of hash_features in {name} cannot be read: {error!r}.") from error


def check_categories(dtype: Any, name: str) -> None:
    """Refuse a column of categories by its dtype, as far as this tells what it holds."""
    kind = getattr(dtype, "kind", "O")
    if hasattr(dtype, "categories"):
        kind = getattr(getattr(dtype.categories, "dtype", None), "kind", "O")
    if kind in "fcmM":
        raise _no_category(f"the column {name!r} has dtype {dtype}", name)


def _no_category(found: str, name: str) -> InvalidTypeError:
    """Return the error about values that are no categories."""
    return InvalidTypeError(
        f"hash_features: {found}; categories are text, whole numbers or booleans. Floats that are whole become so by "
        f"frame[{name!r}].astype('Int64'), and dates become text by .dt.strftime('%Y-%m-%d')."
    )


def list_of(values: Any) -> list[Any]:
    """Return rows as a list of Python's objects."""
    if hasattr(values, "categories") or hasattr(getattr(values, "dtype", None), "categories"):
        values = values.astype(object)
    if hasattr(values, "tolist"):
        return values.tolist()
    return list(values)


def is_lacking(value: Any) -> bool:
    """Return whether a value is missing: None, NaN, or pandas' NA or NaT."""
    if is_missing(type(value)) or type(value).__name__ == "NaTType":
        return True
    return isinstance(value, float) and value != value


def _described(value: Any) -> str:
    return f"a {type(value).__name__}, {str(value)[:40]!r},"


def _in(name: str) -> str:
    """Return the column of a value, for messages."""
    if not name:
        return ""
    return f" in the column {name!r}"
