"""Pictures of a fit and of a search, drawn by matplotlib, which is imported when the first is asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from ..errors import InvalidArgumentError

#: Iterations of one kind that have a marker.
MARKERS = 50
#: Learning rates that the usual cycle of colours can tell apart.
COLOURS = 10
#: Penalties that an axis can name.
NAMED = 12
#: Larger numbers cannot be drawn: the margin around them overflows.
LARGEST = 1e250


def plot_fit(history: xr.Dataset, reason: str = "", axes: Any = None) -> np.ndarray:
    """The loss and the norm of the gradient against the iteration.

    The loss has a logarithmic axis where all its values are positive and they span more than two decades; the gradient
    has one wherever some of it is positive. Values that are not finite are gaps. Iterations that have read some of the
    rows only, and those that took no pass, have markers of their own.

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
    if axes is None:
        axes = pyplot().subplots(1, 2, figsize=(9, 3.6), layout="constrained")[1]
    axes = np.asarray(axes, dtype=object).ravel()
    if len(axes) != 2:
        raise InvalidArgumentError(
            f"axes: there are {len(axes)}; give two, one for the loss and one for the gradient: plt.subplots(1, 2)[1]."
        )
    iteration = history.iteration.values
    passes = history.passes.values
    kinds: dict[str, tuple[dict[str, Any], np.ndarray]] = {
        "all rows": ({"markerfacecolor": "C0"}, passes >= 1),
        "some of the rows": ({"markerfacecolor": "white"}, (passes > 0) & (passes < 1)),
        "without a pass": ({"markerfacecolor": "white", "alpha": 0.5, "marker": "s"}, passes == 0),
    }
    panels = (("loss", "loss"), ("grad_norm", "gradient over its scale"))
    for ax, (name, label) in zip(axes, panels, strict=True):
        values = drawable(history[name].values)
        ax.plot(iteration, values, color="C0", linewidth=1.2, alpha=0.7)
        for kind, (style, of) in kinds.items():
            shown = thinned(np.flatnonzero(of), MARKERS)
            if len(shown):
                style = {"marker": "o", "markersize": 5, "color": "C0", "linestyle": "", **style}
                ax.plot(iteration[shown], values[shown], label=kind, **style)
        if name == "loss":
            log = spans_decades(values)
        else:
            log = bool((values > 0).any())
        ax.set(xlabel="iteration", ylabel=label, yscale="log" if log else "linear")
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.grid(alpha=0.25)
        if len(iteration) == 1:
            ax.set(xlim=(-0.5, 0.5), xticks=[0])
    if not kinds["all rows"][1].all():
        axes[0].legend(frameon=False)
    steps = len(iteration) - 1
    axes[0].set_title(f"{reason}, {steps} step{'s' if steps != 1 else ''}" if reason else "", loc="left", fontsize=10)
    return axes


def plot_search(found: Any, axes: Any = None) -> Any:
    """The score against the candidates' parameter, its mean and spread over the folds, or of learning rates the loss
    held out against the iteration.

    Examples
    --------
    >>> import matplotlib.figure
    >>> x = np.arange(40.0)[:, None]
    >>> found = dask_gd.search(x, 2 * x[:, 0] + x[:, 0] % 3, alphas=[0.1, 1.0, 10.0], folds=4)
    >>> plot_search(found, matplotlib.figure.Figure().subplots()).get_xscale()
    'log'
    """
    if axes is None:
        axes = pyplot().subplots(layout="constrained")[1]
    data = found.data
    if "learning_rate" in data.coords:
        names = sorted(found.parameter_names, key=lambda name: name != "learning_rate")
        count = data.sizes["candidate"]
        for c in range(count):
            at = data.isel(candidate=c)
            # More than ten take one range of colours, in their order.
            if count <= COLOURS:
                colour = {}
            else:
                colour = {"color": colours()(c / (count - 1))}
            history = drawable(data.history.isel(candidate=c).mean("fold").values)
            axes.plot(history, label=", ".join(briefly(at[name].item()) for name in names), **colour)
        means = drawable(data.history.mean("fold").values)
        axes.set(xlabel="iteration", ylabel="mean loss of rows held out")
        axes.xaxis.get_major_locator().set_params(integer=True)
        if np.isfinite(means[:, 0]).any():
            start = np.nanmax(means[:, 0])
            low = np.nanmin(means)
            # What diverges leaves the picture.
            top = min(np.nanmax(means), start + 0.2 * (start - low))
            margin = 0.05 * (top - low)
            if margin > 0:
                axes.set_ylim(low - margin, top + margin)
        axes.legend(title=", ".join(names).replace("_", " "), ncols=1 + count // (COLOURS + 1))
        return axes
    name = found.parameter_names[0]
    if "l1_ratio" in data.coords:
        ratios = data.l1_ratio.values
    else:
        ratios = np.zeros(data.sizes["candidate"])
    means = data.score.mean("fold").values
    spread = data.score.std("fold").values
    if name != "penalty":
        place = data[name].values
    else:
        place = np.arange(len(means))
    for ratio in np.unique(ratios):
        own = np.flatnonzero(ratios == ratio)
        own = own[np.argsort(place[own])]
        label = None
        if len(np.unique(ratios)) > 1:
            label = f"l1_ratio {ratio:g}"
        (line,) = axes.plot(place[own], means[own], marker="o", label=label)
        low, high = (means[own] + sign * spread[own] for sign in (-1, 1))
        axes.fill_between(place[own], low, high, color=line.get_color(), alpha=0.2, linewidth=0)
    if not data.score.isnull().any("fold").all():
        axes.axvline(place[found.best_index], color="grey", linestyle=":")
    axes.set(xlabel=name, ylabel=f"{found.scoring}, mean and spread over {data.sizes['fold']} folds")
    if name == "penalty" and len(place) <= NAMED:
        axes.set_xticks(place, [briefly(value) for value in data[name].values], rotation=20, ha="right")
    if name in ("alpha", "C") and (place > 0).all():
        axes.set_xscale("log")
    if len(np.unique(ratios)) > 1:
        axes.legend()
    return axes


def briefly(value: Any) -> str:
    """A parameter on an axis or in a legend."""
    text = value
    if not isinstance(value, str):
        text = f"{value:.3g}"
    if len(text) <= 30:
        return text
    return text[:27] + "..."


def pyplot() -> Any:
    """matplotlib's, or what to install."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            'Pictures need matplotlib, which is not installed: pip install "dask_gd[examples]".'
        ) from error
    return plt


def colours() -> Any:
    """From dark to light, in order."""
    return pyplot().get_cmap("viridis")


def spans_decades(values: np.ndarray) -> bool:
    """The finite values are all positive, and the largest more than a hundred times the smallest."""
    finite = values[np.isfinite(values)]
    return bool(len(finite) and finite.min() > 0 and finite.max() / 100 > finite.min())


def drawable(values: np.ndarray) -> np.ndarray:
    """With NaN for what cannot be drawn."""
    return np.where(np.abs(values) <= LARGEST, values, np.nan)


def thinned(values: np.ndarray, count: int) -> np.ndarray:
    """At most so many of the values, evenly spaced, with the first and the last."""
    if len(values) <= count:
        return values
    return values[np.linspace(0, len(values) - 1, count).round().astype(int)]
