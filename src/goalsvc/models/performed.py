"""What was performed of a goal: the stretches that its clock keeps, and its joins and leaves with what came of each."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from bson import ObjectId

from goalsvc.domain.channels import JOINS
from goalsvc.domain.documents import Stored
from goalsvc.domain.durations import duration_text
from goalsvc.domain.goals import PERFORMED
from goalsvc.domain.performance import MOST_STRETCHES
from goalsvc.domain.reading import instant, mapping, sequence, text, whole
from goalsvc.models.bounded import rows
from goalsvc.models.goal import Goal
from goalsvc.models.received_webhooks import LATE

#: At most so many webhook events of a goal are looked through.
MOST_WEBHOOKS = 1_500
#: A clock that has counted more seconds than this (three centuries) cannot be read.
_MOST_SECONDS = 10**10

#: What says that an event was known: it counted before.
REPEATS = frozenset({"already_running", "not_running", "already_done"})

_NODE = ("name", "at", "outcome", "reason", "user_id", "happened_at")
_FIELDS = {
    "at": 1,
    **{f"node.{name}": 1 for name in _NODE},
    **{f"node.children.children.{name}": 1 for name in ("name", "outcome", "reason")},
}


@dataclass(frozen=True, slots=True)
class PerformedStretch:
    """From when until when there was performance; `until` is None while it goes on."""

    since: datetime
    until: datetime | None


@dataclass(slots=True)
class Heard:
    """A webhook event about a goal, read once for all that is told of it."""

    root: str
    name: str
    arrived: datetime
    happened: datetime
    user_id: str
    reason: str
    """Why the clock was not moved by it; empty when it was."""


@dataclass(frozen=True, slots=True)
class GoalMark:
    """A join or leave, as it was reported first, or first counted."""

    at: datetime
    joined: bool
    user_id: str
    """Empty for an event of the whole channel."""
    role: str
    """`performer` or `viewer`; empty for anyone else."""
    counted: bool
    reason: str
    """Why it did not count; empty when it did."""
    late: timedelta
    """How long after it the webhook arrived."""
    root: str
    """The root of its trace."""


@dataclass(frozen=True, slots=True)
class Reports:
    """How late the webhook events about a goal arrived."""

    number: int
    late: int
    """How many of them more than 5 s."""
    slowest: timedelta

    @property
    def sentence(self) -> str:
        """The same in a sentence."""
        if not self.number:
            return "No webhook about this goal has been recorded."
        slowest = f"the slowest took {duration_text(self.slowest)}"
        if not self.late:
            return f"All {self.number} webhook events arrived within 5 s; {slowest}."
        return f"{self.late} of {self.number} webhook events arrived more than 5 s late; {slowest}."


@dataclass(frozen=True, slots=True)
class Performance:
    """What was performed of a goal."""

    goal_id: str
    seconds: int
    """Whole seconds that the clock has counted."""
    stretches: Sequence[PerformedStretch]
    earlier_milliseconds: int
    """Performed in stretches that the document keeps no longer."""
    marks: Sequence[GoalMark]
    reports: Reports
    truncated: bool
    """Whether more webhook events are stored than were looked through."""

    @property
    def milliseconds(self) -> int:
        """Of all closed stretches."""
        return self.earlier_milliseconds + closed_milliseconds(self.stretches)


def closed_milliseconds(stretches: Iterable[PerformedStretch]) -> int:
    """Returns how long the closed stretches are together, in milliseconds."""
    closed = (one.until - one.since for one in stretches if one.until is not None)
    return sum(closed, timedelta()) // timedelta(milliseconds=1)


async def performance_of(goal_id: ObjectId) -> Performance | None:
    """Returns what was performed of that goal; None when there is no such goal. Raises PyMongoError, UnusableDocumentError."""
    found = await stored_goal(goal_id)
    if found is None:
        return None
    goal, stored = found
    webhooks = await goal_webhooks(goal)
    heard = heard_in(webhooks[:MOST_WEBHOOKS][::-1])
    stretches, earlier = stretches_of(goal, stored)
    return Performance(
        str(goal_id),
        counted_in(stored) if goal.kind in PERFORMED else 0,
        stretches,
        earlier,
        marks_of(goal, heard),
        reports_of(heard),
        len(webhooks) > MOST_WEBHOOKS,
    )


async def stored_goal(goal_id: ObjectId) -> tuple[Goal, Stored] | None:
    """Returns the goal of that id, and the same as it is stored; None when there is none. Raises UnusableDocumentError."""
    found = await rows("goals", {"_id": goal_id}, limit=1)
    return (Goal.parse(found[0]), found[0]) if found and Goal.is_ours(found[0]) else None


async def goal_webhooks(goal: Goal) -> list[dict[str, object]]:
    """Returns the goal's webhook events, latest first, one more than are looked through if there are more; none of a goal
    that has no clock.
    """
    if goal.kind not in PERFORMED:
        return []
    where = {"goal_id": str(goal.id), "node.kind": "webhook"}
    return await rows("traces", where, sort=[("at", -1)], limit=MOST_WEBHOOKS + 1, fields=_FIELDS)


# -- stretches --------------------------------------------------------------------------------------------------------


def counted_in(stored: Stored) -> int:
    """Returns the whole seconds that the clock of a stored goal has counted; 0 where that cannot be read."""
    counted = whole(mapping(stored.get("clock")).get("counted"))
    return counted if counted is not None and 0 <= counted <= _MOST_SECONDS else 0


def stretches_of(goal: Goal, stored: Stored) -> tuple[list[PerformedStretch], int]:
    """Returns the closed stretches that the stored goal keeps and the open one, and the milliseconds of those that it keeps
    no longer.
    """
    if goal.kind not in PERFORMED:
        return [], 0
    kept = sequence(mapping(stored.get("clock")).get("stretches"))[-MOST_STRETCHES:]
    stretches = [one for one in map(_stretch, kept) if one is not None]
    earlier = counted_in(stored) * 1000 - closed_milliseconds(stretches)
    if goal.active and goal.context.running and goal.context.started is not None:
        stretches.append(PerformedStretch(goal.context.started, None))
    return stretches, earlier if earlier >= 1000 else 0


def _stretch(value: object) -> PerformedStretch | None:
    since, until = instant(mapping(value).get("from")), instant(mapping(value).get("to"))
    return PerformedStretch(since, until) if since is not None and until is not None and since <= until else None


# -- joins and leaves -------------------------------------------------------------------------------------------------


def heard_in(webhooks: Iterable[Stored]) -> list[Heard]:
    """Returns what these webhook events, as they are stored, tell; one that does not say when it arrived is left out."""
    found = []
    for webhook in webhooks:
        node = mapping(webhook.get("node"))
        arrived = instant(node.get("at"))
        if arrived is not None:
            happened = instant(node.get("happened_at")) or arrived
            user_id, root = str(node.get("user_id") or ""), str(webhook.get("_id") or "")
            found.append(Heard(root, str(node.get("name")), arrived, happened, user_id, _clock_reason(node)))
    return found


def marks_of(goal: Goal, heard: Iterable[Heard]) -> list[GoalMark]:
    """Returns the joins and leaves that these webhook events, the oldest first, reported, in order of time; a repeat or twin
    says nothing new.
    """
    marks: dict[tuple[datetime, bool, str], GoalMark] = {}
    for one in heard:
        joined, counted = one.name in JOINS, one.reason == "" or one.reason in REPEATS
        key = (one.happened, joined, one.user_id)
        known = marks.get(key)
        if known is None or (counted and not known.counted):
            reason, late = "" if counted else one.reason, max(one.arrived - one.happened, timedelta())
            role = _role(goal, one.user_id)
            marks[key] = GoalMark(one.happened, joined, one.user_id, role, counted, reason, late, one.root)
    return sorted(marks.values(), key=lambda mark: (mark.at, not mark.joined))


def reports_of(heard: Iterable[Heard]) -> Reports:
    """Returns how late these webhook events arrived."""
    delays = [one.arrived - one.happened for one in heard]
    slowest = max(delays, default=timedelta())
    return Reports(len(delays), sum(delay > LATE for delay in delays), max(slowest, timedelta()))


def _role(goal: Goal, user_id: str) -> str:
    if not user_id:
        return ""
    if user_id == goal.metadata.user_id:
        return "performer"
    return "viewer" if user_id in (goal.conditions.exclusive_to, goal.metadata.viewer_id) else ""


def _clock_reason(node: Stored) -> str:
    for signal in sequence(node.get("children")):
        for receiver in sequence(mapping(signal).get("children")):
            answer = mapping(receiver)
            if answer.get("name") == "karaoke_control":
                return _reason(answer)
    return _reason(node)


def _reason(node: Stored) -> str:
    return "" if node.get("outcome") == "done" else text(node.get("reason")) or ""
