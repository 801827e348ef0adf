"""`fit` and `search`: the loops in which passes, solvers, stores and callbacks meet."""
