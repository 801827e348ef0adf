"""A report of a fit or a search: one HTML file, with pictures, that needs nothing else and can be sent to anybody."""

from __future__ import annotations

import io
import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

from .display.html import candidates, ended, pairs, rounded, shapes_of, size, summary, table, weights
from .display.plots import plot_fit, plot_search, pyplot
from .errors import InvalidArgumentError, InvalidTypeError
from .fitting.search_result import SearchResult
from .model.losses import LOSSES, loss_of
from .results.fit_result import FitResult, latest_of_fit, result_of
from .store.store import Checkpoint, Store

#: Weights, outputs and iterations in the tables.
WEIGHTS, OUTPUTS, ITERATIONS = 300, 12, 20

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
    """Write a report as one HTML file: how it ended, pictures, the last iterations, weights, speed.

    Parameters
    ----------
    run : FitResult, SearchResult or path
        A path is a fit's store, of which the report also says how the fit was made. The fit may be still running, or
        interrupted.
    out : path
        The file, in a directory that exists. A file of that name is replaced, once the new one is whole.

    Returns
    -------
    Path
        That of the file.

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
    out = Path(out)
    if out.is_dir():
        raise InvalidArgumentError(f"report(run, {str(out)!r}): that is a directory; name a file in it.")
    if not out.parent.is_dir():
        raise InvalidArgumentError(f"report(run, {str(out)!r}): there is no directory {out.parent}; make it first.")
    pyplot()
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
    """What a store knows of a loss of the user's own: its name, and of a model the shapes of its parameters."""

    name: str
    shapes: dict[str, list[int]] | None


def of_store(path: Path) -> str:
    """The page of a stored fit, whose loss need not be known here."""
    store = Store(path)
    checkpoint = latest_of_fit(store)
    written = datetime.fromtimestamp(store.file(checkpoint.iteration).stat().st_mtime, UTC)
    loss = checkpoint.attributes["dask_gd"]["loss"]
    own = None
    if loss_of(loss) is None:
        own = StoredLoss(loss["name"], loss["parameters"].get("shapes"))
    run = result_of(checkpoint, own)  # type: ignore[arg-type]
    when = f"Iteration {checkpoint.iteration} of {path}, committed on {written:%Y-%m-%d at %H:%M:%S} UTC."
    return page(f"The fit {path.name}", [(None, f"<p>{escape(when)}</p>"), *fit_sections(run, made(checkpoint))])


def made(checkpoint: Checkpoint) -> dict[str, str]:
    """How a stored fit was made: what it must have in common with one that goes on from it."""
    found = {}
    for field, value in checkpoint.attributes["dask_gd"]["spec"].items():
        for name, own in (value if isinstance(value, dict) else {"name": value}).items():
            if isinstance(own, str):
                found[field if name == "name" else f"{field}: {name}"] = own
            else:
                found[field if name == "name" else f"{field}: {name}"] = json.dumps(own)
    return found


Sections = list[tuple[str | None, str]]


def fit_sections(run: FitResult, spec: dict[str, str] | None = None) -> Sections:
    """Of the page of a fit."""
    sections: Sections = [("How it ended", pairs({"ended": ended(run), **summary(run)}))]
    if spec:
        sections.append(("How it was made", pairs(spec)))
    axes = figure(9, 3.6).subplots(1, 2)
    plot_fit(run.history, run.reason, axes)
    sections.append(("Loss and gradient", svg(axes[0].figure)))
    sections.append(("Iterations", iterations(run)))
    intercept = None
    if run.fit_intercept:
        intercept = run.intercept
    sections.append(("Weights", weights(run.weights, intercept, shapes_of(run.loss), WEIGHTS, OUTPUTS)))
    return sections


def iterations(run: FitResult) -> str:
    """A table of the last ones."""
    history = run.history.isel(iteration=slice(-ITERATIONS, None))
    rows = []
    for i, number in enumerate(history.iteration.values.tolist()):
        at = {name: float(values[i]) for name, values in history.data_vars.items()}
        fast = at["rows"] > 0 and at["seconds"] > 0
        rows.append(
            [
                f"{number:,}",
                f"{at['loss']:.10g}",
                f"{at['grad_norm']:.2e}",
                f"{at['step_size']:.3g}",
                f"{at['passes']:.3g}",
                f"{at['rows']:,.0f}",
                size(at["bytes_read"]),
                f"{at['seconds']:.3g}",
                rounded(at["rows"] / at["seconds"]) if fast else "",
                rounded(at["bytes_read"] / 1e6 / at["seconds"]) if fast else "",
            ]
        )
    head = ["iteration", "loss", "gradient", "step size", "passes", "rows", "read", "seconds", "rows/s", "MB/s"]
    left = run.history.sizes["iteration"] - len(rows)
    note = ""
    if left:
        note = f"<p>The last {len(rows)}; {left:,} before them are left out.</p>"
    return note + table(head, rows)


def of_search(found: SearchResult) -> str:
    """The page of a search."""
    data = found.data
    about = {
        "data": found.described,
        "loss": repr(found.loss) if found.loss.name in LOSSES else found.loss.name,
        "scored by": found.scoring,
        "passes": rounded(found.passes),
    }
    known = not data.score.isnull().any("fold").all()
    if known:
        about |= {f"best {name}": v if isinstance(v, str) else f"{v:.6g}" for name, v in found.best.items()}
    axes = figure(7, 4.2).subplots()
    plot_search(found, axes)
    sections: Sections = [
        (None, f"<p>{escape(found.heading())}</p>"),
        ("What was found", pairs(about)),
        ("Scores", svg(axes.figure)),
        ("Candidates", candidates(found)),
    ]
    if known:
        at = data.isel(candidate=found.best_index)
        intercept = None
        if found.fit_intercept:
            intercept = at.all_intercept
        told = weights(at.all_weights, intercept, limit=WEIGHTS, outputs=OUTPUTS)
        sections.append(("Weights of the best, fitted to all rows", told))
    return page("A search", sections)


def page(title: str, sections: Sections) -> str:
    """A whole document."""
    parts = [(f"<h2>{escape(head)}</h2>" if head else "") + body for head, body in sections]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style></head>\n<body><h1>{escape(title)}</h1>\n{chr(10).join(parts)}\n</body></html>\n"
    )


def figure(width: float, height: float) -> Any:
    """One that pyplot does not know of, so that nothing shows or stays."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def svg(drawn: Any) -> str:
    """The figure as an element, its text as outlines, the same each time."""
    import matplotlib

    text = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context({"svg.hashsalt": "dask_gd", "svg.fonttype": "path"}):
        drawn.savefig(text, format="svg", metadata=nothing)
    return text.getvalue()[text.getvalue().index("<svg") :]


def replace_file(out: Path, text: str) -> None:
    """Write beside the place, then rename: whoever looks finds the old file or the new one."""
    temporary = out.parent / f".{out.name}.{os.getpid()}.tmp"
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, out)
    except OSError as error:
        raise InvalidArgumentError(f"Cannot write {out}: {error.strerror}. Choose a writable place.") from error
    finally:
        temporary.unlink(missing_ok=True)
