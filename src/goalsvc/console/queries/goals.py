"""All that the page of a goal shows."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from bson import ObjectId

from goalsvc.console.pictures.timeline import Act, Mark, Receipt, Run, Step, Timeline
from goalsvc.console.queries import rows
from goalsvc.console.queries.flows import Money, money_of
from goalsvc.domain.goals import PERFORMED
from goalsvc.domain.why import Why
from goalsvc.models.goal import Goal
from goalsvc.models.goal_escrows import escrows_of
from goalsvc.models.why import explain_goal

#: A page shows at most so many of each; what is left out is said and offered.
MOST_WEBHOOKS = 1_500
MOST_EVENTS = 2_000
MOST_LETTERS = 20
MOST_CLIPS = 20

_JOINS = frozenset({"member_added", "channel_occupied"})
_REPEATS = frozenset({"already_running", "not_running", "already_done"})


@dataclass(frozen=True, slots=True)
class GoalPage:
    """A goal and what belongs to it."""

    goal: Goal
    raw: Mapping[str, object]
    timeline: Timeline
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
    goal = await Goal.by_id(goal_id)
    if goal is None:
        return None
    identity = str(goal_id)
    escrows = await escrows_of(goal)
    (raw, webhooks, events), (letters, clips, money) = await asyncio.gather(
        asyncio.gather(
            rows("goals", {"_id": goal_id}, limit=1),
            _webhooks(identity) if goal.kind in PERFORMED else _none(),
            _events(identity),
        ),
        asyncio.gather(
            rows("dead_letters", {"goal_id": identity}, sort=[("at", -1), ("_id", -1)], limit=MOST_LETTERS + 1),
            _clips(goal),
            money_of(escrows),
        ),
    )
    why = await explain_goal(goal_id, now, webhooks)
    cut = [
        f"the last {most} {name}"
        for name, found, most in (("webhooks", webhooks, MOST_WEBHOOKS), ("events", events, MOST_EVENTS))
        if len(found) > most
    ]
    events = sorted(events[:MOST_EVENTS], key=lambda event: str(event.get("created_at")))
    stored = raw[0] if raw else {}
    timeline = _timeline(goal, stored, webhooks[:MOST_WEBHOOKS][::-1], events, money, now)
    return GoalPage(
        goal,
        stored,
        timeline,
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
_NODE = ("name", "at", "outcome", "reason", "user_id", "happened_at")
_WEBHOOK = {
    "at": 1,
    **{f"node.{name}": 1 for name in _NODE},
    **{f"node.children.children.{name}": 1 for name in ("name", "outcome", "reason")},
}


async def _webhooks(goal_id: str) -> list[dict[str, object]]:
    """Returns the goal's webhooks, latest first; one more than a page shows, if there are more."""
    where = {"goal_id": goal_id, "node.kind": "webhook"}
    return await rows("traces", where, sort=[("at", -1)], limit=MOST_WEBHOOKS + 1, fields=_WEBHOOK)


async def _none() -> list[dict[str, object]]:
    return []


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
    raw: Mapping[str, object],
    webhooks: Sequence[Mapping[str, object]],
    events: Sequence[Mapping[str, object]],
    money: Money,
    now: datetime,
) -> Timeline:
    performed = goal.kind in PERFORMED
    marks = _marks(goal, webhooks) if performed else []
    running_since = goal.context.started if goal.active and goal.context.running else None
    runs, earlier = runs_of(raw, running_since, marks) if performed else ([], 0)
    return Timeline(
        name=f"{goal.kind.value} {goal.id}",
        unit="s" if performed else "tokens",
        now=now,
        marks=marks,
        runs=runs,
        earlier_milliseconds=earlier,
        steps=_steps(events),
        levels=[(level.title, level.target) for level in goal.levels],
        receipts=_receipts(webhooks) if performed else [],
        flows=money.flows,
        acts=list(_acts(events)),
    )


def runs_of(raw: Mapping[str, Any], running_since: datetime | None, marks: Sequence[Mark]) -> tuple[list[Run], int]:
    """Returns the closed stretches that the document keeps, the open one, and the milliseconds of those it keeps no longer."""
    clock = raw.get("clock") if isinstance(raw.get("clock"), Mapping) else {}
    kept = (clock or {}).get("stretches") or ()
    ended_by = {mark.at: mark.path for mark in marks if not mark.joined and mark.counted}
    runs = [Run(*pair, path=ended_by.get(pair[1], "")) for pair in map(_stretch, kept) if pair is not None]
    counted = (clock or {}).get("counted")
    shown = sum(((run.until - run.since) for run in runs if run.until is not None), timedelta())
    shown_ms = shown // timedelta(milliseconds=1)
    earlier = max(0, int(counted) * 1000 - shown_ms) if isinstance(counted, int) and counted * 1000 > shown_ms else 0
    if running_since is not None:
        runs.append(Run(running_since, None))
    return runs, earlier if earlier >= 1000 else 0


def _trace_path(goal_id: object, root: object) -> str:
    """Returns where the console shows that root of a goal's trace."""
    return f"/goals/{goal_id}/trace?root={root}" if goal_id and root else ""


def _cause_path(event: Mapping[str, object]) -> str:
    cause = event.get("cause")
    return _trace_path(cause.get("goal_id"), cause.get("root")) if isinstance(cause, Mapping) else ""


def _stretch(value: object) -> tuple[datetime, datetime] | None:
    if not isinstance(value, Mapping):
        return None
    since, until = value.get("since", value.get("from")), value.get("until", value.get("to"))
    return (since, until) if isinstance(since, datetime) and isinstance(until, datetime) else None


def _marks(goal: Goal, webhooks: Iterable[Mapping[str, Any]]) -> list[Mark]:
    marks: dict[tuple[datetime, bool, str], Mark] = {}
    for webhook in webhooks:
        node = webhook["node"]
        happened = node.get("happened_at")
        if not isinstance(happened, datetime):
            happened = node["at"]
        user = node.get("user_id") or ""
        joined = node["name"] in _JOINS
        reason = _clock_reason(node)
        counted = reason == "" or reason in _REPEATS
        named = _role(goal, str(user))
        key = (happened, joined, named)
        # A repeat or twin of a mark that counted says nothing new.
        if key not in marks or (counted and not marks[key].counted):
            path = _trace_path(goal.id, webhook["_id"])
            late = max(node["at"] - happened, timedelta())
            marks[key] = Mark(happened, joined, named, counted, "" if counted else reason, late=late, path=path)
    return sorted(marks.values(), key=lambda mark: (mark.at, not mark.joined))


def _role(goal: Goal, user: str) -> str:
    if not user:
        return "channel"
    if user == goal.metadata.user_id:
        return f"{user} (performer)"
    if user in (goal.conditions.exclusive_to, goal.metadata.viewer_id):
        return f"{user} (viewer)"
    return user


def _clock_reason(node: Mapping[str, Any]) -> str:
    """Returns why the clock was not moved by this webhook event; empty when it was."""
    for signal in node.get("children") or ():
        for receiver in signal.get("children") or ():
            if receiver.get("name") == "karaoke_control":
                return str(receiver.get("reason", "")) if receiver.get("outcome") != "done" else ""
    return str(node.get("reason", "")) if node.get("outcome") != "done" else ""


def _receipts(webhooks: Iterable[Mapping[str, Any]]) -> list[Receipt]:
    found = []
    for webhook in webhooks:
        node = webhook["node"]
        happened = node.get("happened_at")
        reason = _clock_reason(node)
        found.append(
            Receipt(
                happened if isinstance(happened, datetime) else node["at"],
                node["at"],
                str(node["name"]),
                refused=bool(reason) and reason not in _REPEATS,
                repeated=reason in _REPEATS,
            )
        )
    return found


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
