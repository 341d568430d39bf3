"""Options that many commands have, and where the API is that they speak to."""

import os
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:  # what a command needs is imported by that command: `goalsvc --help` shall not wait for all of it
    from goalsvc.commands.api import Target


ApiUrl = Annotated[str, typer.Option("--api-url", help="Where the API is; else GOALSVC_API_URL.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print it as the API gives it.")]
JsonAnyway = Annotated[bool, typer.Option("--json", help="Changes nothing: what is printed is JSON.")]


def examples(*lines: str) -> str:
    """The end of a command's help: lines that can be typed as they are."""
    return "\n\n".join(["Examples:" if len(lines) > 1 else "Example:", *lines])


def target(api_url: str = "") -> "Target":
    """Where the API is and what it is spoken to with: as in the environment, else as `goalsvc dev` has it."""
    from goalsvc.commands.api import Target
    from goalsvc.devstack.environment import DEFAULTS
    from goalsvc.settings import Settings

    environment = {**os.environ, "GOALSVC_API_URL": api_url} if api_url else os.environ
    return Target.from_environment(
        environment, {"GOALSVC_API_URL": Settings.model_fields["api_url"].default, **DEFAULTS}
    )
