"""Goals as a caller creates and changes them: a type for each kind, told apart by `kind`."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from goalsvc.api.dependencies import IdText, UserIdText
from goalsvc.api.instants import Instant
from goalsvc.domain.escrow import WHOLE_BPS
from goalsvc.domain.goals import LONGEST_TARGET_SECONDS, MOST_LEVELS, GoalKind

_SESSION = "68143584d6945d32e732cc20"
MOST_TOKENS = 10**12


class LevelBody(BaseModel):
    """A threshold of a goal."""

    model_config = ConfigDict(extra="forbid")

    title: str = Field(default="", max_length=256, description="What is reached with it.")
    target: int = Field(
        gt=0,
        le=MOST_TOKENS,
        strict=True,
        description="Seconds, or tokens for a FundingGoal; higher than the one before.",
    )


class SecondsLevelBody(LevelBody):
    """A threshold of a goal that is performed."""

    target: int = Field(
        gt=0, le=LONGEST_TARGET_SECONDS, strict=True, description="Seconds; higher than the one before."
    )


class PlanBody(BaseModel):
    """What is to be performed."""

    model_config = ConfigDict(extra="allow")

    title: str = Field(default="", max_length=256, description="Its title.", examples=["Ukulele medley"])
    target: int = Field(gt=0, le=LONGEST_TARGET_SECONDS, strict=True, description="Seconds.", examples=[360])


class MetadataBody(BaseModel):
    """The platform's own fields, which are kept. `user_id` is the session's streamer and may be left out."""

    model_config = ConfigDict(extra="allow")

    user_id: UserIdText | None = Field(default=None, description="The session's streamer; may be left out.")
    viewer_id: UserIdText | None = Field(default=None, description="A viewer.")


class FundingMetadataBody(MetadataBody):
    """What a FundingGoal pays for."""

    show: PlanBody = Field(description="The show that it pays for.")


class TriggerMetadataBody(MetadataBody):
    """What a viewer asks for."""

    viewer_id: UserIdText = Field(description="The viewer who makes the request.")
    exclusive: PlanBody = Field(description="What is asked for.")
    private: bool = Field(
        default=False, strict=True, description="Whether it is private; only a private request has a price."
    )
    price: int = Field(
        default=0, ge=0, le=MOST_TOKENS, strict=True, description="Tokens, held at once.", examples=[300]
    )


class ConditionsBody(BaseModel):
    """What a goal belongs to, besides its session."""

    model_config = ConfigDict(extra="forbid")

    exclusive_to: UserIdText | None = Field(default=None, description="ExclusiveGoal: the viewer for whom it is.")


class _NewGoal(BaseModel):
    """What every new goal has."""

    model_config = ConfigDict(extra="forbid")

    session_id: IdText = Field(description="The session, which must be open.")
    levels: list[LevelBody] = Field(default=[], max_length=MOST_LEVELS, description="Its thresholds, ascending.")
    exp: Instant | None = Field(default=None, description="When it ends by itself.")
    metadata: MetadataBody = MetadataBody()
    conditions: ConditionsBody = ConditionsBody()
    fee_bps: int | None = Field(
        default=None,
        ge=0,
        le=WHOLE_BPS,
        strict=True,
        description="The platform's part of the payout in hundredths of a percent, rounded down for the platform; kept in "
        "`metadata.fee_bps`. Absent: `GOALSVC_PLATFORM_FEE_BPS`.",
    )

    @field_validator("levels")
    @classmethod
    def _ascending(cls, levels: list[LevelBody]) -> list[LevelBody]:
        return _ascending(levels)


def _ascending(levels: list[LevelBody]) -> list[LevelBody]:
    targets = [level.target for level in levels]
    if targets != sorted(set(targets)):
        raise ValueError("targets must ascend")
    return levels


def _example(kind: GoalKind, **fields: Any) -> ConfigDict:
    return ConfigDict(json_schema_extra={"example": {"kind": kind.value, "session_id": _SESSION, **fields}})


_LEVELS = [{"title": "Ukulele medley", "target": 360}]


class NewFundingGoal(_NewGoal):
    """A FundingGoal: viewers contribute tokens; at its last level its show begins."""

    model_config = _example(
        GoalKind.FUNDING,
        levels=[{"title": "Fund the show", "target": 1000}],
        metadata={"show": {"title": "Ukulele medley", "target": 360}},
    )

    kind: Literal[GoalKind.FUNDING]
    levels: list[LevelBody] = Field(min_length=1, max_length=MOST_LEVELS, description="Tokens, ascending.")
    metadata: FundingMetadataBody


class NewTriggerGoal(_NewGoal):
    """A TriggerGoal: a viewer's request. Its price goes from the viewer into escrow at once."""

    model_config = _example(
        GoalKind.TRIGGER,
        exp="2026-12-31T20:00:00Z",
        metadata={
            "viewer_id": "u-bob-2",
            "private": True,
            "price": 300,
            "exclusive": {"title": "A private minute", "target": 360},
        },
    )

    kind: Literal[GoalKind.TRIGGER]
    metadata: TriggerMetadataBody


class NewShowGoal(_NewGoal):
    """A ShowGoal: performed seconds of a show that no goal funds."""

    model_config = _example(GoalKind.SHOW, levels=_LEVELS)

    kind: Literal[GoalKind.SHOW]
    levels: list[SecondsLevelBody] = Field(  # type: ignore[assignment]
        min_length=1, max_length=MOST_LEVELS, description="Seconds, ascending."
    )


class NewKaraokeGoal(_NewGoal):
    """A KaraokeGoal: performed seconds of songs, shown in the session."""

    model_config = _example(GoalKind.KARAOKE, levels=[{"title": "Three songs", "target": 600}])

    kind: Literal[GoalKind.KARAOKE]
    levels: list[SecondsLevelBody] = Field(  # type: ignore[assignment]
        min_length=1, max_length=MOST_LEVELS, description="Seconds, ascending."
    )


class NewExclusiveGoal(_NewGoal):
    """An ExclusiveGoal without a request: performed seconds for one viewer, `conditions.exclusive_to`."""

    model_config = _example(GoalKind.EXCLUSIVE, levels=_LEVELS, conditions={"exclusive_to": "u-bob-2"})

    kind: Literal[GoalKind.EXCLUSIVE]
    levels: list[SecondsLevelBody] = Field(  # type: ignore[assignment]
        default=[], max_length=MOST_LEVELS, description="Seconds, ascending; without one it has no target."
    )


NewGoal = Annotated[
    NewFundingGoal | NewTriggerGoal | NewShowGoal | NewKaraokeGoal | NewExclusiveGoal, Field(discriminator="kind")
]


class GoalPatch(BaseModel):
    """What is to be changed of a goal; what is left out stays as it is."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"exp": "2026-12-31T21:00:00Z", "metadata": {"campaign": "winter"}}},
    )

    exp: Instant | None = Field(
        default=None, description="When it ends by itself; null removes it, but not of a TriggerGoal."
    )
    metadata: dict[str, object] = Field(
        default={},
        description="The platform's own fields, merged: null removes one. What its kind needs cannot be changed.",
    )
    levels: list[LevelBody] | None = Field(
        default=None,
        min_length=1,
        max_length=MOST_LEVELS,
        description="All levels anew, ascending. Those that are reached must stay as they are; not of an ExclusiveGoal.",
    )

    @field_validator("levels")
    @classmethod
    def _checked_levels(cls, levels: list[LevelBody] | None) -> list[LevelBody]:
        if levels is None:
            raise ValueError("cannot be removed")
        return _ascending(levels)

    @model_validator(mode="after")
    def _checked(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("a change requires at least one of exp, metadata, levels")
        return self
