"""From a goal, as it stands in the database, to the events that tell of it."""

from datetime import datetime

from goalsvc.domain.documents import RawDocument
from goalsvc.domain.goals import PERFORMED
from goalsvc.models.goal import Goal
from goalsvc.signals.events import GoalCompleted, GoalEnded, GoalProgressed, GoalStarted


def _facts(goal: Goal, event_id: str, at: datetime) -> RawDocument:
    """What every event tells of a goal."""
    return {
        "event_id": event_id,
        "at": at,
        "goal_id": str(goal.id),
        "kind": goal.kind,
        "conditions": goal.conditions,
        "context": goal.context,
        "progress": goal.progress,
        "levels": tuple(goal.levels),
        "metadata": goal.metadata,
    }


def started(goal: Goal, event_id: str, at: datetime) -> GoalStarted:
    """The goal's clock was started at `at`."""
    return GoalStarted(**_facts(goal, event_id, at))


def progressed(
    goal: Goal, event_id: str, at: datetime, amount: int, progress: int, contributions: int = 0
) -> GoalProgressed:
    """Progress was raised by `amount` to `progress`, which need not be what it is by now."""
    facts = _facts(goal, event_id, at) | {"progress": progress}
    return GoalProgressed(
        **facts, amount=amount, contributions=contributions, breakdown_id=goal.breakdown_id, exp=goal.exp
    )


def completed(goal: Goal, event_id: str, at: datetime) -> GoalCompleted:
    """The goal was completed, which its progress alone would not tell."""
    return GoalCompleted(**_facts(goal, event_id, at))


def ended(goal: Goal, event_id: str, at: datetime) -> GoalEnded:
    """Returns the event that the goal is over."""
    absent = goal.performance.absent() if goal.kind in PERFORMED else ()
    return GoalEnded(
        **_facts(goal, event_id, at),
        exp=goal.exp,
        triggerer=goal.triggerer,
        absent=tuple(owner.value for owner in absent),
        settles_at=goal.settles_at,
    )
