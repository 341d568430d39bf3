"""The pace of notices: one process at a time tells clients of one goal's progress, once in each slot of time."""

import asyncio
import logging

from redis.asyncio import Redis
from redis.exceptions import RedisError

log = logging.getLogger(__name__)

#: More goals than this are not remembered; one that is forgotten may be told once too often.
_MOST_GOALS = 20_000
#: A slot that Redis does not answer for in time is decided by this process alone.
_PATIENCE_SECONDS = 0.25
_LIFE_MILLISECONDS = 5_000


class NoticePace:
    """Gives each slot of a goal away once: within this process from memory, between processes by a key in Redis."""

    def __init__(self, redis: Redis | None = None) -> None:
        self._redis = redis
        self._slots: dict[str, int] = {}
        self._told: dict[str, int] = {}

    async def claim(self, goal_id: str, slot: int, *, shared: bool) -> bool:
        """Claims the slot; False when it is taken. `shared`: other processes are asked too, which takes a round trip.

        Never raises: without Redis, processes do not know of one another.
        """
        if self._slots.get(goal_id, -1) >= slot:
            return False
        if len(self._slots) >= _MOST_GOALS:
            self._slots.clear()
            self._told.clear()
        self._slots[goal_id] = slot
        if not shared or self._redis is None:
            return True
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                key = f"goalsvc:pace:{goal_id}:{slot}"
                return bool(await self._redis.set(key, b"1", nx=True, px=_LIFE_MILLISECONDS))
        except (RedisError, OSError) as error:
            log.warning("the pace of notices is this process's own: %s: %s", type(error).__name__, error)
            return True

    def note(self, goal_id: str, progress: int) -> None:
        """Remembers that clients were told this progress."""
        self._told[goal_id] = max(progress, self._told.get(goal_id, 0))

    def told(self, goal_id: str) -> int:
        """The highest progress that this process has told clients of, as far as it remembers; else 0."""
        return self._told.get(goal_id, 0)
