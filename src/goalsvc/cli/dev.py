"""`goalsvc dev`: everything on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from goalsvc.cli.options import examples

dev = typer.Typer()

_DATA_DIR = Path(".goalsvc")


@dev.callback(
    invoke_without_command=True,
    epilog=examples("goalsvc dev", "goalsvc dev --port 0 --data-dir /tmp/goalsvc --quiet", "goalsvc dev reset --yes"),
)
def run(
    context: typer.Context,
    port: Annotated[int, typer.Option(help="Port of the API; 0: any that is free.", min=0, max=65535)] = 8000,
    data_dir: Annotated[Path, typer.Option(help="Where the data lives; it survives a restart.")] = _DATA_DIR,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print no line for each thing that happens.")] = False,
    reload: Annotated[
        bool, typer.Option("--reload", help="Restart the API and the worker when goalsvc's source changes.")
    ] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print one line of JSON once all is ready.")] = False,
) -> None:
    """Run everything on this machine, on real parts: MongoDB, Valkey, S3, emulators for Pusher and BytePlus, API, worker."""
    if context.invoked_subcommand is not None:
        return
    from goalsvc.devstack import run_dev

    raise typer.Exit(run_dev(port=port, data_dir=data_dir, json_output=json_output, quiet=quiet, reload=reload))


@dev.command(epilog=examples("goalsvc dev reset", "goalsvc dev reset --data-dir /tmp/goalsvc --yes"))
def reset(
    context: typer.Context,
    data_dir: Annotated[
        Path | None, typer.Option(help="Whose data; else as of `goalsvc dev`.", show_default=False)
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove the data of `goalsvc dev`; not while one runs on them."""
    from goalsvc.devstack.data_directory import DataDirectory

    of_dev = Path(context.parent.params["data_dir"]) if context.parent is not None else _DATA_DIR
    data = DataDirectory((data_dir or of_dev).absolute())

    def ask(size: int) -> None:
        if not yes:
            typer.confirm(f"Remove the data of `goalsvc dev` in {data.path} ({size / 1e6:.0f} MB)?", abort=True)

    left = data.remove(ask)
    typer.echo(f"removed {data.path}" if not left else f"removed all in {data.path} but {', '.join(left)}, not dev's")
