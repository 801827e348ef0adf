"""Make the climate example: yearly air temperature over North America, 1860 to 2099, from a run of a climate model.

    python data/make_climate.py A1B_north_america.nc  # data/climate.zarr

It is a Zarr v3 group that xarray.open_zarr opens. README.md describes it and says where to get the NetCDF file. Needs
h5netcdf (the extra `data`).
"""

from argparse import ArgumentParser
from pathlib import Path

import numpy as np
import xarray as xr
from zarr.codecs import Crc32cCodec, ZstdCodec

YEARS = 24  # to a chunk, of 10
HOURS = 360 * 24  # of a year in the model's calendar


def convert(source: Path, output: Path) -> xr.Dataset:
    model = xr.open_dataset(source, engine="h5netcdf", decode_times=False)
    temperature = model.air_temperature.astype("float32")
    keep = {name: temperature.attrs[name] for name in ("standard_name", "units", "source", "cell_methods")}
    year = np.floor(1970 + model.time.values / HOURS).astype("int16")
    climate = xr.Dataset(
        {"air_temperature": (("year", "latitude", "longitude"), temperature.values, keep)},
        coords={"year": year, "latitude": model.latitude, "longitude": model.longitude},
        attrs={"title": "Yearly mean air temperature at 1.5 m, scenario A1B", "Conventions": "CF-1.5"},
    ).drop_vars(["forecast_reference_time", "height"], errors="ignore")
    encoding = {
        "air_temperature": {
            "chunks": (YEARS, *temperature.shape[1:]),
            "compressors": (ZstdCodec(level=9), Crc32cCodec()),
        }
    }
    climate.to_zarr(output, mode="w", zarr_format=3, consolidated=False, encoding=encoding)
    return climate


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "climate.zarr")
    arguments = parser.parse_args()
    print(convert(arguments.source, arguments.output))
