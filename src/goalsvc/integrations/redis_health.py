"""What Redis itself says of its health."""

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError


async def evicts(redis: Redis) -> str:
    """Returns the policy by which Redis evicts keys at `maxmemory`; empty where it keeps all. Raises RedisError."""
    try:
        memory = await redis.info("memory")
    except NoPermissionError:
        return ""
    policy = str(memory.get("maxmemory_policy", "noeviction"))
    return policy if int(memory.get("maxmemory", 0)) > 0 and policy != "noeviction" else ""


async def is_full(redis: Redis) -> bool:
    """Whether Redis has reached `maxmemory` and refuses writes (`noeviction`). Raises RedisError."""
    try:
        memory = await redis.info("memory")
    except NoPermissionError:
        return False  # the right to ask is not among those that goalsvc needs
    limit = int(memory.get("maxmemory", 0))
    return 0 < limit <= int(memory.get("used_memory", 0)) and memory.get("maxmemory_policy") == "noeviction"
