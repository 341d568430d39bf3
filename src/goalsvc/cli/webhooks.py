"""Commands about Pusher's webhooks: send, tail, record, replay."""

import asyncio
import contextlib
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, TextIO

import typer

from goalsvc.cli.options import ApiUrl, AsJson, examples, target

app = typer.Typer()


@app.command(
    epilog=examples(
        "goalsvc send member_added --goal 68143584d6945d32e732cc21 --user alice",
        "goalsvc send channel_vacated --goal 68143584d6945d32e732cc21 --at -30s --json",
        "goalsvc send member_added --channel private-user@alice --user alice",
    )
)
def send(
    name: Annotated[str, typer.Argument(help="Pusher's name of the event: member_added, channel_vacated, …")],
    goal: Annotated[str | None, typer.Option(help="Id of the goal whose channel it is about.")] = None,
    user: Annotated[str | None, typer.Option(help="Id of the user who joined or left.")] = None,
    at: Annotated[
        str, typer.Option(help="When: ISO 8601, epoch seconds or milliseconds, or relative as in -30s.")
    ] = "now",
    channel: Annotated[str | None, typer.Option(help="A channel by its name, instead of --goal.")] = None,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print what was sent and what came of it as JSON.")
    ] = False,
    api_url: ApiUrl = "",
) -> None:
    """Sign a webhook as Pusher does, send it, and say what came of it."""
    from goalsvc.commands.send import channel_of
    from goalsvc.commands.send import send as send_event

    sent = asyncio.run(send_event(target(api_url), name, channel=channel_of(goal, channel), user_id=user, at=at))
    told = json.dumps(sent.document(), indent=2, ensure_ascii=False) if json_output else "\n".join(sent.lines())
    sys.stdout.write(f"{told}\n")


@app.command(epilog=examples("goalsvc tail", "goalsvc tail --json"))
def tail(json_output: AsJson = False, api_url: ApiUrl = "") -> None:
    """Print Pusher's webhooks as they come, one line for each event."""
    from goalsvc.commands.webhooks import follow_webhooks, line_of

    async def print_all() -> None:
        async for row in follow_webhooks(target(api_url)):
            typer.echo(json.dumps(row, ensure_ascii=False) if json_output else line_of(row))

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(print_all())


@app.command(epilog=examples("goalsvc record show.jsonl", "goalsvc record -"))
def record(
    file: Annotated[Path, typer.Argument(help="Where they are added, one line each; - for standard output.")],
    json_output: Annotated[bool, typer.Option("--json", help="Tell of each as JSON.")] = False,
    api_url: ApiUrl = "",
) -> None:
    """Write Pusher's webhooks into a file as they come, for `goalsvc replay`."""
    from goalsvc.commands.api import CommandError
    from goalsvc.commands.webhooks import follow_webhooks, line_of, recorded

    async def write_all(to: TextIO) -> None:
        async for row in follow_webhooks(target(api_url)):
            line = recorded(row)
            if line is None:
                continue
            to.write(f"{line}\n")
            to.flush()
            if to is not sys.stdout:
                typer.echo(json.dumps(row, ensure_ascii=False) if json_output else line_of(row))

    try:
        with contextlib.suppress(KeyboardInterrupt):
            if str(file) == "-":
                asyncio.run(write_all(sys.stdout))
            else:
                with file.open("a", encoding="utf-8") as to:
                    asyncio.run(write_all(to))
    except OSError as error:
        raise CommandError(f"{file} cannot be written: {error.strerror}") from None


@app.command(epilog=examples("goalsvc replay show.jsonl", "goalsvc replay show.jsonl --keep-time"))
def replay(
    file: Annotated[Path, typer.Argument(help="Recorded webhooks, one JSON object with a `body` a line; - for stdin.")],
    keep_time: Annotated[
        bool, typer.Option("--keep-time", help="Keep the times; else all are moved so that the last one is now.")
    ] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print each webhook with its answer as JSON.")] = False,
    api_url: ApiUrl = "",
) -> None:
    """Sign recorded webhooks anew, and send them."""
    from goalsvc.commands.api import CommandError
    from goalsvc.commands.replay import Answered, read_recording
    from goalsvc.commands.replay import replay as send_again

    try:
        with sys.stdin if str(file) == "-" else file.open(encoding="utf-8") as lines:
            recording = read_recording(lines, str(file))
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror}") from None

    def tell(answered: Answered) -> None:
        typer.echo(json.dumps(asdict(answered), ensure_ascii=False) if json_output else answered.told)

    asyncio.run(send_again(target(api_url), recording, keep_time=keep_time, tell=tell))
