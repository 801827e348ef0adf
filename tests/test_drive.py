"""The loop of fits and searches, with tracks that are no more than a solver and its history."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import dask_gd
from dask_gd.fitting.drive import drive
from dask_gd.fitting.engine import Engine
from dask_gd.fitting.track import Evaluated, Stopping, Track
from dask_gd.model.penalties import as_penalty
from dask_gd.solvers import as_solver
from dask_gd.sources import as_source

P = 4


class Plain(Track):
    """A track without samples, forecasts or folds."""

    def advance(self, found, stopping):
        at_query, finite = self.objective_at(found)
        self.step(at_query, finite)
        self.losses.append(float(self.state.loss[0]))
        self.grad_norm = self.norm(self.state.gradient, self.state.weights)
        self.reason = self.reason_to_stop(stopping)


def rows():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(900, P))
    z = x @ [1.0, -1.0, 0.5, 0.0]
    return x, {"logistic": (z + rng.logistic(size=900) > 0).astype(float), "huber": z + rng.normal(size=900)}


def track_of(engine, solver, penalty):
    penalty = as_penalty(penalty)
    return Plain(engine, penalty, (as_solver(solver, engine.loss, penalty, P + 1),), np.zeros((P + 1, 1, 1)))


def by_passes(tracks):
    """Evaluate each track's query in a pass of its own."""
    evaluated = []
    for track in tracks:
        request = track.solver.request(track.state)._replace(moments=not track.losses)
        sums = track.engine.read(track.state.query, request)
        if not track.losses:
            track.engine.moments = sums.moments
            track.engine.weight = sums.weight
        evaluated.append(Evaluated(sums))
    return evaluated


TRACKS = [
    ("gradient_descent", dask_gd.L2(0.1)),
    ("nesterov", dask_gd.L1(0.05)),
    ("lbfgs", dask_gd.L2(1e-3)),
    ("newton", dask_gd.L1(0.01)),
]


@pytest.mark.parametrize("loss", ["logistic", "huber"])
@pytest.mark.parametrize(("solver", "penalty"), TRACKS)
def test_a_fit_is_a_track(solver, penalty, loss):
    x, targets = rows()
    stopping = Stopping(max_iter=40, tol=1e-5)
    fit = dask_gd.fit(x, targets[loss], loss=loss, solver=solver, penalty=penalty, **stopping._asdict())
    track = track_of(Engine(as_source(x, targets[loss]), fit.loss), solver, penalty)
    drive([track], by_passes, stopping)
    assert track.reason == fit.reason == "converged"
    assert_array_equal(track.losses, fit.history.loss)
    assert_array_equal(track.state.weights[:, :, 0], fit.parameters)


def test_tracks_end_together_where_each_ends_alone():
    """They need not have the same solver, and leave the rounds as they end."""
    x, targets = rows()
    stopping = Stopping(max_iter=25, tol=1e-5)
    loss = dask_gd.Logistic()
    alone = []
    for solver, penalty in TRACKS:
        track = track_of(Engine(as_source(x, targets["logistic"]), loss), solver, penalty)
        drive([track], by_passes, stopping)
        alone.append(track)

    engine = Engine(as_source(x, targets["logistic"]), loss)
    together = [track_of(engine, solver, penalty) for solver, penalty in TRACKS]
    running = []
    drive(together, by_passes, stopping, lambda: running.append(sum(track.reason is None for track in together)))
    for ours, theirs in zip(together, alone, strict=True):
        assert ours.reason == theirs.reason
        assert_array_equal(ours.losses, theirs.losses)
        assert_array_equal(ours.state.weights, theirs.state.weights)
    # A round is as long as there is a track left, and has no place for those that have ended.
    assert running == sorted(running, reverse=True)
    assert running[-1] == 0
    assert len(running) == max(len(track.losses) for track in together)
    assert engine.readings == sum(len(track.losses) for track in together)


def test_a_round_may_end_tracks():
    x, targets = rows()
    engine = Engine(as_source(x, targets["logistic"]), dask_gd.Logistic())
    tracks = [track_of(engine, "gradient_descent", dask_gd.L2(0.1)) for _ in range(2)]

    def drop():
        if len(tracks[0].losses) == 3:
            tracks[0].reason = "dropped"

    drive(tracks, by_passes, Stopping(max_iter=9, tol=0.0), drop)
    assert [(track.reason, track.iteration) for track in tracks] == [("dropped", 2), ("max_iter", 9)]


def test_tracks_that_have_a_reason_are_not_evaluated():
    x, targets = rows()
    engine = Engine(as_source(x, targets["logistic"]), dask_gd.Logistic())
    track = track_of(engine, "newton", None)
    track.reason = "stored"
    drive([track], by_passes, Stopping(max_iter=9, tol=0.0))
    assert engine.readings == 0
