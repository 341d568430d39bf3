"""What the page of a user shows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from goalsvc.console.queries import rows
from goalsvc.domain.channels import goal_channel
from goalsvc.domain.goals import PERFORMED
from goalsvc.domain.performance import Owner
from goalsvc.models.clocks import parties_of
from goalsvc.models.filters import ACTIVE
from goalsvc.models.goal import clock_in
from goalsvc.models.user import User

MOST = 100
_MOST_SESSIONS = 20


@dataclass(frozen=True, slots=True)
class Joined:
    """A goal in whose channel a user is, as the joins and leaves say."""

    goal_id: str
    channel: str
    kind: str
    performs: bool
    """Whether the user is its performer; otherwise its viewer."""


@dataclass(frozen=True, slots=True)
class UserPage:
    """A performer or viewer."""

    user_id: str
    user: User | None
    sessions: Sequence[Mapping[str, object]]
    more: bool
    """Whether there are earlier sessions."""
    joined: Sequence[Joined]
    """The goals in whose channels the user is now."""


async def user_page(user_id: str) -> UserPage:
    """Returns the page of that user, who need not be known."""
    user = await User.by_id(user_id)
    fields = {"statuses": 1, "user_id": 1}
    sessions = await rows(
        "sessions", {"user_id": user_id}, sort=[("statuses.started", -1)], limit=_MOST_SESSIONS + 1, fields=fields
    )
    more = len(sessions) > _MOST_SESSIONS
    return UserPage(user_id, user, sessions[:_MOST_SESSIONS], more, await _joined(user_id))


async def _joined(user_id: str) -> list[Joined]:
    roles = [{"metadata.user_id": user_id}, {"metadata.viewer_id": user_id}, {"conditions.exclusive_to": user_id}]
    classes = [kind.cls for kind in PERFORMED]
    found = []
    for goal in await rows("goals", {"active": ACTIVE, "_cls": {"$in": classes}, "$or": roles}, limit=MOST):
        performer, viewers = parties_of(goal)
        present = clock_in(goal).present()
        as_performer = user_id == performer and bool(present & {Owner.PERFORMER, Owner.UNOWNED})
        if as_performer or (user_id in viewers and Owner.VIEWER in present):
            kind = str(goal["_cls"]).removeprefix("Goal.")
            found.append(Joined(str(goal["_id"]), goal_channel(str(goal["_id"])), kind, as_performer))
    return found
