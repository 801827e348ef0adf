"""Ways to watch a fit, each of them a callback of its events."""
