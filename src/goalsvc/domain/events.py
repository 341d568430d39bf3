"""Events for the platform's backend: what happened, as immutable values, and the catalogue of their types.

An event's id follows from its type and from what it tells of, so that the same happening is written once, however often the
task that tells of it is run.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Self

from goalsvc.domain.documents import RawDocument
from goalsvc.domain.origin import NO_CAUSE, Cause

#: Every type of event, and when one is written.
EVENT_TYPES: Final[Mapping[str, str]] = {
    "session.started": "A livestream began.",
    "session.ended": "A livestream ended; its open goals end with it.",
    "goal.created": "A goal was made, by a call or because its funding or its request succeeded.",
    "goal.started": "The performer began, or went on after a pause: the goal's clock was started.",
    "goal.progressed": "Progress was raised: performed seconds were counted, or tokens were contributed.",
    "goal.completed": "A level was reached that had not been reached before.",
    "goal.agreed": "A request was agreed to.",
    "goal.declined": "A request was declined.",
    "goal.ended": "A goal became inactive, whatever the cause.",
    "goal.updated": "A goal's time, metadata or later levels were changed by a call.",
    "goal.refunded": "The payout of a completed goal was returned, in whole or in part.",
    "goal.refunded.individual": "One share of such a refund went from the streamer's wallet to the user who had paid.",
    "contribution.created": "A viewer contributed tokens to a FundingGoal.",
    "hold.created": "The price of a request was set aside in its escrow.",
    "hold.moved": "The hold of an agreed request became the escrow of its exclusive.",
    "fee.taken": "The platform's fee was taken from a payout.",
    "escrow.completed.individual": "One share of an escrow was paid to the streamer.",
    "escrow.completed": "Every share of an escrow was paid.",
    "escrow.refunded.individual": "One share of an escrow was returned to its contributor.",
    "escrow.refunded": "Every share of an escrow was refunded.",
    "deposit.created": "Tokens were added to a wallet from outside.",
    "deposit.reversed": "A deposit was reversed (a chargeback).",
    "reversal.taken": "Tokens of a reversed deposit were taken from the user's wallet.",
    "escrow.reversed": "Tokens of a reversed deposit left an open escrow: they are in the user's wallet, to be taken.",
    "debt.created": "A user owes tokens, because a reversal or a refund found too few in the wallet.",
    "debt.repaid": "Income of a user repaid a debt, in whole or in part.",
    "withdrawal.created": "Tokens were set aside for a payout to the outside.",
    "withdrawal.confirmed": "A payout was made; the tokens left the ledger.",
    "withdrawal.returned": "A payout was not made; the tokens are back in the wallet.",
    "transfer.created": "A user gave tokens to another user.",
    "adjustment.created": "A balance was corrected, with a reason.",
    "clip.stored": "A clip was cut and stored.",
    "clip.failed": "A clip could not be made.",
    "recording.started": "A cloud recording was started.",
    "recording.stopped": "A cloud recording was stopped.",
    "recording.failed": "A cloud recording could not be started or stopped.",
    "dead_letter.created": "A task was tried for the last time and needs an operator.",
    "endpoint.disabled": "A webhook endpoint failed for three days and was disabled.",
}

#: The types whose `data.transfer` is a transfer. Each transfer has exactly one such event, so they suffice to keep books.
TELLING_OF_TRANSFERS: Final = (
    "adjustment.created",
    "contribution.created",
    "debt.created",
    "debt.repaid",
    "deposit.created",
    "escrow.completed.individual",
    "escrow.refunded.individual",
    "escrow.reversed",
    "fee.taken",
    "goal.refunded.individual",
    "hold.created",
    "hold.moved",
    "reversal.taken",
    "transfer.created",
    "withdrawal.confirmed",
    "withdrawal.created",
    "withdrawal.returned",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened. `identity` names the happening among those of its type."""

    type: str
    identity: str
    created_at: datetime
    data: Mapping[str, Any]
    goal_id: str | None = None
    session_id: str | None = None
    user_ids: tuple[str, ...] = ()
    cause: Cause = NO_CAUSE

    @property
    def id(self) -> str:
        """`evt_` and 32 hexadecimal digits that follow from type and identity."""
        return "evt_" + hashlib.sha256(f"{self.type}|{self.identity}".encode()).hexdigest()[:32]

    def document(self) -> RawDocument:
        """The event as it is stored, without what is absent."""
        document: RawDocument = {
            "_id": self.id,
            "type": self.type,
            "created_at": self.created_at,
            "user_ids": list(self.user_ids),
            "data": dict(self.data),
            "cause": self.cause.document(),
        }
        if self.goal_id is not None:
            document["goal_id"] = self.goal_id
        if self.session_id is not None:
            document["session_id"] = self.session_id
        return document

    def arguments(self) -> dict[str, object]:
        """The event as the argument of a promise; `read` makes the event of it again."""
        return self.document() | {"identity": self.identity}

    @classmethod
    def read(cls, arguments: Mapping[str, Any]) -> Self:
        """The event whose `arguments` these are."""
        return cls(
            type=arguments["type"],
            identity=arguments["identity"],
            created_at=arguments["created_at"],
            data=arguments["data"],
            goal_id=arguments.get("goal_id"),
            session_id=arguments.get("session_id"),
            user_ids=tuple(arguments["user_ids"]),
            cause=Cause.read(arguments.get("cause")),
        )


def users(*user_ids: str | None) -> tuple[str, ...]:
    """These users without those that are absent, each once."""
    return tuple(dict.fromkeys(user_id for user_id in user_ids if user_id))


def selected_types(patterns: Iterable[str]) -> tuple[str, ...]:
    """The event types that these patterns select: a type, a prefix as in `goal.*`, or `*`.

    Raises ValueError that names a pattern which selects none.
    """
    selected: dict[str, None] = {}
    for pattern in patterns:
        prefix = pattern.removesuffix("*") if pattern == "*" or pattern.endswith(".*") else None
        found = [name for name in EVENT_TYPES if (name == pattern if prefix is None else name.startswith(prefix))]
        if not found:
            raise ValueError(f"{pattern!r} is not an event type")
        selected.update(dict.fromkeys(found))
    return tuple(selected)
