"""Run fits, searches, predictions and checks of the machine from a shell: ``dask-gd``.

Results go to stdout, everything else to stderr. The exit status is 0 where all is well, 1 for an error, 2 for arguments
that are refused, 3 for a fit that took all its steps, stalled or diverged, 130 after Ctrl-C and 143 after SIGTERM.
"""

from __future__ import annotations

import click

from .. import __version__
from .machine import dashboard, doctor
from .models import fit, search
from .predictions import predict
from .shown import report, show


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Gradient descent for data that does not fit in memory."""


for command in (fit, search, show, report, predict, dashboard, doctor):
    main.add_command(command)
