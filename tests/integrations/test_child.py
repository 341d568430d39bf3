"""A child process that is kept running."""

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

import pytest

from goalsvc.integrations.child import Child
from tests.support.waiting import comes_to_hold

#: Notes its process id and its end, and ends by SIGTERM or when its standard input closes.
PROGRAM = """
import os, signal, sys
directory = sys.argv[1]
def end(*_):
    open(f"{directory}/ended-{os.getpid()}", "w").close()
    os._exit(0)
signal.signal(signal.SIGTERM, end)
open(f"{directory}/begun-{os.getpid()}", "w").close()
sys.stdin.read()
end()
"""

#: Does not end by SIGTERM.
DEAF = """
import os, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(f"{sys.argv[1]}/begun-{os.getpid()}", "w").close()
signal.pause()
"""


def noted(directory: Path, what: str) -> set[int]:
    return {int(path.name.partition("-")[2]) for path in directory.glob(f"{what}-*")}


def child_of(directory: Path) -> Child:
    return Child("a child", [sys.executable, "-c", PROGRAM, str(directory)], {})


async def test_it_is_started_again_when_it_is_killed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    child = child_of(tmp_path)
    child.start()
    assert await comes_to_hold(lambda: len(noted(tmp_path, "begun")) == 1, 20, every=0.01)
    (first,) = noted(tmp_path, "begun")
    assert child.pid == first
    os.kill(first, signal.SIGKILL)
    assert await comes_to_hold(lambda: len(noted(tmp_path, "begun")) == 2, 20, every=0.01)
    assert [r.levelno for r in caplog.records if "starting it again" in r.getMessage()] == [logging.WARNING]
    await child.stop(5.0)
    assert noted(tmp_path, "ended") == noted(tmp_path, "begun") - {first}


async def test_sigterm_is_passed_on(tmp_path: Path) -> None:
    child = child_of(tmp_path)
    child.start()
    assert await comes_to_hold(lambda: len(noted(tmp_path, "begun")) == 1, 20, every=0.01)
    await child.stop(5.0)
    assert noted(tmp_path, "ended") == noted(tmp_path, "begun")
    assert child.pid is None


async def test_one_that_does_not_stop_is_killed(tmp_path: Path) -> None:
    child = Child("deaf", [sys.executable, "-c", DEAF, str(tmp_path)], {})
    child.start()
    assert await comes_to_hold(lambda: len(noted(tmp_path, "begun")) == 1, 20, every=0.01)
    (pid,) = noted(tmp_path, "begun")
    await child.stop(0.1)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_it_ends_with_its_parent_however_that_ends(tmp_path: Path) -> None:
    parent = f"""
import asyncio, sys
from goalsvc.integrations.child import Child
from tests.support.waiting import comes_to_hold
async def main():
    Child("c", [sys.executable, "-c", {PROGRAM!r}, {str(tmp_path)!r}], {{}}).start()
    await asyncio.sleep(60)
asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", parent)
    assert await comes_to_hold(lambda: len(noted(tmp_path, "begun")) == 1, 20, every=0.01)
    process.kill()
    await process.wait()
    assert await comes_to_hold(lambda: len(noted(tmp_path, "ended")) == 1, 20, every=0.01)


async def test_one_that_ends_at_once_is_not_started_all_the_time(tmp_path: Path) -> None:
    child = Child(
        "hasty",
        [sys.executable, "-c", f"open({str(tmp_path)!r} + '/begun-' + str(__import__('os').getpid()), 'w')"],
        {},
    )
    child.start()
    assert await comes_to_hold(lambda: len(noted(tmp_path, "begun")) >= 3, 20, every=0.01)
    begun = asyncio.get_running_loop().time()
    assert await comes_to_hold(lambda: len(noted(tmp_path, "begun")) >= 4, 20, every=0.01)
    assert asyncio.get_running_loop().time() - begun > 0.5, "it rests longer each time"
    await child.stop(5.0)


async def test_one_that_cannot_be_started_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    child = Child("missing", ["/nonexistent/program"], {})
    child.start()
    assert await comes_to_hold(
        lambda: any("could not be started" in record.getMessage() for record in caplog.records), 20, every=0.01
    )
    await child.stop(1.0)
