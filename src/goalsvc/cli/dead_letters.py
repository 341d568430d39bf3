"""`goalsvc dead-letters`: tasks that were tried for the last time."""

import asyncio
import json
import sys
from typing import Annotated

import typer

from goalsvc.cli.options import ApiUrl, examples, target

dead_letters = typer.Typer(
    help="Tasks that were tried for the last time: list them, try them again.",
    epilog=examples("goalsvc dead-letters list", "goalsvc dead-letters redrive --all"),
)


@dead_letters.callback(invoke_without_command=True)
def _dead_letters(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        list_dead_letters()


@dead_letters.command(
    "list", epilog=examples("goalsvc dead-letters list", "goalsvc dead-letters list --redriven --json")
)
def list_dead_letters(
    redriven: Annotated[bool, typer.Option("--redriven", help="Those that were tried again, instead.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print them as the API gives them.")] = False,
    api_url: ApiUrl = "",
) -> None:
    """List the dead letters."""
    from goalsvc.commands.dead_letters import list_letters, told

    letters = asyncio.run(list_letters(target(api_url), state="redriven" if redriven else "dead"))
    if json_output:
        sys.stdout.write(json.dumps(letters, indent=2, ensure_ascii=False) + "\n")
        return
    for letter in letters:
        sys.stdout.write(f"{told(letter)}\n")
    if not letters:
        sys.stdout.write("no dead letters\n")


@dead_letters.command(
    "redrive",
    epilog=examples(
        "goalsvc dead-letters redrive goals/68143584d6945d32e732cc21/escrow_out", "goalsvc dead-letters redrive --all"
    ),
)
def redrive_dead_letters(
    letter_id: Annotated[str | None, typer.Argument(help="Id of the letter.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print the redrive, or the letter's id, as JSON.")
    ] = False,
    api_url: ApiUrl = "",
) -> None:
    """Try a dead letter again, or all of them. Safe: what was done before is not done twice."""
    from goalsvc.commands.api import CommandError
    from goalsvc.commands.dead_letters import failures_of, progress_of, redrive_all, redrive_letter

    if (letter_id is None) != every:
        raise CommandError("say which: the id of a dead letter, or --all")
    if letter_id is not None:
        asyncio.run(redrive_letter(target(api_url), letter_id))
        told = json.dumps({"redriven": [letter_id]}) if json_output else f"{letter_id} is tried again"
    else:
        redrive = asyncio.run(redrive_all(target(api_url), lambda line: typer.echo(line, err=True)))
        lines = [*failures_of(redrive), progress_of(redrive)]
        told = json.dumps(redrive, ensure_ascii=False) if json_output else "\n".join(lines)
    sys.stdout.write(told + "\n")
