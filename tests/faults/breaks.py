"""Deliberate breaks of goalsvc, one for each class of fault, which the simulation must notice. Applied for a while only."""

import collections
import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from unittest.mock import patch

from goalsvc.actions import contributions, money, refunds, reversals
from goalsvc.domain import escrow as names
from goalsvc.domain import ids, performance
from goalsvc.domain.orders import Order
from goalsvc.domain.origin import Origin
from goalsvc.models import claims, clocks, ledger
from goalsvc.models import contributions as batches
from goalsvc.models.contributions import Contributions
from goalsvc.models.goal import Goal
from goalsvc.models.ledger import Ledger
from goalsvc.models.promise import HasPromises
from goalsvc.models.shared import SharedCollection
from goalsvc.tasks import clips, escrow, returns, runner, withdrawals
from goalsvc.tasks.runner import Runner

from .machine import SimulatedQueue

Break = Callable[[], Any]

_numbers = itertools.count()


def _random_id(original: Callable[..., str]) -> Callable[..., str]:
    """An id that is another one at each call, in place of one that follows from its cause."""

    def made(*args: Any) -> str:
        head, _, tail = original(*args).partition("-")
        return f"{head}-{next(_numbers)}-{tail}"

    return made


def outbox_entry_dropped() -> Any:
    """A pause is written without the promise of its seconds."""
    return patch.object(clocks, "promises_of", lambda _move, _clock, _turned, _now: ())


def settled_without_debts() -> Any:
    """A task's promise is removed, and what follows from it is not written down, only enqueued."""
    original = HasPromises.fulfil.__func__  # type: ignore[attr-defined]

    async def fulfil(
        cls: type[HasPromises], document_id: Any, promise_id: str, follow_ups: Sequence[Any], now: Any
    ) -> Any:
        return await original(cls, document_id, promise_id, (), now)

    return patch.object(HasPromises, "fulfil", classmethod(fulfil))


def settled_before_the_effect() -> Any:
    """The promise is removed first, and the task is run then."""
    original = Runner.run

    async def run(self: Runner, context: Any, job: Any, tried: int) -> Any:
        if job.promise is not None and job.fulfils and job.task != "increment_goal_progress":
            owner = self._home(job, job.arguments)
            await self._owing[owner.collection].fulfil(owner.document_id, owner.promise_id, (), context.clock.now())
        return await original(self, context, job, tried)

    return patch.object(Runner, "run", run)


def sweep_finds_nothing() -> Any:
    """What a crash left behind is never enqueued again."""

    async def offers_nothing(_self: object, _lane: object, _jobs: object) -> bool:
        return True

    return patch("tests.faults.machine.SimulatedQueue.offer", offers_nothing)


def transfer_id_made_random() -> Any:
    """The same share gets another transfer at each try."""
    return patch.object(escrow, "transfer_id_of", _random_id(names.transfer_id_of))


@contextmanager
def idempotency_key_ignored() -> Iterator[None]:
    """The same contribution, or deposit, sent twice is made twice."""
    ignored = _random_id(ids.key_digest)
    with patch.object(contributions, "key_digest", ignored), patch.object(money, "key_digest", ignored):
        yield


def transfer_not_atomic() -> Any:
    """The payee is credited outside of the transaction."""
    original = Ledger.__init__

    class Broken:
        def __init__(self, database: Any) -> None:
            self.client, self._database = database.client, database

        async def transaction(self, work: Callable[[Any], Any]) -> Any:
            return await work(None)

    def init(self: Ledger, database: Any) -> None:
        original(self, Broken(database))

    return patch.object(Ledger, "__init__", init)


def asset_id_made_random() -> Any:
    """The same clip gets another asset at each try."""
    original = ids.derived_id

    def derived_id(cause: Any, purpose: str) -> Any:
        return original(cause, f"{purpose}{next(_numbers)}" if purpose == "asset" else purpose)

    return patch.object(clips, "derived_id", derived_id)


def seconds_counted_at_every_run() -> Any:
    """Progress is raised each time the task is run: the dedupe by the promise's note is removed."""
    original = SharedCollection.change

    async def change(
        self: SharedCollection, document_id: Any, where: Mapping[str, Any], update: Any, **options: Any
    ) -> Any:
        if "$elemMatch" in where.get("promises", {}):
            where = {"promises": {"$elemMatch": {"id": where["promises"]["$elemMatch"]["id"]}}}
        return await original(self, document_id, where, update, **options)

    return patch.object(SharedCollection, "change", change)


def newest_arrival_wins() -> Any:
    """`$max` made `$set`: a join or leave counts as the latest because it arrived last."""

    def with_(self: performance.GoalClock, mark: int, _owner: performance.Owner) -> performance.GoalClock:
        if mark in self.marks:
            return self
        return dataclasses.replace(self, marks=(*self.marks, mark))

    return patch.object(performance.GoalClock, "_with", with_)


def every_join_restarts() -> Any:
    """A join that arrives while the clock runs starts it anew, and the seconds so far are lost."""

    def stretches(marks: Sequence[int]) -> Iterator[tuple[int, int | None]]:
        marks = list(marks)
        for before, mark in itertools.pairwise(marks):
            if mark % 2 and not before % 2:
                yield before // 2, mark // 2
        if marks and not marks[-1] % 2:
            yield marks[-1] // 2, None

    return patch.object(performance, "stretches_of", stretches)


def compare_and_set_without_compare() -> Any:
    """Two writers of one clock do not notice each other: the later one undoes the earlier."""
    unconditional: Callable[[Any], dict[str, Any]] = lambda _document: {}  # noqa: E731
    return patch.object(clocks, "clock_unmoved", unconditional)


def running_clock_not_paused_at_the_end() -> Any:
    """A goal that ends while its clock runs loses the seconds since its last start."""

    def seal(self: performance.GoalClock) -> Any:
        return dataclasses.replace(self, sealed=True, marks=()), performance.Turned(False, False, 0)

    return patch.object(performance.GoalClock, "seal", seal)


def ends_before_its_last_seconds() -> Any:
    """`goal.ended` does not wait for seconds that are still to be counted."""
    return patch.object(Goal, "uncounted", False)


def viewer_counts_as_performer() -> Any:
    """A viewer who waits alone in an exclusive performs."""
    return patch.object(clocks, "rule_of", lambda _document, _rule=None: performance.Rule.ALONE)


def unowned_marks_start_beside_owned_ones() -> Any:
    """A channel that is occupied counts as performance although it is known who is in it."""
    original = performance.GoalClock.turn

    def turn(self: performance.GoalClock, mark: int, now: Any, owner: Any = performance.Owner.PERFORMER) -> Any:
        unowned = owner is performance.Owner.UNOWNED and mark % 2 == 0
        return original(self, mark, now, performance.Owner.PERFORMER if unowned else owner)

    return patch.object(performance.GoalClock, "turn", turn)


def ends_when_a_worker_comes() -> Any:
    """A goal whose deadline has passed ends now, and what was performed since counts."""
    return patch("goalsvc.models.goal.deadline_of", lambda _document: None)


def sealed_without_asking() -> Any:
    """A goal that has ended is settled at once, although a webhook may be on its way."""
    return patch("goalsvc.tasks.settling.agrees", lambda _goal, _users: True)


def late_webhooks_ignored() -> Any:
    """A webhook that arrives after the end of its goal does not count."""
    return patch.object(performance.GoalClock, "takes", lambda _self, _at, _now: False)


def marks_count_once_sealed() -> Any:
    """A webhook still moves the clock of a goal whose escrow has been divided."""
    original = performance.GoalClock.takes

    def takes(self: performance.GoalClock, at: Any, now: Any) -> bool:
        return original(dataclasses.replace(self, sealed=False), at, now)

    return patch.object(performance.GoalClock, "takes", takes)


def failed_jobs_forgotten() -> Any:
    """A task that fails is neither tried again nor buried; its promise is removed."""

    async def after_failure(
        self: Runner, context: Any, job: Any, _task: Any, arguments: Any, _attempt: Any, _tried: int
    ) -> None:
        owner = self._owner(job, arguments) if job.promise or "goal_id" in arguments else None
        if owner is not None:
            await self._owing[owner.collection].fulfil(owner.document_id, owner.promise_id, (), context.clock.now())

    return patch.object(Runner, "_after_failure", after_failure)


def notices_not_owed() -> Any:
    """What Pusher would not take at once is never told."""
    original = runner.follow_ups_of  # type: ignore[attr-defined]

    def follow_ups_of(answer: Any, origin: Origin) -> Iterator[Any]:
        return (item for item in original(answer, origin) if item.follow_up.task != "deliver_notice")

    return patch.object(runner, "follow_ups_of", follow_ups_of)


# -- the money beside shows and exclusives ----------------------------------------------------------------------------


@contextmanager
def key_taken_for_any_body() -> Iterator[None]:
    """A used Idempotency-Key is answered with its transfer, whatever is asked for."""
    with (
        patch.object(Order, "same_as", lambda _self, _transfer: True),
        patch.object(money, "_refuse_other_metadata", lambda _order, _posted: None),
    ):
        yield


def withdrawal_ends_as_each_client_likes() -> Any:
    """A withdrawal that was returned is confirmed to the client who asks for that, and the other way round."""
    return patch.object(withdrawals, "_concluded", lambda withdrawal, _state: withdrawal)


def reversal_takes_from_escrows_being_paid() -> Any:
    """A reversal frees contributions whose shares are being paid."""

    async def open_balances(escrow_ids: Sequence[str], session: Any) -> dict[str, int]:
        accounts = {escrow_id: names.escrow_account(escrow_id) for escrow_id in escrow_ids}
        return {escrow_id: await reversals._balance(account, session) for escrow_id, account in accounts.items()}

    return patch.object(reversals, "_open_balances", open_balances)


def reversal_spares_open_escrows() -> Any:
    """What a user has in open escrows is safe from a reversal, and a debt is made instead."""

    async def frees_nothing(_self: Any, _missing: int, _session: Any) -> int:
        return 0

    return patch.object(reversals._Work, "_free", frees_nothing)


def income_repays_no_debt() -> Any:
    """A user who owes tokens keeps what comes in."""

    async def repays_nothing(_transfers: Any, _now: Any, _session: Any) -> tuple[()]:
        return ()

    return patch.object(ledger, "repay_debts", repays_nothing)


def fee_rounded_up() -> Any:
    """A part of a token that is the platform's is a whole token."""
    return patch.object(claims, "fee_of", lambda amount, fee_bps: -(-amount * fee_bps // names.WHOLE_BPS))


def refund_counted_for_each_goal() -> Any:
    """A payout can be returned twice: by the show, and by the goal that funded it."""

    async def no_show(_goal: Any) -> None:
        return None

    return patch.object(refunds, "_show_of", no_show)


def refunds_ignore_each_other() -> Any:
    """Of several refunds each rounds for itself, and the last payer gets more than they paid."""

    async def nothing_before(_self: Any) -> Any:
        return collections.Counter()

    return patch.object(returns.Refund, "_returned_before", nothing_before)


def transfers_untold() -> Any:
    """The ledger writes no event with what it moves."""

    async def insert_nothing(_events: Any, _session: Any) -> None:
        return None

    return patch.object(ledger, "insert_events", insert_nothing)


# -- services, Redis, clocks, crowds, restored databases ------------------------------------------------------------------


def waiting_for_a_service_counts_as_tries() -> Any:
    """What waits for a service that does not work is dead after seven tries."""

    return patch.object(runner, "_rest_while_down", lambda *_: None)


@contextmanager
def full_redis_taken_for_done() -> Iterator[None]:
    """What a Redis that is full does not take counts as enqueued, and is not looked at again."""
    original = SimulatedQueue.offer

    async def offer(self: SimulatedQueue, lane: Any, jobs: Any) -> bool:
        await original(self, lane, jobs)
        return True

    with patch.object(SimulatedQueue, "offer", offer), patch("goalsvc.tasks.sweep._WHOLE_SECONDS", 1e9):
        yield


@contextmanager
def clocks_trusted_to_agree() -> Iterator[None]:
    """The sweep never looks again at a time that it has looked at, although other hosts write with clocks that are late."""
    with patch("goalsvc.tasks.sweep._OVERLAP", timedelta()), patch("goalsvc.tasks.sweep._WHOLE_SECONDS", 1e9):
        yield


@contextmanager
def jobs_are_believed() -> Iterator[None]:
    """A job moves money whether or not a document promises it."""

    class Everything(dict[Any, Any]):
        def get(self, _key: Any, _default: Any = None) -> Any:
            return {}

    async def promises_of(_named: Any, _session: Any) -> Any:
        return Everything()

    with patch.object(claims, "_promises_of", promises_of), patch.object(claims, "_covers", lambda *_: True):
        yield


def answered_before_the_commit() -> Any:
    """A crowd is told that its tokens are taken before they are."""
    original = Contributions._decide

    async def decide(self: Contributions, batch: Any, session: Any) -> Any:
        decided = await original(self, batch, session)
        for one, decision in decided.answers:
            batches._answer(one, decision, decided.goals.get(one.contribution.goal_id))
        return decided

    return patch.object(Contributions, "_decide", decide)


def announcement_under_way_is_made_longer() -> Any:
    """What comes while an announcement is made is added to it, and never announced."""

    def open_announcement(goal: Goal) -> Any:
        return next((promise for promise in goal.promises if promise.task == batches.ANNOUNCE), None)

    return patch.object(batches, "_open_announcement", open_announcement)


BREAKS: tuple[Break, ...] = (
    outbox_entry_dropped,
    settled_without_debts,
    settled_before_the_effect,
    sweep_finds_nothing,
    transfer_id_made_random,
    idempotency_key_ignored,
    transfer_not_atomic,
    asset_id_made_random,
    seconds_counted_at_every_run,
    newest_arrival_wins,
    every_join_restarts,
    compare_and_set_without_compare,
    running_clock_not_paused_at_the_end,
    ends_before_its_last_seconds,
    viewer_counts_as_performer,
    unowned_marks_start_beside_owned_ones,
    ends_when_a_worker_comes,
    sealed_without_asking,
    late_webhooks_ignored,
    marks_count_once_sealed,
    failed_jobs_forgotten,
    notices_not_owed,
    key_taken_for_any_body,
    withdrawal_ends_as_each_client_likes,
    reversal_spares_open_escrows,
    income_repays_no_debt,
    fee_rounded_up,
    refund_counted_for_each_goal,
    refunds_ignore_each_other,
    transfers_untold,
    waiting_for_a_service_counts_as_tries,
    full_redis_taken_for_done,
    answered_before_the_commit,
    announcement_under_way_is_made_longer,
)
