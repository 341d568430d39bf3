"""Waiting for what comes about by itself, with a deadline."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from goalsvc.devstack.waiting import holds_within

T = TypeVar("T")


async def comes_to_hold(
    condition: Callable[[], Awaitable[bool] | bool], seconds: float = 10.0, every: float = 0.0
) -> bool:
    """Whether the condition came to hold within that many seconds.

    It is asked again after `every` seconds; as soon as the event loop has turned where that is 0.
    """
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        holds = condition()
        if holds if isinstance(holds, bool) else await holds:
            return True
        if asyncio.get_running_loop().time() > deadline:
            return False
        await asyncio.sleep(every)


def read_until(read: Callable[[], T], condition: Callable[[T], object], seconds: float = 15.0) -> T:
    """What `read` returns, once the condition holds for it; fails when that takes longer. Blocks the thread."""
    last: list[T] = []

    def holds() -> bool:
        last[:] = [read()]
        return bool(condition(last[0]))

    assert holds_within(seconds, holds, every=0.02), f"not within {seconds:g} s; at last: {last[0]}"
    return last[0]
