"""The memory of workers and client beside what a fit takes of it: too many features are refused before the first step.

`passes.note_memory` says what may not go well; this refuses what cannot.
"""

from __future__ import annotations

from typing import NamedTuple

from ..cluster import active_client
from ..kernels.base import EXACT, Request, curvatures
from ..model.losses import Loss
from ..solvers import LBFGS, Newton, NewtonSchur, Solver
from ..sources import Source
from ..sources.encoding import FactorColumn
from ..sources.room import ADVICE, LEVEL_BYTES, NAME_BYTES, too_many
from ..worker_env import memory_of_process

#: Arrays in the shape of the parameters that every solver keeps: the weights, the query, the gradient and the step.
VECTORS = 4
BLOCKS = "share the weights out over the workers (dask_gd.block_columns, and then weights='blocks')"


class Need(NamedTuple):
    """The bytes that a fit takes at least: in a task, and on the client."""

    task: int
    client: int


def need_of(loss: Loss, solver: Solver, q: int, k: int, partitions: int, folds: int = 0) -> Need:
    """Return the bytes that a fit takes at least, with q parameters for each of k outputs.

    A search has sums of each of its ``folds``, and of the rows in none.
    """
    copies = folds + 1
    vector = 8 * q * k
    # Sums are the gradient and, in the first pass, two moments of each feature.
    sums = copies * (vector + 16 * q)
    client = VECTORS * vector
    if isinstance(solver, LBFGS):
        client += 2 * solver.memory * vector
    # The curvature in parts has a sum for each level, and a gradient of its own.
    if isinstance(solver, NewtonSchur):
        sums += 8 * q + vector
    # Newton's method and a search of a squared loss have a curvature of all pairs of parameters.
    if isinstance(solver, Newton) or (folds and loss.quadratic):
        matrices = curvatures(k, loss, Request(curvature=EXACT))
        sums += copies * 8 * q * q * matrices
        client += copies * 8 * q * q
    # A task has the query and its sums. Another one adds two of these up.
    task = vector + sums
    if partitions > 1:
        task = 3 * sums
    return Need(task, client)


def check_room(source: Source, loss: Loss, solver: Solver, q: int, k: int, folds: int = 0) -> None:
    """Refuse more features than workers or the client have memory for.

    Raises
    ------
    DataError
        Naming the factor with the most levels, what is needed, and which process has how much.
    """
    need = need_of(loss, solver, q, k, source.partitions, folds)
    names = 0
    if source.x.encoding is not None:
        names = (LEVEL_BYTES + NAME_BYTES) * source.shape[1]
    # What each process needs, and what it has. Without a cluster tasks are threads of this process.
    available = memory_of_process()
    client = active_client()
    if client is None:
        uses = [("this process", need.task + need.client + names, available)]
    else:
        uses = [("the client", need.client + names, available)]
        # Any worker may get a task; a limit of 0 is none.
        for address, worker in client.scheduler_info()["workers"].items():
            uses.append((f"worker {address}", need.task, worker["memory_limit"] or need.task))
    for where, needed, limit in uses:
        if needed > limit:
            raise too_many(
                described(source, k),
                needed=needed,
                available=limit,
                where=where,
                advice=advice_of(need_of(loss, LBFGS(), q, k, source.partitions, 0), need, source),
            )


def described(source: Source, k: int) -> str:
    """Return how many features there are, of the factor with the most levels first, in words."""
    count = f"{source.shape[1]:,} features"
    if k > 1:
        count += f" for each of {k} outputs"
    factors: list[FactorColumn] = []
    if source.x.encoding is not None:
        factors = [column for column in source.x.encoding.columns if isinstance(column, FactorColumn)]
    if not factors:
        return f"x has {count}"
    widest = max(factors, key=lambda column: len(column.levels))
    return f"Column {widest.name!r} has {len(widest.levels):,} levels, of {count} in all"


def advice_of(lean: Need, need: Need, source: Source) -> str:
    """Return what to do about a need, beside which there is that of L-BFGS, in words."""
    if need.task > lean.task:
        return (
            "That is for a matrix of all pairs of features: choose solver='lbfgs', or 'auto', which forms none where "
            f"there are many; a search needs it for a squared loss. Or else: {ADVICE}"
        )
    if source.x.encoding is None:
        return f"Hash them to fewer (dask_gd.hash_features), {BLOCKS}, or give each process more memory."
    return f"{ADVICE} Or {BLOCKS}."
