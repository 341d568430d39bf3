"""Money in and out: deposits, adjustments, tips and withdrawals. Each is one transfer with an id derived from its call."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from pymongo.errors import OperationFailure

from goalsvc.actions.goals import check_storable
from goalsvc.context import Context
from goalsvc.database_session import DatabaseSession
from goalsvc.domain.escrow import ISSUER, payout_account, user_account
from goalsvc.domain.ids import key_digest
from goalsvc.domain.orders import Order, Posted
from goalsvc.errors import ConflictError, InvalidError, TransferConflictError
from goalsvc.models.transfer_events import of_order
from goalsvc.models.withdrawal import CONFIRMED, RETURNED, Withdrawal
from goalsvc.tasks.withdrawals import conclude_withdrawal, known_withdrawal

#: How large the metadata of a transfer may be, as JSON.
MOST_METADATA_BYTES = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Particulars:
    """What a caller may note with a transfer: its own reference, unique for the account, and metadata."""

    reference: str | None = None
    metadata: Mapping[str, object] | None = None

    def checked(self) -> Mapping[str, object]:
        """Returns the metadata; raises InvalidError for what is too large or cannot be stored."""
        metadata = dict(self.metadata or {})
        if check_storable(metadata) > MOST_METADATA_BYTES:
            raise InvalidError("metadata", f"must be at most {MOST_METADATA_BYTES} bytes as JSON")
        for field in metadata:
            if field.startswith("$") or "." in field:
                raise InvalidError(f"metadata.{field}", "field names must not begin with `$` or hold `.`")
        return metadata


NO_PARTICULARS = Particulars()


def refused_reference(error: OperationFailure, reference: str | None, account: str) -> Exception:
    """Returns ConflictError `reference_used` where a transaction failed because that account's reference is taken; else the
    error itself.
    """
    details: Mapping[str, Any] = error.details or {}
    if not any("reference" in (fault.get("keyPattern") or {}) for fault in (details, *details.get("writeErrors", ()))):
        return error
    return ConflictError("reference_used", f"reference: {reference!r} was used for {account} before")


async def deposit(
    context: Context, user_id: str, amount: int, key: str, particulars: Particulars = NO_PARTICULARS
) -> tuple[Posted, bool]:
    """Adds tokens that come from outside to a user's wallet; the transfer, and whether it was made now."""
    order = Order(
        transfer_id=f"deposit-{user_id}-{key_digest(key)}",
        debit=ISSUER,
        credit=user_account(user_id),
        amount=amount,
        tags=["deposit"],
        metadata=particulars.checked(),
        to_user_id=user_id,
        cause=context.origin.cause,
        reference=particulars.reference,
        account=user_account(user_id),
    )
    return await _post_and_tell(context, order, "deposit.created")


async def _post_and_tell(context: Context, order: Order, event_type: str) -> tuple[Posted, bool]:
    """Makes the transfer, and writes the event of it in the same transaction."""
    now = context.clock.now()

    async def tell(session: DatabaseSession) -> None:
        await context.events.write([of_order(event_type, order, now)], session)

    posted, new = await context.ledger.post(order, now, tell)
    _refuse_other_metadata(order, posted)
    return posted, new


def _refuse_other_metadata(order: Order, posted: Posted) -> None:
    """Raises TransferConflictError where the key was used with another reason, or with other metadata, before."""
    if _as_json(posted.metadata) != _as_json(order.metadata):
        raise TransferConflictError(f"transfer {order.transfer_id} exists with other metadata")


def _as_json(metadata: Mapping[str, object]) -> str:
    """The metadata as text in which 1, 1.0 and true differ, which Python's `==` takes for the same."""
    return json.dumps(metadata, sort_keys=True, default=str)


async def adjust(
    context: Context,
    user_id: str,
    amount: int,
    direction: Literal["credit", "debit"],
    reason: str,
    key: str,
    particulars: Particulars = NO_PARTICULARS,
) -> tuple[Posted, bool]:
    """Corrects a wallet by tokens from or to the issuer, with a reason."""
    adds = direction == "credit"
    order = Order(
        transfer_id=f"adjustment-{user_id}-{key_digest(key)}",
        debit=ISSUER if adds else user_account(user_id),
        credit=user_account(user_id) if adds else ISSUER,
        amount=amount,
        tags=["adjustment"],
        metadata={**particulars.checked(), "reason": reason},
        from_user_id=None if adds else user_id,
        to_user_id=user_id if adds else None,
        cause=context.origin.cause,
        reference=particulars.reference,
        account=user_account(user_id),
    )
    return await _post_and_tell(context, order, "adjustment.created")


async def tip(
    context: Context,
    from_user_id: str,
    to_user_id: str,
    amount: int,
    key: str,
    particulars: Particulars = NO_PARTICULARS,
) -> tuple[Posted, bool]:
    """Moves tokens from one user's wallet to another's. Raises ConflictError `self_payment`."""
    if from_user_id == to_user_id:
        raise ConflictError("self_payment", "from_user_id and to_user_id are the same user")
    order = Order(
        transfer_id=f"tip-{key_digest(key)}",
        debit=user_account(from_user_id),
        credit=user_account(to_user_id),
        amount=amount,
        tags=["tip"],
        metadata=particulars.checked(),
        from_user_id=from_user_id,
        to_user_id=to_user_id,
        cause=context.origin.cause,
        reference=particulars.reference,
        account=user_account(from_user_id),
    )
    return await _post_and_tell(context, order, "transfer.created")


# -- withdrawals ------------------------------------------------------------------------------------------------------


async def withdraw(
    context: Context, user_id: str, amount: int, key: str, particulars: Particulars = NO_PARTICULARS
) -> tuple[Withdrawal, bool]:
    """Sets tokens of a wallet aside for a payout to the outside; the withdrawal, and whether it was made now."""
    now = context.clock.now()
    metadata = particulars.checked()
    withdrawal_id = f"wd_{key_digest(f'{user_id}/{key}')[:24]}"
    order = Order(
        transfer_id=f"withdrawal-{withdrawal_id}",
        debit=user_account(user_id),
        credit=payout_account(withdrawal_id),
        amount=amount,
        tags=["withdrawal", f"withdrawal::{withdrawal_id}"],
        metadata=metadata,
        from_user_id=user_id,
        cause=context.origin.cause,
        reference=particulars.reference,
        account=user_account(user_id),
    )
    withdrawal = Withdrawal(
        id=withdrawal_id,
        user_id=user_id,
        amount=amount,
        created_at=now,
        updated_at=now,
        returns_at=now + timedelta(seconds=context.settings.withdrawal_limit),
        reference=particulars.reference,
        metadata=dict(metadata),
        cause=context.origin.cause.document() or None,
    )

    async def note(session: DatabaseSession) -> None:
        await withdrawal.insert(session=session)
        await context.events.write([of_order("withdrawal.created", order, now)], session)

    posted, new = await context.ledger.post(order, now, note)
    _refuse_other_metadata(order, posted)
    return (withdrawal if new else await known_withdrawal(withdrawal_id)), new


async def confirm_withdrawal(
    context: Context, withdrawal_id: str, particulars: Particulars = NO_PARTICULARS
) -> tuple[Withdrawal, bool]:
    """Notes that a payout arrived: its tokens leave the ledger. Raises what `conclude_withdrawal` raises, and InvalidError."""
    metadata = particulars.checked()
    return await conclude_withdrawal(
        context, withdrawal_id, CONFIRMED, None, reference=particulars.reference, metadata=metadata
    )


async def return_withdrawal(
    context: Context, withdrawal_id: str, reason: str, particulars: Particulars = NO_PARTICULARS
) -> tuple[Withdrawal, bool]:
    """Returns the tokens of a payout that was not made to the wallet. Raises what `conclude_withdrawal` raises, and
    InvalidError.
    """
    metadata = particulars.checked()
    return await conclude_withdrawal(
        context, withdrawal_id, RETURNED, reason, reference=particulars.reference, metadata=metadata
    )
