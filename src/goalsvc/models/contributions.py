"""Contributions to FundingGoals: those that wait at the same time are made in one transaction (group commit).

The goals are written first, so that another transaction meets this one before it has done anything. Then: the transfers with
these ids (replays, conflicts), the balances of the payers, a decision on each contribution in order
(`goalsvc.domain.funding`), one bulk of debits and credits, the earnings, the transfers, and for each goal one update with one
promise: to announce progress up to where it is now.
"""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from bson import ObjectId
from pymongo import UpdateOne
from pymongo.errors import ConnectionFailure

from goalsvc.database_session import DatabaseSession
from goalsvc.domain.documents import Query, Stored
from goalsvc.domain.escrow import escrow_account, show_escrow, tag_of, user_account
from goalsvc.domain.events import Event
from goalsvc.domain.funding import Batch, Contributed, Contribution, Decision, Funding, Made, Taken, debits_of
from goalsvc.domain.goals import CLASSES, GoalKind
from goalsvc.domain.origin import Origin
from goalsvc.domain.promises import Promise
from goalsvc.domain.reading import mapping, whole
from goalsvc.errors import ConflictError, GoalsvcError, LedgerBusyError, NotFoundError
from goalsvc.models.event_log import insert_events
from goalsvc.models.events import of_contributions
from goalsvc.models.goal import Goal
from goalsvc.models.ledger import Transactions, count_tokens
from goalsvc.models.wallet import Account, Earning, Transfer, balance_in, change_balances

#: How many contributions share one transaction, and how long a caller waits for its answer.
LARGEST_BATCH = 64
LONGEST_WAIT_SECONDS = 10.0
#: A transaction is not begun for a caller that has waited for more than this share of that time.
_LATEST_START = 0.85
#: The filter of goalsvc's goals: those of other classes are not written to, not even to refuse a contribution.
_OURS: Query = {"_cls": {"$in": CLASSES, "$not": {"$type": "array"}}}
#: How often a transaction over several goals meets another before each goal gets one of its own.
_TRIES_TOGETHER = 3

#: The task that announces contributions; the id of its promise begins with the same word.
ANNOUNCE = "announce_contributions"


@dataclass(slots=True)
class _Waiting:
    contribution: Contribution
    origin: Origin
    answer: "asyncio.Future[Contributed]"
    since: float


class _SeparatelyError(Exception):
    """Another transaction holds one of several goals: none of the others must wait for it."""


@dataclass(slots=True)
class _Goal:
    """A goal within a transaction: how it was, what is decided, what it promises."""

    document: Stored
    goal: Goal
    deciding: Batch
    taken: list[tuple[_Waiting, Taken]] = field(default_factory=list)
    promise: Promise | None = None


@dataclass(slots=True)
class _Decided:
    """The decisions of one transaction."""

    goals: dict[ObjectId, _Goal] = field(default_factory=dict)
    answers: list[tuple[_Waiting, Decision]] = field(default_factory=list)


class Contributions:
    """Makes contributions. Those that wait at the same time are made together; those to one goal in order of arrival."""

    def __init__(
        self,
        database: Transactions,
        now: Callable[[], datetime],
        *,
        allow_self_payment: bool,
        longest_wait_seconds: float = LONGEST_WAIT_SECONDS,
    ) -> None:
        self._database, self._now, self._allow_self_payment = database, now, allow_self_payment
        self._longest_wait_seconds = longest_wait_seconds
        self._line: list[_Waiting] = []
        self._under_way: set[ObjectId] = set()
        """Goals of which a transaction is under way: two of one process would only meet each other."""
        self._server: asyncio.Task[None] | None = None
        self._apart: set[asyncio.Task[None]] = set()

    async def make(self, contribution: Contribution, origin: Origin) -> Contributed:
        """Makes the contribution, once for each transfer id. `origin` is the call that asks for it.

        Raises NotFoundError, ConflictError, InsufficientFundsError, TransferConflictError: then nothing was changed. Raises
        LedgerBusyError when there is no answer within `longest_wait_seconds`; a repeat under the same id is safe.
        """
        loop = asyncio.get_running_loop()
        waiting = _Waiting(contribution, origin, loop.create_future(), loop.time())
        self._line.append(waiting)
        self._serve_line()
        try:
            async with asyncio.timeout(self._longest_wait_seconds):
                return await waiting.answer
        except TimeoutError:
            raise _busy() from None

    # -- the line -----------------------------------------------------------------------------------------------------

    def _serve_line(self) -> None:
        if self._server is None or self._server.done():
            self._server = asyncio.create_task(self._serve(), name="contributions")

    async def _serve(self) -> None:
        while batch := self._next_batch():
            await self._make(batch)

    def _next_batch(self) -> list[_Waiting]:
        """Takes from the line the first whose goals are free, and marks these goals."""
        batch: list[_Waiting] = []
        rest: list[_Waiting] = []
        for waiting in self._line:
            free = len(batch) < LARGEST_BATCH and waiting.contribution.goal_id not in self._under_way
            (batch if free else rest).append(waiting)
        self._line = rest
        self._under_way.update(_goals_of(batch))
        return batch

    async def _make(self, batch: Sequence[_Waiting]) -> None:
        """Makes all of these in one transaction; if that fails as a whole, each goal's in one of its own."""
        goal_ids = _goals_of(batch)
        if len(goal_ids) == 1:
            await self._make_for_one(goal_ids[0], batch)
            return
        try:
            await self._make_together(batch)
        except Exception:
            for goal_id in goal_ids:
                own = [one for one in batch if one.contribution.goal_id == goal_id]
                apart = asyncio.create_task(self._make_for_one(goal_id, own), name=f"contributions {goal_id}")
                self._apart.add(apart)
                apart.add_done_callback(self._apart.discard)
        else:
            self._under_way.difference_update(goal_ids)

    async def _make_for_one(self, goal_id: ObjectId, batch: Sequence[_Waiting]) -> None:
        """Makes contributions to one goal in one transaction; if that fails as a whole, each in one of its own."""
        try:
            await self._make_or_refuse(batch)
        finally:
            self._under_way.discard(goal_id)
            self._serve_line()

    async def _make_or_refuse(self, batch: Sequence[_Waiting]) -> None:
        try:
            await self._make_together(batch)
        except Exception as error:
            waiting = [one for one in batch if not one.answer.done()]
            if len(waiting) > 1 and not isinstance(error, LedgerBusyError):
                for one in waiting:
                    await self._make_or_refuse([one])
                return
            for one in waiting:
                one.answer.set_exception(error)

    # -- a transaction ------------------------------------------------------------------------------------------------

    async def _make_together(self, batch: Sequence[_Waiting]) -> None:
        tries = 0

        async def work(session: DatabaseSession) -> _Decided:
            nonlocal tries
            tries += 1
            if tries > _TRIES_TOGETHER and len(_goals_of(batch)) > 1:
                raise _SeparatelyError
            return await self._decide(batch, session)

        decided: _Decided | None = None
        while decided is None:
            try:
                decided = await self._database.transaction(work)
            except ConnectionFailure:
                # Made or not made: the next try finds the transfers, or makes them.
                await asyncio.sleep(random.uniform(0.05, 0.2))  # noqa: S311 - jitter, not a secret
        for one, decision in decided.answers:
            if isinstance(decision, Taken):
                count_tokens(decision.made.transfer_id, decision.made.amount)
            _answer(one, decision, decided.goals.get(one.contribution.goal_id))

    async def _decide(self, batch: Sequence[_Waiting], session: DatabaseSession) -> _Decided:
        """Within a transaction: decides these contributions, and writes what follows from those that are taken."""
        waiting, decided, now = self._still_waiting(batch), _Decided(), self._now()
        documents = await _touch(_goals_of(waiting), now, session)
        made = await _made_before([one.contribution.transfer_id for one in waiting], session)
        balances = await _balances_of({one.contribution.user_id for one in waiting}, session)
        refusals: dict[ObjectId, GoalsvcError] = {}
        for goal_id in _goals_of(waiting):
            try:
                decided.goals[goal_id] = self._goal_of(goal_id, documents.get(goal_id), balances, made, now)
            except GoalsvcError as error:
                refusals[goal_id] = error
        for one in waiting:
            goal_id = one.contribution.goal_id
            refusal = refusals.get(goal_id)
            decision = refusal or decided.goals[goal_id].deciding.decide(one.contribution)
            decided.answers.append((one, decision))
            if isinstance(decision, Taken):
                decided.goals[goal_id].taken.append((one, decision))
        changed = {goal_id: goal for goal_id, goal in decided.goals.items() if goal.taken}
        if changed:
            await _move(changed, session)
            await _insert(changed, now, session)
            await _raise_progress(changed, now, session)
        return decided

    def _goal_of(
        self,
        goal_id: ObjectId,
        document: Mapping[str, object] | None,
        balances: dict[str, int],
        made: dict[str, Made],
        now: datetime,
    ) -> _Goal:
        """The goal, ready to decide; raises NotFoundError and ConflictError when it takes no contributions at all."""
        if document is None or not Goal.is_ours(document):
            raise NotFoundError(f"there is no goal {goal_id}")
        goal = Goal.parse(document)
        if goal.kind is not GoalKind.FUNDING:
            raise ConflictError("wrong_goal_kind", f"a {goal.kind} takes no contributions; a FundingGoal does")
        funding = Funding(
            open=goal.active and (goal.exp is None or goal.exp > max(now, goal.decided_at or now)),
            progress=goal.progress,
            target=goal.target or 0,
            streamer=goal.metadata.user_id,
        )
        deciding = Batch(funding, balances, made, now, self._allow_self_payment)
        return _Goal(document, goal, deciding, promise=_open_announcement(goal))

    def _still_waiting(self, batch: Sequence[_Waiting]) -> list[_Waiting]:
        """Those whose callers still wait; raises LedgerBusyError when there is none."""
        latest = asyncio.get_running_loop().time() - _LATEST_START * self._longest_wait_seconds
        for one in batch:
            if one.since < latest and not one.answer.done():
                one.answer.set_exception(_busy())
        waiting = [one for one in batch if not one.answer.done()]
        if not waiting:
            raise _busy()
        return waiting


def _goals_of(batch: Sequence[_Waiting]) -> list[ObjectId]:
    return list(dict.fromkeys(one.contribution.goal_id for one in batch))


def _answer(one: _Waiting, decision: Decision, goal: _Goal | None) -> None:
    """Answers the caller, if it still waits. The first of each goal is given the promise, for it to enqueue."""
    if one.answer.done():
        return
    if isinstance(decision, GoalsvcError) or goal is None:
        one.answer.set_exception(decision if isinstance(decision, GoalsvcError) else _busy())
        return
    new = isinstance(decision, Taken) or decision.made.earning_id == str(one.contribution.earning_id)
    promise = None
    if new:
        promise, goal.promise = goal.promise, None
    streamer = goal.goal.metadata.user_id
    one.answer.set_result(Contributed(decision.made, streamer, decision.progress, new, promise))


def _busy() -> LedgerBusyError:
    return LedgerBusyError("too many contributions to this goal are under way; repeat this one with the same key")


async def _touch(
    goal_ids: Sequence[ObjectId], now: datetime, session: DatabaseSession
) -> dict[ObjectId, Mapping[str, object]]:
    """Writes to these goals, so that no other transaction changes them any more; the documents by id.

    Each remembers the latest time by which contributions to it were decided: where the clocks of processes differ, none
    takes what another has refused because the goal's time was over.
    """
    goals, mark = Goal.get_motor_collection(), {"$set": {"batch_id": ObjectId()}, "$max": {"decided_at": now}}
    if len(goal_ids) == 1:
        document = await goals.find_one_and_update({"_id": goal_ids[0], **_OURS}, mark, session=session)
        return {} if document is None else {goal_ids[0]: document}
    await goals.bulk_write([UpdateOne({"_id": goal_id, **_OURS}, mark) for goal_id in goal_ids], session=session)
    found = await goals.find({"_id": {"$in": list(goal_ids)}}, session=session).to_list(None)
    return {document["_id"]: document for document in found}


async def _made_before(transfer_ids: Sequence[str], session: DatabaseSession) -> dict[str, Made]:
    found = Transfer.get_motor_collection().find({"_id": {"$in": list(transfer_ids)}}, session=session)
    return {transfer["_id"]: _made_of(transfer) for transfer in await found.to_list(None)}


def _made_of(transfer: Stored) -> Made:
    metadata = mapping(transfer.get("metadata"))
    return Made(
        transfer_id=transfer["_id"],
        user_id=transfer["from_user_id"],
        offered=metadata.get("offered", transfer["amount"]),
        amount=transfer["amount"],
        capped="offered" in metadata,
        earning_id=str(metadata.get("doc_id", "")),
        created_at=transfer.get("created_at"),
    )


async def _balances_of(users: set[str], session: DatabaseSession) -> dict[str, int]:
    accounts = {user_account(user): user for user in users}
    where = {"_id": {"$in": list(accounts)}}
    found = Account.get_motor_collection().find(where, {"balance": 1}, session=session)
    return {accounts[account["_id"]]: balance_in(account) for account in await found.to_list(None)}


async def _move(goals: Mapping[ObjectId, _Goal], session: DatabaseSession) -> None:
    """Takes the tokens from the viewers, and gives them to the goals' escrows."""
    debits = debits_of([taken for goal in goals.values() for _, taken in goal.taken])
    changes = [
        UpdateOne({"_id": user_account(user), "balance": {"$gte": amount}}, {"$inc": {"balance": -amount}})
        for user, amount in debits.items()
    ]
    for goal_id, goal in goals.items():
        amount = sum(taken.made.amount for _, taken in goal.taken)
        escrow = escrow_account(show_escrow(goal_id))
        changes.append(UpdateOne({"_id": escrow}, {"$inc": {"balance": amount}}, upsert=True))
    if await change_balances(changes, session) < len(changes):
        raise LedgerBusyError("a balance changed within the transaction")  # a snapshot does not allow it


async def _insert(goals: Mapping[ObjectId, _Goal], now: datetime, session: DatabaseSession) -> None:
    """Writes the earning and the transfer of each contribution."""
    earnings: list[dict[str, object]] = []
    transfers: list[dict[str, object]] = []
    told: list[Event] = []
    for goal_id, goal in goals.items():
        made_to_it: list[tuple[Taken, Stored]] = []
        escrow_id, streamer = show_escrow(goal_id), goal.goal.metadata.user_id
        for waiting, taken in goal.taken:
            made, cause = taken.made, waiting.origin.cause.about(str(goal_id)).document()
            earnings.append(
                {
                    "_id": ObjectId(made.earning_id),
                    "user_id": streamer,
                    "from_user_id": made.user_id,
                    "amount": made.amount,
                    "created_at": now,
                    "state": "held",
                    "goal_id": goal_id,
                    "transfer_id": made.transfer_id,
                    "progress": taken.progress,
                    "cause": cause,
                    f"_{escrow_id}": True,
                }
            )
            metadata: dict[str, object] = {"doc_id": made.earning_id, "user_id": streamer}
            if made.capped:
                metadata["offered"] = made.offered
            transfer = {
                "_id": made.transfer_id,
                "debit": user_account(made.user_id),
                "credit": escrow_account(escrow_id),
                "from_user_id": made.user_id,
                "amount": made.amount,
                "tags": [tag_of(escrow_id)],
                "metadata": metadata,
                "cause": cause,
                "created_at": now,
            }
            transfers.append(transfer)
            made_to_it.append((taken, transfer))
        told += of_contributions(goal.goal, made_to_it)
    await Earning.get_motor_collection().insert_many(earnings, session=session)
    await Transfer.get_motor_collection().insert_many(transfers, session=session)
    await insert_events(told, session)


async def _raise_progress(goals: Mapping[ObjectId, _Goal], now: datetime, session: DatabaseSession) -> None:
    """Raises the goals' progress, and promises to announce it.

    An announcement that is promised and has not begun is made to reach further. So a goal holds one promise, however many
    contributions there are while no worker runs.
    """
    updates = []
    for goal_id, goal in goals.items():
        progress, amount = goal.taken[-1][1].progress, sum(taken.made.amount for _, taken in goal.taken)
        where: dict[str, object] = {"_id": goal_id}
        changes: dict[str, object] = {"progress": progress, "changed_at": now}
        before = goal.promise
        if before is not None:
            arguments = {
                **before.arguments,
                "amount": (whole(before.arguments["amount"]) or 0) + amount,
                "contributions": (whole(before.arguments["contributions"]) or 0) + len(goal.taken),
            }
            goal.promise = before.model_copy(update={"arguments": arguments, "progress": progress})
            where["promises.id"] = before.id
            changes |= {"promises.$.arguments": arguments, "promises.$.progress": progress}
            update: dict[str, object] = {"$set": changes}
        else:
            promise_id, origin = f"{ANNOUNCE}:{ObjectId()}", goal.taken[0][0].origin
            arguments = {"goal_id": str(goal_id), "promise_id": promise_id}
            arguments |= {"amount": amount, "contributions": len(goal.taken)}
            promise = Promise.of(promise_id, ANNOUNCE, arguments, now, origin)
            goal.promise = promise.model_copy(update={"progress": progress})
            added = {**promise.document(), "progress": progress}
            if isinstance(goal.document.get("promises"), list):
                update = {"$set": changes, "$push": {"promises": added}}
            else:
                update = {"$set": {**changes, "promises": [added]}}
        updates.append(UpdateOne(where, update))
    await Goal.get_motor_collection().bulk_write(updates, session=session)


def _open_announcement(goal: Goal) -> Promise | None:
    """The announcement that has not begun and that reaches up to the goal's progress, if it promises one.

    One whose arguments another service has changed is left alone: what is contributed now is not to become a dead letter
    with it.
    """
    for promise in goal.promises:
        arguments = promise.arguments
        ours = (arguments.get("goal_id"), arguments.get("promise_id")) == (str(goal.id), promise.id)
        counted = None not in (whole(arguments.get("amount")), whole(arguments.get("contributions")))
        if promise.task == ANNOUNCE and not promise.closed and promise.progress == goal.progress and ours and counted:
            return promise
    return None


async def close_announcement(goal_id: ObjectId, promise_id: str) -> Goal | None:
    """Closes the promised announcement, so that later contributions promise another one; the goal as it then stands.

    Announcements are made one after another: while another one is closed and has not been made, this one stays open.
    """
    where = {
        "promises": {"$elemMatch": {"id": promise_id, "closed": {"$exists": False}}},
        "promises.closed": {"$ne": True},
    }
    found = await Goal.shared().change(goal_id, where, {"$set": {"promises.$.closed": True}})
    return None if found is None else Goal.parse(found)
