"""What the page of a user shows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from goalsvc.console.queries import rows
from goalsvc.models.joined import JoinedChannels, channels_of
from goalsvc.models.user import User

_MOST_SESSIONS = 20


@dataclass(frozen=True, slots=True)
class UserPage:
    """A performer or viewer."""

    user_id: str
    user: User | None
    sessions: Sequence[Mapping[str, object]]
    more: bool
    """Whether there are earlier sessions."""
    joined: JoinedChannels
    """The goals in whose channels the user is now."""


async def user_page(user_id: str) -> UserPage:
    """Returns the page of that user, who need not be known."""
    user = await User.by_id(user_id)
    fields = {"statuses": 1, "user_id": 1}
    sessions = await rows(
        "sessions", {"user_id": user_id}, sort=[("statuses.started", -1)], limit=_MOST_SESSIONS + 1, fields=fields
    )
    more = len(sessions) > _MOST_SESSIONS
    return UserPage(user_id, user, sessions[:_MOST_SESSIONS], more, await channels_of(user_id))
