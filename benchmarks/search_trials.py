"""Do the fits of a search end within the tolerance, and with the losses held out that they have there?

    python benchmarks/search_trials.py --problems 80
    python benchmarks/search_trials.py --problems 16 --kinds rare sorted --tolerances 1e-6

Random problems of every kind of `one_pass`, each searched over 6 penalties and 3 folds, to each tolerance. At the end
the gradient of each fit is computed in NumPy, by nobody's forecast, over the scale that the search has, and so is the
loss of the rows held out. The table has for each kind: the passes in the mean, of all rows and of samples; the fits
that converged; those of them that ended without a look; those whose look was at another fit nearby; the largest
gradient of both over the tolerance, which must be at most 1; and the largest relative error of a loss held out.
"""

from __future__ import annotations

import argparse
import warnings
from typing import Any

import dask.array as da
import numpy as np
from one_pass import KINDS, PARTITIONS, problem

import dask_gd
from dask_gd.fitting.engine import Engine
from dask_gd.fitting.fold_track import FoldTrack
from dask_gd.fitting.search_engine import SearchEngine
from dask_gd.fitting.search_result import SearchResult
from dask_gd.kernels.base import Request, sums_of_rows
from dask_gd.solvers.objective import objective

FOLDS = 3
ALPHAS = np.geomspace(1e-6, 1e-1, 6)


def ends_of(x: np.ndarray, y: np.ndarray, tracks: list[FoldTrack], engine: SearchEngine) -> tuple[float, float]:
    """Return the largest gradient of fits that ended without a look of their own, and the largest error of losses."""
    fold_of = dask_gd.Folds(FOLDS).of_rows(np.arange(len(x)), len(x))
    if engine.shift is not None:
        x = x - engine.shift
    gradient = 0.0
    error = 0.0
    for track in tracks:
        if track.reason != "converged":
            continue
        seen = fold_of != track.fold
        query = track.state.weights
        sums = sums_of_rows(x[seen], y[seen, None], None, query, engine.loss, Request())
        at = objective(sums, query, track.penalty, engine.loss, x.shape[1])
        if track.bound < np.inf or track.blur > 0:
            gradient = max(gradient, track.norm(at.gradient))
        if track.fold >= 0:
            own = sums_of_rows(x[~seen], y[~seen, None], None, query, engine.loss, Request())
            error = max(error, abs(track.holdout[0] / own.loss[0] - 1))
    return gradient, error


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=80)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--widths", nargs="+", type=int, default=[1, 2, 3, 5, 10, 20, 40, 60])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--tolerances", nargs="+", type=float, default=[1e-3, 1e-4, 1e-6, 1e-8])
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    seen: list[tuple[Any, Any]] = []
    of = SearchResult.of
    read = Engine.read
    taken = [0.0]

    def spied(tracks, engine, scoring):
        seen.append((tracks, engine))
        return of(tracks, engine, scoring)

    def counted(engine, query, request, partitions=None):
        before = engine.passes
        sums = read(engine, query, request, partitions)
        taken[0] += engine.passes - before
        return sums

    SearchResult.of = spied  # type: ignore[method-assign]
    Engine.read = counted  # type: ignore[method-assign]
    print("| kind | tol | searches | passes | fits | without a look | led | gradient / tol | error of losses |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    for kind in options.kinds:
        for tol in options.tolerances:
            passes = []
            counts = np.zeros(3, int)
            largest = np.zeros(2)
            for seed in range(-(-options.problems // len(KINDS))):
                x, y, loss, _ = problem(kind, seed, options.rows, options.widths)
                rows = da.from_array(x, chunks=(-(-options.rows // PARTITIONS), -1))
                seen.clear()
                taken[0] = 0.0
                dask_gd.search(rows, y, loss=loss, alphas=ALPHAS, folds=FOLDS, solver="newton", tol=tol)
                tracks, engine = seen[-1]
                found = np.array(ends_of(x, y, tracks, engine)) / (tol, 1.0)
                largest = np.maximum(largest, found)
                passes.append(taken[0])
                converged = [track for track in tracks if track.reason == "converged"]
                unseen = [track for track in converged if track.bound <= tol]
                led = [track for track in tracks if track.blur > 0]
                counts += (len(converged), len(unseen), len(led))
                if options.verbose:
                    print(kind, seed, loss, x.shape[1], tol, round(taken[0], 2), len(unseen), len(led), found)
            numbers = " | ".join(map(str, counts))
            print(
                f"| {kind} | {tol:g} | {len(passes)} | {np.mean(passes):.2f} | {numbers} | {largest[0]:.2f} | "
                f"{largest[1]:.0e} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
