"""Watching fits while they run: the page of Dask's dashboard, and bars in a terminal or notebook."""
