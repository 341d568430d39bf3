"""The channels that a user has joined now, as the joins and leaves of goals' channels say."""

from collections.abc import Sequence
from dataclasses import dataclass

from goalsvc.domain.channels import goal_channel
from goalsvc.domain.goals import PERFORMED
from goalsvc.domain.performance import Owner
from goalsvc.models.bounded import rows
from goalsvc.models.clocks import parties_of
from goalsvc.models.filters import ACTIVE
from goalsvc.models.goal import clock_in

#: At most so many active goals of a user are looked through.
MOST_GOALS = 100


@dataclass(frozen=True, slots=True)
class Joined:
    """A goal in whose channel a user is."""

    goal_id: str
    channel: str
    kind: str
    performs: bool
    """Whether the user is its performer; otherwise its viewer."""


@dataclass(frozen=True, slots=True)
class JoinedChannels:
    """The goals in whose channels a user is."""

    items: Sequence[Joined]
    truncated: bool
    """Whether the user has more active goals than were looked through."""


async def channels_of(user_id: str) -> JoinedChannels:
    """Returns the goals in whose channels that user is, who need not be known. Raises PyMongoError."""
    roles = [{"metadata.user_id": user_id}, {"metadata.viewer_id": user_id}, {"conditions.exclusive_to": user_id}]
    where = {"active": ACTIVE, "_cls": {"$in": [kind.cls for kind in PERFORMED]}, "$or": roles}
    goals = await rows("goals", where, limit=MOST_GOALS + 1)
    found = []
    for goal in goals[:MOST_GOALS]:
        performer, viewers = parties_of(goal)
        present = clock_in(goal).present()
        as_performer = user_id == performer and bool(present & {Owner.PERFORMER, Owner.UNOWNED})
        if as_performer or (user_id in viewers and Owner.VIEWER in present):
            kind = str(goal["_cls"]).removeprefix("Goal.")
            found.append(Joined(str(goal["_id"]), goal_channel(str(goal["_id"])), kind, as_performer))
    return JoinedChannels(found, len(goals) > MOST_GOALS)
