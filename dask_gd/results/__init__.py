"""Keep the results of fits: predictions, inference and reports, as plain data."""
