"""What a goal is made of: its kind, levels, conditions, clock times and metadata. Pure values of documents and signals."""

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

from bson import Code, ObjectId
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema

from goalsvc.domain.reading import Flag, Instant, Text, Whole, whole


class GoalKind(StrEnum):
    """The kinds of goal; in MongoDB `_cls` is `Goal.` and the kind."""

    FUNDING = "FundingGoal"
    TRIGGER = "TriggerGoal"
    SHOW = "ShowGoal"
    KARAOKE = "KaraokeGoal"
    EXCLUSIVE = "ExclusiveGoal"

    @property
    def cls(self) -> str:
        """The value of `_cls` in MongoDB."""
        return f"Goal.{self.value}"


#: Every value of `_cls` that is goalsvc's; goals of other classes, and of subclasses, belong to other services.
CLASSES = tuple(kind.cls for kind in GoalKind)
#: The kinds that are performed: their progress is seconds, and they have a clock.
PERFORMED = frozenset({GoalKind.SHOW, GoalKind.KARAOKE, GoalKind.EXCLUSIVE})
#: Their values of `_cls`.
PERFORMED_CLASSES = frozenset(kind.cls for kind in PERFORMED)
ALL_KINDS = frozenset(GoalKind)
#: How many levels a goal may have.
MOST_LEVELS = 100


def _object_id(value: object) -> object:
    """An id as an ObjectId, from either of the forms in which other services write it; what is no id counts as absent."""
    return ObjectId(value) if isinstance(value, str | ObjectId) and ObjectId.is_valid(value) else None


def user_id(value: object) -> str | None:
    """A user id as the string that it is everywhere, from the numbers that other services may write; None for others."""
    if isinstance(value, str):
        if isinstance(value, Code):
            return None
        return value if value and "\0" not in value else None
    number = whole(value)
    return None if number is None else str(number)


def _user_id(value: object) -> str:
    found = user_id(value)
    if found is None:
        raise ValueError("must be a user id: text that is not empty, or a whole number")
    return found


#: A reference to another document: read as ObjectId or hex string, written as ObjectId, shown as a string.
Reference = Annotated[
    ObjectId | None,
    BeforeValidator(_object_id),
    PlainSerializer(str, return_type=str, when_used="json-unless-none"),
    WithJsonSchema({"type": "string", "pattern": "^[0-9a-f]{24}$"}),
]
UserId = Annotated[str, BeforeValidator(_user_id)]


class _Value(BaseModel):
    """Part of a document. Fields that we do not know are another service's: kept, not refused."""

    model_config = ConfigDict(extra="allow", frozen=True, arbitrary_types_allowed=True)


class Level(_Value):
    """One threshold of a goal: reached when progress is at least `target` (seconds, or tokens)."""

    title: Text = ""
    target: Whole


class Conditions(_Value):
    """What a goal belongs to."""

    session_id: Reference = None
    exclusive_to: UserId | None = None
    trigger_goal_id: Reference = None


class ClockTimes(_Value):
    """When the goal's clock was started and paused last: it runs while `started` is later than `paused`."""

    started: Instant | None = None
    paused: Instant | None = None
    last_updated: Instant | None = None

    @property
    def running(self) -> bool:
        """Whether the clock runs."""
        return self.started is not None and (self.paused is None or self.started > self.paused)


class ShowPlan(_Value):
    """What a FundingGoal pays for: the title of the show and its target in seconds."""

    title: Text = ""
    target: Whole


class Metadata(_Value):
    """Who a goal is about, and what its kind needs besides."""

    user_id: UserId = Field(default="", description="the streamer")
    viewer_id: UserId | None = None
    show: ShowPlan | None = None
    private: Flag = False
    price: Whole = 0
    exclusive: ShowPlan | None = None
    funding_goal_id: Reference = None
    """ShowGoal: the FundingGoal whose escrow pays for it, also where the session's pair was removed."""
    fee_bps: Whole | None = None
    """The platform's share of a payout in hundredths of a percent; absent: `GOALSVC_PLATFORM_FEE_BPS`."""

    @property
    def funded_show(self) -> ShowPlan | None:
        """The show that a FundingGoal pays for; None where `show` is missing, or has no target above 0."""
        return self.show if self.show is not None and self.show.target > 0 else None


#: The largest target of anything that is performed.
LONGEST_TARGET_SECONDS = 86_400


def level_of(levels: Sequence[Level], progress: int) -> int:
    """How many levels that progress has reached; one whose target is not above 0 counts as absent."""
    return sum(0 < level.target <= progress for level in levels)


def last_target(levels: Sequence[Level]) -> int | None:
    """The threshold of the last level; None without levels. One that is not above 0 counts as absent."""
    return next((level.target for level in reversed(levels) if level.target > 0), None)


class HasLevels:
    """Something with a progress and levels: a goal, and what is told of one."""

    __slots__ = ()

    if TYPE_CHECKING:
        levels: Sequence[Level]
        progress: int

    @property
    def level(self) -> int:
        """How many levels are reached."""
        return level_of(self.levels, self.progress)

    @property
    def target(self) -> int | None:
        """The threshold of the last level; None without levels (`last_target`)."""
        return last_target(self.levels)
