"""Whether the server is about to stop: answers that take long (a stream, a long poll) end then instead of delaying it.

uvicorn waits for open answers before it closes the app, and tells none of them. So its signal handler is wrapped while the
app runs.
"""

import asyncio
import signal
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

from fastapi import Request

T = TypeVar("T")


class Stopping:
    """Set once, when the process is told to stop."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    @property
    def stopped(self) -> bool:
        """Whether the process was told to stop."""
        return self._event.is_set()

    def stop(self) -> None:
        """Ends what waits."""
        self._event.set()

    async def unless_stopped(self, waiting: Coroutine[object, object, T]) -> T | None:
        """What `waiting` gives; None when the process is told to stop before that."""
        wanted = asyncio.ensure_future(waiting)
        told = asyncio.ensure_future(self._event.wait())
        try:
            await asyncio.wait([wanted, told], return_when=asyncio.FIRST_COMPLETED)
            return wanted.result() if wanted.done() else None
        finally:
            for future in (wanted, told):
                future.cancel()
            await asyncio.gather(wanted, told, return_exceptions=True)


@contextmanager
def watch_signals(stopping: Stopping) -> Iterator[None]:
    """Sets `stopping` at SIGTERM or SIGINT, before whatever else is done then; only in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before: dict[int, Any] = {}

    def on_signal(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(stopping.stop)
        previous = before[number]
        if callable(previous):
            previous(number, frame)

    for number in (signal.SIGTERM, signal.SIGINT):
        previous = signal.getsignal(number)
        if callable(previous):  # a server's own; where there is none, a signal ends the process as ever
            before[number] = previous
            signal.signal(number, on_signal)
    try:
        yield
    finally:
        for changed, previous in before.items():
            if signal.getsignal(changed) is on_signal:
                signal.signal(changed, previous)


def stopping_of(request: Request) -> Stopping:
    """What the app sets when it stops; an app that was not started never does."""
    state = request.app.state
    if not hasattr(state, "stopping"):
        state.stopping = Stopping()
    found: Stopping = state.stopping
    return found
