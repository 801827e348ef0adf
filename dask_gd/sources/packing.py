"""CF packing: how the attributes of an array turn its stored numbers into values.

Every entrance uses this module: variables of a Dataset, DataArrays, Zarr arrays. The values are those that xarray
decodes, with three differences.

- Products are taken in float64 where xarray may choose float32 or an integer dtype, so that no digit is lost.
- A fill value is recognised in both signs beside ``_Unsigned``, and rounded to the stored dtype.
- ``_Unsigned`` may be written "True".

As in xarray, ``valid_min``, ``valid_max`` and ``valid_range`` are not heeded.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr

from ..errors import DataError, InvalidArgumentError
from .metadata import attributes_of

#: Attributes that say which numbers are missing values, and those that scale.
FILLS = ("_FillValue", "missing_value")
SCALES = ("scale_factor", "add_offset")
#: Says that signed integers stand for unsigned ones, or the other way round.
UNSIGNED = "_Unsigned"
#: The attribute in which xarray writes an array's dimensions, in Zarr format 2.
DIMENSIONS = "_ARRAY_DIMENSIONS"


@dataclass(frozen=True)
class Packing:
    """How stored numbers become values: ``stored * scale + offset``, and NaN where they are one of ``fills``."""

    scale: float = 1.0
    offset: float = 0.0
    fills: tuple[float, ...] = ()
    #: Signed integers stand for unsigned ones, or unsigned for signed.
    other_sign: bool = False

    @property
    def scales(self) -> bool:
        """Return whether values are other numbers than the stored ones."""
        return (self.scale, self.offset) != (1.0, 0.0)

    @property
    def note(self) -> str:
        """Return what belongs to a message about a NaN: which stored numbers are NaN, and why."""
        if not self.fills:
            return ""
        return f" (where {' or '.join(f'{fill:g}' for fill in self.fills)} is stored, the fill value, the value is NaN)"

    def dtype(self, stored: np.dtype) -> np.dtype:
        """Return the dtype of the values of a stored dtype."""
        if self.scales or stored.kind != "f":
            return np.dtype(float)
        return stored.newbyteorder("=")

    def decode(self, stored: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Return the values, in ``out`` if it is given."""
        if self.other_sign:
            if stored.dtype.kind not in "iu":
                raise DataError(f"The attribute {UNSIGNED} is for integers; a block holds {stored.dtype}.")
            kind = "u" if stored.dtype.kind == "i" else "i"
            stored = stored.view(f"{stored.dtype.byteorder}{kind}{stored.dtype.itemsize}")
        if out is None:
            values = np.empty(stored.shape, self.dtype(stored.dtype))
        else:
            values = out
        np.copyto(values, stored, casting="unsafe")
        missing = [values == self._stored(fill, stored.dtype) for fill in self.fills]
        if self.scale != 1.0:
            values *= self.scale
        if self.offset != 0.0:
            values += self.offset
        for where in missing:
            values[where] = np.nan
        return values

    def _stored(self, fill: float, dtype: np.dtype) -> float:
        """Return a fill value as it is read: rounded to a float dtype, or as the integer of the other sign."""
        if dtype.kind == "f":
            with np.errstate(over="ignore"):
                return float(np.array(fill, dtype))
        if not self.other_sign:
            return fill
        around = 256.0**dtype.itemsize
        if fill < np.iinfo(dtype).min:
            return fill + around
        if fill > np.iinfo(dtype).max:
            return fill - around
        return fill


def packing_of(name: Hashable, attrs: Mapping, dtype: np.dtype) -> Packing | None:
    """Return the packing that attributes describe, or None where the stored numbers are the values.

    Raises
    ------
    InvalidArgumentError
        Where an attribute is no number.
    """
    if dtype.kind not in "fiub":
        return None
    found = {key: attrs[key] for key in FILLS + SCALES if attrs.get(key) is not None}
    try:
        fills = tuple(_number(v) for key in FILLS if key in found for v in np.ravel(found[key]))
        # A file may hold one number as an array of one.
        scale, offset = (float(np.asarray(found.get(key, v)).item()) for key, v in zip(SCALES, (1.0, 0.0), strict=True))
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError(
            f"The attributes {', '.join(FILLS + SCALES)} of variable {name!r} must be numbers: {error}."
        ) from error
    other_sign = (dtype.kind, str(attrs.get(UNSIGNED)).lower()) in (("i", "true"), ("u", "false"))
    # NaN is NaN already, and no integer is. xarray gives every float variable that fill value.
    packing = Packing(scale, offset, tuple(fill for fill in fills if fill == fill), other_sign)
    return None if packing == Packing() else packing


def without_packing(attrs: Mapping) -> dict:
    """Return the attributes of decoded values: those that say how to decode are gone."""
    return {key: value for key, value in attrs.items() if key not in (*FILLS, *SCALES, UNSIGNED)}


def zarr_packing(array: zarr.Array, name: str) -> Packing | None:
    """Return the packing of a Zarr array.

    In format 2 the fill value is what xarray writes ``_FillValue`` to, and reads it from, whatever the attribute says.
    Only arrays whose dimensions are named there can have come from it.
    """
    attrs = dict(attributes_of(array))
    if array.metadata.zarr_format == 2 and DIMENSIONS in attrs and array.fill_value is not None:
        attrs["_FillValue"] = array.fill_value
    return packing_of(name, attrs, array.dtype)


def _number(value: Any) -> float:
    """Return a fill value as a number. In Zarr format 3 xarray writes those of floats as base64 of eight bytes."""
    try:
        return float(value)
    except ValueError:
        pass
    try:
        return float(np.frombuffer(base64.b64decode(value, validate=True), "<f8").item())
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"{value!r} is none") from error
