"""Heartbeats: what each process says of itself in Redis every few seconds, and what all of them say together.

A key of its own, which expires, holds what a process said; a sorted set names the keys, so that no one walks through Redis.
"""

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from time import monotonic

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from goalsvc import __version__
from goalsvc.clock import Clock
from goalsvc.integrations.breaker import Breakers, ServiceState

log = logging.getLogger(__name__)

EVERY_SECONDS = 5.0
#: A process that is killed is forgotten after this time.
LIVES_SECONDS = 15.0
_INDEX = "goalsvc:processes"
_MOST_SHOWN = 500
_PATIENCE_SECONDS = 2.0

#: The flag lets a process be seen on a server that is full.
_BEAT = """#!lua flags=allow-oom
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('ZADD', KEYS[2], now + ARGV[2], KEYS[1])
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, 10)) do
  redis.call('ZREM', KEYS[2], gone)
end
"""
_READ = """#!lua flags=allow-oom
local found = {}
for _, key in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '+inf', 'LIMIT', 0, ARGV[1])) do
  local said = redis.call('GET', key)
  if said then found[#found + 1] = said end
end
return found
"""


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """What one process says of itself."""

    role: str
    """`api` or `worker`."""
    host: str
    pid: int
    version: str
    started_at: datetime
    at: datetime
    """When it said so."""
    lag_seconds: float
    """How late its event loop last woke up."""
    lanes: Sequence[str] = ()
    jobs: int = 0
    """Jobs that it has in hand."""
    last_claim_at: datetime | None = None
    """When it last could ask Redis for jobs."""
    services: Sequence[ServiceState] = ()

    @property
    def process(self) -> str:
        """Its host and number."""
        return f"{self.host}:{self.pid}"


class Beating:
    """Says in Redis how this process is. The key ends with the process."""

    def __init__(self, redis: Redis, clock: Clock, role: str, breakers: Breakers | None = None) -> None:
        self._redis, self._clock, self._role, self._breakers = redis, clock, role, breakers
        self._script = redis.register_script(_BEAT)
        self._started_at = clock.now()
        self.key = f"goalsvc:{role}:{socket.gethostname()}:{os.getpid()}"

    async def beat(
        self, lag_seconds: float, *, lanes: Sequence[str] = (), jobs: int = 0, last_claim_at: datetime | None = None
    ) -> None:
        """Writes it for the next 15 s. Raises RedisError."""
        said = Heartbeat(
            role=self._role,
            host=socket.gethostname(),
            pid=os.getpid(),
            version=__version__,
            started_at=self._started_at,
            at=self._clock.now(),
            lag_seconds=round(lag_seconds, 3),
            lanes=lanes,
            jobs=jobs,
            last_claim_at=last_claim_at,
            services=self._breakers.states() if self._breakers is not None else (),
        )
        await self._script(keys=[self.key, _INDEX], args=[msgspec.json.encode(said), int(LIVES_SECONDS * 1000)])

    async def end(self) -> None:
        """Says that the process is gone; where Redis does not answer, that shows by itself."""
        with suppress(RedisError, OSError, TimeoutError):
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await self._redis.delete(self.key)


@asynccontextmanager
async def beating(own: Beating) -> AsyncIterator[None]:
    """Keeps the heartbeat of a process that has nothing to say of jobs, until the block is left."""
    task = asyncio.create_task(_beat_on(own), name="heartbeat")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await own.end()


async def _beat_on(own: Beating, seconds: Callable[[], float] = monotonic) -> None:
    lag = 0.0
    while True:
        with suppress(RedisError, OSError, TimeoutError):
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await own.beat(lag)
        rested_at = seconds()
        await asyncio.sleep(EVERY_SECONDS)
        lag = max(0.0, seconds() - rested_at - EVERY_SECONDS)


async def heartbeats(redis: Redis) -> list[Heartbeat]:
    """Returns what the processes that live say, at most 500 of them, workers last, by host and number. Raises RedisError.

    What cannot be read, such as the heartbeat of another version, is left out.
    """
    found = []
    for said in await redis.register_script(_READ)(keys=[_INDEX], args=[_MOST_SHOWN]):
        with suppress(msgspec.DecodeError):
            found.append(msgspec.json.decode(said, type=Heartbeat))
    return sorted(found, key=lambda one: (one.role, one.host, one.pid))
