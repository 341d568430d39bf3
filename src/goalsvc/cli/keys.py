"""`goalsvc keys`: API keys."""

import asyncio
import json
import sys
from typing import Annotated, Any

import typer

from goalsvc.cli.options import ApiUrl, AsJson, examples, target

keys = typer.Typer(
    help="API keys: create, list, roll and revoke them.", no_args_is_help=True, epilog=examples("goalsvc keys list")
)

_KeyId = Annotated[str, typer.Argument(help="Id of the key: key_…")]


def _print_new_key(created: "dict[str, Any]", json_output: bool) -> None:
    from goalsvc.commands.keys import line_of

    if json_output:
        sys.stdout.write(json.dumps(created, indent=2) + "\n")
    else:
        sys.stdout.write(f"{line_of(created)}\n{created['key']}\n")
        sys.stderr.write("The key is shown this once; keep it safe.\n")


@keys.command(
    "create",
    epilog=examples(
        "goalsvc keys create backend --scope read --scope write",
        "goalsvc keys create audit --scope read --expires-days 30",
    ),
)
def create_key(
    name: Annotated[str, typer.Argument(help="What the key is for; it appears in the audit.")],
    scope: Annotated[
        list[str], typer.Option(help="What it may do: read, read:payload, write, money, operate, admin. Repeatable.")
    ],
    expires_days: Annotated[float | None, typer.Option(help="After how many days it ends by itself.", min=0)] = None,
    json_output: AsJson = False,
    api_url: ApiUrl = "",
) -> None:
    """Create a key."""
    from goalsvc.commands.keys import create_key

    _print_new_key(asyncio.run(create_key(target(api_url), name, scope, expires_days)), json_output)


@keys.command("list", epilog=examples("goalsvc keys list", "goalsvc keys list --json"))
def list_keys(json_output: AsJson = False, api_url: ApiUrl = "") -> None:
    """List the keys; those of the environment are not among them."""
    from goalsvc.commands.keys import line_of, list_keys

    found = asyncio.run(list_keys(target(api_url)))
    if json_output:
        sys.stdout.write(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
        return
    sys.stdout.write("".join(f"{line_of(key)}\n" for key in found) or "no keys\n")


@keys.command("roll", epilog=examples("goalsvc keys roll key_2Jx7 --grace 3600"))
def roll_key(
    key_id: _KeyId,
    grace: Annotated[int, typer.Option(help="For how many seconds the old key remains valid.", min=0)] = 86_400,
    json_output: AsJson = False,
    api_url: ApiUrl = "",
) -> None:
    """Create a key of the same name and scopes in place of this one."""
    from goalsvc.commands.keys import roll_key

    _print_new_key(asyncio.run(roll_key(target(api_url), key_id, grace)), json_output)


@keys.command("revoke", epilog=examples("goalsvc keys revoke key_2Jx7"))
def revoke_key(key_id: _KeyId, json_output: AsJson = False, api_url: ApiUrl = "") -> None:
    """Revoke a key, now."""
    from goalsvc.commands.keys import revoke_key

    revoked = asyncio.run(revoke_key(target(api_url), key_id))
    sys.stdout.write((json.dumps(revoked, ensure_ascii=False) if json_output else f"{key_id} is revoked") + "\n")
