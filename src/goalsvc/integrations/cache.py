"""Cached views in Redis, correct under a race, and never in the way.

A reader takes a ticket before it reads the database, and hands it in with what it computed. Dropping a view takes the
ticket away with the content, so a reader who computed from older data cannot put it back after the invalidation; neither
can one whose ticket went with a Redis that was emptied. (Memcached's leases, in one Redis key for each view.)

The database is right whatever the cache does: when Redis fails or is slow, views are computed anew for each reader, and a
drop that could not be made is made up for by the end of the view's life. So what a reader is told is at most
`LIFE_SECONDS + TICKET_SECONDS` old, and as a rule as old as the signal that drops it is quick.
"""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from prometheus_client import Counter
from redis.asyncio import Redis
from redis.exceptions import RedisError

from goalsvc.coalescer import Coalescer

log = logging.getLogger(__name__)

READINGS = Counter("goalsvc_view_readings_total", "Readings of cached views.", ["result"])
UNDROPPED = Counter("goalsvc_views_undropped_total", "Views that could not be dropped, and ended by themselves.")

#: A view lives so long at most, whatever happens.
LIFE_SECONDS = 30
#: What takes longer to be computed is not kept.
TICKET_SECONDS = 5
# One hash for each view, so that content and ticket live and go together: {ticket, content?}.
_READ = """
local found = redis.call('HMGET', KEYS[1], 'content', 'ticket')
if not found[2] then
  found[2] = ARGV[1]
  redis.call('HSET', KEYS[1], 'ticket', ARGV[1])
  redis.call('EXPIRE', KEYS[1], ARGV[2])
end
return found
"""

_KEEP = """
if redis.call('HGET', KEYS[1], 'ticket') ~= ARGV[1] then
  return 0
end
redis.call('HSET', KEYS[1], 'content', ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
"""


@dataclass(frozen=True, slots=True)
class Reading:
    """What the cache holds of a view: its content, or None; and a ticket to put it there."""

    content: bytes | None
    ticket: bytes


@dataclass(frozen=True, slots=True)
class _Drop:
    names: Sequence[str]
    dropped: "asyncio.Future[None]"


class RedisCache:
    """Keeps views in Redis, which answers within a millisecond: no reader waits for it longer than `patience_seconds`, and
    no drop, whose loss costs more, longer than `drop_patience_seconds`.
    """

    def __init__(self, redis: Redis, *, patience_seconds: float = 0.5, drop_patience_seconds: float = 2.0) -> None:
        self._redis = redis
        self._patience_seconds = patience_seconds
        self._drop_patience_seconds = drop_patience_seconds
        self._read = redis.register_script(_READ)
        self._keep = redis.register_script(_KEEP)
        self._drops: Coalescer[_Drop] = Coalescer("drops of views", self._unlink, _refuse)

    async def view(self, name: str, compute: Callable[[], Awaitable[bytes]]) -> bytes:
        """The view of that name: as it is kept, else as `compute` makes it, which is then kept.

        Raises only what `compute` raises: without Redis it is computed.
        """
        try:
            reading = await self.read(name)
        except (RedisError, OSError) as error:  # a TimeoutError is an OSError
            READINGS.labels("unavailable").inc()
            log.warning("the cache cannot be read: %s", _told(error))
            return await compute()
        if reading.content is not None:
            READINGS.labels("hit").inc()
            return reading.content
        READINGS.labels("miss").inc()
        content = await compute()
        try:
            await self.keep(name, reading.ticket, content)
        except (RedisError, OSError) as error:
            log.warning("the cache cannot be written: %s", _told(error))
        return content

    async def read(self, name: str) -> Reading:
        """The view, if it is there, and a ticket. Raises RedisError, OSError."""
        async with asyncio.timeout(self._patience_seconds):
            content, ticket = await self._read(keys=[_key(name)], args=[secrets.token_bytes(12), TICKET_SECONDS])
        return Reading(content, ticket)

    async def keep(self, name: str, ticket: bytes, content: bytes) -> bool:
        """Puts the view there unless it was dropped since the ticket was taken; whether it is there now.

        Raises RedisError, OSError.
        """
        async with asyncio.timeout(self._patience_seconds):
            return bool(await self._keep(keys=[_key(name)], args=[ticket, content, LIFE_SECONDS]))

    async def drop(self, names: Sequence[str]) -> None:
        """Forgets these views and takes their tickets away. Never raises for Redis: then they end by themselves."""
        try:
            async with asyncio.timeout(self._drop_patience_seconds):
                drop = _Drop(names, asyncio.get_running_loop().create_future())
                self._drops.take(drop)
                await drop.dropped
        except (RedisError, OSError) as error:
            UNDROPPED.inc(len(names))
            log.warning("%d views cannot be dropped, and end within %d s: %s", len(names), LIFE_SECONDS, _told(error))

    async def _unlink(self, drops: Sequence[_Drop]) -> None:
        await self._redis.unlink(*{_key(name) for drop in drops for name in drop.names})
        for drop in drops:
            if not drop.dropped.done():
                drop.dropped.set_result(None)


def _refuse(drop: _Drop, error: Exception) -> None:
    if not drop.dropped.done():
        drop.dropped.set_exception(error)


def _key(name: str) -> str:
    return f"goalsvc:view:{name}"


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
