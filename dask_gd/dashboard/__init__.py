"""Watch fits while they run: a page of Dask's dashboard, and bars in a terminal or notebook."""
