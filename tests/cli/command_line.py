"""The command line: as a process of its own, or, where that makes no difference, within this one."""

import io
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from unittest.mock import patch

from goalsvc.cli import main

Cli = Callable[..., "Ended"]


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str


def clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("GOALSVC_")}


def run_cli(*words: str, stdin: str = "", **settings: str) -> Ended:
    """Runs a command; `settings` without their prefix."""
    environment = {**clean_environment(), **{f"GOALSVC_{name}": value for name, value in settings.items()}}
    out, err = io.StringIO(), io.StringIO()
    with (
        patch.dict(os.environ, environment, clear=True),
        patch.object(sys, "stdin", io.StringIO(stdin)),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            main(words)
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else 0
        else:
            status = 0
    return Ended(status, out.getvalue(), err.getvalue())


def run_process(*words: str, **settings: str) -> Ended:
    """The same in a process of its own, as a shell starts it."""
    environment = {**clean_environment(), **{f"GOALSVC_{name}": value for name, value in settings.items()}}
    command = [sys.executable, "-m", "goalsvc", *words]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=30, check=False)
    return Ended(done.returncode, done.stdout, done.stderr)


def assert_one_sentence(ended: Ended, *words: str) -> None:
    """Exit status 1, nothing on standard output, and one line that says what is wrong, with these words in it."""
    assert (ended.status, ended.out) == (1, "")
    assert ended.err.startswith("goalsvc: ")
    assert ended.err.count("\n") == 1
    for word in words:
        assert word in ended.err
