"""Define the options that commands of the command line share, and turn them into arguments."""

from __future__ import annotations

import contextlib
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import dask
import xarray as xr
import zarr
from dask.system import CPU_COUNT
from dask.utils import parse_bytes

from ..dashboard.progress import Progress
from ..errors import ClusterError, DaskGDError, InvalidArgumentError
from ..model.losses import LOSSES
from ..model.penalties import L1, L2, ElasticNet
from ..solvers import SOLVERS
from ..sources import open as open_group
from ..sources.metadata import check_variable, understood
from .terminal import say

PENALTIES: dict[str, Any] = {"l2": L2, "l1": L1, "elasticnet": ElasticNet}

#: Time after which a scheduler that has not answered is taken to be absent.
ANSWER_WITHIN = "10s"


class Spec(click.ParamType):
    """A parameter ``NAME[:value,...,parameter=value,...]`` that stands for an object; names in ``plain`` stay names."""

    name = "spec"

    def __init__(self, what: str, choices: dict[str, Any], plain: tuple[str, ...] = ()):
        self.what = what
        self.choices = choices
        self.plain = plain

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        """Return the object, or refuse a name or a parameter that there is not."""
        # The name.
        if not isinstance(value, str):
            return value
        name, _, rest = value.partition(":")
        if name in self.plain and not rest:
            return name
        if name not in self.choices:
            choices = ", ".join([*self.plain, *sorted(self.choices)])
            self.fail(f"{value!r}: choose one of {choices}.", parameter, context)
        # The parameters, by their places or their names.
        known = list(inspect.signature(self.choices[name]).parameters)
        arguments: dict[str, Any] = {}
        items = rest.split(",") if rest else []
        for i, item in enumerate(items):
            key, equals, text = item.partition("=")
            if not equals:
                text = key
                key = "".join(known[i : i + 1])
            if key not in known or key in arguments:
                allowed = f"{name} takes no parameters"
                if known:
                    allowed = f"{name} takes {', '.join(known)}"
                self.fail(f"{value!r}: {allowed}, each once.", parameter, context)
            arguments[key] = _number(text)
        try:
            return self.choices[name](**arguments)
        except (DaskGDError, TypeError) as error:
            self.fail(f"{value!r}: {error}", parameter, context)

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """Return the form of the parameter, for help."""
        return "NAME[:PARAMETER=VALUE,...]"


def _number(text: str) -> Any:
    """Return the number that a text is, or the text if it is none."""
    # An int where possible: some parameters are counts.
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


def _listed(choices: dict[str, Any]) -> str:
    """List the names of the choices, for help."""
    return ", ".join(sorted(choices))


class Names(click.ParamType):
    """Names with commas between them."""

    name = "a,b,..."

    def convert(self, value: Any, parameter: Any, context: Any) -> Any:
        """Return the list of names."""
        if isinstance(value, str):
            return [name.strip() for name in value.split(",")]
        return value


class Numbers(click.ParamType):
    """Numbers with commas between them; or their count, where that is allowed."""

    def __init__(self, or_count: bool = False):
        self.or_count = or_count
        self.name = "a,b,... or how many" if or_count else "a,b,..."

    def convert(self, value: Any, parameter: Any, context: Any) -> Any:
        """Return the list of numbers, or their count."""
        # Digits alone are a count.
        if not isinstance(value, str):
            return value
        if self.or_count and value.strip().isdigit():
            return int(value)
        try:
            return [float(text) for text in value.split(",")]
        except ValueError:
            self.fail(f"{value!r}: numbers with commas between them, such as 1e-4,1e-2.", parameter, context)


class Rows(click.ParamType):
    """Consecutive rows A:B, of which either end may be left out."""

    name = "A:B"

    def convert(self, value: Any, parameter: Any, context: Any) -> Any:
        """Return the slice of the rows."""
        if not isinstance(value, str):
            return value
        try:
            start, stop = (int(text) if text.strip() else None for text in value.split(":"))
        except ValueError:
            self.fail(f"{value!r}: the first row and the one after the last, such as 0:240000.", parameter, context)
        return slice(start, stop)


class Keep(click.ParamType):
    """A number of iterations, or all of them."""

    name = "N|all"

    def convert(self, value: Any, parameter: Any, context: Any) -> Any:
        """Return the number, or None for all."""
        if value == "all":
            return None
        if not str(value).isdigit() or int(value) < 2:
            self.fail(f"{value!r}: 2 or more, or all.", parameter, context)
        return int(value)


class Memory(click.ParamType):
    """Bytes with a unit."""

    name = "SIZE"

    def convert(self, value: Any, parameter: Any, context: Any) -> Any:
        """Return the number of bytes."""
        try:
            return parse_bytes(value)
        except (ValueError, TypeError):
            self.fail(f"{value!r}: bytes with a unit, such as 4GB.", parameter, context)


def _together(*options: Callable) -> Callable:
    """Return a decorator that adds these options, in the order in which help shows them."""

    # The decorator that is applied last is shown first.
    def decorate(function: Callable) -> Callable:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


data_options = _together(
    click.argument("source"),
    click.option("-x", "--x", type=Names(), help="The group's features: an array (n, p), or columns, codes too."),
    click.option("-y", "--y", metavar="NAME", help="Its array of targets."),
    click.option("--rows", type=Rows(), help="Only these rows of the arrays."),
    click.option(
        "--missing", type=click.Choice(["error", "fill"]), help="Absent chunks: refuse, or take the fill value."
    ),
    click.option("--drop", type=click.Choice(["first"]), help="No feature for the first level of columns of codes."),
    click.option("--features", type=Names(), help="Of an xarray Dataset: variables or coordinates."),
    click.option("--target", type=Names(), help="Of a Dataset: the variable to fit."),
    click.option("--sample-dims", type=Names(), help="Of a Dataset: the dimensions whose points are the rows."),
    click.option("--sample-weight", metavar="NAME", help="The array or variable of row weights."),
    click.option("--offset", metavar="NAME", help="What is added to each prediction."),
    click.option(
        "--nan",
        type=click.Choice(["error", "drop"]),
        default="error",
        show_default=True,
        help="Rows with NaN: refuse, or leave out.",
    ),
)

fit_options = _together(
    click.option(
        "--loss",
        type=Spec("loss", LOSSES),
        default="squared",
        show_default=True,
        help=f"{_listed(LOSSES)}; such as huber:delta=2.",
    ),
    click.option(
        "--solver",
        type=Spec("solver", SOLVERS, ("auto",)),
        default="auto",
        show_default=True,
        help=f"auto, {_listed(SOLVERS)}; such as sgd:batch=0.1.",
    ),
    click.option("--no-intercept", is_flag=True, help="Fit no intercept."),
    click.option("--max-iter", type=click.IntRange(min=0), default=100, show_default=True, help="Steps at most."),
    click.option(
        "--tol",
        type=click.FloatRange(min=0),
        default=1e-6,
        show_default=True,
        help="Of each component of the gradient, of its scale.",
    ),
    click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True),
    click.option("--store", type=click.Path(), metavar="DIR", help="Where each iteration is kept; goes on from there."),
)

cluster_options = _together(
    click.option("--scheduler", metavar="ADDRESS", help="Of a running Dask cluster."),
    click.option("--workers", type=click.IntRange(min=1), help="Start so many processes on this machine."),
    click.option("--threads", type=click.IntRange(min=1), help="Of each worker, or without workers in all."),
    click.option("--memory", type=Memory(), help="Of each worker, such as 4GB."),
)

output_options = _together(
    click.option("--json", "json_", is_flag=True, help="Print JSON."),
    click.option("--quiet", is_flag=True, help="Nothing but warnings and errors on stderr."),
    click.option("--progress", is_flag=True, help="Show progress, even if stderr is no terminal."),
)


def data_of(
    source: str,
    x: list[str] | None,
    y: str | None,
    rows: slice | None,
    missing: str | None,
    drop: str | None,
    features: Any,
    target: Any,
    sample_dims: Any,
    sample_weight: str | None,
    offset: str | None,
    nan: str,
) -> dict[str, Any]:
    """Return the arguments of `fit` and `search` that say what the data is, with the data opened."""
    # Arrays of a Zarr group.
    if features is None and target is None and sample_dims is None:
        if x is None or y is None:
            raise click.UsageError(
                "Which arrays? Name those of a Zarr group, --x NAME --y NAME, or variables of an xarray Dataset, "
                "--features A,B --target T --sample-dims D,E."
            )
        opened = open_group(
            source,
            x=x,
            y=y,
            sample_weight=sample_weight,
            offset=offset,
            rows=rows or slice(None),
            missing=missing or "error",
            drop=drop or "auto",
        )
        return {"x": opened, "nan": nan}
    # Variables of a Dataset.
    if (x, y, rows, missing, drop) != (None,) * 5:
        raise click.UsageError(
            "--x, --y, --rows, --missing and --drop are for arrays of a Zarr group, not beside --features."
        )
    if features is None or target is None or sample_dims is None:
        raise click.UsageError("Of an xarray Dataset give all three: --features, --target and --sample-dims.")
    if len(target) == 1:
        target = target[0]
    return {
        "x": dataset_of(source),
        "features": features,
        "target": target,
        "sample_dims": tuple(sample_dims),
        "sample_weight": sample_weight,
        "offset": offset,
        "nan": nan,
    }


def dataset_of(source: str) -> xr.Dataset:
    """Open an xarray Dataset, packed as it is stored, from Zarr or, by its name, netCDF."""
    # Anything but netCDF is Zarr.
    try:
        if source.endswith((".nc", ".nc4")):
            return xr.open_dataset(source, mask_and_scale=False, chunks={})
        with understood(f"{source}", OSError, ImportError, zarr.errors.BaseZarrError):
            # Variables are checked without chunks first, since Dask lists all chunks.
            unchunked = xr.open_zarr(source, mask_and_scale=False, decode_cf=False, chunks=None)
            for name, variable in unchunked.items():
                check_variable(variable.variable, name)
            return xr.open_zarr(source, mask_and_scale=False)
    except (FileNotFoundError, zarr.errors.BaseZarrError) as error:
        raise InvalidArgumentError(f"{source}: no Zarr group that xarray can open.") from error


def check_cluster(scheduler: str | None, workers: int | None, threads: int | None, memory: int | None) -> None:
    """Refuse options that cannot go together, before anything runs."""
    # These would say how to start a cluster.
    if scheduler is not None and (workers, threads, memory) != (None,) * 3:
        raise click.UsageError("--scheduler is a cluster that runs already; leave --workers, --threads, --memory out.")
    if memory is not None and workers is None:
        raise click.UsageError("--memory is that of each of --workers; say how many.")


@contextlib.contextmanager
def cluster_of(
    scheduler: str | None, workers: int | None, threads: int | None, memory: int | None, quiet: bool = False
) -> Iterator[None]:
    """Run commands on a running cluster, on a cluster of processes on this machine, or on Dask's threads."""
    # Threads of this process.
    if scheduler is None and workers is None:
        config: dict[str, Any] = {"scheduler": "threads"}
        if threads is not None:
            config["num_workers"] = threads
        with dask.config.set(config):
            yield
        return
    from distributed import Client

    from .workers import worker_processes

    with contextlib.ExitStack() as stack:
        # A cluster that runs, or processes for as long as the command runs.
        if scheduler is not None:
            try:
                client = stack.enter_context(Client(scheduler, timeout=ANSWER_WITHIN))
            except (OSError, ValueError) as error:
                raise ClusterError(f"No Dask scheduler answers at {scheduler}: {error}") from error
        else:
            assert workers is not None
            threads = threads or max(1, CPU_COUNT // workers)
            if workers * threads > CPU_COUNT:
                say(f"warning: {workers} workers of {threads} threads on {CPU_COUNT} cores take turns")
            memory_limit: int | str = "auto"
            if memory is not None:
                memory_limit = memory
            processes = worker_processes(
                n_workers=workers,
                threads_per_worker=threads,
                memory_limit=memory_limit,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
            )
            client = stack.enter_context(processes)
        # Where to watch it.
        if not quiet:
            page = f"{client.dashboard_link}".replace("/status", "/gd")
            say(f"scheduler {client.scheduler.address}, dashboard {page}")  # type: ignore[union-attr]
        yield


def progress_of(progress: bool, quiet: bool) -> list[Any]:
    """Return the callback that draws bars on stderr, where somebody sees them or has requested them."""
    if progress or (sys.stderr.isatty() and not quiet):
        return [Progress(file=sys.stderr, disable=False)]
    return []


def check_output(output: str, overwrite: bool, source: str) -> Path:
    """Return the path to write to, or refuse it: only Zarr is replaced, and not the data that is read."""
    path = Path(output)
    # A path that is free needs no more.
    if "://" in output:
        raise click.UsageError(f"-o {output}: give a path on this machine.")
    if not os.path.lexists(path):
        return path
    # A path that is taken is replaced only with care.
    if not overwrite:
        raise click.UsageError(f"-o {output} exists; --overwrite replaces it.")
    if not any((path / name).is_file() for name in ("zarr.json", ".zarray", ".zgroup")):
        raise click.UsageError(f"-o {output} exists and is not Zarr; --overwrite replaces nothing else.")
    if "://" not in source and Path(source).resolve().is_relative_to(path.resolve()):
        raise click.UsageError(f"-o {output} is where {source} is read from; write elsewhere.")
    return path
