"""How `goalsvc dev` speaks to its user: progress, the addresses, and a line for each thing that happens."""

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TextIO

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from goalsvc.devstack.environment import Addresses
from goalsvc.devstack.following import Line

_IN_THE_JSON = ("api", "worker", "mongod", "valkey", "s3")
_COLOURS = {
    "webhook": "cyan",
    "call": "green",
    "notice": "blue",
    "delivery": "magenta",
    "recording": "yellow",
    "clip": "yellow",
}
_OF_OUTCOME = {"failed": "bold red", "returned": "yellow"}


class _Screen(Console):
    def on_broken_pipe(self) -> None:
        """Lets the error through, where rich would end the process at once and leave the parts behind."""
        raise BrokenPipeError


class Voice:
    """Speaks to the user; a closed terminal is not a reason to fail."""

    def __init__(self, json_output: bool) -> None:
        self._json_output = json_output
        self._progress = _Screen(stderr=True, highlight=False, soft_wrap=True)

    def tell(self, line: str) -> None:
        """A line of progress, on standard error."""
        self._say(sys.stderr, lambda: self._progress.print(f"[dim]dev:[/dim] {escape(line)}"))

    def show(self, line: Line, console_url: str) -> None:
        """One thing that happened, on standard output; on a terminal the goal's id leads to its page of the console."""
        goal = Text(line.goal_id or "-", style=f"link {console_url}/goals/{line.goal_id}" if line.goal_id else "dim")
        text = Text.assemble(
            (f"{line.at:%H:%M:%S}  ", "dim"),
            (f"{line.kind:<10}", _COLOURS.get(line.kind, "bold")),
            f"{line.name:<28} ",
            goal,
            " " * (26 - len(goal)),
            (line.told, _OF_OUTCOME.get(line.outcome, "")),
        )
        self._say(sys.stdout, lambda: _Screen(highlight=False, soft_wrap=True).print(text))

    def complain(self, message: str) -> None:
        """What went wrong, on standard error: one sentence, then perhaps the end of a log."""
        self._say(
            sys.stderr,
            lambda: self._progress.print(f"[bold red]goalsvc dev:[/bold red] {escape(message)}"),
        )

    def announce(
        self,
        addresses: Addresses,
        pids: Mapping[str, int],
        environment: Mapping[str, str],
        given: Mapping[str, str],
        seconds: float,
    ) -> None:
        """All is ready."""
        self.tell(f"the console is at {addresses.api_url}/console")
        self.tell(f"ready after {seconds:.1f} s; Ctrl-C stops everything")
        if self._json_output:
            numbers: dict[str, int | list[int]] = {name: pids.get(name, []) for name in _IN_THE_JSON}
            line = json.dumps({**asdict(addresses), "pids": numbers})
            self._say(sys.stdout, lambda: print(line, flush=True))
        else:
            overview = _overview(addresses, environment, given)
            self._say(sys.stdout, lambda: _Screen(soft_wrap=True).print(overview))

    @staticmethod
    def _say(stream: TextIO, speak: Callable[[], None]) -> None:
        try:
            speak()
        except OSError:
            # Python flushes its standard streams once more at its end: let that go somewhere.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


def _overview(addresses: Addresses, environment: Mapping[str, str], given: Mapping[str, str]) -> Table:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    rows = {
        "API": addresses.api_url,
        "docs": f"{addresses.api_url}/docs",
        "console": f"{addresses.api_url}/console",
        "examples": f"{addresses.api_url}/examples",
        "MongoDB": addresses.mongodb_url,
        "Redis": addresses.redis_url,
        "S3": addresses.s3_endpoint_url,
        "Pusher": addresses.pusher_url,
        "BytePlus": addresses.byteplus_url,
    }
    keys = {
        "API key": "GOALSVC_API_KEY",
        "Pusher app id": "GOALSVC_PUSHER_APP_ID",
        "Pusher key": "GOALSVC_PUSHER_KEY",
        "Pusher secret": "GOALSVC_PUSHER_SECRET",
        "JWT key": "GOALSVC_JWT_KEY",
    }
    # Only what is public is shown: a secret of the user's own does not belong on a screen.
    rows |= {
        name: f"as in {variable}" if given.get(variable) else environment[variable] for name, variable in keys.items()
    }
    for name, value in rows.items():
        table.add_row(f"[bold]{name}[/bold]", Text(value, overflow="fold"))
    return table
