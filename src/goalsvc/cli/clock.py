"""`goalsvc clock`: the test clock of `goalsvc dev`."""

import asyncio
import json
import sys
from typing import Annotated

import typer

from goalsvc.cli.options import ApiUrl, AsJson, examples, target

clock = typer.Typer(
    help="The test clock of `goalsvc dev`: read it, advance it.",
    no_args_is_help=True,
    epilog=examples("goalsvc clock advance 1h"),
)


@clock.command("now", epilog=examples("goalsvc clock now"))
def clock_now(json_output: AsJson = False, api_url: ApiUrl = "") -> None:
    """Print the present instant of the test clock."""
    from goalsvc.commands.clock import read_clock

    instant = asyncio.run(read_clock(target(api_url)))
    sys.stdout.write((json.dumps(instant) if json_output else instant["now"]) + "\n")


@clock.command("advance", epilog=examples("goalsvc clock advance 1h", "goalsvc clock advance 90s --json"))
def clock_advance(
    duration: Annotated[str, typer.Argument(help="How far: seconds, or units as in 90s, 5m, 1h, 1h30m, 2d.")],
    json_output: AsJson = False,
    api_url: ApiUrl = "",
) -> None:
    """Move the time of the API, the workers and the emulators forward."""
    from goalsvc.commands.clock import advance_clock

    moved = asyncio.run(advance_clock(target(api_url), duration))
    sys.stdout.write((json.dumps(moved) if json_output else f"it is {moved['now']}") + "\n")
