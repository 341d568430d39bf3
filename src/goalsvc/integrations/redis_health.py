"""What Redis itself says of its health."""

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError


async def is_full(redis: Redis) -> bool:
    """Whether Redis has reached `maxmemory` and refuses writes (`noeviction`). Raises RedisError."""
    try:
        memory = await redis.info("memory")
    except NoPermissionError:
        return False  # the right to ask is not among those that goalsvc needs
    limit = int(memory.get("maxmemory", 0))
    return 0 < limit <= int(memory.get("used_memory", 0)) and memory.get("maxmemory_policy") == "noeviction"
