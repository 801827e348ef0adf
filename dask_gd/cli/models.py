"""Define the commands ``dask-gd fit`` and ``dask-gd search``."""

from __future__ import annotations

from typing import Any

import click

from ..fitting.fit import fit as fit_
from ..fitting.search import search as search_
from ..fitting.search_result import PARAMETERS, SearchResult
from ..store.store import Store
from .options import (
    PENALTIES,
    Keep,
    Numbers,
    Spec,
    check_cluster,
    cluster_of,
    cluster_options,
    data_of,
    data_options,
    fit_options,
    output_options,
    progress_of,
)
from .shown import about, summary
from .terminal import Command, CtrlC, as_json

#: The arguments of `fit` and `search` that say what the data is.
DATA = ("x", "features", "target", "sample_dims", "sample_weight", "offset", "nan")

#: The exit status of a fit that has not come to its end.
NOT_CONVERGED = 3


@click.command(cls=Command)
@data_options
@fit_options
@click.option(
    "--penalty",
    type=Spec("penalty", PENALTIES, ("none",)),
    default="none",
    help="none, l2, l1, elasticnet; such as l2:1e-4 or elasticnet:1e-3,0.5.",
)
@click.option(
    "--weights",
    type=click.Choice(["auto", "whole", "blocks"]),
    default="auto",
    show_default=True,
    help="blocks: the weights are on the workers, each of which has some columns.",
)
@click.option("--target-loss", type=float, help="Stop where the objective is at most this.")
@click.option("--keep", type=Keep(), default="3", show_default=True, help="Iterations that the store keeps.")
@cluster_options
@output_options
def fit(
    penalty: Any,
    weights: str,
    target_loss: float | None,
    keep: int | None,
    json_: bool,
    quiet: bool,
    progress: bool,
    **options: Any,
) -> None:
    """Fit a model to arrays of the Zarr group SOURCE, or to variables of it as an xarray Dataset.

    Ctrl-C lets the iteration that runs end in the --store, and says how to go on; a second one, or SIGTERM, stops at
    once. The exit status is 0 for a fit that has come to its end (of sgd, also after all its steps), 3 if it took
    --max-iter steps, stalled or diverged, 130 after Ctrl-C, 143 after SIGTERM.

    \b
        dask-gd fit flights.zarr -x X -y late --loss logistic --penalty l2:1e-5 --store runs/flights
    """
    # The data is opened before there is a cluster.
    arguments, cluster = split_options(options)
    if weights == "blocks" and cluster["scheduler"] is None and cluster["workers"] is None:
        raise click.UsageError("--weights blocks are on the workers of a cluster; give --workers or --scheduler.")
    if penalty == "none":
        penalty = None
    path = arguments.pop("store")
    with cluster_of(**cluster, quiet=quiet), CtrlC(path, quiet) as ctrl_c:
        store = None
        if path is not None:
            store = Store(path, keep)
        run = fit_(
            **arguments,
            penalty=penalty,
            weights=weights,
            target_loss=target_loss,
            store=store,
            callbacks=[*progress_of(progress, quiet), ctrl_c],
        )
        ctrl_c.end_if_asked()
        # The result, of which the workers may have the weights.
        if json_:
            click.echo(as_json(about(run, path)))
        else:
            click.echo(summary(run, path))
    # Solvers that read a sample of the rows end with their last step.
    is_stochastic = getattr(arguments["solver"], "batch", 1.0) < 1 or arguments["solver"] == "sgd"
    if run.reason in ("diverged", "stalled") or (run.reason == "max_iter" and not is_stochastic):
        raise click.exceptions.Exit(NOT_CONVERGED)


def split_options(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the arguments of `fit` and `search`, with the data opened, and the arguments of the cluster."""
    cluster = {name: options.pop(name) for name in ("scheduler", "workers", "threads", "memory")}
    check_cluster(**cluster)
    # All other options are arguments by the same name.
    names = (
        "source",
        "x",
        "y",
        "rows",
        "missing",
        "drop",
        "features",
        "target",
        "sample_dims",
        "sample_weight",
        "offset",
    )
    data = {name: options.pop(name) for name in (*names, "nan")}
    fit_intercept = not options.pop("no_intercept")
    arguments = {**data_of(**data), **options, "fit_intercept": fit_intercept}
    return arguments, cluster


@click.command(cls=Command)
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
    # A search without candidates is refused before anything is opened.
    if all(options[name] is None for name in ("alphas", "Cs", "learning_rates")):
        raise click.UsageError("Which candidates? --alphas 1e-4,1e-2 or --Cs 0.1,1,10 or --learning-rates 0.01,0.1.")
    # The data is opened before there is a cluster.
    arguments, cluster = split_options(options)
    data = {name: arguments[name] for name in DATA if name in arguments}
    with cluster_of(**cluster, quiet=quiet):
        with CtrlC(arguments["store"], quiet) as ctrl_c:
            callbacks = [*progress_of(progress, quiet), ctrl_c]
            result = search_(**arguments, callbacks=callbacks)
        # The fit of the best has a store of its own, and so another way to go on after Ctrl-C.
        run = None
        if refit_store is not None:
            with CtrlC(refit_store, quiet) as ctrl_c:
                callbacks = [*progress_of(progress, quiet), ctrl_c]
                run = result.refit(**data, store=refit_store, callbacks=callbacks)
                ctrl_c.end_if_asked()
    # The result, and the fit of the best.
    if json_:
        content = about_search_result(result)
        if run is not None:
            content["refit"] = about(run, refit_store)
        click.echo(as_json(content))
        return
    click.echo(f"{result}")
    if run is not None:
        click.echo(f"\n{summary(run, refit_store)}")


def about_search_result(result: SearchResult) -> dict[str, Any]:
    """Return a search's result as JSON has it."""
    # A candidate has those of the parameters that the search compares.
    data = result.data
    names = [name for name in PARAMETERS if name in data.coords]
    candidates = []
    for i in range(data.sizes["candidate"]):
        parameters = {name: data[name].values[i] for name in names}
        candidates.append(
            {
                **parameters,
                "score": float(data.score[i].mean(skipna=False)),
                "scores": data.score.values[i],
                "steps": data.n_iter.values[i],
                "reasons": data.reason.values[i],
            }
        )
    return {
        "scoring": result.scoring,
        "folds": data.sizes["fold"],
        "passes": result.passes,
        "best": result.best,
        "best_index": result.best_index,
        "candidates": candidates,
    }
