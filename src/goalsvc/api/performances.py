"""What was performed of a goal and what was paid for it: stretches, joins and leaves with what came of each, payments."""

from datetime import datetime, timedelta
from typing import Literal, Self

from bson import ObjectId
from pydantic import BaseModel, ConfigDict, Field

from goalsvc.api.dependencies import IdText
from goalsvc.api.errors import responses
from goalsvc.api.operation import operations
from goalsvc.api.views import Text, absent
from goalsvc.domain.performance import MOST_STRETCHES
from goalsvc.errors import NotFoundError
from goalsvc.models.payments import MOST_SECONDS, Payments, payments_of
from goalsvc.models.performed import MOST_WEBHOOKS, GoalMark, Performance, performance_of

router = operations("/v1/goals", "Goals")


class StretchView(BaseModel):
    """From when until when there was performance."""

    model_config = ConfigDict(populate_by_name=True)

    since: datetime = Field(alias="from", examples=["2026-01-01T20:00:00Z"])
    until: datetime | None = Field(alias="to", description="null: it goes on.", examples=["2026-01-01T20:06:00Z"])


class MarkView(BaseModel):
    """A join or leave."""

    at: datetime = Field(description="When it happened.")
    kind: Literal["join", "leave"]
    user_id: Text = absent("Who joined or left; absent for an event of the whole channel.", examples=["u-alice-1"])
    role: Literal["performer", "viewer"] | None = Field(description="In this goal; null for anyone else.")
    counted: bool = Field(description="Whether it counted, or was known before.", examples=[False])
    reason: Text = absent("Why it did not count.", examples=["not_a_participant"])
    late_ms: int = Field(description="How many milliseconds after it the webhook arrived.", examples=[130])
    root: str = Field(description="`id` of its root in the goal's trace.", examples=["68143584d6945d32e732cc55"])

    @classmethod
    def of(cls, mark: GoalMark) -> Self:
        """The view of that join or leave."""
        return cls(
            at=mark.at,
            kind="join" if mark.joined else "leave",
            user_id=mark.user_id or None,
            role="performer" if mark.role == "performer" else "viewer" if mark.role else None,
            counted=mark.counted,
            reason=mark.reason or None,
            late_ms=mark.late // timedelta(milliseconds=1),
            root=mark.root,
        )


class PerformanceView(BaseModel):
    """What was performed of a goal."""

    goal_id: str = Field(examples=["68143584d6945d32e732cc21"])
    seconds: int = Field(description="Whole seconds that the clock has counted.", examples=[360])
    performed_ms: int = Field(description="Of all stretches that are over, in milliseconds.", examples=[360000])
    earlier_ms: int = Field(description="Of them: in stretches that are kept as a sum only.", examples=[0])
    stretches: list[StretchView] = Field(
        description=f"The latest {MOST_STRETCHES}, in order of time, and the one that goes on."
    )
    marks: list[MarkView] = Field(
        description="Joins and leaves in order of time, each once, as long as the trace is kept."
    )
    webhook_events: int = Field(description="How many webhook events told of them.", examples=[12])
    late: int = Field(description="How many of those arrived more than 5 s late.", examples=[0])
    slowest_ms: int = Field(description="How late the slowest of them was, in milliseconds.", examples=[850])
    truncated: bool = Field(
        description=f"Whether there are more webhook events than the latest {MOST_WEBHOOKS:,}; only those are in `marks`."
    )

    @classmethod
    def of(cls, found: Performance) -> Self:
        """The view of that performance."""
        return cls(
            goal_id=found.goal_id,
            seconds=found.seconds,
            performed_ms=found.milliseconds,
            earlier_ms=found.earlier_milliseconds,
            stretches=[StretchView(since=one.since, until=one.until) for one in found.stretches],
            marks=[MarkView.of(mark) for mark in found.marks],
            webhook_events=found.reports.number,
            late=found.reports.late,
            slowest_ms=found.reports.slowest // timedelta(milliseconds=1),
            truncated=found.truncated,
        )


@router.get("/{goal_id}/performance", summary="Which seconds counted", responses=responses(401, 404, 422, 503))
async def read_performance(goal_id: IdText) -> PerformanceView:
    """The performed stretches as the clock keeps them, and each join and leave: whether it counted, and why it did not.

    A goal without a clock (FundingGoal, TriggerGoal) has none.
    """
    found = await performance_of(ObjectId(goal_id))
    if found is None:
        raise NotFoundError(f"there is no goal {goal_id}")
    return PerformanceView.of(found)


class PaymentsView(BaseModel):
    """Payments of one second in one direction."""

    at: datetime = Field(description="When the second began.", examples=["2026-01-01T19:50:00Z"])
    direction: Literal["in", "out"] = Field(description="`in`: into the goal's escrow.")
    amount: int = Field(description="Tokens.", examples=[250])
    transfers: int = Field(description="How many transfers it was.", examples=[3])

    @classmethod
    def of(cls, one: Payments) -> Self:
        """The view of these payments."""
        return cls(at=one.at, direction="in" if one.into else "out", amount=one.amount, transfers=one.count)


class PaymentsBySecondView(BaseModel):
    """A goal's payments by the second."""

    items: list[PaymentsView] = Field(description="In order of time; seconds without a payment are left out.")
    truncated: bool = Field(
        description=f"Whether there are earlier ones: the latest {MOST_SECONDS:,} seconds of each direction are answered."
    )


@router.get("/{goal_id}/payments", summary="Sum up payments by the second", responses=responses(401, 404, 422, 503))
async def read_payments(goal_id: IdText) -> PaymentsBySecondView:
    """What came into the escrow of the goal and what left it. `GET /v1/transfers` has each transfer by itself."""
    found = await payments_of(ObjectId(goal_id))
    if found is None:
        raise NotFoundError(f"there is no goal {goal_id}")
    return PaymentsBySecondView(items=[PaymentsView.of(one) for one in found.items], truncated=found.truncated)
