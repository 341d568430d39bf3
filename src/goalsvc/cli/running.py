"""Commands that run goalsvc, or look at this machine."""

import asyncio
import json
import logging
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from goalsvc import garbage
from goalsvc.cli.options import JsonAnyway, examples
from goalsvc.domain.lanes import Lane

if TYPE_CHECKING:
    from goalsvc.settings import Settings


app = typer.Typer()


def _settings() -> "Settings":
    from goalsvc import logs
    from goalsvc.settings import Settings
    from goalsvc.settings_checks import unknown_in, warnings_of

    settings = Settings.from_environment()
    logs.configure(settings)
    for warning in warnings_of(settings):
        logging.getLogger("goalsvc").warning("%s", warning)
    for name in unknown_in(os.environ, Settings.model_fields):
        logging.getLogger("goalsvc").warning("%s: is not a setting, so without effect", name)
    return settings


def _wait_for_services(settings: "Settings") -> None:
    from goalsvc.commands.preflight import wait_for_services

    try:
        wait_for_services(settings, logging.getLogger("goalsvc").warning)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _counting_together(processes: int) -> AbstractContextManager[None]:
    """Lets several processes show the sums of their metrics; what killed ones have left on the disk is removed first."""
    from goalsvc.scratch import remove_abandoned

    remove_abandoned()
    if processes == 1:
        return nullcontext()
    from goalsvc.metrics import shared_between_processes

    return shared_between_processes()


@app.command(epilog=examples("goalsvc serve", "goalsvc serve --host 0.0.0.0 --workers 2 --root-path /goals"))
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0: any that is free.", min=0, max=65535)] = 8000,
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
    with _counting_together(workers):
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
            log_config=None,  # its loggers use our handler
            log_level=settings.log_level.lower(),
            timeout_graceful_shutdown=8,
            server_header=False,
        )


@app.command(epilog=examples("goalsvc worker", "goalsvc worker --lane money --lane notices"))
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


@app.command(epilog=examples("goalsvc migrate", "goalsvc migrate --json"))
def migrate(
    json_output: Annotated[bool, typer.Option("--json", help="Print the names of the new indexes as JSON.")] = False,
) -> None:
    """Make the indexes that are missing, once for all processes; safe while they run, and to repeat."""
    from goalsvc.commands.migrate import run_migrate

    run_migrate(_settings(), as_json=json_output)


@app.command(epilog=examples("goalsvc demo", "goalsvc demo --stay"))
def demo(
    keep_dir: Annotated[Path, typer.Option(help="Where the clip is put, and the logs if something went wrong.")] = Path(
        ".goalsvc-demo"
    ),
    stay: Annotated[bool, typer.Option("--stay", help="Go on at the end, for the console, until Ctrl-C.")] = False,
) -> None:
    """Play a whole show on real parts, from signed webhook to payout and clip, and check every figure."""
    from goalsvc.devstack.demo import run_demo

    raise typer.Exit(run_demo(keep_dir, stay=stay))


@app.command(epilog=examples("goalsvc doctor", "goalsvc doctor --json"))
def doctor(json_output: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False) -> None:
    """Say what is missing on this machine, or wrong in the settings."""
    from goalsvc.devstack import check

    findings = check()
    if json_output:
        sys.stdout.write(json.dumps([asdict(finding) for finding in findings], indent=2, ensure_ascii=False) + "\n")
    for finding in findings if not json_output else ():
        sys.stdout.write(f"{'ok     ' if finding.ok else 'PROBLEM'}  {finding.name}: {finding.message}\n")
    raise typer.Exit(0 if all(finding.ok for finding in findings) else 1)


@app.command(epilog=examples("goalsvc openapi", "goalsvc openapi --postman"))
def openapi(
    postman: Annotated[bool, typer.Option("--postman", help="As a Postman collection (v2.1), to be imported.")] = False,
    _json_output: JsonAnyway = False,
) -> None:
    """Print the OpenAPI document."""
    from goalsvc.app import create_app

    document = create_app().openapi()
    if postman:
        from goalsvc.api.postman import collection_of

        document = collection_of(document)
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


@app.command(epilog=examples("goalsvc asyncapi"))
def asyncapi(_json_output: JsonAnyway = False) -> None:
    """Print the AsyncAPI document: the notices that Pusher carries, and the events for the platform's backend."""
    from goalsvc.api.asyncapi import asyncapi_document

    sys.stdout.write(json.dumps(asyncapi_document(), indent=2, ensure_ascii=False) + "\n")
