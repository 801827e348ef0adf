"""Draw a fit and a search with matplotlib, which is imported for the first picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from ..errors import InvalidArgumentError
from .texts import is_sampled

#: Iterations of a kind that have a marker.
MARKERS = 50
#: Learning rates that the usual cycle of colours can distinguish.
COLOURS = 10
#: Penalties that an axis can name.
NAMED = 12
#: Larger numbers cannot be drawn: the margin around them overflows.
LARGEST = 1e250


def plot_fit(history: xr.Dataset, reason: str = "", axes: Any = None) -> np.ndarray:
    """Draw the loss and the norm of the gradient against the iteration.

    The loss has a logarithmic axis where all its values are positive and they span more than two decades; the gradient
    has a logarithmic axis wherever any of it is positive. Values that are not finite are gaps. Iterations that have
    read a sample of the rows, and iterations that took no pass, have markers of their own. No line leads to a sample's,
    as losses of different rows cannot be compared.

    Parameters
    ----------
    history : xarray.Dataset
        Of a `FitResult`.
    reason : str
        Why the fit has ended, for the title.
    axes : two matplotlib Axes, optional
        Where to draw; by default in a new figure.

    Returns
    -------
    array of the two Axes

    Examples
    --------
    >>> import matplotlib.figure
    >>> run = dask_gd.fit(np.array([[0.0], [1.0], [2.0]]), np.array([1.0, 3.0, 5.0]))
    >>> axes = plot_fit(run.history, run.reason, matplotlib.figure.Figure().subplots(1, 2))
    >>> [ax.get_ylabel() for ax in axes]
    ['loss', 'gradient over its scale']
    """
    # Two Axes, the user's own or new ones.
    if axes is None:
        axes = pyplot().subplots(1, 2, figsize=(9, 3.6), layout="constrained")[1]
    axes = np.asarray(axes, dtype=object).ravel()
    if len(axes) != 2:
        raise InvalidArgumentError(
            f"axes: there are {len(axes)}; give two, one for the loss and one for the gradient: plt.subplots(1, 2)[1]."
        )
    # Iterations by the rows that they have read, with the style of their markers.
    passes = history.passes.values
    samples = is_sampled(passes, history.full_passes.values)
    kinds: dict[str, tuple[dict[str, Any], np.ndarray]] = {
        "all rows": ({"markerfacecolor": "C0"}, (passes > 0) & ~samples),
        "a sample of the rows, not comparable": ({"markerfacecolor": "white"}, samples),
        "without a pass": ({"markerfacecolor": "white", "alpha": 0.5, "marker": "s"}, passes == 0),
    }
    iteration = history.iteration.values
    loss = drawable(history["loss"].values)
    gradient = drawable(history["grad_norm"].values)
    _plot_history(axes[0], kinds, samples, x=iteration, y=loss, label="loss", log=spans_decades(loss))
    has_positive = bool((gradient > 0).any())
    _plot_history(
        axes[1],
        kinds,
        samples,
        x=iteration,
        y=gradient,
        label="gradient over its scale",
        log=has_positive,
    )
    # The legend only where there is more than a single kind.
    if not kinds["all rows"][1].all():
        axes[0].legend(frameon=False)
    title = ""
    if reason:
        steps = len(passes) - 1
        noun = "step" if steps == 1 else "steps"
        title = f"{reason}, {steps} {noun}"
    axes[0].set_title(title, loc="left", fontsize=10)
    return axes


def _plot_history(
    ax: Any,
    kinds: dict[str, tuple[dict[str, Any], np.ndarray]],
    samples: np.ndarray,
    *,
    x: np.ndarray,
    y: np.ndarray,
    label: str,
    log: bool,
) -> None:
    """Draw values y against the iteration x: a line of those of all rows, and markers for each kind of iteration."""
    ax.plot(x, np.where(samples, np.nan, y), color="C0", linewidth=1.2, alpha=0.7)
    for kind, (style, is_kind) in kinds.items():
        shown = thinned(np.flatnonzero(is_kind), MARKERS)
        if len(shown):
            style = {"marker": "o", "markersize": 5, "color": "C0", "linestyle": "", **style}
            ax.plot(x[shown], y[shown], label=kind, **style)
    # Iterations are whole numbers, also where there is only the start.
    scale = "log" if log else "linear"
    ax.set(xlabel="iteration", ylabel=label, yscale=scale)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.grid(alpha=0.25)
    if len(x) == 1:
        ax.set(xlim=(-0.5, 0.5), xticks=[0])


def plot_search(result: Any, axes: Any = None) -> Any:
    """Draw the score against the candidates' parameter, or the loss against the iteration for learning rates.

    The score has its mean and spread over the folds; the loss is that of the rows held out.

    Examples
    --------
    >>> import matplotlib.figure
    >>> x = np.arange(40.0)[:, None]
    >>> found = dask_gd.search(x, 2 * x[:, 0] + x[:, 0] % 3, alphas=[0.1, 1.0, 10.0], folds=4)
    >>> plot_search(found, matplotlib.figure.Figure().subplots()).get_xscale()
    'log'
    """
    # Rates are compared by how fast the loss falls, all else by the score.
    if axes is None:
        axes = pyplot().subplots(layout="constrained")[1]
    if "learning_rate" in result.data.coords:
        _plot_rates(result, axes)
    else:
        _plot_scores(result, axes)
    return axes


def _plot_rates(result: Any, axes: Any) -> None:
    """Draw the mean loss of the rows held out against the iteration, a line for each candidate."""
    data = result.data
    names = sorted(result.parameter_names, key=lambda name: name != "learning_rate")
    count = data.sizes["candidate"]
    for i in range(count):
        candidate = data.isel(candidate=i)
        # More candidates than the cycle has take a single range of colours, in their order.
        colour = {}
        if count > COLOURS:
            colour = {"color": colours()(i / (count - 1))}
        losses = drawable(candidate.history.mean("fold").values)
        parameters = [briefly(candidate[name].item()) for name in names]
        axes.plot(losses, label=", ".join(parameters), **colour)
    axes.set(xlabel="iteration", ylabel="mean loss of rows held out")
    axes.xaxis.get_major_locator().set_params(integer=True)
    # Candidates that diverge leave the picture.
    means = drawable(data.history.mean("fold").values)
    if np.isfinite(means[:, 0]).any():
        start = np.nanmax(means[:, 0])
        low = np.nanmin(means)
        top = min(np.nanmax(means), start + 0.2 * (start - low))
        margin = 0.05 * (top - low)
        if margin > 0:
            axes.set_ylim(low - margin, top + margin)
    title = ", ".join(names).replace("_", " ")
    axes.legend(title=title, ncols=1 + count // (COLOURS + 1))


def _plot_scores(result: Any, axes: Any) -> None:
    """Draw the score, its mean and spread over the folds, against the candidates' first parameter."""
    data = result.data
    name = result.parameter_names[0]
    means = data.score.mean("fold").values
    spread = data.score.std("fold").values
    # Penalties have no numbers: they are drawn in their order.
    x = np.arange(len(means))
    if name != "penalty":
        x = data[name].values
    # A line for each ratio of an elastic net.
    ratios = np.zeros(len(means))
    if "l1_ratio" in data.coords:
        ratios = data.l1_ratio.values
    has_ratios = len(np.unique(ratios)) > 1
    for ratio in np.unique(ratios):
        chosen = np.flatnonzero(ratios == ratio)
        chosen = chosen[np.argsort(x[chosen])]
        label = None
        if has_ratios:
            label = f"l1_ratio {ratio:g}"
        line_x = x[chosen]
        mean = means[chosen]
        deviation = spread[chosen]
        (line,) = axes.plot(line_x, mean, marker="o", label=label)
        colour = line.get_color()
        axes.fill_between(
            line_x,
            mean - deviation,
            mean + deviation,
            color=colour,
            alpha=0.2,
            linewidth=0,
        )
    # The best candidate, if any has a score on all folds.
    if not data.score.isnull().any("fold").all():
        axes.axvline(x[result.best_index], color="grey", linestyle=":")
    axes.set(xlabel=name, ylabel=f"{result.scoring}, mean and spread over {data.sizes['fold']} folds")
    if name == "penalty" and len(x) <= NAMED:
        labels = [briefly(value) for value in data[name].values]
        axes.set_xticks(x, labels, rotation=20, ha="right")
    if name in ("alpha", "C") and (x > 0).all():
        axes.set_xscale("log")
    if has_ratios:
        axes.legend()


def briefly(value: Any) -> str:
    """Format a parameter for an axis or a legend."""
    text = value
    if not isinstance(value, str):
        text = f"{value:.3g}"
    if len(text) <= 30:
        return text
    return text[:27] + "..."


def pyplot() -> Any:
    """Return matplotlib's pyplot, or say what to install."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            'Pictures need matplotlib, which is not installed: pip install "dask_gd[examples]".'
        ) from error
    return plt


def colours() -> Any:
    """Return the range of colours, from dark to light."""
    return pyplot().get_cmap("viridis")


def spans_decades(values: np.ndarray) -> bool:
    """Return whether the finite values are positive, and the largest more than a hundred times the smallest."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return False
    smallest = finite.min()
    return bool(smallest > 0 and finite.max() / 100 > smallest)


def drawable(values: np.ndarray) -> np.ndarray:
    """Replace values that cannot be drawn by NaN."""
    return np.where(np.abs(values) <= LARGEST, values, np.nan)


def thinned(values: np.ndarray, count: int) -> np.ndarray:
    """Return at most this number of the values, evenly spaced, with the first and the last."""
    if len(values) <= count:
        return values
    indices = np.linspace(0, len(values) - 1, count).round().astype(int)
    return values[indices]
