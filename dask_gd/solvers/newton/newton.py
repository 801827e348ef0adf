"""Newton's method: the whole (q, q) curvature each pass, and very few passes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...kernels.base import EXACT, Request
from ...kernels.least_squares import Basis, basis_of, shortest_step, to_orthogonal
from ...model.prox import NonSmooth
from .. import line_search as line
from ..base import dot
from ..objective import Objective
from ..quadratic.lasso import minimise
from .curvature import corrected, dampings, rescaled, restrained, solve
from .outputs import flatten_outputs
from .state import NewtonState

#: The curvature of the last pass serves the next while the step promises less than this share of the loss: the
#: curvature of a logistic loss changes by about the root of that.
FLAT = 1e-2

#: Parameters up to which the curvature costs next to nothing beside the reading, and is computed in every pass. Beyond,
#: it adds the cost of another reading for each `NARROW` more.
NARROW = 48

#: A step with the curvature of its own point is expected to leave this share of the gradient's square. Steps with an
#: older curvature are worth as much if each leaves a root of this share, the ratio of the costs being the degree of the
#: root, see `spared`.
LEFT = 1e-3

#: A step that promises more than this share of the loss is restrained along single features, see `restrained`.
NEAR = 1e-4

#: The least curvature along a feature in a restrained step, as a share of the median feature's.
SHARE = 0.5

#: Restrained steps in a row after which that share falls.
PATIENCE = 8

#: The kinds of a query, as a state stores them.
FULL = 0.0
SHORTER = 1.0
SAME = 2.0
SHORTEST = 3.0


@dataclass(frozen=True)
class Newton:
    """Newton's method with exact curvature (Boyd and Vandenberghe, 2004, section 9.5), for narrow data.

    A pass computes loss, gradient and the (q, q) curvature H, q the number of features and the intercept; the client
    solves ``H d = -g``. Near the solution H is not computed again for as long as the gradient still falls fast: each
    step corrects it by the change of the gradient along it (the BFGS update; Nocedal and Wright, 2006, eq. 6.19).
    The last sample's H begins the passes over all rows in this way. A last step needs no pass where the steps before
    foretell that it ends within the tolerance (Hairer and Wanner, 1996, section IV.8, stop simplified Newton
    iterations by the share of the error that the last one left).

    The full step is tried first. Should it fail, ``(H + c D) d = -g`` for twelve dampings c are tried together in one
    pass (Levenberg, 1944; Marquardt, 1963), with D the diagonal of the curvature bound; since ``q D`` bounds the
    curvature everywhere, one of them lowers the loss. A loss whose curvature has no bound may rise at all of them; then
    still shorter ones are tried.

    Where the penalty is nonsmooth (`L1`, `ElasticNet`, `GroupLasso`) each step goes to the minimum of the quadratic
    and the nonsmooth part, computed on the client (proximal Newton; Lee, Sun and Saunders, 2014): weights are exactly 0
    where they are in that minimum.

    For the squared loss the curvature is computed once: the first step solves the normal equations, and later ones
    refine the solution with residuals computed from the rows. Where these equations have lost too many digits, a second
    pass solves them in a basis that is nearly orthogonal, see `kernels.least_squares`. A singular curvature (collinear
    columns) gives the weights of least norm after scaling the columns; in float32 it is singular up to rounding only,
    and the weights along such columns are arbitrary.
    """

    name = "newton"
    from_statistics = False
    searches = True
    #: A step that promises little of the loss lands where the next is much smaller.
    samples = (0.2, 0.03)

    def init(self, weights, rounding):
        q = len(weights)
        # The first query is the start itself. An infinite loss stands for no pass made yet.
        return NewtonState(
            weights=weights,
            query=weights,
            loss=np.full(1, np.inf),
            gradient=np.zeros_like(weights),
            step_size=np.zeros(1),
            promise=np.full(1, np.inf),
            curvature=np.zeros((q, q, 1)),
            restrained=np.array(0.0),
            stale=np.array(0.0),
            exact=np.array(0.0),
            order=np.array(0.0),
            asked=np.array(SAME),
            diagonal=np.ones((q, 1, 1)),
            together=np.array(1.0),
            rounding=np.array(rounding),
            stalled=np.zeros(1),
            basis=np.zeros((0, 0)),
        )

    def carry(self, state, weights, rounding, last):
        """Begin again on more rows, on all of them with the curvature of fewer, where it is worth keeping."""
        fresh = self.init(weights, rounding)
        if not last or weights.size <= NARROW:
            return fresh
        return fresh._replace(
            curvature=state.curvature,
            diagonal=state.diagonal,
            together=state.together,
            stale=np.array(1.0),
        )

    def request(self, state):
        # The second pass of least squares sums the products that its basis needs.
        if state.basis.size and state.asked == SAME:
            kernel = Basis(state.basis, bool(state.exact))
            return Request(curvature=EXACT, kernel=kernel)
        if state.asked in (SHORTER, SHORTEST) or state.stale:
            return Request()
        return Request(curvature=EXACT)

    def step(self, state, objective):
        if objective.own is not None:
            return self._least_squares_step(state, objective)

        # The steps know one column of parameters for each curvature.
        q, k, _ = state.weights.shape
        state = self._step(*flatten_outputs(state, objective))
        weights = state.weights.reshape(q, k, -1)
        query = state.query.reshape(q, k, -1)
        if state.together > 1:
            # A number added to all classes changes nothing but the penalty's share; the steps need not know.
            free = objective.nonsmooth.strength == 0
            common = query.mean(axis=1, keepdims=True)
            query = query - free * common
        state = state._replace(
            weights=weights,
            query=query,
            gradient=state.gradient.reshape(q, k, -1),
        )

        if state.basis.size:
            # There is nothing better to be had from the normal equations.
            return state._replace(query=state.weights, stalled=np.full(1, line.STALLED))

        # Where the normal equations have lost too many digits, a second pass solves in an orthogonal basis.
        in_double = state.rounding < np.finfo(np.float32).eps ** 1.5  # float32 data tells no more than its curvature
        least_squares = objective.quadratic and not objective.nonsmooth.is_nonsmooth
        if least_squares and in_double and objective.curvature is not None:
            r = basis_of(objective.curvature[:, :, 0])
            if r is not None:
                return state._replace(
                    basis=r,
                    query=state.weights,
                    asked=np.array(SAME),
                    exact=np.array(0.0),
                )
        return state

    def _least_squares_step(self, state, objective):
        """Return the state with the step to the minimum of least squares; or with the second step, which refines it."""
        weights = state.query
        r = state.basis
        ridge = objective.ridge[:, 0, 0]

        # The slope at the weights, in the basis: from the pass's gradient once the weights are near the minimum.
        if state.exact:
            slope = to_orthogonal(r, objective.gradient[:, :, 0])
        else:
            products = objective.own.basis[:, len(r) :]
            penalty_slope = ridge[:, None] * weights[:, :, 0]
            slope = products + to_orthogonal(r, penalty_slope)

        # The weights move the least along directions that the data does not decide.
        move, refine = shortest_step(r, objective.own.basis, slope, ridge, objective.features)
        move = move[:, :, None]
        gradient = objective.gradient.astype(float)
        # A first solution may need another pass in the basis, which refines it.
        asked = FULL
        if refine and not state.exact:
            asked = SAME
        return state._replace(
            weights=weights,
            query=weights + move,
            loss=objective.loss,
            gradient=gradient,
            step_size=state.exact.reshape(1),
            promise=-0.5 * dot(move, gradient),
            asked=np.array(asked),
            exact=np.array(1.0),
        )

    def _step(self, state, objective):
        """Return the state after a pass: take a trial, update the curvature, and set out on the next full step."""
        first = bool(np.isinf(state.loss[0]))
        if first:
            state = with_scale(state, objective)

        # Take the trial that lowers the loss most, or ask for shorter steps.
        taken = 0
        stalled = False
        if state.asked != SAME:
            slopes = slopes_of(state, objective.nonsmooth)
            accepted = line.accept(state, slopes, objective)
            if accepted is None:
                far = objective.loss.min() > state.loss[0] + line.rounding_margin(state)
                return self._shorter(state, objective, far=far)
            taken = accepted
            stalled = line.at_precision(state, objective, accepted)
        before = state
        damping = damping_of(state, taken)
        step_size = np.zeros(1)
        if state.asked != SAME:
            step_size = 1 / (1 + damping)
        state = state._replace(
            weights=state.query[:, :, taken : taken + 1],
            loss=objective.loss[taken : taken + 1],
            gradient=objective.gradient[:, :, taken : taken + 1],
            step_size=step_size,
            stalled=(state.stalled + 1) * stalled,
        )

        # The curvature is the pass's, or the last curvature, corrected by the step.
        if objective.curvature is not None:
            state = state._replace(curvature=objective.curvature)
        elif not state.stale:
            # A shorter step was taken from a pass without curvature: look at the same point again.
            return state._replace(query=state.weights, asked=np.array(SAME))
        elif not first:
            state = state._replace(curvature=corrected(state, before))

        state, move = aim(state, before, objective)
        state = foresee(state, before, objective, undamped=not (first or damping[0]))
        slope = objective.nonsmooth.steepest(state.weights, state.gradient)
        if state.promise[0] <= 0 and slope.any():
            # The curvature has vanished: so far from the solution the loss is a straight line.
            return self._shorter(state._replace(asked=np.array(FULL)), objective)
        return state._replace(query=state.weights + move, asked=np.array(FULL))

    def _shorter(self, state: NewtonState, objective: Objective, far: bool = False) -> NewtonState:
        """Return the state that tries shorter steps after a failure.

        Where the full step failed the damped steps are tried. Where these failed too, still shorter steps are tried if
        they went too ``far``; else the arithmetic is exhausted.
        """
        state = state._replace(
            stale=np.array(0.0),
            exact=np.array(0.0),
            order=np.array(0.0),
        )
        if state.asked == FULL:
            asked = SHORTER
        elif state.asked == SHORTER and far:
            asked = SHORTEST
        else:
            return state._replace(
                query=state.weights,
                asked=np.array(SAME),
                stalled=np.full(1, line.STALLED),
            )
        damping = dampings(len(state.weights), asked == SHORTEST)[1:]
        moves = directions(state, objective, damping)
        return state._replace(query=state.weights + moves, asked=np.array(asked))


def with_scale(state: NewtonState, objective: Objective) -> NewtonState:
    """Return the state with the scale of the first pass, and a sample's curvature in it."""
    diagonal = line.scale(objective)
    if state.stale:
        state = state._replace(curvature=rescaled(state.curvature, state.diagonal, diagonal))
    return state._replace(diagonal=diagonal)


def slopes_of(state: NewtonState, nonsmooth: NonSmooth) -> np.ndarray:
    """Return the decreases that the gradient and the penalty promise for the trials, negative: (m,)."""
    moves = state.query - state.weights
    gradient = np.broadcast_to(state.gradient, moves.shape)
    return dot(moves, gradient) + nonsmooth_change(state, nonsmooth, moves)


def damping_of(state: NewtonState, taken: int) -> np.ndarray:
    """Return the damping of the trial taken, (1,)."""
    damping = dampings(len(state.weights), state.asked == SHORTEST)
    if state.asked != FULL:
        damping = damping[1:]
    return damping[taken : taken + 1]


def aim(state: NewtonState, before: NewtonState, objective: Objective) -> tuple[NewtonState, np.ndarray]:
    """Return the state with the promise of the full step, and the step, (q, k, 1).

    A step that promises much is taken with a curvature that is `restrained`.
    """
    state = state._replace(restrained=np.array(0.0))
    move, promise = full_step(state, objective)
    if promise[0] > NEAR * abs(state.loss[0]):
        state = state._replace(restrained=np.array(before.restrained + 1.0))
        move, promise = full_step(state, objective)
    return state._replace(promise=promise), move


def foresee(
    state: NewtonState,
    before: NewtonState,
    objective: Objective,
    undamped: bool,
) -> NewtonState:
    """Return the state with the next step's outlook: whether its pass needs a curvature, and how it converges.

    ``undamped`` says that the state is the end of a full step.
    """
    near = state.promise[0] <= NEAR * abs(state.loss[0])
    exact = objective.curvature is not None and near

    # The curvature serves again while the gradient still falls fast, where it costs more than the reading.
    q = len(state.weights)
    sizes = [gradient_size(at, state.diagonal, objective.nonsmooth) for at in (state, before)]
    is_first = np.isinf(before.loss[0])
    falls_fast = sizes[0] <= spared(q) * sizes[1]
    gained = is_first or objective.curvature is not None or falls_fast
    flat = state.promise[0] <= FLAT * abs(state.loss[0])
    stale = gained and q > NARROW and flat

    # Steps with the curvature of their own point square the error; others leave the same share of it each time.
    order = 0
    if undamped:
        order = 1
        if exact and before.exact:
            order = 2
    return state._replace(
        stale=np.array(float(stale)),
        exact=np.array(float(exact)),
        order=np.array(float(order)),
    )


def gradient_size(state: NewtonState, diagonal: np.ndarray, nonsmooth: NonSmooth) -> float:
    """Return the square of the subgradient of least norm, in the scale of the curvature."""
    slope = nonsmooth.steepest(state.weights, state.gradient)
    return dot(slope / diagonal, slope)[0]


def spared(q: int) -> float:
    """Return the share of the gradient's square that a step may leave for its curvature to serve the next one too."""
    return LEFT ** (1 / (1 + q / NARROW))


def model(state: NewtonState) -> np.ndarray:
    """Return the curvature that the step is taken with, (q, q, k or 1)."""
    if not state.restrained:
        return state.curvature
    excess = max(0.0, float(state.restrained) - PATIENCE)
    share = SHARE * 0.25**excess
    return restrained(state.curvature, state.diagonal, share, int(state.together))


def directions(state: NewtonState, objective: Objective, damping: np.ndarray) -> np.ndarray:
    """Return the ways from the weights to the minimum of the model, for each damping (m,) of it: (q, k, m).

    Without a nonsmooth penalty the model is quadratic, and its minimum that of a linear system.
    """
    curvature = model(state)
    if not objective.nonsmooth.is_nonsmooth:
        return -solve(curvature, state.gradient, state.diagonal, damping, objective.features)

    # Each output has a minimum of its own, for each damping.
    q, k, _ = state.weights.shape
    moves = np.empty((q, k, len(damping)))
    for j in range(k):
        w = state.weights[:, j, 0]
        g = state.gradient[:, j, 0]
        own_curvature = curvature[:, :, min(j, curvature.shape[2] - 1)]
        for i, c in enumerate(damping):
            h = own_curvature + np.diag(c * state.diagonal[:, 0, 0])
            linear = h @ w - g
            moves[:, j, i] = minimise(h, linear, objective.nonsmooth, w) - w
    return moves


def full_step(state: NewtonState, objective: Objective) -> tuple[np.ndarray, np.ndarray]:
    """Return the undamped direction (q, k, 1), and by how much the model is less at its end, (1,)."""
    move = directions(state, objective, np.zeros(1))
    if not objective.nonsmooth.is_nonsmooth:
        return move, -0.5 * dot(move, state.gradient)
    q, k, _ = move.shape
    curvature = np.broadcast_to(model(state), (q, q, k))
    curved = np.einsum("qrk,rkm->qkm", curvature, move)
    change = dot(move, state.gradient + 0.5 * curved)
    return move, -(change + nonsmooth_change(state, objective.nonsmooth, move))


def nonsmooth_change(state: NewtonState, nonsmooth: NonSmooth, moves: np.ndarray) -> np.ndarray:
    """Return how much the moves (q, k, m) add to the nonsmooth part of the penalty, (m,)."""
    change = nonsmooth.shares(state.weights + moves) - nonsmooth.shares(state.weights)
    return change.sum(axis=(0, 1))
