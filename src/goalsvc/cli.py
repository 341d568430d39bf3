"""The command line: every command of `goalsvc`, and nothing else."""

import asyncio
import contextlib
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from goalsvc import garbage
from goalsvc.domain.lanes import Lane
from goalsvc.errors import GoalsvcError

if TYPE_CHECKING:  # what a command needs is imported by that command: `goalsvc --help` shall not wait for all of it
    from goalsvc.commands.api import Target
    from goalsvc.settings import Settings

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="goalsvc keeps the score and the money of live performances.",
)
dead_letters = typer.Typer(help="Tasks that were tried for the last time: list them, try them again.")
app.add_typer(dead_letters, name="dead-letters")
keys = typer.Typer(help="API keys: create, list, roll and revoke them.", no_args_is_help=True)
app.add_typer(keys, name="keys")
clock = typer.Typer(help="The test clock of `goalsvc dev`: read it, advance it.", no_args_is_help=True)
app.add_typer(clock, name="clock")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line; one of our own errors is one sentence on standard error, and exit status 1."""
    try:
        app(arguments)
    except GoalsvcError as error:
        sys.stderr.write(f"goalsvc: {error.message}\n")
        sys.exit(1)


def _settings() -> "Settings":
    from goalsvc.settings import Settings
    from goalsvc.settings_checks import warnings_of

    settings = Settings.from_environment()
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("arq").setLevel(logging.WARNING)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    for warning in warnings_of(settings):
        logging.getLogger("goalsvc").warning("%s", warning)
    return settings


def _wait_for_services(settings: "Settings") -> None:
    from goalsvc.commands.preflight import wait_for_services

    try:
        wait_for_services(settings, logging.getLogger("goalsvc").warning)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _target() -> "Target":
    """Where the API is and what it is spoken to with: as in the environment, else as `goalsvc dev` has it."""
    from goalsvc.commands.api import Target
    from goalsvc.devstack.environment import DEFAULTS
    from goalsvc.settings import Settings

    return Target.from_environment(
        os.environ, {"GOALSVC_API_URL": Settings.model_fields["api_url"].default, **DEFAULTS}
    )


# -- running it -------------------------------------------------------------------------------------------------------


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8000,
    workers: Annotated[int, typer.Option(min=1, help="How many API processes.")] = 1,
    keep_alive: Annotated[
        int, typer.Option(min=1, help="Seconds an idle connection stays open; longer than the proxy in front keeps it.")
    ] = 75,
    root_path: Annotated[str, typer.Option(help="Path below which a proxy serves the API, as in /goals.")] = "",
    forwarded_allow_ips: Annotated[
        str, typer.Option(help="Addresses, comma-separated, whose X-Forwarded-Proto and X-Forwarded-For are trusted.")
    ] = "127.0.0.1",
) -> None:
    """Run the API."""
    garbage.pause()
    if root_path:
        os.environ["GOALSVC_ROOT_PATH"] = root_path
    if workers > 1:
        from goalsvc.metrics import share_between_processes

        share_between_processes()
    import uvicorn

    settings = _settings()
    _wait_for_services(settings)
    uvicorn.run(
        "goalsvc.app:serving",
        factory=True,
        host=host,
        port=port,
        workers=workers,
        http="goalsvc.api.heads:LimitedHead",
        access_log=False,
        proxy_headers=True,
        forwarded_allow_ips=forwarded_allow_ips,
        timeout_keep_alive=keep_alive,
        log_level=settings.log_level.lower(),
        timeout_graceful_shutdown=8,
        server_header=False,
    )


@app.command()
def worker(
    lane: Annotated[
        list[Lane] | None, typer.Option(help="Run this lane only, in this process; may be given several times.")
    ] = None,
    end_with_stdin: Annotated[bool, typer.Option(hidden=True, help="Stop when standard input closes.")] = False,
) -> None:
    """Run a worker: it does what webhooks promise."""
    garbage.pause()
    from goalsvc.worker import run_worker

    settings = _settings()
    _wait_for_services(settings)
    garbage.resume()
    try:
        import uvloop

        uvloop.run(run_worker(settings, lane or (), ends_with_stdin=end_with_stdin))
    except ImportError:  # uvloop has no build for this platform
        asyncio.run(run_worker(settings, lane or (), ends_with_stdin=end_with_stdin))


@app.command()
def dev(
    port: Annotated[int, typer.Option(help="Port of the API; 0: any that is free.")] = 8000,
    data_dir: Annotated[Path, typer.Option(help="Where the data lives; it survives a restart.")] = Path(".goalsvc"),
    json_output: Annotated[bool, typer.Option("--json", help="Print one line of JSON once all is ready.")] = False,
) -> None:
    """Run everything on this machine, on real parts: MongoDB, Valkey, S3, stand-ins for Pusher and BytePlus, API, worker."""
    from goalsvc.devstack import run_dev

    raise typer.Exit(run_dev(port=port, data_dir=data_dir, json_output=json_output))


@app.command()
def demo(
    keep_dir: Annotated[Path, typer.Option(help="Where the clip is put, and the logs if something went wrong.")] = Path(
        ".goalsvc-demo"
    ),
) -> None:
    """Play a whole show on real parts, from signed webhook to payout and clip, and check every figure."""
    from goalsvc.devstack.demo import run_demo

    raise typer.Exit(run_demo(keep_dir))


# -- trying it out ----------------------------------------------------------------------------------------------------


@app.command()
def send(
    name: Annotated[str, typer.Argument(help="Pusher's name of the event: member_added, channel_vacated, …")],
    goal: Annotated[str | None, typer.Option(help="Id of the goal whose channel it is about.")] = None,
    user: Annotated[str | None, typer.Option(help="Id of the user who joined or left.")] = None,
    at: Annotated[
        str, typer.Option(help="When: ISO 8601, epoch seconds or milliseconds, or relative as in -30s.")
    ] = "now",
    channel: Annotated[str | None, typer.Option(help="A channel by its name, instead of --goal.")] = None,
) -> None:
    """Sign a webhook as Pusher does, and send it."""
    from goalsvc.commands.send import channel_of
    from goalsvc.commands.send import send as send_event

    told = asyncio.run(send_event(_target(), name, channel=channel_of(goal, channel), user_id=user, at=at))
    sys.stdout.write(f"{told}\n")


@app.command()
def trace(
    goal_id: Annotated[str, typer.Argument(help="Id of the goal.")],
    json_output: Annotated[bool, typer.Option("--json", help="Print it as the API gives it.")] = False,
) -> None:
    """Show what happened to a goal: webhooks, signals, receivers, tasks, down to the last transfer."""
    from goalsvc.commands.screen import open_screen
    from goalsvc.commands.trace import read_trace, tree_of

    found = asyncio.run(read_trace(_target(), goal_id))
    if json_output:
        sys.stdout.write(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    else:
        open_screen().print(tree_of(goal_id, found["events"]))


@app.command()
def replay(
    file: Annotated[Path, typer.Argument(help="Recorded webhooks, one JSON object with a `body` a line; - for stdin.")],
    keep_time: Annotated[
        bool, typer.Option("--keep-time", help="Keep the times; else all are moved so that the last one is now.")
    ] = False,
) -> None:
    """Sign recorded webhooks anew, and send them."""
    from goalsvc.commands.api import CommandError
    from goalsvc.commands.replay import read_recording
    from goalsvc.commands.replay import replay as send_again

    try:
        with sys.stdin if str(file) == "-" else file.open(encoding="utf-8") as lines:
            recording = read_recording(lines, str(file))
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror}") from None
    asyncio.run(send_again(_target(), recording, keep_time=keep_time, tell=typer.echo))


@dead_letters.callback(invoke_without_command=True)
def _dead_letters(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        list_dead_letters()


@dead_letters.command("list")
def list_dead_letters(
    redriven: Annotated[bool, typer.Option("--redriven", help="Those that were tried again, instead.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print them as the API gives them.")] = False,
) -> None:
    """List the dead letters."""
    from goalsvc.commands.dead_letters import list_letters, told

    letters = asyncio.run(list_letters(_target(), state="redriven" if redriven else "dead"))
    if json_output:
        sys.stdout.write(json.dumps(letters, indent=2, ensure_ascii=False) + "\n")
        return
    for letter in letters:
        sys.stdout.write(f"{told(letter)}\n")
    if not letters:
        sys.stdout.write("no dead letters\n")


@dead_letters.command("redrive")
def redrive_dead_letters(
    letter_id: Annotated[str | None, typer.Argument(help="Id of the letter.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
) -> None:
    """Try a dead letter again, or all of them. Safe: what was done before is not done twice."""
    from goalsvc.commands.api import CommandError
    from goalsvc.commands.dead_letters import redrive_all, redrive_letter

    if (letter_id is None) != every:
        raise CommandError("say which: the id of a dead letter, or --all")
    if letter_id is not None:
        asyncio.run(redrive_letter(_target(), letter_id))
        sys.stdout.write(f"{letter_id} is tried again\n")
    else:
        sys.stdout.write(f"{asyncio.run(redrive_all(_target(), typer.echo))} dead letters are tried again\n")


@clock.command("now")
def clock_now() -> None:
    """Print the present instant of the test clock."""
    from goalsvc.commands.clock import read_clock

    sys.stdout.write(f"{asyncio.run(read_clock(_target()))['now']}\n")


@clock.command("advance")
def clock_advance(
    duration: Annotated[str, typer.Argument(help="How far: seconds, or units as in 90s, 5m, 1h, 1h30m, 2d.")],
) -> None:
    """Move the time of the API, the workers and the emulators forward."""
    from goalsvc.commands.clock import advance_clock

    sys.stdout.write(f"it is {asyncio.run(advance_clock(_target(), duration))['now']}\n")


# -- keys -------------------------------------------------------------------------------------------------------------

_KeyId = Annotated[str, typer.Argument(help="Id of the key: key_…")]
_AsJson = Annotated[bool, typer.Option("--json", help="Print it as the API gives it.")]


def _print_new_key(created: "dict[str, Any]", json_output: bool) -> None:
    from goalsvc.commands.keys import line_of

    if json_output:
        sys.stdout.write(json.dumps(created, indent=2) + "\n")
    else:
        sys.stdout.write(f"{line_of(created)}\n{created['key']}\n")
        sys.stderr.write("The key is shown this once; keep it safe.\n")


@keys.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="What the key is for; it appears in the audit.")],
    scope: Annotated[
        list[str], typer.Option(help="What it may do: read, read:payload, write, money, operate, admin. Repeatable.")
    ],
    expires_days: Annotated[float | None, typer.Option(help="After how many days it ends by itself.", min=0)] = None,
    json_output: _AsJson = False,
) -> None:
    """Create a key, for example: goalsvc keys create backend --scope read --scope write."""
    from goalsvc.commands.keys import create_key

    _print_new_key(asyncio.run(create_key(_target(), name, scope, expires_days)), json_output)


@keys.command("list")
def list_keys(json_output: _AsJson = False) -> None:
    """List the keys; those of the environment are not among them."""
    from goalsvc.commands.keys import line_of, list_keys

    found = asyncio.run(list_keys(_target()))
    if json_output:
        sys.stdout.write(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
        return
    sys.stdout.write("".join(f"{line_of(key)}\n" for key in found) or "no keys\n")


@keys.command("roll")
def roll_key(
    key_id: _KeyId,
    grace: Annotated[int, typer.Option(help="For how many seconds the old key remains valid.", min=0)] = 86_400,
    json_output: _AsJson = False,
) -> None:
    """Create a key of the same name and scopes in place of this one."""
    from goalsvc.commands.keys import roll_key

    _print_new_key(asyncio.run(roll_key(_target(), key_id, grace)), json_output)


@keys.command("revoke")
def revoke_key(key_id: _KeyId) -> None:
    """Revoke a key, now."""
    from goalsvc.commands.keys import revoke_key

    asyncio.run(revoke_key(_target(), key_id))
    sys.stdout.write(f"{key_id} is revoked\n")


# -- looking at it ----------------------------------------------------------------------------------------------------


@app.command()
def audit(
    seal: Annotated[bool, typer.Option("--seal", help="Seal the days that have closed, then audit.")] = False,
    json_output: _AsJson = False,
) -> None:
    """Audit the books: exit status 1, and the ids of what is wrong, unless all of it is right."""
    from goalsvc.commands.books import audit_books, told

    report = asyncio.run(audit_books(_target(), seal=seal))
    sys.stdout.write((json.dumps(report, indent=2, ensure_ascii=False) if json_output else told(report)) + "\n")
    raise typer.Exit(0 if report["ok"] else 1)


@app.command()
def why(
    identity: Annotated[str, typer.Argument(metavar="ID", help="Id of a transfer, or of a goal.")],
    json_output: _AsJson = False,
) -> None:
    """Say why a transfer was made, or why a goal is not paid, for example: goalsvc why 68143584d6945d32e732cc21."""
    from goalsvc.commands.why import lines_of, read_why

    answer = asyncio.run(read_why(_target(), identity))
    text = json.dumps(answer, indent=2, ensure_ascii=False) if json_output else "\n".join(lines_of(answer))
    sys.stdout.write(text + "\n")


@app.command()
def listen(
    forward_to: Annotated[str, typer.Option(help="Where each event is posted, as in http://127.0.0.1:3000/hook.")],
    types: Annotated[str | None, typer.Option(help="Only these types, as in goal.*,escrow.*.")] = None,
    after: Annotated[str | None, typer.Option(help="A cursor or an event's id; else from now on.")] = None,
    secret: Annotated[str | None, typer.Option(help="Signs the events; else a new one, which is printed.")] = None,
    json_output: _AsJson = False,
) -> None:
    """Post each event, signed, to a server on this machine: goalsvc listen --forward-to http://127.0.0.1:3000/hook."""
    from goalsvc.commands.listen import listen_to

    listening = listen_to(
        _target(), forward_to, types=types, after=after, secret=secret, as_json=json_output, tell=typer.echo
    )
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(listening)


@app.command("api")
def api_call(
    method: Annotated[str, typer.Argument(help="GET, POST, PUT, PATCH or DELETE.")],
    path: Annotated[str, typer.Argument(help="The path with its query, as in /v1/goals?active=true.")],
    body: Annotated[str, typer.Argument(help="The body as JSON.")] = "",
    key: Annotated[str, typer.Option(help="The Idempotency-Key of a POST; a new one if absent.")] = "",
) -> None:
    """Call any operation of the API and print its answer."""
    from goalsvc.commands.call import call

    answer = asyncio.run(call(_target(), method, path, body, key))
    sys.stdout.write(json.dumps(answer, indent=2, ensure_ascii=False) + "\n")


@app.command()
def openapi() -> None:
    """Print the OpenAPI document."""
    from goalsvc.app import create_app

    sys.stdout.write(json.dumps(create_app().openapi(), indent=2, ensure_ascii=False) + "\n")


@app.command()
def doctor() -> None:
    """Say what is missing on this machine, or wrong in the settings."""
    from goalsvc.devstack import check

    findings = check()
    for finding in findings:
        sys.stdout.write(f"{'ok     ' if finding.ok else 'PROBLEM'}  {finding.name}: {finding.message}\n")
    raise typer.Exit(0 if all(finding.ok for finding in findings) else 1)
