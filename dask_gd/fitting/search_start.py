"""Where the fits of a search begin: near a minimum over all rows, which a sample of them tells or a fit finds."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np

from .. import passes
from ..kernels.shift import unshifted
from ..model.losses.regression import SmoothedPinball
from ..model.penalties import Penalty
from ..solvers import Solver
from ..solvers.newton.curvature import is_cheap
from ..worker_env import one_blas_thread
from .correction import fits_float32, may_correct
from .engine import Engine
from .fit import fit
from .fit_run import FitRun
from .fit_track import FitTrack
from .search_engine import SearchEngine
from .search_run import SearchRun
from .smoothing import smoothing_of
from .stages import plan_samples
from .track import Stopping

#: The tolerance of the fit that the tracks begin at, which need not be a minimum of any of theirs, and its most steps.
START_TOL = 1e-3
MOST_STEPS = 100


def begin(
    run: SearchRun,
    start: np.ndarray,
    solver: str | Solver,
    has_start: bool,
) -> np.ndarray:
    """Return where the tracks begin, (q, k, 1), and set how they smooth a quantile's loss: as a fit to all rows does.

    ``has_start`` says that ``start`` is the user's, and not zeros.
    """
    engine = run.engine
    loss = engine.loss
    source = engine.source
    stored = run.stored
    smoothing = smoothing_of(loss, start.shape[1])
    is_smoothed = smoothing is not None

    # A stored search has its start and its widths.
    if stored is not None:
        if smoothing is not None:
            widths = stored.arrays["widths"][1]
            engine.smoothed = SmoothedPinball(smoothing.quantile, widths)
        return start

    # Where no fit is needed.
    if loss.quadratic or (has_start and not is_smoothed):
        return start

    # The fit to all rows: to its minimum for solvers that can begin anywhere.
    begins_anywhere = all(s.searches for s in engine.solvers)
    options: dict[str, Any] = {"loss": loss, "fit_intercept": engine.fit_intercept}
    if begins_anywhere or is_smoothed:
        middle = len(engine.candidates) // 2
        penalty = engine.candidates[middle].of(float(source.shape[0]))
        if begins_anywhere:
            begun = from_samples(engine, start, penalty, engine.solvers[middle])
            if begun is not None:
                return begun
        options["penalty"] = penalty
        options["solver"] = "auto"
        if begins_anywhere:
            options["solver"] = solver
        options["tol"] = START_TOL
        options["seed"] = engine.seed
    elif loss.curvature_bound is None:
        # As `fit` does, begin at the targets' mean.
        options["max_iter"] = 0
    else:
        return start
    of_all = fit(source, **options)

    # What of it serves: always its widths, and its weights where nothing else says where to begin.
    if smoothing is not None:
        engine.smoothed = SmoothedPinball(smoothing.quantile, np.array(of_all.smoothing))
    if has_start or (is_smoothed and not begins_anywhere):
        return start
    # Levels that the fit has left out begin at 0.
    return np.nan_to_num(of_all.parameters[: len(start), :, None])


def from_samples(engine: SearchEngine, start: np.ndarray, penalty: Penalty, solver: Solver) -> np.ndarray | None:
    """Return where samples of the rows have the tracks begin, (q, k, 1); None where a fit does not begin on samples.

    It is the minimum of a sample that is like all rows, and corrects their first steps: the search's first pass is that
    which the fit would take there. Where no sample is like all rows, the fit goes on to its end.
    """
    engine.persist()
    of_fit = Engine(engine.source, engine.loss)
    track = FitTrack(of_fit, penalty, solver, start, engine.seed)
    if not may_correct(track):
        return None
    track.samples = plan_samples(track)
    if not track.samples:
        return None
    stopping = Stopping(MOST_STEPS, START_TOL)
    while track.samples and track.reason is None:
        found = track.evaluate(stopping)
        with one_blas_thread():
            track.advance(found, stopping)

    # The samples have led to a single point, from which one of them corrects steps over all rows.
    if track.reason is None and track.correcting is not None and track.state.query.shape[2] == 1:
        engine.sample = track.correcting
        engine.is_rough = not is_cheap(len(start)) and fits_float32(track)
        return unshifted(track.state.query, of_fit.shift)

    # Nothing of them serves but the weights.
    with contextlib.ExitStack() as stack:
        if of_fit.keeps:
            stack.callback(passes.release, of_fit.source, of_fit.name)
        of_all = FitRun(track, stopping).run()
    return np.nan_to_num(of_all.parameters[: len(start), :, None])
