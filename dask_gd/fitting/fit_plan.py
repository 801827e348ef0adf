"""The readings of a fit, as far as they are known before its first task: samples, passes, and what is corrected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..display.texts import plural, size
from ..errors import InvalidArgumentError
from ..model.losses import Loss, Model, as_loss, classes_of
from ..model.penalties import Penalty, as_penalty, check_features, is_nonsmooth, penalises
from ..solvers import Newton, Solver, as_solver
from ..solvers.newton.curvature import is_cheap
from ..sources import Source
from ..sources.levels_in_fit import in_fit
from ..sources.plan import Plan
from .block_fit import in_blocks
from .correction import why_uncorrected
from .engine import Engine
from .fit import check_arguments
from .fit_track import FitTrack
from .stages import begin_on_samples
from .start import start_of


@dataclass(frozen=True)
class SamplePlan:
    """The cost of a reading of a sample.

    Attributes
    ----------
    partitions, rows, bytes_read : int
        Whole partitions, drawn with the seed; their rows, and the decoded bytes of these.
    """

    partitions: int
    rows: int
    bytes_read: int

    def __str__(self) -> str:
        return f"{plural(self.partitions, 'partition')} ({self.rows:,} rows, {size(self.bytes_read)})"


@dataclass(frozen=True)
class FitPlan:
    """The readings of a fit, as far as they are known before it.

    Attributes
    ----------
    solver : str
    one_pass : Plan
        Costs of a pass over all rows.
    samples : tuple of SamplePlan
        The samples that the fit begins on, the smaller first, each within the next; empty where it reads all rows from
        the first step.
    why_whole : str
        Why there are none, or "".
    corrects : bool
        Whether steps from a pass over all rows may go on over a sample alone, see ``docs/one_pass.md``.
    why_uncorrected : str
        Why not, or "".
    least_passes : int
        Passes over all rows, at least.
    note : str
        The passes in words.
    """

    solver: str
    one_pass: Plan
    samples: tuple[SamplePlan, ...]
    why_whole: str
    corrects: bool
    why_uncorrected: str
    least_passes: int
    note: str

    def __str__(self) -> str:
        text = f"{self.solver} begins on no sample, as {self.why_whole}. "
        if self.samples:
            text = f"{self.solver} begins on {' and then on '.join(map(str, self.samples))}. "
            text += "Samples are read from the source each time. "
        whole = f"{plural(self.one_pass.partitions, 'partition')} ({size(self.one_pass.bytes_read)})"
        text += f"A pass over all rows reads {whole}. Passes over all rows: {self.note}."
        if self.corrects:
            text += " A sample that is like all rows corrects the steps from these passes, with a reading or two."
        elif self.samples:
            text += f" No step is corrected by a sample, as {self.why_uncorrected}."
        return text


def fit_plan(
    source: Source,
    *,
    loss: str | Loss | tuple = "squared",
    penalty: Penalty | None = None,
    solver: str | Solver = "auto",
    fit_intercept: bool = True,
    max_iter: int = 100,
    initial_weights: Any = None,
    seed: int = 0,
) -> FitPlan:
    """Return what a fit will read: its samples, passes over all rows, and whether samples correct its steps.

    Nothing is read. Which sample corrects, and how many passes follow, depends on what the samples tell.

    Parameters
    ----------
    source : Source
        From `dask_gd.open`.
    loss, penalty, solver, fit_intercept, max_iter, initial_weights, seed
        As in `fit`. "softmax" needs the number of classes: ``dask_gd.Softmax(classes=3)``.

    Returns
    -------
    FitPlan
        Partitions, rows and bytes of samples and of a pass; ``print(plan)`` says it in sentences.

    Raises
    ------
    InvalidArgumentError
        For classes that are not known, and for weights that `fit` would have in blocks, see `block_plan`.

    Examples
    --------
    >>> plan = dask_gd.fit_plan(dask_gd.open("data/flights.zarr", x="X", y="late"), loss="logistic")
    >>> [(sample.partitions, sample.rows) for sample in plan.samples], plan.one_pass.partitions, plan.corrects
    ([(2, 20000), (8, 80000)], 30, True)
    """
    track = _track_of(
        source,
        loss=as_loss(loss),
        penalty=as_penalty(penalty),
        solver=solver,
        fit_intercept=bool(fit_intercept),
        max_iter=max_iter,
        initial_weights=initial_weights,
        seed=seed,
    )
    why_whole = begin_on_samples(track, max_iter)
    samples = track.samples
    planned = []
    for sample in samples:
        rows = track.rows_of(sample)
        bytes_read = round(rows / track.source.shape[0] * track.source.nbytes)
        planned.append(SamplePlan(len(sample), rows, bytes_read))

    # Some steps may be corrected by the last sample only.
    why_uncorrected_ = why_whole and "it begins on none"
    if samples:
        track.samples = samples[-1:]
        why_uncorrected_ = why_uncorrected(track)
        if not why_uncorrected_ and is_cheap(len(track.start)) and is_nonsmooth(track.penalty):
            why_uncorrected_ = "its penalty bends and its curvature costs next to nothing"
    corrects = not why_uncorrected_
    least, note = _passes_of(track, corrects, max_iter)
    return FitPlan(
        solver=repr(track.solver),
        one_pass=track.source.plan(),
        samples=tuple(planned),
        why_whole=why_whole,
        corrects=corrects,
        why_uncorrected=why_uncorrected_,
        least_passes=least,
        note=note,
    )


def _track_of(
    source: Source,
    *,
    loss: Loss,
    penalty: Penalty,
    solver: str | Solver,
    fit_intercept: bool,
    max_iter: int,
    initial_weights: Any,
    seed: int,
) -> FitTrack:
    """Return the track of a fit at its start, as `fit` makes it, but for what would have to be read."""
    check_arguments(max_iter, 0.0, None, seed)
    source = in_fit(source, penalises(penalty), fit_intercept)
    if getattr(loss, "target_kind", None) == "classes" and classes_of(loss) is None:
        raise InvalidArgumentError(f"fit_plan(loss={loss!r}): say how many classes, dask_gd.Softmax(classes=3).")
    width = source.shape[1]
    outputs = classes_of(loss) or source.outputs or 1
    if isinstance(loss, Model):
        width = len(loss.start)
        outputs = 1
        fit_intercept = False
    q = width + fit_intercept
    of_solver = as_solver(solver, loss, penalty, q, source.row_format, outputs=outputs)
    if in_blocks("auto", source, loss, penalty, of_solver, fit_intercept):
        raise InvalidArgumentError("fit_plan: the weights of this fit are in blocks; ask dask_gd.block_plan.")
    check_features(penalty, width)
    # Where it begins is of no interest, but whether it was said.
    start = start_of(None, width, outputs, fit_intercept)
    engine = Engine(source, loss)
    given = initial_weights is not None
    return FitTrack(engine, penalty=penalty, solver=of_solver, start=start, seed=int(seed), given=given)


def _passes_of(track: FitTrack, corrects: bool, max_iter: int) -> tuple[int, str]:
    """Return the passes over all rows at least, and in words."""
    if track.by_statistics:
        return 1, "one, from whose sums all steps follow; it is made again where columns are far from 0"
    if track.loss.quadratic and isinstance(track.solver, Newton):
        return 1, "one, from whose sums the minimum follows; more where it is polished"
    if track.batched and track.size < track.source.shape[0]:
        return 0, f"none, as each of at most {max_iter + 1:,} steps reads {track.solver.batch:.3g} of the rows"
    if corrects:
        return 1, "one at least, mostly two; more where no sample is like all rows"
    if track.samples:
        return 1, "one at least, one for each step that follows the samples"
    return 1, f"one for each step or trial, of at most {max_iter:,} steps"
