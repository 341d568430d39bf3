"""Where commands print: a terminal as it is, and plain text wide enough not to be broken anywhere else."""

import sys
from typing import TextIO

from rich.console import Console

#: Nothing is broken into lines where no terminal says how long they may be.
_ENDLESS = 400


def open_screen(stream: TextIO | None = None) -> Console:
    """A console on standard output (or `stream`): colours on a terminal only, and no character that it cannot show."""
    stream = sys.stdout if stream is None else stream
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="replace")
    console = Console(file=stream, highlight=False)
    return console if console.is_terminal else Console(file=stream, highlight=False, width=_ENDLESS)
