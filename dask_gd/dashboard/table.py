"""Tabulate the fits and searches of `/gd` as HTML: columns that keep their place, whatever the texts of a run say."""

from __future__ import annotations

from html import escape
from pathlib import PurePath

import numpy as np

from ..display.texts import ago, duration, plural, readings, rounded, sampled, size
from ..events import FitStarted, SearchStarted
from .watched import Board, Watched, now

#: The columns: the heading, the share of the table's width in percent, and whether it has text.
COLUMNS = (
    ("fit", 13, True),
    ("status", 11, True),
    ("data and model", 22, True),
    ("step", 7, False),
    ("loss", 8, False),
    ("gradient", 6, False),
    ("rows/s", 6, False),
    ("MB/s", 4, False),
    ("reading alone", 6, False),
    ("this pass", 5, False),
    ("time left", 5, False),
    ("last commit", 7, False),
)

#: What is wider than its column ends in dots, and is whole where the pointer rests on it.
STYLE = """
<style>
  .bk-clearfix {display: block !important}
  .gd-scroll {overflow: auto; max-height: 420px}
  table.gd {border-collapse: collapse; font-size: 12px; table-layout: fixed; width: 100%; min-width: 1180px}
  table.gd th, table.gd td {padding: 3px 6px; text-align: right; vertical-align: top}
  table.gd th, table.gd td, table.gd div {overflow: hidden; text-overflow: ellipsis; white-space: nowrap}
  table.gd th {border-bottom: 1px solid #999; font-weight: 600; white-space: normal; vertical-align: bottom}
  table.gd th {position: sticky; top: 0; background: #fafafa; z-index: 2}
  table.gd .text {text-align: left}
  table.gd td:first-child {position: sticky; left: 0; background: #fafafa; z-index: 1}
  table.gd th:first-child {left: 0; z-index: 3}
  table.gd tr.chosen td {background: #e8f0f8}
  table.gd div.more {color: #666; font-size: 11px}
  table.gd .failed {color: #b00020}
  table.gd a {color: inherit; font-weight: 600}
  table.gd progress {width: 100%; height: 8px; display: block; margin-top: 4px}
  .gd-about {margin: 8px 6px; font-size: 13px; overflow-wrap: anywhere}
  .gd-about b {font-size: 15px}
</style>
"""


def table(board: Board, watched: list[Watched], colors: dict[str, str], chosen: list[str] | None = None) -> str:
    """Tabulate the fits and searches as HTML, the newest first, with the colours of their curves.

    Each has a link that chooses it; the ``chosen`` ones have a background.
    """
    if not watched:
        return "<p>No fit has begun yet.</p>"
    columns = ""
    heads = ""
    for heading, share, is_text in COLUMNS:
        columns += f'<col style="width: {share}%">'
        kind = ""
        if is_text:
            kind = "text"
        heads += f'<th class="{kind}">{escape(heading)}</th>'
    rows = ""
    for each in reversed(watched):
        is_chosen = chosen is not None and each.run in chosen
        rows += row(board, each, colors[each.run], is_chosen)
    return (
        f'<div class="gd-scroll"><table class="gd"><colgroup>{columns}</colgroup>'
        f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def row(board: Board, watched: Watched, color: str, is_chosen: bool) -> str:
    """Return the row of a fit or a search: what it is, how far it has come, and how fast, against reading alone."""
    cells = [_name(watched, color), _status(board, watched), _about(watched.beginning, _blocks(watched))]
    # How far it has come, and how fast its pass is.
    if isinstance(watched.beginning, SearchStarted):
        cells += _progress_of_search(watched, watched.beginning)
    else:
        cells += _progress_of_fit(watched, watched.beginning)
    reading_alone = ""
    bytes_per_second = board.reading_speed(watched.run)
    if bytes_per_second:
        reading_alone = rounded(bytes_per_second / 1e6)
    cells.append(_cell(reading_alone))
    cells.append(_progress_of_pass(board, watched))
    # How long it still takes, and what is safe.
    time = now()
    time_left = ""
    seconds_left = watched.seconds_left(time)
    if seconds_left is not None:
        time_left = duration(seconds_left)
    cells.append(_cell(time_left))
    last_commit = ""
    if watched.committed is not None:
        last_commit = ago(time - watched.committed)
    cells.append(_cell(last_commit))
    mark = ""
    if is_chosen:
        mark = ' class="chosen"'
    return f"<tr{mark}>{''.join(cells)}</tr>"


def _name(watched: Watched, color: str) -> str:
    """Return the cell with a run's store, or its name where it has none: a link that chooses it."""
    run = escape(watched.run)
    store = watched.beginning.store
    name = watched.run
    more = watched.beginning.kind
    if store is not None:
        name = "/".join(PurePath(store).parts[-2:])
        more = f"{more} {watched.run}"
    square = f'<span style="color: {color}">&#9632;</span>'
    link = f'<a href="?run={run}">{escape(name)}</a>'
    title = escape(store or watched.run)
    return f'<td class="text" title="{title}"><div>{square} {link}</div><div class="more">{escape(more)}</div></td>'


def _status(board: Board, watched: Watched) -> str:
    """Return the cell that says whether a run goes on, and how it has ended.

    While weights in blocks are fitted it has the memory of the worker that has least left.
    """
    if watched.has_failed:
        return _cell("failed", watched.status, kind="text failed")
    memory = []
    fit = watched.beginning
    if watched.running and isinstance(fit, FitStarted) and fit.blocks:
        memory = board.memory_of_workers()
    if not memory:
        return _cell(watched.status, kind="text")
    _, used, limit = max(memory, key=lambda worker: worker[1] / (worker[2] or np.inf))
    each = [f"{address} {_of_limit(used, limit)}" for address, used, limit in memory]
    return _cell(watched.status, _of_limit(used, limit), kind="text", title=f"memory of workers: {'; '.join(each)}")


def _about(beginning: FitStarted | SearchStarted, blocks: str) -> str:
    """Return the cell with the data and the model, what tells runs apart before the rest, and a line on blocks."""
    cell = _cell(short_label(beginning), model_of(beginning), kind="text", title=about(beginning))
    return f"{cell.removesuffix('</td>')}{blocks}</td>"


def _blocks(watched: Watched) -> str:
    """Return a line on weights in blocks: how many there are, how wide, and on how many workers."""
    fit = watched.beginning
    if not isinstance(fit, FitStarted) or not fit.blocks:
        return ""
    title = f"{blocks_of(fit)}, each planned to need {size(fit.memory)} beside its process"
    return f'<div class="more" title="{escape(title)}">{escape(blocks_of(fit))}</div>'


def _of_limit(used: int, limit: int) -> str:
    """Say how many bytes a worker uses, and of how many where it has a limit."""
    if not limit:
        return size(used)
    return f"{size(used)} of {size(limit)}"


def blocks_of(fit: FitStarted) -> str:
    """Say in how many blocks the weights of a fit are, and on how many workers.

    Examples
    --------
    >>> fit = FitStarted("a", "rows", "Logistic()", "none", "lbfgs", 10, None, blocks=8, width=1 << 20, workers=4)
    >>> blocks_of(fit)
    'weights in 8 blocks of 1,048,576 on 4 workers'
    """
    return f"weights in {plural(fit.blocks, 'block')} of {fit.width:,} on {plural(fit.workers, 'worker')}"


def short_label(beginning: FitStarted | SearchStarted) -> str:
    """Say which rows a run has, with the last part only of where they are stored."""
    names, separator, place = beginning.label.rpartition(" in ")
    if not separator:
        return beginning.label or beginning.data
    return f"{names} in {place.rstrip('/').rpartition('/')[2]}"


def model_of(beginning: FitStarted | SearchStarted) -> str:
    """Say what a run minimises, and how."""
    if isinstance(beginning, SearchStarted):
        return f"{beginning.candidates} candidates, {beginning.folds} folds, {beginning.loss}"
    return f"{beginning.loss}, penalty {beginning.penalty}, {beginning.solver}"


def about(beginning: FitStarted | SearchStarted) -> str:
    """Say all of what a run is."""
    text = f"{beginning.data}; {model_of(beginning)}"
    if isinstance(beginning, FitStarted) and beginning.blocks:
        text += f"; {blocks_of(beginning)}"
    if beginning.label:
        text = f"{beginning.label}: {text}"
    return text


def _progress_of_search(watched: Watched, search: SearchStarted) -> list[str]:
    """Return the cells of a search below "step" to "MB/s"."""
    step = ""
    full = ""
    running = f"{search.fits} fits"
    candidates = ""
    if watched.count:
        step = f"pass {watched.last('passes'):.0f}"
        full = f"{watched.last('full_passes'):.0f} over all rows"
        running = f"{watched.last('running'):.0f} of {search.fits} fits run"
        candidates = f"{watched.last('candidates'):.0f} of {search.candidates} candidates"
    joined = f'<td colspan="2"><div>{running}</div><div class="more">{candidates}</div></td>'
    return [_cell(step, full), joined, _cell(""), _cell("")]


def _progress_of_fit(watched: Watched, fit: FitStarted) -> list[str]:
    """Return the cells of a fit below "step" to "MB/s"."""
    if not watched.count:
        return [_cell("")] * 5
    # The loss of a sample says so.
    rows = sampled(watched.last("passes"), watched.last("full_passes"))
    briefly, _, _ = rows.removeprefix("of ").partition(",")
    read = f"{watched.full_passes:.4g} full"
    samples = watched.passes - watched.full_passes
    if samples > 1e-9:
        read += f" + {samples:.2g}"
    title = f"since it began or was resumed: {readings(watched.full_passes, watched.passes)}"
    rows_per_second = ""
    megabytes_per_second = ""
    if watched.speed is not None:
        rows_per_second, megabytes_per_second = map(rounded, watched.speed)
    return [
        _cell(f"{watched.last('iteration'):.0f} of {fit.max_iter}", read, title=title),
        _cell(f"{watched.last('loss'):.8g}", briefly, title=f"{watched.last('loss')} {rows}"),
        _cell(f"{watched.last('grad_norm'):.1e}"),
        _cell(rows_per_second),
        _cell(megabytes_per_second),
    ]


def _progress_of_pass(board: Board, watched: Watched) -> str:
    """Return the cell with a bar of the pass that a run makes, if it makes any."""
    done = None
    if watched.running:
        done = board.pass_done(watched.run)
    if done is None:
        return "<td></td>"
    _, share = done
    return f'<td><progress value="{share:.3f}" max="1"></progress><div class="more">{share:.0%}</div></td>'


def _cell(text: str, more: str = "", *, kind: str = "", title: str = "") -> str:
    """Return a cell with a text, and a smaller text below; both whole where the pointer rests on it."""
    title = title or f"{text} {more}".strip()
    below = ""
    if more:
        below = f'<div class="more">{escape(more)}</div>'
    return f'<td class="{kind}" title="{escape(title)}"><div>{escape(text)}</div>{below}</td>'


def caption(chosen: list[Watched]) -> str:
    """Say which run the curves below the table are of, all of it and of its error, and which losses are of samples."""
    if not chosen:
        return ""
    if len(chosen) > 1:
        heading = f"All {len(chosen)} runs on one scale"
        text = "A run's name shows its own."
    else:
        (watched,) = chosen
        heading = f"{watched.beginning.kind} {watched.beginning.store or watched.run}: {watched.status}"
        text = f'{escape(about(watched.beginning))}. <a href="?run=all">All runs on one scale</a>'
    kind = ""
    if len(chosen) == 1 and chosen[0].has_failed:
        kind = ' style="color: #b00020"'
    note = ""
    if any(watched.samples.any() for watched in chosen):
        note = "<br>Circles: of a sample of the rows, not comparable with losses of other rows."
    return f'<div class="gd-about"><b{kind}>{escape(heading)}</b><br>{text}{note}</div>'
