"""A worker that is told to stop finishes what it has in hand."""

import asyncio

import pytest
from arq.constants import in_progress_key_prefix

from goalsvc.clock import SystemClock
from goalsvc.context import WorkerContext
from goalsvc.domain.lanes import Lane
from goalsvc.domain.outcome import Outcome, Reason, Returned
from goalsvc.domain.promises import Job
from goalsvc.models.database import WITH_PROMISES
from goalsvc.tasks.arq_queue import ArqQueue, wake_key
from goalsvc.tasks.arq_worker import LaneWorker
from goalsvc.tasks.runner import Runner
from goalsvc.tasks.signing import JobSigner
from goalsvc.tasks.task import task
from tests.world import World

SIGNER = JobSigner(["secret"])


class SlowToClaim(LaneWorker):
    """Waits, before it claims, until it is let."""

    claiming: asyncio.Event
    let: asyncio.Event

    async def _claim(self, most: int) -> tuple[int, float]:
        self.claiming.set()
        await self.let.wait()
        return await super()._claim(most)


@pytest.mark.real
async def test_what_is_being_claimed_is_in_hand(world: World) -> None:
    ran: list[str] = []

    @task(lane=Lane.ANALYTICS)
    async def note(context: WorkerContext, *, name: str) -> Outcome:
        ran.append(name)
        return Returned(Reason.ALREADY_DONE)

    worker = SlowToClaim(Lane.ANALYTICS, world.redis, Runner((note,), WITH_PROMISES), world.context, SIGNER, at_once=10)
    worker.claiming, worker.let = asyncio.Event(), asyncio.Event()
    queue = ArqQueue(world.redis, (note,), SystemClock(), SIGNER)
    queue.enqueue(Job("one", "note", {"name": "one"}))
    await queue.flush()
    running = asyncio.create_task(worker.run())
    await worker.claiming.wait()
    stopping = asyncio.create_task(worker.stop(5.0))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not stopping.done()
    worker.let.set()
    await stopping
    assert ran == ["one"]
    assert await world.redis.exists(in_progress_key_prefix + "one") == 0
    assert await world.redis.zcard(Lane.ANALYTICS.queue) == 0
    await asyncio.gather(running, return_exceptions=True)


@pytest.mark.real
async def test_a_token_that_comes_while_it_stops_is_left_to_another_worker(world: World) -> None:
    begun, let = asyncio.Event(), asyncio.Event()

    @task(lane=Lane.ANALYTICS)
    async def hold(context: WorkerContext, *, name: str) -> Outcome:
        begun.set()
        await let.wait()
        return Returned(Reason.ALREADY_DONE)

    worker = LaneWorker(Lane.ANALYTICS, world.redis, Runner((hold,), WITH_PROMISES), world.context, SIGNER, at_once=10)
    queue = ArqQueue(world.redis, (hold,), SystemClock(), SIGNER)
    queue.enqueue(Job("one", "hold", {"name": "one"}))
    await queue.flush()
    running = asyncio.create_task(worker.run())
    await begun.wait()
    stopping = asyncio.create_task(worker.stop(5.0))
    wake = wake_key(Lane.ANALYTICS.queue)
    for _ in range(10_000):  # it waits for a token again, or has seen that it stops
        if not await world.redis.llen(wake):  # type: ignore[misc]
            break
    queue.enqueue(Job("two", "hold", {"name": "two"}))
    await queue.flush()
    await asyncio.wait_for(asyncio.shield(running), 5.0)
    assert await world.redis.llen(wake) == 1  # type: ignore[misc]
    assert await world.redis.zcard(Lane.ANALYTICS.queue) == 2
    let.set()
    await stopping
    assert [member.decode() for member in await world.redis.zrange(Lane.ANALYTICS.queue, 0, -1)] == ["two"]
