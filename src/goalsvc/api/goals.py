"""Goals of all kinds: made, read, ended; contributions; requests agreed to or declined; leaderboard; trace."""

from datetime import datetime
from typing import Annotated, Any

from bson import ObjectId
from fastapi import Query, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from goalsvc import actions
from goalsvc.actions import GoalPlan
from goalsvc.actions.known import known_goal
from goalsvc.api.dependencies import ContextOf, Cursor, IdempotencyKey, IdText, Limit, UserIdText
from goalsvc.api.errors import responses
from goalsvc.api.operation import CallOf, operations, repeated_by_the_ledger, requires
from goalsvc.api.views import GoalView, Page
from goalsvc.domain.call import Scope
from goalsvc.domain.escrow import WHOLE_BPS
from goalsvc.domain.goals import CLASSES, GoalKind
from goalsvc.domain.trace import assemble
from goalsvc.errors import InvalidError
from goalsvc.models.filters import ACTIVE
from goalsvc.models.goal import Goal
from goalsvc.models.records import TraceSegment
from goalsvc.models.wallet import Earning

router = operations("/v1/goals", "Goals")

#: Below every ObjectId, and above every `_id` of another type that cannot be shown.
_FIRST_ID = ObjectId(b"\0" * 12)

#: A trace is read whole; one that is longer than this is cut at its end.
MOST_SEGMENTS = 5000


class LevelBody(BaseModel):
    """A threshold of a goal."""

    model_config = ConfigDict(extra="forbid")

    title: str = Field(default="", max_length=256)
    target: int = Field(
        gt=0, le=10**12, description="Seconds, or tokens for a FundingGoal; higher than the one before."
    )


class ConditionsBody(BaseModel):
    """What a goal belongs to, besides its session."""

    model_config = ConfigDict(extra="forbid")

    exclusive_to: UserIdText | None = Field(default=None, description="ExclusiveGoal: the viewer for whom it is.")


class GoalBody(BaseModel):
    """A goal that begins."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "kind": "FundingGoal",
                    "session_id": "68143584d6945d32e732cc20",
                    "levels": [{"title": "Fund the show", "target": 1000}],
                    "metadata": {"show": {"title": "Ukulele medley", "target": 360}},
                },
                {
                    "kind": "TriggerGoal",
                    "session_id": "68143584d6945d32e732cc20",
                    "exp": "2026-12-31T20:00:00Z",
                    "metadata": {
                        "viewer_id": "u-bob-2",
                        "private": True,
                        "price": 300,
                        "exclusive": {"title": "A private minute", "target": 360},
                    },
                },
            ]
        },
    )

    kind: GoalKind
    session_id: IdText
    levels: list[LevelBody] = Field(default=[], max_length=100)
    exp: AwareDatetime | None = Field(default=None, description="When it ends by itself.")
    metadata: dict[str, Any] = Field(
        default={},
        description="FundingGoal: `show{title, target}`. TriggerGoal: `viewer_id`, `private`, `price`, "
        "`exclusive{title, target}`. ExclusiveGoal: `viewer_id`. What else is in it is kept. `user_id` is the session's.",
    )
    conditions: ConditionsBody = ConditionsBody()
    fee_bps: int | None = Field(
        default=None,
        ge=0,
        le=WHOLE_BPS,
        description="The platform's part of the payout in hundredths of a percent, rounded down for the platform; kept in "
        "`metadata.fee_bps`. Absent: `GOALSVC_PLATFORM_FEE_BPS`.",
    )

    @model_validator(mode="after")
    def _ascending(self) -> "GoalBody":
        targets = [level.target for level in self.levels]
        if targets != sorted(set(targets)):
            raise ValueError("levels: targets must ascend")
        return self


class ContributionBody(BaseModel):
    """Tokens for a FundingGoal."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"user_id": "u-bob-2", "amount": 250}})

    user_id: UserIdText = Field(description="Who contributes.")
    amount: int = Field(gt=0, le=10**12, strict=True, description="Tokens.")
    cap: bool = Field(
        default=False,
        strict=True,
        description="Whether at most what is missing to the last level is taken; the rest stays in the wallet.",
    )


class ContributionView(BaseModel):
    """A contribution: the earning that it became, and the goal's progress."""

    id: str = Field(description="The earning's id.")
    goal_id: str
    user_id: str = Field(description="The streamer.")
    from_user_id: str = Field(description="Who contributed.")
    amount: int = Field(description="Tokens that were taken.")
    surplus: int = Field(description="Tokens that were offered with `cap` and left in the wallet.")
    transfer_id: str
    created_at: datetime | None
    progress: int = Field(
        description="The goal's progress with this contribution; in a repeated answer, its progress now."
    )


class AgreeBody(BaseModel):
    """Who agrees; the streamer if absent."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"user_id": "u-alice-1"}})

    user_id: UserIdText | None = None


class Contributor(BaseModel):
    """A line of the leaderboard."""

    user_id: str
    amount: int


class TraceView(BaseModel):
    """Everything that happened to a goal: webhooks and other causes, signals, receivers, tasks, as trees."""

    events: list[dict[str, Any]] = Field(
        description="Each node: `kind` (webhook, signal, receiver, task), `name`, `sender`?, `outcome` (done, returned, "
        "failed), `reason`?, `at`, `ms`, `children`."
    )


@router.post("", status_code=201, summary="Make a goal", responses=responses(401, 402, 404, 409, 422, 503))
@requires(Scope.WRITE)
async def create_goal(context: ContextOf, call: CallOf, body: GoalBody) -> GoalView:
    """Makes a goal of any kind in an open session. A TriggerGoal's price goes from the viewer into escrow at once."""
    plan = GoalPlan(
        kind=body.kind,
        session_id=ObjectId(body.session_id),
        levels=[level.model_dump() for level in body.levels],
        exp=body.exp,
        metadata=body.metadata,
        exclusive_to=body.conditions.exclusive_to,
        fee_bps=body.fee_bps,
    )
    return GoalView.of(await actions.create_goal(context, call, plan))


@router.get("", summary="List goals", responses=responses(401, 422, 503))
async def list_goals(
    session_id: Annotated[IdText | None, Query(description="Only goals of this session.")] = None,
    active: Annotated[bool | None, Query(description="Only goals that are, or are not, active.")] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[GoalView]:
    """Goals in the order in which they were made."""
    where: dict[str, Any] = {"_cls": {"$in": CLASSES}, "_id": {"$gt": _FIRST_ID}}
    if session_id is not None:
        where["conditions.session_id"] = {"$in": [ObjectId(session_id), session_id]}
    if active is not None:
        where["active"] = ACTIVE if active else False
    if cursor is not None:
        if not ObjectId.is_valid(cursor):
            raise InvalidError("cursor", "is not one that this list gave out")
        where["_id"] = {"$gt": ObjectId(cursor)}
    goals = await Goal.listed(where, "_id", limit + 1)
    following = str(goals[limit - 1].id) if len(goals) > limit else None
    return Page(items=[GoalView.of(goal) for goal in goals[:limit]], next=following)


@router.get("/{goal_id}", summary="Read a goal", responses=responses(401, 404, 422, 503))
async def read_goal(goal_id: IdText) -> GoalView:
    """The goal as it is now."""
    return GoalView.of(await known_goal(ObjectId(goal_id)))


@router.post("/{goal_id}/end", summary="End a goal", responses=responses(401, 404, 409, 422, 503))
@requires(Scope.OPERATE)
async def end_goal(context: ContextOf, call: CallOf, goal_id: IdText) -> GoalView:
    """Ends the goal now. A clock that runs is paused first, so that its seconds count; then the escrow is settled."""
    return GoalView.of(await actions.end_goal(context, call, ObjectId(goal_id)))


@router.post(
    "/{goal_id}/contributions",
    status_code=201,
    summary="Contribute to a FundingGoal",
    responses=responses(401, 402, 404, 409, 422, 503),
)
@repeated_by_the_ledger
@requires(Scope.WRITE)
async def create_contribution(
    context: ContextOf, goal_id: IdText, body: ContributionBody, key: IdempotencyKey, response: Response
) -> ContributionView:
    """Debits the viewer's wallet, fills the escrow, writes the earning and raises progress: all of it, or nothing."""
    contributed = await actions.contribute(context, ObjectId(goal_id), body.user_id, body.amount, key, cap=body.cap)
    if not contributed.new:
        response.headers["Idempotent-Replayed"] = "true"
    made = contributed.made
    return ContributionView(
        id=made.earning_id,
        goal_id=goal_id,
        user_id=contributed.streamer,
        from_user_id=made.user_id,
        amount=made.amount,
        surplus=made.surplus,
        transfer_id=made.transfer_id,
        created_at=made.created_at,
        progress=contributed.progress,
    )


@router.post("/{goal_id}/agree", summary="Agree to a request", responses=responses(401, 404, 409, 422, 503))
@requires(Scope.OPERATE)
async def agree(context: ContextOf, call: CallOf, goal_id: IdText, body: AgreeBody | None = None) -> GoalView:
    """Agrees to a TriggerGoal: its ExclusiveGoal begins, and the hold becomes that one's escrow.

    One exclusive at a time: 409 `exclusive_running` while another goes on in the session, `viewer_in_exclusive` while one
    goes on for the viewer elsewhere, `performer_in_exclusive` while the performer gives one elsewhere; `goal_expired` and
    `goal_inactive` when it is too late.
    """
    return GoalView.of(await actions.agree(context, call, ObjectId(goal_id), body.user_id if body else None))


@router.post("/{goal_id}/decline", summary="Decline a request", responses=responses(401, 404, 409, 422, 503))
@requires(Scope.OPERATE)
async def decline(context: ContextOf, call: CallOf, goal_id: IdText) -> GoalView:
    """Declines a TriggerGoal: the viewer gets the tokens back."""
    return GoalView.of(await actions.decline(context, call, ObjectId(goal_id)))


@router.get("/{goal_id}/leaderboard", summary="Who contributed most", responses=responses(401, 404, 422, 503))
async def leaderboard(goal_id: IdText, limit: Limit = 50) -> list[Contributor]:
    """The contributors with what each gave in all, highest first."""
    await known_goal(ObjectId(goal_id))
    best = await Earning.leaderboard(ObjectId(goal_id), limit)
    return [Contributor(user_id=str(one["user_id"]), amount=one["amount"]) for one in best]


@router.get("/{goal_id}/trace", summary="What happened to a goal", responses=responses(401, 404, 422, 503))
async def trace(goal_id: IdText) -> TraceView:
    """Which signals went to which receivers, what each answered and why, and which tasks followed, to the last transfer."""
    await known_goal(ObjectId(goal_id))
    found = TraceSegment.get_motor_collection().find({"goal_id": goal_id}).sort("at").limit(MOST_SEGMENTS)
    segments = [segment async for segment in found]
    return TraceView(events=assemble(segments))
