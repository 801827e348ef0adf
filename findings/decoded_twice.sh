#!/usr/bin/env bash
# xarray's arithmetic keeps `scale_factor` and `add_offset`, so that values unpacked by hand are unpacked once more.
#
# Guess, before the first run: arithmetic drops the attributes, so what `packed * scale_factor + add_offset` gives is
# plain numbers, which any later reader leaves as they are.
# Versions: xarray 2026.9.0, zarr 3.1.6, numpy 2.4.6, pandas 3.1.1, Python 3.11.
# Seen: the result is right, but it still carries `scale_factor`, `add_offset` and `_FillValue`. `xr.decode_cf`, and
# `to_zarr` followed by `open_zarr`, apply them again: 281.5 becomes 282.815 and a slope of 1 becomes 0.01. No warning.
# xarray 2025.10.1 dropped them, 2025.11.0 keeps them (looked at once, not run below).
# Hurts: whoever opens with `mask_and_scale=False` (to decode late, on the workers, or in float32), unpacks by hand and
# stores the result or hands it to code that goes by attributes. The numbers stay plausible.
# Do: `drop_attrs()` on what was unpacked, or unpack under `xr.set_options(keep_attrs=False)`, or let `xr.decode_cf` do
# it, which moves the attributes into `encoding`.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    xarray==2026.9.0 zarr==3.1.6 numpy==2.4.6 pandas==3.1.1
cat > "$folder/show.py" <<'PY'
import warnings

import numpy as np
import xarray as xr

warnings.simplefilter("error")

hours = np.arange(5)
kelvin = xr.Dataset({"t": ("hour", 280.5 + hours)})
packing = {"dtype": "int16", "scale_factor": 0.01, "add_offset": 280.0, "_FillValue": -9999}
kelvin.to_zarr("packed.zarr", encoding={"t": packing}, consolidated=False)


def unpack(packed):
    return packed * packed.attrs["scale_factor"] + packed.attrs["add_offset"]


def reread(array, path):
    array.to_dataset(name="t").to_zarr(path, consolidated=False)
    return xr.open_zarr(path, consolidated=False, chunks=None)["t"]


def show(title, array):
    slope = np.polyfit(hours, array.values, 1)[0]
    print(f"{title}: {array.values.round(4)}, slope per hour {slope:.4f}, attributes {sorted(array.attrs)}")
    return array.values


packed = xr.open_zarr("packed.zarr", mask_and_scale=False, consolidated=False, chunks=None)["t"]
by_hand = unpack(packed)
with xr.set_options(keep_attrs=False):
    without = unpack(packed)

first = show("unpacked by hand             ", by_hand)
decoded = show("then xr.decode_cf            ", xr.decode_cf(by_hand.to_dataset(name="t"))["t"])
stored = show("then to_zarr and open_zarr   ", reread(by_hand, "stored.zarr"))
dropped = show("the same after drop_attrs    ", reread(by_hand.drop_attrs(), "dropped.zarr"))
unkept = show("the same, keep_attrs=False   ", reread(without, "unkept.zarr"))

assert np.allclose(first, kelvin["t"].values)
assert {"scale_factor", "add_offset"} <= set(by_hand.attrs)
for values in (decoded, stored):
    assert np.allclose(values, kelvin["t"].values * 0.01 + 280.0)
for values in (dropped, unkept):
    assert np.allclose(values, kelvin["t"].values)
PY
cd "$folder"
venv/bin/python show.py
