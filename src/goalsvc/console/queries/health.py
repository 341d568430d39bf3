"""How the queues stand, as Redis says."""

from dataclasses import dataclass
from datetime import timedelta

from redis.asyncio import Redis
from redis.exceptions import RedisError

from goalsvc.domain.lanes import Lane


@dataclass(frozen=True, slots=True)
class QueueState:
    """One lane's queue."""

    lane: str
    jobs: int
    oldest: timedelta
    """How long the oldest job has been due."""


async def queues(redis: Redis) -> list[QueueState] | None:
    """Returns the state of each lane's queue, most urgent first; None when Redis does not answer."""
    try:
        seconds, microseconds = await redis.time()
        now = seconds * 1000 + microseconds // 1000
        states = []
        for lane in Lane:
            jobs = await redis.zcard(lane.queue)
            first = await redis.zrange(lane.queue, 0, 0, withscores=True)
            due = max(0.0, now - first[0][1]) if first else 0.0
            states.append(QueueState(lane.value, jobs, timedelta(milliseconds=due)))
    except (RedisError, OSError):
        return None
    return states
