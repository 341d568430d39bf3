"""The clock of a goal: from joins and leaves, in whatever order they arrive, to performed seconds.

The document remembers the joins and leaves of the last twenty minutes (webhooks older than a quarter of an hour are
refused, so what lies further back cannot change any more and is folded into one sum). Everything else is computed from
the *set* of these marks, so the result does not depend on the order of arrival, and a repeat changes nothing.

Each mark has an owner: the performer, the viewer of an exclusive, or none (an event without a user). What the marks mean
is the clock's rule:

    alone      shows and karaoke: all marks are the performer's                       performed: while present
    auto       exclusives                                                             performed: while the performer is present
                                                                                      and, if the viewer ever joined, both are
    both       exclusives, stricter                                                   performed: while both are present
    performer  exclusives, the viewer's marks ignored                                 performed: while the performer is present

An end is a limit: marks after it do not count. What ran at the end is counted once the clock is sealed, after which no
mark counts any more.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cached_property
from typing import Any

from bson import Int64

from goalsvc.clock import from_epoch_milliseconds, to_epoch_milliseconds
from goalsvc.domain.documents import RawDocument, Stored
from goalsvc.domain.presence import (
    Stretch,
    follows,
    is_leave,
    join_mark,
    last_transition,
    leave_mark,
    overlap,
    stretches_of,
)
from goalsvc.domain.reading import instant, mapping, sequence, text, whole

#: Webhooks older than this are refused …
STALE_AFTER = timedelta(minutes=15)
#: … so marks older than this are final: the difference leaves room for processes whose clocks disagree.
FOLD_AFTER = timedelta(minutes=20)
#: What an array of whole numbers holds when it is decoded.
_INTEGERS = (int, Int64)
#: The marks of instants that Python can represent; a year is left on either side for what is reckoned from them.
_FIRST_MARK, _LAST_MARK = (2 * to_epoch_milliseconds(datetime(year, 1, 1, tzinfo=UTC)) for year in (2, 9999))
#: Fewer marks than this are not folded.
FOLD_ABOVE = 32
#: How long after an end its late webhooks still count: Pusher repeats for five minutes.
LATE_FOR = timedelta(minutes=6)
#: How many closed stretches a document keeps as evidence.
MOST_STRETCHES = 200


class Owner(StrEnum):
    """Who joined or left."""

    PERFORMER = "performer"
    VIEWER = "viewer"
    UNOWNED = "unowned"


class Rule(StrEnum):
    """What the marks of a clock mean."""

    ALONE = "alone"
    AUTO = "auto"
    BOTH = "both"
    PERFORMER = "performer"


# -- the clock ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Turned:
    """What a mark did to a clock: whether it started or paused it, and the whole seconds that are now to be counted."""

    started: bool
    paused: bool
    amount: int

    @property
    def has_seconds(self) -> bool:
        """Whether progress is to be announced: also after a pause that brought less than a second."""
        return self.paused or self.amount > 0


@dataclass(frozen=True)
class GoalClock:
    """A goal's clock, as its document holds it."""

    marks: tuple[int, ...] = ()
    """Joins and leaves of the performer, in order of time; of everyone, under the rule `alone`."""
    viewer_marks: tuple[int, ...] = ()
    unowned_marks: tuple[int, ...] = ()
    rule: Rule = Rule.ALONE
    legacy: bool = False
    """Whether it was begun by a version that knew no owners and no late webhooks: it ends as it would have then."""
    floor: int = 0
    """Marks below this are ignored: that time is final."""
    folded: int = 0
    """Milliseconds performed in stretches whose marks have been folded."""
    earlier: tuple[tuple[int, int], ...] = ()
    """The last of those stretches."""
    counted: int = 0
    """Whole seconds that were ever promised to progress; what has been counted is never taken back."""
    owned: bool = False
    """Whether an owned mark has been folded."""
    viewer_joined: bool = False
    """Whether a join of the viewer has been folded."""
    shown_start: datetime | None = None
    """What this clock wrote to `context.started`; any other value there is another service's start."""
    ended: int | None = None
    """When the goal ended, in epoch milliseconds."""
    sealed: bool = False
    """Whether no mark counts any more."""
    deadline: int | None = field(default=None, compare=False)
    """The goal's `exp`, in epoch milliseconds; kept there, not here."""

    @classmethod
    def read(cls, clock: object, context: object, rule: Rule = Rule.ALONE, exp: datetime | None = None) -> "GoalClock":
        """Returns the clock of a document with these fields `clock`, `context` and `exp`; a new one gets that rule.

        Other services know only `context`. A clock that is new to us begins there: running, with a join of the performer at
        `started`; paused, with a leave at `paused`, and what was performed before that is counted already. A `started` that
        is not ours is a join like any other.
        """
        times = mapping(context)
        started, paused = instant(times.get("started")), instant(times.get("paused"))
        deadline = None if exp is None else to_epoch_milliseconds(exp)
        known = cls._stored(mapping(clock), rule, deadline)
        if known is None:
            leaves = (leave_mark(paused),) if paused is not None else ()
            floor = leaves[0] - 1 if leaves and started is not None else 0
            known = cls(leaves, rule=rule, floor=floor, deadline=deadline)
        if started is None or started == known.shown_start:
            return known
        return known._with(join_mark(started), Owner.PERFORMER)

    @classmethod
    def _stored(cls, clock: Stored, new_rule: Rule, deadline: int | None) -> "GoalClock | None":
        """The clock as it was written; None where there is none, or where it cannot be read."""
        numbers = [whole(clock.get(name, 0)) for name in ("floor", "folded", "counted")]
        lines = [_marks(clock.get(name, [])) for name in _FIELDS.values()]
        if not clock or None in numbers or None in lines:
            return None
        floor, folded, counted = (number or 0 for number in numbers)
        marks, viewer_marks, unowned_marks = (line or () for line in lines)
        rule, ended = text(clock.get("rule")), instant(clock.get("ended_at"))
        legacy = rule is None and bool(marks)
        stretches = [
            (to_epoch_milliseconds(since), to_epoch_milliseconds(until))
            for each in map(mapping, sequence(clock.get("stretches")))
            if (since := instant(each.get("from"))) is not None and (until := instant(each.get("to"))) is not None
        ]
        return cls(
            marks=marks,
            viewer_marks=viewer_marks,
            unowned_marks=unowned_marks,
            rule=Rule(rule) if rule is not None and rule in set(Rule) else Rule.ALONE if legacy else new_rule,
            legacy=legacy,
            floor=floor,
            folded=folded,
            earlier=tuple(stretch for stretch in stretches if 2 * stretch[1] < floor),
            counted=counted,
            owned=clock.get("owned") is True,
            viewer_joined=clock.get("viewer_joined") is True,
            shown_start=instant(clock.get("started")),
            ended=None if ended is None else to_epoch_milliseconds(ended),
            sealed=clock.get("sealed") is True,
            deadline=deadline,
        )

    def document(self) -> RawDocument:
        """Returns the fields of `clock` that this class reads; those that say nothing are absent."""
        made: RawDocument = {
            "marks": list(self.marks),
            "floor": self.floor,
            "folded": self.folded,
            "counted": self.counted,
            "running": self.running,
            "stretches": self.evidence(),
        }
        if not self.legacy and (self.marks or self.viewer_marks or self.unowned_marks):
            made["rule"] = self.rule.value
        for name in ("viewer_marks", "unowned_marks"):
            if marks := getattr(self, name):
                made[name] = list(marks)
        for name in ("owned", "viewer_joined", "sealed"):
            if getattr(self, name):
                made[name] = True
        if (started := self.started or self.shown_start) is not None:
            made["started"] = started
        if self.ended is not None:
            made["ended_at"] = from_epoch_milliseconds(self.ended)
        return made

    def evidence(self) -> list[dict[str, datetime]]:
        """Returns the last closed stretches, as the document keeps them."""
        closed = [*self.earlier, *((since, until) for since, until in self._law if until is not None and until > since)]
        return [
            {"from": from_epoch_milliseconds(since), "to": from_epoch_milliseconds(until)}
            for since, until in closed[-MOST_STRETCHES:]
        ]

    # -- the law ----------------------------------------------------------------------------------------------------

    @cached_property
    def _lines(self) -> tuple[list[int], list[int], list[int], bool, bool]:
        """The performer's, the viewer's and the unowned marks up to the limit, every vacated that is a leave among them;
        and whether there are owned marks, and whether the viewer ever joined.
        """
        mine, theirs, unowned = map(self._within, (self.marks, self.viewer_marks, self.unowned_marks))
        if self.rule is Rule.PERFORMER:
            theirs = []
        joins = sorted(mark // 2 for mark in (*mine, *theirs, *unowned) if not is_leave(mark))
        vacated = [mark for mark in unowned if is_leave(mark) and not follows(joins, mark // 2)]
        occupied = [mark for mark in unowned if not is_leave(mark)]
        owned = self.owned or bool(mine or theirs)
        viewer_joined = self.viewer_joined or any(not is_leave(mark) for mark in theirs)
        return (
            sorted([*mine, *vacated]),
            sorted([*theirs, *vacated]),
            sorted([*occupied, *vacated]),
            owned,
            viewer_joined,
        )

    def _within(self, marks: tuple[int, ...]) -> list[int]:
        limit = self.ended if self.ended is not None else self.deadline
        return list(marks) if limit is None else list(marks[: bisect_right(marks, 2 * limit + 1)])

    @cached_property
    def _performed(self) -> list[Stretch]:
        """When there was performance, as the marks say."""
        if self.rule is Rule.ALONE:
            return list(stretches_of(self._within(self.marks)))
        mine, theirs, unowned, owned, viewer_joined = self._lines
        if self.rule is Rule.BOTH or (self.rule is Rule.AUTO and viewer_joined):
            return list(overlap(list(stretches_of(mine)), list(stretches_of(theirs))))
        return list(stretches_of(mine if owned else unowned))

    @cached_property
    def _law(self) -> list[Stretch]:
        """The same; what ran at the end is closed there once the clock is sealed."""
        performed = self._performed
        if self.sealed and self.ended is not None and performed and performed[-1][1] is None:
            return [*performed[:-1], (performed[-1][0], max(performed[-1][0], self.ended))]
        return performed

    @property
    def milliseconds(self) -> int:
        """The sum of all closed stretches."""
        return self.folded + sum(until - since for since, until in self._law if until is not None)

    # -- what it says -----------------------------------------------------------------------------------------------

    @property
    def open_since(self) -> datetime | None:
        """Since when there is performance that no mark has ended; also in a goal that has ended meanwhile."""
        last = self._law[-1] if self._law else None
        return from_epoch_milliseconds(last[0]) if last is not None and last[1] is None else None

    @property
    def running(self) -> bool:
        """Whether it runs; never in a goal that has ended."""
        return self.ended is None and _is_open(self._law)

    @property
    def started(self) -> datetime | None:
        """When it was started last."""
        return from_epoch_milliseconds(self._law[-1][0]) if self._law else None

    @property
    def paused(self) -> datetime | None:
        """When it was paused last: by a mark, or by the end."""
        if not self._law:
            return None
        *_, (since, until) = self._law
        if until is None and self.ended is not None:
            until = max(since, self.ended)
        if until is None:
            until = self._law[-2][1] if len(self._law) > 1 else None
        return None if until is None else from_epoch_milliseconds(until)

    @property
    def unowned_start(self) -> bool:
        """Whether the performed stretches rest on unowned marks alone."""
        return self.rule in (Rule.AUTO, Rule.PERFORMER) and not self._lines[3] and bool(self._law)

    def starts_at(self, instant: datetime) -> bool:
        """Returns whether a stretch begins at that instant."""
        return any(since == to_epoch_milliseconds(instant) for since, _ in self._law)

    def present(self) -> frozenset[Owner]:
        """Returns who is present after all marks, also those after an end; UNOWNED where only the channel is known."""
        latest = replace(self, ended=None, deadline=None)
        return latest._present()

    def _present(self) -> frozenset[Owner]:
        if self.rule is Rule.ALONE:
            return frozenset({Owner.PERFORMER}) if _is_open(self._performed) else frozenset()
        mine, theirs, unowned, owned, _ = self._lines
        lines = {Owner.PERFORMER: mine, Owner.VIEWER: theirs} if owned else {Owner.UNOWNED: unowned}
        return frozenset(owner for owner, line in lines.items() if _is_open(list(stretches_of(line))))

    def absent(self) -> tuple[Owner, ...]:
        """Returns who was not present at the end, as the marks up to it say."""
        present = self._present()
        if Owner.UNOWNED in present:
            return ()
        both = self.rule in (Rule.AUTO, Rule.BOTH)
        concerned = [Owner.PERFORMER, Owner.VIEWER] if both else [Owner.PERFORMER]
        return tuple(owner for owner in concerned if owner not in present)

    def needs(self) -> frozenset[Owner]:
        """Returns whose presence keeps it running; UNOWNED where anyone's does."""
        if self.rule in (Rule.ALONE, Rule.PERFORMER):
            return frozenset({Owner.PERFORMER})
        *_, owned, viewer_joined = self._lines
        if self.rule is Rule.BOTH or viewer_joined:
            return frozenset({Owner.PERFORMER, Owner.VIEWER})
        return frozenset({Owner.PERFORMER if owned else Owner.UNOWNED})

    # -- what changes it --------------------------------------------------------------------------------------------

    def turn(self, mark: int, now: datetime, owner: Owner = Owner.PERFORMER) -> tuple["GoalClock", Turned]:
        """Returns the clock with that mark, and what the mark did."""
        after, turned = self._counting(self._with(mark, owner))
        return after._folded(now), turned

    def end(self, at: datetime) -> "GoalClock":
        """Returns the clock of a goal that ended at that instant; not sealed yet."""
        return replace(self, ended=to_epoch_milliseconds(at), deadline=None)

    def seal(self) -> tuple["GoalClock", Turned]:
        """Returns the clock of an ended goal for which no mark counts any more, and what that gave: what ran at the end."""
        return self._counting(replace(self, sealed=True))

    def takes(self, at: datetime, now: datetime) -> bool:
        """Returns whether a mark of that instant, which arrives now, still counts in a goal that has ended."""
        if self.ended is None or self.sealed:
            return False
        return to_epoch_milliseconds(at) <= self.ended and now <= from_epoch_milliseconds(self.ended) + LATE_FOR

    def _counting(self, after: "GoalClock") -> tuple["GoalClock", Turned]:
        amount = max(0, after.milliseconds // 1000 - self.counted)
        was, is_now = self.open_since, after.open_since
        more = len(after._law) > len(self._law)
        moved = self.rule is not Rule.ALONE and was is not None and is_now is not None and is_now > was
        started = more or moved or (was is None and is_now is not None)
        closed, closed_after = (sum(until is not None for _, until in clock._law) for clock in (self, after))
        paused = closed_after > closed or (was is not None and is_now is None)
        return replace(after, counted=self.counted + amount) if amount else after, Turned(started, paused, amount)

    def _with(self, mark: int, owner: Owner) -> "GoalClock":
        if self.rule is Rule.ALONE:
            owner = Owner.PERFORMER
        name = _FIELDS[owner]
        known: tuple[int, ...] = getattr(self, name)
        if mark < self.floor or mark in known:
            return self
        marks = list(known)
        insort(marks, mark)
        lines: dict[str, Any] = {name: tuple(marks)}
        after = replace(self, **lines)
        # Another law begins with the first owned mark, and with the viewer's first join: what was folded under the one
        # before it is counted, and does not count again.
        return after if after._basis == self._basis else replace(after, folded=0, earlier=())

    @cached_property
    def _basis(self) -> tuple[bool, bool]:
        return (False, False) if self.rule in (Rule.ALONE, Rule.BOTH) else (self._lines[3], self._lines[4])

    def _folded(self, now: datetime) -> "GoalClock":
        """The same clock without the marks of long ago, but for the last transition of each line: it may still be present."""
        horizon = join_mark(now - FOLD_AFTER)
        held = len(self.marks) + len(self.viewer_marks) + len(self.unowned_marks)
        first = min((line[0] for line in (self.marks, self.viewer_marks, self.unowned_marks) if line), default=horizon)
        limit = self.ended if self.ended is not None else self.deadline
        if held <= FOLD_ABOVE or first >= horizon or (limit is not None and 2 * limit < horizon):
            return self
        kept: dict[str, Any] = {}
        mine, theirs, unowned, owned, viewer_joined = self._lines
        for name, line in zip(_FIELDS.values(), (mine, theirs, unowned), strict=True):
            known: tuple[int, ...] = getattr(self, name)
            if known:  # a vacated is a leave of both, but not a mark of one of whom nothing is known
                last = last_transition(line[: bisect_left(line, horizon)])
                kept[name] = (*(() if last is None else (last,)), *known[bisect_left(known, horizon) :])
        alone = self.rule is Rule.ALONE
        after = replace(
            self, **kept, floor=horizon, owned=owned and not alone, viewer_joined=viewer_joined and not alone
        )
        gone = self.milliseconds - after.milliseconds
        still = {since for since, _ in after._law}
        left = [(since, until) for since, until in self._law if until is not None and since not in still]
        return replace(after, folded=after.folded + gone, earlier=(*self.earlier, *left)[-MOST_STRETCHES:])


_FIELDS = {Owner.PERFORMER: "marks", Owner.VIEWER: "viewer_marks", Owner.UNOWNED: "unowned_marks"}


def _is_open(stretches: Sequence[Stretch]) -> bool:
    return bool(stretches) and stretches[-1][1] is None


def _marks(value: object) -> tuple[int, ...] | None:
    """The marks of a document, in order; None where they cannot be read."""
    if not isinstance(value, list):
        return None
    if all(type(mark) in _INTEGERS for mark in value):
        read = tuple(value)
    else:
        read = tuple(sorted(number for mark in value if (number := whole(mark)) is not None))
    if len(read) < len(value) or (read and (min(read) < _FIRST_MARK or max(read) > _LAST_MARK)):
        return None
    return read
