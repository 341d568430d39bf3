"""The supervisor, with parts that are a line of Python each."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from goalsvc.devstack.parts import Part
from goalsvc.devstack.process import PartFailedError, birth_of, why_it_ended
from goalsvc.devstack.supervisor import Supervisor
from goalsvc.devstack.waiting import holds_within


class Told:
    """What the supervisor tells, and a way to wait for it."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._changed = asyncio.Condition()
        self._waiting: set[asyncio.Task[None]] = set()

    def __call__(self, line: str) -> None:
        self.lines.append(line)
        task = asyncio.ensure_future(self._announce())
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def until(self, text: str, times: int = 1) -> None:
        async with asyncio.timeout(10), self._changed:
            await self._changed.wait_for(lambda: sum(text in line for line in self.lines) >= times)

    async def _announce(self) -> None:
        async with self._changed:
            self._changed.notify_all()


def part(name: str, program: str, *needs: str) -> Part:
    """A part that is ready as soon as it runs."""
    return Part(name, (sys.executable, "-c", program), lambda _pid: True, needs=frozenset(needs))


def pid_in(file: Path) -> int:
    return int(file.read_text())


SLEEPS = "import signal; signal.pause()"


class TestSupervisor:
    async def test_gives_up_on_a_part_that_keeps_dying(self, tmp_path: Path) -> None:
        seen_ready = tmp_path / "seen ready"
        program = f"""
import pathlib, time
while not pathlib.Path({str(seen_ready)!r}).exists():
    time.sleep(0.01)
raise SystemExit('no way')
"""

        def tell(line: str) -> None:
            if "hasty is ready" in line:
                seen_ready.touch()

        supervisor = Supervisor(
            [part("hasty", program), part("calm", SLEEPS)],
            tmp_path,
            tell=tell,
            running_changed=lambda _pids: None,
            longest_pause_seconds=0.01,
        )
        with pytest.raises(PartFailedError, match=r"hasty ended with exit status 1, 10 times in a row") as caught:
            await supervisor.run(asyncio.Event(), lambda: None)
        assert "no way" in caught.value.message
        assert supervisor.pids == {}

    async def test_never_gives_up_on_a_part_that_others_kill(self, tmp_path: Path) -> None:
        told, stop = Told(), asyncio.Event()
        supervisor = Supervisor([part("victim", SLEEPS)], tmp_path, tell=told, running_changed=lambda _pids: None)
        running = asyncio.create_task(supervisor.run(stop, lambda: None))
        for times in range(12):
            await told.until("victim is ready", times + 1)
            os.kill(supervisor.pids["victim"], signal.SIGKILL)
        await told.until("victim is ready", 13)
        stop.set()
        await running

    async def test_restarts_what_reloads_and_nothing_else(self, tmp_path: Path) -> None:
        told, stop = Told(), asyncio.Event()
        supervisor = Supervisor(
            [part("code", SLEEPS), part("data", SLEEPS)],
            tmp_path,
            tell=told,
            running_changed=lambda _pids: None,
            reloading=["code"],
        )
        running = asyncio.create_task(supervisor.run(stop, lambda: None))
        for part_name in ("code", "data"):
            await told.until(f"{part_name} is ready")
        for times in range(12):  # more often than a part may die
            before = supervisor.pids
            supervisor.restart()
            await told.until("code is ready again", times + 1)
            assert supervisor.pids["data"] == before["data"]
            assert supervisor.pids["code"] != before["code"]
        assert not any("starting it again" in line for line in told.lines)
        stop.set()
        await running

    async def test_waits_for_a_change_when_what_reloads_cannot_start(self, tmp_path: Path) -> None:
        told, stop = Told(), asyncio.Event()
        source = tmp_path / "source.py"
        source.write_text("raise SystemExit('a slip of the pen')")
        never = Part("code", (sys.executable, str(source)), lambda _pid: "pause" in source.read_text())
        supervisor = Supervisor([never], tmp_path, tell=told, running_changed=lambda _pids: None, reloading=["code"])
        running = asyncio.create_task(supervisor.run(stop, lambda: None))
        await told.until("a slip of the pen")
        await told.until("code is started again when its source changes")
        source.write_text(SLEEPS)
        supervisor.restart()
        await told.until("code is ready")
        stop.set()
        await running

    async def test_stops_what_needs_others_before_them(self, tmp_path: Path) -> None:
        told, stop = Told(), asyncio.Event()
        running: list[set[str]] = []
        supervisor = Supervisor(
            [part("store", SLEEPS), part("user", SLEEPS, "store")],
            tmp_path,
            tell=told,
            running_changed=lambda pids: running.append(set(pids)),
        )
        await supervisor.run(stop, stop.set)
        assert running == [{"store"}, {"store", "user"}, {"store"}, set()]

    async def test_ends_what_a_dead_part_had_started(self, tmp_path: Path) -> None:
        told, stop = Told(), asyncio.Event()
        grandchild = tmp_path / "grandchild"
        program = (
            "import pathlib, signal, subprocess, sys;"
            f"child = subprocess.Popen([sys.executable, '-c', {SLEEPS!r}]);"
            f"path = pathlib.Path({str(grandchild)!r});"
            "path.with_suffix('.new').write_text(str(child.pid));"
            "path.with_suffix('.new').rename(path); signal.pause()"
        )
        parent = Part("parent", (sys.executable, "-c", program), lambda _pid: grandchild.exists())
        supervisor = Supervisor([parent], tmp_path, tell=told, running_changed=lambda _pids: None)
        running = asyncio.create_task(supervisor.run(stop, lambda: None))
        await told.until("parent is ready")
        orphan = pid_in(grandchild)
        assert birth_of(orphan)
        stop.set()
        await running
        assert holds_within(5, lambda: birth_of(orphan) is None)


class TestWhyItEnded:
    @pytest.mark.parametrize(
        ("status", "printed", "sentence"),
        [
            (
                127,
                "mongod: error while loading shared libraries: libcurl.so.4: cannot open shared object file",
                "mongod cannot run on this machine: the system library libcurl.so.4 is missing",
            ),
            (
                1,
                "mongod: /lib/libc.so.6: version `GLIBC_2.34' not found (required by mongod)",
                "mongod cannot run on this machine: its system library is older than GLIBC_2.34",
            ),
            (
                -4,
                "",
                "mongod cannot run on this machine: the processor lacks instructions that it needs (AVX)",
            ),
            (48, "Error: Address already in use", "mongod found its port taken by another program"),
            (-9, "", "mongod was ended by SIGKILL"),
            (62, "anything", "mongod ended with exit status 62"),
        ],
    )
    def test_is_one_sentence(self, status: int, printed: str, sentence: str) -> None:
        assert why_it_ended("mongod", status, printed) == sentence
