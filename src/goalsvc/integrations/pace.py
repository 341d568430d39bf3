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
        self._begun: dict[str, int] = {}
        self._sent: dict[str, int] = {}

    async def claim(self, goal_id: str, slot: int, progress: int, *, shared: bool) -> bool:
        """Claims the slot for a notice of this progress; False when it is taken. `shared`: other processes are asked too,
        which takes a round trip. A claimed notice is ended by `end`.

        Never raises: without Redis, processes do not know of one another.
        """
        if self._slots.get(goal_id, -1) >= slot:
            return False
        if len(self._slots) >= _MOST_GOALS:
            self._slots.clear()
            self._begun.clear()
            self._sent.clear()
        self._slots[goal_id] = slot
        claimed = True
        if shared and self._redis is not None:
            try:
                async with asyncio.timeout(_PATIENCE_SECONDS):
                    key = f"goalsvc:pace:{goal_id}:{slot}"
                    claimed = bool(await self._redis.set(key, b"1", nx=True, px=_LIFE_MILLISECONDS))
            except (RedisError, OSError) as error:
                log.warning(
                    "notices are paced by this process alone, without Redis: %s: %s", type(error).__name__, error
                )
        if max(self.sent(goal_id), self._begun.get(goal_id, -1)) >= progress:
            return False  # another notice has overtaken this one while Redis was asked
        if claimed:
            self._begun[goal_id] = progress
        return claimed

    def end(self, goal_id: str, progress: int, *, sent: bool) -> None:
        """Ends what `claim` began. Only what was really sent counts as sent: what was not must be sent by another try."""
        if self._begun.get(goal_id) == progress:
            del self._begun[goal_id]
        if sent:
            self._sent[goal_id] = max(progress, self.sent(goal_id))

    def sent(self, goal_id: str) -> int:
        """The highest progress of which this process has sent a notice, as far as it remembers; else -1."""
        return self._sent.get(goal_id, -1)
