"""Ways to watch a fit and to look at what it has found: callbacks, pictures, notebooks, reports."""

from . import html, plots, progress, report

__all__ = ["html", "plots", "progress", "report"]
