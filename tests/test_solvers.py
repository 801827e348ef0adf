"""Every solver reaches the optimum of every problem it is meant for, by pure steps over states of arrays."""

from itertools import islice
from typing import NamedTuple

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from dask_gd import ADMM, L1, L2, LBFGS, Adam, GradientDescent, LocalSGD, Logistic, Momentum, Nesterov, Newton, Squared
from dask_gd.errors import InvalidArgumentError
from dask_gd.kernels.base import BOUND, EXACT, Part, Request, make_kernel
from dask_gd.kernels.dense import DenseRows
from dask_gd.model.losses import Loss
from dask_gd.model.penalties import nonsmooth
from dask_gd.solvers import SOLVERS, as_solver
from dask_gd.solvers.base import GRAM_LIMIT, lipschitz
from dask_gd.solvers.newton import curvature, proximal, smooth
from dask_gd.solvers.newton.curvature import SHARE, corrected, rescaled, restrained
from dask_gd.solvers.newton.smooth import solve
from dask_gd.solvers.newton.state import SHORTER
from dask_gd.solvers.objective import Objective, gradient_cosine, objective
from dask_gd.sources import Rows

ALL = Request(EXACT, moments=True)
ROUNDING = 16 * np.finfo(float).eps
FIRST_ORDER = [GradientDescent(), Momentum(), Nesterov(), Adam()]
SECOND_ORDER = [Newton(), LBFGS()]
LOCAL = [ADMM(), LocalSGD()]


def solvers(*several):
    return pytest.mark.parametrize("solver", [s for some in several for s in some], ids=lambda solver: solver.name)


every_solver = solvers(FIRST_ORDER, SECOND_ORDER, LOCAL)


class Problem(NamedTuple):
    """An objective in memory, with an intercept."""

    x: np.ndarray
    y: np.ndarray
    loss: Loss
    alpha: float = 0.0

    @property
    def zeros(self):
        return np.zeros((self.x.shape[1] + 1, self.y.shape[1], 1))

    def sums(self, query, request=ALL):
        row_format = DenseRows(self.x.dtype, self.x.shape[1])
        kernel = make_kernel(Part(0, query, self.loss, request, row_format))
        kernel.add_rows(Rows(self.x, self.y, {}, 0, row_format))
        return kernel.sums()

    def at(self, query, request=ALL):
        found = self.sums(query, request)
        own = None if request.kernel is None else found
        return objective(found.at_query, query, L2(self.alpha), self.loss, self.x.shape[1], own)

    def cosine(self, weights):
        """The largest component of the gradient over its scale, as `fit` measures convergence."""
        start = self.sums(self.zeros)
        return gradient_cosine(self.at(weights).gradient[:, :, 0], start.moments, start.weight, self.x.shape[1])

    def states(self, solver, start=None, **state):
        """The states that a solver goes through, without end."""
        now = solver.init(self.zeros if start is None else start, ROUNDING)._replace(**state)
        first = True
        while True:
            now = solver.step(now, self.at(now.query, solver.request(now)._replace(moments=first)))
            first = False
            yield now


def problem(loss, *, k=1, alpha=0.0, units=0.0, n=80, p=3, seed=0):
    """``units``: features differ by up to ten to this power."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, p))
    z = x @ rng.normal(size=(p, k)) + 0.5 + rng.normal(size=(n, k))
    y = (z > 0).astype(float) if isinstance(loss, Logistic) else z
    return Problem(x * 10.0 ** np.linspace(-units / 2, units / 2, p), y, loss, alpha)


WELL_SCALED = {
    "quadratic": problem(Squared()),
    "quadratic, 2 outputs, ridge": problem(Squared(), k=2, alpha=0.1),
    "logistic": problem(Logistic()),
    "logistic, 2 outputs, ridge": problem(Logistic(), k=2, alpha=0.1),
}
BADLY_SCALED = {
    "quadratic": problem(Squared(), units=8),
    "logistic": problem(Logistic(), units=8),
    "logistic, ridge": problem(Logistic(), units=4, alpha=1e-3),
}


def nth(states, n):
    return next(islice(states, n, None))


@solvers(FIRST_ORDER, SECOND_ORDER)
@pytest.mark.parametrize("name", WELL_SCALED)
def test_a_solver_reaches_the_optimum_of_a_well_scaled_problem(solver, name):
    steps = 2500 if solver in FIRST_ORDER else 30
    end = nth(WELL_SCALED[name].states(solver), steps)
    assert WELL_SCALED[name].cosine(end.weights) < 1e-6


@pytest.mark.parametrize("solver", SECOND_ORDER, ids=lambda solver: solver.name)
@pytest.mark.parametrize("name", BADLY_SCALED)
def test_second_order_solvers_do_not_care_for_units(solver, name):
    assert BADLY_SCALED[name].cosine(nth(BADLY_SCALED[name].states(solver), 40).weights) < 1e-6


@pytest.mark.parametrize("solver", [*FIRST_ORDER[:3], *SECOND_ORDER], ids=lambda solver: solver.name)
def test_the_optimum_is_that_of_the_normal_equations(solver):
    case = WELL_SCALED["quadratic, 2 outputs, ridge"]
    design = np.hstack([case.x, np.ones((len(case.x), 1))])
    ridge = case.alpha * len(case.x) * np.diag([1, 1, 1, 0])
    expected = np.linalg.solve(design.T @ design + ridge, design.T @ case.y)
    assert_allclose(nth(case.states(solver), 2000).weights[:, :, 0], expected, rtol=1e-8)


@every_solver
@pytest.mark.parametrize("k", [1, 2])
def test_a_state_is_a_tuple_of_arrays_whose_kinds_never_change(solver, k):
    case = problem(Logistic(), k=k)
    start = solver.init(case.zeros, ROUNDING)
    for state in (start, *islice(case.states(solver), 4)):
        assert type(state) is type(start)
        assert all(isinstance(a, np.ndarray) and a.dtype == float for a in state), state
        assert state.weights.shape == state.gradient.shape == case.zeros.shape
        assert state.query.shape[:2] == case.zeros.shape[:2]
        assert state.loss.shape == state.step_size.shape == state.stalled.shape == (1,)


@every_solver
def test_the_iterates_loss_and_gradient_are_those_of_its_weights(solver):
    case = problem(Logistic(), k=2, alpha=0.1)
    for state in islice(case.states(solver), 6):
        here = case.at(state.weights)
        assert_allclose(state.loss, here.loss, rtol=1e-13)
        assert_allclose(state.gradient, here.gradient, rtol=1e-10, atol=1e-14)


@every_solver
def test_a_step_is_pure(solver):
    case = problem(Logistic(), k=2)
    state = solver.init(case.zeros, ROUNDING)
    for _ in range(5):
        seen = case.at(
            state.query, solver.request(state)._replace(moments=bool(np.isinf(state.loss[0])), curvature=BOUND)
        )
        given = (*state, *(a for a in seen if isinstance(a, np.ndarray)), *seen.nonsmooth)
        before = [np.array(a) for a in given]
        after, again = solver.step(state, seen), solver.step(state, seen)
        for a, b in zip(given, before, strict=True):
            assert_array_equal(a, b)
        for a, b in zip(after, again, strict=True):
            assert_array_equal(a, b)
        state = after


@pytest.mark.parametrize("solver", [*FIRST_ORDER[:3], *SECOND_ORDER], ids=lambda solver: solver.name)
def test_an_optimum_is_never_left(solver):
    case = problem(Squared(), alpha=0.1)
    optimum = nth(case.states(Newton()), 5).weights
    end = nth(case.states(solver, start=optimum), 10)
    assert_allclose(end.weights, optimum, atol=1e-12)


@pytest.mark.parametrize("solver", [GradientDescent(), LBFGS(), Newton()], ids=lambda solver: solver.name)
@pytest.mark.parametrize("loss", [Squared(), Logistic()], ids=lambda loss: loss.name)
@pytest.mark.parametrize("units", [0, 2])
@pytest.mark.parametrize("far", [0.0, 3.0])
def test_the_loss_never_rises(solver, loss, units, far):
    case = problem(loss, units=units)
    start = far * np.random.default_rng(1).normal(size=case.zeros.shape)
    losses = np.array([state.loss[0] for state in islice(case.states(solver, start=start), 60)])
    assert (np.diff(losses) <= 2 * ROUNDING * losses[:-1]).all()
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("loss", [Squared(), Logistic()], ids=lambda loss: loss.name)
def test_the_automatic_rate_is_the_reciprocal_of_the_largest_curvature(loss):
    case = problem(loss, alpha=0.5)
    design = np.hstack([case.x, np.ones((len(case.x), 1))])
    bound = loss.curvature_bound * design.T @ design / len(design) + 0.5 * np.diag([1, 1, 1, 0])
    assert_allclose(nth(case.states(GradientDescent()), 0).rate, 1 / np.linalg.eigvalsh(bound)[-1])


def test_wide_data_get_a_safe_rate_without_their_matrix():
    case = problem(Squared(), n=10, p=GRAM_LIMIT + 5)
    state = GradientDescent().init(case.zeros, ROUNDING)
    assert GradientDescent().request(state).curvature is None
    wide = case.at(case.zeros, Request(moments=True))
    assert wide.curvature is None
    assert lipschitz(wide) >= np.linalg.norm(np.hstack([case.x, np.ones((10, 1))]), 2) ** 2 / 10


def test_decay_divides_the_rate_by_the_step_number():
    states = islice(problem(Squared()).states(GradientDescent(0.1, decay=0.5)), 4)
    assert_allclose([s.step_size[0] for s in states], 0.1 / (1 + 0.5 * np.arange(4)))


def hand_written(method, case, rate, steps):
    """The recurrences as the papers print them."""
    w = previous = case.zeros
    v = s = np.zeros_like(w)
    for t in range(1, steps + 1):
        g = case.at(w).gradient
        if method == "momentum":
            v = 0.8 * v - rate * g
            w = w + v
        elif method == "nesterov":
            new = w - rate * g
            w, previous = new + (t - 1) / (t + 2) * (new - previous), new
        elif method == "adam":
            v, s = 0.7 * v + 0.3 * g, 0.9 * s + 0.1 * g * g
            w = w - rate * (v / (1 - 0.7**t)) / (np.sqrt(s / (1 - 0.9**t)) + 1e-8)
        else:
            w = w - rate * g
    return w


@pytest.mark.parametrize(
    "solver", [GradientDescent(0.05), Momentum(0.05, 0.8), Nesterov(0.05), Adam(0.05, 0.7, 0.9)], ids=lambda s: s.name
)
@pytest.mark.parametrize("loss", [Squared(), Logistic()], ids=lambda loss: loss.name)
def test_the_first_steps_are_those_of_the_paper(solver, loss):
    case = problem(loss, k=2)
    for steps, state in enumerate(islice(case.states(solver), 5), start=1):
        assert_allclose(state.query, hand_written(solver.name, case, 0.05, steps), rtol=1e-12)


def test_nesterov_gains_from_its_restarts():
    case = problem(Squared(), units=1)
    end = nth(case.states(Nesterov()), 300)
    without = hand_written("nesterov", case, end.rate, 301)
    assert case.cosine(end.weights) < 1e-3 * case.cosine(without)


@pytest.mark.parametrize("solver", [GradientDescent(0.1, decay=0.1), Momentum(0.1), Nesterov(0.1), Adam(0.1)])
def test_candidates_with_their_own_rates_equal_each_alone(solver):
    case, rates = problem(Logistic(), k=2, alpha=0.1), np.array([0.01, 0.1, 1.0])
    start = np.random.default_rng(3).normal(size=(*case.zeros.shape[:2], 3))
    together = nth(case.states(solver, start=start, rate=rates), 20)
    for m in range(3):
        alone = nth(case.states(solver, start=start[:, :, m : m + 1], rate=rates[m : m + 1]), 20)
        for a, b in zip(together, alone, strict=True):
            assert_allclose(a[..., m : m + 1], b, rtol=1e-9, atol=1e-14)


def test_newton_solves_a_quadratic_in_one_step():
    case = problem(Squared(), k=2, units=4)
    assert case.cosine(nth(case.states(Newton()), 1).weights) < 1e-12


def test_newton_takes_the_least_step_where_columns_are_collinear():
    base = problem(Squared())
    case = base._replace(x=np.hstack([base.x, base.x[:, :1], np.zeros((80, 1))]))
    end = nth(case.states(Newton()), 3).weights[:, 0, 0]
    assert case.cosine(end[:, None, None]) < 1e-10
    assert_allclose(end[0], end[3])
    assert abs(end[4]) < 1e-12


@pytest.mark.parametrize("name", [*WELL_SCALED, *BADLY_SCALED])
def test_newton_reaches_the_optimum_with_curvature_kept_between_passes(monkeypatch, name):
    monkeypatch.setattr(curvature, "NARROW", 1)
    case = (WELL_SCALED | BADLY_SCALED)[name]
    states = list(islice(case.states(Newton()), 40))
    assert case.cosine(states[-1].weights) < 1e-6
    assert any(state.stale for state in states)


@pytest.mark.parametrize("name", [*WELL_SCALED, *BADLY_SCALED])
def test_newton_begins_on_other_rows_with_the_curvature_of_some(monkeypatch, name):
    monkeypatch.setattr(curvature, "NARROW", 1)
    case = (WELL_SCALED | BADLY_SCALED)[name]
    some = case._replace(x=case.x[:40] * [1.0, 0.0, 5.0], y=case.y[:40])
    before = nth(some.states(Newton()), 3)
    kept = Newton().carry(before, before.weights, ROUNDING, last=True)
    assert case.cosine(nth(case.states(Newton(), **kept._asdict(), start=before.weights), 40).weights) < 1e-6


@pytest.mark.parametrize("solver", SECOND_ORDER, ids=lambda solver: solver.name)
@pytest.mark.parametrize("last", [False, True])
def test_a_solver_begins_on_more_rows_at_a_step_that_fewer_have_not_looked_at(solver, last):
    case = problem(Logistic(), alpha=0.1)
    before = nth(case.states(solver), 3)
    ahead = before.query[:, :, :1]
    # The weights remain those whose loss is known, until the first pass over more rows.
    begun = solver.carry(before, ahead, ROUNDING, last)._replace(weights=before.weights)
    now = solver.step(begun, case.at(begun.query, solver.request(begun)._replace(moments=True)))
    assert_array_equal(now.weights, ahead)
    assert_array_equal(now.loss, case.at(ahead).loss)


def test_a_samples_curvature_is_taken_to_the_scale_of_all_rows():
    rng = np.random.default_rng(5)
    half, units = rng.normal(size=(20, 4)), np.array([1.0, 10.0, 0.1, 3.0])
    h, scaled = ((a.T @ a)[:, :, None] for a in (half, half * units))
    diagonals = [np.einsum("iij->ij", a).copy()[:, :, None] for a in (h, scaled)]
    assert_allclose(rescaled(h, *diagonals), scaled)
    h[:, 2] = h[2] = 0  # a feature that the sample lacks
    assert_allclose(rescaled(h, *diagonals)[:, 2, 0], [0, 0, diagonals[1][2, 0, 0], 0])


def test_the_dearer_the_curvature_the_longer_it_serves():
    """One pass with curvature costs as much as some without; in these the gradient falls as far."""
    for width, passes in ((0, 1), (curvature.NARROW, 2), (9 * curvature.NARROW, 10)):
        assert curvature.share_left(width) ** passes == pytest.approx(curvature.LEFT)


def test_a_step_corrects_the_curvature_to_the_change_of_gradient_that_it_saw():
    case = problem(Logistic(), k=2, alpha=0.1)
    before, now = islice(case.states(Newton()), 1, 3)
    h = corrected(now, before)
    s, y = (now.weights - before.weights)[:, :, 0], (now.gradient - before.gradient)[:, :, 0]
    assert_allclose(np.einsum("qrk,rk->qk", h, s), y, rtol=1e-9, atol=1e-15)
    assert_allclose(h, np.swapaxes(h, 0, 1), rtol=1e-9, atol=1e-15)
    assert (np.linalg.eigvalsh(np.moveaxis(h, 2, 0)) > 0).all()


def test_only_features_far_below_their_bound_are_restrained():
    h = np.array([[1.0, 0.1, 0.0], [0.1, 2.0, 0.0], [0.0, 0.0, 1e-9]])[:, :, None]
    expected = h.copy()
    expected[2, 2] = SHARE * 0.5 * 8.0
    assert_allclose(restrained(h, np.array([2.0, 4.0, 8.0])[:, None, None], SHARE), expected)


def test_newton_needs_no_more_rows_than_there_are():
    case = problem(Squared(), n=5, p=9)
    assert nth(case.states(Newton()), 3).loss < 1e-20


def test_newtons_system_is_solved_for_every_output():
    rng = np.random.default_rng(4)
    half = rng.normal(size=(2, 6, 4))
    h, g = np.einsum("knq,knr->qrk", half, half), rng.normal(size=(4, 2, 1))
    d, damping = rng.uniform(1, 9, 4), np.array([0.0, 0.7])
    for j in range(2):
        for m, c in enumerate(damping):
            damped = h + (c * np.diag(d))[:, :, None]
            every, first = (solve(a, g, d[:, None, None], damping, len(d))[:, j, m] for a in (h, h[:, :, :1]))
            assert_allclose(damped[:, :, j] @ every, g[:, j, 0], rtol=1e-9)
            assert_allclose(damped[:, :, 0] @ first, g[:, j, 0], rtol=1e-9)


def test_the_proximal_step_without_a_penalty_is_the_smooth_step():
    case = problem(Logistic(), k=2, alpha=0.1)
    state = nth(case.states(Newton()), 2)
    here = case.at(state.weights)
    damping = np.array([0.0, 0.7])
    moves, expected = (step.moves(state, here, state.curvature, damping) for step in (proximal, smooth))
    assert_allclose(moves, expected, rtol=1e-9)
    full = expected[:, :, :1]
    promised, expected = (step.promise(state, here, state.curvature, full) for step in (proximal, smooth))
    assert promised > 0
    assert_allclose(promised, expected, rtol=1e-9)


def test_newton_backtracks_in_one_pass_when_the_full_step_fails():
    case = problem(Logistic(), alpha=1e-3)
    states = list(islice(case.states(Newton(), start=np.full_like(case.zeros, 3.0)), 25))
    assert any(state.asked == SHORTER for state in states)
    assert any(0 < state.step_size[0] < 1 for state in states)
    assert case.cosine(states[-1].weights) < 1e-8


@pytest.mark.parametrize("solver", SECOND_ORDER, ids=lambda solver: solver.name)
@pytest.mark.parametrize("far", [5.0, 15.0, 50.0])
def test_a_start_where_the_loss_is_nearly_flat_is_left(solver, far):
    case = problem(Logistic())
    start = case.zeros
    start[-1] = far
    end = nth(case.states(solver, start=start), 60)
    assert case.cosine(end.weights) < 1e-6


@pytest.mark.parametrize("solver", SECOND_ORDER, ids=lambda solver: solver.name)
def test_a_trial_that_is_not_finite_is_never_taken(solver):
    case = problem(Logistic())
    state = nth(case.states(solver), 1)
    seen = case.at(state.query)
    after = solver.step(state, seen._replace(loss=np.full_like(seen.loss, np.inf)))
    assert_array_equal(after.weights, state.weights)
    assert np.isfinite(after.query).all()


@pytest.mark.parametrize("solver", SECOND_ORDER, ids=lambda solver: solver.name)
@pytest.mark.parametrize("name", WELL_SCALED)
def test_exhausted_arithmetic_is_said(solver, name):
    states = islice(WELL_SCALED[name].states(solver), 80)
    assert max(state.stalled[0] for state in states) >= 1


def test_lbfgs_forgets_all_but_its_last_pairs():
    case = problem(Logistic(), p=6)
    state = nth(case.states(LBFGS(memory=2)), 6)
    assert state.pairs.shape[:2] == (2, 2)
    assert state.stored == 2
    assert case.cosine(nth(case.states(LBFGS(memory=2)), 60).weights) < 1e-6


def test_a_flat_objective_is_survived_by_every_automatic_rate():
    zero = np.zeros((3, 1, 1))
    nothing = Objective(np.zeros(1), zero, np.zeros((3, 3, 1)), zero, None, nonsmooth(L2(0.0), 2, 3), zero, 2, True)
    for solver in FIRST_ORDER + SECOND_ORDER:
        state = solver.step(solver.init(np.ones((3, 1, 1)), ROUNDING), nothing)
        assert_array_equal(state.query, np.ones_like(state.query))


@pytest.mark.parametrize("make", [GradientDescent, Momentum, Nesterov, Adam])
@pytest.mark.parametrize("rate", [0, -0.1, np.nan, np.inf, None, "fast"])
def test_an_impossible_learning_rate_is_refused_by_name(make, rate):
    with pytest.raises(InvalidArgumentError, match=rf"{make.__name__}\(learning_rate="):
        make(learning_rate=rate)


@pytest.mark.parametrize("make", [GradientDescent, Momentum, Nesterov, Adam])
@pytest.mark.parametrize(
    "rate", [1, 0.5, np.float32(0.5), np.float64(0.5), np.int64(1)], ids=lambda r: type(r).__name__
)
def test_every_kind_of_positive_number_is_a_learning_rate(make, rate):
    assert make(learning_rate=rate).init(np.zeros((2, 1, 1)), ROUNDING).rate == float(rate)


@pytest.mark.parametrize(
    ("make", "parameter", "value"),
    [
        (GradientDescent, "decay", -1),
        (GradientDescent, "decay", np.nan),
        (Momentum, "momentum", 1.0),
        (Momentum, "momentum", -0.1),
        (Adam, "beta1", 1),
        (Adam, "beta2", np.nan),
        (Adam, "epsilon", 0),
        (LBFGS, "memory", 0),
        (LBFGS, "memory", -3),
        (LBFGS, "memory", 2.5),
    ],
)
def test_an_impossible_parameter_is_refused_by_name(make, parameter, value):
    with pytest.raises(InvalidArgumentError, match=rf"{make.__name__}\({parameter}="):
        make(**{parameter: value})


@pytest.mark.parametrize("name", SOLVERS)
def test_a_solver_is_found_by_name_or_is_itself(name):
    solver = as_solver(name, Squared(), L2(0.0), 3)
    assert solver.name == name
    assert as_solver(solver, Squared(), L2(0.0), 3) is solver


@pytest.mark.parametrize("unknown", ["sag", None, 0.1, Newton], ids=repr)
def test_what_is_no_solver_is_refused_with_the_choices(unknown):
    with pytest.raises(InvalidArgumentError, match=r"solver=.*adam, admm, auto, gradient_descent, lbfgs"):
        as_solver(unknown, Squared(), L2(0.0), 3)


@pytest.mark.parametrize("loss", [Squared(), Logistic()], ids=lambda loss: loss.name)
def test_auto_is_newton_for_narrow_data_and_lbfgs_for_wide(loss):
    assert isinstance(as_solver("auto", loss, L2(1.0), 10), Newton)
    assert isinstance(as_solver("auto", loss, L2(1.0), 5000), LBFGS)
    assert isinstance(as_solver("auto", loss, L1(1.0), 4000), Newton)  # which alone serves it
