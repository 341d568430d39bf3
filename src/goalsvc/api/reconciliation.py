"""Reconciliation: whether the clocks agree with what Pusher says; it is asked now."""

from datetime import datetime, timedelta
from typing import Self

from bson import ObjectId
from pydantic import BaseModel, ConfigDict, Field

from goalsvc.actions.reconciliation import ask_pusher
from goalsvc.api.dependencies import ContextOf, IdText
from goalsvc.api.errors import WebError, responses
from goalsvc.api.operation import operations, requires
from goalsvc.context import Context
from goalsvc.domain.call import Scope
from goalsvc.errors import ExternalServiceError
from goalsvc.models.census import count_clocks
from goalsvc.tasks.reconcile import Asked

router = operations("/v1/reconciliation", "Goals")


class AskBody(BaseModel):
    """What Pusher is asked about."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"reason": "the clock runs too long"}})

    goal_id: IdText | None = Field(default=None, description="Only the channel of this goal; absent: all channels.")
    reason: str | None = Field(default=None, max_length=1000, description="Why, for the audit.")


class ReconciliationView(BaseModel):
    """What Pusher answered, and what followed."""

    asked_at: datetime = Field(description="When Pusher was asked.")
    goal_id: str | None = Field(default=None, description="The goal that was asked about; null: all.")
    channels: int | None = Field(
        description="How many of the channels asked about are occupied; null where the server does not count users and "
        "each goal was asked about singly."
    )
    users: list[str] | None = Field(
        default=None,
        description="Who is in the goal's channel; null when all were asked about.",
        examples=[["u-alice-1"]],
    )
    moved: int = Field(description="How many clocks were moved because they disagreed.")
    running: int = Field(description="How many clocks run now.")
    unconfirmed: int = Field(description="How many of them Pusher has not confirmed for long.")
    missing_for_seconds: int = Field(
        description="How long a performer must be missed before the clock is paused (`GOALSVC_RECONCILE_PATIENCE`): a leave "
        "that is on its way has the exact time."
    )

    @classmethod
    async def of(cls, context: Context, asked_at: datetime, goal_id: str | None, asked: Asked) -> Self:
        """The view of that answer, with how the clocks stand now."""
        within = timedelta(seconds=3 * context.settings.reconcile_seconds)
        running, unconfirmed = await count_clocks(context.clock.now(), within)
        return cls(
            asked_at=asked_at,
            goal_id=goal_id,
            channels=asked.channels,
            users=None if asked.users is None else list(asked.users),
            moved=asked.moved,
            running=running,
            unconfirmed=unconfirmed,
            missing_for_seconds=round(context.settings.reconcile_patience),
        )


@router.post("", summary="Ask Pusher now", responses=responses(404, 422, 503))
@requires(Scope.OPERATE)
async def reconcile_now(context: ContextOf, body: AskBody | None = None) -> ReconciliationView:
    """Asks Pusher who is in the channels, and moves the clocks that disagree, as happens by itself from time to time.

    An occupied channel whose clock stands is a join that was lost: its clock starts now. A performer who is missed has left;
    the clock is paused once they have been missed for longer than Pusher repeats a webhook.
    """
    asked_at = context.clock.now()
    goal_id = None if body is None else body.goal_id
    try:
        asked = await ask_pusher(context, None if goal_id is None else ObjectId(goal_id))
    except ExternalServiceError as error:
        raise WebError(
            503, "unavailable", f"Pusher could not be asked: {error.message}", {"Retry-After": "5"}
        ) from error
    return await ReconciliationView.of(context, asked_at, goal_id, asked)
