"""The orders of transfers that jobs make: shares of escrows, and what else a goal promises."""

from collections.abc import Mapping, Sequence
from typing import Any

from bson import ObjectId

from goalsvc.context import Context
from goalsvc.domain.escrow import FEES, SETTLEMENT, WHOLE_BPS, EscrowShare, escrow_account, tag_of, user_account
from goalsvc.domain.orders import Claim, Order
from goalsvc.errors import InvalidError
from goalsvc.models.claims import check_amount, split


def share_order(
    context: Context,
    escrow_id: str,
    event: str,
    to_user_id: str,
    amount: object,
    metadata: Mapping[str, object],
    fee_bps: int,
) -> Order:
    """Returns the transfer of a share that has an earning; raises InvalidError for an amount or an earning that is none."""
    share = share_of(escrow_id, event, to_user_id, metadata, alone=False)
    return order_of(
        context,
        transfer_id=share.transfer_id,
        debit=escrow_account(escrow_id),
        from_user_id=None,
        to_user_id=to_user_id,
        amount=amount,
        tags=[tag_of(escrow_id)],
        metadata=metadata,
        share=share,
        fee_bps=fee_bps,
    )


def share_of(
    escrow_id: str, event: str, to_user_id: str, metadata: Mapping[str, object], *, alone: bool
) -> EscrowShare:
    """Returns that share of an escrow; `alone` is one behind which no earning stands. Raises InvalidError."""
    return EscrowShare(
        escrow_id=escrow_id,
        way=SETTLEMENT[event],
        doc_id=str(metadata.get("doc_id", "")),
        user_id=to_user_id,
        earning_id=None if alone else _earning_of(metadata),
    )


def order_of(
    context: Context,
    *,
    transfer_id: str,
    debit: str,
    from_user_id: str | None,
    to_user_id: str,
    amount: Any,
    tags: Sequence[str],
    metadata: Mapping[str, object],
    share: EscrowShare | None,
    fee_bps: int,
) -> Order:
    """Returns the order of a transfer that a job makes, with the claim on which it rests. Only a payout has a fee.

    Raises InvalidError for an amount that is none, and without a user to whom it goes.
    """
    if not to_user_id:
        raise InvalidError("to_user_id", f"required: transfer {transfer_id} has no recipient")
    fee_bps = fee_bps if share is not None and share.paid else 0
    check_amount({"_id": transfer_id, "amount": amount}, "transfer")
    to_user, fee = split(amount, fee_bps)
    to_platform = fee_bps >= WHOLE_BPS
    return Order(
        transfer_id=transfer_id,
        debit=debit,
        credit=FEES if to_platform else user_account(to_user_id),
        amount=to_user,
        fee=fee,
        tags=tags,
        metadata=metadata,
        from_user_id=from_user_id,
        to_user_id=None if to_platform else to_user_id,
        settlement=share.way if share is not None and share.earning_id is not None else None,
        event="fee.taken" if to_platform else None,
        claim=Claim(promise=context.promise, share=share, fee_bps=fee_bps),
        cause=context.origin.cause,
    )


def _earning_of(metadata: Mapping[str, Any]) -> ObjectId:
    doc_id = metadata.get("doc_id")
    if not ObjectId.is_valid(doc_id or ""):
        raise InvalidError("metadata.doc_id", "must be the id of an earning")
    return ObjectId(doc_id)
