"""Goals as the API shows them: a type for each kind, told apart by `kind`."""

from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import Field

from goalsvc.api.views import LevelView, Part, Text, Time, View, Whole, absent, born, latest, part_of
from goalsvc.domain.goals import GoalKind
from goalsvc.domain.shown import shown
from goalsvc.models.goal import Goal

_ID = "68143584d6945d32e732cc21"


class ConditionsView(Part):
    """What a goal belongs to."""

    session_id: Text = absent("The session.", examples=["68143584d6945d32e732cc20"])
    exclusive_to: Text = absent("ExclusiveGoal: its viewer.", examples=["u-bob-2"])
    trigger_goal_id: Text = absent("ExclusiveGoal: the request that it came of.", examples=[_ID])


class ClockView(Part):
    """The clock: it runs while `started` is later than `paused`."""

    started: Time = absent("When it was started last.")
    paused: Time = absent("When it was paused last.")
    last_updated: Time = absent("When it was moved last.")


class ShowPlanView(Part):
    """What is to be performed."""

    title: str = Field(default="", description="Its title.", examples=["Ukulele medley"])
    target: int = Field(description="Seconds.", examples=[360])


class MetadataView(Part):
    """Who a goal is about, what its kind needs besides, and whatever the platform keeps there."""

    user_id: str = Field(default="", description="The streamer.", examples=["u-alice-1"])
    viewer_id: Text = absent("The viewer of a request or an exclusive.", examples=["u-bob-2"])
    private: bool = Field(default=False, description="TriggerGoal: whether the request is private.")
    price: int = Field(default=0, description="TriggerGoal: tokens that are held.", examples=[300])
    fee_bps: Whole = absent("The platform's part of the payout, in hundredths of a percent.")


class FundingMetadataView(MetadataView):
    """The metadata of a FundingGoal."""

    show: ShowPlanView | None = absent("What it pays for.")


class TriggerMetadataView(MetadataView):
    """The metadata of a TriggerGoal."""

    exclusive: ShowPlanView | None = absent("What is asked for.")


class ShowMetadataView(MetadataView):
    """The metadata of a ShowGoal."""

    funding_goal_id: Text = absent("The FundingGoal that paid for it.", examples=[_ID])


class GoalView(View):
    """A goal."""

    by_kind: ClassVar[dict[GoalKind, "type[GoalView]"]] = {}
    metadata_view: ClassVar[type[MetadataView]] = MetadataView

    id: str = Field(description="Its id.", examples=[_ID])
    kind: GoalKind = Field(description="Its kind.")
    active: bool = Field(description="Whether it goes on.")
    progress: int = Field(description="Whole performed seconds, or tokens for a FundingGoal.", examples=[120])
    level: int = Field(description="How many levels are reached.", examples=[0])
    levels: list[LevelView] = Field(description="Its thresholds, ascending.")
    conditions: ConditionsView = Field(description="What it belongs to.")
    context: ClockView = Field(description="Its clock.")
    metadata: MetadataView = Field(description="Who it is about, and what its kind needs besides.")
    breakdown_id: object = Field(default=None, description="Another service's reference.")
    exp: datetime | None = Field(default=None, description="When it ends by itself, or when it ended.")
    triggerer: str | None = Field(default=None, description="TriggerGoal: who agreed.")
    created_at: datetime | None = Field(default=None, description="When it was created.")
    updated_at: datetime | None = Field(default=None, description="When it was changed last.")

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: object) -> None:
        """Registers the view of a kind."""
        super().__pydantic_init_subclass__(**kwargs)
        (kind,) = get_args(cls.model_fields["kind"].annotation)
        cls.by_kind[kind] = cls

    @classmethod
    def of(cls, goal: Goal) -> Any:
        """The view of that goal, of its kind's type."""
        view = cls.by_kind[goal.kind]
        created = goal.created_at or born(goal.id)
        ended = goal.exp if not goal.active else None
        return view(
            id=str(goal.id),
            kind=goal.kind,
            active=goal.active,
            progress=goal.progress,
            level=goal.level,
            levels=[LevelView(title=level.title, target=level.target) for level in goal.levels],
            conditions=part_of(ConditionsView, goal.conditions),
            context=part_of(ClockView, goal.context),
            metadata=part_of(view.metadata_view, goal.metadata),
            breakdown_id=shown(goal.breakdown_id),
            exp=goal.exp,
            triggerer=goal.triggerer,
            created_at=created,
            updated_at=latest(created, goal.changed_at, goal.context.last_updated, ended),
        )


class FundingGoalView(GoalView):
    """A FundingGoal: viewers contribute tokens until a show is paid for."""

    metadata_view: ClassVar[type[MetadataView]] = FundingMetadataView
    kind: Literal[GoalKind.FUNDING]
    metadata: FundingMetadataView


class TriggerGoalView(GoalView):
    """A TriggerGoal: a viewer's request, which is agreed to, declined, or expires."""

    metadata_view: ClassVar[type[MetadataView]] = TriggerMetadataView
    kind: Literal[GoalKind.TRIGGER]
    metadata: TriggerMetadataView


class ShowGoalView(GoalView):
    """A ShowGoal: performed seconds of a show."""

    metadata_view: ClassVar[type[MetadataView]] = ShowMetadataView
    kind: Literal[GoalKind.SHOW]
    metadata: ShowMetadataView


class KaraokeGoalView(GoalView):
    """A KaraokeGoal: performed seconds of songs, shown in the session."""

    kind: Literal[GoalKind.KARAOKE]


class ExclusiveGoalView(GoalView):
    """An ExclusiveGoal: performed seconds for one viewer."""

    kind: Literal[GoalKind.EXCLUSIVE]


AnyGoal = Annotated[
    FundingGoalView | TriggerGoalView | ShowGoalView | KaraokeGoalView | ExclusiveGoalView,
    Field(discriminator="kind"),
]
