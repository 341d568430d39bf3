"""The live tails of one process: one change stream for all of them, which is open while a tail is."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from pymongo.errors import PyMongoError
from starlette.datastructures import State

from goalsvc.models.changes import Change, HistoryLostError, changes_after, place_now, seconds_of

log = logging.getLogger(__name__)

T = TypeVar("T")

#: A process serves no more tails than this.
MOST_TAILS = 20
#: So many changes are remembered: a tail that begins among them needs no other change stream.
_REMEMBERED = 1_000
#: A tail whose reader is so far behind is ended; the browser comes back and goes on where it was.
_MOST_WAITING = 2_000
#: What happened longer ago is not read again for a tail that comes back.
_LONGEST_AWAY_SECONDS = 3_600
_REST_SECONDS = 1.0


class Stopping(Protocol):
    """Knows whether the process was told to stop."""

    @property
    def stopped(self) -> bool:
        """Whether it was."""
        ...

    async def unless_stopped(self, waiting: Coroutine[Any, Any, T]) -> T | None:
        """Returns what `waiting` gives; None when the process is told to stop before that."""
        ...


class TooManyTailsError(Exception):
    """As many tails are open as a process serves."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Changes are missing before this place: MongoDB does not keep them any more."""

    place: str


class Tail:
    """One reader."""

    def __init__(self, place: str) -> None:
        self.seen = place
        """The place up to which it was given everything."""
        self.behind = False
        """Whether its reader was too slow."""
        self._waiting: asyncio.Queue[Change | Gap] = asyncio.Queue()

    def take(self, change: Change | Gap) -> None:
        """Takes a change that follows what it has seen, to be read; of a place alone, only the place."""
        if isinstance(change, Change) and change.place <= self.seen:
            return
        self.seen = max(self.seen, change.place)
        if isinstance(change, Change) and change.document is None:
            return
        if self._waiting.qsize() >= _MOST_WAITING:
            self.behind = True
        else:
            self._waiting.put_nowait(change)

    async def next(self, within_seconds: float) -> Change | Gap | None:
        """Waits for what follows; None when there was nothing in time."""
        try:
            return await asyncio.wait_for(self._waiting.get(), within_seconds)
        except TimeoutError:
            return None


class Tails:
    """All tails of one process."""

    def __init__(self) -> None:
        self.opened = 0
        """How many change streams have been opened so far."""
        self._tails: set[Tail] = set()
        self._reading: asyncio.Task[None] | None = None
        self._remembered: deque[Change] = deque()
        self._since = ""
        """The place since which the remembered changes are all that there were; empty while no change stream is open."""

    @classmethod
    def of(cls, state: State) -> "Tails":
        """Returns the tails of the app with that state."""
        if not hasattr(state, "tails"):
            state.tails = cls()
        tails: Tails = state.tails
        return tails

    def __len__(self) -> int:
        return len(self._tails)

    @contextmanager
    def opened_at(self, place: str, now: str) -> Iterator[Tail]:
        """Opens a tail from that place on, until the block is left; `now` is the place of this moment.

        Raises TooManyTailsError.
        """
        if len(self._tails) >= MOST_TAILS:
            raise TooManyTailsError
        tail = Tail(min(place, now))
        if seconds_of(now) - seconds_of(place) > _LONGEST_AWAY_SECONDS:
            tail.take(Gap(now))
        elif self._since and self._since <= place:
            for change in self._remembered:
                tail.take(change)
        self._tails.add(tail)
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read(), name="live tails")
        try:
            yield tail
        finally:
            self._tails.discard(tail)

    async def close(self) -> None:
        """Ends the tails, and closes the change stream."""
        self._tails.clear()
        if self._reading is not None:
            await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self) -> None:
        while self._tails:
            begin = min(tail.seen for tail in self._tails)
            self._remembered.clear()
            self._since, self.opened = begin, self.opened + 1
            try:
                async with changes_after(begin) as changes:
                    await self._hand_on(changes)
            except HistoryLostError:
                await self._skip(begin)
            except PyMongoError as error:
                log.warning("the live tails wait: no change stream (%s)", type(error).__name__)
                await asyncio.sleep(_REST_SECONDS)
        self._since = ""
        self._remembered.clear()

    async def _hand_on(self, changes: AsyncIterator[Change]) -> None:
        """Gives each tail what it has not seen, until there is none, or one wants what is not remembered."""
        async for change in changes:
            if not self._tails or any(tail.seen < self._since for tail in self._tails):
                return
            if change.document is not None:
                self._remembered.append(change)
                if len(self._remembered) > _REMEMBERED:
                    self._since = self._remembered.popleft().place
            for tail in self._tails:
                tail.take(change)

    async def _skip(self, begin: str) -> None:
        """Tells the tails whose place is lost that changes are missing, and lets them begin now."""
        with suppress(PyMongoError):
            gap = Gap(await place_now())
            for tail in self._tails:
                if tail.seen <= begin:
                    tail.take(gap)
