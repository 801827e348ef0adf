"""``dask-gd fit`` and ``dask-gd search``."""

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
    status is 0 for a fit that has come to its end (of sgd, also after all its steps), 3 if it took --max-iter steps,
    stalled or diverged, 130 if it was interrupted.

    \b
        dask-gd fit flights.zarr -x X -y late --loss logistic --penalty l2:1e-5 --store runs/flights
    """
    asked, cluster = split_options(options)
    store = asked.pop("store")
    with cluster_of(**cluster, quiet=quiet), CtrlC(store, quiet) as ctrl_c:
        run = fit_(
            **asked,
            penalty=None if penalty == "none" else penalty,
            target_loss=target_loss,
            store=None if store is None else Store(store, keep),
            callbacks=[*progress_of(progress, quiet), ctrl_c],
        )
        ctrl_c.end_if_asked()
    click.echo(as_json(about(run, store)) if json_ else summary(run, store))
    enough = getattr(asked["solver"], "batch", 1.0) < 1 or asked["solver"] == "sgd"
    if run.reason in ("diverged", "stalled") or (run.reason == "max_iter" and not enough):
        raise click.exceptions.Exit(NOT_CONVERGED)


def split_options(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arguments of `fit` and `search`, and those of the cluster. The data is opened before there is one."""
    cluster = {name: options.pop(name) for name in ("scheduler", "workers", "threads", "memory")}
    check_cluster(**cluster)
    names = ("source", "x", "y", "rows", "missing", "features", "target", "sample_dims", "sample_weight", "offset")
    data = {name: options.pop(name) for name in (*names, "nan")}
    fit_intercept = not options.pop("no_intercept")
    return {**data_of(**data), **options, "fit_intercept": fit_intercept}, cluster


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
    if all(options[name] is None for name in ("alphas", "Cs", "learning_rates")):
        raise click.UsageError("Which candidates? --alphas 1e-4,1e-2 or --Cs 0.1,1,10 or --learning-rates 0.01,0.1.")
    asked, cluster = split_options(options)
    store = asked["store"]
    data = {name: asked[name] for name in DATA if name in asked}
    with cluster_of(**cluster, quiet=quiet):
        with CtrlC(store, quiet) as ctrl_c:
            found = search_(**asked, callbacks=[*progress_of(progress, quiet), ctrl_c])
        run = None
        if refit_store is not None:
            with CtrlC(refit_store, quiet) as ctrl_c:
                told = [*progress_of(progress, quiet), ctrl_c]
                run = found.refit(**data, store=refit_store, callbacks=told)
                ctrl_c.end_if_asked()
    if json_:
        refitted = {}
        if run is not None:
            refitted = {"refit": about(run, refit_store)}
        click.echo(as_json({**about_found(found), **refitted}))
        return
    click.echo(f"{found}")
    if run is not None:
        click.echo(f"\n{summary(run, refit_store)}")


def about_found(found: SearchResult) -> dict[str, Any]:
    """A search's result as JSON has it."""
    data = found.data
    names = [name for name in PARAMETERS if name in found.data.coords]
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
