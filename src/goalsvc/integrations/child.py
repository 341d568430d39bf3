"""A child process that is kept running: what it does to its own memory, time and life does not touch its parent."""

import asyncio
import contextlib
import logging
import os
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence
from time import monotonic

log = logging.getLogger(__name__)

#: A child that lived longer than this did not fail at its start.
_LIVED_SECONDS = 10.0
_LONGEST_PAUSE_SECONDS = 30.0


class Child:
    """Starts a program, and again whenever it ends, after a pause that grows while it ends soon after its start.

    The child's standard input is a pipe that closes when this process ends, however it ends; the child stops then.
    """

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._name, self._command, self._environment = name, list(command), dict(environment)
        self._process: Process | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._stopping = False

    @property
    def pid(self) -> int | None:
        """The child's process id; None while it does not run."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Starts the child and keeps it running from now on."""
        self._keeping = asyncio.create_task(self._keep(), name=f"keeps {self._name}")

    async def stop(self, limit_seconds: float) -> None:
        """Passes SIGTERM on and waits for the child to end; kills it when that takes longer."""
        self._stopping = True
        process = self._process
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(limit_seconds):
                    await process.wait()
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)

    async def _keep(self) -> None:
        early_ends = 0
        while not self._stopping:
            begun = monotonic()
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *self._command, stdin=PIPE, env={**os.environ, **self._environment}
                )
                ended = f"ended with status {await self._process.wait()}"
            except OSError as error:
                ended = f"could not be started ({error})"
            self._process = None
            if self._stopping:
                return
            early_ends = 0 if monotonic() - begun > _LIVED_SECONDS else early_ends + 1
            pause = 0.0 if early_ends < 2 else min(0.25 * 2.0**early_ends, _LONGEST_PAUSE_SECONDS)
            log.warning("%s %s; starting it again in %.1f s", self._name, ended, pause)
            await asyncio.sleep(pause)
