"""Define the commands ``dask-gd dashboard`` and ``dask-gd doctor``."""

from __future__ import annotations

import click
import dask

from ..errors import ClusterError
from .doctor import BROKEN, examine
from .options import ANSWER_WITHIN
from .predictions import array_of, group_of
from .terminal import Command, as_json, facts


@click.command(cls=Command)
@click.option("--scheduler", metavar="ADDRESS", help="By default DASK_SCHEDULER_ADDRESS, or Dask's configuration.")
def dashboard(scheduler: str | None) -> None:
    """Print where a running scheduler shows its dashboard, and the page of the fits on it."""
    from distributed import Client

    # Ask the scheduler, without making it that of this process.
    address = scheduler or dask.config.get("scheduler-address", None)
    if address is None:
        raise click.UsageError("Which scheduler? --scheduler ADDRESS, or set DASK_SCHEDULER_ADDRESS.")
    try:
        with Client(address, timeout=ANSWER_WITHIN, set_as_default=False) as client:
            link = client.dashboard_link
    except (OSError, ValueError) as error:
        raise ClusterError(f"No Dask scheduler answers at {address}: {error}") from error
    except KeyError:
        link = None
    # The page `/gd` is beside the status page.
    if not link:
        raise ClusterError(f"The scheduler at {address} has no dashboard; is bokeh installed where it runs?")
    click.echo(f"{link}\n{link.removesuffix('/status')}/gd")


@click.command(cls=Command)
@click.argument("source", required=False)
@click.option("-x", "--x", metavar="NAME", help="The array of SOURCE to read.")
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
def doctor(source: str | None, x: str | None, json_: bool) -> None:
    """Look at this machine and how fast it reads: SOURCE, or a small store made for it.

    The exit status is 0 if dask_gd can work here, 1 if something is broken.
    """
    # Look at the array, or make a store to look at.
    if (source is None) != (x is None):
        raise click.UsageError("SOURCE and --x NAME, the array in it to read, go together.")
    array = None
    if source is not None:
        array = array_of(group_of(source), source, x)
    checks = examine(array)
    # Print the findings, and then the advice.
    if json_:
        click.echo(as_json([check._asdict() for check in checks]))
    else:
        click.echo(facts({check.name: check.found for check in checks}))
        advice = [f"{check.status}: {check.name}: {check.advice}" for check in checks if check.advice]
        advice = advice or ["Nothing to advise."]
        click.echo("\n" + "\n".join(advice))
    if any(check.status == BROKEN for check in checks):
        raise click.exceptions.Exit(1)
