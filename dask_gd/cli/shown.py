"""What the command line says of a fit: ``dask-gd show`` and ``report``, and what ``fit`` ends with."""

from __future__ import annotations

from typing import Any

import click
import numpy as np

from ..errors import NotFittedError
from ..model.losses import Model, as_loss, loss_of
from ..names import default_name
from ..reports import report as write_report
from ..results.fit_result import FitResult, result_of
from ..store.content import HISTORY, check_content
from ..store.store import Checkpoint, Store
from .terminal import Command, as_json, facts, table

#: Weights that a summary shows, the largest.
SHOWN = 10


@click.command(cls=Command)
@click.argument("run", type=click.Path())
@click.option("--last", type=click.IntRange(min=0), default=10, show_default=True, help="Iterations to show.")
@click.option("--weights", is_flag=True, help="Show all weights, not only the largest.")
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
def show(run: str, last: int, weights: bool, json_: bool) -> None:
    """Show what the directory RUN holds: a fit, how it went and its weights, or a search."""
    stored = Store(run).latest(check_content)
    if stored is None:
        raise NotFittedError(f"{run} holds no finished iteration of a fit or a search.")
    attributes = stored.attributes["dask_gd"]
    if "trials" in attributes:
        it = about_search(stored)
        click.echo(as_json(it) if json_ else facts({name: _text(value) for name, value in it.items()}))
        return
    # A loss of one's own is not stored, and not needed to show what is.
    own = loss_of(attributes["loss"]) is None
    result = result_of(stored, as_loss("squared") if own else None)
    spec = attributes["spec"]
    history = result.history
    described: dict[str, Any] = {
        "loss": _spec(spec["loss"]),
        "penalty": _spec(spec["penalty"]) if result.penalised else "none",
        "solver": _spec(spec["solver"]),
        "intercept": result.fit_intercept,
        "data": {name: spec["data"][name] for name in ("shape", "dtype")},
        "sample_dims": result.sample_dims,
    }
    if json_:
        told = {name: history[name].values for name in HISTORY}
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
        click.echo(f"\n{table(rows)}")
    click.echo()
    click.echo(summary(result, run) if not weights else weights_table(result, None))


def _spec(spec: dict[str, Any]) -> str:
    """As it is written on the command line."""
    values = ",".join(f"{name}={value}" for name, value in spec.items() if name != "name" and value is not None)
    return spec["name"] + (f":{values}" if values else "")


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    if value is None:
        return ""
    return str(value)


def about_search(stored: Checkpoint) -> dict[str, Any]:
    """What a stored search is, and how far it has come."""
    attributes = stored.attributes["dask_gd"]
    spec = attributes["spec"]
    trials = attributes["trials"]
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


@click.command(cls=Command)
@click.argument("run", type=click.Path())
@click.option("-o", "--output", default="report.html", show_default=True, metavar="FILE", help="Where to write.")
def report(run: str, output: str) -> None:
    """Write the fit in RUN as a page for a browser."""
    write_report(run, output)
    click.echo(output)


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
    outputs = {}
    if "output" in run.weights.coords:
        outputs = {"outputs": run.weights.output.values}
    pairs = zip(feature_names(run), run.weights.values, strict=True)
    weights = [{"feature": name, "weight": weight} for name, weight in pairs]
    return {"intercept": run.intercept.values, **outputs, "weights": weights}


def feature_names(run: FitResult) -> list[str]:
    if "feature" in run.weights.coords:
        return [str(name) for name in run.weights.feature.values]
    places = range(len(run.weights))
    return list(map(str if isinstance(run.loss, Model) else default_name, places))


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
    values = run.parameters[:-1]
    names = feature_names(run)
    size = np.abs(values).max(axis=1)
    if most is None:
        order = np.arange(len(values))
    else:
        order = np.argsort(-size, kind="stable")[:most]
    outputs: list[str] = ["weight"]
    if run.weights.ndim == 2:
        k = run.weights.shape[1]
        outputs = [str(v) for v in (run.weights.output.values if "output" in run.weights.coords else range(k))]
    rows = [["feature", *outputs], *([names[i], *(f"{v:+#.6g}" for v in values[i])] for i in order)]
    if run.fit_intercept:
        rows.append(["(intercept)", *(f"{v:+#.6g}" for v in run.parameters[-1])])
    more = len(values) - len(order)
    hint = ""
    if store:
        hint = f"; dask-gd show {store} --weights"
    return table(rows) + (f"\nand {more:,} smaller ones{hint}" if more else "")
