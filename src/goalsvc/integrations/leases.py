"""Leases in Redis: of several processes, one at a time does something."""

from redis.asyncio import Redis

#: The flag lets a lease be taken on a server that is full (`noeviction`): what runs by the clock frees memory, too.
_TAKE = """#!lua flags=allow-oom
return redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2])
"""


class Leases:
    """Takes leases on behalf of one holder."""

    def __init__(self, redis: Redis, holder: str) -> None:
        self._holder = holder
        self._take = redis.register_script(_TAKE)

    async def take(self, name: str, seconds: float) -> bool:
        """Returns whether the lease was free and now belongs to this holder, for that time. Raises RedisError."""
        taken = await self._take(keys=[f"goalsvc:lease:{name}"], args=[self._holder, max(1, round(seconds * 1000))])
        return taken is not None
