"""One exclusive at a time: by session, by viewer and by performer."""

from datetime import datetime

from bson import ObjectId

from goalsvc.database_session import DatabaseSession
from goalsvc.errors import ConflictError
from goalsvc.models.exclusivity import ExclusiveSlot, Parties

_MESSAGES = {
    "exclusive_running": "another exclusive goes on, or is about to begin, in this session",
    "viewer_in_exclusive": "the viewer is in another exclusive",
    "performer_in_exclusive": "the performer gives another exclusive",
}


async def take_exclusive(parties: Parties, goal_id: ObjectId, now: datetime, session: DatabaseSession) -> None:
    """Takes session, viewer and performer for that goal, within a transaction.

    Raises ConflictError `exclusive_running`, `viewer_in_exclusive` or `performer_in_exclusive`.
    """
    taken = await ExclusiveSlot.take(parties, goal_id, now, session)
    if taken is not None:
        raise ConflictError(taken, _MESSAGES[taken])
