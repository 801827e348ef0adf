"""Named dimensions: how does the warming of North America depend on latitude and longitude?

    python examples/climate.py [--picture FILE]

Regresses the yearly temperature of data/climate.zarr, a field over year, latitude and longitude, on terms of which each
has dimensions of its own: a map of what was normal, a series of years, their products with latitude and longitude. The
table of 435,120 rows and 12 columns that this amounts to is never made, but for NumPy, to compare. Draws the warming
from the first thirty years to the last, in the data and as predicted.
"""

import tempfile
from argparse import ArgumentParser
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

import dask_gd

CLIMATE = Path(__file__).parents[1] / "data" / "climate.zarr"
SAMPLES = ("year", "latitude", "longitude")
BEFORE, AFTER = slice(1860, 1889), slice(2070, 2099)


def terms(climate: xr.Dataset) -> xr.Dataset:
    """The dataset with the regression's terms; those with the temperature's chunks stay lazy."""
    north, east = (climate.latitude - 37.5) / 22.5, (climate.longitude - 270) / 45
    century = (climate.year - 1980) / 100
    places = {"": 1, "*north": north, "*east": east, "*north^2": north**2, "*east^2": east**2}
    warming = {
        f"{name}{place}": of_time * at
        for name, of_time in (("century", century), ("century^2", century**2))
        for place, at in places.items()
    }
    normal = climate.air_temperature.sel(year=BEFORE).mean("year")
    return climate.assign(normal=normal, normal_north=normal * north, **warming)


def warming(temperature: xr.DataArray) -> xr.DataArray:
    return temperature.sel(year=AFTER).mean("year") - temperature.sel(year=BEFORE).mean("year")


def draw(maps: dict[str, xr.DataArray], picture: str) -> None:
    figure = Figure(figsize=(11, 4), layout="constrained")
    axes = figure.subplots(1, len(maps), sharey=True)
    for ax, (title, field) in zip(axes, maps.items(), strict=True):
        mesh = ax.pcolormesh(field.longitude - 360, field.latitude, field, vmin=1, vmax=8, cmap="inferno_r")
        ax.set(title=title, xlabel="longitude")
    axes[0].set_ylabel("latitude")
    figure.colorbar(mesh, ax=axes, label="K")
    figure.savefig(picture, dpi=120)


def main(picture: str) -> None:
    climate = terms(xr.open_zarr(CLIMATE, consolidated=False))
    features = [name for name in climate.data_vars if name != "air_temperature"]
    source = dask_gd.open(climate, features=features, target="air_temperature", sample_dims=SAMPLES)
    print(source)
    table = np.prod(source.shape) * source.dtype.itemsize
    print(f"{source.nbytes / 1e6:.1f} MB of variables, which as a table would be {table / 1e6:.0f} MB\n")

    run = dask_gd.fit(source, callbacks=[print])
    print("\nThe weights:")
    for name in features:
        print(f"  {name:24s} {run.weights.sel(feature=name).item():+8.4f}")

    # Lazy, and labelled as the temperature is.
    predicted = run.predict(climate)
    error = float(((predicted - climate.air_temperature) ** 2).mean() ** 0.5)
    print(f"\nroot mean square error: {error:.3f} {predicted.units}")
    maps = {"in the data": warming(climate.air_temperature).compute(), "predicted": warming(predicted).compute()}
    north = {title: float(field.sel(latitude=slice(50, 60)).mean()) for title, field in maps.items()}
    print("warming from 1860-1889 to 2070-2099, north of 50 degrees: ", end="")
    print(", ".join(f"{value:.2f} K {title}" for title, value in north.items()))
    draw(maps, picture)
    print(f"The maps are in {picture}.")

    columns = xr.broadcast(*(climate[name] for name in (*features, "air_temperature")))
    *x, y = (column.transpose(*SAMPLES).values.ravel().astype(float) for column in columns)
    by_hand = np.linalg.lstsq(np.stack([*x, np.ones(len(y))], axis=1), y)[0]
    print(f"largest difference from NumPy's weights, relative: {abs(run.weights / by_hand[:-1] - 1).max().item():.1e}")


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--picture", help="where to draw the maps (default: in a temporary directory)")
    main(parser.parse_args().picture or str(Path(tempfile.mkdtemp(prefix="climate-")) / "warming.png"))
