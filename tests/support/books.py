"""All that is wrong in a database, found in memory: an oracle for the audit, which reads the documents as streams."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from bson import ObjectId

from goalsvc.domain.books import (
    Document,
    Finding,
    check_balance,
    check_earning,
    check_escrow,
    check_sum,
    check_transfer,
    escrow_of,
    goals_behind,
    legs_of,
)
from goalsvc.domain.escrow import is_amount

#: The collections that the books are kept in.
BOOKS = ("accounts", "transfers", "earnings", "goals", "sessions", "dead_letters", "withdrawals")


def findings_of(contents: Mapping[str, Iterable[Document]]) -> Iterator[Finding]:
    """Yields all that is wrong in these documents, by collection."""
    accounts = {str(account["_id"]): account.get("balance", 0) for account in contents.get("accounts", ())}
    transfers = list(contents.get("transfers", ()))
    goals = {goal["_id"]: goal for goal in contents.get("goals", ())}
    letters = list(contents.get("dead_letters", ()))
    yield from check_sum(sum(balance for balance in accounts.values() if isinstance(balance, int)))
    moved: Counter[str] = Counter()
    for transfer in transfers:
        yield from check_transfer(transfer)
        debit, credit = legs_of(transfer)
        if is_amount(transfer.get("amount")):
            moved[debit] -= transfer["amount"]
            moved[credit] += transfer["amount"]
    for account_id in sorted({*accounts, *moved}):
        yield from check_balance(account_id, accounts.get(account_id, 0), moved[account_id])
        if account_id.startswith("escrow:"):
            behind = [goals[goal_id] for goal_id in _all_behind(account_id[7:], contents) if goal_id in goals]
            ids = {str(goal["_id"]) for goal in behind}
            about = [letter for letter in letters if letter.get("goal_id") in ids]
            yield from check_escrow(account_id, accounts.get(account_id, 0), behind, about)
    by_doc: dict[str, set[str]] = {}
    for transfer in transfers:
        if str(transfer["_id"]).startswith(("escrow-show_funding", "refund-show_funding")):
            doc_id = str((transfer.get("metadata") or {}).get("doc_id"))
            by_doc.setdefault(doc_id, set()).add(str(transfer["_id"]))
    for earning in contents.get("earnings", ()):
        if escrow_of(earning) is not None:
            yield from check_earning(earning, by_doc.get(str(earning["_id"]), ()))


def _all_behind(escrow_id: str, contents: Mapping[str, Iterable[Document]]) -> set[object]:
    """Returns the ids of the goals behind an escrow: by its name, by a session's pair, by the hold that it came from."""
    ids: set[object] = set(goals_behind(escrow_id))
    for session in contents.get("sessions", ()):
        for pair in session.get("show_goal_pairs") or ():
            if ObjectId.is_valid(pair.get("funding_goal", "")) and ObjectId(pair["funding_goal"]) in ids:
                ids.add(ObjectId(pair["show_goal"]))
    for transfer in contents.get("transfers", ()):
        if transfer.get("credit") == f"escrow:{escrow_id}" and escrow_id.startswith("exclusive:"):
            ids |= set(goals_behind(legs_of(transfer)[0].partition(":")[2]))
    return ids
