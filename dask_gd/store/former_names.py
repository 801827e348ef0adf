"""The names that arrays of a solver's state had in stores of former versions.

A state's arrays are stored under the names of its fields, see `solvers.newton.state`. A store that was written when a
field had another name is read as if it had been written today.
"""

from __future__ import annotations

import re

from .checkpoint_file import Checkpoint

#: Paths of arrays of a state: of a fit, and of a search's trials.
STATE = re.compile(r"(state/|trials/\d+-state-)(\w+)")

#: Former names of fields, each with the fields that have its values now. `NewtonState` had one flag for two things.
FORMER = {"exact": ("own_curvature", "refines")}


def with_present_names(checkpoint: Checkpoint) -> Checkpoint:
    """Return the checkpoint with arrays of solvers' states under the names that they have now.

    Arrays remain under their former names too: a user's own solver may have a field of such a name.
    """
    arrays = dict(checkpoint.arrays)
    for path, array in checkpoint.arrays.items():
        match = STATE.fullmatch(path)
        if match is None:
            continue
        prefix, name = match.groups()
        for present in FORMER.get(name, ()):
            arrays.setdefault(prefix + present, array)
    return checkpoint._replace(arrays=arrays)
