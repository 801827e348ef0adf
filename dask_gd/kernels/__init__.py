"""What one partition sums over its rows, and how such sums are combined."""
