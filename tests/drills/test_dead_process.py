"""Several API processes behind one port: what a killed one counted stays, and what it merely showed goes away with it."""

import os
import re
import signal
from pathlib import Path

import httpx
import pytest

from goalsvc.devstack.ports import free_port
from goalsvc.devstack.waiting import holds_within

from .only import in_drills
from .processes import READY_SECONDS, FakePusher, Program, environment_of

pytestmark = [pytest.mark.real, in_drills, pytest.mark.timeout(700)]

WEBHOOKS = 20


def children_of(pid: int) -> list[int]:
    """The processes that hold the port for that one, oldest first."""
    told = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(each) for each in told if b"spawn_main" in Path(f"/proc/{each}/cmdline").read_bytes()]


def test_a_killed_process_shows_nothing_any_more(tmp_path: Path, mongodb_url: str, redis_url: str) -> None:
    port = free_port()
    environment = environment_of(mongodb_url, redis_url, FakePusher(port=1), RECORDING="off", LOG_FORMAT="json")
    environment["TMPDIR"] = str(tmp_path)
    program = Program(["serve", "--port", str(port), "--workers", "3"], port, environment, tmp_path / "api.log")
    program.start()
    try:
        program.wait_until_ready()
        for _ in range(WEBHOOKS):
            httpx.post(f"{program.url}/notify/pusher", content=b"{}", trust_env=False)
        assert program.process is not None
        parent = program.process.pid
        (directory,) = tmp_path.glob("goalsvc-metrics-*")

        def shown(pid: int) -> list[str]:
            return [file.name for file in directory.glob(f"gauge_live*_{pid}.db")]

        def refused() -> float:
            text = httpx.get(f"{program.url}/metrics", trust_env=False).text
            return sum(
                map(float, re.findall(r'^goalsvc_webhooks_total\{answer="[a-z_]+"\} (\S+)$', text, re.MULTILINE))
            )

        assert holds_within(READY_SECONDS, lambda: len([p for p in children_of(parent) if shown(p)]) == 3)
        assert refused() == WEBHOOKS
        killed = children_of(parent)[0]
        os.kill(killed, signal.SIGKILL)
        # Until its parent has taken note of its end, the system says that it lives.
        assert holds_within(READY_SECONDS, lambda: not Path(f"/proc/{killed}").exists())
        assert refused() == WEBHOOKS, "what it counted stays counted"
        assert shown(killed) == [], "what it showed is gone"
    finally:
        program.stop()
    assert not directory.exists(), "nothing is left behind"
