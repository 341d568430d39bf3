"""Commands that ask what happened and why: trace, why, audit, listen, api."""

import asyncio
import contextlib
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from goalsvc.cli.options import ApiUrl, AsJson, JsonAnyway, examples, target

app = typer.Typer()


@app.command(epilog=examples("goalsvc trace 68143584d6945d32e732cc21", "goalsvc trace 68143584d6945d32e732cc21 --json"))
def trace(
    goal_id: Annotated[str, typer.Argument(help="Id of the goal.")],
    json_output: Annotated[bool, typer.Option("--json", help="Print it as the API gives it.")] = False,
    api_url: ApiUrl = "",
) -> None:
    """Show what happened to a goal: webhooks, signals, receivers, tasks, down to the last transfer."""
    from goalsvc.commands.screen import open_screen
    from goalsvc.commands.trace import read_trace, tree_of

    found = asyncio.run(read_trace(target(api_url), goal_id))
    if json_output:
        sys.stdout.write(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    else:
        open_screen().print(tree_of(goal_id, found["events"]))


@app.command(epilog=examples("goalsvc why 68143584d6945d32e732cc21"))
def why(
    identity: Annotated[str, typer.Argument(metavar="ID", help="Id of a transfer, or of a goal.")],
    json_output: AsJson = False,
    api_url: ApiUrl = "",
) -> None:
    """Say why a transfer was made, or why a goal is not paid."""
    from goalsvc.commands.why import lines_of, read_why

    answer = asyncio.run(read_why(target(api_url), identity))
    text = json.dumps(answer, indent=2, ensure_ascii=False) if json_output else "\n".join(lines_of(answer))
    sys.stdout.write(text + "\n")


@app.command(epilog=examples("goalsvc show webhooks.jsonl", "goalsvc show webhooks.jsonl --out pictures"))
def show(
    recording: Annotated[Path, typer.Argument(metavar="FILE", help="A recording, as goalsvc record writes it.")],
    out: Annotated[Path | None, typer.Option(help="Where the pictures go, one SVG for each goal.")] = None,
    performer: Annotated[str, typer.Option(help="Whose performance it is; else the first user who joined.")] = "",
    json_output: AsJson = False,
) -> None:
    """Draw the time line of each goal of a recording, without a server."""
    from goalsvc.commands.api import CommandError
    from goalsvc.commands.replay import read_recording
    from goalsvc.commands.show import shown_of, svg_of

    try:
        with recording.open(encoding="utf-8") as lines:
            found = shown_of(read_recording(lines, str(recording)), performer)
    except OSError as error:
        raise CommandError(f"{recording} cannot be read: {error.strerror}") from None
    for shown in found:
        if json_output:
            told = {"goal_id": shown.goal_id, "sentence": shown.sentence}
            sys.stdout.write(json.dumps(told, ensure_ascii=False) + "\n")
        else:
            sys.stdout.write(shown.sentence + "\n")
        if out is not None:
            try:
                out.mkdir(parents=True, exist_ok=True)
                out.joinpath(f"{shown.goal_id}.svg").write_text(svg_of(shown), "utf-8")
            except OSError as error:
                raise CommandError(f"--out: {out} cannot be written to: {error.strerror}") from None


@app.command(epilog=examples("goalsvc audit", "goalsvc audit --seal --json"))
def audit(
    seal: Annotated[bool, typer.Option("--seal", help="Seal the days that have closed, then audit.")] = False,
    json_output: AsJson = False,
    api_url: ApiUrl = "",
) -> None:
    """Audit the books: exit status 1, and the ids of what is wrong, unless all of it is right."""
    from goalsvc.commands.books import audit_books, told

    report = asyncio.run(audit_books(target(api_url), seal=seal))
    sys.stdout.write((json.dumps(report, indent=2, ensure_ascii=False) if json_output else told(report)) + "\n")
    raise typer.Exit(0 if report["ok"] else 1)


@app.command(
    epilog=examples(
        "goalsvc listen --forward-to http://127.0.0.1:3000/hook",
        "goalsvc listen --forward-to http://127.0.0.1:3000/hook --types 'goal.*,escrow.*'",
    )
)
def listen(
    forward_to: Annotated[str, typer.Option(help="Where each event is posted, as in http://127.0.0.1:3000/hook.")],
    types: Annotated[str | None, typer.Option(help="Only these types, as in goal.*,escrow.*.")] = None,
    after: Annotated[str | None, typer.Option(help="A cursor or an event's id; else from now on.")] = None,
    secret: Annotated[str | None, typer.Option(help="Signs the events; else a new one, which is printed.")] = None,
    json_output: AsJson = False,
    api_url: ApiUrl = "",
) -> None:
    """Post each event, signed, to a server on this machine."""
    from goalsvc.commands.listen import listen_to

    listening = listen_to(
        target(api_url), forward_to, types=types, after=after, secret=secret, as_json=json_output, tell=typer.echo
    )
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(listening)


@app.command(
    "api",
    epilog=examples(
        "goalsvc api GET '/v1/goals?active=true'",
        "goalsvc api POST /v1/wallets/bob/deposits '{\"amount\": 100}'",
        "goalsvc api GET '/v1/reports/transfers?from=2026-11-01T00:00:00Z'",
    ),
)
def api_call(
    method: Annotated[str, typer.Argument(help="GET, POST, PUT, PATCH or DELETE.")],
    path: Annotated[str, typer.Argument(help="The path with its query, as in /v1/goals?active=true.")],
    body: Annotated[str, typer.Argument(help="The body as JSON.")] = "",
    key: Annotated[str, typer.Option(help="The Idempotency-Key of a POST; a new one if absent.")] = "",
    _json_output: JsonAnyway = False,
    api_url: ApiUrl = "",
) -> None:
    """Call any operation of the API and print its answer: JSON, or what else it is, such as CSV, as it comes."""
    from goalsvc.commands.call import call

    def write(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(call(target(api_url), method, path, body, key, write))
