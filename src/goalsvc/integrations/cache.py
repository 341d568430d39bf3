"""Cached views in Redis, correct under a race.

A reader takes a ticket before it reads the database, and hands it in with what it computed. Dropping a view makes its
tickets void, so a reader who computed from older data cannot put it back after the invalidation.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from redis.asyncio import Redis

#: A view lives so long at most, whatever happens: Redis may be emptied, and with it the record of what was dropped.
LIFE_SECONDS = 60
#: The mark of a drop outlives every reader that could hold an older ticket.
_MARK_SECONDS = 600

_KEEP = """
if (redis.call('GET', KEYS[2]) or '') == ARGV[1] then
  redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
  return 1
end
return 0
"""


@dataclass(frozen=True, slots=True)
class Reading:
    """What the cache holds of a view: its content, or None with a ticket to put it there."""

    content: bytes | None
    ticket: bytes


class RedisCache:
    """Keeps views in Redis."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._keep = redis.register_script(_KEEP)

    async def read(self, name: str) -> Reading:
        """The view, if it is there, and a ticket."""
        content, ticket = await self._redis.mget(_key(name), _mark(name))
        return Reading(content, ticket or b"")

    async def keep(self, name: str, ticket: bytes, content: bytes) -> bool:
        """Puts the view there unless it was dropped since the ticket was taken; whether it is there now."""
        kept = await self._keep(keys=[_key(name), _mark(name)], args=[ticket, content, LIFE_SECONDS])
        return bool(kept)

    async def drop(self, names: Sequence[str]) -> None:
        """Forgets these views and makes their tickets void."""
        token = secrets.token_bytes(8)
        async with self._redis.pipeline(transaction=True) as pipe:
            for name in names:
                pipe.set(_mark(name), token, ex=_MARK_SECONDS)
                pipe.delete(_key(name))
            await pipe.execute()


def _key(name: str) -> str:
    return f"goalsvc:view:{name}"


def _mark(name: str) -> str:
    return f"goalsvc:dropped:{name}"
