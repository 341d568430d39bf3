"""What is in the queue and is no job of ours is dropped: it is not run, not tried again, and ends no worker."""

import asyncio
from typing import Any

import msgspec
import pytest

from goalsvc.domain.lanes import Lane
from goalsvc.tasks.arq_queue import wake_key
from goalsvc.tasks.arq_worker import REFUSED, UNKNOWN
from goalsvc.tasks.signing import JobSigner, Refusal
from tests.stories.scenes import a_karaoke
from tests.world import API_KEY, World

pytestmark = pytest.mark.real


def body(**changes: Any) -> bytes:
    """A job in arq's format."""
    return msgspec.msgpack.encode({"t": None, "f": "transfer", "a": [], "k": {}, "et": 0} | changes)


async def plant(world: World, content: bytes, job_id: bytes) -> None:
    """Puts a job into the queue, as whoever can write to Redis could."""
    await world.redis.set(b"arq:job:" + job_id, content)
    await world.redis.zadd(Lane.MONEY.queue, {job_id: 0})
    await world.redis.execute_command("LPUSH", wake_key(Lane.MONEY.queue), b"1")  # type: ignore[no-untyped-call]


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


def refused() -> int:
    """How many jobs were dropped so far, whatever the reason."""
    counts: list[float] = [REFUSED.labels(refusal.value)._value.get() for refusal in Refusal]
    return round(sum(counts))


async def test_what_is_no_job_is_dropped_and_counted(busy_world: World, caplog: pytest.LogCaptureFixture) -> None:
    before = refused()
    for number, content in enumerate(NO_JOBS):
        await plant(busy_world, content, job_id=f"planted-{number}".encode())
    await busy_world.settle()
    assert refused() - before == len(NO_JOBS)
    dropped = [record for record in caplog.records if "jobs dropped" in record.getMessage()]
    assert 1 <= len(dropped) <= len(Refusal), "one line per reason, not one per job"
    assert not any(record.exc_info for record in caplog.records)
    await assert_workers_go_on(busy_world)


async def test_nor_is_one_that_a_mistake_of_ours_signed(busy_world: World) -> None:
    before, signer = refused(), JobSigner([API_KEY])
    unreadable = [body(f=["transfer"]), body(f=None), body(k=[]), body(k={1: 2}), body(k=None)]
    for number, content in enumerate(unreadable):
        job_id = f"planted-{number}"
        await plant(busy_world, signer.signed(job_id, content), job_id=job_id.encode())
    await busy_world.settle()
    assert refused() - before == len(unreadable)
    await assert_workers_go_on(busy_world)


async def test_a_job_of_a_later_version_is_left_to_that_version(
    busy_world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Not dropped, so that its worker finds it; logged once, not at each look."""
    for name in ("one", "two"):
        await plant(busy_world, JobSigner([API_KEY]).signed(name, body(f="later_task")), job_id=name.encode())
    later = UNKNOWN._value.get() + 2
    async with asyncio.timeout(10):
        while True:
            await asyncio.sleep(0)
            running = await busy_world.redis.exists("arq:in-progress:one", "arq:in-progress:two")
            if UNKNOWN._value.get() >= later and not running:
                break
    assert await busy_world.redis.zcard(Lane.MONEY.queue) == 2
    assert await busy_world.redis.get("arq:retry:one") == b"0", "a look is not a try"
    assert len([record for record in caplog.records if "has no task later_task" in record.getMessage()]) == 1
    await busy_world.empties_redis()
    await assert_workers_go_on(busy_world)


async def test_an_id_that_is_no_text_ends_no_worker(busy_world: World) -> None:
    await plant(busy_world, body(), job_id=b"\xff\xfe")
    await busy_world.settle()
    await assert_workers_go_on(busy_world)
