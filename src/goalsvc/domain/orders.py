"""Orders: transfers that are to be made, and the claims on which they rest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from goalsvc.domain.escrow import EscrowShare, Settlement
from goalsvc.domain.origin import NO_CAUSE, Cause
from goalsvc.domain.promises import PromiseRef


class Posted(Protocol):
    """A transfer that was made, as those read it who had it made (`goalsvc.models.wallet.Transfer`)."""

    id: str
    debit: str
    credit: str
    from_user_id: str | None
    to_user_id: str | None
    amount: int
    tags: list[str]
    metadata: dict[str, object]
    cause: dict[str, object] | None
    created_at: datetime | None
    reference: str | None
    reversed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Claim:
    """What a movement of tokens rests on."""

    promise: PromiseRef | None
    share: EscrowShare | None = None
    """The share of an escrow that it settles, if it does."""
    fee_bps: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A transfer that is to be made."""

    transfer_id: str
    debit: str
    credit: str
    amount: int
    tags: Sequence[str] = ()
    metadata: Mapping[str, object] = field(default_factory=dict)
    from_user_id: str | None = None
    to_user_id: str | None = None
    settlement: Settlement | None = None
    fee: int = 0
    """What goes from `debit` to the account `fees` besides, by a transfer of its own (`fee-{transfer_id}`)."""
    cause: Cause = NO_CAUSE
    """What it goes back to; stored in the transfer, and not part of its content."""
    reference: str | None = None
    account: str | None = None
    """The account for which the reference is unique."""
    overdraft: bool = False
    """Whether `debit` may become negative, as a debt does."""
    event: str | None = None
    """The type of the event that tells of it, written in the same transaction; None: its caller tells."""
    claim: Claim | None = None
    """What it rests on, where a job makes it; the ledger then verifies the claim in the transaction of the transfer."""

    def same_as(self, transfer: Posted) -> bool:
        """Whether that transfer is this one; the time at which it was made does not matter."""
        return (
            (transfer.debit in ("", self.debit) and transfer.credit in ("", self.credit))
            and (transfer.amount, transfer.from_user_id, transfer.to_user_id)
            == (self.amount, self.from_user_id, self.to_user_id)
            and list(transfer.tags) == list(self.tags)
            and transfer.reference == self.reference
        )
