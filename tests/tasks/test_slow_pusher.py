"""A Pusher that does not answer slows its callers down; what waits for it waits in Redis, not in a worker's memory."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from pymongo import MongoClient
from redis.asyncio import Redis

from goalsvc.domain.lanes import Lane
from goalsvc.domain.promises import Job
from tests.world import open_world

pytestmark = pytest.mark.real

MOST, NOTICES = 8, 100


class SlowPusher:
    """Answers nobody until `answers` is set; `full` is, once as many wait as a worker may have in hand."""

    def __init__(self) -> None:
        self.full, self.answers = asyncio.Event(), asyncio.Event()
        self.under_way = self.most_under_way = 0
        self.told: set[str] = set()

    async def trigger(self, channels: Sequence[str], event: str, data: Mapping[str, Any]) -> None:
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        if self.under_way == MOST:
            self.full.set()
        await self.answers.wait()
        self.told.add(event)
        self.under_way -= 1


async def test_what_waits_for_it_waits_in_redis(
    documents: MongoClient[dict[str, Any]], mongodb_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_world(documents, mongodb_url, redis_url, real_workers=True, worker_max_jobs=MOST) as world:
        pusher = SlowPusher()
        monkeypatch.setattr(world.context.notifier, "trigger", pusher.trigger)
        names = [f"event-{number}" for number in range(NOTICES)]
        for name in names:
            arguments = {"channels": ["private-user@1"], "event": name, "data": {}}
            world.context.queue.enqueue(Job(name, "deliver_notice", arguments, fulfils=False))
        await world.context.queue.flush()
        async with asyncio.timeout(10):
            await pusher.full.wait()
        async with Redis.from_url(redis_url) as redis:
            assert await redis.zcard(Lane.NOTICES.queue) == NOTICES, "nothing is taken out of Redis before it is done"
        pusher.answers.set()
        await world.settle()
        assert pusher.told == set(names)
        assert pusher.most_under_way == MOST
