"""Joins and leaves that are to move the clock of a goal, and what they did."""

from dataclasses import dataclass
from datetime import datetime

from bson import ObjectId

from goalsvc.domain.origin import Origin
from goalsvc.domain.performance import Turned
from goalsvc.domain.promises import Promise


@dataclass(frozen=True, slots=True)
class Move:
    """A join or a leave that is to move a goal's clock."""

    goal_id: ObjectId
    joined: bool
    user_id: str | None
    at: datetime
    event_id: str
    origin: Origin


@dataclass(frozen=True, slots=True)
class Moved:
    """What a move did, and what the goal promises because of it."""

    turned: Turned
    promises: tuple[Promise, ...]
    running: bool
    """Whether the clock runs after it."""
