"""The track of a fit whose weights are in blocks on the workers."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from dask import delayed

from ..errors import InvalidArgumentError, NonFiniteError
from ..events import Callbacks
from ..model.penalties import Penalty, penalises
from ..solvers import Solver, vectors
from ..solvers.objective import Objective
from ..store.block_files import read_block
from ..store.content import HISTORY
from ..weight_blocks.block_sums import expect, is_known, settle, squares_of, sum_of
from ..weight_blocks.expression import Node
from ..weight_blocks.pieces import Slopes
from ..weight_blocks.prox import BlockProx, value_of
from ..weight_blocks.row_tasks import Totals
from ..weight_blocks.scale import Scale, largest_of, scale_of
from ..weight_blocks.space import BlockSpace
from ..weight_blocks.tasks import array_of
from ..weight_blocks.vector import BlockVector, same, shortened
from .engine import Engine
from .rounding import is_rounding, unit_of
from .track import Stopping, Track

#: Steps after which the cluster forgets what the present vectors were made of, once in so many.
REMEMBERED = 16


class LazyGradient:
    """The gradient at the candidates of a query, each of which takes half a pass where it is asked for."""

    def __init__(self, at: Callable[[int], BlockVector]):
        self.at = at
        self.found: dict[int, BlockVector] = {}


@vectors.candidate.register
def _(gradient: LazyGradient, i: int) -> BlockVector:
    if i not in gradient.found:
        gradient.found[i] = gradient.at(i)
    return gradient.found[i]


class BlockTrack(Track):
    """One solver on all rows, whose vectors live on the workers."""

    engine: Engine
    #: There are no other rows, smoothings or solvers to go on with.
    smoothing = None
    batched = False

    def __init__(
        self,
        engine: Engine,
        penalty: Penalty,
        solver: Solver,
        space: BlockSpace,
        start: Callable[[BlockSpace], BlockVector] | None,
        seed: int,
        callbacks: Callbacks | None = None,
    ):
        self.space = space
        # Another fit may have subtracted something from the columns.
        space.shifts = [None] * space.blocks
        self.asked = start
        self.given = start is not None
        super().__init__(engine, penalty, (solver,), self.start())  # type: ignore[arg-type]
        self.seed = seed
        #: When to stop, from the first step on.
        self.stopping: Stopping | None = None
        self.callbacks = callbacks or Callbacks()
        self._tell_space()
        self.prox: Any = self.make_prox()
        self.totals: Totals | None = None
        self.scale: Scale | None = None
        #: A gradient, the weights that it is taken at, and its components over their sizes.
        self.shares: tuple[BlockVector, BlockVector, BlockVector] | None = None
        #: What is subtracted from the columns, (p, 1, 1): the parameters are those of such rows.
        self.shift: BlockVector | None = None

        #: Where the files of blocks are, of a run with a store.
        self.directory: str | None = None
        self.fault: str | None = None
        self.resumed_from: int | None = None
        self.committed_reason: str | None = None
        self.dropped = 0
        self.has_stepped = False
        self.began = 0.0
        self.history = {name: [] for name in HISTORY}

    def start(self) -> BlockVector:
        """Return the weights to begin at."""
        if self.asked is not None:
            return self.asked(self.space)
        return same(self.space, 0.0, 0.0, (self.space.outputs, 1))

    def make_prox(self) -> BlockProx:
        """Return the nonsmooth part of the penalty, on the present owners."""
        return BlockProx(self.space, float(np.asarray(self.penalty.absolute())))

    def begin(self, space: BlockSpace) -> None:
        """Begin anew, on other owners."""
        self.space = space
        self._tell_space()
        self.prox = self.make_prox()
        self.shares = None
        self.state = self.solver.init(self.start(), self.engine.rounding)
        self.scale = None
        self.shift = None
        self.grad_norm = np.inf
        self.reason = None
        self.history = {name: [] for name in HISTORY}

    def _tell_space(self) -> None:
        """Tell the space what this fit will ask for."""
        space = self.space
        space.squares = bool(np.any(self.penalty.curvature()))
        space.goes_on = self._goes_on
        space.foreseen = None
        space.ahead = 0

    def release(self) -> None:
        """Let go of all that is on the workers, but for what a result refers to."""
        self.state = None
        self.scale = None
        self.shares = None
        self.shift = None
        self.prox = None
        self.space = None  # type: ignore[assignment]

    @property
    def source(self) -> Any:
        """The rows."""
        return self.engine.source

    @property
    def loss(self) -> Any:
        """The loss."""
        return self.engine.loss

    @property
    def penalised(self) -> bool:
        """Whether there is a penalty with a strength above 0."""
        return penalises(self.penalty)

    @property
    def fit_intercept(self) -> bool:
        """Whether there is an intercept."""
        return self.space.fit_intercept

    def partitions_of(self, step: int) -> None:
        """Return None: each step reads all rows."""

    def pieces_of_weights(self, node: Node) -> list[Any]:
        """Return what the blocks of stored weights are read from: their files, else where they are."""
        if node.files is None or self.directory is None:
            return [delayed(array_of)(block) for block in self.space.handed_out(node)]
        return [delayed(read_block, pure=True)(self.directory, file) for file in node.files]

    def committed(self) -> str:
        """Return a sentence on what has been committed, for errors of the cluster."""
        return self.engine.said_of(self.iteration)

    # Find the objective at the query.

    def load_rows(self) -> None:
        """Read what the rows have beside their features."""
        totals = self.space.load_rows(self.loss)
        n = self.source.shape[0]
        if not totals.weight > 0:
            if totals.rows == 0:
                raise NonFiniteError(f"All {n:,} rows hold NaN; nan='drop' leaves none to fit.")
            raise InvalidArgumentError("The row weights sum to 0; at least one row needs a positive weight.")
        self.loss.check_target_mean(totals.targets / totals.weight)
        self.totals = totals
        self.space.loss = self.loss
        self.space.weight = totals.weight
        self.dropped = n - totals.rows

    def evaluate(self) -> Objective:
        """Return the objective at the query: half a pass for its loss, and half for each gradient that is asked for."""
        self.began = time.perf_counter()
        self.has_stepped = False
        is_first = bool(np.isinf(self.state.loss[0]))
        if is_first:
            self._begin_at_mean()
        # What was read ahead was for this query.
        self.readings_before = self.space.readings - self.space.ahead
        self.space.ahead = 0
        self.space.foreseen = None
        found = self._look()
        if found is None:
            # The columns are less a shift now: look again.
            found = self._look()
            assert found is not None
        return found

    def _look(self) -> Objective | None:
        """Return the objective at the query; None where the first look tells that columns should be shifted."""
        is_first = bool(np.isinf(self.state.loss[0]))
        query = self.state.query
        # Along a line all predictions follow from those of its start and its direction.
        needed = (query,)
        if query.line is not None:
            needed = query.line[:2]
        for v in needed:
            if v.predicted is None:
                v.predicted = self.space.predict(v)
        assert self.totals is not None
        if query.line is None and query.node.shape[1] == 1:
            with_moments = self.scale is None
            slopes = self._slopes(query, with_moments)
            if with_moments:
                node, *moments = self.space.gradient_and_moments(slopes)
                if self._takes_shift(moments[0], query):
                    return None
                self._take_scale(moments, slopes)
            else:
                node = self.space.gradient(slopes)
            gradient: Any = self._gradient(query, node, slopes)
            loss = np.array([slopes.looked.loss])
        else:
            loss = self.space.losses(query)
            gradient = LazyGradient(lambda i: self._gradient_of(vectors.candidate(query, i)))
        # What it needs has come with the losses, mostly.
        penalty = value_of(self.penalty, query)
        # All that was asked for of the workers is there by now.
        if self.iteration > 0 and self.iteration % REMEMBERED == 0:
            self.space.owners.forget_past()
        return self._objective(loss / self.totals.weight + penalty, gradient, is_first)

    def _begin_at_mean(self) -> None:
        """Begin at the targets' mean in place of zeros, where the loss cannot begin just anywhere."""
        if self.loss.curvature_bound is not None or self.given or not self.fit_intercept:
            return
        assert self.totals is not None
        totals = self.totals
        with np.errstate(divide="ignore", invalid="ignore"):
            constant = self.loss.link(totals.targets / totals.weight) - totals.offsets / totals.weight
        if np.isfinite(constant).all():
            zeros = same(self.space, 0.0, 0.0, (self.space.outputs, 1))
            start = BlockVector(self.space, zeros.node, constant[None, :, None])
            self.state = self.solver.init(start, self.engine.rounding)

    def _slopes(self, v: BlockVector, with_moments: bool = False) -> Slopes:
        """Return the slopes of the rows at a vector, whose predictions are in memory from then on."""
        slopes = self.space.slopes(v, with_moments)
        v.predicted = slopes.predicted
        return slopes

    def _gradient_of(self, v: BlockVector) -> BlockVector:
        """Return the gradient at a vector whose predictions are known."""
        slopes = self._slopes(v)
        return self._gradient(v, self.space.gradient(slopes), slopes)

    def _gradient(self, v: BlockVector, node: Node, slopes: Slopes) -> BlockVector:
        """Return the gradient of J at a vector, without its nonsmooth part, from that of the mean loss.

        The intercepts' is from the slopes.
        """
        assert self.totals is not None
        of_intercept = slopes.looked.slopes[None, :, None] * float(self.fit_intercept)
        gradient = BlockVector(self.space, node, of_intercept / self.totals.weight)
        ridge = float(np.asarray(self.penalty.curvature()))
        is_zero = v.node.is_constant and not np.any(v.node.value)
        if ridge and not is_zero:
            gradient = gradient + same(self.space, ridge, 0.0) * v
        # Its size comes with what solvers ask for first.
        assert self.scale is not None
        shares = self.scale.shares(gradient, v, self.prox)
        expect(self.space, [(shares, None)])
        found = shortened(gradient)
        self.shares = (found, v, shares)
        return found

    def _takes_shift(self, moments: Node, query: BlockVector) -> bool:
        """Subtract the means from the columns from now on if one is far from 0; return whether that is new.

        The weights stay what they are, and the intercept is that of the shifted columns.
        """
        if self.shift is not None or not self.fit_intercept:
            return False
        assert self.totals is not None
        shifts = self.space.better_shifts(moments, self.totals.weight)
        if shifts is None:
            return False
        self.shift = self.space.take_shifts(shifts)
        start = BlockVector(self.space, query.node, query.constant + sum_of(self.shift, query)[None])
        self.state = self.solver.init(start, self.engine.rounding)
        return True

    def intercept(self) -> np.ndarray:
        """Return the intercepts at the weights of the columns as they are, (k,)."""
        v = self.state.weights
        constant = v.constant[0, :, 0]
        if self.shift is None:
            return constant.copy()
        return constant - sum_of(self.shift, v)[:, 0]

    def _take_scale(self, moments: list[Node], slopes: Slopes) -> None:
        """Keep what makes the tolerance free of units."""
        assert self.totals is not None
        weight = self.totals.weight
        looked = slopes.looked
        squares = looked.squares
        # A squared loss with an intercept: about their mean, see `about_mean`.
        if self.loss.quadratic and self.fit_intercept:
            squares = np.maximum(squares - looked.slopes**2 / weight, 1e-12 * squares)
        bound = self.loss.curvature_bound
        if bound is None:
            bound = float(looked.curvatures.max() / weight)
        sums, squared = moments
        self.scale = scale_of(self.space, sums, squared, weight, squares, bound)

    def _objective(self, loss: np.ndarray, gradient: Any, is_first: bool) -> Objective:
        """Return the objective as solvers see it."""
        ridge = same(self.space, float(np.asarray(self.penalty.curvature())), 0.0)
        diagonal = None
        means = None
        if is_first:
            assert self.scale is not None
            diagonal = self.scale.curvature * self.scale.squares + ridge
            means = self.scale.means
        return Objective(
            loss=loss,
            gradient=gradient,
            curvature=None,
            diagonal=diagonal,
            means=means,
            nonsmooth=self.prox,
            ridge=ridge,
            features=self.space.features,
            quadratic=self.loss.quadratic,
        )

    # Take the step.

    def advance(self, found: Objective, stopping: Stopping) -> None:
        """Take a step from the objective at the query, and set the reason if it was the last."""
        finite = np.isfinite(found.loss)
        can_go_back = self.solver.searches and np.isfinite(self.state.loss[0])
        if not finite.any() and not can_go_back:
            self._diverge()
            return
        loss = np.where(finite, found.loss, np.inf)
        self.stopping = stopping
        self.state = self.solver.step(self.state, found._replace(loss=loss))
        grad_norm = self._stored_and_norm()
        readings = self.space.readings - self.space.ahead - self.readings_before
        self._note(
            loss=self.state.loss[0],
            grad_norm=grad_norm,
            step_size=self.state.step_size[0],
            passes=np.ceil(readings / 2),
            rows=self.source.shape[0] - self.dropped,
            bytes_read=readings / 2 * self.source.nbytes,
            full_passes=np.ceil(readings / 2),
        )
        self.reason = self.reason_to_stop(stopping)
        if not np.isfinite(grad_norm):
            self._diverge()

    def _goes_on(self) -> bool:
        """Return whether there will be another step, as far as is known while one is taken."""
        assert self.stopping is not None
        if self.iteration + 1 >= self.stopping.max_iter:
            return False
        if self.shares is None or not is_known(self.shares[2], None):
            return True
        return largest_of(self.shares[2]) > self.stopping.tol

    def _diverge(self) -> None:
        """End where nothing is finite."""
        step = "At the start"
        if self.iteration >= 0:
            step = f"At step {self.iteration + 1}"
        self.fault = f"{step} the loss or its gradient is not finite."
        self.reason = "diverged"

    def _stored_and_norm(self) -> float:
        """Store the state's vectors, but for those that are made of what stays, or along a line; return `_norm`."""
        space = self.space
        to_store = []
        for value in self.state:
            if isinstance(value, BlockVector) and value.line is None and not value.node.lasts:
                to_store.append(value)
        # Beside the norm, with what the penalty at the next query needs.
        space.to_store += to_store
        if space.squares:
            expect(space, squares_of(self.state.query))
        norm = self._norm()
        settle(space)
        return norm

    def _norm(self) -> float:
        """Return the largest component of the gradient at the weights over its scale."""
        gradient = self.state.gradient
        weights = self.state.weights
        if self.shares is not None:
            of_gradient, of_weights, shares = self.shares
            if of_gradient is gradient and of_weights is weights:
                return largest_of(shares)
        assert self.scale is not None
        return largest_of(self.scale.shares(gradient, weights, self.prox))

    def at_rounding(self) -> bool:
        """Return whether the gradient at the weights is 0 as far as the arithmetic can tell."""
        assert self.scale is not None
        unit = unit_of(self.source, self.engine.rounding)
        bound = self.scale.rounding_of(self.state.weights, unit.sums, unit.weights, self.engine.rounding)
        return is_rounding(self.grad_norm, self.scale.norm_of_bound(bound))

    def _note(self, **row: float) -> None:
        """Append a step to the history, and the seconds that it has taken."""
        self.has_stepped = True
        row["seconds"] = time.perf_counter() - self.began
        for name in HISTORY:
            self.history[name].append(float(row[name]))
        self.grad_norm = self.history["grad_norm"][-1]
