"""The books, watched commit by commit: what may be moved, reckoned from nothing but the transfers in their order.

Written apart from goalsvc: by words of transfer ids, tags and legs as docs/specification.md has them.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .machine import DatabaseInside, Document

#: What an escrow's account carries once its settlement has begun.
_BEGUN = ("settlement", "settling", "shares_due", "held")


class WatchedBooks:
    """Accounts as the transfers make them, and what was wrong with any of the commits."""

    def __init__(self, inside: DatabaseInside) -> None:
        self._inside = inside
        self._seen: set[str] = set()
        self.balances: Counter[str] = Counter()
        #: By escrow and user: what that user has put in and not got back yet.
        self.held: Counter[tuple[str, str]] = Counter()
        #: By payout of a share: its amount, and how much of it was returned.
        self.paid: dict[str, int] = {}
        self.returned: Counter[str] = Counter()
        self.reversed: set[str] = set()
        self.wrong: list[str] = []

    def look(self) -> None:
        """Takes in what was committed last."""
        transfers = self._inside.peek("transfers")
        if len(transfers) == len(self._seen):
            return
        new = [transfer for name, transfer in transfers.items() if name not in self._seen]
        self._seen.update(transfer["_id"] for transfer in new)
        self.wrong += self._reversals(new, transfers)
        for transfer in new:
            self._take_in(transfer)
        self.wrong += self._accounts(new)
        self.wrong += self._returns(new)

    def _take_in(self, transfer: Document) -> None:
        name, amount = transfer["_id"], transfer["amount"]
        debit, credit = transfer["debit"], transfer["credit"]
        self.balances[debit] -= amount
        self.balances[credit] += amount
        if name.startswith("escrow-"):
            self.paid[name] = amount if credit.startswith("user:") else 0
        # What another service holds (`hold-exclusive:`) a reversal does not know.
        if credit.startswith("escrow:") and not name.startswith("hold-exclusive:"):
            if debit.startswith("escrow:"):  # the hold of a request becomes the escrow of its exclusive
                for (escrow, user), held in list(self.held.items()):
                    if escrow == debit:
                        self.held[credit, user] += held
                        self.held[debit, user] = 0
            else:
                self.held[credit, debit] += amount
        elif debit.startswith("escrow:") and credit.startswith("user:") and not name.startswith("escrow-"):
            self.held[debit, credit] -= amount

    def _accounts(self, new: Sequence[Document]) -> Iterator[str]:
        """Each account holds what its transfers say; only the issuer and debts are below 0, and who owes has nothing."""
        accounts = self._inside.peek("accounts")
        for name in {leg for transfer in new for leg in (transfer["debit"], transfer["credit"])}:
            kind, _, user = name.partition(":")
            balance = self.balances[name]
            if (stored := accounts.get(name, {}).get("balance", 0)) != balance:
                yield f"after {_names(new)} {name} holds {stored}, its transfers come to {balance}"
            if balance < 0 and kind not in ("issuer", "debt"):
                yield f"after {_names(new)} {name} holds {balance}"
            if kind == "debt" and balance > 0:
                yield f"after {_names(new)} more than the debt was repaid: {name} holds {balance}"
            if kind in ("user", "debt") and self.balances[f"debt:{user}"] < 0 < self.balances[f"user:{user}"]:
                yield f"after {_names(new)} {user} owes {-self.balances[f'debt:{user}']} tokens and has {balance}"

    def _reversals(self, new: Sequence[Document], transfers: Mapping[str, Document]) -> Iterator[str]:
        """A reversal takes what was deposited, once; from the wallet, from open escrows if need be, the rest as a debt."""
        for deposit in sorted(
            {tag[10:] for transfer in new for tag in transfer["tags"] if tag.startswith("reversal::")}
        ):
            part = [transfer for transfer in new if f"reversal::{deposit}" in transfer["tags"]]
            origin = transfers[deposit]
            amount, wallet = origin["amount"], origin["credit"]
            taken = sum(each["amount"] for each in part if each["credit"] == "issuer")
            owed = sum(each["amount"] for each in part if each["debit"].startswith("debt:"))
            freed = sum(each["amount"] for each in part if each["credit"] == wallet)
            repaid = sum(each["amount"] for each in new if each["credit"].startswith("debt:"))
            opened = sum(held for (escrow, user), held in self.held.items() if user == wallet and self._is_open(escrow))
            expected = min(max(amount - self.balances[wallet], 0), opened)
            if deposit in self.reversed or not deposit.startswith("deposit-") or origin["debit"] != "issuer":
                yield f"{deposit} was reversed again, or is no deposit"
            if taken != amount:
                yield f"{deposit} was of {amount} tokens, its reversal took {taken}"
            if freed != expected:
                yield f"the reversal of {deposit} freed {freed} of {opened} tokens in escrows, and should free {expected}"
            if owed != amount - min(amount, self.balances[wallet] + freed - repaid):
                yield f"the reversal of {deposit} made a debt of {owed} at {self.balances[wallet]} tokens in the wallet"
            self.reversed.add(deposit)

    def _is_open(self, escrow: str) -> bool:
        account: Mapping[str, Any] = self._inside.peek("accounts").get(escrow, {})
        return all(account.get(name) is None for name in _BEGUN)

    def _returns(self, new: Sequence[Document]) -> Iterator[str]:
        """Of each share that was paid, no more is returned than it was."""
        for transfer in new:
            if "goal_refund" in transfer["tags"]:
                payout = transfer["metadata"]["transfer_id"]
                self.returned[payout] += transfer["amount"]
                if self.returned[payout] > self.paid[payout]:
                    yield f"of {payout} {self.paid[payout]} tokens were paid, {self.returned[payout]} returned"


def _names(transfers: Sequence[Document]) -> str:
    return ", ".join(transfer["_id"] for transfer in transfers)
