"""What fits give back: results, predictions, inference and reports, as plain data."""
