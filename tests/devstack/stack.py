"""A `goalsvc dev` as the tests see it: a process with two streams, which can be signalled."""

import json
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import IO, Any

from goalsvc.devstack.ports import free_port
from goalsvc.devstack.waiting import holds_within

RUN_STACK = Path(__file__).parent / "run_stack.py"


class Stack:
    """Starts it at once; `ready()` gives the JSON object of its first line."""

    def __init__(
        self,
        directory: Path,
        *words: str,
        port: int | None = None,
        environment: dict[str, str] | None = None,
        terminal: bool = False,
    ) -> None:
        """With `terminal`, its standard error is one end of a pipe, the other of which can be closed."""
        self.directory = directory
        self.port = port or free_port()
        given = {name: value for name, value in os.environ.items() if not name.startswith("GOALSVC_")}
        self._errors = directory.with_name(f"{directory.name}.{uuid.uuid4().hex}.stderr")
        self._terminal = -1
        errors = os.open(self._errors, os.O_WRONLY | os.O_CREAT)
        if terminal:
            os.close(errors)
            self._terminal, errors = os.pipe()
        try:
            self._process = subprocess.Popen(
                [sys.executable, str(RUN_STACK), str(self.port), str(directory), *words],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**given, **(environment or {})},
            )
        finally:
            os.close(errors)

    def close_terminal(self) -> None:
        os.close(self._terminal)

    def ready(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, self.errors()
        content: dict[str, Any] = json.loads(line)
        return content

    def addresses(self) -> dict[str, str]:
        """What it prints for a person once all is ready."""
        told: dict[str, str] = {}
        while "JWT key" not in told:
            name, _, value = self.output.readline().strip().partition("  ")
            told[name] = value.strip()
        return told

    @property
    def output(self) -> IO[str]:
        """Its standard output."""
        assert self._process.stdout is not None
        return self._process.stdout

    def line(self) -> str:
        """The next line of its standard output."""
        return self.output.readline()

    def errors(self) -> str:
        return self._errors.read_text()

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def end(self) -> tuple[int, str]:
        """Waits for its end: the exit status, and what it had still printed on standard output."""
        rest, _ = self._process.communicate(timeout=40)
        return self._process.returncode, rest

    def stop(self) -> tuple[int, str]:
        if self._process.poll() is None:
            self.signal(signal.SIGTERM)
        return self.end()

    def processes(self) -> set[int]:
        """All processes of this stack that still run: itself, and what writes to the logs in its data directory."""
        found = {self._process.pid} if self._process.poll() is None else set()
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and (entry / "fd/1").readlink().is_relative_to(self.directory):
                    found.add(int(entry.name))
            except OSError:
                continue
        return found

    def leaves_nothing(self) -> bool:
        return holds_within(10, lambda: not self.processes())
