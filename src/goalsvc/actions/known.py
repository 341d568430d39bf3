"""Documents that a caller names by their id."""

from bson import ObjectId

from goalsvc.database_session import DatabaseSession
from goalsvc.errors import NotFoundError
from goalsvc.models.goal import Goal
from goalsvc.models.session import Session


async def known_goal(goal_id: ObjectId, session: DatabaseSession | None = None) -> Goal:
    """The goal of that id; raises NotFoundError."""
    goal = await Goal.by_id(goal_id, session)
    if goal is None:
        raise NotFoundError(f"there is no goal {goal_id}")
    return goal


async def known_session(session_id: ObjectId) -> Session:
    """The session of that id; raises NotFoundError."""
    session = await Session.by_id(session_id)
    if session is None:
        raise NotFoundError(f"there is no session {session_id}")
    return session
