"""Reconciliation: whether what is believed agrees with what others say; Pusher is asked now."""

from datetime import datetime, timedelta
from typing import Self

from bson import ObjectId
from pydantic import BaseModel, ConfigDict, Field

from goalsvc.actions.proofs import MOST_LISTED, Proofs, prove
from goalsvc.actions.reconciliation import ask_pusher
from goalsvc.api.dependencies import ContextOf, IdText
from goalsvc.api.errors import WebError, responses
from goalsvc.api.operation import operations, requires
from goalsvc.api.statements import KindView
from goalsvc.api.views import View
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


class RunningClockView(View):
    """A goal whose clock runs."""

    goal_id: str = Field(examples=["68143584d6945d32e732cc21"])
    user_id: str | None = Field(default=None, description="The performer.", examples=["u-alice-1"])
    started_at: datetime | None = Field(default=None, description="Since when it runs.")
    confirmed_at: datetime | None = Field(
        default=None, description="When a webhook or an answer of Pusher confirmed last that it runs."
    )


class ClocksProofView(View):
    """Clocks against Pusher."""

    running: int = Field(description="How many clocks run.")
    unconfirmed: int = Field(description="How many of them Pusher has not confirmed for long; 0 when all is right.")
    items: list[RunningClockView] = Field(description=f"Those that were confirmed longest ago; at most {MOST_LISTED}.")
    more: bool = Field(description="Whether more clocks run than are listed.")


class LedgerProofView(View):
    """The ledger against its transfers."""

    sum: int = Field(description="Of all accounts; 0 when the books are right.", examples=[0])
    kinds: dict[str, KindView] = Field(
        description="As `GET /v1/reports/balances` has them.",
        examples=[{"issuer": {"accounts": 1, "balance": -1500}, "user": {"accounts": 2, "balance": 1500}}],
    )


class OverdueView(View):
    """A promise that has been due for more than 60 s."""

    collection: str = Field(description="Where the document is that holds it.", examples=["goals"])
    document_id: str = Field(examples=["68143584d6945d32e732cc21"])
    task: str = Field(examples=["StopRecord"])
    due_at: datetime


class PromisesProofView(View):
    """Promises against the time."""

    items: list[OverdueView] = Field(
        description=f"Promises that have been due for more than 60 s, the oldest first; at most {MOST_LISTED}."
    )
    more: bool = Field(description="Whether there are more than are listed; `GET /v1/health` counts all.")


class SpanView(View):
    """Webhook events of five minutes."""

    at: datetime = Field(description="When the five minutes began.")
    events: int = Field(examples=[120])


class UnansweredView(View):
    """A join without a leave, of which no clock runs."""

    user_id: str = Field(examples=["u-alice-1"])
    goal_id: str = Field(examples=["68143584d6945d32e732cc21"])
    at: datetime = Field(description="When the join arrived.")


class SilenceProofView(View):
    """Webhooks against what is usual."""

    silent: bool = Field(description="Whether none has arrived for five minutes, where ten or more are usual.")
    spans: list[SpanView] = Field(
        description="Each five minutes of the last hour, oldest first; when `truncated`, only those that were looked through."
    )
    unanswered: list[UnansweredView] = Field(
        description=f"Joins without a leave, of which no clock runs, the latest first; at most {MOST_LISTED}."
    )
    more_unanswered: bool = Field(description="Whether there are more of them than are listed.")
    refused: dict[str, int] = Field(
        description="Webhooks that were refused, by code.", examples=[{"bad_signature": 2, "stale_webhook": 1}]
    )
    truncated: bool = Field(
        description="Whether there are more webhook events than the latest 5,000; only those were looked through."
    )


class ProofsView(View):
    """The four proofs."""

    at: datetime
    agrees: bool = Field(description="Whether all agrees.")
    sentence: str = Field(
        description="The same in a sentence, or what does not agree.",
        examples=["Not all agrees: 2 promises are older than 60 s."],
    )
    clocks: ClocksProofView
    ledger: LedgerProofView
    promises: PromisesProofView
    silence: SilenceProofView

    @classmethod
    def of(cls, proofs: Proofs) -> Self:
        """The view of these proofs."""
        return cls(
            at=proofs.at,
            agrees=not proofs.faults,
            sentence=proofs.sentence,
            clocks=ClocksProofView.model_validate(proofs.clocks),
            ledger=LedgerProofView.model_validate(proofs.ledger),
            promises=PromisesProofView.model_validate(proofs.promises),
            silence=SilenceProofView.model_validate(proofs.silence),
        )


@router.get("", summary="Read the four proofs", responses=responses(401, 503))
async def read_proofs(context: ContextOf) -> ProofsView:
    """Whether what is believed agrees with what others say: clocks with Pusher, the ledger with its transfers, promises with
    the time, webhooks with what is usual. Read from what is stored; `POST` asks Pusher.
    """
    return ProofsView.of(await prove(context))


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
