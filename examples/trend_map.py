"""A model for each cell: where does North America warm, how fast, and where can one tell?

    python examples/trend_map.py [--picture FILE]

Fits the yearly temperature of data/climate.zarr, a field over year, latitude and longitude, with a trend in every cell,
in one pass over the chunks as they are stored. Compares a few cells with statsmodels, and draws the trends; cells whose
trend is not told from 0 are dotted. The errors are the model's, which takes the years for independent.
"""

import tempfile
from argparse import ArgumentParser
from pathlib import Path

import numpy as np
import statsmodels.api as sm
import xarray as xr
from matplotlib.figure import Figure

import dask_gd

CLIMATE = Path(__file__).parents[1] / "data" / "climate.zarr"


def draw(trend: xr.DataArray, p_value: xr.DataArray, picture: str) -> None:
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    ax = figure.subplots()
    east = trend.longitude - 360
    mesh = ax.pcolormesh(east, trend.latitude, trend, cmap="RdBu_r", vmin=-2, vmax=2)
    rows, columns = np.nonzero(p_value.values > 0.01)
    ax.plot(east.values[columns], trend.latitude.values[rows], ".", color="black", markersize=2)
    ax.set(title="warming from 1860 to 2000, dots: p > 0.01", xlabel="longitude", ylabel="latitude")
    figure.colorbar(mesh, ax=ax, label="K a century")
    figure.savefig(picture, dpi=120)


def main(picture: str) -> None:
    climate = xr.open_zarr(CLIMATE, consolidated=False)
    century = (climate.year - 1980) / 100
    climate = climate.assign(century=century, late=(century - 0.2).clip(min=0))
    # A broken line: a trend, and what is added to it from 2000 on.
    run = dask_gd.fit(climate, features=["century", "late"], target="air_temperature", sample_dims="year")
    print(run)
    print(run.table)

    table = dask_gd.infer(run)
    trend = table.coefficient.sel(parameter="century")
    p_value = table.p_value.sel(parameter="century")
    told = float((p_value < 0.01).mean())
    print(f"\nTrends before 2000: {float(trend.min()):+.2f} to {float(trend.max()):+.2f} K a century")
    print(f"told from 0 (p < 0.01) in {100 * told:.0f}% of {trend.size:,} cells")
    print(f"variance explained: {100 * float(run.rsquared.mean()):.0f}% in the mean over the cells")

    x = np.column_stack([climate.century, climate.late, np.ones(climate.sizes["year"])])
    largest = 0.0
    for i, j in ((0, 0), (18, 24), (36, 48)):
        peer = sm.OLS(climate.air_temperature[:, i, j].values.astype(float), x).fit()
        differences = run.standard_error[:, i, j] / peer.bse - 1, run.weights[:, i, j] / peer.params[:2] - 1
        largest = max(largest, *(float(abs(difference).max()) for difference in differences))
    print(f"largest difference from statsmodels in three cells, relative: {largest:.1e}")
    draw(trend, p_value, picture)
    print(f"The map is in {picture}.")


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--picture", help="where to draw the map (default: in a temporary directory)")
    main(parser.parse_args().picture or str(Path(tempfile.mkdtemp(prefix="trend-")) / "trend.png"))
