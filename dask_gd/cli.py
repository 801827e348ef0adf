"""``dask-gd``: fits, searches, predictions and a look at the machine, from a shell.

Results go to stdout, everything else to stderr. The exit status is 0 where all is well, 1 for an error, 2 for arguments
that cannot be, 3 for a fit that took all its steps or diverged, and 130 after Ctrl-C.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import click
import dask
import dask.array as da
import numpy as np
import xarray as xr
import zarr
from zarr.codecs import Crc32cCodec

from . import __version__
from .errors import ClusterError, InvalidArgumentError, NotFittedError
from .loop import fit as fit_
from .losses import LOSSES
from .monitor.report import report as write_report
from .options import (
    ANSWER_WITHIN,
    PENALTIES,
    Keep,
    Numbers,
    Rows,
    Spec,
    check_cluster,
    check_output,
    cluster_of,
    cluster_options,
    data_of,
    data_options,
    dataset_of,
    fit_options,
    output_options,
    progress_of,
)
from .result import FitResult, load, result_of
from .search import search as search_
from .search_result import PARAMETERS, SearchResult
from .sources.base import _location
from .store import Checkpoint, Store
from .terminal import INTERRUPTED, Command, CtrlC, as_json, facts, say, table

#: Weights that a summary shows, the largest.
SHOWN = 10
#: The exit status of a fit that has not come to its end.
NOT_CONVERGED = 3


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Gradient descent for data that does not fit in memory."""


# --- fit -------------------------------------------------------------------------------------------------------------


@main.command(cls=Command)
@data_options
@fit_options
@click.option(
    "--penalty",
    type=Spec("penalty", PENALTIES, ("none",)),
    default="none",
    help="none, l2, l1, elasticnet; such as l2:1e-4 or elasticnet:1e-3,0.5.",
)
@click.option("--target-loss", type=float, help="Stop where the objective is at most this.")
@click.option("--keep", type=Keep(), default="3", show_default=True, help="Iterations that the store keeps.")
@cluster_options
@output_options
def fit(
    penalty: Any,
    target_loss: float | None,
    keep: int | None,
    json_: bool,
    quiet: bool,
    progress: bool,
    **options: Any,
) -> None:
    """Fit a model to arrays of the Zarr group SOURCE, or to variables of it as an xarray Dataset.

    Ctrl-C lets the iteration that runs end in the --store, and says how to go on; a second one stops at once. The exit
    status is 0 for a fit that has come to its end (of sgd, also after all its steps), 3 if it took --max-iter steps or
    diverged, 130 if it was interrupted.

    \b
        dask-gd fit flights.zarr -x X -y late --loss logistic --penalty l2:1e-5 --store runs/flights
    """
    asked, cluster = apart(options)
    store = asked.pop("store")
    with cluster_of(**cluster, quiet=quiet), CtrlC(store, quiet) as ctrl_c:
        run = fit_(
            **asked,
            penalty=None if penalty == "none" else penalty,
            target_loss=target_loss,
            store=None if store is None else Store(store, keep),
            callbacks=[*progress_of(progress, quiet), ctrl_c],
        )
        if run.reason == "interrupted":
            ctrl_c.advise()
            raise click.exceptions.Exit(INTERRUPTED)
    click.echo(as_json(about(run, store)) if json_ else summary(run, store))
    enough = getattr(asked["solver"], "batch", 1.0) < 1 or asked["solver"] == "sgd"
    if run.reason == "diverged" or (run.reason == "max_iter" and not enough):
        raise click.exceptions.Exit(NOT_CONVERGED)


def apart(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arguments of `fit` and `search`, and those of the cluster. The data is opened before there is one."""
    cluster = {name: options.pop(name) for name in ("scheduler", "workers", "threads", "memory")}
    check_cluster(**cluster)
    names = ("source", "x", "y", "rows", "missing", "features", "target", "sample_dims", "sample_weight", "offset")
    data = {name: options.pop(name) for name in (*names, "nan")}
    fit_intercept = not options.pop("no_intercept")
    return {**data_of(**data), **options, "fit_intercept": fit_intercept}, cluster


def about(run: FitResult, store: str | None) -> dict[str, Any]:
    """A fit as JSON has it."""
    history = run.history
    seconds = float(history.seconds.sum())
    return {
        "reason": run.reason,
        "converged": run.converged,
        "iterations": run.n_iter,
        "loss": float(history.loss[-1]),
        "gradient": float(history.grad_norm[-1]),
        "passes": float(history.passes.sum()),
        "rows": float(history.rows.sum()),
        "dropped": run.dropped,
        "seconds": seconds,
        "rows_per_second": float(history.rows.sum()) / seconds,
        "megabytes_per_second": float(history.bytes_read.sum()) / 1e6 / seconds,
        "store": store,
        "file": None if store is None else str(Store(store).file(run.n_iter)),
        **weights_of(run),
    }


def weights_of(run: FitResult) -> dict[str, Any]:
    outputs = {"outputs": run.weights.output.values} if "output" in run.weights.coords else {}
    pairs = zip(feature_names(run), run.weights.values, strict=True)
    weights = [{"feature": name, "weight": weight} for name, weight in pairs]
    return {"intercept": run.intercept.values, **outputs, "weights": weights}


def feature_names(run: FitResult) -> list[str]:
    if "feature" in run.weights.coords:
        return [str(name) for name in run.weights.feature.values]
    return [str(i) for i in range(len(run.weights))]


def summary(run: FitResult, store: str | None) -> str:
    """What a fit has come to."""
    it = about(run, store)
    lines = {
        "ended": f"{it['reason']} after {it['iterations']} iterations",
        "loss": f"{it['loss']:.10g}",
        "gradient": f"{it['gradient']:.2e}",
        "passes": f"{it['passes']:.3g}",
        "time": f"{it['seconds']:.3g} s, {it['rows_per_second']:.3g} rows/s, {it['megabytes_per_second']:.0f} MB/s",
        "dropped": f"{run.dropped:,} rows with NaN" if run.dropped else "",
        "stored": it["file"] or "",
    }
    return f"{facts(lines)}\n\n{weights_table(run, SHOWN, store)}"


def weights_table(run: FitResult, most: int | None, store: str | None = None) -> str:
    """The largest weights, or all of them in their order, and the intercept."""
    values, names = run.parameters[:-1], feature_names(run)
    size = np.abs(values).max(axis=1)
    order = np.arange(len(values)) if most is None else np.argsort(-size, kind="stable")[:most]
    outputs: list[str] = ["weight"]
    if run.weights.ndim == 2:
        k = run.weights.shape[1]
        outputs = [str(v) for v in (run.weights.output.values if "output" in run.weights.coords else range(k))]
    rows = [["feature", *outputs], *([names[i], *(f"{v:+#.6g}" for v in values[i])] for i in order)]
    if run.fit_intercept:
        rows.append(["(intercept)", *(f"{v:+#.6g}" for v in run.parameters[-1])])
    more = len(values) - len(order)
    hint = f"; dask-gd show {store} --weights" if store else ""
    return table(rows) + (f"\nand {more:,} smaller ones{hint}" if more else "")


# --- show ------------------------------------------------------------------------------------------------------------


@main.command(cls=Command)
@click.argument("run", type=click.Path())
@click.option("--last", type=click.IntRange(min=0), default=10, show_default=True, help="Iterations to show.")
@click.option("--weights", is_flag=True, help="Show all weights, not only the largest.")
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
def show(run: str, last: int, weights: bool, json_: bool) -> None:
    """Show what the directory RUN holds: a fit, how it went and its weights, or a search."""
    stored = Store(run).latest()
    if stored is None:
        raise NotFittedError(f"{run} holds no finished iteration of a fit or a search.")
    attributes = stored.attributes["dask_gd"]
    if "trials" in attributes:
        it = about_search(stored)
        click.echo(as_json(it) if json_ else facts({name: _text(value) for name, value in it.items()}))
        return
    # A loss of one's own is not stored, and not needed to show what is.
    own = attributes["loss"]["name"] not in LOSSES
    result = result_of(stored, LOSSES["squared"]() if own else None)
    spec, history = attributes["spec"], result.history
    described: dict[str, Any] = {
        "loss": _spec(spec["loss"]),
        "penalty": _spec(spec["penalty"]) if result.penalised else "none",
        "solver": _spec(spec["solver"]),
        "intercept": result.fit_intercept,
        "data": {name: spec["data"][name] for name in ("shape", "dtype")},
        "sample_dims": result.sample_dims,
    }
    if json_:
        names = ("loss", "grad_norm", "step_size", "passes", "rows", "bytes_read", "seconds")
        told = {name: history[name].values for name in names}
        click.echo(
            as_json(
                {
                    "kind": "fit",
                    **described,
                    **about(result, run) | {"loss": told["loss"][-1]},
                    "spec": spec,
                    "history": told,
                }
            )
        )
        return
    described["data"] = " ".join(map(str, described["data"].values()))
    click.echo(facts({name: _text(value) for name, value in described.items()}))
    if last:
        rows = [["iteration", "loss", "gradient", "passes", "seconds"]]
        for i in range(max(0, result.n_iter + 1 - last), result.n_iter + 1):
            at = history.isel(iteration=i)
            rows.append([f"{i}", f"{at.loss:.10g}", f"{at.grad_norm:.2e}", f"{at.passes:.3g}", f"{at.seconds:.3g}"])
        click.echo("\n" + "\n".join(table(rows).splitlines()))
    click.echo()
    click.echo(summary(result, run) if not weights else weights_table(result, None))


def _spec(spec: dict[str, Any]) -> str:
    """As it is written on the command line."""
    values = ",".join(f"{name}={value}" for name, value in spec.items() if name != "name" and value is not None)
    return spec["name"] + (f":{values}" if values else "")


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else "" if value is None else str(value)


def about_search(stored: Checkpoint) -> dict[str, Any]:
    """What a stored search is, and how far it has come."""
    attributes = stored.attributes["dask_gd"]
    spec, trials = attributes["spec"], attributes["trials"]
    return {
        "kind": "search",
        "rounds": stored.iteration,
        "fits": len(trials),
        "running": sum(reason is None for _, _, reason, _ in trials),
        "loss": _spec(spec["loss"]),
        "candidates": len(spec["candidates"]),
        "folds": spec["folds"],
        "scoring": spec["scoring"],
        "shape": spec["data"]["shape"],
    }


# --- predict ---------------------------------------------------------------------------------------------------------


@main.command(cls=Command)
@click.argument("run", type=click.Path())
@click.argument("source")
@click.option("-x", "--x", metavar="NAME", help="The group's array of features; not for a fit to a Dataset.")
@click.option("--offset", metavar="NAME", help="What is added to each prediction.")
@click.option("--rows", type=Rows(), help="Only these rows of the array.")
@click.option("-o", "--output", required=True, metavar="OUT.zarr", help="Where to write.")
@click.option("--overwrite", is_flag=True, help="Replace what is there.")
@cluster_options
@click.option("--quiet", is_flag=True, help="Nothing but warnings and errors on stderr.")
def predict(
    run: str,
    source: str,
    x: str | None,
    offset: str | None,
    rows: slice | None,
    output: str,
    overwrite: bool,
    quiet: bool,
    **cluster: Any,
) -> None:
    """Write what the fit in RUN predicts for each row of SOURCE.

    OUT.zarr is an array (n,) or (n, k), chunked as the rows are; of a fit to a Dataset, a Dataset with the variable
    "prediction" and its coordinates. It appears once it is complete.
    """
    check_cluster(**cluster)
    path = check_output(output, overwrite, source)
    fitted = load(run)
    named = fitted.sample_dims is not None
    if named and (x is not None or rows is not None):
        raise click.UsageError(f"{run} is a fit to a Dataset, which names its features; leave --x and --rows out.")
    if not named and x is None:
        raise click.UsageError(f"{run} is a fit to an array; name the one to predict from: --x NAME.")
    with cluster_of(**cluster, quiet=quiet):
        if named:
            prediction = fitted.predict(dataset_of(source), offset=offset)
        else:
            group = group_of(source)
            given = [_array(group, source, name) for name in (x, offset)]
            prediction = fitted.predict(*given)
            prediction = prediction if rows is None else prediction[rows]
        written = written_beside(path, prediction)
    if not quiet:
        say(f"wrote {path}, {' x '.join(map(str, written))}")


def group_of(source: str) -> zarr.Group:
    try:
        return zarr.open_group(_location(source), mode="r")
    except (FileNotFoundError, zarr.errors.BaseZarrError) as error:
        raise InvalidArgumentError(f"{source} is not a Zarr group.") from error


def _array(group: zarr.Group, source: str, name: str | None) -> Any:
    if name is None:
        return None
    found = group.get(name)
    if not isinstance(found, zarr.Array):
        names = ", ".join(sorted(key for key, _ in group.arrays()))
        raise InvalidArgumentError(f"{name!r}: no such array in {source}; it has {names or 'none'}.")
    return found


def written_beside(path: Path, prediction: da.Array | xr.DataArray) -> tuple[int, ...]:
    """Write beside the path and rename, so that nothing half-written is ever there; the shape."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, old = (path.parent / f".{path.name}.{os.getpid()}.{kind}" for kind in ("tmp", "old"))
    try:
        write(temporary, prediction)
        if os.path.lexists(path):
            os.rename(path, old)
        os.rename(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if os.path.lexists(path):
            shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink(missing_ok=True)
        elif os.path.lexists(old):
            os.rename(old, path)
    return prediction.shape


def write(path: Path, prediction: da.Array | xr.DataArray) -> None:
    """Chunked as it is computed, with checksums."""
    options: dict[str, Any] = {"compressors": [Crc32cCodec()]}
    if isinstance(prediction, xr.DataArray):
        if prediction.chunks is not None:
            prediction = prediction.chunk({d: max(c) for d, c in zip(prediction.dims, prediction.chunks, strict=True)})
            options["chunks"] = tuple(max(sizes) for sizes in prediction.chunks or ())
        dataset = prediction.drop_encoding().to_dataset(name="prediction")
        dataset.to_zarr(
            path, encoding={"prediction": options}, zarr_format=3, write_empty_chunks=True, consolidated=False
        )
        return
    chunks = tuple(max(sizes) for sizes in prediction.chunks)
    prediction = prediction.rechunk(chunks)
    target = zarr.create_array(
        path,
        shape=prediction.shape,
        chunks=chunks,
        dtype=prediction.dtype,
        config={"write_empty_chunks": True},
        **options,
    )
    # Blocks are chunks, so that no two tasks write to the same.
    da.store(prediction, target, lock=False)  # type: ignore[arg-type]


# --- search ----------------------------------------------------------------------------------------------------------


@main.command(cls=Command)
@data_options
@fit_options
@click.option("--alphas", type=Numbers(or_count=True), help="Strengths, or how many of a path (with --l1-ratios).")
@click.option("--l1-ratios", type=Numbers(), help="Shares of the absolute values, with --alphas or --Cs.")
@click.option("--Cs", "Cs", type=Numbers(), help="In place of alphas, scikit-learn's C.")
@click.option("--learning-rates", type=Numbers(), help="Of a first-order --solver.")
@click.option("--folds", type=click.IntRange(min=2), default=5, show_default=True)
@click.option("--scoring", metavar="NAME", default="neg_loss", show_default=True, help="Such as accuracy, r2.")
@click.option("--refit-store", type=click.Path(), metavar="DIR", help="Fit the best to all rows, stored there.")
@cluster_options
@output_options
def search(refit_store: str | None, json_: bool, quiet: bool, progress: bool, **options: Any) -> None:
    """Compare penalties, or learning rates, by cross-validation, and say which is best.

    With --store an interrupted search goes on where it was.

    \b
        dask-gd search flights.zarr -x X -y late --loss logistic --Cs 0.01,1,100 --scoring accuracy
    """
    if all(options[name] is None for name in ("alphas", "Cs", "learning_rates")):
        raise click.UsageError("Which candidates? --alphas 1e-4,1e-2 or --Cs 0.1,1,10 or --learning-rates 0.01,0.1.")
    asked, cluster = apart(options)
    store = asked["store"]
    with cluster_of(**cluster, quiet=quiet):
        with CtrlC(store, quiet) as ctrl_c:
            found = search_(**asked, callbacks=[*progress_of(progress, quiet), ctrl_c])
        run = None
        if refit_store is not None:
            with CtrlC(refit_store, quiet) as ctrl_c:
                run = found.refit(store=refit_store, callbacks=[*progress_of(progress, quiet), ctrl_c])
                if run.reason == "interrupted":
                    ctrl_c.advise()
                    raise click.exceptions.Exit(INTERRUPTED)
    if json_:
        refitted = {} if run is None else {"refit": about(run, refit_store)}
        click.echo(as_json({**about_found(found), **refitted}))
        return
    click.echo(f"{found}")
    if run is not None:
        click.echo(f"\n{summary(run, refit_store)}")


def about_found(found: SearchResult) -> dict[str, Any]:
    """A search's result as JSON has it."""
    data, names = found.data, [name for name in PARAMETERS if name in found.data.coords]
    candidates = [
        {
            **{name: data[name].values[c] for name in names},
            "score": float(data.score[c].mean(skipna=False)),
            "scores": data.score.values[c],
            "steps": data.n_iter.values[c],
            "reasons": data.reason.values[c],
        }
        for c in range(data.sizes["candidate"])
    ]
    return {
        "scoring": found.scoring,
        "folds": data.sizes["fold"],
        "passes": found.passes,
        "best": found.best,
        "best_index": found.best_index,
        "candidates": candidates,
    }


# --- the rest --------------------------------------------------------------------------------------------------------


@main.command(cls=Command)
@click.argument("run", type=click.Path())
@click.option("-o", "--output", default="report.html", show_default=True, metavar="FILE", help="Where to write.")
def report(run: str, output: str) -> None:
    """Write the fit in RUN as a page for a browser."""
    write_report(run, output)
    click.echo(output)


@main.command(cls=Command)
@click.option("--scheduler", metavar="ADDRESS", help="By default DASK_SCHEDULER_ADDRESS, or Dask's configuration.")
def dashboard(scheduler: str | None) -> None:
    """Print where a running scheduler shows its dashboard, and the page of the fits on it."""
    from distributed import Client

    address = scheduler or dask.config.get("scheduler-address", None)
    if address is None:
        raise click.UsageError("Which scheduler? --scheduler ADDRESS, or set DASK_SCHEDULER_ADDRESS.")
    try:
        with Client(address, timeout=ANSWER_WITHIN, set_as_default=False) as client:
            link = client.dashboard_link
    except (OSError, ValueError) as error:
        raise ClusterError(f"No Dask scheduler answers at {address}: {error}") from error
    except KeyError:
        link = None
    if not link:
        raise ClusterError(f"The scheduler at {address} has no dashboard; is bokeh installed where it runs?")
    click.echo(f"{link}\n{link.removesuffix('/status')}/gd")


@main.command(cls=Command)
@click.argument("source", required=False)
@click.option("-x", "--x", metavar="NAME", help="The array of SOURCE to read.")
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
def doctor(source: str | None, x: str | None, json_: bool) -> None:
    """Look at this machine and how fast it reads: SOURCE, or a small store made for it.

    The exit status is 0 if dask_gd can work here, 1 if something is broken.
    """
    from .doctor import BROKEN, examine

    if (source is None) != (x is None):
        raise click.UsageError("SOURCE and --x NAME, the array in it to read, go together.")
    array = None if source is None else _array(group_of(source), source, x)
    checks = examine(array)
    if json_:
        click.echo(as_json([check._asdict() for check in checks]))
    else:
        rows = {check.name: check.found for check in checks}
        click.echo(facts(rows))
        advice = [f"{check.status}: {check.name}: {check.advice}" for check in checks if check.advice]
        click.echo("\n" + ("\n".join(advice) or "Nothing to advise."))
    if any(check.status == BROKEN for check in checks):
        raise click.exceptions.Exit(1)
