"""Channels: what a client shows when it subscribes to one, before the first event comes."""

from datetime import datetime
from typing import Annotated, Self

from fastapi import Path, Request, Response, Security
from fastapi.security import HTTPAuthorizationCredentials
from pydantic import BaseModel, Field

from goalsvc.api.dependencies import ContextOf, ResourcesOf
from goalsvc.api.errors import responses
from goalsvc.api.operation import operations
from goalsvc.api.pusher_auth import admit
from goalsvc.api.user_token import user_token
from goalsvc.api.views import LevelView
from goalsvc.domain.channels import LONGEST_NAME, Channel, ChannelKind, private_stream, private_user
from goalsvc.domain.goals import GoalKind
from goalsvc.domain.ids import USER_ID_RULE
from goalsvc.domain.views import channel_view
from goalsvc.errors import NotFoundError
from goalsvc.models.goal import Goal
from goalsvc.models.session import Session

router = operations("/v1/channels", "Channels")

#: No client shows more active goals than this.
MOST_GOALS = 200


class ChannelGoal(BaseModel):
    """An active goal, as a client shows it."""

    id: str = Field(examples=["68143584d6945d32e732cc21"])
    kind: GoalKind
    progress: int = Field(description="Whole performed seconds, or tokens for a FundingGoal.", examples=[120])
    level: int = Field(description="How many levels are reached.", examples=[0])
    levels: list[LevelView]
    exp: datetime | None = Field(default=None, description="When it ends by itself.", examples=["2026-01-01T21:00:00Z"])

    @classmethod
    def of(cls, goal: Goal) -> Self:
        """What is shown of that goal."""
        return cls(
            id=str(goal.id),
            kind=goal.kind,
            progress=goal.progress,
            level=goal.level,
            levels=[LevelView(title=level.title, target=level.target) for level in goal.levels],
            exp=goal.exp,
        )


class ChannelSession(BaseModel):
    """The livestream that goes on, as a client shows it."""

    id: str = Field(examples=["68143584d6945d32e732cc20"])
    started: datetime | None = Field(default=None, examples=["2026-01-01T20:00:00Z"])
    exclusive_to: str | None = Field(
        default=None, description="The viewer for whom alone the stream is at this moment.", examples=["u-bob-2"]
    )

    @classmethod
    def of(cls, session: Session) -> Self:
        """What is shown of that session."""
        return cls(id=str(session.id), started=session.statuses.started, exclusive_to=session.status.exclusive_to)


class ChannelData(BaseModel):
    """What a channel is about: the streamer, the livestream, and its active goals."""

    user_id: str = Field(description="The streamer, or the user whose channel it is.", examples=["u-alice-1"])
    session: ChannelSession | None = Field(description="The livestream that goes on, or null.")
    goals: list[ChannelGoal] = Field(
        description="Its active goals, in the order in which they were made. What is private to a viewer (an ExclusiveGoal, "
        "a private request) is shown on the streamer's own channel only."
    )

    @classmethod
    async def read(cls, user_id: str, kind: ChannelKind) -> Self:
        """What the database says at this moment."""
        session = await Session.latest_of(user_id)
        if session is None or not session.open:
            return cls(user_id=user_id, session=None, goals=[])
        goals = await Goal.active_in(session.id, MOST_GOALS)
        if kind is ChannelKind.STREAM:
            goals = [goal for goal in goals if not _is_private(goal)]
        return cls(user_id=user_id, session=ChannelSession.of(session), goals=[ChannelGoal.of(goal) for goal in goals])


_NOT_ONE = (
    f"channel: must name a stream's or a user's channel, as in private-stream@{{user_id}}; the user id {USER_ID_RULE}"
)


def _is_private(goal: Goal) -> bool:
    return goal.kind is GoalKind.EXCLUSIVE or goal.metadata.private


@router.get(
    "/{channel}",
    summary="What a channel's clients show first",
    response_model=ChannelData,
    responses=responses(401, 404, 422, 503),
)
async def read_channel(
    request: Request,
    context: ContextOf,
    _: Annotated[HTTPAuthorizationCredentials | None, Security(user_token)],
    resources: ResourcesOf,
    channel: Annotated[
        str,
        Path(
            max_length=LONGEST_NAME,
            description="A stream's or a user's channel, in any of its forms.",
            examples=["private-stream@u-alice-1"],
        ),
    ],
) -> Response:
    """The streamer's active goals with progress and levels, and the state of the livestream: what a client shows when it
    subscribes to the channel, until the first event comes.

    It is cached, and dropped by whatever changes it: a goal made, progressed or ended, an exclusive started or ended, a
    session begun or ended. Changes that another service writes into the documents are seen within 35 seconds.

    With the token of a user instead of a key it is answered if that user may join the channel.
    """
    user = getattr(request.state, "user_id", None)
    if user is not None:
        await admit(context, channel, user)
    parsed = Channel.parse(channel)
    if parsed is None or parsed.kind is ChannelKind.GOAL:
        raise NotFoundError(_NOT_ONE)
    user_id, kind = parsed.about, parsed.kind
    # All forms of a channel's name show the same, and share one entry.
    name = channel_view(private_stream(user_id) if kind is ChannelKind.STREAM else private_user(user_id))

    async def compute() -> bytes:
        data = await ChannelData.read(user_id, kind)
        return data.model_dump_json().encode()

    return Response(await resources.cache.view(name, compute), media_type="application/json")
