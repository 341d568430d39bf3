"""The command line: every command of `goalsvc`, and nothing else."""

import asyncio
import json
import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from goalsvc.errors import GoalsvcError
from goalsvc.settings import Settings

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)


def main() -> None:
    """Runs the command line; one of our own errors is one sentence on standard error, and exit status 1."""
    try:
        app()
    except GoalsvcError as error:
        sys.stderr.write(f"goalsvc: {error.message}\n")
        sys.exit(1)


def _settings() -> Settings:
    settings = Settings.from_environment()
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("arq").setLevel(logging.WARNING)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    return settings


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8000,
    workers: Annotated[int, typer.Option(min=1, help="How many API processes.")] = 1,
) -> None:
    """Run the API."""
    import uvicorn

    settings = _settings()
    uvicorn.run(
        "goalsvc.app:create_app",
        factory=True,
        host=host,
        port=port,
        workers=workers,
        access_log=False,
        log_level=settings.log_level.lower(),
        timeout_graceful_shutdown=8,
        server_header=False,
    )


@app.command()
def worker() -> None:
    """Run a worker: what webhooks promise, it does."""
    from goalsvc.worker import run_worker

    settings = _settings()
    try:
        import uvloop

        uvloop.run(run_worker(settings))
    except ImportError:  # uvloop has no build for this platform
        asyncio.run(run_worker(settings))


@app.command()
def dev(
    port: Annotated[int, typer.Option(help="Port of the API.")] = 8000,
    data_dir: Annotated[Path, typer.Option(help="Where the data lives; it survives a restart.")] = Path(".goalsvc"),
    json_output: Annotated[bool, typer.Option("--json", help="Print one line of JSON once all is ready.")] = False,
) -> None:
    """Run everything on this machine, on real parts: MongoDB, Valkey, S3, stand-ins for Pusher and BytePlus, API, worker."""
    from goalsvc.devstack import run_dev

    raise typer.Exit(run_dev(port=port, data_dir=data_dir, json_output=json_output))


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
