"""Weights in blocks on the workers: each block of the features' weights lives on the worker that owns it.

Solvers see a vector of `solvers.vectors`. Only inner products and vectors with a value for each row travel.
"""

# Registered with the solvers, as the vectors are.
from . import operations, vector_free

__all__ = ["operations", "vector_free"]
