"""A worker that is told to stop finishes what it has in hand."""

import asyncio
from typing import Any

import pytest
from arq.connections import ArqRedis
from arq.constants import in_progress_key_prefix
from arq.worker import func

from goalsvc.tasks.queue import deserialize, serialize
from goalsvc.worker import Worker
from tests.world import World

QUEUE = "stopped"


class SlowToClaim(Worker):
    """Waits, before it claims, until it is let."""

    claiming: asyncio.Event
    let: asyncio.Event

    async def _claim(self, claim: Any, most: int) -> tuple[int, float | None]:
        self.claiming.set()
        await self.let.wait()
        return await super()._claim(claim, most)


@pytest.mark.real
async def test_what_is_being_claimed_is_in_hand(busy_world: World) -> None:
    ran: list[str] = []

    async def note(ctx: dict[str, Any]) -> None:
        ran.append(ctx["job_id"])

    pool = ArqRedis(
        busy_world.redis.connection_pool,
        job_serializer=serialize,
        job_deserializer=deserialize,
        default_queue_name=QUEUE,
    )
    worker = SlowToClaim(
        functions=[func(note, name="note", keep_result=0)],
        queue_name=QUEUE,
        redis_pool=pool,
        job_serializer=serialize,
        job_deserializer=deserialize,
        handle_signals=False,
    )
    worker.claiming, worker.let = asyncio.Event(), asyncio.Event()
    await pool.enqueue_job("note", _job_id="one")
    running = asyncio.create_task(worker.async_run())
    await worker.claiming.wait()
    stopping = asyncio.create_task(worker.stop(5.0))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not stopping.done()
    worker.let.set()
    await stopping
    assert ran == ["one"]
    assert await busy_world.redis.exists(in_progress_key_prefix + "one") == 0
    await asyncio.gather(running, return_exceptions=True)
