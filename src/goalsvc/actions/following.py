"""Following what arrives and what is done, as Server-Sent Events whose ids are MongoDB's resume tokens."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import suppress
from time import monotonic

from goalsvc.models.activity import Activity, View
from goalsvc.models.tails import Gap, Stopping, Tail, Tails, TooManyTailsError

#: How often a stream says that it is there, and looks whether its reader still may read.
BEAT_SECONDS = 10.0


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
    looked_at = monotonic()
    while not stopping.stopped and not tail.behind:
        change = await stopping.unless_stopped(tail.next(beat_seconds))
        if isinstance(change, Gap):
            yield f"id: {change.place}\nevent: gap\ndata: {{}}\n\n"
        elif change is not None and view.shows(change):
            activity = Activity.of_change(change)
            if activity is not None:
                yield f"id: {change.place}\n{told(activity)}\n\n"
        elif change is None:
            yield f"id: {tail.seen}\n: still here\n\n"
        if monotonic() - looked_at >= beat_seconds:
            looked_at = monotonic()
            if not await may_read():
                return
