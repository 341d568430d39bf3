"""Leases in Redis: of several processes, one at a time does something."""

from redis.asyncio import Redis

#: The flag lets a lease be taken on a server that is full (`noeviction`): what runs by the clock frees memory, too.
_TAKE = """#!lua flags=allow-oom
return redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2])
"""
_KEEP = """#!lua flags=allow-oom
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 1
"""


class Leases:
    """Takes leases on behalf of one holder."""

    def __init__(self, redis: Redis, holder: str) -> None:
        self._holder = holder
        self._take = redis.register_script(_TAKE)
        self._keep = redis.register_script(_KEEP)

    async def take(self, name: str, seconds: float) -> bool:
        """Returns whether the lease was free and now belongs to this holder, for that time. Raises RedisError."""
        taken = await self._take(keys=[f"goalsvc:lease:{name}"], args=[self._holder, max(1, round(seconds * 1000))])
        return taken is not None

    async def keep(self, name: str, seconds: float) -> bool:
        """Returns whether the lease still belongs to this holder; it then does so for that time from now. Raises RedisError."""
        return bool(
            await self._keep(keys=[f"goalsvc:lease:{name}"], args=[self._holder, max(1, round(seconds * 1000))])
        )
