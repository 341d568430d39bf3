"""Test events: a join or leave as Pusher would tell it, made by an operator; only where the settings allow it."""

from datetime import datetime
from typing import Literal

from bson import ObjectId
from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field

from goalsvc.actions.known import known_goal
from goalsvc.api.dependencies import IdText, UserIdText
from goalsvc.api.errors import WebError, responses
from goalsvc.api.operation import CallOf, operations, requires
from goalsvc.api.received_webhooks import AnswerView
from goalsvc.api.webhook import WireEvent, take
from goalsvc.context import Context
from goalsvc.domain.call import Scope
from goalsvc.domain.channels import TEST_KEY, goal_channel
from goalsvc.domain.goals import PERFORMED
from goalsvc.domain.trace import signal_node

router = operations("/v1/goals", "Goals")


class TestEventBody(BaseModel):
    """What Pusher would tell."""

    __test__ = False
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"name": "member_added", "user_id": "u-alice-1", "reason": "is it wired up?"}},
    )

    name: Literal["member_added", "member_removed", "channel_occupied", "channel_vacated"]
    user_id: UserIdText | None = Field(
        default=None, description="Who joins or leaves; absent: an event without a user."
    )
    reason: str | None = Field(default=None, max_length=1000, description="Why, for the audit.")


class TestEventView(BaseModel):
    """A test event, and what each receiver answered."""

    __test__ = False

    at: datetime = Field(description="When it happened: now.")
    name: str = Field(examples=["member_added"])
    goal_id: str
    channel: str = Field(examples=["presence-enc-goal@68143584d6945d32e732cc21"])
    user_id: str | None = None
    answers: list[AnswerView] = Field(description="What each receiver answered.")


@router.post("/{goal_id}/test-events", summary="Send a test event", responses=responses(404, 409, 422, 503))
@requires(Scope.OPERATE)
async def send_test_event(request: Request, call: CallOf, goal_id: IdText, body: TestEventBody) -> TestEventView:
    """Does what a webhook of Pusher would do that told this, now: clocks, tokens and notices are real.

    409 `test_events_off` unless `GOALSVC_TEST_EVENTS` is `on`, as it is in `goalsvc dev`. The event's root in the trace names
    the key instead of Pusher's app key.
    """
    context: Context = request.app.state.context
    if context.settings.test_events != "on":
        raise WebError(409, "test_events_off", "test events are switched off here (GOALSVC_TEST_EVENTS)")
    goal = await known_goal(ObjectId(goal_id))
    if goal.kind not in PERFORMED:
        raise WebError(409, "wrong_goal_kind", f"a {goal.kind.value} has no clock that joins and leaves would move")
    at, channel = context.clock.now(), goal_channel(str(goal.id))
    event = WireEvent(body.name, channel, body.user_id)
    report = await take(context, event, at, f"{TEST_KEY}{call.caller.name}")
    if report is not None and report.failures:
        raise WebError(503, "receiver_failed", "; ".join(report.failures))
    answers = AnswerView.all_of({"children": [signal_node(report)] if report is not None else []})
    return TestEventView(
        at=at, name=body.name, goal_id=str(goal.id), channel=channel, user_id=body.user_id, answers=answers
    )
