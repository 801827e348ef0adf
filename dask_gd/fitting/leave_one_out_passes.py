"""Ridge regression where each row is left out in turn, from two passes: exact, whatever the number of rows.

The residual of a row that is left out is ``r_i / (1 - h_i)``, r_i being the residual of the fit to all rows and h_i the
row's leverage (Golub, Heath and Wahba, 1979, "Generalized cross-validation as a method for choosing a good ridge
parameter"). The first pass has the products of the features with one another and with the targets. Their eigenvectors
give the fit to all rows for every alpha, and with row i less the mean as x_i, of weight s_i, its leverage

    h_i = s_i (1 / sum(s) + sum_j (x_i v_j)^2 / (S_j + alpha)),

S_j and v_j being eigenvalues and eigenvectors of the sum of ``s_i x_i x_i^T``. Without an intercept the mean is 0, and
the first term is left out. The second pass has the residuals and the leverages of each row, and sums the scores.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..errors import InvalidArgumentError, warn
from ..kernels.base import EXACT, Kernel, Part, Request, Sums, block_rows, take
from ..kernels.shift import read_shifted, shifted
from ..model.losses import as_loss
from ..solvers.objective import CentredCurvature, centred_curvature, ridge_path
from ..sources import Source
from .engine import Engine
from .score_summaries import PREDICTIONS_BYTES, Predictions, Summary
from .search_engine import SUMMARY_BYTES

#: Features up to which their products are decomposed.
WIDEST = 4096

#: What a leverage leaves of 1 below which the residual of a row that is left out has lost half of its digits.
LEAST_LEFT = 1e-8


class LeaveOut(NamedTuple):
    """A request for the sums over rows that are left out one by one, at the minima of some alphas: the query."""

    vectors: np.ndarray  # (p, p) the eigenvectors, in columns
    origin: np.ndarray  # (p,) what the products of the mean with these are, which is subtracted from those of the rows
    inverse: np.ndarray  # (p, m) 1 / (S + alpha)
    share: float  # 1 over the sum of the weights; 0 without an intercept
    summary: Summary | None  # None: the squares of the errors
    per_target: bool

    def make(self, part: Part) -> LeaveOutKernel:
        return LeaveOutKernel(self, part)


class LeaveOutSums(NamedTuple):
    """The rows, what leverages leave of 1 at least, and the sums of the squared errors or of summaries."""

    at_query: Sums
    least_left: np.ndarray  # (m,)
    squares: np.ndarray  # (k, m) of the errors, times the weights
    summaries: tuple[tuple[Any, ...], ...]  # [alpha][target], or of all targets together

    def plus(self, other: LeaveOutSums) -> LeaveOutSums:
        """Return the sums over the rows of both."""
        summaries = []
        for mine, theirs in zip(self.summaries, other.summaries, strict=True):
            pairs = zip(mine, theirs, strict=True)
            summaries.append(tuple(a.plus(b) for a, b in pairs))
        return LeaveOutSums(
            at_query=self.at_query.plus(other.at_query),
            least_left=np.minimum(self.least_left, other.least_left),
            squares=self.squares + other.squares,
            summaries=tuple(summaries),
        )


class LeaveOutKernel(Kernel):
    """The kernel of `LeaveOut`."""

    def __init__(self, spec: LeaveOut, part: Part):
        super().__init__(part._replace(request=Request(shift=part.request.shift)))
        # There is no gradient.
        self.begin_sums(part.query[:1, :1, :1])
        self.spec = spec
        _, k, m = part.query.shape
        self.vectors = self.workspace.weights(spec.vectors)
        self.least_left = np.ones(m)
        self.squares = np.zeros((k, m))
        self.summaries: list[list[Any]] = []
        if spec.summary is not None:
            for _ in range(m):
                self.summaries.append([spec.summary.begin() for _ in self._targets()])
        # A block has as many products with the eigenvectors as it has features, written out.
        self.step = min(self.step, block_rows(self.p, 8))

    def _targets(self) -> list[slice]:
        """Return the targets that are scored together."""
        k = self.query.shape[1]
        if self.spec.per_target:
            return [slice(j, j + 1) for j in range(k)]
        return [slice(0, k)]

    def add_rows(self, rows: Any) -> None:
        n = len(rows.y)
        left_out = np.empty((n, *self.query.shape[1:]))
        for start in range(0, n, self.step):
            of_block = slice(start, start + self.step)
            left_out[of_block] = self._left_out(
                self.row_format.take(rows.x, of_block),
                y=rows.y[of_block],
                weight=take(rows.weight, of_block),
            )
        for alpha, summaries in enumerate(self.summaries):
            for j, targets in enumerate(self._targets()):
                assert self.spec.summary is not None
                summaries[j] = self.spec.summary.add(
                    summaries[j],
                    y=rows.y[:, targets],
                    z=left_out[:, targets, alpha],
                    weight=rows.weight,
                )
        self.total = self.total._replace(rows=self.total.rows + n)

    def _left_out(self, x: Any, y: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
        """Add the errors of a block's rows, and return their predictions without each of them, (rows, k, m)."""
        block = self.workspace.block(x)
        predicted = self.predicted(block, None)
        along = block.times(self.vectors) - self.spec.origin
        leverage = along**2 @ self.spec.inverse + self.spec.share
        row_weight = np.ones(len(y))
        if weight is not None:
            row_weight = weight
        left = 1.0 - row_weight[:, None] * leverage
        self.least_left = np.minimum(self.least_left, left.min(axis=0, initial=1.0))
        error = (y[:, :, None] - predicted) / left[:, None, :]
        self.squares += np.einsum("n,nkm->km", row_weight, error**2)
        return y[:, :, None] - error

    def sums(self) -> LeaveOutSums:  # type: ignore[override]
        return LeaveOutSums(
            at_query=self.total,
            least_left=self.least_left,
            squares=self.squares,
            summaries=tuple(map(tuple, self.summaries)),
        )


def leave_one_out_scores(
    source: Source,
    alphas: np.ndarray,
    fit_intercept: bool,
    summary: Summary | None,
    per_target: bool,
) -> np.ndarray:
    """Return the score of each alpha, of the sum of the losses, on rows that are left out one by one.

    Without a summary it is the negative of the mean of the squared errors times the rows' weights.

    Returns
    -------
    array (alphas,), or (alphas, k) with ``per_target``
    """
    n, p = source.shape
    k = source.outputs or 1
    if p > WIDEST:
        raise InvalidArgumentError(
            f"Rows are left out one by one from the products of all pairs of features; there are {p:,}, and at most "
            f"{WIDEST:,} are served. Hold rows out by folds: cv=5."
        )
    nbytes = 8 * k
    if summary is not None:
        nbytes = summary.bytes_of_sums(n, k)
    if isinstance(summary, Predictions) and nbytes > PREDICTIONS_BYTES:
        raise InvalidArgumentError(
            f"A scorer that is no name of dask_gd.search takes the predictions of all {n:,} rows, "
            f"{nbytes / 2**30:.1f} GiB; at most {PREDICTIONS_BYTES / 2**30:g} GiB are taken. Give such a name, or cv=5."
        )

    engine = Engine(source, as_loss("squared"))
    try:
        engine.persist()
        start = np.zeros((p + fit_intercept, k, 1))
        sums = _products(engine, start)
        centred = centred_curvature(sums, p)
        minima = ridge_path(shifted(start, engine.shift), sums, p, alphas / sums.weight, centred)
        lost = np.flatnonzero(np.isnan(minima).any(axis=(0, 1)))
        if lost.size:
            raise InvalidArgumentError(
                f"alphas[{lost[0]}] == {alphas[lost[0]]:g} is nothing beside the features' products, whose largest "
                f"eigenvalue is {centred.values[-1] * sums.weight:.1e}; give larger alphas, or cv=5."
            )

        # As many alphas in a pass as their sums have room for.
        size = max(1, SUMMARY_BYTES // nbytes)
        scores = []
        least_left = 1.0
        for first in range(0, len(alphas), size):
            some = slice(first, first + size)
            spec = _leave_out(engine, sums, centred, alphas[some], fit_intercept)
            tasks = None
            if summary is not None:
                tasks = summary.for_tasks()
            spec = spec._replace(summary=tasks, per_target=per_target)
            read = engine.read(minima[:, :, some], Request(kernel=spec))
            scores.append(_scores(read, summary, per_target))
            least_left = min(least_left, float(read.least_left.min()))
    finally:
        engine.release()
    if least_left < LEAST_LEFT:
        warn(
            f"A row's leverage is 1 but for {least_left:.1e}, so that the error without it has lost digits: alpha is "
            "small beside a feature that this row has to itself. Give larger alphas, or cv=5.",
            UserWarning,
        )
    return np.concatenate(scores)


def _products(engine: Engine, start: np.ndarray) -> Sums:
    """Return the sums of the first pass, with the products of all features, and set the shift of the rows."""

    def read(query: np.ndarray, shift: np.ndarray | None) -> Sums:
        engine.shift = shift
        return engine.read(query, Request(curvature=EXACT, moments=True))

    sums, _ = read_shifted(read, start, None, engine.source.row_format)
    return sums


def _leave_out(
    engine: Engine,
    sums: Sums,
    centred: CentredCurvature,
    alphas: np.ndarray,
    fit_intercept: bool,
) -> LeaveOut:
    """Return the request for the rows' leverages with these alphas."""
    p = engine.source.shape[1]
    assert sums.curvature is not None
    # The mean of the rows less the shift; without an intercept rows are taken as they are.
    mean = np.zeros(p)
    share = 0.0
    if fit_intercept:
        mean = sums.curvature[:p, p, 0] / sums.weight
        share = 1.0 / sums.weight
    elif engine.shift is not None:
        mean = -engine.shift
    eigenvalues = np.maximum(centred.values, 0.0) * sums.weight
    return LeaveOut(
        vectors=centred.vectors,
        origin=mean @ centred.vectors,
        inverse=1.0 / (eigenvalues[:, None] + alphas),
        share=share,
        summary=None,
        per_target=False,
    )


def _scores(read: LeaveOutSums, summary: Summary | None, per_target: bool) -> np.ndarray:
    """Return the scores of the alphas of a pass."""
    if summary is None:
        mean_squares = read.squares.T / read.at_query.rows
        if per_target:
            return -mean_squares
        return -mean_squares.mean(axis=1)
    scores = np.array([[summary.score(sums) for sums in of_alpha] for of_alpha in read.summaries])
    if per_target:
        return scores
    return scores[:, 0]
