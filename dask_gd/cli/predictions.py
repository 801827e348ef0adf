"""Define the command ``dask-gd predict``."""

from __future__ import annotations

from typing import Any

import click
import dask.array as da
import xarray as xr
import zarr

from ..errors import InvalidArgumentError
from ..results.fit_result import FitResult
from ..results.loading import load
from ..results.prediction import write
from ..sources import open as open_group
from ..sources.stores import group_location
from .options import Names, Rows, check_cluster, check_output, cluster_of, cluster_options, dataset_of
from .terminal import Command, say


@click.command(cls=Command)
@click.argument("run", type=click.Path())
@click.argument("source")
@click.option("-x", "--x", type=Names(), help="The group's features, as in the fit; not for a fit to a Dataset.")
@click.option("--offset", metavar="NAME", help="What is added to each prediction.")
@click.option("--rows", type=Rows(), help="Only these rows of the array.")
@click.option("-o", "--output", required=True, metavar="OUT.zarr", help="Where to write.")
@click.option("--overwrite", is_flag=True, help="Replace what is there.")
@cluster_options
@click.option("--quiet", is_flag=True, help="Nothing but warnings and errors on stderr.")
def predict(
    run: str,
    source: str,
    x: list[str] | None,
    offset: str | None,
    rows: slice | None,
    output: str,
    overwrite: bool,
    quiet: bool,
    **cluster: Any,
) -> None:
    """Write what the fit in RUN predicts for each row of SOURCE.

    OUT.zarr is an array (n,) or (n, k), chunked as the rows are; of a fit to a Dataset, a Dataset with the variable
    "prediction" and its coordinates. It appears once it is complete: every chunk is counted before. The workers of a
    --scheduler must see the place.
    """
    # Refuse arguments that do not fit together before a cluster starts.
    check_cluster(**cluster)
    path = check_output(output, overwrite, source)
    fitted = load(run)
    is_of_dataset = fitted.sample_dims is not None
    if is_of_dataset and (x is not None or rows is not None):
        raise click.UsageError(f"{run} is a fit to a Dataset, which names its features; leave --x and --rows out.")
    if not is_of_dataset and x is None:
        raise click.UsageError(f"{run} is a fit to an array; name the one to predict from: --x NAME.")
    # Nothing is computed before the prediction is written.
    with cluster_of(**cluster, quiet=quiet):
        if is_of_dataset:
            prediction: da.Array | xr.DataArray = fitted.predict(dataset_of(source), offset=offset)
        else:
            prediction = fitted.predict(rows_of(source, x, fitted), array_of(group_of(source), source, offset))
            if rows is not None:
                prediction = prediction[rows]
        place = write(prediction, path, overwrite=overwrite)
    if not quiet:
        shape = " x ".join(map(str, prediction.shape))
        say(f"wrote {place}, {shape}")


def rows_of(source: str, names: list[str] | None, fitted: FitResult) -> Any:
    """Return the rows of features in a group: an array, or columns of numbers and codes, and sparse rows."""
    assert names is not None
    group = group_of(source)
    is_array = len(names) == 1 and not isinstance(group.get(names[0]), zarr.Group)
    if fitted.encoding is None and is_array:
        return array_of(group, source, names[0])
    return open_group(source, x=names)


def group_of(source: str) -> zarr.Group:
    """Open a Zarr group, or refuse anything else."""
    try:
        return zarr.open_group(group_location(source), mode="r")
    except (FileNotFoundError, zarr.errors.BaseZarrError) as error:
        raise InvalidArgumentError(f"{source} is not a Zarr group.") from error


def array_of(group: zarr.Group, source: str, name: str | None) -> Any:
    """Return an array of a group, or None without a name; refuse a name that the group does not have."""
    if name is None:
        return None
    # It may be absent, or a group.
    array = group.get(name)
    if not isinstance(array, zarr.Array):
        names = ", ".join(sorted(key for key, _ in group.arrays()))
        raise InvalidArgumentError(f"{name!r}: no such array in {source}; it has {names or 'none'}.")
    return array
