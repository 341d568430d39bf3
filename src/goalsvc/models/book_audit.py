"""The audit of the books: reads them as streams and finds what is broken. Nothing is held in memory but the findings.

Everything is read from one snapshot of the database, so that transfers which are made meanwhile change nothing.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pymongo import ASCENDING
from pymongo.errors import OperationFailure

from goalsvc.database_session import DatabaseSession
from goalsvc.domain import books
from goalsvc.domain.books import Finding
from goalsvc.domain.documents import Query, RawDocument, Stored
from goalsvc.models.audit_figures import AuditFigures
from goalsvc.models.filters import text_of, user_id_of
from goalsvc.models.goal import Goal
from goalsvc.models.records import DeadLetter
from goalsvc.models.seal import check_seals
from goalsvc.models.session import Session
from goalsvc.models.wallet import Account, Earning, Transfer, balance_in
from goalsvc.models.withdrawal import Withdrawal

#: More findings than this are counted, and not listed.
MOST_LISTED = 1000

_BATCH = 500
#: The server keeps no snapshot of that age, or knows no snapshots.
_NO_SNAPSHOT = {239, 246, 263, 20, 50}


@dataclass(slots=True)
class Report:
    """What an audit found."""

    at: datetime
    accounts: int = 0
    transfers: int = 0
    escrows_held: int = 0
    earnings: int = 0
    days_sealed: int = 0
    imbalance: int = 0
    """By how many tokens all accounts together differ from 0."""
    stuck: int = 0
    """How many escrows hold tokens that nothing will free."""
    wrong: int = 0
    findings: list[Finding] = field(default_factory=list)

    def add(self, finding: Finding) -> None:
        """Notes what is wrong."""
        self.wrong += 1
        self.stuck += finding.code in ("escrow_stuck", "escrow_without_goal")
        if len(self.findings) < MOST_LISTED:
            self.findings.append(finding)

    def figures(self) -> AuditFigures:
        """The report in figures."""
        return AuditFigures(self.at, self.imbalance, self.stuck, self.wrong)

    def document(self) -> RawDocument:
        """The report as JSON shows it."""
        figures = (
            "at",
            "accounts",
            "transfers",
            "escrows_held",
            "earnings",
            "days_sealed",
            "imbalance",
            "stuck",
            "wrong",
        )
        findings = [finding.document() for finding in self.findings]
        return {"ok": self.wrong == 0, **{name: getattr(self, name) for name in figures}, "findings": findings}


async def audit(now: datetime, key: bytes) -> Report:
    """Reads all accounts, transfers, escrows, earnings and seals, and reports what is wrong. `key` verifies the seals."""
    report = Report(now)
    async with snapshot() as session:
        await _check_accounts(report, session)
        await _check_transfers(report, session)
        await _check_escrows(report, session)
        await _check_earnings(report, session)
        await _check_payouts(report, session)
        async for finding in check_seals(key, session):
            report.days_sealed += 1
            if finding is not None:
                report.add(finding)
    return report


@asynccontextmanager
async def snapshot() -> AsyncIterator[Any]:
    """Opens a session whose reads all see one state of the database; None where the server has none."""
    client = Account.get_motor_collection().database.client
    async with await client.start_session(snapshot=True) as session:
        try:
            await Account.get_motor_collection().find_one({}, {"_id": 1}, session=session)
        except OperationFailure as error:
            if error.code not in _NO_SNAPSHOT:
                raise
            session = None
        yield session


# -- accounts and transfers -------------------------------------------------------------------------------------------

_ESCROW_TAG: Query = {
    "$first": {
        "$filter": {
            "input": {"$cond": [{"$isArray": "$tags"}, "$tags", []]},
            "as": "tag",
            "cond": {"$eq": [{"$indexOfBytes": [text_of("$$tag"), "escrow::"]}, 0]},
        }
    }
}
_ESCROW: Query = {"$replaceOne": {"input": _ESCROW_TAG, "find": "escrow::", "replacement": "escrow:"}}
_PAYER: Query = {"$ifNull": [{"$concat": ["user:", user_id_of("from_user_id")]}, _ESCROW, "issuer"]}
_PAYEE: Query = {"$ifNull": [{"$concat": ["user:", user_id_of("to_user_id")]}, "issuer"]}
#: `books.legs_of`, as the server reckons it.
_DEBIT: Query = {"$ifNull": [text_of("$debit"), _PAYER]}
_CREDIT: Query = {"$ifNull": [text_of("$credit"), _PAYEE]}
_WHOLE: Query = {"$in": [{"$type": "$amount"}, ["int", "long"]]}
_POSITIVE: Query = {"$cond": [{"$and": [_WHOLE, {"$gt": ["$amount", 0]}]}, "$amount", 0]}

#: What the transfers of each account sum to, in the order of the accounts' ids.
_MOVED: list[Query] = [
    {
        "$project": {
            "legs": [
                {"account": _CREDIT, "amount": _POSITIVE},
                {"account": _DEBIT, "amount": {"$multiply": [_POSITIVE, -1]}},
            ]
        }
    },
    {"$unwind": "$legs"},
    {"$group": {"_id": "$legs.account", "moved": {"$sum": "$legs.amount"}}},
    {"$sort": {"_id": 1}},
]


async def _check_accounts(report: Report, session: DatabaseSession) -> None:
    """Walks over the accounts and the sums of their transfers side by side, both in the order of the accounts' ids."""
    accounts = Account.get_motor_collection().find({}, {"balance": 1}, session=session).sort("_id", ASCENDING)
    sums = Transfer.get_motor_collection().aggregate(_MOVED, allowDiskUse=True, session=session)
    account, moved = await anext(accounts, None), await anext(sums, None)
    while account is not None or moved is not None:
        ids = [str(one["_id"]) for one in (account, moved) if one is not None]
        account_id, balance, total = min(ids), 0, 0
        if account is not None and str(account["_id"]) == account_id:
            balance, account = account.get("balance", 0), await anext(accounts, None)
            report.accounts += 1
        if moved is not None and str(moved["_id"]) == account_id:
            total, moved = moved["moved"], await anext(sums, None)
        for finding in books.check_balance(account_id, balance, total):
            report.add(finding)
        if isinstance(balance, int):
            report.imbalance += balance
    for finding in books.check_sum(report.imbalance):
        report.add(finding)


async def _check_transfers(report: Report, session: DatabaseSession) -> None:
    transfers = Transfer.get_motor_collection()
    report.transfers = await transfers.count_documents({}, session=session)
    debts = {"debit": {"$gte": "debt:", "$lt": "debt;"}}
    amounts: Mapping[str, object] = {"$or": [{"amount": {"$lte": 0}}, {"amount": {"$not": {"$type": ["int", "long"]}}}]}
    for where in (debts, amounts):
        async for transfer in transfers.find(where, session=session, batch_size=_BATCH):
            for finding in books.check_transfer(transfer):
                report.add(finding)


# -- escrows ----------------------------------------------------------------------------------------------------------


async def _check_escrows(report: Report, session: DatabaseSession) -> None:
    where = {"_id": {"$gte": "escrow:", "$lt": "escrow;"}, "balance": {"$ne": 0}}
    async for account in Account.get_motor_collection().find(where, {"balance": 1}, session=session):
        report.escrows_held += 1
        for finding in await _check_escrow(str(account["_id"]), balance_in(account), session):
            report.add(finding)


async def _check_escrow(account_id: str, balance: int, session: DatabaseSession) -> list[Finding]:
    goals = await _goals_behind(account_id, session)
    about = {"goal_id": {"$in": [str(goal["_id"]) for goal in goals]}, "state": "dead"}
    letters = await DeadLetter.get_motor_collection().find(about, session=session).to_list(None) if goals else []
    return list(books.check_escrow(account_id, balance, goals, letters))


async def _goals_behind(account_id: str, session: DatabaseSession) -> list[Mapping[str, object]]:
    """Returns the goals that an escrow belongs to: those of its name, of the session's pair, of the hold that it came from."""
    ids = set(books.goals_behind(account_id.partition(":")[2]))
    shows: set[object] = set()
    goals = await _goals(ids, session)
    if account_id.startswith("escrow:show_funding:") and ids:
        # A show belongs to the goal that funded it by the session's pair, even where that goal has no document.
        funding = list(ids | {str(goal_id) for goal_id in ids})
        paired = {"show_goal_pairs.funding_goal": {"$in": funding}}
        async for found in Session.get_motor_collection().find(paired, {"show_goal_pairs": 1}, session=session):
            pairs = Session.parse(found).show_goal_pairs
            shows |= {pair.show_goal for pair in pairs if pair.funding_goal in ids and pair.show_goal is not None}
        goals = await _goals(ids | shows, session)
    elif account_id.startswith("escrow:exclusive:") and not goals:
        hold = await Transfer.get_motor_collection().find_one({"credit": account_id}, session=session)
        came_from = books.legs_of(hold)[0].partition(":")[2] if hold is not None else ""
        goals = await _goals(set(books.goals_behind(came_from)), session)
    return goals


async def _goals(ids: set[Any], session: DatabaseSession) -> list[Stored]:
    wanted = {"active": 1, "promises": 1}
    found: list[Stored] = (
        await Goal.get_motor_collection().find({"_id": {"$in": list(ids)}}, wanted, session=session).to_list(None)
    )
    return found


# -- earnings and withdrawals -----------------------------------------------------------------------------------------


async def _check_earnings(report: Report, session: DatabaseSession) -> None:
    batch: list[Mapping[str, object]] = []
    earnings = Earning.get_motor_collection().find({}, session=session, batch_size=_BATCH).sort("_id", ASCENDING)
    async for earning in earnings:
        report.earnings += 1
        if books.escrow_of(earning) is not None:
            batch.append(earning)
        if len(batch) == _BATCH:
            await _check_batch(report, batch, session)
            batch = []
    if batch:
        await _check_batch(report, batch, session)


async def _check_batch(report: Report, batch: list[Mapping[str, object]], session: DatabaseSession) -> None:
    transfers = Transfer.get_motor_collection()
    expected = [transfer_id for earning in batch for transfer_id in books.settling_transfers(earning)]
    found = transfers.find({"_id": {"$in": expected}}, {"_id": 1}, session=session)
    made = {transfer["_id"] async for transfer in found}
    for earning in batch:
        own = made & set(books.settling_transfers(earning))
        if not any(books.check_earning(earning, own)):
            continue
        # Paid to another user than the one that the earning names? Then its transfer has another id.
        prefixes = [f"{word}-{books.escrow_of(earning)}-{earning['_id']}-" for word in ("escrow", "refund")]
        where = {"$or": [{"_id": {"$gte": prefix, "$lt": f"{prefix[:-1]}."}} for prefix in prefixes]}
        own = {transfer["_id"] async for transfer in transfers.find(where, {"_id": 1}, session=session)}
        for finding in books.check_earning(earning, own):
            report.add(finding)


async def _check_payouts(report: Report, session: DatabaseSession) -> None:
    """A withdrawal's account holds its amount while it is pending, and nothing afterwards."""
    where = {"_id": {"$gte": "payout:", "$lt": "payout;"}, "balance": {"$ne": 0}}
    async for account in Account.get_motor_collection().find(where, {"balance": 1}, session=session):
        account_id = str(account["_id"])
        query = {"_id": account_id.partition(":")[2]}
        withdrawal = await Withdrawal.get_motor_collection().find_one(query, session=session)
        balance = balance_in(account)
        if withdrawal is None or withdrawal.get("state") != "pending" or withdrawal.get("amount") != balance:
            message = f"{account_id} holds {balance} tokens, and no pending withdrawal of that amount names it"
            report.add(Finding("payout_stuck", account_id, message))
