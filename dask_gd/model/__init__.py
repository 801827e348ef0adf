"""The objective's parts: losses and penalties. They know NumPy and nothing of data, chunks or Dask."""
