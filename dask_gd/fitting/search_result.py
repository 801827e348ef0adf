"""`SearchResult`: what a search has found."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from ..errors import DivergenceWarning, InvalidArgumentError
from ..kernels.shift import unshifted
from ..model.losses import Loss, classes_of
from ..model.penalties import Penalty
from ..results.fit_result import HISTORY, FitResult
from ..solvers import Solver
from .fit import fit
from .grid import PARAMETERS
from .scores import OF_SQUARES
from .shared import Shared
from .trials import ALL, Trial

logger = logging.getLogger("dask_gd")


@dataclass(frozen=True, repr=False)
class SearchResult:
    """Candidates, their scores on rows held out, and the best.

    Attributes
    ----------
    data : xarray.Dataset
        Over "candidate", whose parameters are coordinates, and "fold": ``score`` (greater is better); ``loss``, the
        mean loss of the rows held out, without the penalty; ``n_iter`` and ``grad_norm``; ``reason`` as in `FitResult`,
        or "dropped" (one of many learning rates, behind others after some steps); ``weights`` and ``intercept`` of the
        fit to the other rows. ``all_weights``, ``all_intercept``, ``all_n_iter``, ``all_grad_norm`` and ``all_reason``
        are those of the fits to all rows. ``history`` is the loss held out and ``objective`` that of the fit
        (``all_objective`` to all rows), over "iteration" too, NaN after the last.
    scoring : str
    passes : float
        Over the data, but for the fit that the search begins at.
    loss : Loss
    penalties, solvers : tuple
        Of each candidate's fit to all rows.
    fit_intercept : bool
    max_iter, tol
        Of the search.
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

    @classmethod
    def of(cls, trials: list[Trial], shared: Shared, scoring: str) -> SearchResult:
        source = shared.source
        loss = shared.loss
        count = shared.count
        n = len(shared.candidates)
        p = source.shape[1]
        by = {(trial.candidate, trial.fold): trial for trial in trials}
        outputs = classes_of(loss) or source.outputs
        output = () if outputs is None else ("output",)

        def over(value: Any, folds: Any = None) -> np.ndarray:
            """Of each trial, (candidates, folds, ...), or of those that see all rows, (candidates, ...)."""
            if folds is None:
                return np.array([value(by[c, ALL]) for c in range(n)])
            return np.array([[value(by[c, f]) for f in range(count)] for c in range(n)])

        def of_targets(values: np.ndarray) -> np.ndarray:
            if source.present is None:
                return values
            return source.present.spread(values)

        def coefficients(trial: Trial) -> np.ndarray:
            if output:
                return of_targets(trial.weights[:p])
            return trial.weights[:p, 0]

        def intercept(trial: Trial) -> Any:
            weights = unshifted(trial.weights, shared.shift)
            if len(weights) > p:
                b = weights[p]
            else:
                b = np.zeros(weights.shape[1])
            if output:
                return of_targets(b)
            return b[0]

        longest = max(len(trial.losses) for trial in trials)

        def padded(values: list[float], unit: float = 1.0) -> np.ndarray:
            return np.append(np.array(values) / unit, np.full(longest - len(values), np.nan))

        def history(trial: Trial) -> np.ndarray:
            return padded(trial.held_losses, shared.folds[trial.fold].weight)

        pairs = ("candidate", "fold")
        folds = range(count)
        data = xr.Dataset(
            {
                "score": (pairs, over(lambda t: score(t, shared, scoring), folds)),
                "loss": (pairs, over(lambda t: t.holdout[0] / shared.folds[t.fold].weight, folds)),
                "n_iter": (pairs, over(lambda t: t.n_iter, folds)),
                "grad_norm": (pairs, over(lambda t: t.grad_norm, folds)),
                "reason": (pairs, over(lambda t: t.reason, folds)),
                "weights": ((*pairs, "feature", *output), over(coefficients, folds)),
                "intercept": ((*pairs, *output), over(intercept, folds)),
                "all_weights": (("candidate", "feature", *output), over(coefficients)),
                "all_intercept": (("candidate", *output), over(intercept)),
                "all_reason": ("candidate", over(lambda t: t.reason)),
                "all_n_iter": ("candidate", over(lambda t: t.n_iter)),
                "all_grad_norm": ("candidate", over(lambda t: t.grad_norm)),
                "all_objective": (("candidate", "iteration"), over(lambda t: padded(t.losses))),
                "history": ((*pairs, "iteration"), over(history, folds)),
                "objective": ((*pairs, "iteration"), over(lambda t: padded(t.losses), folds)),
            },
            coords={"fold": list(folds), **coordinates_of(shared)},
        )
        if source.feature_names is not None:
            data = data.assign_coords(feature=list(source.feature_names))
        if source.present is None:
            output_names = source.output_names
        else:
            output_names = source.present.names
        if output_names is not None and outputs == source.outputs:
            data = data.assign_coords(output=list(output_names))
        lost = sum(t.reason == "max_iter" for t in trials)
        if lost:
            logger.warning(
                "%d of %d fits of the search took max_iter=%d steps without coming to an end, see data.reason.",
                lost,
                len(trials),
                shared.max_iter,
            )
        total = shared.everything
        return cls(
            data,
            scoring,
            passes=shared.taken,
            loss=loss,
            penalties=tuple(candidate.of(total.weight) for candidate in shared.candidates),
            solvers=tuple(shared.solvers),
            fit_intercept=shared.fit_intercept,
            max_iter=shared.max_iter,
            tol=shared.tol,
            described=repr(source),
            dropped=source.shape[0] - total.rows,
            sample_dims=source.sample_dims,
            target_attrs=source.target_attrs,
        )

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """The names of the parameters that tell candidates apart, which are coordinates of ``data``."""
        return tuple(name for name in PARAMETERS if name in self.data.coords)

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
        start = objective[:, :, 0].mean(axis=1)
        last = np.take_along_axis(objective, ends, axis=2).mean(axis=(1, 2))
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
        return {name: chosen[name].item() for name in self.parameter_names}

    def lines(self) -> list[list[str]]:
        """The table that `print` shows, cell by cell: a heading, and a line for each candidate."""
        data = self.data
        names = self.parameter_names
        means = data.score.mean("fold", skipna=False).values
        spread = data.score.std("fold").values
        best = None
        if not np.isnan(means).all():
            best = self.best_index
        if best is None or "learning_rate" not in data.coords:
            rates = None
        else:
            rates = self.rates
        lines = [[" ", *names, "score", "spread", "steps", "ended"]]
        for c in range(data.sizes["candidate"]):
            at = data.isel(candidate=c)
            own = [value if isinstance(value := at[name].item(), str) else f"{value:.6g}" for name in names]
            reasons = ", ".join(sorted(set(at.reason.values.tolist())))
            if rates is None:
                reasons += ""
            else:
                reasons += f" ({rates[c].item()})"
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
        if x is None:
            if options or y is not None:
                raise InvalidArgumentError(
                    f"refit({', '.join(options) or 'y'}=...) reads the rows again, and a search keeps none: "
                    "give them too, refit(x, y, ...) as for the search."
                )
            return self._found(best)
        decided = {"loss", "penalty", "solver", "fit_intercept", "initial_weights"} & options.keys()
        if decided:
            raise InvalidArgumentError(
                f"refit({min(decided)}=...): the search has decided on that; dask_gd.fit makes any other fit."
            )
        parameters = self._found(best).parameters
        return fit(
            x,
            y,
            loss=self.loss,
            penalty=self.penalties[best],
            solver=self.solvers[best],
            fit_intercept=self.fit_intercept,
            initial_weights=parameters if self.fit_intercept else parameters[:-1],
            **{"max_iter": self.max_iter, "tol": self.tol, **options},
        )

    def _found(self, candidate: int) -> FitResult:
        """Return a candidate's fit to all rows, as the search has left it."""
        chosen = self.data.isel(candidate=candidate, drop=True)
        reason = chosen.all_reason.item()
        if reason == "diverged":
            warnings.warn(
                f"The fit of candidate {candidate} to all rows diverged, though it did not without some of them. Its "
                "weights are the last that are finite; try smaller learning rates.",
                DivergenceWarning,
                stacklevel=3,
            )
        steps = np.arange(chosen.all_n_iter.item() + 1)
        values = {name: np.zeros(len(steps)) for name in HISTORY}
        values["loss"] = chosen.all_objective.values[: len(steps)]
        values["step_size"] = np.full(len(steps), np.nan)
        values["grad_norm"] = np.where(steps == steps[-1], chosen.all_grad_norm.item(), np.nan)
        history = {name: ("iteration", values[name]) for name in HISTORY}
        penalty = self.penalties[candidate]
        return FitResult(
            weights=chosen.all_weights.rename("weights"),
            intercept=chosen.all_intercept.rename("intercept"),
            history=xr.Dataset(history, coords={"iteration": steps}),
            n_iter=len(steps) - 1,
            converged=reason == "converged",
            reason=reason,
            loss=self.loss,
            fit_intercept=self.fit_intercept,
            penalised=bool(np.any(penalty.curvature()) or np.any(penalty.absolute())),
            dropped=self.dropped,
            sample_dims=self.sample_dims,
            target_attrs=self.target_attrs,
        )


def coordinates_of(shared: Shared) -> dict[str, Any]:
    """The candidates' coordinates: those parameters that some of them have."""
    found = {}
    for name in PARAMETERS:
        values = [getattr(c, name) for c in shared.candidates]
        if name == "penalty":
            values = [None if c.alpha is not None or c.C is not None else repr(c.penalty) for c in shared.candidates]
            if len(set(values)) == 1:
                values = []
        if any(v is not None for v in values):
            found[name] = ("candidate", values)
    return found


def score(trial: Trial, shared: Shared, scoring: str) -> float:
    """Of a trial, on the rows of its fold."""
    if trial.reason in ("diverged", "dropped"):
        return np.nan
    fold = shared.folds[trial.fold]
    found = trial.holdout[1] / fold.weight
    if shared.score is None:
        # Half the squared error is the loss, summed over outputs.
        found = -trial.holdout[0] / fold.weight * (2 / trial.weights.shape[1] if scoring in OF_SQUARES else 1)
    if scoring != "r2":
        return found
    total, squares = shared.fold_targets[trial.fold, :, 0] / fold.weight
    return 1 + found / (squares - total**2)
