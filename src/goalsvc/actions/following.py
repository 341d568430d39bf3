"""Following what arrives and what is done, as Server-Sent Events whose ids are MongoDB's resume tokens.

Every stream looks again and again whether its reader still may read (`Reader`).
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import suppress
from time import monotonic

from goalsvc.context import Context
from goalsvc.domain.call import ENVIRONMENT, Caller
from goalsvc.models.activity import Activity, View
from goalsvc.models.api_key import ApiKey
from goalsvc.models.tails import Gap, Stopping, Tail, Tails, TooManyTailsError

#: How often a stream says that it is there, and looks whether its reader still may read.
BEAT_SECONDS = 10.0


async def may_still_read(context: Context, caller: Caller) -> bool:
    """Returns whether the caller's key is still valid, with the scopes that it had."""
    if caller.key_id == ENVIRONMENT.key_id:
        return True
    key = await ApiKey.by_id(caller.key_id)
    return key is not None and key.valid_at(context.clock.now()) and key.caller.scopes == caller.scopes


class Reader:
    """Who reads a stream: whether they still may is asked every `beat_seconds`."""

    def __init__(self, may_read: Callable[[], Awaitable[bool]], beat_seconds: float = BEAT_SECONDS) -> None:
        self._may_read, self._beat_seconds = may_read, beat_seconds
        self._asked_at = monotonic()

    @property
    def patience(self) -> float:
        """For how many seconds a stream may wait until it is to ask again."""
        return max(0.0, self._asked_at + self._beat_seconds - monotonic())

    async def may_go_on(self) -> bool:
        """Returns whether they may read, as of the last time that was asked; asks if that was long ago."""
        if self.patience:
            return True
        self._asked_at = monotonic()
        return await self._may_read()


async def stream(
    tails: Tails,
    place: str,
    now: str,
    view: View,
    told: Callable[[Activity], str],
    stopping: Stopping,
    may_read: Callable[[], Awaitable[bool]],
) -> AsyncIterator[str]:
    """Yields what `follow` does, from that place on; nothing when as many tails are open as a process serves."""
    with suppress(TooManyTailsError), tails.opened_at(place, now) as tail:
        async for text in follow(tail, view, told, stopping, may_read):
            yield text


async def follow(
    tail: Tail,
    view: View,
    told: Callable[[Activity], str],
    stopping: Stopping,
    may_read: Callable[[], Awaitable[bool]],
    *,
    beat_seconds: float = BEAT_SECONDS,
) -> AsyncGenerator[str, None]:
    """Yields Server-Sent Events until the process is told to stop, or its reader may not read any more, or is too slow.

    `told` gives the fields `event` and `data` of one. Where some are missing, the event is `gap`. Between them the place alone
    is told now and then, so that a reader that comes back after a long silence asks for what is still kept.
    """
    yield ": following\n\n"
    reader = Reader(may_read, beat_seconds)
    while not stopping.stopped and not tail.behind:
        change = await stopping.unless_stopped(tail.next(reader.patience))
        if isinstance(change, Gap):
            yield f"id: {change.place}\nevent: gap\ndata: {{}}\n\n"
        elif change is not None and view.shows(change):
            activity = Activity.of_change(change)
            if activity is not None:
                yield f"id: {change.place}\n{told(activity)}\n\n"
        elif change is None:
            yield f"id: {tail.seen}\n: still here\n\n"
        if not await reader.may_go_on():
            return
