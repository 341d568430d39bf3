"""Starts the parts, keeps them running, and stops them in good order."""

import asyncio
import os
import re
import signal
import time
from asyncio.subprocess import DEVNULL, STDOUT, Process
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from goalsvc.devstack.parts import Part
from goalsvc.devstack.process import (
    PartFailedError,
    PartLog,
    bound_to_this_process,
    end_group,
    why_it_ended,
)

START_SECONDS = 60.0
STOP_SECONDS = 10.0

_RAPID_DEATHS_LIMIT = 10
_RAPID_SECONDS = 5.0
_PROBE_EVERY_SECONDS = 0.02
_LOOK_AT_LOGS_EVERY_SECONDS = 1.0

_WARNING = re.compile(r"\b(WARNING|ERROR|CRITICAL)\b")


class Supervisor:
    """Runs parts for as long as it is not told to stop. Use it once, in one event loop, on the main thread."""

    def __init__(
        self,
        parts: Sequence[Part],
        logs: Path,
        *,
        tell: Callable[[str], None],
        running_changed: Callable[[Mapping[str, int]], None],
        longest_pause_seconds: float = 5.0,
        reloading: Collection[str] = (),
    ) -> None:
        """`tell` takes a line for the user; `running_changed` the process id of every running part, at each change.

        Before a part that keeps dying is started again there is a pause, each twice the last, up to the longest. A part among
        `reloading` is started again by `restart`, and waits for it when it cannot start.
        """
        self._parts = parts
        self._logs = {part.name: PartLog(logs / f"{part.name}.log") for part in parts}
        self._tell = tell
        self._running_changed = running_changed
        self._longest_pause_seconds = longest_pause_seconds
        self._processes: dict[str, Process] = {}
        self._ready = {part.name: asyncio.Event() for part in parts}
        self._restarts = {name: asyncio.Event() for name in reloading}

    @property
    def pids(self) -> dict[str, int]:
        """The process id of each part that runs at this moment."""
        return {name: process.pid for name, process in self._processes.items()}

    async def run(self, stop: asyncio.Event, when_ready: Callable[[], None]) -> None:
        """Starts all parts side by side, calls `when_ready` once all of them work, and keeps them so until `stop` is set.

        On return, and when PartFailedError is raised, none of them runs any more.
        """
        keepers = [asyncio.create_task(self._keep(part), name=part.name) for part in self._parts]
        told_to_stop = asyncio.create_task(stop.wait())
        all_ready = asyncio.create_task(self._all_ready())
        warnings = asyncio.create_task(self._tell_warnings())
        try:
            await asyncio.wait({*keepers, told_to_stop, all_ready}, return_when=asyncio.FIRST_COMPLETED)
            if all_ready.done():
                when_ready()
                await asyncio.wait({*keepers, told_to_stop}, return_when=asyncio.FIRST_COMPLETED)
            for keeper in keepers:
                if keeper.done():
                    keeper.result()  # a keeper only ends by an error
        finally:
            tasks = [*keepers, told_to_stop, all_ready, warnings]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._stop()

    def restart(self) -> None:
        """Ends the reloading parts, so that they are started anew, or starts those that wait for it."""
        for name, asked in self._restarts.items():
            asked.set()
            if name in self._processes:
                _signal(self._processes[name], signal.SIGTERM)

    def kill(self) -> None:
        """Kills what is still running, at a second signal."""
        for process in self._processes.values():
            _signal(process, signal.SIGKILL)

    async def _all_ready(self) -> None:
        for event in self._ready.values():
            await event.wait()

    async def _keep(self, part: Part) -> None:
        """Starts a part, and again whenever it ends. Raises PartFailedError if that is of no use."""
        log, ready = self._logs[part.name], self._ready[part.name]
        been_ready, rapid_deaths = False, 0
        while True:
            for need in sorted(part.needs):
                await self._ready[need].wait()
            if part.name in self._restarts:
                self._restarts[part.name].clear()
            process = await self._start(part)
            started_at = time.monotonic()
            if await self._comes_to_work(part, process):
                ready.set()
                took = time.monotonic() - started_at
                self._tell(f"{part.name} is ready{' again' if been_ready else ''} ({took:.1f} s)")
                been_ready = True
                ready_at = time.monotonic()
            else:
                ready_at = None
            status = await process.wait()
            ready.clear()
            end_group(process.pid)  # what it had started itself
            self._processes.pop(part.name)
            self._running_changed(self.pids)

            sentence = why_it_ended(part.name, status, log.tail())
            if await self._is_to_restart(part, f"{sentence}; the end of {log.path}:\n{log.tail()}", ready_at):
                continue
            if not been_ready:
                raise PartFailedError(f"{sentence}; the end of {log.path}:\n{log.tail()}")
            killed_by_somebody = status == -signal.SIGKILL and ready_at is not None
            lasted = ready_at is not None and time.monotonic() - ready_at > _RAPID_SECONDS
            rapid_deaths = 0 if killed_by_somebody or lasted else rapid_deaths + 1
            if rapid_deaths >= _RAPID_DEATHS_LIMIT:
                raise PartFailedError(
                    f"{sentence}, {rapid_deaths} times in a row: giving up; the end of {log.path}:\n{log.tail()}"
                )
            self._tell(f"{sentence}; starting it again")
            if rapid_deaths:
                await asyncio.sleep(min(0.1 * 2**rapid_deaths, self._longest_pause_seconds))

    async def _is_to_restart(self, part: Part, why: str, ready_at: float | None) -> bool:
        """Whether a part that ended was told to; one that reloads and could not start waits until it is."""
        asked = self._restarts.get(part.name)
        if asked is None or not (asked.is_set() or ready_at is None):
            return False
        if not asked.is_set():
            self._tell(f"{why}\n{part.name} is started again when its source changes")
            await asked.wait()
        return True

    async def _start(self, part: Part) -> Process:
        output = self._logs[part.name].open_for_start()
        try:
            process = await asyncio.create_subprocess_exec(
                *bound_to_this_process(part.command),
                stdin=DEVNULL,
                stdout=output,
                stderr=STDOUT,
                env=dict(part.environment),
                # A Ctrl-C in the terminal is for us alone: the parts are stopped one after another.
                start_new_session=True,
            )
        finally:
            os.close(output)
        self._processes[part.name] = process
        self._running_changed(self.pids)
        return process

    async def _comes_to_work(self, part: Part, process: Process) -> bool:
        """Waits until the part works; False once it has ended before. One that takes too long is killed."""
        deadline = time.monotonic() + START_SECONDS
        while process.returncode is None:
            if await asyncio.to_thread(part.is_ready, process.pid) and process.returncode is None:
                return True
            if time.monotonic() > deadline:
                self._tell(f"{part.name} was not ready within {START_SECONDS:.0f} s")
                _signal(process, signal.SIGKILL)
                break
            await asyncio.sleep(_PROBE_EVERY_SECONDS)
        return False

    async def _stop(self) -> None:
        """First the parts that need others, then those."""
        dependents = {part.name for part in self._parts if part.needs}
        for wave in (dependents, {part.name for part in self._parts} - dependents):
            await asyncio.gather(*(self._end(name) for name in wave if name in self._processes))

    async def _end(self, name: str) -> None:
        process = self._processes[name]
        _signal(process, signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            self._tell(f"{name} did not stop within {STOP_SECONDS:.0f} s and is killed")
            _signal(process, signal.SIGKILL)
            await process.wait()
        end_group(process.pid)
        self._processes.pop(name)
        self._running_changed(self.pids)

    async def _tell_warnings(self) -> None:
        followed = [part.name for part in self._parts if part.tell_warnings]
        while True:
            await asyncio.sleep(_LOOK_AT_LOGS_EVERY_SECONDS)
            for name in followed:
                for line in self._logs[name].new_lines():
                    if _WARNING.search(line):
                        self._tell(f"{name}: {line}")


def _signal(process: Process, how: signal.Signals) -> None:
    try:
        process.send_signal(how)
    except ProcessLookupError:
        return
