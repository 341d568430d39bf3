"""What the demo plays on: a `goalsvc dev` of its own, as a process, and a livestream. Nothing of either is left behind."""

import asyncio
import json
import shutil
import signal
import subprocess
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from goalsvc.commands.api import Target
from goalsvc.devstack.environment import DEFAULTS, quarantine_bucket
from goalsvc.devstack.livestream import Livestream
from goalsvc.devstack.process import bound_to_this_process
from goalsvc.errors import GoalsvcError

START_SECONDS = 90.0
STOP_SECONDS = 30.0

#: What of the caller's settings the demo heeds. All else is the demo's own: it must never touch a database that is in use.
_HEEDED = ("GOALSVC_LIVESTREAM_CLIP_GOAL_DURATION", "GOALSVC_DEV_MONGOD_CACHE_GB", "GOALSVC_LOG_LEVEL")


class StageError(GoalsvcError):
    """The demo cannot be played on this machine; the message says why."""

    code = "stage"


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the parts are."""

    api: Target
    mongodb_url: str
    s3_endpoint_url: str
    bucket: str
    pusher_url: str
    byteplus_url: str


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything that runs."""

    addresses: Addresses
    stream: Livestream


class Parts:
    """The `goalsvc dev` of the demo. It dies with this process, whatever kills that one (on Linux)."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._errors = directory / "dev.log"
        self._process: Process | None = None

    async def start(self, environment: Mapping[str, str]) -> None:
        """Starts it and returns at once. Call it on the main thread."""
        words = ["dev", "--json", "--port", "0", "--data-dir", str(self._directory / "data")]
        with self._errors.open("wb") as errors:
            self._process = await asyncio.create_subprocess_exec(
                *bound_to_this_process([sys.executable, "-m", "goalsvc", *words]),
                stdin=DEVNULL,
                stdout=PIPE,
                stderr=errors,
                env=dict(environment),
                start_new_session=True,  # a Ctrl-C is for us, and we stop it in good order
            )

    async def ready(self) -> Mapping[str, str]:
        """What it says once all of it works. Raises StageError if it ends before, or does not come to work."""
        process = self._process
        assert process is not None and process.stdout is not None  # noqa: S101, PT018
        try:
            async with asyncio.timeout(START_SECONDS):
                line = await process.stdout.readline()
        except TimeoutError:
            raise StageError(f"`goalsvc dev` was not ready within {START_SECONDS:.0f} s\n{self._tail()}") from None
        if not line:
            await process.wait()
            raise StageError(f"`goalsvc dev` cannot run here:\n{self._tail()}")
        said: dict[str, str] = json.loads(line)
        return said

    async def stop(self) -> int | None:
        """Stops it in good order, after a while by force; its exit status."""
        process = self._process
        if process is None:
            return None
        self.ask_to_stop()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
        return process.returncode

    def ask_to_stop(self) -> None:
        """Sends SIGTERM, if it runs; a second one makes it hurry."""
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)

    def keep_logs(self, directory: Path) -> None:
        """Copies the logs of all parts there."""
        with suppress(OSError):
            shutil.copytree(self._directory / "data" / "logs", directory, dirs_exist_ok=True)
            shutil.copy(self._errors, directory)

    def _tail(self) -> str:
        lines = self._errors.read_text(errors="replace").splitlines()
        return "\n".join(lines[-12:])


@asynccontextmanager
async def open_parts() -> AsyncIterator[Parts]:
    """A place for the parts; on leaving they are stopped and all their data is deleted."""
    with tempfile.TemporaryDirectory(prefix="goalsvc-demo-", ignore_cleanup_errors=True) as name:
        parts = Parts(Path(name))
        try:
            yield parts
        finally:
            await parts.stop()


@asynccontextmanager
async def open_stage(parts: Parts, given: Mapping[str, str], past_seconds: int) -> AsyncIterator[Stage]:
    """Starts the parts and, meanwhile, renders a livestream that began so long ago and goes on.

    Raises StageError and what Livestream.open raises.
    """
    environment = _environment(given)
    await parts.start(environment)
    try:
        async with Livestream.open(past_seconds=past_seconds, live_seconds=90) as stream:
            yield Stage(_addresses(await parts.ready(), environment), stream)
    except subprocess.CalledProcessError as error:
        told = (error.stderr or b"").decode(errors="replace").strip().splitlines()
        raise StageError(f"ffmpeg cannot render the livestream: {told[-1] if told else error}") from None


def _environment(given: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in given.items() if not name.startswith("GOALSVC_") or name in _HEEDED}


def _addresses(said: Mapping[str, str], environment: Mapping[str, str]) -> Addresses:
    return Addresses(
        api=Target.from_environment({}, {"GOALSVC_API_URL": said["api_url"], **DEFAULTS}),
        mongodb_url=said["mongodb_url"],
        s3_endpoint_url=said["s3_endpoint_url"],
        bucket=quarantine_bucket(environment),
        pusher_url=said["pusher_url"],
        byteplus_url=said["byteplus_url"],
    )
