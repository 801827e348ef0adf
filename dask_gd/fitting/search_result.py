"""`SearchResult`: the candidates of a search with their scores, and the best of them."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import xarray as xr

from ..errors import DivergenceWarning, InvalidArgumentError, warn
from ..model.losses import Loss
from ..model.penalties import Penalty, penalises
from ..results.features import source_of_fit
from ..results.fit_result import HISTORY, FitResult
from ..results.lazy_weights import is_lazy
from ..results.plain_state import PlainState
from ..solvers import Solver
from ..sources import Source
from ..sources.encoding import Encoding
from ..sources.frame_source import with_encoding_of
from .fit import fit
from .fold_track import FoldTrack
from .grid import PARAMETERS
from .search_data import dataset_of
from .search_engine import SearchEngine

logger = logging.getLogger("dask_gd")

#: The reason of a fit to all rows that a search has not made: with weights in blocks only the best candidate's is.
NOT_MADE = "not made"


@dataclass(frozen=True, repr=False)
class SearchResult(PlainState):
    """Candidates, their scores on rows held out, and the best.

    Attributes
    ----------
    data : xarray.Dataset
        Over "candidate", whose parameters are coordinates, and "fold": ``score`` (greater is better); ``loss``, the
        mean loss of the rows held out, without the penalty; ``n_iter`` and ``grad_norm``; ``reason`` as in `FitResult`,
        or "dropped" (one of many learning rates, behind others after some steps); ``weights`` and ``intercept`` of the
        fit to the other rows. ``all_weights``, ``all_intercept``, ``all_n_iter``, ``all_grad_norm`` and ``all_reason``
        are those of the fits to all rows. ``history`` is the loss held out and ``objective`` that of the fit
        (``all_objective`` to all rows), over "iteration" too, NaN after the last. With weights in blocks these are
        lazy, and only there with a store but for the best candidate's; ``all_reason`` of the others is "not made", and
        ``history`` has the last iterations only.
    scoring : str
    passes, full_passes : float
        Rows read over all rows, and the passes over all rows among them; the rest are readings of samples. They do not
        count the fit that the search begins at.
    loss : Loss
    penalties, solvers : tuple
        Of each candidate's fit to all rows.
    fit_intercept : bool
    max_iter, tol
        As for the search.
    described : str
        The data, in words. Its rows are no part of this.
    dropped : int
        Rows left out by ``nan="drop"``.
    """

    data: xr.Dataset
    scoring: str
    passes: float
    loss: Loss = field(repr=False)
    penalties: tuple[Penalty, ...] = field(repr=False)
    solvers: tuple[Solver, ...] = field(repr=False)
    fit_intercept: bool = field(repr=False)
    max_iter: int = field(repr=False)
    tol: float = field(repr=False)
    described: str = field(repr=False)
    dropped: int = 0
    sample_dims: tuple[str, ...] | None = None
    target_attrs: dict[str, str] = field(default_factory=dict, repr=False)
    encoding: Encoding | None = field(default=None, repr=False)
    full_passes: float = math.nan

    @classmethod
    def of(cls, tracks: list[FoldTrack], engine: SearchEngine, scoring: str) -> SearchResult:
        """Return the result of tracks at their end; warn in the log of those that ``max_iter`` has ended."""
        data = dataset_of(tracks, engine, scoring)
        # These are no error: their scores may tell the candidates apart all the same.
        unfinished = sum(track.reason == "max_iter" for track in tracks)
        if unfinished:
            logger.warning(
                "%d of %d fits of the search took max_iter=%d steps without coming to an end, see data.reason.",
                unfinished,
                len(tracks),
                engine.stopping.max_iter,
            )

        # Penalties are those of the fits to all rows, whose weight decides an alpha that is given as C.
        source = engine.source
        all_rows = engine.all_rows
        return cls(
            data=data,
            scoring=scoring,
            passes=engine.passes,
            full_passes=float(engine.whole),
            loss=engine.loss,
            penalties=tuple(candidate.of(all_rows.weight) for candidate in engine.candidates),
            solvers=tuple(engine.solvers),
            fit_intercept=engine.fit_intercept,
            max_iter=engine.stopping.max_iter,
            tol=engine.stopping.tol,
            described=repr(source),
            dropped=source.shape[0] - all_rows.rows,
            sample_dims=source.sample_dims,
            target_attrs=source.target_attrs,
            encoding=source.x.encoding,
        )

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """The names of the parameters that distinguish candidates, which are coordinates of ``data``."""
        return tuple(name for name in PARAMETERS if name in self.data.coords)

    @property
    def scores(self) -> xr.DataArray:
        """The scores (candidate, fold), greater is better."""
        return self.data.score

    @property
    def rates(self) -> xr.DataArray:
        """A verdict on each candidate's learning rate: "diverges", "crawls" or "good".

        A rate "diverges" also where the objective ends above the start. It "crawls" if it ends, or was dropped, before
        99% of the objective's fall with the fastest candidate is done.
        """
        if "learning_rate" not in self.data.coords:
            raise InvalidArgumentError("rates are those of a search over learning_rates; this had none.")

        # The objective at the start and at the end, means over folds.
        objective = self.data.objective.values
        lengths = np.isfinite(objective).sum(axis=2, keepdims=True)
        start = objective[:, :, 0].mean(axis=1)
        last = np.take_along_axis(objective, lengths - 1, axis=2).mean(axis=(1, 2))

        # The fall of each candidate, against the largest.
        has_diverged = (self.data.reason == "diverged").any("fold").values
        diverges = has_diverged | ~(last <= start)
        fall = start - last
        largest = np.max(fall, initial=0.0, where=~diverges)
        rates = np.where(fall >= 0.99 * largest, "good", "crawls")
        rates = np.where(diverges, "diverges", rates)
        return self.data.learning_rate.copy(data=rates).rename("rates")

    @property
    def best_index(self) -> int:
        """The candidate with the best mean score over the folds, the first where several have it.

        A candidate that diverged is never the best.
        """
        # NaN in one fold makes the mean NaN.
        means = self.data.score.mean("fold", skipna=False).values
        if np.isnan(means).all():
            raise InvalidArgumentError("Every candidate diverged in some fold; try smaller learning rates.")
        return int(np.nanargmax(means))

    @property
    def best(self) -> dict[str, Any]:
        """The parameters of the best candidate."""
        candidate = self.data.isel(candidate=self.best_index)
        return {name: candidate[name].item() for name in self.parameter_names}

    def lines(self) -> list[list[str]]:
        """Return the table that `print` shows, cell by cell: a heading, and a line for each candidate."""
        data = self.data
        names = self.parameter_names
        means = data.score.mean("fold", skipna=False).values
        spread = data.score.std("fold").values
        # Without a best candidate there is no telling rates apart.
        best = None
        rates = None
        if not np.isnan(means).all():
            best = self.best_index
            if "learning_rate" in data.coords:
                rates = self.rates
        lines = [[" ", *names, "score", "spread", "steps", "ended"]]

        # A star marks the best.
        for c in range(data.sizes["candidate"]):
            candidate = data.isel(candidate=c)
            mark = " "
            if c == best:
                mark = "*"
            parameters = [_cell(candidate[name].item()) for name in names]
            reasons = set(candidate.reason.values.tolist())
            ended = ", ".join(sorted(reasons))
            if rates is not None:
                ended += f" ({rates[c].item()})"
            steps = f"{int(candidate.n_iter.max())}"
            lines.append([mark, *parameters, f"{means[c]:.6g}", f"{spread[c]:.2g}", steps, ended])
        return lines

    def heading(self) -> str:
        """Return a line on what was searched."""
        return (
            f"search of {self.data.sizes['candidate']} candidates on {self.data.sizes['fold']} folds by {self.scoring}"
        )

    def __str__(self) -> str:
        # Columns are aligned at their right edge.
        lines = self.lines()
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        table = ["  ".join(map(str.rjust, line, widths)) for line in lines]
        return "\n".join([self.heading(), *table])

    __repr__ = __str__

    def plot(self, axes: Any = None) -> Any:
        """Draw the score against the candidates' parameter, its mean and spread over the folds.

        For learning rates, draw the loss held out against the iteration. Needs matplotlib, and returns its Axes.
        """
        # Imported here, so that only plots need matplotlib.
        from ..display.plots import plot_search

        return plot_search(self, axes)

    def _repr_html_(self) -> str:
        from ..display.html import html_of_search

        return html_of_search(self)

    def refit(self, x: Any = None, y: Any = None, **options: Any) -> FitResult:
        """Return the best candidate's fit to all rows.

        Without rows it is the one that the search has made, and takes no pass. Given the rows again, `fit` goes on from
        there.

        Parameters
        ----------
        x, y
            The rows that were searched, as for `fit`. The search keeps none of them.
        options
            Of `fit`, beside rows only: what says how they are read (``sample_weight``, ``features``, ...), ``store``,
            ``callbacks``, ``max_iter``, ``tol`` and ``seed``.

        Returns
        -------
        FitResult
            Without rows, ``history`` has the loss of each step and the last gradient. What the steps took they share
            with all other candidates, and it is 0 there.

        Raises
        ------
        InvalidArgumentError
            Options without rows, or options that the search has decided.

        Warns
        -----
        DivergenceWarning
            If that fit has diverged, which is not seen on rows held out.
        """
        best = self.best_index
        # The fit that the search has made.
        if x is None:
            if options or y is not None:
                raise InvalidArgumentError(
                    f"refit({', '.join(options) or 'y'}=...) reads the rows again, and a search keeps none: "
                    "give them too, refit(x, y, ...) as for the search."
                )
            return self._fit_of(best)

        # Or on from there, with nothing else that decides where a fit ends.
        decided = {"loss", "penalty", "solver", "fit_intercept", "initial_weights"} & options.keys()
        if decided:
            raise InvalidArgumentError(
                f"refit({min(decided)}=...): the search has decided on that; dask_gd.fit makes any other fit."
            )
        fitted = self._fit_of(best)
        if isinstance(x, Source):
            x = source_of_fit(x, self.encoding, fitted.column_names, "refit")
        elif self.encoding is not None:
            x, y, options = with_encoding_of(self.encoding, x, y, options)
        start: Any = fitted
        if is_lazy(fitted.weights):
            options = {"weights": "blocks", **options}
        else:
            start = fitted.parameters
            # Without an intercept its row is no part of the start.
            if not self.fit_intercept:
                start = start[:-1]
        return fit(
            x,
            y,
            loss=self.loss,
            penalty=self.penalties[best],
            solver=self.solvers[best],
            fit_intercept=self.fit_intercept,
            initial_weights=start,
            **{"max_iter": self.max_iter, "tol": self.tol, **options},
        )

    def with_scores(self, scores: np.ndarray, scoring: str) -> SearchResult:
        """Return the same fits with scores (candidate, fold) of another kind, which decide about the best."""
        data = self.data.assign(score=(("candidate", "fold"), scores))
        return replace(self, data=data, scoring=scoring)

    def fit_without(self, candidate: int, fold: int) -> FitResult:
        """Return a candidate's fit to all rows but those of a fold, by their numbers; it takes no pass."""
        if "weights" not in self.data:
            raise InvalidArgumentError(
                "A search with weights in blocks keeps those of the fits without a fold in its store alone, and this "
                "had none: give it store=..."
            )
        return self._fit_of(candidate, fold)

    def _fit_of(self, candidate: int, fold: int | None = None) -> FitResult:
        """Return a candidate's fit to all rows, or to all but a fold's, as the search has left it."""
        values = self.data.isel(candidate=candidate, drop=True)
        of_all = "all_"
        if fold is not None:
            values = values.isel(fold=fold, drop=True)
            of_all = ""
        reason = values[f"{of_all}reason"].item()
        if reason == NOT_MADE:
            raise InvalidArgumentError(
                f"Candidate {candidate} has not been fitted to all rows: with weights in blocks only the best is, "
                f"which is candidate {np.flatnonzero(self.data.all_reason.values != NOT_MADE)[0]}. dask_gd.fit with "
                f"penalty={self.penalties[candidate]!r} makes this fit."
            )
        if reason == "diverged" and fold is None:
            warn(
                f"The fit of candidate {candidate} to all rows diverged, though it did not without some of them. Its "
                "weights are the last that are finite; try smaller learning rates.",
                DivergenceWarning,
            )

        # Its history: the passes are those of all candidates, and only the last gradient is known.
        steps = np.arange(values[f"{of_all}n_iter"].item() + 1)
        histories = {name: np.zeros(len(steps)) for name in HISTORY}
        histories["loss"] = values[f"{of_all}objective"].values[: len(steps)]
        histories["step_size"] = np.full(len(steps), np.nan)
        histories["grad_norm"] = np.where(steps == steps[-1], values[f"{of_all}grad_norm"].item(), np.nan)
        history = xr.Dataset(
            {name: ("iteration", histories[name]) for name in HISTORY},
            coords={"iteration": steps},
        )

        penalty = self.penalties[candidate]
        penalised = penalises(penalty)
        return FitResult(
            weights=values[f"{of_all}weights"].rename("weights"),
            intercept=values[f"{of_all}intercept"].rename("intercept"),
            history=history,
            n_iter=len(steps) - 1,
            converged=reason == "converged",
            reason=reason,
            loss=self.loss,
            fit_intercept=self.fit_intercept,
            penalised=bool(penalised),
            dropped=self.dropped,
            sample_dims=self.sample_dims,
            target_attrs=self.target_attrs,
            encoding=self.encoding,
        )


def _cell(parameter: Any) -> str:
    """Return a parameter as the table shows it."""
    if isinstance(parameter, str):
        return parameter
    return f"{parameter:.6g}"
