"""Write a report of a fit or a search: an HTML file with pictures that needs nothing else and can be sent anywhere."""

from __future__ import annotations

import io
import json
import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

from .display.html import candidates, ended, pairs, shapes_of, summary, table, weights
from .display.plots import plot_fit, plot_search, pyplot
from .display.texts import NOT_COMPARABLE, is_sampled, readings, rounded, size
from .errors import InvalidArgumentError, InvalidTypeError
from .fitting.search_result import SearchResult
from .model.losses import LOSSES, loss_of
from .results.fit_result import FitResult, result_of
from .results.loading import latest_of_fit, state_of
from .store.store import Checkpoint, Store

#: Rows of the table of weights.
WEIGHTS = 300
#: Columns of the table of weights.
OUTPUTS = 12
#: Rows of the table of iterations.
ITERATIONS = 20

#: The headings of a page, if they have a text, with the HTML below them.
Sections = list[tuple[str | None, str]]

STYLE = """
:root { color-scheme: light }
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff;
  max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem; margin-bottom: 0 }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; display: block; overflow-x: auto }
th, td { padding: .15rem .9rem .15rem 0; border-bottom: 1px solid #e4e4e4; vertical-align: top }
thead th { border-bottom: 1px solid #888; white-space: nowrap }
tbody th { font-weight: 600; white-space: nowrap }
svg { max-width: 100%; height: auto }
p { margin: 0 0 .5rem; color: #555 }
"""


def report(run: FitResult | SearchResult | str | os.PathLike, out: str | os.PathLike) -> Path:
    """Write a report as an HTML file: how it ended, pictures, the last iterations, weights, speed.

    Parameters
    ----------
    run : FitResult, SearchResult or path
        A path is a fit's store; its report also says how the fit was made. The fit may be still running, or
        interrupted.
    out : path
        The file, in a directory that exists. A file of that name is replaced, once the new file is whole.

    Returns
    -------
    Path
        The path of the file.

    Raises
    ------
    ImportError
        Without matplotlib.
    InvalidArgumentError
        If ``out`` is a directory, or cannot be written; or the store is a search's.
    NotFittedError
        If there is no iteration at the path.

    Examples
    --------
    >>> import tempfile
    >>> run = dask_gd.fit(np.array([[0.0], [1.0], [2.0]]), np.array([1.0, 3.0, 5.0]))
    >>> dask_gd.report(run, tempfile.mkdtemp() + "/report.html").name
    'report.html'
    """
    # Refuse a place that cannot be written before anything is drawn.
    out = Path(out)
    if out.is_dir():
        raise InvalidArgumentError(f"report(run, {str(out)!r}): that is a directory; name a file in it.")
    if not out.parent.is_dir():
        raise InvalidArgumentError(f"report(run, {str(out)!r}): there is no directory {out.parent}; make it first.")
    pyplot()
    # A page for each kind of run.
    if isinstance(run, SearchResult):
        text = of_search(run)
    elif isinstance(run, FitResult):
        text = page("A fit", fit_sections(run))
    elif isinstance(run, str | os.PathLike):
        text = of_store(Path(run))
    else:
        raise InvalidTypeError(
            f"report(run, out): run is a {type(run).__name__}; give a FitResult, a SearchResult or the path of a store."
        )
    replace_file(out, text)
    return out


@dataclass(frozen=True)
class StoredLoss:
    """A loss of the user's own as a store has it: its name, and for a model the shapes of its parameters."""

    name: str
    shapes: dict[str, list[int]] | None


def of_store(path: Path) -> str:
    """Return the page of a stored fit, whose loss need not be known here."""
    store = Store(path)
    in_use = store.is_in_use()
    checkpoint = latest_of_fit(store)
    # A loss of the user's own is not stored; its name is enough for a report.
    loss = checkpoint.attributes["dask_gd"]["loss"]
    unknown_loss = None
    if loss_of(loss) is None:
        unknown_loss = StoredLoss(loss["name"], loss["parameters"].get("shapes"))
    run = result_of(checkpoint, unknown_loss)  # type: ignore[arg-type]
    run = replace(run, reason=state_of(store, checkpoint.attributes["dask_gd"]["reason"], in_use))
    # The place and the time of the last commit come first.
    committed = datetime.fromtimestamp(store.committed_at() or 0.0, UTC)
    place = f"Iteration {checkpoint.iteration} of {path}, committed on {committed:%Y-%m-%d at %H:%M:%S} UTC."
    sections = [(None, f"<p>{escape(place)}</p>"), *fit_sections(run, made(checkpoint))]
    return page(f"The fit {path.name}", sections)


def made(checkpoint: Checkpoint) -> dict[str, str]:
    """Say how a stored fit was made, as names and texts: a fit that resumes it must agree."""
    texts = {}
    for field, value in checkpoint.attributes["dask_gd"]["spec"].items():
        # A loss or a solver has a name and parameters.
        parameters = {"name": value}
        if isinstance(value, dict):
            parameters = value
        for name, parameter in parameters.items():
            label = field if name == "name" else f"{field}: {name}"
            if isinstance(parameter, str):
                texts[label] = parameter
            else:
                texts[label] = json.dumps(parameter)
    return texts


def fit_sections(run: FitResult, spec: dict[str, str] | None = None) -> Sections:
    """Return the sections of the page of a fit, with its specification if there is one."""
    # Words first.
    name, text = ended(run)
    heading = "How it ended"
    if name != "ended":
        heading = "How it stands"
    sections: Sections = [(heading, pairs({name: text, **summary(run)}))]
    if spec:
        sections.append(("How it was made", pairs(spec)))
    # Then pictures and numbers.
    axes = figure(9, 3.6).subplots(1, 2)
    plot_fit(run.history, run.reason, axes)
    sections.append(("Loss and gradient", svg(axes[0].figure)))
    sections.append(("Iterations", iterations(run)))
    intercept = None
    if run.fit_intercept:
        intercept = run.intercept
    table_of_weights = weights(
        run.weights,
        intercept,
        shapes_of(run.loss),
        limit=WEIGHTS,
        outputs=OUTPUTS,
        nan_first=not len(run.dropped_levels),
    )
    sections.append(("Weights", table_of_weights))
    return sections


def iterations(run: FitResult) -> str:
    """Tabulate the last iterations."""
    history = run.history.isel(iteration=slice(-ITERATIONS, None))
    samples = is_sampled(history.passes.values, history.full_passes.values)
    rows = []
    for i, number in enumerate(history.iteration.values.tolist()):
        iteration = {name: float(values[i]) for name, values in history.data_vars.items()}
        # Speeds are known only where rows were read.
        rows_per_second = ""
        megabytes_per_second = ""
        if iteration["rows"] > 0 and iteration["seconds"] > 0:
            rows_per_second = rounded(iteration["rows"] / iteration["seconds"])
            megabytes_per_second = rounded(iteration["bytes_read"] / 1e6 / iteration["seconds"])
        rows.append(
            [
                f"{number:,}",
                f"{iteration['loss']:.10g}{'*' if samples[i] else ''}",
                f"{iteration['grad_norm']:.2e}",
                f"{iteration['step_size']:.3g}",
                f"{iteration['full_passes']:.0f}",
                f"{iteration['passes'] - iteration['full_passes']:.3g}",
                f"{iteration['rows']:,.0f}",
                size(iteration["bytes_read"]),
                f"{iteration['seconds']:.3g}",
                rows_per_second,
                megabytes_per_second,
            ]
        )
    head = ["iteration", "loss", "gradient", "step size", "full passes", "samples"]
    head += ["rows", "read", "seconds", "rows/s", "MB/s"]
    # Say what the table leaves out.
    before = run.history.sizes["iteration"] - len(rows)
    note = ""
    if before:
        note = f"<p>The last {len(rows)}; {before:,} before them are left out.</p>"
    if samples.any():
        note += f"<p>*: {NOT_COMPARABLE}.</p>"
    return note + table(head, rows)


def of_search(result: SearchResult) -> str:
    """Return the page of a search."""
    # For a loss of the user's own the repr may be addresses.
    loss = result.loss.name
    if loss in LOSSES:
        loss = repr(result.loss)
    about = {
        "data": result.described,
        "loss": loss,
        "scored by": result.scoring,
        "passes": readings(result.full_passes, result.passes),
    }
    # The best candidate, if any has a score on all folds.
    has_best = not result.data.score.isnull().any("fold").all()
    if has_best:
        for name, value in result.best.items():
            if not isinstance(value, str):
                value = f"{value:.6g}"
            about[f"best {name}"] = value
    # The picture and the tables.
    axes = figure(7, 4.2).subplots()
    plot_search(result, axes)
    sections: Sections = [
        (None, f"<p>{escape(result.heading())}</p>"),
        ("What was found", pairs(about)),
        ("Scores", svg(axes.figure)),
        ("Candidates", candidates(result)),
    ]
    if has_best:
        best = result.data.isel(candidate=result.best_index)
        intercept = None
        if result.fit_intercept:
            intercept = best.all_intercept
        best_weights = weights(best.all_weights, intercept, limit=WEIGHTS, outputs=OUTPUTS)
        sections.append(("Weights of the best, fitted to all rows", best_weights))
    return page("A search", sections)


def page(title: str, sections: Sections) -> str:
    """Return a whole document."""
    parts = []
    for heading, body in sections:
        if heading:
            body = f"<h2>{escape(heading)}</h2>{body}"
        parts.append(body)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style></head>\n<body><h1>{escape(title)}</h1>\n{chr(10).join(parts)}\n</body></html>\n"
    )


def figure(width: float, height: float) -> Any:
    """Return a figure that pyplot does not know of, so that nothing shows or stays."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def svg(drawing: Any) -> str:
    """Return a figure as an element: its text as outlines, the same bytes each time."""
    import matplotlib

    file = io.StringIO()
    no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context({"svg.hashsalt": "dask_gd", "svg.fonttype": "path"}):
        drawing.savefig(file, format="svg", metadata=no_metadata)
    # Without the head of a file of its own.
    text = file.getvalue()
    return text[text.index("<svg") :]


def replace_file(out: Path, text: str) -> None:
    """Write a file beside its place, then rename it: a reader finds the old file or the new file, whole."""
    temporary = out.parent / f".{out.name}.{os.getpid()}.tmp"
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, out)
    except OSError as error:
        raise InvalidArgumentError(f"Cannot write {out}: {error.strerror}. Choose a writable place.") from error
    finally:
        temporary.unlink(missing_ok=True)
