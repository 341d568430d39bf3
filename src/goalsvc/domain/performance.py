"""The clock of a goal: from joins and leaves, in whatever order they arrive, to performed seconds (SPEC §4).

The document remembers the joins and leaves of the last twenty minutes (webhooks older than a quarter of an hour are
refused, so what lies further back cannot change any more and is folded into one sum). A new one is put at its place in
time, and everything else follows from the sorted list. So the result does not depend on the order of arrival, and a
repeat changes nothing.

A mark is one number: twice its epoch milliseconds, plus one for a leave. Sorted as numbers, marks are sorted by time,
and at the same instant a join comes before a leave ("the clock runs while started is *later* than paused"). A turn is a
mark that changed the clock: the first mark, and each one of the other kind than the mark before it.

    marks    join 0   join 5   leave 9   leave 9.01   join 20        (seconds)
    turns    join 0            leave 9                join 20    →   9 s performed, running since 20
"""

from bisect import bisect_left, insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from bson import Int64

from goalsvc.clock import from_epoch_milliseconds, to_epoch_milliseconds
from goalsvc.domain.reading import instant, mapping, whole

#: Webhooks older than this are refused (SPEC §3) …
STALE_AFTER = timedelta(minutes=15)
#: … so marks older than this are settled: the difference leaves room for processes whose clocks disagree.
FOLD_AFTER = timedelta(minutes=20)
#: What an array of whole numbers holds when it is decoded.
_INTEGERS = (int, Int64)
#: Folding is not worth its while for fewer marks.
FOLD_ABOVE = 32


def join_mark(at: datetime) -> int:
    """The mark of a join at that instant."""
    return 2 * to_epoch_milliseconds(at)


def leave_mark(at: datetime) -> int:
    """The mark of a leave at that instant."""
    return 2 * to_epoch_milliseconds(at) + 1


def is_leave(mark: int) -> bool:
    """Whether the mark is a leave's."""
    return mark % 2 == 1


def instant_of(mark: int) -> datetime:
    """When it happened."""
    return from_epoch_milliseconds(mark // 2)


@dataclass(frozen=True, slots=True)
class Turned:
    """What a mark did to a clock: one more start or pause than before, and the whole seconds that are now to be counted."""

    started: bool
    paused: bool
    amount: int

    @property
    def has_seconds(self) -> bool:
        """Whether progress is to be announced: also after a pause that brought less than a second."""
        return self.paused or self.amount > 0


@dataclass(frozen=True, slots=True)
class GoalClock:
    """A goal's clock, as its document holds it."""

    marks: tuple[int, ...] = ()
    """Joins and leaves, in order of time."""
    floor: int = 0
    """Marks below this are ignored: that time has been settled."""
    folded: int = 0
    """Milliseconds performed in runs that are no longer among the marks."""
    counted: int = 0
    """Whole seconds that were ever owed to progress; what has been counted is never taken back."""

    @classmethod
    def read(cls, clock: object, context: object) -> "GoalClock":
        """The clock of a document with these fields `clock` and `context`.

        Other services know only `context`. A clock that is new to us begins there: running, with a join at `started`;
        paused, with a leave at `paused`, and what was performed before that is counted already, by whoever paused it. A
        `started` that we have not seen yet is a join like any other.
        """
        times = mapping(context)
        started, paused = instant(times.get("started")), instant(times.get("paused"))
        known = cls._stored(mapping(clock))
        if known is None:
            leaves = (leave_mark(paused),) if paused is not None else ()
            known = cls(leaves, floor=leaves[0] - 1 if leaves and started is not None else 0)
        return known if started is None else known._with(join_mark(started))

    @classmethod
    def _stored(cls, clock: Mapping[str, Any]) -> "GoalClock | None":
        """The clock as it was written; None where there is none, or where it cannot be read."""
        marks = clock.get("marks")
        numbers = [whole(clock.get(name)) for name in ("floor", "folded", "counted")]
        if not isinstance(marks, list) or None in numbers:
            return None
        if any(type(mark) not in _INTEGERS for mark in marks):
            read = [whole(mark) for mark in marks]
            if None in read:
                return None
            marks = sorted(mark for mark in read if mark is not None)
        floor, folded, counted = (number or 0 for number in numbers)
        return cls(tuple(marks), floor, folded, counted)

    def document(self) -> dict[str, Any]:
        """The field `clock`."""
        return {"marks": list(self.marks), "floor": self.floor, "folded": self.folded, "counted": self.counted}

    # -- what it says -----------------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return bool(self.marks) and not is_leave(self.marks[-1])

    @property
    def started(self) -> datetime | None:
        """When it was started last."""
        return next((instant_of(turn) for turn in reversed(turns_of(self.marks)) if not is_leave(turn)), None)

    @property
    def paused(self) -> datetime | None:
        """When it was paused last."""
        return next((instant_of(turn) for turn in reversed(turns_of(self.marks)) if is_leave(turn)), None)

    # -- what changes it --------------------------------------------------------------------------------------------

    def turn(self, mark: int, now: datetime) -> tuple["GoalClock", Turned]:
        """The clock with that mark, and what the mark did."""
        after = self._with(mark)
        starts, pauses = _starts_and_pauses(self.marks)
        starts_after, pauses_after = _starts_and_pauses(after.marks)
        seconds = (after.folded + performed_milliseconds(after.marks)) // 1000
        turned = Turned(starts_after > starts, pauses_after > pauses, max(0, seconds - self.counted))
        return replace(after, counted=self.counted + turned.amount)._folded(now), turned

    def ended(self, now: datetime) -> tuple["GoalClock", Turned]:
        """The clock paused for good. Never before its last mark, which another process, whose clock is ahead, may have made."""
        last = self.marks[-1] if self.marks else 0
        return self.turn(max(leave_mark(now), last | 1), now)

    def _with(self, mark: int) -> "GoalClock":
        if mark < self.floor or mark in self.marks:
            return self
        marks = list(self.marks)
        insort(marks, mark)
        return replace(self, marks=tuple(marks))

    def _folded(self, now: datetime) -> "GoalClock":
        """The same clock without the marks of long ago, but for the last turn among them: a run may still be open there."""
        horizon = join_mark(now - FOLD_AFTER)
        if len(self.marks) <= FOLD_ABOVE or self.marks[0] >= horizon:
            return self
        last_turn = max(turn for turn in turns_of(self.marks) if turn < horizon)
        kept = (last_turn, *self.marks[bisect_left(self.marks, horizon) :])
        gone = performed_milliseconds(self.marks) - performed_milliseconds(kept)
        return replace(self, marks=kept, floor=horizon, folded=self.folded + gone)


def turns_of(marks: Sequence[int]) -> list[int]:
    """The marks that changed the clock: the first one, and each of another kind than the one before it."""
    return [*marks[:1], *(mark for before, mark in pairwise(marks) if is_leave(before) != is_leave(mark))]


def performed_milliseconds(marks: Sequence[int]) -> int:
    """The time between each join and the leave that ends its run; a run that is still open counts nothing."""
    return sum((turn - 1 - before) // 2 for before, turn in pairwise(turns_of(marks)) if is_leave(turn))


def _starts_and_pauses(marks: Sequence[int]) -> tuple[int, int]:
    """How often the clock was started, and how often it was paused after it had run."""
    turns = turns_of(marks)
    starts = sum(not is_leave(turn) for turn in turns)
    return starts, len(turns) - starts - (1 if turns and is_leave(turns[0]) else 0)
