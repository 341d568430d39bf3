"""What the goals of a session took in: tokens that the streamer was paid, by goal."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from bson import ObjectId

from goalsvc.domain.documents import Stored
from goalsvc.domain.escrow import exclusive_escrow, show_escrow, tag_of
from goalsvc.domain.goals import GoalKind
from goalsvc.errors import UnusableDocumentError
from goalsvc.models.bounded import rows, total
from goalsvc.models.filters import whole_of
from goalsvc.models.goal import Goal
from goalsvc.models.session import Session, either_form


@dataclass(frozen=True, slots=True)
class SessionGoals:
    """The goals of a session in the order of their ids, each as it is stored as well; one that cannot be used is left out."""

    goals: Sequence[tuple[Goal, Stored]]
    truncated: bool
    """Whether there are more."""


async def goals_in(session: Session, most: int) -> SessionGoals:
    """Returns at most so many goals of that session. Raises PyMongoError."""
    where = {"conditions.session_id": either_form(ObjectId(session.id))}
    found = await rows("goals", where, sort=[("_id", 1)], limit=most + 1)
    goals = []
    for row in found[:most]:
        with suppress(UnusableDocumentError):
            goals.append((Goal.parse(row), row))
    return SessionGoals(goals, len(found) > most)


async def takings_of(session: Session, goals: Sequence[Goal]) -> Mapping[str, int]:
    """Returns what the session's streamer was paid by the escrows of these goals, by the goal's id. Raises PyMongoError."""
    funded = {str(pair.show_goal): pair.funding_goal for pair in session.show_goal_pairs}
    by_tag: dict[str, str] = {}
    for goal in goals:
        funding = goal.metadata.funding_goal_id or funded.get(str(goal.id))
        if goal.kind is GoalKind.EXCLUSIVE and goal.id is not None:
            by_tag[tag_of(exclusive_escrow(goal.id))] = str(goal.id)
        elif goal.kind is GoalKind.SHOW and funding is not None:
            by_tag[tag_of(show_escrow(funding))] = str(goal.id)
    if not by_tag:
        return {}
    stages: list[dict[str, object]] = [
        {"$match": {"tags": {"$in": list(by_tag)}, "to_user_id": session.user_id}},
        {"$unwind": "$tags"},
        {"$match": {"tags": {"$in": list(by_tag)}}},
        {"$group": {"_id": "$tags", "amount": {"$sum": whole_of("amount")}}},
    ]
    return {by_tag[row["_id"]]: int(row["amount"]) for row in await total("transfers", stages)}
