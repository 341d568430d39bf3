"""What is thrown at the service: goals with their sessions, and signed webhooks of people who join and leave them."""

import hmac
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from bson import ObjectId

from goalsvc.devstack.environment import DEFAULTS

KEY = DEFAULTS["GOALSVC_PUSHER_KEY"]
SECRET = DEFAULTS["GOALSVC_PUSHER_SECRET"].encode()

#: No goal of the throughput rows is ever completed: that is a row of its own.
_OUT_OF_REACH = 10_000_000
#: One turn of a goal: performed for so long, then paused for so long.
PERFORMED_SECONDS = 3.2
_PAUSED_SECONDS = 2.0
#: Pusher sends the twin of a webhook within milliseconds.
_TWIN_MILLISECONDS = 8
#: Webhooks older than 15 minutes are refused.
_BEGUN_AGO = timedelta(minutes=10)

Document = dict[str, Any]


def streamer_of(goal_id: ObjectId) -> str:
    """The performer of a goal that was made here."""
    return f"streamer-{goal_id}"


def show_goal(goal_id: ObjectId, session_id: ObjectId, target: int = _OUT_OF_REACH) -> Document:
    """A ShowGoal, as another service writes it."""
    return {
        "_id": goal_id,
        "_cls": "Goal.ShowGoal",
        "active": True,
        "progress": 0,
        "levels": [{"title": "a show", "target": target}],
        "conditions": {"session_id": session_id},
        "metadata": {"user_id": streamer_of(goal_id)},
    }


def session(session_id: ObjectId, goal_id: ObjectId, funding_goal: ObjectId, started: datetime) -> Document:
    """The livestream of that show."""
    return {
        "_id": session_id,
        "user_id": streamer_of(goal_id),
        "statuses": {"started": started},
        "status": {},
        "show_goal_pairs": [{"funding_goal": funding_goal, "show_goal": goal_id}],
        "exclusive_goal_pairs": {},
        "viewers": {},
        "rtc": {"room_id": f"room-{session_id}"},
    }


def shows(count: int) -> tuple[list[Document], list[Document]]:
    """So many goals, and their sessions."""
    started = datetime.now(UTC) - timedelta(hours=1)
    goals = [show_goal(ObjectId(), ObjectId()) for _ in range(count)]
    sessions = [session(goal["conditions"]["session_id"], goal["_id"], ObjectId(), started) for goal in goals]
    return goals, sessions


# -- requests ---------------------------------------------------------------------------------------------------------


def signed(body: bytes) -> bytes:
    """The whole HTTP request that brings this webhook."""
    signature = hmac.new(SECRET, body, sha256).hexdigest()
    head = (
        "POST /notify/pusher HTTP/1.1\r\n"
        "Host: 127.0.0.1\r\n"
        "User-Agent: PusherWebhooks\r\n"
        "Content-Type: application/json\r\n"
        f"X-Pusher-Key: {KEY}\r\n"
        f"X-Pusher-Signature: {signature}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def body_of(name: str, goal_id: ObjectId, at_ms: int) -> bytes:
    """The webhook that tells of one event. The member events name the performer, the channel events nobody."""
    event = {"name": name, "channel": f"presence-enc-goal@{goal_id}"}
    if name.startswith("member_"):
        event["user_id"] = streamer_of(goal_id)
    return json.dumps({"time_ms": at_ms, "events": [event]}, separators=(",", ":")).encode()


def webhook(name: str, goal_id: ObjectId, at: datetime) -> bytes:
    """The signed request that tells of one event."""
    return signed(body_of(name, goal_id, int(at.timestamp() * 1000)))


@dataclass(frozen=True, slots=True)
class Mix:
    """How people come and go: so many turns (a join and a leave) of every goal, each told once or by two webhooks."""

    name: str
    turns: int
    twins: bool = False

    @property
    def seconds_per_goal(self) -> int:
        """What the law (docs/specification.md#clock) makes of one goal's webhooks."""
        return int(self.turns * PERFORMED_SECONDS)

    def bodies(self, goals: Sequence[Mapping[str, Any]], seed: int = 0) -> Iterator[bytes]:
        """All webhooks, in the order in which they are sent: one event of every goal, then the next of every goal."""
        chance = random.Random(seed)
        begun = int((datetime.now(UTC) - _BEGUN_AGO).timestamp() * 1000)
        for turn in range(self.turns):
            joined = begun + int(turn * (PERFORMED_SECONDS + _PAUSED_SECONDS) * 1000)
            left = joined + int(PERFORMED_SECONDS * 1000)
            for at, names in (
                (joined, ("member_added", "channel_occupied")),
                (left, ("member_removed", "channel_vacated")),
            ):
                for goal in goals:
                    if not self.twins:
                        yield body_of(names[0], goal["_id"], at)
                        continue
                    first, second = chance.sample(names, 2)
                    yield body_of(first, goal["_id"], at)
                    yield body_of(second, goal["_id"], at + chance.randrange(_TWIN_MILLISECONDS))
