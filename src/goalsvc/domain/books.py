"""The books: what must hold of accounts, transfers, escrows and earnings. Pure functions over documents.

The audit reads the documents as streams and asks these functions (`goalsvc.models.book_audit`).
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from bson import ObjectId

from goalsvc.domain.escrow import ISSUER, is_amount
from goalsvc.domain.goals import user_id
from goalsvc.domain.ids import derived_id
from goalsvc.domain.reading import sequence, text

Document = Mapping[str, Any]

#: Tasks whose promise or dead letter frees no token.
NO_MONEY = frozenset({
    "StartRecord", "StartSnapshot", "StopRecord", "announce_goal_started", "clip_livestream_as_asset",
    "create_post_from_livestream", "deliver_event", "deliver_notice",
})  # fmt: skip

#: The tags of the transfers that may overdraw a debt.
DEBT_TAGS = frozenset({"reversal", "goal_refund"})


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong in the books: the rule that is broken, the document, and a sentence."""

    code: str
    id: str
    message: str

    def document(self) -> dict[str, str]:
        """The finding as JSON shows it."""
        return asdict(self)


# -- accounts ---------------------------------------------------------------------------------------------------------


def legs_of(transfer: Document) -> tuple[str, str]:
    """Returns the accounts that this transfer debits and credits; of another service's transfer, from its users and tags."""
    debit, credit = text(transfer.get("debit")), text(transfer.get("credit"))
    if not debit:
        payer = user_id(transfer.get("from_user_id"))
        escrows = [str(tag)[8:] for tag in sequence(transfer.get("tags")) if str(tag).startswith("escrow::")]
        debit = f"user:{payer}" if payer is not None else f"escrow:{escrows[0]}" if escrows else ISSUER
    payee = user_id(transfer.get("to_user_id"))
    return debit, credit or (f"user:{payee}" if payee is not None else ISSUER)


def check_sum(total: int) -> Iterator[Finding]:
    """Yields a finding unless all accounts sum to 0."""
    if total:
        yield Finding("sum_not_zero", "accounts", f"all accounts sum to {total} instead of 0")


def check_balance(account_id: str, balance: object, moved: int) -> Iterator[Finding]:
    """Yields what is wrong with the balance of an account whose transfers sum to `moved`."""
    if not isinstance(balance, int) or isinstance(balance, bool):
        yield Finding("balance_not_whole", account_id, f"{account_id} has the balance {balance!r}, not a whole number")
        return
    if balance != moved:
        message = f"{account_id} holds {balance} tokens, its transfers sum to {moved}"
        yield Finding("balance_differs", account_id, message)
    if balance < 0 and account_id != ISSUER and not account_id.startswith("debt:"):
        yield Finding("negative_balance", account_id, f"{account_id} holds {balance} tokens, less than 0")
    if balance > 0 and account_id.startswith("debt:"):
        yield Finding("debt_overpaid", account_id, f"{account_id} holds {balance} tokens, a debt is at most 0")


def check_transfer(transfer: Document) -> Iterator[Finding]:
    """Yields what is wrong with a transfer by itself: its amount, and a debt that it may not make."""
    transfer_id = str(transfer.get("_id"))
    if not is_amount(transfer.get("amount")):
        message = f"transfer {transfer_id} has the amount {transfer.get('amount')!r}, not a whole number above 0"
        yield Finding("amount_not_positive", transfer_id, message)
    debit, _ = legs_of(transfer)
    if debit.startswith("debt:") and not DEBT_TAGS & set(map(str, sequence(transfer.get("tags")))):
        message = f"transfer {transfer_id} is from {debit}, and is neither a reversal nor the refund of a goal"
        yield Finding("debt_without_reversal", transfer_id, message)


# -- escrows ----------------------------------------------------------------------------------------------------------


def goals_behind(escrow_id: str) -> tuple[ObjectId, ...]:
    """Returns the ids of the goals that an escrow of that name belongs to; none for a name that is not an escrow's."""
    kind, _, goal_id = escrow_id.partition(":")
    if not ObjectId.is_valid(goal_id):
        return ()
    own = ObjectId(goal_id)
    return (own, derived_id(own, "show")) if kind == "show_funding" else (own,)


def frees(goal: Document) -> bool:
    """Returns whether that goal will settle its escrow: it is active, or it promises work that is about money."""
    if goal.get("active", True) is not False:
        return True
    promises = goal.get("promises")
    return isinstance(promises, list) and any(
        isinstance(promise, Mapping) and promise.get("task") not in NO_MONEY for promise in promises
    )


def names_money(letter: Document) -> bool:
    """Returns whether that dead letter is about work that would settle an escrow."""
    return letter.get("state") == "dead" and letter.get("task") not in NO_MONEY


def check_escrow(
    account_id: str, balance: int, goals: Collection[Document], letters: Iterable[Document]
) -> Iterator[Finding]:
    """Yields a finding for an escrow that holds tokens which nothing will free."""
    if balance == 0 or any(map(frees, goals)) or any(map(names_money, letters)):
        return
    if not goals:
        yield Finding("escrow_without_goal", account_id, f"{account_id} holds {balance} tokens, and has no goal")
        return
    names = ", ".join(str(goal["_id"]) for goal in goals)
    what = f"{account_id} holds {balance} tokens; goal {names} has ended, and neither promise nor dead letter names it"
    yield Finding("escrow_stuck", account_id, what)


# -- earnings ---------------------------------------------------------------------------------------------------------


def escrow_of(earning: Document) -> str | None:
    """Returns the escrow that holds an earning; None where none does."""
    return next((str(name)[1:] for name in earning if str(name).startswith("_show_funding:")), None)


def settling_transfers(earning: Document) -> tuple[str, str]:
    """Returns the ids of the transfers that would pay this earning to its streamer, and refund it."""
    escrow, doc_id = escrow_of(earning), earning["_id"]
    payee, payer = earning.get("user_id"), earning.get("from_user_id")
    return f"escrow-{escrow}-{doc_id}-{payee}", f"refund-{escrow}-{doc_id}-{payer}"


def check_earning(earning: Document, made: Collection[str]) -> Iterator[Finding]:
    """Yields what is wrong with the state of an earning; `made` holds the ids of the transfers that settled it."""
    doc_id, state = str(earning["_id"]), text(earning.get("state"))
    if len(made) > 1:
        yield Finding("settled_twice", doc_id, f"earning {doc_id} was settled by {', '.join(sorted(made))}")
        return
    paid = any(transfer_id.startswith("escrow-") for transfer_id in made)
    expected = ("paid" if paid else "refunded") if made else "held"
    # Earnings of other services, and those settled before states were kept, have none.
    if state is not None and state != expected:
        message = f"earning {doc_id} says {state!r}, its transfers say {expected!r}"
        yield Finding("earning_state_differs", doc_id, message)
