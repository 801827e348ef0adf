"""Show fits and searches on the command line: ``dask-gd show`` and ``report``, and the summary after ``fit``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import click
import numpy as np

from ..display.largest import largest_of
from ..display.texts import NOT_COMPARABLE, is_running, is_sampled, readings, sampled, state
from ..errors import NotFittedError
from ..fitting.fold_track import ALL
from ..model.losses import Model, as_loss, loss_of
from ..names import default_name
from ..reports import report as write_report
from ..results.fit_result import FitResult, result_of
from ..results.lazy_weights import is_in_blocks, values_of
from ..results.loading import state_of, with_weights
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
    store = Store(run)
    in_use = store.is_in_use()
    stored = store.latest(check_content)
    if stored is None:
        raise NotFittedError(f"{run} holds no finished iteration of a fit or a search.")
    # Only searches have trials.
    attributes = stored.attributes["dask_gd"]
    if "trials" in attributes:
        _show_search(stored, state_of(store, reason_of_search(stored), in_use), json_)
    else:
        reason = state_of(store, attributes["reason"], in_use)
        _show_fit(with_weights(store, stored), run, reason, last=last, weights=weights, json_=json_)


def reason_of_search(stored: Checkpoint) -> str | None:
    """Return "ended" for a stored search whose trials have all begun and ended, else None."""
    attributes = stored.attributes["dask_gd"]
    trials = attributes["trials"]
    # With weights in blocks the best candidate's fit to all rows is the last.
    if "blocks" in attributes:
        if any(fold == ALL for _, fold, _, _ in trials):
            return "ended"
        return None
    # Those of a candidate begin together.
    begun = {candidate for candidate, *_ in trials}
    if len(begun) == len(attributes["spec"]["candidates"]) and all(reason is not None for _, _, reason, _ in trials):
        return "ended"
    return None


def _show_search(stored: Checkpoint, reason: str, json_: bool) -> None:
    """Print a stored search, and how it stands."""
    content = {"kind": "search", "state": plain_state(reason, json_), **about_search(stored)}
    if json_:
        click.echo(as_json(content))
    else:
        click.echo(facts({name: _text(value) for name, value in content.items()}))


def plain_state(reason: str, json_: bool) -> str:
    """Return the state of a run for people, or as JSON has it: without the time since the last commit."""
    if json_ and is_running(reason):
        return "running"
    return reason


def _show_fit(stored: Checkpoint, path: str, reason: str, *, last: int, weights: bool, json_: bool) -> None:
    """Print a stored fit: how it was made, its last iterations, how it stands, and its weights."""
    # A loss of the user's own is not stored, and not needed to show the rest.
    attributes = stored.attributes["dask_gd"]
    loss = None
    if loss_of(attributes["loss"]) is None:
        loss = as_loss("squared")
    result = replace(result_of(stored, loss), reason=plain_state(reason, json_))
    spec = attributes["spec"]
    history = result.history
    # How it was made.
    penalty = "none"
    if result.penalised:
        penalty = _spec(spec["penalty"])
    model: dict[str, Any] = {
        "loss": _spec(spec["loss"]),
        "penalty": penalty,
        "solver": _spec(spec["solver"]),
        "intercept": result.fit_intercept,
        "data": {name: spec["data"][name] for name in ("shape", "dtype")},
        "sample_dims": result.sample_dims,
    }
    if json_:
        curves = {name: history[name].values for name in HISTORY}
        content = {"kind": "fit", **model, **about(result, path)}
        content["loss"] = curves["loss"][-1]
        click.echo(as_json({**content, "spec": spec, "history": curves}))
        return
    model["data"] = " ".join(map(str, model["data"].values()))
    click.echo(facts({name: _text(value) for name, value in model.items()}))
    # How it went.
    if last:
        rows = [["iteration", "loss ", "gradient", "full passes", "samples", "seconds"]]
        stop = result.n_iter + 1
        first = max(0, stop - last)
        samples = is_sampled(history.passes.values, history.full_passes.values)
        for i in range(first, stop):
            iteration = history.isel(iteration=i)
            mark = "*" if samples[i] else " "
            rows.append(
                [
                    f"{i}",
                    f"{iteration.loss:.10g}{mark}",
                    f"{iteration.grad_norm:.2e}",
                    f"{iteration.full_passes:.0f}",
                    f"{iteration.passes - iteration.full_passes:.3g}",
                    f"{iteration.seconds:.3g}",
                ]
            )
        click.echo(f"\n{table(rows)}")
        if samples[first:].any():
            click.echo(f"* {NOT_COMPARABLE}")
    # What it has come to.
    click.echo()
    if weights:
        click.echo(weights_table(result, None))
    else:
        click.echo(summary(result, path))


def _spec(spec: dict[str, Any]) -> str:
    """Write a loss, a penalty or a solver as on the command line."""
    parameters = [f"{name}={value}" for name, value in spec.items() if name != "name" and value is not None]
    if not parameters:
        return spec["name"]
    return f"{spec['name']}:{','.join(parameters)}"


def _text(value: Any) -> str:
    """Write a value for people."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    if value is None:
        return ""
    return str(value)


def about_search(stored: Checkpoint) -> dict[str, Any]:
    """Say what a stored search is, and how far it has come."""
    # A trial runs as long as it has no reason to end.
    attributes = stored.attributes["dask_gd"]
    spec = attributes["spec"]
    trials = attributes["trials"]
    return {
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
    """Return a fit as JSON has it."""
    # Totals of all iterations; the file of the last.
    history = run.history
    rows = float(history.rows.sum())
    seconds = float(history.seconds.sum())
    file = None
    if store is not None:
        file = str(Store(store).file(run.n_iter))
    return {
        "reason": run.reason,
        "converged": run.converged,
        "iterations": run.n_iter,
        "loss": float(history.loss[-1]),
        "gradient": float(history.grad_norm[-1]),
        "passes": float(history.passes.sum()),
        "full_passes": float(history.full_passes.sum()),
        "rows": rows,
        "dropped": run.dropped,
        "seconds": seconds,
        "rows_per_second": rows / seconds,
        "megabytes_per_second": float(history.bytes_read.sum()) / 1e6 / seconds,
        "store": store,
        "file": file,
        **weights_of(run),
    }


def weights_of(run: FitResult) -> dict[str, Any]:
    """Return the weights and the intercept of a fit as JSON has them."""
    # Outputs have names only if the target's columns have.
    outputs = {}
    if "output" in run.weights.coords:
        outputs = {"outputs": run.weights.output.values}
    # Of very many weights that are not in memory the largest.
    if is_in_blocks(run.weights):
        found = largest_of(run.weights, SHOWN)
        key = "largest_weights"
        names = feature_names(run, found.indices.tolist())
        values = found.values.reshape(-1, *run.weights.shape[1:])
    else:
        key = "weights"
        names = feature_names(run, range(len(run.weights)))
        values = run.weights.values
    weights = [{"feature": name, "weight": weight} for name, weight in zip(names, values, strict=True)]
    return {"intercept": run.intercept.values, **outputs, key: weights}


def feature_names(run: FitResult, numbers: Sequence[int]) -> list[str]:
    """Return the names of features by their numbers; the numbers of a model's parameters."""
    if "feature" in run.weights.coords:
        return [str(name) for name in run.weights.feature.values[numbers]]
    if isinstance(run.loss, Model):
        return list(map(str, numbers))
    return list(map(default_name, numbers))


def summary(run: FitResult, store: str | None) -> str:
    """Return how a fit has ended, what it took, and its largest weights, for people."""
    content = about(run, store)
    speed = f"{content['rows_per_second']:.3g} rows/s, {content['megabytes_per_second']:.0f} MB/s"
    rows = sampled(float(run.history.passes[-1]), float(run.history.full_passes[-1]))
    dropped = ""
    if run.dropped:
        dropped = f"{run.dropped:,} rows with NaN"
    name, text = state(run.reason, run.n_iter, "iteration")
    lines = {
        name: text,
        "loss": f"{content['loss']:.10g} {rows}".rstrip(),
        "gradient": f"{content['gradient']:.2e}",
        "passes": readings(content["full_passes"], content["passes"]),
        "time": f"{content['seconds']:.3g} s, {speed}",
        "dropped": dropped,
        "stored": content["file"] or "",
    }
    return f"{facts(lines)}\n\n{weights_table(run, SHOWN, store)}"


def weights_table(run: FitResult, most: int | None, store: str | None = None) -> str:
    """Tabulate the largest weights, or all of them in their order, and the intercept."""
    # Rows of the largest weights come first, by the largest of any output.
    p = len(run.weights)
    if most is None:
        values = values_of(run.weights, "show --weights").reshape(p, -1)
    found = largest_of(run.weights, most or 0, nan_first=not len(run.dropped_levels))
    if most is None:
        numbers = list(range(p))
    else:
        numbers = found.indices.tolist()
        values = found.values
    # A column for each output.
    outputs: list[str] = ["weight"]
    if run.weights.ndim == 2 and "output" in run.weights.coords:
        outputs = [str(name) for name in run.weights.output.values]
    elif run.weights.ndim == 2:
        outputs = [str(number) for number in range(run.weights.shape[1])]
    rows = [["feature", *outputs]]
    for name, of_feature in zip(feature_names(run, numbers), values, strict=True):
        rows.append([name, *_cells(of_feature)])
    if run.fit_intercept:
        rows.append(["(intercept)", *_cells(np.ravel(run.intercept.values))])
    # Say what is left out, and how to see it.
    lines = [table(rows)]
    left_out = p - len(numbers)
    if left_out:
        hint = ""
        if store:
            hint = f"; dask-gd show {store} --weights"
        lines.append(f"and {left_out:,} smaller ones{hint}")
    if found.note:
        lines.append(found.note)
    return "\n".join(lines)


def _cells(values: np.ndarray) -> list[str]:
    """Write the weights of a feature, a number for each output."""
    return [f"{value:+#.6g}".replace("+nan", "nan") for value in values]
