"""`goalsvc clock`: the test clock of `goalsvc dev`."""

import asyncio
import sys
from typing import Annotated

import typer

from goalsvc.cli.options import ApiUrl, target

clock = typer.Typer(help="The test clock of `goalsvc dev`: read it, advance it.", no_args_is_help=True)


@clock.command("now")
def clock_now(api_url: ApiUrl = "") -> None:
    """Print the present instant of the test clock."""
    from goalsvc.commands.clock import read_clock

    sys.stdout.write(f"{asyncio.run(read_clock(target(api_url)))['now']}\n")


@clock.command("advance")
def clock_advance(
    duration: Annotated[str, typer.Argument(help="How far: seconds, or units as in 90s, 5m, 1h, 1h30m, 2d.")],
    api_url: ApiUrl = "",
) -> None:
    """Move the time of the API, the workers and the emulators forward."""
    from goalsvc.commands.clock import advance_clock

    sys.stdout.write(f"it is {asyncio.run(advance_clock(target(api_url), duration))['now']}\n")
