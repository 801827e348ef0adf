"""The sums over a partition's rows, and how such sums are combined."""
