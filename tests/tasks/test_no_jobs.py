"""What is in the queue and is no job of ours is dropped: it is not run, not tried again, and ends no worker."""

from typing import Any

import msgspec
import pytest

from goalsvc.tasks.queue import wake_key
from goalsvc.tasks.task import MAIN_QUEUE
from tests.stories.scenes import a_karaoke
from tests.world import World

pytestmark = pytest.mark.real


def body(**changes: Any) -> bytes:
    """A job in arq's format."""
    return msgspec.msgpack.encode({"t": None, "f": "transfer", "a": [], "k": {}, "et": 0} | changes)


async def plant(world: World, content: bytes, job_id: bytes) -> None:
    """Puts a job into the queue, as whoever can write to Redis could."""
    await world.redis.set(b"arq:job:" + job_id, content)
    await world.redis.zadd(MAIN_QUEUE, {job_id: 0})
    await world.redis.execute_command("LPUSH", wake_key(MAIN_QUEUE), b"1")  # type: ignore[no-untyped-call]


async def assert_workers_go_on(world: World) -> None:
    goal = await world.given(a_karaoke())
    await world.performs(goal, seconds=30)
    await world.settle()
    assert world.progress(goal) == 30


NO_JOBS = [
    b"",
    b"\xc1",
    b"\x93" * 100_000,
    b"\xdd\xff\xff\xff\xff",  # an array of four billion
    msgspec.msgpack.encode([1]),
    msgspec.msgpack.encode(msgspec.msgpack.Ext(1, b"x")),
    body(f="os.system", a=["true"]),
    body(f="os.system"),
    body(f="__class__"),
    body(f=["transfer"]),
    body(f=None),
    body(f="escrow_out", a=7),
    body(f="escrow_out", a=["x"]),
    body(f="escrow_out", k=[]),
    body(f="escrow_out", k={1: 2}),
    body(f="escrow_out", k={"ctx": {}}),
]


async def test_what_is_no_job_is_dropped(busy_world: World, caplog: pytest.LogCaptureFixture) -> None:
    for number, content in enumerate(NO_JOBS):
        await plant(busy_world, content, job_id=f"planted-{number}".encode())
    await busy_world.settle()
    dropped = [record for record in caplog.records if "is dropped" in record.getMessage()]
    assert len(dropped) == len(NO_JOBS)
    assert not any(record.exc_info for record in caplog.records)
    await assert_workers_go_on(busy_world)


async def test_an_id_that_is_no_text_ends_no_worker(busy_world: World) -> None:
    await plant(busy_world, body(), job_id=b"\xff\xfe")
    await busy_world.settle()
    await assert_workers_go_on(busy_world)
