"""Waiting for what comes about by itself, with a deadline."""

import asyncio
from collections.abc import Awaitable, Callable


async def comes_to_hold(condition: Callable[[], Awaitable[bool]], seconds: float = 10.0) -> bool:
    """Whether the condition came to hold within that many seconds; it is asked again as soon as the event loop has turned."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not await condition():
        if asyncio.get_running_loop().time() > deadline:
            return False
        await asyncio.sleep(0)
    return True
