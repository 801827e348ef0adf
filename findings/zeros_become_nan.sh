#!/usr/bin/env bash
# xarray reads every 0 of a format 2 Zarr array that zarr itself wrote as a missing value.
#
# Guess, before the first run: `fill_value` only says what an unwritten chunk holds, so the values that were written
# (0, 1, 2 ...) come back as they are, in both formats.
# Versions: xarray 2026.9.0, zarr 3.1.6, numpy 2.4.6, pandas 3.1.1, Python 3.11.
# Seen: zarr writes `fill_value: 0` (False for bool) unless told otherwise. In format 2 xarray takes that for the CF
# `_FillValue`: each 0 is NaN, integers become float64 and booleans become objects, without a warning. Format 3 with the
# same values is read as written. `use_zarr_fill_value_as_mask=False`, whose docstring says that the data are then not
# masked, changes nothing.
# Hurts: whoever fits counts, masks or 0/1 targets. With rows that hold NaN left out, the zeros drop out of the
# sample: a mean rises, a slope changes, and a 0/1 target is left with one class.
# Do: write such arrays with `fill_value=None` (format 2) or in format 3; open those of others with
# `mask_and_scale=False`; compare the dtype with zarr's.
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
import zarr

warnings.simplefilter("error")

x = np.arange(8.0)
counts = np.array([0, 0, 1, 0, 2, 3, 4, 6], dtype="int32")
columns = {"counts": counts, "is_land": counts > 1}


def write(path, zarr_format, **options):
    group = zarr.open_group(path, mode="w", zarr_format=zarr_format)
    for name, values in columns.items():
        if zarr_format == 2:
            named = {"attributes": {"_ARRAY_DIMENSIONS": ["row"]}}
        else:
            named = {"dimension_names": ["row"]}
        array = group.create_array(name, shape=values.shape, chunks=(4,), dtype=values.dtype, **named, **options)
        array[:] = values
    return path


def slope(counts):
    kept = ~np.isnan(counts.astype(float))
    return np.polyfit(x[kept], counts[kept].astype(float), 1)[0]


def show(title, path, **options):
    data = xr.open_zarr(path, consolidated=False, chunks=None, **options)
    print(title)
    print("  counts ", data["counts"].dtype, data["counts"].values)
    print("  is_land", data["is_land"].dtype, data["is_land"].values)
    print(f"  mean of counts {float(data['counts'].mean()):.4f}, slope {slope(data['counts'].values):.4f}")
    return data


print(f"written: mean of counts {counts.mean():.4f}, slope {slope(counts):.4f}")
two = show("format 2", write("two.zarr", 2))
three = show("format 3", write("three.zarr", 3))
raw = show("format 2, mask_and_scale=False", "two.zarr", mask_and_scale=False)
unmasked = show("format 2, use_zarr_fill_value_as_mask=False", "two.zarr", use_zarr_fill_value_as_mask=False)
without = show("format 2, written with fill_value=None", write("none.zarr", 2, fill_value=None))

assert two["counts"].dtype == "float64"
assert np.array_equal(np.isnan(two["counts"].values), counts == 0)
assert two["is_land"].dtype == object
assert float(two["counts"].mean()) > 1.5 * counts.mean()
for name in columns:
    assert unmasked[name].equals(two[name])
for data in (three, raw, without):
    for name, values in columns.items():
        assert data[name].dtype == values.dtype
        assert np.array_equal(data[name].values, values)
PY
cd "$folder"
venv/bin/python show.py
