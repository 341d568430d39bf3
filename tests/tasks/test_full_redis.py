"""A Redis that is full (`noeviction`): what is in it is worked off, and what it refuses is found by the sweep."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError

from goalsvc.app import create_app
from goalsvc.clock import SystemClock
from goalsvc.context import WorkerContext
from goalsvc.devstack import private_valkey
from goalsvc.domain.lanes import Lane
from goalsvc.domain.outcome import Outcome, Reason, Returned
from goalsvc.domain.promises import Job
from goalsvc.errors import NotYetError
from goalsvc.integrations.leases import Leases
from goalsvc.integrations.redis_health import evicts, is_full
from goalsvc.models.database import WITH_PROMISES
from goalsvc.tasks.arq_queue import ArqQueue
from goalsvc.tasks.arq_worker import LaneWorker
from goalsvc.tasks.runner import Runner
from goalsvc.tasks.signing import JobSigner
from goalsvc.tasks.task import task
from goalsvc.wiring import open_worker_context
from tests.receivers.fakes import NOW
from tests.world import settings_of

pytestmark = pytest.mark.real

SIGNER = JobSigner(["secret"])
JOBS = 1000


@pytest.fixture(scope="module")
def own_redis_url() -> Iterator[str]:
    with private_valkey() as url:
        yield url


@pytest.fixture
async def redis(own_redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(own_redis_url) as opened:
        await opened.config_set("maxmemory", 0)
        await opened.flushall()
        yield opened
        await opened.config_set("maxmemory", 0)


async def fill(redis: Redis) -> None:
    """From now on each write that needs memory is refused."""
    await redis.config_set("maxmemory-policy", "noeviction")
    await redis.config_set("maxmemory", 1)
    with pytest.raises(OutOfMemoryError):
        await redis.set("more", "x")


async def test_it_is_worked_off(redis: Redis, context: WorkerContext) -> None:
    ran: list[str] = []
    waited: set[str] = set()

    @task()
    async def note(context: WorkerContext, *, name: str) -> Outcome:
        if name not in waited and len(waited) < 10:
            waited.add(name)
            raise NotYetError("once more", 0.01)  # to be run again, which is a write, too
        ran.append(name)
        return Returned(Reason.ALREADY_DONE)

    queue = ArqQueue(redis, (note,), SystemClock(), SIGNER)
    for number in range(JOBS):
        queue.enqueue(Job(f"job-{number}", "note", {"name": str(number)}))
    await queue.flush()
    await fill(redis)
    worker = LaneWorker(Lane.MONEY, redis, Runner((note,), WITH_PROMISES), context, SIGNER, at_once=100)
    running = asyncio.create_task(worker.run())
    async with asyncio.timeout(30):
        while True:
            await asyncio.sleep(0.02)
            if not await redis.zcard(Lane.MONEY.queue):
                break
    await worker.stop(5.0)
    await asyncio.gather(running, return_exceptions=True)
    assert sorted(ran, key=int) == [str(number) for number in range(JOBS)]
    assert await redis.keys("arq:*") == []


async def test_what_it_refuses_fails_no_caller(redis: Redis) -> None:
    queue = ArqQueue(redis, (), SystemClock(), SIGNER)
    await fill(redis)
    queue.enqueue(Job("lost", "deliver_notice", {}))
    await queue.flush()
    assert not await queue.offer(Lane.NOTICES, [Job("refused", "deliver_notice", {})])
    assert await redis.zcard(Lane.NOTICES.queue) == 0


async def test_it_is_noticed(redis: Redis) -> None:
    assert not await is_full(redis)
    await fill(redis)
    assert await is_full(redis)
    await redis.config_set("maxmemory", 10**9)
    assert not await is_full(redis)


async def test_a_redis_that_evicts_is_noticed(redis: Redis) -> None:
    await redis.config_set("maxmemory-policy", "allkeys-lru")
    assert await evicts(redis) == "", "without a limit nothing is evicted"
    await redis.config_set("maxmemory", 10**9)
    assert await evicts(redis) == "allkeys-lru"
    await redis.config_set("maxmemory-policy", "noeviction")
    assert await evicts(redis) == ""


async def test_readiness_tells(redis: Redis, own_redis_url: str, mongodb_url: str) -> None:
    settings = settings_of(mongodb_url, own_redis_url)
    async with open_worker_context(settings) as (context, resources):
        app = create_app(settings)
        app.state.context, app.state.resources = context, resources
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://goalsvc") as client:
            assert (await client.get("/readyz")).status_code == 200
            await fill(redis)
            answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["redis"].startswith("full")
    assert answer.json()["mongodb"] == "ok"


async def test_what_runs_by_the_clock_goes_on(redis: Redis) -> None:
    await fill(redis)
    leases = Leases(redis, "one")
    assert await leases.take("sweep", 5.0)
    assert not await Leases(redis, "other").take("sweep", 5.0)
    assert await leases.keep("sweep", 10.0)
    queue = ArqQueue(redis, (), SystemClock(), SIGNER)
    await queue.note_swept(Lane.MONEY, NOW, 30.0)
    assert await queue.swept_until(Lane.MONEY) == NOW
