"""Pusher's wire names and ours: webhook events and channel names, parsed once into typed values."""

import hashlib
import re
from dataclasses import dataclass
from enum import StrEnum

from goalsvc.domain.ids import USER_ID

OCCUPIED = "channel_occupied"
VACATED = "channel_vacated"

#: Pusher's event name → the sender of our signal. One join or leave is announced by two of these, in either order.
SENDER_BY_EVENT_NAME = {
    "channel_occupied": OCCUPIED,
    "member_added": OCCUPIED,
    "channel_vacated": VACATED,
    "member_removed": VACATED,
}
#: Pusher's names of a join and of a leave.
JOINS = frozenset(name for name, sender in SENDER_BY_EVENT_NAME.items() if sender == OCCUPIED)
LEAVES = frozenset(SENDER_BY_EVENT_NAME) - JOINS

#: In place of an app key, the root of a test event has this and the name of the key of the API.
TEST_KEY = "test event by "


LONGEST_NAME = 164
#: A name that Pusher accepts: https://pusher.com/docs/channels/using_channels/channels/#channel-naming-conventions
CHANNEL_NAME = re.compile(rf"[A-Za-z0-9_\-=@,.;]{{1,{LONGEST_NAME}}}")
#: What a value is told that is not such a name.
CHANNEL_NAME_RULE = f"must be 1 to {LONGEST_NAME} characters of A-Z a-z 0-9 _ - = @ , . ;"


class ChannelKind(StrEnum):
    """What a channel is about."""

    GOAL = "goal"
    STREAM = "stream"
    USER = "user"


#: Prefix of a channel's name → (kind, whether it is a presence channel). `-enc-` is only a name: Pusher encrypts nothing here.
_PREFIXES = {
    "presence-enc-goal": (ChannelKind.GOAL, True),
    "presence-goal": (ChannelKind.GOAL, True),
    "presence-stream": (ChannelKind.STREAM, True),
    "presence-enc-stream": (ChannelKind.STREAM, True),
    "private-stream": (ChannelKind.STREAM, False),
    "private-enc-stream": (ChannelKind.STREAM, False),
    "private-user": (ChannelKind.USER, False),
    "private-enc-user": (ChannelKind.USER, False),
    "presence-user": (ChannelKind.USER, True),
    "presence-enc-user": (ChannelKind.USER, True),
}


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel of ours: `presence-enc-goal@68143584d6945d32e732cc21` is of kind goal and about that id."""

    name: str
    kind: ChannelKind
    about: str
    presence: bool

    @classmethod
    def parse(cls, name: str) -> "Channel | None":
        """The channel of that name, or None when it is not one of ours.

        Ours are of the known kinds, with a name that Pusher accepts; those of streams and users are about a user id.
        """
        prefix, at, about = name.partition("@")
        known = _PREFIXES.get(prefix)
        if not at or not about or known is None or not CHANNEL_NAME.fullmatch(name):
            return None
        if known[0] is not ChannelKind.GOAL and not USER_ID.fullmatch(about):
            return None
        return cls(name, known[0], about, known[1])


def goal_channel(goal_id: str) -> str:
    """The channel whose members are performing that goal."""
    return f"presence-enc-goal@{goal_id}"


def private_stream(user_id: str) -> str:
    """The channel that tells the viewers of a streamer's livestream what happens, one way."""
    return f"private-stream@{user_id}"


def presence_stream(user_id: str) -> str:
    """The channel whose members are watching that streamer."""
    return f"presence-stream@{user_id}"


def private_user(user_id: str) -> str:
    """The channel of that user alone."""
    return f"private-user@{user_id}"


def cached_channels(streamer_id: str) -> tuple[str, ...]:
    """The channels whose cached data shows the state of that streamer's goals."""
    return (
        f"private-user@{streamer_id}",
        f"private-enc-user@{streamer_id}",
        f"private-stream@{streamer_id}",
        f"private-enc-stream@{streamer_id}",
    )


def event_id(name: str, channel: str, user_id: str | None, time_ms: int) -> str:
    """An id for a webhook event, which Pusher gives none: the same event repeated has the same id, its twin another."""
    text = f"{name}\n{channel}\n{user_id or ''}\n{time_ms}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:24]
