"""Marks and presence: joins and leaves on a time line, and the stretches in which a participant is there. Pure functions.

A mark is one number: twice its epoch milliseconds, plus one for a leave. Sorted as numbers, marks are sorted by time, and
at the same instant a join comes before a leave ("the clock runs while started is *later* than paused").
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from goalsvc.clock import to_epoch_milliseconds

#: An unowned vacated is not a leave if any join follows within this time: Pusher debounces reconnects.
RECONNECT_MS = 10_000

#: From when until when, in epoch milliseconds; None: still open.
Stretch = tuple[int, int | None]


def join_mark(at: datetime) -> int:
    """Returns the mark of a join at that instant."""
    return 2 * to_epoch_milliseconds(at)


def leave_mark(at: datetime) -> int:
    """Returns the mark of a leave at that instant."""
    return 2 * to_epoch_milliseconds(at) + 1


def is_leave(mark: int) -> bool:
    """Returns whether the mark is a leave's."""
    return mark % 2 == 1


def stretches_of(marks: Iterable[int]) -> Iterator[Stretch]:
    """Yields from which join until which leave a participant was present; `marks` in order.

    A join that finds them present changes nothing, and neither does a leave that finds them absent.
    """
    since: int | None = None
    for mark in marks:
        if not is_leave(mark):
            since = mark // 2 if since is None else since
        elif since is not None:
            yield since, mark // 2
            since = None
    if since is not None:
        yield since, None


def overlap(one: Sequence[Stretch], other: Sequence[Stretch]) -> Iterator[Stretch]:
    """Yields when both lines have a stretch; adjacent stretches are merged."""
    held: Stretch | None = None
    mine, theirs = 0, 0
    while mine < len(one) and theirs < len(other):
        (start, end), (other_start, other_end) = one[mine], other[theirs]
        ends_first = end is not None and (other_end is None or end <= other_end)
        until = end if ends_first else other_end
        since = max(start, other_start)
        if until is None or since < until:
            if held is not None and held[1] == since:
                held = held[0], until
            else:
                if held is not None:
                    yield held
                held = since, until
        if ends_first:
            mine += 1
        else:
            theirs += 1
    if held is not None:
        yield held


def last_transition(marks: Sequence[int]) -> int | None:
    """Returns the last mark that changed a participant's presence; without one, the last mark; None without marks."""
    present, last = False, None
    for mark in marks:
        if is_leave(mark) == present:
            last, present = mark, not present
    return last if last is not None or not marks else marks[-1]


def follows(joins: Sequence[int], instant: int) -> bool:
    """Returns whether one of these joins (epoch milliseconds, in order) comes after that instant, while Pusher debounces."""
    following = bisect_right(joins, instant)
    return following < len(joins) and joins[following] <= instant + RECONNECT_MS
