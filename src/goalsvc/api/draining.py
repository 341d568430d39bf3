"""How the API process stops: `/readyz` says so for some seconds, so that load balancers turn away, and then the port closes."""

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from starlette.requests import Request

#: The name under which the state is handed to requests, by way of the lifespan.
STATE = "draining"


@dataclass(slots=True)
class Draining:
    """Whether this process has been told to stop."""

    begun: bool = False

    @classmethod
    def is_begun(cls, request: Request) -> bool:
        """Returns whether the process that answers this request has been told to stop."""
        state = getattr(request.state, STATE, None)
        return isinstance(state, cls) and state.begun

    @contextmanager
    def on_sigterm(self, seconds: float) -> Iterator[None]:
        """Delays what the server does at SIGTERM by that many seconds, during which the process drains."""
        stops = signal.getsignal(signal.SIGTERM)
        if seconds <= 0 or threading.current_thread() is not threading.main_thread() or not callable(stops):
            yield
            return
        loop = asyncio.get_running_loop()

        def begin(number: int, frame: FrameType | None) -> None:
            if self.begun:  # told twice: without delay
                stops(number, frame)
                return
            self.begun = True
            # A signal handler may run between any two steps: the loop must wake up to see the timer.
            loop.call_soon_threadsafe(loop.call_later, seconds, stops, number, frame)

        signal.signal(signal.SIGTERM, begin)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, stops)
