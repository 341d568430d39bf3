"""One stream's evening: the session with its goals, and what its picture shows."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from bson import ObjectId

from goalsvc.console.pictures.evening import Evening, GoalBar, Spell, Window
from goalsvc.console.queries import rows
from goalsvc.console.queries.goals import runs_of
from goalsvc.models.goal import Goal
from goalsvc.models.performed import stretches_of
from goalsvc.models.session import Session, either_form
from goalsvc.models.takings import goals_in, takings_of

MOST = 100
_MOST_EVENTS = 500


@dataclass(frozen=True, slots=True)
class SessionPage:
    """One stream's evening."""

    session: Session
    goals: Sequence[Goal]
    cut: bool
    evening: Evening
    takings: Mapping[str, int]
    """Tokens that the streamer was paid, by the id of the goal that earned them."""


async def session_page(session_id: ObjectId, now: datetime) -> SessionPage | None:
    """Returns the page of that session, None when there is no such session."""
    session = await Session.by_id(session_id)
    if session is None:
        return None
    found, spells = await asyncio.gather(goals_in(session, MOST), _spells(session_id, now))
    goals = [goal for goal, _ in found.goals]
    takings = await takings_of(session, goals)
    bars = sorted((_bar(goal, row, takings, spells) for goal, row in found.goals), key=lambda bar: bar.since)
    windows = [
        Window(viewer, window.nbf, window.exp) for viewer, window in session.viewers.items() if window.nbf is not None
    ]
    times = session.statuses
    evening = Evening(session.user_id, now, times.started, times.ended, bars, windows)
    return SessionPage(session, goals, found.truncated, evening, takings)


def name_of(goal: Goal) -> str:
    """Returns what a goal is called: its plan, else its last level, else its kind."""
    plan = goal.metadata.show or goal.metadata.exclusive
    return (plan.title if plan else goal.levels[-1].title if goal.levels else "") or goal.kind.value


def _bar(
    goal: Goal, row: Mapping[str, object], takings: Mapping[str, int], spells: Mapping[str, Sequence[Spell]]
) -> GoalBar:
    runs = runs_of(stretches_of(goal, row)[0])
    made = goal.id.generation_time if goal.id is not None else runs[0].since
    created = row.get("created_at")
    since = min([created if isinstance(created, datetime) else made, *(run.since for run in runs)])
    until = None if goal.active else goal.exp or max([since, *(run.until for run in runs if run.until is not None)])
    identity = str(goal.id)
    return GoalBar(
        name_of(goal),
        goal.kind.value,
        since,
        max(until, since) if until is not None else None,
        runs,
        spells.get(identity, ()),
        takings.get(identity, 0),
        f"/goals/{identity}",
    )


async def _spells(session_id: ObjectId, now: datetime) -> Mapping[str, Sequence[Spell]]:
    """Returns the recordings and clips, by goal."""
    told = {"session_id": str(session_id), "type": {"$in": ["recording.started", "recording.stopped"]}}
    fields = {"type": 1, "created_at": 1, "goal_id": 1}
    events, clips = await asyncio.gather(
        rows("events", told, sort=[("sequence", -1)], limit=_MOST_EVENTS, fields=fields),
        rows("assets", {"metadata.source.id": either_form(session_id)}, limit=MOST),
    )
    found: dict[str, list[Spell]] = {}
    begun: dict[str, datetime] = {}
    for event in reversed(events):
        goal_id, at = str(event.get("goal_id")), event["created_at"]
        if event["type"] == "recording.started":
            begun.setdefault(goal_id, at)
        elif goal_id in begun:
            found.setdefault(goal_id, []).append(Spell("recording", begun.pop(goal_id), at))
    for goal_id, at in begun.items():
        found.setdefault(goal_id, []).append(Spell("recording", at, max(now, at)))
    for clip in clips:
        begin, seconds = clip.get("begins_at"), clip.get("duration")
        if isinstance(begin, datetime) and isinstance(seconds, int | float):
            spell = Spell("clip", begin, begin + timedelta(seconds=min(max(seconds, 0), 86_400)))
            found.setdefault(str(clip.get("goal_id")), []).append(spell)
    return found
