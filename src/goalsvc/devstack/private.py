"""The private parts by themselves, as context managers: what a test's fixtures use.

```python
@pytest.fixture(scope="session")
def mongod(tmp_path_factory):
    with private_mongod(tmp_path_factory.mktemp("mongod")) as server:
        yield server.url
```

They are synchronous, so that a fixture of any scope can hold them, beside whatever event loop the tests use. Enter them
from the main thread: what they start dies with the thread that started it (see `launch`).
"""

import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from goalsvc.devstack.mongod import initiate, member_command, mongodb_url
from goalsvc.devstack.parts import Part, s3_part, valkey_part
from goalsvc.devstack.ports import HOST, free_port, is_listening
from goalsvc.devstack.process import (
    PartFailedError,
    PartLog,
    bound_to_this_process,
    end_group,
    why_it_ended,
)
from goalsvc.devstack.waiting import holds_within

START_SECONDS = 60.0
STOP_SECONDS = 15.0


class RunningPart:
    """A part that runs; it can be killed and started again on the same port, as a test of crashes wants it."""

    def __init__(self, part: Part, log: PartLog) -> None:
        self._part = part
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process that does the work."""
        if self._process is None:
            raise PartFailedError(f"{self._part.name} is not running")
        return self._process.pid

    def start(self) -> None:
        """Starts it and returns at once."""
        output = self._log.open_for_start()
        try:
            self._process = subprocess.Popen(  # noqa: S603
                bound_to_this_process(self._part.command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(self._part.environment),
                start_new_session=True,
            )
        finally:
            os.close(output)

    def wait_until_ready(self, seconds: float = START_SECONDS) -> None:
        """Waits until it works; raises PartFailedError if it ends before, or is not ready in time."""
        process = self._process
        if process is None:
            raise PartFailedError(f"{self._part.name} is not running")
        holds_within(seconds, lambda: process.poll() is not None or self._part.is_ready(process.pid))
        status = process.poll()
        if status is not None:
            tail = self._log.tail()
            raise PartFailedError(f"{why_it_ended(self._part.name, status, tail)}\n{tail}")
        if not self._part.is_ready(process.pid):
            raise PartFailedError(f"{self._part.name} was not ready within {seconds:.0f} s\n{self._log.tail()}")

    def kill(self) -> None:
        """Ends it as a crash would (SIGKILL), and waits until it is gone."""
        self._end(signal.SIGKILL)

    def ask_to_stop(self) -> None:
        """Sends SIGTERM, if it runs, and returns at once."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)

    def stop(self) -> None:
        """Ends it in good order (SIGTERM), after a while by force, and waits until it is gone."""
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        end_group(process.pid)


@dataclass(frozen=True, slots=True)
class PrivateMongod:
    """A replica set of one or more members on this machine."""

    url: str
    """Names all members and the database `goalsvc`; a client that connects by it finds the primary."""
    members: tuple[RunningPart, ...]
    ports: tuple[int, ...]

    def member_on(self, port: int) -> RunningPart:
        """The member that listens on that port (a client's `primary` tells the port)."""
        return self.members[self.ports.index(port)]


@contextlib.contextmanager
def private_mongod(directory: Path, *, members: int = 1, cache_gb: float = 0.25) -> Iterator[PrivateMongod]:
    """A fresh or resumed MongoDB replica set with its data in `directory`; ready when entered, gone when left.

    With three members the primary may be killed: another takes over after about two seconds. Raises
    MissingProgramError or PartFailedError.
    """
    ports: list[int] = []
    for _ in range(members):
        ports.append(free_port(besides=ports))
    parts = [
        Part(
            f"mongod-{number}",
            member_command(directory / str(number), port, cache_gb),
            lambda _pid, port=port: is_listening(port),  # type: ignore[misc]
        )
        for number, port in enumerate(ports)
    ]
    with _running(parts, directory) as running:
        if not holds_within(START_SECONDS, lambda: initiate(ports)):
            raise PartFailedError(f"the replica set has no primary after {START_SECONDS:.0f} s")
        yield PrivateMongod(mongodb_url(ports), tuple(running), tuple(ports))


@contextlib.contextmanager
def private_valkey(directory: Path | None = None) -> Iterator[str]:
    """A Valkey; gives its URL. Without a directory, its data go to a temporary one."""
    with _directory(directory) as data:
        port = free_port()
        with _running([valkey_part(data, port)], data):
            yield f"redis://{HOST}:{port}/0"


@contextlib.contextmanager
def private_s3(buckets: Sequence[str] = (), directory: Path | None = None) -> Iterator[str]:
    """An S3 endpoint (moto, in memory) with these buckets; gives its URL. Any credentials and region do."""
    with _directory(directory) as logs:
        port = free_port()
        part = s3_part(port, buckets, os.environ)
        if not buckets:
            part = replace(part, is_ready=lambda _pid: is_listening(port))
        with _running([part], logs):
            yield f"http://{HOST}:{port}"


@contextlib.contextmanager
def _running(parts: Sequence[Part], logs: Path) -> Iterator[list[RunningPart]]:
    """Starts the parts side by side and waits for all; stops all on leaving, however it is left."""
    logs.mkdir(parents=True, exist_ok=True)
    running = [RunningPart(part, PartLog(logs / f"{part.name}.log")) for part in parts]
    with contextlib.ExitStack() as stack:
        for part in running:
            part.start()
            stack.callback(part.stop)
        for part in running:
            stack.callback(part.ask_to_stop)  # called first: all are asked before one is waited for
        for part in running:
            part.wait_until_ready()
        yield running


@contextlib.contextmanager
def _directory(given: Path | None) -> Iterator[Path]:
    if given is not None:
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="goalsvc-", ignore_cleanup_errors=True) as made:
        yield Path(made)
