"""Waiting for what comes about by itself, with a deadline."""

import time
from collections.abc import Callable


def holds_within(seconds: float, condition: Callable[[], bool], every: float = 0.01) -> bool:
    """Whether the condition came to hold within that many seconds, looking every so many seconds. Blocks the thread."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(every)
    return True
