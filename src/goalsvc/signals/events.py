"""The payload of every signal: frozen, and the same for the bus, the trace and the AsyncAPI document.

Each class names its signal and its sender; `catalogue` says when each is sent and when it is not.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from goalsvc.domain.channels import OCCUPIED, VACATED, Channel
from goalsvc.domain.goals import ClockTimes, Conditions, GoalKind, HasLevels, Level, Metadata, level_of

PUSHER = "ext.pusher"
LEADERBOARDS = "features.leaderboards"
WALLET = "wallet"


# -- ext.pusher -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class PresenceEvent:
    """A user joined or left a channel. `user_id` is absent when Pusher told only of the channel."""

    signal: ClassVar[str] = PUSHER
    sender: ClassVar[str]

    channel: Channel
    user_id: str | None
    at: datetime
    event_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelOccupied(PresenceEvent):
    """A user joined the channel, or it is no longer empty (`member_added`, `channel_occupied`)."""

    sender: ClassVar[str] = OCCUPIED


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelVacated(PresenceEvent):
    """A user left the channel, or it is empty now (`member_removed`, `channel_vacated`)."""

    sender: ClassVar[str] = VACATED


# -- features.leaderboards --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class GoalEvent(HasLevels):
    """Something happened to a goal. `event_id` is the same when it is announced again after a crash."""

    signal: ClassVar[str] = LEADERBOARDS
    sender: ClassVar[str]

    event_id: str
    at: datetime
    goal_id: str
    kind: GoalKind
    conditions: Conditions
    context: ClockTimes
    progress: int
    levels: tuple[Level, ...]
    metadata: Metadata

    @property
    def streamer_id(self) -> str:
        """Whose goal it is."""
        return self.metadata.user_id

    @property
    def viewer_id(self) -> str | None:
        """For whom it is, when it is for one viewer."""
        return self.conditions.exclusive_to or self.metadata.viewer_id

    @property
    def target_reached(self) -> bool:
        """Whether the last level is reached; a goal without levels never reaches it."""
        return self.target is not None and self.progress >= self.target


@dataclass(frozen=True, slots=True, kw_only=True)
class GoalStarted(GoalEvent):
    """The performer has begun, or gone on after a pause: the goal's clock was started."""

    sender: ClassVar[str] = "goal.started"


@dataclass(frozen=True, slots=True, kw_only=True)
class GoalProgressed(GoalEvent):
    """Progress was raised by `amount` to `progress`: performed seconds, or contributed tokens."""

    sender: ClassVar[str] = "goal.progressed"

    amount: int
    contributions: int = 0
    """How many contributions the amount is the sum of; 0 for performed seconds."""
    breakdown_id: object = None
    exp: datetime | None = None

    @property
    def level_before(self) -> int:
        """How many levels were reached before this amount."""
        return level_of(self.levels, self.progress - self.amount)


@dataclass(frozen=True, slots=True, kw_only=True)
class GoalCompleted(GoalEvent):
    """A level was reached that had not been reached before."""

    sender: ClassVar[str] = "goal.completed"


@dataclass(frozen=True, slots=True, kw_only=True)
class GoalEnded(GoalEvent):
    """The goal is over: completed, ended by a call, expired, agreed to or declined."""

    sender: ClassVar[str] = "goal.ended"

    active: bool = False
    exp: datetime | None = None
    triggerer: str | None = None
    absent: tuple[str, ...] = ()
    """Who of a performed goal was not in its channel when it ended: `performer`, `viewer`."""
    settles_at: datetime | None = None
    """Until when the refund or division waits for late webhooks; None: it does not wait."""


# -- wallet -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class EscrowEvent:
    """Tokens left an escrow."""

    signal: ClassVar[str] = WALLET
    sender: ClassVar[str]

    event_id: str
    at: datetime
    escrow_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EscrowShareEvent(EscrowEvent):
    """One share of an escrow has reached the user it was due to."""

    to_user_id: str
    amount: int
    transfer_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EscrowShareCompleted(EscrowShareEvent):
    """One share was paid to the streamer."""

    sender: ClassVar[str] = "escrow.completed.individual"


@dataclass(frozen=True, slots=True, kw_only=True)
class EscrowShareRefunded(EscrowShareEvent):
    """One share went back to whom it came from."""

    sender: ClassVar[str] = "escrow.refunded.individual"


@dataclass(frozen=True, slots=True, kw_only=True)
class EscrowCompleted(EscrowEvent):
    """Every share of the escrow has been paid."""

    sender: ClassVar[str] = "escrow.completed"

    to_user_id: str
    shares: int
    amount: int = 0
    """What the payee received in all, without the platform's fee."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EscrowRefunded(EscrowEvent):
    """Every share of the escrow has been refunded."""

    sender: ClassVar[str] = "escrow.refunded"

    shares: int
