"""All that the page of a goal shows."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bson import ObjectId

from goalsvc.console.pictures.timeline import Act, Mark, Receipt, Run, Step, Timeline
from goalsvc.console.queries import rows
from goalsvc.console.queries.flows import Money, money_of
from goalsvc.domain.documents import Stored
from goalsvc.domain.goals import PERFORMED
from goalsvc.domain.why import Why
from goalsvc.models.goal import Goal
from goalsvc.models.goal_escrows import escrows_of
from goalsvc.models.payments import MOST_SECONDS
from goalsvc.models.performed import (
    MOST_WEBHOOKS,
    REPEATS,
    Heard,
    PerformedStretch,
    Reports,
    goal_webhooks,
    heard_in,
    marks_of,
    reports_of,
    stored_goal,
    stretches_of,
)
from goalsvc.models.why import explain_goal

#: A page shows at most so many of each; what is left out is said and offered.
MOST_EVENTS = 2_000
MOST_LETTERS = 20
MOST_CLIPS = 20


@dataclass(frozen=True, slots=True)
class GoalPage:
    """A goal and what belongs to it."""

    goal: Goal
    timeline: Timeline
    reports: Reports
    escrows: Sequence[str]
    money: Money
    why: Why | None
    """What `GET /v1/goals/{id}/why-not` answers."""
    clips: Sequence[Mapping[str, object]]
    more_clips: bool
    letters: Sequence[Mapping[str, object]]
    """Its dead letters, latest first."""
    more_letters: bool
    cut: Sequence[str]
    """What is not shown, in words."""

    @property
    def paid(self) -> bool:
        """Whether its escrow has paid anything to the streamer."""
        return any(str(transfer["_id"]).startswith("escrow-") for transfer in self.money.latest)


async def goal_page(goal_id: ObjectId, now: datetime) -> GoalPage | None:
    """Returns the page of that goal, None when there is no such goal."""
    known = await stored_goal(goal_id)
    if known is None:
        return None
    goal, stored = known
    identity = str(goal_id)
    escrows = await escrows_of(goal)
    webhooks, events, letters, clips, money = await asyncio.gather(
        goal_webhooks(goal),
        _events(identity),
        rows("dead_letters", {"goal_id": identity}, sort=[("at", -1), ("_id", -1)], limit=MOST_LETTERS + 1),
        _clips(goal),
        money_of(escrows),
    )
    why = await explain_goal(goal_id, now, webhooks)
    cut = [
        f"the last {most} {name}"
        for name, found, most in (("webhooks", webhooks, MOST_WEBHOOKS), ("events", events, MOST_EVENTS))
        if len(found) > most
    ]
    if money.cut:
        cut.append(f"the last {MOST_SECONDS} seconds with payments")
    events = sorted(events[:MOST_EVENTS], key=lambda event: str(event.get("created_at")))
    heard = heard_in(webhooks[:MOST_WEBHOOKS][::-1])
    timeline = _timeline(goal, stored, heard, events, money, now)
    return GoalPage(
        goal,
        timeline,
        reports_of(heard),
        escrows,
        money,
        why,
        clips=clips[:MOST_CLIPS],
        more_clips=len(clips) > MOST_CLIPS,
        letters=letters[:MOST_LETTERS],
        more_letters=len(letters) > MOST_LETTERS,
        cut=cut,
    )


_EVENT = {"type": 1, "created_at": 1, "cause": 1, "data.progress": 1, "data.goal.progress": 1, "data.goal.level": 1}


async def _events(goal_id: str) -> list[dict[str, object]]:
    """Returns what acted and each progress, latest first; one more than a page shows, if there are more."""
    where = {"goal_id": goal_id, "type": {"$in": [*_ACTS, "goal.progressed"]}}
    return await rows("events", where, sort=[("sequence", -1)], limit=MOST_EVENTS + 1, fields=_EVENT)


async def _clips(goal: Goal) -> list[dict[str, object]]:
    session_id = goal.conditions.session_id
    where = {"metadata.source.id": {"$in": [session_id, str(session_id)]}, "goal_id": goal.id}
    return await rows("assets", where, sort=[("_id", -1)], limit=MOST_CLIPS + 1) if session_id is not None else []


# -- the time line ----------------------------------------------------------------------------------------------------


def _timeline(
    goal: Goal,
    stored: Stored,
    heard: Sequence[Heard],
    events: Sequence[Mapping[str, object]],
    money: Money,
    now: datetime,
) -> Timeline:
    performed = goal.kind in PERFORMED
    marks = _marks(goal, heard)
    kept, earlier = stretches_of(goal, stored)
    return Timeline(
        name=f"{goal.kind.value} {goal.id}",
        unit="s" if performed else "tokens",
        now=now,
        marks=marks,
        runs=runs_of(kept, marks),
        earlier_milliseconds=earlier,
        steps=_steps(events),
        levels=[(level.title, level.target) for level in goal.levels],
        receipts=_receipts(heard),
        flows=money.flows,
        acts=list(_acts(events)),
    )


def runs_of(stretches: Iterable[PerformedStretch], marks: Iterable[Mark] = ()) -> list[Run]:
    """Returns these stretches as a picture shows them, each with the way to the leave that ended it."""
    ended_by = {mark.at: mark.path for mark in marks if not mark.joined and mark.counted}
    return [Run(one.since, one.until, path=ended_by.get(one.until, "") if one.until else "") for one in stretches]


def _trace_path(goal_id: object, root: object) -> str:
    """Returns where the console shows that root of a goal's trace."""
    return f"/goals/{goal_id}/trace?root={root}" if goal_id and root else ""


def _cause_path(event: Mapping[str, object]) -> str:
    cause = event.get("cause")
    return _trace_path(cause.get("goal_id"), cause.get("root")) if isinstance(cause, Mapping) else ""


def _marks(goal: Goal, heard: Sequence[Heard]) -> list[Mark]:
    return [
        Mark(
            mark.at,
            mark.joined,
            f"{mark.user_id} ({mark.role})" if mark.role else mark.user_id or "channel",
            mark.counted,
            mark.reason,
            late=mark.late,
            path=_trace_path(goal.id, mark.root),
        )
        for mark in marks_of(goal, heard)
    ]


def _receipts(heard: Iterable[Heard]) -> list[Receipt]:
    return [
        Receipt(
            one.happened,
            one.arrived,
            one.name,
            refused=one.reason != "" and one.reason not in REPEATS,
            repeated=one.reason in REPEATS,
        )
        for one in heard
    ]


def _steps(events: Iterable[Mapping[str, Any]]) -> list[Step]:
    steps = []
    for event in events:
        if event.get("type") == "goal.progressed":
            progress = (event.get("data") or {}).get("progress", _goal_in(event).get("progress"))
            if isinstance(progress, int):
                steps.append(Step(event["created_at"], progress, path=_cause_path(event)))
    return steps


def _goal_in(event: Mapping[str, Any]) -> Mapping[str, object]:
    goal = (event.get("data") or {}).get("goal")
    return goal if isinstance(goal, Mapping) else {}


_ACTS = {
    "goal.created": "created",
    "goal.started": "started",
    "goal.completed": "completed",
    "goal.ended": "ended",
    "goal.agreed": "agreed",
    "goal.declined": "declined",
    "clip.stored": "clip stored",
    "clip.failed": "clip failed",
    "recording.started": "recording starts",
    "recording.stopped": "recording stops",
    "goal.refunded": "refunded",
    "escrow.completed": "all paid",
    "escrow.refunded": "all refunded",
}


def _acts(events: Iterable[Mapping[str, object]]) -> Iterable[Act]:
    """Yields what acted; of what repeats (starts), the first only."""
    seen: set[str] = set()
    for event in events:
        kind = str(event.get("type"))
        name, at = _ACTS.get(kind), event.get("created_at")
        if name is None or not isinstance(at, datetime) or (kind == "goal.started" and kind in seen):
            continue
        seen.add(kind)
        level = _goal_in(event).get("level")
        named = f"level {level}" if kind == "goal.completed" and isinstance(level, int) and level else name
        yield Act(at, named, path=_cause_path(event))
