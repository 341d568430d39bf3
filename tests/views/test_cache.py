"""The cache on the real Valkey: correct under a race, and never in the way."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis

from goalsvc.integrations.cache import LIFE_SECONDS, TICKET_SECONDS, RedisCache
from goalsvc.integrations.redis import open_redis

pytestmark = pytest.mark.real

VIEW = "channel:private-stream@alice"
KEY = f"goalsvc:view:{VIEW}"


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = open_redis(redis_url)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
def cache(redis: Redis) -> RedisCache:
    return RedisCache(redis)


def computing(content: bytes, times: list[int] | None = None) -> Callable[[], Awaitable[bytes]]:
    async def compute() -> bytes:
        if times is not None:
            times.append(1)
        return content

    return compute


async def never() -> bytes:
    raise AssertionError("computed, though it is kept")


class TestAView:
    async def test_is_computed_once(self, cache: RedisCache) -> None:
        assert await cache.view(VIEW, computing(b"first")) == b"first"
        assert await cache.view(VIEW, never) == b"first"

    async def test_is_computed_anew_when_it_was_dropped(self, cache: RedisCache) -> None:
        await cache.view(VIEW, computing(b"first"))
        await cache.drop([VIEW, "another"])
        assert await cache.view(VIEW, computing(b"second")) == b"second"
        assert await cache.view(VIEW, never) == b"second"

    async def test_is_kept_apart_from_others(self, cache: RedisCache) -> None:
        await cache.view(VIEW, computing(b"first"))
        await cache.view("another", computing(b"second"))
        await cache.drop(["another"])
        assert await cache.view(VIEW, never) == b"first"

    async def test_that_cannot_be_computed_is_not_kept(self, cache: RedisCache) -> None:
        async def fail() -> bytes:
            raise LookupError

        with pytest.raises(LookupError):
            await cache.view(VIEW, fail)
        assert await cache.view(VIEW, computing(b"first")) == b"first"

    async def test_ends_by_itself(self, cache: RedisCache, redis: Redis) -> None:
        await cache.read(VIEW)
        assert 0 < await redis.pttl(KEY) <= TICKET_SECONDS * 1000
        await cache.view(VIEW, computing(b"first"))
        assert TICKET_SECONDS * 1000 < await redis.pttl(KEY) <= LIFE_SECONDS * 1000


class TestARace:
    async def test_who_computed_from_older_data_cannot_put_it_back(self, cache: RedisCache) -> None:
        stored, reading = b"old", asyncio.Event()
        may_answer = asyncio.Event()

        async def slow() -> bytes:
            read = stored
            reading.set()
            await may_answer.wait()
            return read

        reader = asyncio.create_task(cache.view(VIEW, slow))
        await reading.wait()
        stored = b"new"
        await cache.drop([VIEW])
        may_answer.set()
        assert await reader == b"old"  # it was asked before the change
        assert await cache.view(VIEW, computing(stored)) == b"new"
        assert await cache.view(VIEW, never) == b"new"

    async def test_not_even_when_another_reader_came_after_the_drop(self, cache: RedisCache) -> None:
        old = await cache.read(VIEW)
        await cache.drop([VIEW])
        new = await cache.read(VIEW)
        assert await cache.keep(VIEW, new.ticket, b"new")
        assert not await cache.keep(VIEW, old.ticket, b"old")
        assert (await cache.read(VIEW)).content == b"new"

    async def test_nor_when_the_drop_was_lost_with_redis(self, cache: RedisCache, redis: Redis) -> None:
        old = await cache.read(VIEW)
        await cache.drop([VIEW])
        await redis.flushall()
        assert not await cache.keep(VIEW, old.ticket, b"old")
        assert (await cache.read(VIEW)).content is None

    async def test_readers_at_once_share_a_ticket(self, cache: RedisCache) -> None:
        first, second = await cache.read(VIEW), await cache.read(VIEW)
        assert first == second
        assert await cache.keep(VIEW, first.ticket, b"content")
        assert await cache.keep(VIEW, second.ticket, b"content")

    async def test_the_last_drop_wins_over_many_readers(self, cache: RedisCache) -> None:
        """Many readers and drops, interleaved as it comes: what is kept in the end is no older than the last drop."""
        version = 0

        async def compute() -> bytes:
            read = version
            await asyncio.sleep(0.0005 * (read % 3))
            return b"%d" % read

        async def reads() -> None:
            for _ in range(30):
                await cache.view(VIEW, compute)

        async def changes() -> None:
            nonlocal version
            for _ in range(30):
                version += 1
                await cache.drop([VIEW])
                dropped = version
                assert int(await cache.view(VIEW, compute)) >= dropped

        await asyncio.gather(changes(), *(reads() for _ in range(8)))
        assert await cache.view(VIEW, compute) == b"30"


@asynccontextmanager
async def nowhere() -> AsyncIterator[str]:
    """A Redis that is not there."""
    yield "redis://127.0.0.1:1/0"


@asynccontextmanager
async def silent() -> AsyncIterator[str]:
    """A Redis that takes connections and never answers."""

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    server.close()
    await server.wait_closed()


class TestWithoutRedis:
    @pytest.fixture(params=[nowhere, silent])
    async def lost(self, request: pytest.FixtureRequest) -> AsyncIterator[RedisCache]:
        async with request.param() as url:
            client = open_redis(url)
            yield RedisCache(client, patience_seconds=0.05, drop_patience_seconds=0.05)
            await client.aclose()

    async def test_views_are_computed(self, lost: RedisCache) -> None:
        times: list[int] = []
        for _ in range(2):
            assert await lost.view(VIEW, computing(b"content", times)) == b"content"
        assert len(times) == 2

    async def test_nobody_fails_for_a_drop(self, lost: RedisCache) -> None:
        await lost.drop([VIEW])
