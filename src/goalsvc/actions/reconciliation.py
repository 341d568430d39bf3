"""Asking Pusher now, instead of when its turn comes: about all channels, or about one goal's."""

from bson import ObjectId

from goalsvc.actions.known import known_goal
from goalsvc.context import Context
from goalsvc.tasks.reconcile import Asked, ask_of_all, ask_of_goal


async def ask_pusher(context: Context, goal_id: ObjectId | None) -> Asked:
    """Asks Pusher who is where, and moves the clocks that disagree. Raises NotFoundError, ExternalServiceError."""
    at = context.clock.now()
    if goal_id is None:
        return await ask_of_all(context, at, at)
    await known_goal(goal_id)
    return await ask_of_goal(context, goal_id, at)
