"""Penalties, under the name by which users import them; see `dask_gd.model.penalties`."""

from .model.non_negative import NonNegative
from .model.penalties import L1, L2, ElasticNet, GroupLasso, Penalty
from .model.prox import Prox

__all__ = ["L1", "L2", "ElasticNet", "GroupLasso", "NonNegative", "Penalty", "Prox"]
