"""CF packing: how the attributes of an array turn its stored numbers into values.

Every entrance uses this module: variables of a Dataset, DataArrays, Zarr arrays. The values are as xarray decodes them,
with three differences.

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

#: Attributes that say which numbers are missing values.
FILLS = ("_FillValue", "missing_value")
#: Attributes that scale.
SCALES = ("scale_factor", "add_offset")
#: The attribute that says that signed integers stand for unsigned ones, or the other way round.
UNSIGNED = "_Unsigned"
#: The attribute in which xarray writes an array's dimensions, in Zarr format 2.
DIMENSIONS = "_ARRAY_DIMENSIONS"


@dataclass(frozen=True)
class Packing:
    """The way from stored numbers to values: ``stored * scale + offset``, and NaN where they are in ``fills``."""

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
        """Return the note for a message about a NaN: which stored numbers are NaN, and why."""
        if not self.fills:
            return ""
        numbers = " or ".join(f"{fill:g}" for fill in self.fills)
        return f" (where {numbers} is stored, the fill value, the value is NaN)"

    def dtype(self, stored: np.dtype) -> np.dtype:
        """Return the dtype of the values of a stored dtype."""
        if self.scales or stored.kind != "f":
            return np.dtype(float)
        return stored.newbyteorder("=")

    def decode(self, stored: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Return the values, in ``out`` if it is not None."""
        if self.other_sign:
            stored = _with_other_sign(stored)
        values = out
        if values is None:
            values = np.empty(stored.shape, self.dtype(stored.dtype))
        np.copyto(values, stored, casting="unsafe")

        # Fill values are stored numbers: they are looked for before anything is scaled.
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

        # The same bits in the other sign differ by the number of all integers of this size.
        count = 256.0**dtype.itemsize
        if fill < np.iinfo(dtype).min:
            return fill + count
        if fill > np.iinfo(dtype).max:
            return fill - count
        return fill


def _with_other_sign(stored: np.ndarray) -> np.ndarray:
    """Return the same bits as unsigned integers if they are signed, and the other way round."""
    dtype = stored.dtype
    if dtype.kind not in "iu":
        raise DataError(f"The attribute {UNSIGNED} is for integers; a block holds {dtype}.")
    kind = "i"
    if dtype.kind == "i":
        kind = "u"
    return stored.view(f"{dtype.byteorder}{kind}{dtype.itemsize}")


def packing_of(name: Hashable, attrs: Mapping, dtype: np.dtype) -> Packing | None:
    """Return the packing that attributes describe, or None where the stored numbers are the values.

    Raises
    ------
    InvalidArgumentError
        If an attribute is no number.
    """
    if dtype.kind not in "fiub":
        return None
    # Attributes that are None are as good as absent.
    attributes = {key: attrs[key] for key in FILLS + SCALES if attrs.get(key) is not None}
    fills = []
    try:
        for key in FILLS:
            if key in attributes:
                fills += [_number(value) for value in np.ravel(attributes[key])]
        # A file may hold a number as an array of length one.
        scale = float(np.asarray(attributes.get("scale_factor", 1.0)).item())
        offset = float(np.asarray(attributes.get("add_offset", 0.0)).item())
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError(
            f"The attributes {', '.join(FILLS + SCALES)} of variable {name!r} must be numbers: {error}."
        ) from error

    unsigned = str(attrs.get(UNSIGNED)).lower()
    packing = Packing(
        scale=scale,
        offset=offset,
        # NaN is NaN already, and no integer is. xarray gives every float variable that fill value.
        fills=tuple(fill for fill in fills if fill == fill),
        other_sign=(dtype.kind, unsigned) in (("i", "true"), ("u", "false")),
    )
    if packing == Packing():
        return None
    return packing


def without_packing(attrs: Mapping) -> dict:
    """Return the attributes of decoded values, without those that say how to decode."""
    packing = (*FILLS, *SCALES, UNSIGNED)
    return {key: value for key, value in attrs.items() if key not in packing}


def zarr_packing(array: zarr.Array, name: str) -> Packing | None:
    """Return the packing of a Zarr array.

    In format 2 xarray writes ``_FillValue`` to the array's fill value, and reads it from there, whatever the attribute
    says. Only arrays whose attributes name their dimensions can come from xarray.
    """
    attrs = dict(attributes_of(array))
    by_xarray = array.metadata.zarr_format == 2 and DIMENSIONS in attrs
    if by_xarray and array.fill_value is not None:
        attrs["_FillValue"] = array.fill_value
    return packing_of(name, attrs, array.dtype)


def _number(value: Any) -> float:
    """Return a fill value as a number.

    In Zarr format 3 xarray writes the fill values of floats as base64 of eight bytes.
    """
    try:
        return float(value)
    except ValueError:
        pass
    try:
        data = base64.b64decode(value, validate=True)
        return float(np.frombuffer(data, "<f8").item())
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"{value!r} is none") from error
