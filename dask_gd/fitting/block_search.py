"""A search with weights in blocks: when it is chosen, what it refuses, and its run."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from .. import passes
from ..errors import InvalidArgumentError
from ..interrupt import exiting_on_sigterm
from ..model.losses import Loss
from ..solvers import Solver
from ..sources import Source
from ..store.store import Store
from ..weight_blocks.prox import check_penalty
from .block_checkpoint import probe
from .block_fit import in_blocks
from .block_paths import BlockSearch
from .fold_assignment import Assigned
from .grid import Candidate
from .search_result import SearchResult
from .search_solvers import solver_of


def solvers_in_blocks(
    weights: str,
    source: Source,
    loss: Loss,
    candidates: Sequence[Candidate],
    solver: str | Solver,
    fit_intercept: bool,
) -> list[Solver] | None:
    """Return each candidate's solver if the weights are to be in blocks, else None; refuse what cannot be had.

    Raises
    ------
    InvalidArgumentError
        Where blocks are asked for, and cluster, features, loss, a penalty or the solver do not allow it.
    """
    n, p = source.shape
    if weights == "blocks" and isinstance(solver, str) and solver == "auto":
        solver = "lbfgs"
    solvers = []
    for candidate in candidates:
        penalty = candidate.of(float(n))
        chosen = solver_of(solver, loss, penalty, p + bool(fit_intercept), candidate.learning_rate)
        if not in_blocks(weights, source, loss, penalty, chosen, fit_intercept):
            return None
        solvers.append(chosen)
    for candidate in candidates:
        check_penalty(candidate.of(float(n)))
    return solvers


def search_in_blocks(
    assigned: Sequence[Assigned],
    scoring: Any,
    is_path: bool,
    store: Any,
    **options: Any,
) -> SearchResult:
    """Return the result of a search with weights in blocks, whose other options are those of `BlockSearch`.

    Raises
    ------
    InvalidArgumentError
        For what needs all weights or rows at once, or shares passes between fits.
    """
    source = assigned[0].source
    if is_path:
        raise InvalidArgumentError(
            "alphas as a number of them, and weights in blocks: the largest alpha follows from whole weights. Give the "
            "alphas themselves, such as numpy.geomspace(1e-2, 1e-5, 5)."
        )
    if len(assigned) > 1:
        raise InvalidArgumentError(
            f"These splits take {len(assigned)} searches, and weights in blocks are searched once. Give splits with "
            "disjoint test rows that hold each row, or a number of folds."
        )
    if "score_weight" in source.by_role:
        raise InvalidArgumentError("Scores with other row weights than the fits' need weights='whole'.")
    if callable(scoring) and source.nan == "drop":
        raise InvalidArgumentError(
            "scoring by a function, nan='drop' and weights in blocks: the function would have rows that were left out. "
            "Give the name of a score."
        )
    if source.present is not None:
        raise InvalidArgumentError("Targets that are NaN in all rows, and weights in blocks: leave these targets out.")
    search = BlockSearch(assigned[0], scoring=scoring, **options)
    engine = search.engine
    with contextlib.ExitStack() as stack:
        if store is not None:
            search.open(stack.enter_context(store if isinstance(store, Store) else Store(store)))
            assert engine.store is not None
            probe(search.make_space().owners, engine.name, engine.store)
            search.space = None
        stack.callback(passes.release, source, engine.name)
        stack.enter_context(search.callbacks.hear_of_failure(engine.name, kind="search"))
        stack.enter_context(exiting_on_sigterm("search", engine.said_of_store))
        stack.enter_context(passes.passes_of("search", engine.name, search.committed))
        return search.run()
