"""The command line: every command of `goalsvc`, and nothing else."""

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from goalsvc import __version__
from goalsvc.cli import clock, dead_letters, dev, keys, looking, running, webhooks
from goalsvc.cli.options import examples
from goalsvc.errors import GoalsvcError

app = typer.Typer(
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    help="goalsvc keeps the score and the money of live performances.",
    epilog=examples("goalsvc demo", "goalsvc dev", "goalsvc send --help"),
)
for _part in (running.app, webhooks.app, looking.app):
    app.add_typer(_part)
app.add_typer(dev.dev, name="dev")
app.add_typer(dead_letters.dead_letters, name="dead-letters")
app.add_typer(keys.keys, name="keys")
app.add_typer(clock.clock, name="clock")


def _print_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"goalsvc {__version__}\n")
        raise typer.Exit


@app.callback()
def _goalsvc(
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    pass


def _check_text(words: Sequence[str]) -> None:
    """Raises GoalsvcError for a word of the command line whose bytes are not UTF-8: it could be neither sent nor printed."""
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError:
            raise GoalsvcError(f"{word!r}: must be text in UTF-8") from None


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line; one of our own errors is one sentence on standard error, and exit status 1."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        _check_text(words)
        app(words)
    except GoalsvcError as error:
        sys.stderr.write(f"goalsvc: {error.message}\n")
        sys.exit(1)
