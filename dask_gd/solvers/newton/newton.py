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
from .curvature import corrected, rescaled, restrained, solve
from .state import NewtonState

#: Directions tried together, in one pass, when the full step fails.
DAMPED = 12

#: The curvature of the last pass serves the next while the step promises less than this share of the loss: the
#: curvature of a logistic loss changes by about the root of that.
FLAT = 1e-2

#: Parameters up to which the curvature costs next to nothing beside the reading, and is computed in every pass. Beyond
#: it adds as much as another such pass for each so many more.
NARROW = 48

#: A step with the curvature of its own point is expected to leave this share of the gradient's square. Steps with an
#: older one are worth as much if each leaves the root of that, the root being the costs' ratio, see `spared`.
LEFT = 1e-3

#: A step that promises more than this share of the loss is restrained along single features, see `restrained`. After so
#: many in a row it is less and less so.
NEAR, SHARE, PATIENCE = 1e-4, 0.5, 8

FULL, SHORTER, SAME, SHORTEST = 0.0, 1.0, 2.0, 3.0


@dataclass(frozen=True)
class Newton:
    """Newton's method with exact curvature (Boyd and Vandenberghe, 2004, section 9.5), for narrow data.

    A pass computes loss, gradient and the (q, q) curvature H, q the number of features and the intercept; the client
    solves ``H d = -g``. Near the solution H is not computed again for as long as the gradient still falls fast: each
    step corrects it by the change of the gradient that it saw (the BFGS update; Nocedal and Wright, 2006, eq. 6.19).
    The last sample's H begins the passes over all rows in this way. A last step need not be looked at where the ones
    before foretell that it ends within the tolerance (Hairer and Wanner, 1996, section IV.8, stop simplified Newton
    iterations by the share of the error that the last one left).

    The full step is tried first. Should it fail, ``(H + c D) d = -g`` for twelve dampings c are tried together in one
    pass (Levenberg, 1944; Marquardt, 1963), with D the diagonal of the curvature bound; since ``q D`` bounds the
    curvature everywhere, one of them lowers the loss. A loss whose curvature has no bound may rise at all of them; then
    still shorter ones are tried.

    Where the penalty bends (`L1`, `ElasticNet`, `GroupLasso`) each step goes to the minimum of the quadratic and of
    what bends, found on the client (proximal Newton; Lee, Sun and Saunders, 2014): weights are exactly 0 where they are
    in that minimum.

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
        if not last or weights.size <= NARROW:
            return self.init(weights, rounding)
        kept = {name: getattr(state, name) for name in ("curvature", "diagonal", "together")}
        kept["stale"] = np.array(1.0)
        return self.init(weights, rounding)._replace(**kept)

    def request(self, state):
        if state.basis.size and state.asked == SAME:
            return Request(curvature=EXACT, kernel=Basis(state.basis, bool(state.exact)))
        return Request(curvature=None if state.asked in (SHORTER, SHORTEST) or state.stale else EXACT)

    def step(self, state, objective):
        if objective.own is not None:
            return self._in_basis(state, objective)
        q, k, _ = state.weights.shape
        state = self._step(*flat(state, objective))
        arrays = {name: getattr(state, name).reshape(q, k, -1) for name in ("weights", "query", "gradient")}
        if state.together > 1:
            # A number added to all classes changes nothing but what the penalty makes of it; the steps need not know.
            free = objective.nonsmooth.strength == 0
            arrays["query"] = arrays["query"] - free * arrays["query"].mean(axis=1, keepdims=True)
        state = state._replace(**arrays)
        if state.basis.size:
            # There is nothing better to be had from the normal equations.
            return state._replace(query=state.weights, stalled=np.full(1, line.STALLED))
        exact = state.rounding < np.finfo(np.float32).eps ** 1.5  # float32 data tells no more than its curvature
        if objective.quadratic and exact and objective.curvature is not None and not objective.nonsmooth.is_nonsmooth:
            r = basis_of(objective.curvature[:, :, 0])
            if r is not None:
                return state._replace(basis=r, query=state.weights, asked=np.array(SAME), exact=np.array(0.0))
        return state

    def _in_basis(self, state, objective):
        """The step to the minimum of least squares; and a second one, which refines it."""
        weights = state.query
        r = state.basis
        ridge = objective.ridge[:, 0, 0]
        if state.exact:
            slope = to_orthogonal(r, objective.gradient[:, :, 0])
        else:
            slope = objective.own.basis[:, len(r) :] + to_orthogonal(r, ridge[:, None] * weights[:, :, 0])
        move, refine = shortest_step(r, objective.own.basis, slope, ridge, objective.features)
        move = move[:, :, None]
        gradient = objective.gradient.astype(float)
        return state._replace(
            weights=weights,
            query=weights + move,
            loss=objective.loss,
            gradient=gradient,
            step_size=state.exact.reshape(1),
            promise=-0.5 * dot(move, gradient),
            asked=np.array(SAME if refine and not state.exact else FULL),
            exact=np.array(1.0),
        )

    def _step(self, state, objective):
        bent = objective.nonsmooth
        first = bool(np.isinf(state.loss[0]))
        if first:
            diagonal = line.scale(objective)
            if state.stale:
                state = state._replace(curvature=rescaled(state.curvature, state.diagonal, diagonal))
            state = state._replace(diagonal=diagonal)
        taken = 0
        stalled = False
        damping = dampings(len(state.weights), state.asked == SHORTEST)
        if state.asked != FULL:
            damping = damping[1:]
        if state.asked != SAME:
            moves = state.query - state.weights
            slopes = dot(moves, np.broadcast_to(state.gradient, moves.shape)) + bend(state, bent, moves)
            best = line.accept(state, slopes, objective)
            if best is None:
                return self._shorter(
                    state, objective, far=objective.loss.min() > state.loss[0] + line.rounding_margin(state)
                )
            taken = best
            stalled = line.at_precision(state, objective, best)
        before = state
        state = state._replace(
            weights=state.query[:, :, taken : taken + 1],
            loss=objective.loss[taken : taken + 1],
            gradient=objective.gradient[:, :, taken : taken + 1],
            step_size=np.zeros(1) if state.asked == SAME else 1 / (1 + damping[taken : taken + 1]),
            stalled=(state.stalled + 1) * stalled,
        )
        if objective.curvature is not None:
            state = state._replace(curvature=objective.curvature)
        elif not state.stale:
            # A shorter step was taken from a pass without curvature: look at the same point again.
            return state._replace(query=state.weights, asked=np.array(SAME))
        elif not first:
            state = state._replace(curvature=corrected(state, before))
        state = state._replace(restrained=np.array(0.0))
        full, promise = full_step(state, objective)
        if promise[0] > NEAR * abs(state.loss[0]):
            state = state._replace(restrained=np.array(before.restrained + 1.0))
            full, promise = full_step(state, objective)
        slopes = [bent.steepest(at.weights, at.gradient) for at in (state, before)]
        sizes = [dot(slope / state.diagonal, slope)[0] for slope in slopes]
        gained = first or objective.curvature is not None or sizes[0] <= spared(len(full)) * sizes[1]
        flat = gained and len(full) > NARROW and promise[0] <= FLAT * abs(state.loss[0])
        exact = objective.curvature is not None and promise[0] <= NEAR * abs(state.loss[0])
        # Steps with the curvature of their own point square the error; others leave the same share of it each time.
        if first or damping[taken]:
            order = 0
        else:
            order = 2 if exact and before.exact else 1
        state = state._replace(
            promise=promise,
            stale=np.array(float(flat)),
            exact=np.array(float(exact)),
            order=np.array(float(order)),
        )
        if state.promise[0] <= 0 and slopes[0].any():
            # The curvature has vanished: so far from the solution the loss is a straight line.
            return self._shorter(state._replace(asked=np.array(FULL)), objective)
        return state._replace(query=state.weights + full, asked=np.array(FULL))

    def _shorter(self, state: NewtonState, objective: Objective, far: bool = False) -> NewtonState:
        """The full step failed: try the damped ones. They failed: unless they went too far, arithmetic is exhausted."""
        state = state._replace(stale=np.array(0.0), exact=np.array(0.0), order=np.array(0.0))
        if state.asked == FULL or (state.asked == SHORTER and far):
            asked = SHORTER if state.asked == FULL else SHORTEST
            shorter = directions(state, objective, dampings(len(state.weights), asked == SHORTEST)[1:])
            return state._replace(query=state.weights + shorter, asked=np.array(asked))
        return state._replace(query=state.weights, asked=np.array(SAME), stalled=np.full(1, line.STALLED))


def flat(state: NewtonState, objective: Objective) -> tuple[NewtonState, Objective]:
    """Both as if the outputs were features, where these share their curvature: (q, k, m) as (q k, 1, m)."""
    (q, k, _), curvature = state.weights.shape, objective.curvature
    if len(state.curvature if curvature is None else curvature) == q:
        return state, objective
    arrays = {name: getattr(state, name).reshape(q * k, 1, -1) for name in ("weights", "query", "gradient")}
    if len(state.curvature) == q:  # nothing has been seen
        arrays |= {"curvature": curvature, "diagonal": np.ones((q * k, 1, 1)), "together": np.array(float(k))}
    diagonal = None
    if objective.diagonal is not None:
        diagonal = np.repeat(objective.diagonal, k)
    return state._replace(**arrays), objective._replace(
        gradient=objective.gradient.reshape(q * k, 1, -1),
        diagonal=diagonal,
        nonsmooth=objective.nonsmooth.flat(k),
        features=objective.features * k,
    )


def spared(q: int) -> float:
    """Share of the gradient's square that a step may leave for its curvature to serve the next one too."""
    return LEFT ** (1 / (1 + q / NARROW))


def dampings(q: int, shortest: bool = False) -> np.ndarray:
    """None for the full step, then from one that is always enough down to a slight one, (1 + DAMPED,).

    Or for the shortest steps, where nothing is always enough, from there up.
    """
    return np.append(0.0, q * 4.0 ** (DAMPED * shortest - np.arange(DAMPED)))


def model(state: NewtonState) -> np.ndarray:
    """The curvature that the step is taken with, (q, q, k or 1)."""
    if not state.restrained:
        return state.curvature
    share = SHARE * 0.25 ** max(0.0, float(state.restrained) - PATIENCE)
    return restrained(state.curvature, state.diagonal, share, int(state.together))


def directions(state: NewtonState, objective: Objective, damping: np.ndarray) -> np.ndarray:
    """From the weights to the minimum of the model, for each damping (m,) of it: (q, k, m).

    Without what bends the model is quadratic, and its minimum that of a linear system.
    """
    curvature = model(state)
    if not objective.nonsmooth.is_nonsmooth:
        return -solve(curvature, state.gradient, state.diagonal, damping, objective.features)
    q, k, _ = state.weights.shape
    found = np.empty((q, k, len(damping)))
    for j in range(k):
        w = state.weights[:, j, 0]
        g = state.gradient[:, j, 0]
        for i, c in enumerate(damping):
            h = curvature[:, :, min(j, curvature.shape[2] - 1)] + np.diag(c * state.diagonal[:, 0, 0])
            found[:, j, i] = minimise(h, h @ w - g, objective.nonsmooth, w) - w
    return found


def full_step(state: NewtonState, objective: Objective) -> tuple[np.ndarray, np.ndarray]:
    """The undamped direction (q, k, 1), and by how much the model is less at its end, (1,)."""
    move = directions(state, objective, np.zeros(1))
    if not objective.nonsmooth.is_nonsmooth:
        return move, -0.5 * dot(move, state.gradient)
    q, k, _ = move.shape
    curved = np.einsum("qrk,rkm->qkm", np.broadcast_to(model(state), (q, q, k)), move)
    return move, -(dot(move, state.gradient + 0.5 * curved) + bend(state, objective.nonsmooth, move))


def bend(state: NewtonState, bent: NonSmooth, moves: np.ndarray) -> np.ndarray:
    """How much the moves (q, k, m) add to what bends, (m,)."""
    return (bent.shares(state.weights + moves) - bent.shares(state.weights)).sum(axis=(0, 1))
