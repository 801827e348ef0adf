"""A penalty that the package does not have is served by every solver that has what it needs, or refused by name."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import minimize

import dask_gd
from dask_gd import L1, L2, GroupLasso
from dask_gd.errors import InvalidArgumentError
from dask_gd.model.losses import as_loss
from dask_gd.model.penalties import capabilities, nonsmooth
from dask_gd.penalties import Prox
from dask_gd.solvers import SOLVERS, as_solver, reliefs


class Own:
    """A penalty with a nonsmooth part of its own, which subclasses have, beside squares."""

    def __init__(self, alpha, ridge=0.0):
        self.alpha = alpha
        self.ridge = ridge

    def __repr__(self):
        return f"{type(self).__name__}({self.alpha})"

    def value(self, w):
        return self.nonsmooth(len(w), len(w)).value(w) + self.ridge * (w**2).sum(axis=(0, 1)) / 2

    def gradient(self, w):
        return self.ridge * w

    def curvature(self):
        return self.ridge

    def absolute(self):
        return 0.0


class NegativePart(Prox):
    def __init__(self, alpha, p, q):
        self.alpha = alpha * (np.arange(q) < p)[:, None, None]

    @property
    def free(self):
        return self.alpha == 0

    def value(self, u):
        return (self.alpha * np.maximum(-u, 0.0)).sum(axis=(0, 1))

    def prox(self, u, rate):
        return np.where(u > 0, u, np.minimum(u + rate * self.alpha, 0.0))

    def steepest(self, u, gradient):
        at_zero = np.clip(0.0, gradient - self.alpha, gradient)
        return np.where(u > 0, gradient, np.where(u < 0, gradient - self.alpha, at_zero))


class Negative(Own):
    """``alpha * sum(max(-w, 0))``: linear in each orthant."""

    name = "negative"
    orthants = True

    def nonsmooth(self, p, q):
        return NegativePart(self.alpha, p, q)


def level(sizes, budget):
    """The t at which the sizes beyond t, by descending order along the first axis, add up to the budget."""
    ordered = -np.sort(-sizes, axis=0)
    ranks = np.arange(1, len(sizes) + 1)[:, None, None]
    return ((np.cumsum(ordered, axis=0) - budget) / ranks).max(axis=0)


class LargestPart(Prox):
    def __init__(self, alpha, p):
        self.alpha = alpha
        self.p = p

    def value(self, u):
        return self.alpha * np.abs(u[: self.p]).max(axis=0).sum(axis=0)

    def prox(self, u, rate):
        sizes = np.abs(u[: self.p])
        most = np.maximum(level(sizes, rate * self.alpha), 0.0)
        return np.concatenate([np.clip(u[: self.p], -most, most), u[self.p :]])

    def steepest(self, u, gradient):
        features, slopes = u[: self.p], gradient[: self.p]
        most = np.abs(features).max(axis=0)
        # The largest share the slope alpha between them as is best; rounding keeps them from being equal.
        tied = np.abs(features) >= most * (1 - 1e-10)
        wanted = np.where(tied, -slopes * np.sign(features), -np.inf)
        finite = np.where(tied, wanted, wanted.max(axis=0) - 1e3 * (self.alpha + np.abs(wanted.max(axis=0))))
        shares = np.where(tied, np.maximum(finite - level(finite, self.alpha), 0.0), 0.0)
        elsewhere = slopes + np.sign(features) * shares
        at_zero = self.prox(gradient, 1.0)[: self.p]
        return np.concatenate([np.where(most == 0, at_zero, elsewhere), gradient[self.p :]])


class Largest(Own):
    """``alpha * max(abs(w))``, which makes the largest weights equal."""

    name = "largest"

    def nonsmooth(self, p, q):
        return LargestPart(self.alpha, p)


PENALTIES = [Negative(0.1), Largest(0.3)]
both = pytest.mark.parametrize("penalty", PENALTIES, ids=repr)


def rows(k=1):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(300, 5)) + np.array([0.0, 1.0, 0.0, 0.0, -1.0])
    z = x @ rng.normal(size=(5, k)) + rng.normal(size=(300, k))
    return x, z


def by_scipy(x, y, loss, penalty):
    """Coefficients and intercept by sequential quadratic programming, where corners are constraints."""
    p = x.shape[1]
    design = np.hstack([x, np.ones((len(x), 1))])
    # Negative: w = a - n, and the sum of n costs alpha. Largest: the bound t of the weights does.
    split = isinstance(penalty, Negative)
    more = p if split else 1
    to_weights = np.hstack([np.eye(p + 1), -np.eye(p + 1)[:, :p] if split else np.zeros((p + 1, 1))])

    def objective(v):
        value, slope = loss.value_and_slope(design @ (to_weights @ v), y)
        gradient = to_weights.T @ (design.T @ slope / len(x))
        gradient[p + 1 :] += penalty.alpha
        return value.mean() + penalty.alpha * v[p + 1 :].sum(), gradient

    bounds = [(0, None) if split else (None, None)] * p + [(None, None)] + [(0, None)] * more
    constraints = []
    if not split:
        bounding = np.vstack([s * np.eye(p, p + 2) + np.eye(1, p + 2, p + 1) for s in (1, -1)])
        constraints = [{"type": "ineq", "fun": lambda v: bounding @ v, "jac": lambda v: bounding}]
    start = np.full(p + 1 + more, 0.1)
    found = minimize(
        objective,
        start,
        jac=True,
        method="SLSQP",
        bounds=bounds,
        constraints=constraints,
        tol=1e-16,
        options={"maxiter": 2000},
    )
    return to_weights @ found.x


@pytest.mark.parametrize(
    ("name", "penalty"),
    [("squared", Negative(2.0)), ("squared", Largest(2.0)), ("logistic", Negative(0.1)), ("logistic", Largest(0.3))],
    ids=repr,
)
def test_all_solvers_that_serve_it_find_the_minimum(name, penalty):
    x, z = rows()
    y = z[:, 0] if name == "squared" else (z[:, 0] > 0).astype(float)
    expected = by_scipy(x, y, as_loss(name), penalty)
    # Corners that the minimum is in, so that the part does something.
    features = np.abs(expected[:5])
    at_corners = features < 1e-6 if isinstance(penalty, Negative) else features > features.max() - 1e-6
    assert at_corners.sum() >= 2
    for solver in ["newton", "nesterov", "gradient_descent", "admm", "auto", "lbfgs"]:
        if solver == "lbfgs" and isinstance(penalty, Largest):
            continue
        run = dask_gd.fit(x, y, loss=name, penalty=penalty, solver=solver, max_iter=5000, tol=1e-8)
        assert run.reason in ("converged", "precision"), solver
        assert_allclose(run.parameters[:, 0], expected, atol=1e-6, err_msg=solver)


@pytest.mark.parametrize("penalty", [Negative(0.1, ridge=0.1), Largest(0.3, ridge=0.1)], ids=repr)
def test_classes_and_outputs_are_served_too(penalty):
    """Classes share one curvature, in which Newton's method has them in one column; outputs have one each."""
    x, z = rows(k=3)
    for options in ({"y": z, "loss": "squared"}, {"y": z.argmax(axis=1), "loss": "softmax"}):
        fits = [
            dask_gd.fit(x, penalty=penalty, solver=solver, max_iter=5000, tol=1e-8, **options)
            for solver in ("newton", "nesterov")
        ]
        one, other = ([*run.weights.values.T, np.asarray(run.predict(x))] for run in fits)
        for a, b in zip(one, other, strict=True):
            assert_allclose(a, b, atol=2e-6)


def test_a_solver_that_needs_more_is_refused_by_the_name_of_what_it_needs():
    x, z = rows()
    with pytest.raises(InvalidArgumentError, match=r"LBFGS.* needs 'orthants' of a penalty, which Largest\(0.3\) does"):
        dask_gd.fit(x, z, penalty=Largest(0.3), solver="lbfgs")
    for penalty in PENALTIES:
        for solver in ("momentum", "adam", "local_sgd"):
            with pytest.raises(InvalidArgumentError, match=r"needs 'smooth' of a penalty.* choose auto, newton"):
                dask_gd.fit(x, z, penalty=penalty, solver=solver)


def test_what_a_penalty_has_decides_for_all_penalties():
    assert capabilities(L2(1.0)) == capabilities(L1(0.0)) == {"smooth", "prox", "orthants"}
    assert capabilities(L1(1.0)) == capabilities(Negative(1.0)) == {"prox", "orthants"}
    assert capabilities(GroupLasso(1.0, [0, 0, 1])) == capabilities(Largest(1.0)) == {"prox"}
    loss = as_loss("squared")
    for penalty in (L1(1.0), GroupLasso(1.0, [0, 0, 1]), *PENALTIES):
        served = set()
        for name in SOLVERS:
            try:
                served.add(as_solver(name, loss, penalty, 4).name)
            except InvalidArgumentError:
                continue
        orthants = {"lbfgs"} & ({"lbfgs"} if "orthants" in capabilities(penalty) else set())
        assert served == {"newton", "admm", "nesterov", "gradient_descent", "sgd"} | orthants
        wide = as_solver("auto", loss, penalty, 5000)
        assert wide.name == ("lbfgs" if orthants else "nesterov")
        assert [relief.name for relief in reliefs(SOLVERS["newton"](), loss, penalty, 4)] == sorted(orthants)


def test_a_solver_of_ones_own_is_served_smooth_penalties_unless_it_says_what_it_needs():
    class Mine:
        name = "mine"
        from_statistics = False
        searches = False
        samples = ()

        def init(self, weights, rounding): ...

        def request(self, state): ...

        def step(self, state, objective): ...

    class MineToo(Mine):
        needs = "prox"

    loss = as_loss("squared")
    as_solver(Mine(), loss, L2(1.0), 4)
    with pytest.raises(InvalidArgumentError, match="bends where a weight is 0"):
        as_solver(Mine(), loss, L1(1.0), 4)
    as_solver(MineToo(), loss, L1(1.0), 4)


def test_what_is_no_prox_is_refused_before_a_row_is_read():
    class Wrong(Largest):
        def nonsmooth(self, p, q):
            return "a part"

    x, z = rows()
    with pytest.raises(InvalidArgumentError, match=r"nonsmooth\(p, q\) must return a dask_gd.penalties.Prox"):
        dask_gd.fit(x, z, penalty=Wrong(0.1))


def test_a_search_has_penalties_of_ones_own_and_a_store_knows_them_again(tmp_path):
    x, z = rows()
    candidates = [Largest(0.01), Largest(0.3), L1(0.1)]
    found = dask_gd.search(x, z, penalty_grid=candidates, folds=3)
    for penalty, weights in zip(candidates, found.data.all_weights.values, strict=True):
        assert_allclose(weights.squeeze(), dask_gd.fit(x, z, penalty=penalty).weights.squeeze(), atol=1e-5)
    run = dask_gd.fit(x, z, penalty=Largest(0.3), store=tmp_path)
    assert_array_equal(run.parameters, dask_gd.fit(x, z, penalty=Largest(0.3), store=tmp_path).parameters)


@both
def test_the_proximal_point_and_the_steepest_slope_are_what_prox_says(penalty):
    """So that what solvers are given here is what `Prox` promises them."""
    rng = np.random.default_rng(0)
    part = nonsmooth(penalty, 4, 5)
    u = rng.normal(size=(5, 2, 3))
    rate = np.array([0.1, 1.0, 3.0])
    near = part.prox(u, rate)
    for _ in range(50):
        other = near + 1e-3 * rng.normal(size=u.shape)
        values = [((v - u) ** 2).sum(axis=(0, 1)) / 2 + rate * part.value(v) for v in (near, other)]
        assert (values[0] <= values[1]).all()
    # At the proximal point u - v is the slope of rate * value.
    assert_allclose(part.steepest(near, (near - u) / rate), 0.0, atol=1e-13)


class WithoutMinimum(Prox):
    """Norms that leave it to the default to minimise."""

    def __init__(self, norms):
        self.norms = norms
        self.value = norms.value
        self.prox = norms.prox
        self.steepest = norms.steepest


@pytest.mark.parametrize("penalty", [L1([0.3, 0.1, 1.0, 0.0]), GroupLasso(0.2, [0, 0, 1, 1])], ids=repr)
@pytest.mark.parametrize("seed", range(5))
def test_the_default_finds_the_minimum_that_is_found_for_norms(penalty, seed):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(9, 5)) * [1.0, 3.0, 0.5, 1.0, 1.0]
    norms = nonsmooth(penalty, 4, 5)
    linear = rng.normal(size=5)
    start = rng.normal(size=5)
    expected = norms.minimise(a.T @ a, linear, start)
    found = WithoutMinimum(norms).minimise(a.T @ a, linear, start)
    assert_allclose(found, expected, atol=1e-12)
    assert_array_equal(found == 0, expected == 0)


def test_the_default_survives_a_quadratic_without_a_minimum():
    part = WithoutMinimum(nonsmooth(L1(0.1), 2, 2))
    assert np.isfinite(part.minimise(np.zeros((2, 2)), np.array([1.0, 0.0]), np.zeros(2))).all()
    huge = part.minimise(np.diag([1e-300, 0.0]), np.array([1e300, 1e308]), np.ones(2))
    assert np.isfinite(huge).all()


@both
def test_outputs_in_one_column_have_the_same_part(penalty):
    rng = np.random.default_rng(0)
    part = nonsmooth(penalty, 4, 5)
    u, g = rng.normal(size=(2, 5, 3, 2))
    column, slope = u.reshape(15, 1, 2), g.reshape(15, 1, 2)
    flat = part.flat(3)
    assert flat.is_nonsmooth
    assert_array_equal(flat.value(column), part.value(u))
    assert_array_equal(flat.prox(column, 0.5), part.prox(u, 0.5).reshape(15, 1, 2))
    assert_array_equal(flat.steepest(column, slope), part.steepest(u, g).reshape(15, 1, 2))
    assert_allclose(part.change(u[:, :, :1], g), part.value(u[:, :, :1] + g) - part.value(u[:, :, :1]))


@pytest.mark.parametrize("flags", [{"nonsmooth": True}, {"nonsmooth": False}, {"orthants": False}])
def test_names_that_a_penalty_has_for_something_else_change_nothing(flags):
    """A user's penalty from before there were capabilities may have such an attribute."""

    class Flagged(dask_gd.ElasticNet):
        pass

    for name, value in flags.items():
        setattr(Flagged, name, value)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3))
    y = x @ [1.0, 0.0, -1.0] + rng.normal(size=200)
    for solver in ("newton", "lbfgs", "nesterov"):
        flagged = dask_gd.fit(x, y, penalty=Flagged(0.1), solver=solver)
        assert_array_equal(flagged.weights, dask_gd.fit(x, y, penalty=dask_gd.ElasticNet(0.1), solver=solver).weights)
