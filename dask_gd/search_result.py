"""`SearchResult`: what a search has found."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from .errors import InvalidArgumentError
from .loop import fit
from .losses import classes_of
from .result import FitResult
from .scores import OF_SQUARES
from .trials import ALL, Trial

if TYPE_CHECKING:
    from .shared import Shared

logger = logging.getLogger("dask_gd")

#: What a candidate may be told apart by, and where of a penalty given as such its repr stands.
PARAMETERS = ("alpha", "C", "l1_ratio", "learning_rate", "penalty")


@dataclass(frozen=True, repr=False)
class SearchResult:
    """Candidates, their scores on rows held out, and the best.

    Attributes
    ----------
    data : xarray.Dataset
        Over "candidate", whose parameters are coordinates, and "fold": ``score`` (greater is better); ``loss``, the
        mean loss of the rows held out, without the penalty; ``n_iter`` and ``grad_norm``; ``reason`` as in `FitResult`,
        or "dropped" (one of many learning rates, behind others after some steps); ``weights`` and ``intercept`` of the
        fit to the other rows. ``all_weights``, ``all_intercept``, ``all_n_iter`` and ``all_reason`` are those of the
        fits to all rows. ``history`` is the loss held out and ``objective`` that of the fit, over "iteration" too, NaN
        after the last.
    scoring : str
    passes : float
        Over the data, but for the fit that the search begins at.
    """

    data: xr.Dataset
    scoring: str
    passes: float
    shared: Shared = field(repr=False)

    @classmethod
    def of(cls, trials: list[Trial], shared: Shared, scoring: str) -> SearchResult:
        source, loss, count, n = shared.source, shared.loss, shared.count, len(shared.candidates)
        p = source.shape[1]
        by = {(trial.candidate, trial.fold): trial for trial in trials}
        outputs = classes_of(loss) or source.outputs
        output = () if outputs is None else ("output",)

        def over(value: Any, folds: Any = None) -> np.ndarray:
            """Of each trial, (candidates, folds, ...), or of those that see all rows, (candidates, ...)."""
            if folds is None:
                return np.array([value(by[c, ALL]) for c in range(n)])
            return np.array([[value(by[c, f]) for f in range(count)] for c in range(n)])

        def coefficients(trial: Trial) -> np.ndarray:
            return trial.weights[:p] if output else trial.weights[:p, 0]

        def intercept(trial: Trial) -> Any:
            b = trial.weights[p] if len(trial.weights) > p else np.zeros(trial.weights.shape[1])
            return b if output else b[0]

        longest = max(len(by[c, f].held_losses) for c in range(n) for f in range(count))

        def padded(values: list[float], unit: float = 1.0) -> np.ndarray:
            return np.append(np.array(values) / unit, np.full(longest - len(values), np.nan))

        def history(trial: Trial) -> np.ndarray:
            return padded(trial.held_losses, shared.folds[trial.fold].weight)

        pairs, folds = ("candidate", "fold"), range(count)
        data = xr.Dataset(
            {
                "score": (pairs, over(lambda t: score(t, shared, scoring), folds)),
                "loss": (pairs, over(lambda t: t.held[0] / shared.folds[t.fold].weight, folds)),
                "n_iter": (pairs, over(lambda t: t.n_iter, folds)),
                "grad_norm": (pairs, over(lambda t: t.grad_norm, folds)),
                "reason": (pairs, over(lambda t: t.reason, folds)),
                "weights": ((*pairs, "feature", *output), over(coefficients, folds)),
                "intercept": ((*pairs, *output), over(intercept, folds)),
                "all_weights": (("candidate", "feature", *output), over(coefficients)),
                "all_intercept": (("candidate", *output), over(intercept)),
                "all_reason": ("candidate", over(lambda t: t.reason)),
                "all_n_iter": ("candidate", over(lambda t: t.n_iter)),
                "history": ((*pairs, "iteration"), over(history, folds)),
                "objective": ((*pairs, "iteration"), over(lambda t: padded(t.losses), folds)),
            },
            coords={"fold": list(folds), **parameters(shared)},
        )
        if source.feature_names is not None:
            data = data.assign_coords(feature=list(source.feature_names))
        lost = sum(t.reason == "max_iter" for t in trials)
        if lost:
            logger.warning(
                "%d of %d fits of the search took max_iter=%d steps without coming to an end, see data.reason.",
                lost,
                len(trials),
                shared.max_iter,
            )
        return cls(data, scoring, shared.taken, shared)

    @property
    def scores(self) -> xr.DataArray:
        """(candidate, fold), greater is better."""
        return self.data.score

    @property
    def rates(self) -> xr.DataArray:
        """What each candidate's learning rate is like: "diverges" (or ends above the start), "crawls" (it ends, or was
        dropped, before 99% of the objective's fall with the fastest candidate is done), or "good".
        """
        if "learning_rate" not in self.data.coords:
            raise InvalidArgumentError("rates are those of a search over learning_rates; this had none.")
        objective = self.data.objective.values
        ends = np.isfinite(objective).sum(axis=2, keepdims=True) - 1
        start, last = objective[:, :, 0].mean(axis=1), np.take_along_axis(objective, ends, axis=2).mean(axis=(1, 2))
        lost = (self.data.reason == "diverged").any("fold").values | ~(last <= start)
        whole = np.max(start - last, initial=0.0, where=~lost)
        told = np.where(start - last >= 0.99 * whole, "good", "crawls")
        return self.data.learning_rate.copy(data=np.where(lost, "diverges", told)).rename("rates")

    @property
    def best_index(self) -> int:
        """The candidate with the best mean score over the folds, the first of several; none that diverged."""
        means = self.data.score.mean("fold", skipna=False).values
        if np.isnan(means).all():
            raise InvalidArgumentError("Every candidate diverged in some fold; try smaller learning rates.")
        return int(np.nanargmax(means))

    @property
    def best(self) -> dict[str, Any]:
        """Its parameters."""
        chosen = self.data.isel(candidate=self.best_index)
        return {name: chosen[name].item() for name in PARAMETERS if name in chosen.coords}

    def lines(self) -> list[list[str]]:
        """The table that `print` shows, cell by cell: a heading, and a line for each candidate."""
        data, names = self.data, [name for name in PARAMETERS if name in self.data.coords]
        means, spread = data.score.mean("fold", skipna=False).values, data.score.std("fold").values
        best = None if np.isnan(means).all() else self.best_index
        rates = None if best is None or "learning_rate" not in data.coords else self.rates
        lines = [[" ", *names, "score", "spread", "steps", "ended"]]
        for c in range(data.sizes["candidate"]):
            at = data.isel(candidate=c)
            own = [value if isinstance(value := at[name].item(), str) else f"{value:.6g}" for name in names]
            reasons = ", ".join(sorted(set(at.reason.values.tolist())))
            reasons += "" if rates is None else f" ({rates[c].item()})"
            steps = f"{int(at.n_iter.max())}"
            lines.append(["*" if c == best else " ", *own, f"{means[c]:.6g}", f"{spread[c]:.2g}", steps, reasons])
        return lines

    def heading(self) -> str:
        """What was searched, in a line."""
        return (
            f"search of {self.data.sizes['candidate']} candidates on {self.data.sizes['fold']} folds by {self.scoring}"
        )

    def __str__(self) -> str:
        lines = self.lines()
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join([self.heading(), *("  ".join(map(str.rjust, line, widths)) for line in lines)])

    __repr__ = __str__

    def plot(self, axes: Any = None) -> Any:
        """The score against the candidates' parameter, its mean and spread over the folds, or of learning rates the
        loss held out against the iteration; needs matplotlib, and gives its Axes.
        """
        from .monitor.plots import plot_search

        return plot_search(self, axes)

    def _repr_html_(self) -> str:
        from .monitor.html import html_of_search

        return html_of_search(self)

    def refit(self, **options: Any) -> FitResult:
        """`fit` of the best candidate to all rows, from where its trial on all rows has ended.

        Parameters
        ----------
        options
            Of `fit`: ``store``, ``callbacks``, ``max_iter``, ``tol``.
        """
        shared, best = self.shared, self.best_index
        w, b = self.data.all_weights.values[best], self.data.all_intercept.values[best]
        start = np.vstack([w.reshape(len(w), -1), np.reshape(b, (1, -1))]) if shared.fit_intercept else w
        return fit(
            shared.source,
            loss=shared.loss,
            penalty=shared.candidates[best].of(shared.everything.weight),
            solver=shared.solvers[best],
            fit_intercept=shared.fit_intercept,
            initial_weights=start,
            **{"max_iter": shared.max_iter, "tol": shared.tol, **options},
        )


def parameters(shared: Shared) -> dict[str, Any]:
    """The candidates' coordinates: those parameters that some of them have."""
    found = {}
    for name in PARAMETERS:
        values = [getattr(c, name) for c in shared.candidates]
        if name == "penalty":
            values = [None if c.alpha is not None or c.C is not None else repr(c.penalty) for c in shared.candidates]
            values = [] if len(set(values)) == 1 else values
        if any(v is not None for v in values):
            found[name] = ("candidate", values)
    return found


def score(trial: Trial, shared: Shared, scoring: str) -> float:
    """Of a trial, on the rows of its fold."""
    if trial.reason in ("diverged", "dropped"):
        return np.nan
    fold = shared.folds[trial.fold]
    assert fold.held is not None
    found = trial.held[1] / fold.weight
    if shared.score is None:
        # Half the squared error is the loss, summed over outputs.
        found = -trial.held[0] / fold.weight * (2 / trial.weights.shape[1] if scoring in OF_SQUARES else 1)
    if scoring != "r2":
        return found
    total, squares = fold.held[:, 0] / fold.weight
    return 1 + found / (squares - total**2)
