"""Round trips that those who come at the same time share.

What is asked for while a round trip is under way goes out together in the next one, so the load forms the batches by itself:
alone, a caller waits for no other; in a crowd, many of them cost little more than one. (Group commit; measured in
docs/performance.md.) `Coalescer` is for those who wait for an answer, `Batches` for what no caller waits for.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Generic, TypeVar

Request = TypeVar("Request")
Item = TypeVar("Item")

#: How many requests one round trip serves, and how many round trips of a kind are under way at a time.
LARGEST_BATCH = 64
AT_ONCE = 2


class Coalescer(Generic[Request]):
    """Serves requests in batches: `serve` answers all of a batch, or raises, and then `refuse` tells each of them."""

    def __init__(
        self,
        name: str,
        serve: Callable[[Sequence[Request]], Awaitable[None]],
        refuse: Callable[[Request, Exception], None],
    ) -> None:
        self._name, self._serve, self._refuse = name, serve, refuse
        self._waiting: list[Request] = []
        self._under_way = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, request: Request) -> None:
        """Takes a request, also one that was served before and must be served again."""
        self._waiting.append(request)
        if self._under_way < AT_ONCE:
            self._under_way += 1
            trip = asyncio.create_task(self._travel(), name=self._name)
            self._tasks.add(trip)
            trip.add_done_callback(self._tasks.discard)

    async def _travel(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:LARGEST_BATCH], self._waiting[LARGEST_BATCH:]
                try:
                    await self._serve(batch)
                except Exception as error:
                    for request in batch:
                        self._refuse(request, error)
        finally:
            # At once, not when the loop comes round to the task's end: what is taken in between would not be served.
            self._under_way -= 1


class Batches(Generic[Item]):
    """Writes in the background, one batch at a time; `write` deals with its errors by itself.

    After each batch it rests for so long, in which a trickle becomes a batch. What comes after a quiet spell goes at once.
    """

    def __init__(
        self, name: str, write: Callable[[Sequence[Item]], Awaitable[None]], *, rest_seconds: float = 0.0
    ) -> None:
        self._name, self._write, self._rest_seconds = name, write, rest_seconds
        self._waiting: list[Item] = []
        self._writer: asyncio.Task[None] | None = None
        self._flushing = asyncio.Event()

    def __len__(self) -> int:
        """How many wait to be written."""
        return len(self._waiting)

    def take(self, item: Item) -> None:
        """Takes an item; never raises, never waits."""
        self._waiting.append(item)
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_all(), name=self._name)

    async def flush(self) -> None:
        """Waits until all that was taken has been written (or could not be); it does not rest meanwhile."""
        self._flushing.set()
        try:
            while self._writer is not None and not self._writer.done():
                await asyncio.shield(self._writer)
        finally:
            self._flushing.clear()

    async def _write_all(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            await self._write(batch)
            if self._rest_seconds:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._rest_seconds):
                        await self._flushing.wait()
