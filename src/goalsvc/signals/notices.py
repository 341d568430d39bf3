"""What clients are told through Pusher: every event as a model, with the channels on which it is told.

Receivers send these and nothing else, and `/asyncapi.json` is made from them, so that what is sent and what is documented
cannot differ. Notices are at least once: the same `event_id` twice is the same notice.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from goalsvc.domain.channels import presence_stream, private_stream, private_user
from goalsvc.domain.goals import MOST_LEVELS, GoalKind, Level
from goalsvc.signals.events import GoalEvent


@dataclass(frozen=True, slots=True)
class Address:
    """A kind of channel on which notices are told."""

    pattern: str
    """The channel's name, with `{user_id}` for whom it is about."""
    title: str
    about: str
    """Who `{user_id}` is."""
    hears: str
    """Who hears what is told there."""

    def of(self, user_id: str) -> str:
        """The channel's name for that user."""
        return self.pattern.format(user_id=user_id)


VIEWERS = Address(
    private_stream("{user_id}"), "A stream, one way", "The streamer.", "All who follow the streamer's livestream."
)
WATCHERS = Address(
    presence_stream("{user_id}"), "A stream, with its audience", "The streamer.", "All who are present on the stream."
)
USER = Address(private_user("{user_id}"), "A user's own channel", "The user.", "That user alone, on all devices.")

STREAM = (VIEWERS, WATCHERS)
EVERYWHERE = (VIEWERS, WATCHERS, USER)


class _Part(BaseModel):
    """Part of a notice."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Notice(_Part):
    """An event that clients receive. What is absent is left out, never null."""

    event: ClassVar[str]
    """The name that clients bind to."""
    told_on: ClassVar[tuple[Address, ...]]

    event_id: str = Field(description="The same when the notice is repeated.", examples=["5f0c1d9c8e7b6a5948372615"])

    def data(self) -> Mapping[str, object]:
        """What Pusher carries: plain JSON values, times in ISO 8601 and UTC."""
        return self.model_dump(mode="json", exclude_none=True)

    @classmethod
    def channels_of(cls, user_id: str) -> list[str]:
        """Every channel about that user on which this is told."""
        return [address.of(user_id) for address in cls.told_on]


# -- goals ------------------------------------------------------------------------------------------------------------


#: How long the titles of all levels of a notice may be: Pusher takes 10 KB, and `MOST_LEVELS` need 4 KB besides.
_TITLES_BYTES = 4_500
_TITLE_BYTES = 1_024


def _json_bytes(text: str) -> int:
    """The length of the text in JSON, without its quotes."""
    return len(json.dumps(text, ensure_ascii=False).encode("utf-8", "replace")) - 2


def shortened(text: str, most: int = _TITLE_BYTES) -> str:
    """The text; what is longer in JSON than so many bytes is cut and ends with `…`."""
    size = kept = 0
    for character in text:
        size += _json_bytes(character)
        if size > most:
            return f"{text[:kept]}…"
        if size <= most - len("…".encode()):
            kept += 1
    return text


class LevelNotice(_Part):
    """A threshold of a goal. Where the titles of all levels are over 4,500 bytes, each ends with `…` where it is cut.

    Of a goal of another service with more than 100 levels, the first 100 are told.
    """

    title: str = Field(examples=["Ukulele medley"])
    target: int = Field(description="Seconds, or tokens for a FundingGoal.", examples=[360])

    @classmethod
    def of_levels(cls, levels: Sequence[Level]) -> tuple[Self, ...]:
        """The thresholds of a goal, as clients are told them: cut where Pusher would not take all of it."""
        levels = levels[:MOST_LEVELS]
        whole = sum(_json_bytes(level.title) for level in levels) <= _TITLES_BYTES
        share = _TITLES_BYTES if whole else _TITLES_BYTES // len(levels)
        return tuple(cls(title=shortened(level.title, share), target=level.target) for level in levels)


class ShowNotice(_Part):
    """The show that a FundingGoal pays for."""

    title: str = Field(examples=["Ukulele medley"])
    target: int = Field(description="Seconds.", examples=[360])


class GoalNotice(Notice):
    """What every notice about a goal says."""

    goal_id: str = Field(examples=["68143584d6945d32e732cc21"])
    kind: GoalKind = Field(examples=["ShowGoal"])
    progress: int = Field(description="Whole performed seconds, or tokens for a FundingGoal.", examples=[120])
    level: int = Field(description="How many levels are reached.", examples=[0])
    levels: tuple[LevelNotice, ...]
    user_id: str = Field(description="The streamer.", examples=["u-alice-1"])
    at: datetime = Field(description="When it happened.", examples=["2026-01-01T20:02:00Z"])
    session_id: str | None = Field(default=None, examples=["68143584d6945d32e732cc20"])

    @classmethod
    def of(cls, event: GoalEvent, **besides: object) -> Self:
        """The notice of what happened to a goal, with what this kind of notice says besides."""
        session_id = event.conditions.session_id
        return cls(
            event_id=event.event_id,
            goal_id=event.goal_id,
            kind=event.kind,
            progress=event.progress,
            level=event.level,
            levels=LevelNotice.of_levels(event.levels),
            user_id=event.streamer_id,
            at=event.at,
            session_id=str(session_id) if session_id is not None else None,
            **besides,
        )


class GoalProgressUpdated(GoalNotice):
    """A goal's progress was raised. Not told of ExclusiveGoals, which are private."""

    event: ClassVar[str] = "goal.progress.updated"
    told_on: ClassVar[tuple[Address, ...]] = EVERYWHERE

    amount: int = Field(description="By how much: seconds or tokens.", examples=[30])
    contributions: int | None = Field(
        default=None, description="Of a FundingGoal: how many contributions the amount is the sum of.", examples=[12]
    )


class StreamChanged(GoalNotice):
    """A FundingGoal is paid for: the stream switches to the show."""

    event: ClassVar[str] = "stream.changed"
    told_on: ClassVar[tuple[Address, ...]] = STREAM

    show: ShowNotice | None = None
    show_goal_id: str | None = Field(
        default=None, description="The ShowGoal that begins.", examples=["68143584d6945d32e732cc22"]
    )


class ContributorNotice(_Part):
    """A contributor, with the sum of their contributions."""

    user_id: str = Field(examples=["u-bob-2"])
    amount: int = Field(description="Tokens.", examples=[750])


class LivestreamMvps(GoalNotice):
    """A goal was completed: these contributed most to it."""

    event: ClassVar[str] = "livestream.mvps"
    told_on: ClassVar[tuple[Address, ...]] = STREAM

    mvps: tuple[ContributorNotice, ...] = Field(description="The first three, highest first.")


class GoalEndedNotice(GoalNotice):
    """A goal is over. Told of an ExclusiveGoal to its viewer and the streamer alone; not told of a completed ShowGoal."""

    event: ClassVar[str] = "goal.ended"
    told_on: ClassVar[tuple[Address, ...]] = EVERYWHERE

    completed: bool = Field(description="Whether its last level was reached.")
    absent: tuple[str, ...] | None = Field(
        default=None,
        description="Who of a performed goal was not in its channel when it ended; absent for other kinds.",
        examples=[["viewer"]],
    )


class ExclusiveClosed(GoalNotice):
    """A private minute is over; told to its viewer and the streamer."""

    event: ClassVar[str] = "exclusive.closed"
    told_on: ClassVar[tuple[Address, ...]] = (USER,)


class StreamAuthorizedForViewer(GoalNotice):
    """A viewer's request was agreed to: from when on the stream is for them alone.

    The end is not known at the agreement: it follows the clock (`GET /v1/sessions/{id}/token`).
    """

    event: ClassVar[str] = "stream.authorized"
    told_on: ClassVar[tuple[Address, ...]] = (USER,)

    viewer_id: str = Field(examples=["u-bob-2"])
    nbf: datetime = Field(description="From when on they may watch.", examples=["2026-01-01T20:00:00Z"])
    exp: datetime | None = Field(
        default=None,
        description="Until when they may watch; absent while that is not known.",
        examples=["2026-01-01T20:06:00Z"],
    )
    exclusive_goal_id: str | None = Field(
        default=None, description="The ExclusiveGoal that begins.", examples=["68143584d6945d32e732cc23"]
    )


class StreamAuthorizedForAll(Notice):
    """An exclusive has ended: the stream is everybody's again."""

    event: ClassVar[str] = "stream.authorized"
    told_on: ClassVar[tuple[Address, ...]] = STREAM

    user_id: str = Field(description="The streamer.", examples=["u-alice-1"])
    at: datetime = Field(examples=["2026-01-01T20:06:00Z"])
    nbf: datetime = Field(description="From when on every viewer may watch.", examples=["2026-01-01T20:06:00Z"])
    exclusive_goal_id: str | None = Field(
        default=None, description="The ExclusiveGoal that has ended.", examples=["68143584d6945d32e732cc23"]
    )


# -- sessions and who is there ----------------------------------------------------------------------------------------


class KaraokeScore(_Part):
    """The karaoke score of a session."""

    id: str = Field(description="The KaraokeGoal.", examples=["68143584d6945d32e732cc21"])
    progress: int = Field(description="Whole performed seconds.", examples=[120])
    levels: tuple[LevelNotice, ...]
    active: bool


class SessionKaraokeGoalUpdated(Notice):
    """The karaoke score that a session shows has risen."""

    event: ClassVar[str] = "session.karaoke_goal.updated"
    told_on: ClassVar[tuple[Address, ...]] = STREAM

    session_id: str = Field(examples=["68143584d6945d32e732cc20"])
    karaoke_goal: KaraokeScore
    at: datetime = Field(examples=["2026-01-01T20:02:00Z"])


class UserEntered(Notice):
    """A viewer has come to the stream."""

    event: ClassVar[str] = "user.entered"
    told_on: ClassVar[tuple[Address, ...]] = STREAM

    user_id: str = Field(description="The viewer.", examples=["u-bob-2"])
    at: datetime = Field(examples=["2026-01-01T20:00:30Z"])


class UserLeft(UserEntered):
    """A viewer has left the stream."""

    event: ClassVar[str] = "user.left"


# -- the wallet -------------------------------------------------------------------------------------------------------


class WalletUpdated(Notice):
    """Tokens have come in (an escrow was paid or refunded) or have gone out (contributions, the price of a request)."""

    event: ClassVar[str] = "wallet.updated"
    told_on: ClassVar[tuple[Address, ...]] = (USER,)

    user_id: str = Field(description="Whose wallet it is.", examples=["u-alice-1"])
    direction: Literal["credit", "debit"] = Field(description="Whether they have come in or gone out.")
    amount: int = Field(description="Tokens, greater than 0.", examples=[1000])
    shares: int = Field(default=1, description="How many transfers the amount is the sum of.", examples=[12])
    escrow_id: str = Field(
        description="Where they came from, or went.", examples=["show_funding:68143584d6945d32e732cc21"]
    )
    transfer_id: str | None = Field(
        default=None,
        description="The transfer, when there is only one.",
        examples=["escrow-show_funding:68143584d6945d32e732cc21-68143584d6945d32e732cc2a-u-alice-1"],
    )
    at: datetime = Field(examples=["2026-01-01T20:07:00Z"])


#: Every notice that is sent.
ALL: tuple[type[Notice], ...] = (
    GoalProgressUpdated,
    StreamChanged,
    LivestreamMvps,
    GoalEndedNotice,
    ExclusiveClosed,
    StreamAuthorizedForViewer,
    StreamAuthorizedForAll,
    SessionKaraokeGoalUpdated,
    UserEntered,
    UserLeft,
    WalletUpdated,
)
