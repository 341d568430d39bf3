"""A MongoDB that takes no more writes: its disk is full, or it is locked. Readiness names it, and nothing is lost."""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import count, islice
from pathlib import Path
from typing import Any

import httpx
import pytest
from pymongo import MongoClient

from goalsvc.devstack import private_mongod
from goalsvc.devstack.mongod import mongod_part, mongodb_url
from goalsvc.devstack.ports import free_port
from goalsvc.devstack.private import _running
from goalsvc.devstack.waiting import holds_within

from .only import in_drills
from .processes import Program, Stack, running_stack
from .shows import FundedShow

pytestmark = [pytest.mark.real, in_drills]

NOTICED_SECONDS = 60.0


def readiness(api: Program) -> dict[str, Any]:
    try:
        return dict(httpx.get(f"{api.url}/readyz", trust_env=False, timeout=20).json())
    except httpx.HTTPError:
        return {}


def is_named(stack: Stack) -> bool:
    """Whether readiness names MongoDB, and MongoDB alone."""
    told = readiness(stack.apis[0])
    return told.get("redis") == "ok" and told.get("mongodb", "ok") != "ok"


def finish(stack: Stack, show: FundedShow) -> None:
    """The performer's webhooks are repeated, as Pusher repeats them, and the show is paid."""
    stack.apis[0].wait_until_ready()
    assert show.perform() == [200, 200]
    assert show.is_paid(60), stack.logs()
    report = show.client.get("/v1/reports/audit").json()
    assert report["ok"], report["findings"]


def test_a_locked_mongodb(tmp_path: Path, redis_url: str) -> None:
    with ExitStack() as left:
        server = left.enter_context(private_mongod(tmp_path / "mongod"))
        admin = left.enter_context(MongoClient[dict[str, Any]](server.url))
        stack = left.enter_context(running_stack(tmp_path, server.url, redis_url, RECORDING="off"))
        show = FundedShow(left.enter_context(stack.client()))
        show.fund()
        assert show.begins()
        admin.admin.command({"fsync": 1, "lock": True})
        try:
            assert holds_within(NOTICED_SECONDS, lambda: is_named(stack))
            with suppress(httpx.TimeoutException):
                assert set(show.perform()) == {503}
        finally:
            admin.admin.command("fsyncUnlock")
        finish(stack, show)


@contextmanager
def small_disk(directory: Path, megabytes: int) -> Iterator[Path]:
    directory.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(directory)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=False)


def fill(disk: Path) -> Path:
    """Takes all that is left; the file to remove again."""
    ballast = disk / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(b"x" * 65536):
            pass
    return ballast


def test_a_full_disk(tmp_path: Path, redis_url: str) -> None:
    port = free_port()
    with ExitStack() as left:
        disk = left.enter_context(small_disk(tmp_path / "disk", 400))
        (mongod,) = left.enter_context(_running([mongod_part(disk / "data", port)], tmp_path))
        stack = left.enter_context(running_stack(tmp_path, mongodb_url([port]), redis_url, RECORDING="off"))
        show = FundedShow(left.enter_context(stack.client()))
        show.fund()
        assert show.begins()
        ballast = fill(disk)
        _write_until_it_is_noticed(stack, show)
        ballast.unlink()
        mongod.kill()  # it has ended by itself, or else writes nothing: its supervisor starts it again
        mongod.start()
        mongod.wait_until_ready()
        finish(stack, show)


def _write_until_it_is_noticed(stack: Stack, show: FundedShow) -> None:
    """Deposits fill what MongoDB has laid out in advance; then readiness says so."""
    numbers = count()

    def deposit() -> bool:
        for number in islice(numbers, 50):
            body, headers = {"amount": 1, "metadata": {"note": "x" * 400}}, {"Idempotency-Key": f"fill-{number}"}
            try:
                answer = show.client.post("/v1/wallets/carol/deposits", json=body, headers=headers)
            except httpx.HTTPError:
                break
            if answer.status_code != 201:
                break
        return is_named(stack)

    assert holds_within(NOTICED_SECONDS, deposit, every=0.1)
