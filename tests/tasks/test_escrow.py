"""Escrow: what viewers put in goes to the streamer, or back to them; every share once."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from bson import ObjectId

from goalsvc.database_session import DatabaseSession
from goalsvc.domain.escrow import FEES, escrow_account, tag_of, transfer_id_of, user_account
from goalsvc.domain.events import Event
from goalsvc.domain.goals import GoalKind
from goalsvc.domain.ids import exclusive_of
from goalsvc.domain.origin import NOWHERE
from goalsvc.domain.outcome import Done, Fulfils, Outcome, Reason, Returned
from goalsvc.domain.promises import Job, Promise, PromiseRef
from goalsvc.errors import ConflictError, InsufficientFundsError, InvalidError, NotFoundError, TransferConflictError
from goalsvc.models.database import WITH_PROMISES
from goalsvc.models.goal import Goal
from goalsvc.models.records import BiEscrow, DeadLetter
from goalsvc.models.wallet import Account, Earning, Transfer
from goalsvc.tasks import ALL
from goalsvc.tasks.escrow import escrow_out, hold_exclusive, refund_escrow, transfer, transfer_escrow
from goalsvc.tasks.runner import Runner
from tests.receivers.fakes import NOW, Stage
from tests.receivers.scenes import (
    BEGAN,
    EARNING,
    FUNDING,
    GOAL,
    HELD,
    STREAMER,
    VIEWER,
    Run,
    a_deposit,
    a_goal,
    an_earning,
    goal_document,
)

ESCROW = f"show_funding:{FUNDING}"


async def balance(account: str) -> int:
    return await Account.balance_of(account)


async def a_funded_show(
    *amounts: int, fee_bps: int = 0, task: str = "escrow_out", run: Run = Run.REACHED
) -> list[ObjectId]:
    """A show that has ended, whose escrow holds these contributions; ids of the earnings."""
    promise = Promise(
        id=task,
        task=task,
        arguments={"escrow_id": ESCROW, "user_id": STREAMER, "nbf": BEGAN, "exp": NOW, "goal_id": str(GOAL)}
        | ({"fee_bps": fee_bps} if fee_bps else {}),
        at=NOW,
    )
    await a_goal(GoalKind.SHOW, run, active=False, promises=[promise])
    await Account(id=escrow_account(ESCROW), balance=sum(amounts)).insert()
    return [await an_earning(ESCROW, f"u-{number}", amount) for number, amount in enumerate(amounts)]


async def promises(task: str, arguments: dict[str, Any]) -> PromiseRef:
    """The goal of the scene promises that as well; the promise."""
    promise = Promise(id=task, task=task, arguments=arguments, at=NOW)
    await Goal.get_motor_collection().update_one(
        {"_id": GOAL}, {"$push": {"promises": promise.model_dump(exclude_none=True)}}, upsert=True
    )
    return PromiseRef("goals", GOAL, task)


async def add_to(account: str, amount: int) -> None:
    await Account.get_motor_collection().update_one({"_id": account}, {"$inc": {"balance": amount}}, upsert=True)


async def pay(stage: Stage, **changes: Any) -> Outcome:
    arguments: dict[str, Any] = {
        "escrow_id": ESCROW,
        "user_id": STREAMER,
        "nbf": BEGAN,
        "exp": NOW,
        "goal_id": str(GOAL),
    }
    return await escrow_out(stage.context, **arguments | changes)


async def work(stage: Stage, *, most: int = 1000) -> int:
    """Runs what waits, and what follows from it; how many jobs there were."""
    runner = Runner(ALL, WITH_PROMISES)
    ran = 0
    while stage.queue.jobs and ran < most:
        for job in stage.queue.take():
            assert await runner.run(stage.context, job, 1) is None
            ran += 1
    return ran


def part_of(job: Job, number: int) -> Job:
    """The job with that one of its shares alone."""
    return replace(job, arguments={**job.arguments, "shares": [job.arguments["shares"][number]]})


def sent(stage: Stage, sender: str) -> int:
    return sum(record["name"] == sender for record in stage.recorder.tracked.values())


class TestIds:
    """They are a contract: other services look transfers up by them."""

    def test_of_a_payout(self) -> None:
        doc_id = "68143584d6945d32e732cc2a"
        made = transfer_id_of("escrow.completed", "show_funding:68143584d6945d32e732cc21", doc_id, "u-alice-1")
        assert made == "escrow-show_funding:68143584d6945d32e732cc21-68143584d6945d32e732cc2a-u-alice-1"

    def test_of_a_refund(self) -> None:
        assert transfer_id_of("escrow.refunded", "show_funding:1", "2", "u") == "refund-show_funding:1-2-u"

    def test_tag(self) -> None:
        assert tag_of("show_funding:1") == "escrow::show_funding:1"

    def test_an_exclusives_id_follows_from_its_requests(self) -> None:
        assert exclusive_of(GOAL) == exclusive_of(GOAL) != exclusive_of(FUNDING)
        assert exclusive_of(GOAL).generation_time == GOAL.generation_time


class TestEscrowOut:
    async def test_one_job_for_many_earnings(self, stage: Stage) -> None:
        earnings = await a_funded_show(100, 200)
        assert await pay(stage) == Done("2 shares", fulfils=Fulfils.NONE_YET)
        (job,) = stage.queue.jobs
        assert (job.task, job.id) == ("settle_shares", f"shares-escrow-{ESCROW}-{earnings[0]}")
        assert job.arguments["shares"] == [[str(doc_id), STREAMER] for doc_id in earnings]
        assert (job.promise, job.fulfils) == (f"goals/{GOAL}/escrow_out", False)

    async def test_jobs_of_at_most_64_earnings(self, stage: Stage) -> None:
        await a_funded_show(*[1] * 130)
        await pay(stage)
        assert [len(job.arguments["shares"]) for job in stage.queue.jobs] == [64, 64, 2]
        assert await work(stage) == 3
        assert await balance(user_account(STREAMER)) == 130
        assert (sent(stage, "escrow.completed.individual"), sent(stage, "escrow.completed")) == (130, 1)

    async def test_the_streamer_is_told_once(self, stage: Stage) -> None:
        await a_funded_show(100, 200, 1)
        await pay(stage)
        await work(stage)
        (told,) = stage.notifier.named("wallet.updated")
        assert (told.data["amount"], told.data["shares"], told.data["direction"]) == (301, 3, "credit")

    async def test_a_share_that_cannot_be_settled_gets_a_chain_of_its_own(self, stage: Stage) -> None:
        first, _ = await a_funded_show(100, 200)
        await pay(stage)
        await Earning.get_motor_collection().update_one({"_id": first}, {"$set": {"amount": "x"}})
        await Runner(ALL, WITH_PROMISES).run(stage.context, stage.queue.take()[0], 1)
        assert await balance(user_account(STREAMER)) == 200
        (job,) = stage.queue.jobs
        metadata = {"doc_id": str(first), "user_id": STREAMER}
        share = {"escrow_id": ESCROW, "event": "escrow.completed", "metadata": metadata}
        assert (job.id, job.task) == (f"escrow-{ESCROW}-{first}-{STREAMER}", "update_bi_escrow")
        assert job.arguments == share
        assert list(job.then) == [{"task": "transfer_escrow", "arguments": {"to_user_id": STREAMER, **share}}]
        assert (job.promise, job.fulfils) == (f"goals/{GOAL}/escrow_out", False)

    async def test_a_share_of_its_own_counts_only_once_its_event_is_written(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A process that is killed before it has written the event leaves the share to the next run of the settlement."""
        first, _ = await a_funded_show(100, 200)
        await pay(stage)
        await Earning.get_motor_collection().update_one({"_id": first}, {"$set": {"amount": "x"}})
        runner = Runner(ALL, WITH_PROMISES)
        await runner.run(stage.context, stage.queue.take()[0], 1)
        await Earning.get_motor_collection().update_one({"_id": first}, {"$set": {"amount": 100}})

        async def write(events: Sequence[Event], session: DatabaseSession | None = None) -> None:
            raise ConnectionError("killed")

        (job,) = stage.queue.take()
        with monkeypatch.context() as killed:
            killed.setattr(stage.context.events, "write", write)
            assert await runner.run(stage.context, job, 1) is not None
        assert await balance(user_account(STREAMER)) == 300
        account = await Account.of_escrow(ESCROW)
        assert account is not None
        assert (account.shares_settled, account.shares_announced, account.completed_at) == (2, 1, None)
        assert await runner.run(stage.context, job, 2) is None
        account = await Account.of_escrow(ESCROW)
        assert account is not None
        assert (account.shares_announced, account.completed_at) == (2, NOW)

    @pytest.mark.parametrize(
        "at", [BEGAN - timedelta(days=3650), BEGAN - timedelta(milliseconds=1), NOW + timedelta(days=1)]
    )
    async def test_earnings_of_any_date(self, stage: Stage, at: datetime) -> None:
        await a_funded_show(7)
        await an_earning(ESCROW, VIEWER, 1, created_at=at)
        assert await pay(stage) == Done("2 shares", fulfils=Fulfils.NONE_YET)

    async def test_the_name_of_the_escrow_alone_selects_its_earnings(self, stage: Stage) -> None:
        await a_funded_show(7)
        await an_earning(ESCROW, VIEWER, 1, user_id="another")
        await an_earning(f"show_funding:{GOAL}", VIEWER, 1)
        assert await pay(stage) == Done("2 shares", fulfils=Fulfils.NONE_YET)

    async def test_what_is_left_after_the_last_share_is_a_dead_letter(self, stage: Stage) -> None:
        await a_funded_show(100, 200)
        await add_to(escrow_account(ESCROW), 5)
        await pay(stage)
        await work(stage)
        assert await balance(user_account(STREAMER)) == 300
        (letter,) = await DeadLetter.find().to_list()
        assert (letter.id, letter.task, letter.goal_id) == (f"goals/{GOAL}/escrow_out", "escrow_out", str(GOAL))
        assert letter.reason == f"escrow_not_empty: escrow:{ESCROW} holds 5 tokens after the last of 2 shares"
        assert stage.events.types().count("dead_letter.created") == 1, "the platform's backend is told"
        assert sent(stage, "escrow.completed") == 1

    async def test_without_a_share_but_with_tokens_nothing_is_complete(self, stage: Stage) -> None:
        await a_funded_show()
        await add_to(escrow_account(ESCROW), 5)
        await pay(stage)
        (letter,) = await DeadLetter.find().to_list()
        assert "holds 5 tokens after the last of 0 shares" in letter.reason
        assert sent(stage, "escrow.completed") == 0

    @pytest.mark.parametrize("amount", [0, -30, 2.5, "7", None, True])
    async def test_an_amount_that_is_none_moves_nothing_and_holds_up_no_other(self, stage: Stage, amount: Any) -> None:
        await a_funded_show(100)
        bad = await an_earning(ESCROW, VIEWER, 1)
        await Earning.get_motor_collection().update_one({"_id": bad}, {"$set": {"amount": amount}})
        await pay(stage)
        await work(stage)
        assert await balance(user_account(STREAMER)) == 100
        (letter,) = await DeadLetter.find().to_list()
        assert letter.id == f"goals/{GOAL}/escrow_out:{bad}"
        assert letter.reason == f"earning {bad}: amount: must be a whole number above 0, is {amount!r}"
        assert stage.events.types().count("dead_letter.created") == 1, "the platform's backend is told"

    async def test_each_earning_says_that_it_is_paid(self, stage: Stage) -> None:
        await a_funded_show(100, 200)
        await pay(stage)
        await work(stage)
        assert [(e.state, e.settled_at) async for e in Earning.find()] == [("paid", NOW)] * 2

    async def test_without_its_promise_it_does_nothing(self, stage: Stage) -> None:
        await a_funded_show(100)
        await Goal.get_motor_collection().update_one({"_id": GOAL}, {"$set": {"promises": []}})
        before = await stage.everything()
        assert await pay(stage) == Returned(Reason.NOT_PROMISED)
        assert stage.queue.jobs == []
        assert await stage.everything() == before

    async def test_shares_of_a_lost_future_move_nothing(self, stage: Stage) -> None:
        await a_funded_show(100, 200)
        await pay(stage)
        await Goal.get_motor_collection().update_one({"_id": GOAL}, {"$set": {"promises": []}})
        await work(stage)
        assert (await balance(user_account(STREAMER)), await balance(escrow_account(ESCROW))) == (0, 300)
        assert sent(stage, "escrow.completed.individual") == 0
        assert await DeadLetter.find().count() == 0

    async def test_a_share_that_fails_for_ever_does_not_hold_up_the_others(self, stage: Stage) -> None:
        first, _ = await a_funded_show(100, 200)
        await pay(stage)
        await Earning.get_motor_collection().delete_one({"_id": first})
        await work(stage)
        assert await balance(user_account(STREAMER)) == 200

    async def test_the_platforms_fee_is_rounded_down_and_the_rest_is_the_streamers(self, stage: Stage) -> None:
        await a_funded_show(100, 3, 33, fee_bps=1000)
        await pay(stage, fee_bps=1000)
        await work(stage)
        assert await balance(FEES) == 10 + 0 + 3
        assert await balance(user_account(STREAMER)) == 90 + 3 + 30
        assert await balance(escrow_account(ESCROW)) == 0

    async def test_all_of_it_can_be_the_platforms(self, stage: Stage) -> None:
        await a_funded_show(100, fee_bps=10_000)
        await pay(stage, fee_bps=10_000)
        await work(stage)
        assert (await balance(FEES), await balance(user_account(STREAMER))) == (100, 0)

    async def test_a_planted_share_takes_no_other_fee_than_was_promised(self, stage: Stage) -> None:
        await a_funded_show(100)
        await pay(stage, fee_bps=9_000)
        await work(stage)
        assert (await balance(FEES), await balance(escrow_account(ESCROW))) == (0, 100)

    async def test_the_streamer_gets_all_of_it(self, stage: Stage) -> None:
        earnings = await a_funded_show(100, 200, 1)
        await pay(stage)
        await work(stage)
        assert (await balance(user_account(STREAMER)), await balance(escrow_account(ESCROW))) == (301, 0)
        transfers = {transfer.id: transfer async for transfer in Transfer.find()}
        assert set(transfers) == {f"escrow-{ESCROW}-{doc_id}-{STREAMER}" for doc_id in earnings}
        assert all(transfer.tags == [f"escrow::{ESCROW}"] for transfer in transfers.values())
        assert all(transfer.from_user_id is None and transfer.to_user_id == STREAMER for transfer in transfers.values())

    async def test_each_share_is_announced_and_the_whole_once(self, stage: Stage) -> None:
        await a_funded_show(100, 200, 1)
        await pay(stage)
        await work(stage)
        assert sent(stage, "escrow.completed.individual") == 3
        assert sent(stage, "escrow.completed") == 1

    async def test_the_promise_is_paid_with_the_last_share(self, stage: Stage) -> None:
        await a_funded_show(100, 200)
        await pay(stage)
        (job,) = stage.queue.take()
        first, second = part_of(job, 0), part_of(job, 1)
        runner = Runner(ALL, WITH_PROMISES)
        await runner.run(stage.context, first, 1)
        assert [promise["id"] for promise in (await goal_document())["promises"]] == ["escrow_out"]
        await runner.run(stage.context, second, 1)
        assert (await goal_document())["promises"] == []

    async def test_the_sweep_leaves_it_alone_while_it_is_under_way(self, stage: Stage) -> None:
        await a_funded_show(100)
        await pay(stage)
        (promise,) = (await goal_document())["promises"]
        assert promise["at"] > NOW

    async def test_run_again_it_settles_what_is_missing(self, stage: Stage) -> None:
        await a_funded_show(100, 200)
        await pay(stage)
        await Runner(ALL, WITH_PROMISES).run(stage.context, part_of(stage.queue.take()[0], 0), 1)
        await pay(stage)
        (job,) = stage.queue.jobs
        assert len(job.arguments["shares"]) == 1
        await work(stage)
        assert await balance(user_account(STREAMER)) == 300

    async def test_run_twice_at_once_it_pays_once(self, stage: Stage) -> None:
        await a_funded_show(100, 200)
        await pay(stage)
        jobs = list(stage.queue.jobs)
        await work(stage)
        stage.queue.jobs = jobs
        await work(stage)
        assert await balance(user_account(STREAMER)) == 300
        assert await Transfer.find().count() == 2

    async def test_without_earnings_it_is_complete_at_once(self, stage: Stage) -> None:
        await a_funded_show()
        outcome = await pay(stage)
        assert isinstance(outcome, Done)
        assert (outcome.what, outcome.fulfils) == ("0 shares", Fulfils.OWN)
        assert sent(stage, "escrow.completed") == 1

    async def test_analytics_are_written(self, stage: Stage) -> None:
        (doc_id,) = await a_funded_show(100)
        await pay(stage)
        await work(stage)
        (share,) = await BiEscrow.find().to_list()
        assert (share.id, share.state) == (f"escrow-{ESCROW}-{doc_id}-{STREAMER}", "settled")
        assert (share.escrow_id, share.user_id, share.event) == (ESCROW, STREAMER, "escrow.completed")


class TestRefundEscrow:
    async def test_everybody_gets_back_what_he_gave(self, stage: Stage) -> None:
        earnings = await a_funded_show(100, 200, task="refund_escrow", run=Run.SHORT)
        assert await refund_escrow(stage.context, escrow_id=ESCROW, user_id=STREAMER, goal_id=str(GOAL)) == Done(
            "2 shares", fulfils=Fulfils.NONE_YET
        )
        await work(stage)
        assert [await balance(user_account(f"u-{number}")) for number in (0, 1)] == [100, 200]
        assert await balance(escrow_account(ESCROW)) == 0
        ids = {transfer.id async for transfer in Transfer.find()}
        assert ids == {f"refund-{ESCROW}-{doc_id}-u-{number}" for number, doc_id in enumerate(earnings)}
        assert (sent(stage, "escrow.refunded.individual"), sent(stage, "escrow.refunded")) == (2, 1)

    async def test_a_show_that_was_completed_meanwhile_is_not_refunded(self, stage: Stage) -> None:
        await a_funded_show(100, 200)
        outcome = await refund_escrow(stage.context, escrow_id=ESCROW, user_id=STREAMER, goal_id=str(GOAL))
        assert outcome == Returned(Reason.TARGET_REACHED)

    async def test_an_escrow_that_is_being_paid_is_not_refunded(self, stage: Stage) -> None:
        await a_funded_show(100, 200, run=Run.SHORT)
        await pay(stage)
        await Runner(ALL, WITH_PROMISES).run(stage.context, part_of(stage.queue.take()[0], 0), 1)
        await promises("refund_escrow", {"escrow_id": ESCROW, "user_id": STREAMER, "goal_id": str(GOAL)})
        await refund_escrow(stage.context, escrow_id=ESCROW, user_id=STREAMER, goal_id=str(GOAL))
        await work(stage)
        assert await balance(escrow_account(ESCROW)) == 200
        assert any("settled_otherwise" in letter.reason for letter in await DeadLetter.find().to_list())


class TestTransferEscrow:
    async def test_takes_the_amount_of_the_earning(self, stage: Stage) -> None:
        await a_deposit(GoalKind.SHOW)
        metadata = {"doc_id": str(EARNING), "user_id": STREAMER}
        outcome = await transfer_escrow(
            stage.context, to_user_id=STREAMER, escrow_id=ESCROW, event="escrow.completed", metadata=metadata
        )
        assert isinstance(outcome, Done)
        move, tell = outcome.then
        assert (move["task"], tell["task"]) == ("transfer", "announce_escrow_share")
        assert move["arguments"] == {
            "transfer_id": f"escrow-{ESCROW}-{EARNING}-{STREAMER}",
            "from_user_id": None,
            "to_user_id": STREAMER,
            "amount": HELD,
            "tags": [f"escrow::{ESCROW}"],
            "metadata": metadata,
            "escrow_id": ESCROW,
            "event": "escrow.completed",
        }

    async def test_an_earning_that_is_gone_will_not_come_back(self, stage: Stage) -> None:
        metadata = {"doc_id": str(EARNING), "user_id": STREAMER}
        with pytest.raises(NotFoundError):
            await transfer_escrow(
                stage.context, to_user_id=STREAMER, escrow_id=ESCROW, event="escrow.completed", metadata=metadata
            )

    async def test_a_share_behind_which_no_earning_stands_names_its_amount(self, stage: Stage) -> None:
        await a_deposit(GoalKind.EXCLUSIVE)
        escrow = f"exclusive:{GOAL}"
        metadata = {"doc_id": str(GOAL), "user_id": STREAMER, "amount": 166}
        share = {"to_user_id": STREAMER, "escrow_id": escrow, "event": "escrow.completed", "metadata": metadata}
        owed = Promise(id="transfer_escrow:escrow.completed", task="transfer_escrow", arguments=share, at=NOW)
        await a_goal(GoalKind.EXCLUSIVE, active=False, promises=[owed])
        promise = f"goals/{GOAL}/transfer_escrow:escrow.completed"
        stage.queue.enqueue(Job("j", "transfer_escrow", share, promise=promise))
        await work(stage)
        assert (await balance(user_account(STREAMER)), await balance(escrow_account(escrow))) == (166, HELD - 166)
        assert (sent(stage, "escrow.completed.individual"), sent(stage, "escrow.completed")) == (1, 1)


@pytest.mark.parametrize("named", [True, False], ids=["named", "as a job of version 0.1"])
class TestTransfer:
    """Jobs name the escrow and the way; those of version 0.1 have them in tags and id alone."""

    TRANSFER = f"escrow-{ESCROW}-{EARNING}-{STREAMER}"

    async def owed(self, stage: Stage) -> None:
        await a_deposit(GoalKind.SHOW)
        await a_goal(GoalKind.SHOW, active=False)
        await promises("escrow_out", {"escrow_id": ESCROW, "user_id": STREAMER, "goal_id": str(GOAL)})

    async def move(self, stage: Stage, named: bool, promise: str | None = "escrow_out", **changes: Any) -> Outcome:
        arguments: dict[str, Any] = {
            "transfer_id": self.TRANSFER,
            "from_user_id": None,
            "to_user_id": STREAMER,
            "amount": HELD,
            "tags": [f"escrow::{ESCROW}"],
            "metadata": {"doc_id": str(EARNING), "user_id": STREAMER},
        }
        if named:
            way = "escrow.refunded" if promise == "refund_escrow" else "escrow.completed"
            arguments |= {"escrow_id": ESCROW, "event": way}
        ref = None if promise is None else PromiseRef("goals", GOAL, promise)
        return await transfer(stage.context.within(NOWHERE, ref), **arguments | changes)

    async def test_without_a_payer_the_escrow_pays(self, stage: Stage, named: bool) -> None:
        await self.owed(stage)
        assert await self.move(stage, named) == Done(f"{HELD} tokens to user:{STREAMER}")
        assert (await balance(escrow_account(ESCROW)), await balance(user_account(STREAMER))) == (0, HELD)

    async def test_the_same_again_is_a_no_op(self, stage: Stage, named: bool) -> None:
        await self.owed(stage)
        await self.move(stage, named)
        assert await self.move(stage, named) == Returned(Reason.ALREADY_PAID)
        assert await balance(user_account(STREAMER)) == HELD

    @pytest.mark.parametrize("changes", [{"amount": 99}, {"to_user_id": VIEWER}, {"tags": [f"escrow::{ESCROW}", "x"]}])
    async def test_the_same_id_with_other_content_is_an_error(
        self, stage: Stage, named: bool, changes: dict[str, Any]
    ) -> None:
        await self.owed(stage)
        await self.move(stage, named)
        with pytest.raises(TransferConflictError):
            await self.move(stage, named, **changes)
        assert await balance(escrow_account(ESCROW)) == 0

    @pytest.mark.parametrize(
        ("promise", "changes"),
        [
            (None, {}),
            ("other", {}),
            ("escrow_out", {"amount": HELD - 1}),
            ("escrow_out", {"amount": HELD + 1}),
            ("escrow_out", {"to_user_id": VIEWER}),
            ("escrow_out", {"transfer_id": f"escrow-{ESCROW}-x-{STREAMER}"}),
            ("escrow_out", {"transfer_id": f"refund-{ESCROW}-{EARNING}-{STREAMER}"}),
            ("escrow_out", {"metadata": {"doc_id": str(GOAL), "user_id": STREAMER}}),
            ("escrow_out", {"metadata": {"doc_id": str(EARNING), "user_id": STREAMER, "amount": HELD}}),
            ("escrow_out", {"tags": ["escrow::show_funding:other"]}),
            ("escrow_out", {"from_user_id": VIEWER}),
            ("escrow_out", {"escrow_id": "show_funding:other"}),
            ("escrow_out", {"escrow_id": ESCROW, "event": "escrow.refunded"}),
            ("escrow_out", {"escrow_id": ESCROW, "event": "escrow.exploded"}),
            ("escrow_out", {"fee_bps": 100}),
        ],
    )
    async def test_what_no_document_promises_moves_nothing(
        self, stage: Stage, named: bool, promise: str | None, changes: dict[str, Any]
    ) -> None:
        await self.owed(stage)
        await add_to(user_account(VIEWER), 1000)
        await add_to(escrow_account("show_funding:other"), 1000)
        before = await stage.everything()
        assert await self.move(stage, named, promise, **changes) == Returned(Reason.NOT_PROMISED)
        assert await stage.everything() == before

    @pytest.mark.parametrize("amount", [0, -101, 2.5, "7", None, True])
    async def test_an_amount_is_a_whole_number_above_zero(self, stage: Stage, named: bool, amount: Any) -> None:
        await self.owed(stage)
        before = await stage.everything()
        with pytest.raises(InvalidError, match="must be a whole number above 0"):
            await self.move(stage, named, amount=amount)
        assert await stage.everything() == before

    async def test_more_than_is_held_moves_nothing(self, stage: Stage, named: bool) -> None:
        await self.owed(stage)
        await add_to(escrow_account(ESCROW), -1)
        before = await stage.everything()
        with pytest.raises(InsufficientFundsError):
            await self.move(stage, named)
        assert await stage.everything() == before

    async def test_an_escrow_is_settled_one_way(self, stage: Stage, named: bool) -> None:
        await self.owed(stage)
        await self.move(stage, named)
        other = await an_earning(ESCROW, VIEWER, 5)
        await add_to(escrow_account(ESCROW), 5)
        await promises("refund_escrow", {"escrow_id": ESCROW, "user_id": STREAMER, "goal_id": str(GOAL)})
        with pytest.raises(ConflictError) as caught:
            await self.move(
                stage,
                named,
                "refund_escrow",
                transfer_id=f"refund-{ESCROW}-{other}-{VIEWER}",
                to_user_id=VIEWER,
                amount=5,
                metadata={"doc_id": str(other), "user_id": VIEWER},
            )
        assert caught.value.code == "settled_otherwise"

    async def test_from_a_user_whose_transfer_is_promised(self, stage: Stage, named: bool) -> None:
        await add_to(user_account(VIEWER), 100)
        tip = {"transfer_id": "tip", "from_user_id": VIEWER, "to_user_id": STREAMER, "amount": 40, "tags": []}
        await a_goal(GoalKind.SHOW)
        await promises("transfer", tip)
        await self.move(stage, named, "transfer", **tip)
        assert (await balance(user_account(VIEWER)), await balance(user_account(STREAMER))) == (60, 40)

    async def test_from_another_escrow_than_the_promised_transfer_names(self, stage: Stage, named: bool) -> None:
        await add_to(escrow_account("show_funding:other"), 1000)
        gift = {"transfer_id": "gift", "from_user_id": None, "to_user_id": STREAMER, "amount": 40}
        await a_goal(GoalKind.SHOW)
        await add_to(escrow_account(ESCROW), 40)
        await promises("transfer", {**gift, "tags": [f"escrow::{ESCROW}"]})
        other = {"escrow_id": "show_funding:other"} if named else {"tags": ["escrow::show_funding:other"]}
        assert await self.move(stage, named, "transfer", **gift, metadata=None, **other) == Returned(
            Reason.NOT_PROMISED
        )
        own = {"escrow_id": ESCROW} if named else {}
        await self.move(stage, named, "transfer", **gift, metadata=None, **own)
        assert (await balance(escrow_account(ESCROW)), await balance(user_account(STREAMER))) == (0, 40)


class TestHoldExclusive:
    async def test_the_hold_becomes_the_exclusives_escrow(self, stage: Stage) -> None:
        await a_deposit(GoalKind.TRIGGER)
        exclusive = f"exclusive:{exclusive_of(GOAL)}"
        arguments: dict[str, Any] = {
            "transfer_id": f"hold-trigger:{GOAL}-{exclusive_of(GOAL)}",
            "from_escrow_id": f"trigger:{GOAL}",
            "to_escrow_id": exclusive,
            "amount": HELD,
        }
        assert await hold_exclusive(stage.context, **arguments) == Returned(Reason.NOT_PROMISED)
        await a_goal(GoalKind.TRIGGER, active=False)
        context = stage.context.within(NOWHERE, await promises("hold_exclusive", arguments))
        assert await hold_exclusive(context, **arguments) == Done(f"{HELD} tokens to escrow:{exclusive}")
        assert await hold_exclusive(context, **arguments) == Returned(Reason.ALREADY_PAID)
        assert (await balance(escrow_account(f"trigger:{GOAL}")), await balance(escrow_account(exclusive))) == (0, HELD)
