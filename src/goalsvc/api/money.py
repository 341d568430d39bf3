"""Money in and out: withdrawals, reversals, adjustments, tips, refunds of completed goals."""

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Literal, Self

from bson import ObjectId
from fastapi import Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from goalsvc.actions import money
from goalsvc.actions.money import Particulars
from goalsvc.actions.refunds import GoalRefund, refund_goal
from goalsvc.actions.reversals import Reversal, reverse_deposit
from goalsvc.api.dependencies import ContextOf, IdempotencyKey, IdText, PagingOf, UserIdText, UserPath
from goalsvc.api.errors import responses
from goalsvc.api.operation import REPLAYED, CallOf, operations, repeated_by_the_ledger, requires
from goalsvc.api.views import Page, Time, TransferView, absent
from goalsvc.domain.call import Scope
from goalsvc.domain.shown import shown
from goalsvc.models.paging import page_of
from goalsvc.models.withdrawal import Withdrawal
from goalsvc.tasks.withdrawals import known_withdrawal

router = operations("/v1", "Money")

Amount = Annotated[int, Field(gt=0, le=10**12, strict=True, description="Tokens.")]
Reason = Annotated[str, Field(min_length=1, max_length=512, description="Why; it is kept with the transfer.")]
WithdrawalId = Annotated[str, Path(pattern=r"^wd_[0-9a-f]{24}$", examples=["wd_0f6b3c9d2a4e8f7061524334"])]
TransferId = Annotated[str, Path(max_length=512, examples=["deposit-u-bob-2-0f6b3c9d2a4e8f7061524334a1b2c3d4e5f60718"])]


class ParticularsBody(BaseModel):
    """What may be noted with a transfer."""

    model_config = ConfigDict(extra="forbid")

    reference: str | None = Field(
        default=None,
        min_length=1,
        max_length=255,
        pattern=r"^[^\x00]*$",
        description="The caller's own id of it (a payment provider's), unique for the account: 409 `reference_used`.",
        examples=["pi_3MtwBwLkdIwHu7ix28a3tqPa"],
    )
    metadata: dict[str, object] | None = Field(
        default=None, description="Kept with the transfer; at most 2 KB as JSON."
    )

    @property
    def particulars(self) -> Particulars:
        """Reference and metadata."""
        return Particulars(reference=self.reference, metadata=self.metadata)


class WithdrawalBody(ParticularsBody):
    """A withdrawal to make: how many tokens leave the account."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"amount": 500, "reference": "payout-17"}})

    amount: Amount


class ConfirmationBody(ParticularsBody):
    """What is noted with a payout that arrived."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"reference": "bank-2026-03-01-0042"}})


class ReturnBody(ParticularsBody):
    """Why a payout was not made."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"reason": "the bank refused it", "metadata": {"bank_code": "AC04"}}},
    )

    reason: Reason = "returned by the platform"


class ReversalBody(ParticularsBody):
    """Why a deposit is reversed."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"reason": "chargeback", "reference": "dp_1PgafmB7WZ01zgkW6dKueIc5"}},
    )

    reason: Reason = "reversed by the platform"


class AdjustmentBody(ParticularsBody):
    """A correction."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"amount": 20, "direction": "debit", "reason": "credited twice on 1 March"}},
    )

    amount: Amount
    direction: Literal["credit", "debit"] = Field(description="`credit`: to the wallet; `debit`: from it.")
    reason: Reason


class TipBody(ParticularsBody):
    """Tokens from one user to another."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"from_user_id": "u-bob-2", "to_user_id": "u-alice-1", "amount": 25}},
    )

    from_user_id: UserIdText
    to_user_id: UserIdText
    amount: Amount


class RefundBody(ParticularsBody):
    """How much of a payout is returned."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"amount": 100, "reason": "cut short", "reference": "ticket-4711"}},
    )

    amount: Amount | None = Field(default=None, description="Tokens; absent: all that has not been returned yet.")
    reason: Reason


class WithdrawalView(BaseModel):
    """A withdrawal: its tokens are set aside while it is pending."""

    id: str = Field(examples=["wd_0f6b3c9d2a4e8f7061524334"])
    user_id: str
    amount: int
    state: Literal["pending", "confirmed", "returned"]
    created_at: Time = absent("When it was begun.")
    updated_at: Time = absent("When it was changed last.")
    returns_at: Time = absent("When it returns by itself, unless it was confirmed.")
    reference: str | None = None
    metadata: dict[str, object]
    reason: str | None = Field(default=None, description="Why it was returned.")

    @classmethod
    def of(cls, withdrawal: Withdrawal) -> Self:
        """The view of that withdrawal."""
        return cls.model_validate(shown(withdrawal.model_dump(include=set(cls.model_fields))))


class ReversalView(BaseModel):
    """A deposit that was reversed. `from_wallet` and `from_debt` are its amount; `from_escrows` is a part of `from_wallet`."""

    transfer_id: str = Field(description="The deposit.")
    user_id: str
    amount: int
    from_wallet: int
    from_escrows: int = Field(description="Of `from_wallet`: what was in the user's open escrows.")
    from_debt: int = Field(description="What the user owes since; the next income repays it first.")
    created_at: datetime = Field(description="When it was reversed.")
    updated_at: datetime = Field(description="The same: a reversal does not change.")

    @classmethod
    def of(cls, reversal: Reversal) -> Self:
        """The view of that reversal."""
        return cls(**asdict(reversal), updated_at=reversal.created_at)


class GoalRefundView(BaseModel):
    """A refund of a completed goal. Its transfers `return-{id}-…` follow at once."""

    id: str
    goal_id: str
    amount: int
    returned: int = Field(description="How much of the payout is returned by now, with this refund.")
    paid: int = Field(description="How much was paid out to the streamer.")
    created_at: datetime = Field(description="When the refund was promised.")
    updated_at: datetime = Field(description="The same: a refund does not change.")

    @classmethod
    def of(cls, refund: GoalRefund) -> Self:
        """The view of that refund."""
        return cls(**asdict(refund), updated_at=refund.created_at)


def _replayed(response: Response, new: bool) -> None:
    if not new:
        response.headers[REPLAYED] = "true"


@router.post(
    "/wallets/{user_id}/adjustments",
    status_code=201,
    summary="Correct a wallet",
    responses=responses(402, 409, 422, 503),
)
@repeated_by_the_ledger
@requires(Scope.MONEY)
async def adjust_wallet(
    context: ContextOf, user_id: UserPath, body: AdjustmentBody, key: IdempotencyKey, response: Response
) -> TransferView:
    """Adds tokens to a wallet or takes them from it, with a reason; once for each Idempotency-Key."""
    transfer, new = await money.adjust(
        context, user_id, body.amount, body.direction, body.reason, key, body.particulars
    )
    _replayed(response, new)
    return TransferView.of(transfer)


@router.post("/transfers", status_code=201, summary="Tip a user", responses=responses(402, 409, 422, 503))
@repeated_by_the_ledger
@requires(Scope.MONEY)
async def create_transfer(context: ContextOf, body: TipBody, key: IdempotencyKey, response: Response) -> TransferView:
    """Moves tokens between the wallets of two users, once for each Idempotency-Key; never from an escrow."""
    transfer, new = await money.tip(context, body.from_user_id, body.to_user_id, body.amount, key, body.particulars)
    _replayed(response, new)
    return TransferView.of(transfer)


# -- withdrawals ------------------------------------------------------------------------------------------------------


@router.post(
    "/wallets/{user_id}/withdrawals",
    status_code=201,
    summary="Begin a withdrawal",
    responses=responses(402, 409, 422, 503),
)
@repeated_by_the_ledger
@requires(Scope.MONEY)
async def create_withdrawal(
    context: ContextOf, user_id: UserPath, body: WithdrawalBody, key: IdempotencyKey, response: Response
) -> WithdrawalView:
    """Sets tokens of a wallet aside for a payout to the outside, once for each Idempotency-Key.

    Confirm it when the payout arrived, return it when it did not; after `GOALSVC_WITHDRAWAL_LIMIT` it returns by itself.
    """
    withdrawal, new = await money.withdraw(context, user_id, body.amount, key, body.particulars)
    _replayed(response, new)
    return WithdrawalView.of(withdrawal)


@router.get("/wallets/{user_id}/withdrawals", summary="List withdrawals", responses=responses(422, 503))
async def list_withdrawals(
    user_id: UserPath,
    paging: PagingOf,
    state: Annotated[
        Literal["pending", "confirmed", "returned"] | None, Query(description="Only those in this state.")
    ] = None,
) -> Page[WithdrawalView]:
    """The withdrawals of a user, in the order in which they were begun."""
    where = {"user_id": user_id} | ({} if state is None else {"state": state})
    return Page.of(await page_of(Withdrawal, where, paging, by="created_at"), WithdrawalView.of)


@router.get("/withdrawals/{withdrawal_id}", summary="Read a withdrawal", responses=responses(404, 422, 503))
async def read_withdrawal(withdrawal_id: WithdrawalId) -> WithdrawalView:
    """The withdrawal as it is now."""
    return WithdrawalView.of(await known_withdrawal(withdrawal_id))


@router.post(
    "/withdrawals/{withdrawal_id}/confirm", summary="Confirm a withdrawal", responses=responses(404, 409, 422, 503)
)
@requires(Scope.MONEY)
async def confirm_withdrawal(
    context: ContextOf, withdrawal_id: WithdrawalId, response: Response, body: ConfirmationBody | None = None
) -> WithdrawalView:
    """Notes that the payout arrived: the tokens leave the ledger. Confirmed again it changes nothing; after a return: 409.

    The transfer `withdrawal-{id}-confirmed` has this `reference` (another than the withdrawal's own) and `metadata`.
    """
    particulars = (body or ConfirmationBody()).particulars
    withdrawal, new = await money.confirm_withdrawal(context, withdrawal_id, particulars)
    _replayed(response, new)
    return WithdrawalView.of(withdrawal)


@router.post(
    "/withdrawals/{withdrawal_id}/return", summary="Return a withdrawal", responses=responses(404, 409, 422, 503)
)
@requires(Scope.MONEY)
async def return_withdrawal(
    context: ContextOf, withdrawal_id: WithdrawalId, response: Response, body: ReturnBody | None = None
) -> WithdrawalView:
    """Gives the tokens back to the wallet: the payout was not made. Returned again it changes nothing; confirmed: 409.

    The transfer `withdrawal-{id}-returned` has this `reference` (another than the withdrawal's own) and `metadata`.
    """
    given = body or ReturnBody()
    withdrawal, new = await money.return_withdrawal(context, withdrawal_id, given.reason, given.particulars)
    _replayed(response, new)
    return WithdrawalView.of(withdrawal)


# -- what is taken back -----------------------------------------------------------------------------------------------


@router.post(
    "/deposits/{transfer_id}/reverse",
    status_code=201,
    summary="Reverse a deposit",
    responses=responses(404, 409, 422, 503),
)
@requires(Scope.MONEY)
async def reverse(
    context: ContextOf, transfer_id: TransferId, response: Response, body: ReversalBody | None = None
) -> ReversalView:
    """Takes a deposit back, as after a chargeback: from the wallet, then from the user's open escrows, then as a debt.

    A contribution or a hold that is still open gives its tokens back, so a show or an exclusive may pay less. A debt
    (`debt:{user_id}`, below 0) is repaid by the user's next income, first of all. Reversed again it changes nothing.
    """
    given = body or ReversalBody()
    reversal, new = await reverse_deposit(context, transfer_id, given.reason, given.particulars)
    _replayed(response, new)
    return ReversalView.of(reversal)


@router.post(
    "/goals/{goal_id}/refund",
    status_code=201,
    summary="Refund a completed goal",
    responses=responses(404, 409, 422, 503),
)
@requires(Scope.MONEY)
async def refund(
    context: ContextOf, call: CallOf, goal_id: IdText, body: RefundBody, _key: IdempotencyKey
) -> GoalRefundView:
    """Returns what a completed goal has paid to its streamer, whole or in part, to those who paid, in proportion.

    The tokens come from the streamer's wallet, otherwise as a debt. The platform's fee is not returned. 409 `nothing_paid`
    for a goal that has paid nothing, `payout_under_way` while it is being paid out, `more_than_paid` for more than is left of
    its payout, `conflict` while an earlier refund of it is a dead letter, which must be redriven first. A show and the
    FundingGoal that paid for it have one payout. The first of its transfers has the `reference`, which is unique for the
    streamer's wallet; all of them have the `metadata`.
    """
    refunded = await refund_goal(context, call, ObjectId(goal_id), body.amount, body.reason, body.particulars)
    return GoalRefundView.of(refunded)
