"""The names that arrays of a solver's state had in stores of former versions, and what their histories lack.

A state's arrays are stored under the names of its fields, see `solvers.newton.state`. A store that was written when a
field had another name is read as if it had been written today.
"""

from __future__ import annotations

import re

import numpy as np

from .checkpoint_file import Checkpoint

#: Paths of arrays of a state: of a fit, and of a search's trials.
STATE = re.compile(r"(state/|trials/\d+-state-)(\w+)")

#: Former names of fields, each with the fields that have its values now. `NewtonState` had one flag for two things.
FORMER = {"exact": ("own_curvature", "refines")}


def with_present_names(checkpoint: Checkpoint) -> Checkpoint:
    """Return the checkpoint with arrays of solvers' states under the names that they have now, and a whole history.

    Arrays remain under their former names too: a user's own solver may have a field of such a name.
    """
    arrays = dict(checkpoint.arrays)
    if "passes" in arrays and "full_passes" not in arrays:
        dims, passes = arrays["passes"]
        arrays["full_passes"] = (dims, full_passes_of(passes))
    for path, array in checkpoint.arrays.items():
        match = STATE.fullmatch(path)
        if match is None:
            continue
        prefix, name = match.groups()
        for present in FORMER.get(name, ()):
            arrays.setdefault(prefix + present, array)
    return checkpoint._replace(arrays=arrays)


def full_passes_of(passes: np.ndarray) -> np.ndarray:
    """Return the passes over all rows of each step of a history that did not tell them from samples.

    A step read either a sample of few rows or all of them, with a sample beside: the whole part is of all.

    Examples
    --------
    >>> full_passes_of(np.array([0.125, 1.0, 1.0625, 0.0])).tolist()
    [0.0, 1.0, 1.0, 0.0]
    """
    return np.floor(passes)
