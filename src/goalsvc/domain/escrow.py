"""Escrow: the names of accounts, the ids and tags of transfers, and how an escrow is divided. Pure functions."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from bson import ObjectId

ISSUER = "issuer"
#: The platform's share of payouts.
FEES = "fees"


def user_account(user_id: str) -> str:
    """Id of that user's account."""
    return f"user:{user_id}"


def escrow_account(escrow_id: str) -> str:
    """Id of that escrow's account."""
    return f"escrow:{escrow_id}"


def debt_account(user_id: str) -> str:
    """Returns the id of the account of what that user owes after a reversal; it alone, with the issuer's, may be negative."""
    return f"debt:{user_id}"


def payout_account(withdrawal_id: str) -> str:
    """Returns the id of the account that holds a withdrawal until it is confirmed or returned."""
    return f"payout:{withdrawal_id}"


def show_escrow(funding_goal_id: ObjectId) -> str:
    """The escrow that holds what viewers contributed to that FundingGoal."""
    return f"show_funding:{funding_goal_id}"


def trigger_escrow(trigger_goal_id: ObjectId) -> str:
    """The escrow that holds the price of that request until it is agreed to, declined or expires."""
    return f"trigger:{trigger_goal_id}"


def exclusive_escrow(exclusive_goal_id: ObjectId) -> str:
    """The escrow that holds the price of that exclusive."""
    return f"exclusive:{exclusive_goal_id}"


class Settlement(StrEnum):
    """Where the shares of an escrow go. An escrow is settled one way only: not half paid and half refunded."""

    PAY = "escrow"
    REFUND = "refund"


COMPLETED = "escrow.completed"
REFUNDED = "escrow.refunded"

#: Where a share goes, by the event that it ends in; also the first word of its transfer id.
SETTLEMENT = {COMPLETED: Settlement.PAY, REFUNDED: Settlement.REFUND}


def transfer_id_of(event: str, escrow_id: str, doc_id: str, user_id: str) -> str:
    """The id of the one transfer that settles this share: `escrow-show_funding:{goal}-{earning}-{user}`, or `refund-…`."""
    share = EscrowShare(escrow_id=escrow_id, way=SETTLEMENT[event], doc_id=doc_id, user_id=user_id)
    return share.transfer_id


_TAG = "escrow::"


def tag_of(escrow_id: str) -> str:
    """The tag of every transfer that concerns that escrow."""
    return _TAG + escrow_id


@dataclass(frozen=True, slots=True, kw_only=True)
class EscrowShare:
    """A share of an escrow: what it is of, whose it is, and which way it goes."""

    escrow_id: str
    way: Settlement
    doc_id: str
    user_id: str
    earning_id: ObjectId | None = None
    """The earning that is settled; None where the goal's promise itself names the amount."""

    @property
    def paid(self) -> bool:
        """Whether it goes to the streamer, and not back."""
        return self.way is Settlement.PAY

    @property
    def transfer_id(self) -> str:
        """The one id that its transfer may have."""
        return f"{self.way.value}-{self.escrow_id}-{self.doc_id}-{self.user_id}"


def named_in(transfer_id: str, tags: Sequence[str]) -> tuple[str | None, str | None]:
    """Returns the escrow and the event that a transfer's tags and id name: jobs of version 0.1 say it nowhere else."""
    escrow_id = next((tag.removeprefix(_TAG) for tag in tags if tag.startswith(_TAG)), None)
    word = transfer_id.partition("-")[0]
    return escrow_id, next((event for event, way in SETTLEMENT.items() if way.value == word), None)


def performed_share(held: int, performed_seconds: int, target_seconds: int) -> int:
    """The part of an escrow that is the performer's: by the second, cut to whole tokens; the rest is the viewer's."""
    return held * min(performed_seconds, target_seconds) // target_seconds


#: All of a payout, in hundredths of a percent.
WHOLE_BPS = 10_000


def fee_of(amount: int, fee_bps: int) -> int:
    """Returns the platform's part of that payout, rounded down; the rest is the streamer's."""
    return amount * min(max(fee_bps, 0), WHOLE_BPS) // WHOLE_BPS


def is_amount(value: object) -> bool:
    """Returns whether that can be an amount of tokens: a whole number above 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
