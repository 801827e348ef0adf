"""Ways to watch a fit and to look at what it has found: callbacks, Dask's dashboard, pictures, notebooks, reports."""
