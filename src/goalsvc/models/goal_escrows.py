"""The escrows of a goal."""

from bson import ObjectId

from goalsvc.domain.escrow import exclusive_escrow, show_escrow, trigger_escrow
from goalsvc.domain.goals import GoalKind
from goalsvc.models.bounded import rows
from goalsvc.models.goal import Goal


async def escrows_of(goal: Goal) -> list[str]:
    """Returns the names of the escrows that a goal fills or is paid from."""
    if goal.id is None:
        return []
    match goal.kind:
        case GoalKind.FUNDING:
            return [show_escrow(goal.id)]
        case GoalKind.TRIGGER:
            return [trigger_escrow(goal.id)]
        case GoalKind.EXCLUSIVE:
            return [exclusive_escrow(goal.id)]
        case GoalKind.SHOW:
            funding = await funding_of(goal)
            return [show_escrow(funding)] if funding is not None else []
        case _:
            return []


async def funding_of(goal: Goal) -> ObjectId | None:
    """Returns the id of the FundingGoal that pays for a show."""
    if goal.metadata.funding_goal_id is not None:
        return goal.metadata.funding_goal_id
    where = {"_id": goal.conditions.session_id, "show_goal_pairs.show_goal": {"$in": [goal.id, str(goal.id)]}}
    for session in await rows("sessions", where, limit=1, fields={"show_goal_pairs": 1}):
        for pair in session.get("show_goal_pairs") or ():
            if str(pair.get("show_goal")) == str(goal.id) and ObjectId.is_valid(pair.get("funding_goal") or ""):
                return ObjectId(pair["funding_goal"])
    return None
