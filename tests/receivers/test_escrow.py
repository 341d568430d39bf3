"""The money: what each end and each completion does to the escrow behind a goal."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from bson import ObjectId

from goalsvc.domain.escrow import escrow_account, performed_share
from goalsvc.domain.goals import GoalKind, Level
from goalsvc.domain.outcome import Done, Outcome, Reason
from goalsvc.errors import InvalidError
from goalsvc.models.session import Session, ShowPair
from goalsvc.models.wallet import Account
from goalsvc.receivers.escrow import (
    handle_trigger_private_goal_escrow,
    settle_exclusive_escrow,
    trigger_exclusive_escrow_transfer,
    trigger_exclusive_goal_escrow_refund,
    trigger_show_escrow_refund,
    trigger_show_escrow_transfer,
)
from goalsvc.signals.events import GoalCompleted, GoalEnded, GoalProgressed

from .delivery import debt_of, deliver, deliver_again, reason_of
from .fakes import NOW, Stage
from .scenes import (
    BEGAN,
    FUNDING,
    GOAL,
    HELD,
    PAUSED,
    SESSION,
    STREAMER,
    VIEWER,
    E,
    Run,
    a_deposit,
    a_session,
    clock_times,
    goal_event,
    without_session,
    without_viewer,
)

SHOW_ESCROW = f"show_funding:{FUNDING}"
EXCLUSIVE_ESCROW = f"exclusive:{GOAL}"
TRIGGER_ESCROW = f"trigger:{GOAL}"


def funded(event: E) -> E:
    """The same event, of a show that names what funded it."""
    return replace(event, metadata=event.metadata.model_copy(update={"funding_goal_id": FUNDING}))


def share(outcome: Outcome) -> tuple[str, str, int]:
    """Of the one share that is owed: by which event, to whom, how much."""
    follow_up = debt_of(outcome)
    assert follow_up.task == "transfer_escrow"
    arguments = follow_up.arguments
    assert follow_up.id == f"transfer_escrow:{arguments['event']}"
    assert arguments["metadata"]["doc_id"] == str(GOAL)
    assert arguments["metadata"]["user_id"] == arguments["to_user_id"]
    return arguments["event"], arguments["to_user_id"], arguments["metadata"]["amount"]


class TestTriggerShowEscrowTransfer:
    async def test_owes_the_payout(self, stage: Stage) -> None:
        await a_session(GoalKind.SHOW)
        follow_up = debt_of(
            await deliver(stage, trigger_show_escrow_transfer, goal_event(GoalCompleted, GoalKind.SHOW))
        )
        assert follow_up.task == "escrow_out"
        assert follow_up.arguments == {
            "escrow_id": SHOW_ESCROW,
            "user_id": STREAMER,
            "nbf": BEGAN,
            "exp": NOW,
            "goal_id": str(GOAL),
        }

    async def test_up_to_the_end_of_a_session_that_has_ended(self, stage: Stage) -> None:
        await a_session(GoalKind.SHOW)
        ended = {"$set": {"statuses.ended": NOW - timedelta(seconds=30)}}
        await Session.get_motor_collection().update_one({"_id": SESSION}, ended)
        follow_up = debt_of(
            await deliver(stage, trigger_show_escrow_transfer, goal_event(GoalCompleted, GoalKind.SHOW))
        )
        assert follow_up.arguments["exp"] == NOW - timedelta(seconds=30)

    async def test_since_the_funding_began_where_the_session_does_not_say_when_it_did(self, stage: Stage) -> None:
        await a_session(GoalKind.SHOW, statuses={})
        follow_up = debt_of(
            await deliver(stage, trigger_show_escrow_transfer, goal_event(GoalCompleted, GoalKind.SHOW))
        )
        assert follow_up.arguments["nbf"] == FUNDING.generation_time

    async def test_returns_at_a_lower_level(self, stage: Stage) -> None:
        await a_session(GoalKind.SHOW)
        event = goal_event(GoalCompleted, GoalKind.SHOW, Run.LOWER_LEVEL)
        assert reason_of(await deliver(stage, trigger_show_escrow_transfer, event)) is Reason.NOT_THE_LAST_LEVEL

    async def test_returns_without_a_session(self, stage: Stage) -> None:
        event = without_session(goal_event(GoalCompleted, GoalKind.SHOW))
        assert reason_of(await deliver(stage, trigger_show_escrow_transfer, event)) is Reason.NO_SESSION

    async def test_returns_when_the_session_is_not_known(self, stage: Stage) -> None:
        outcome = await deliver(stage, trigger_show_escrow_transfer, goal_event(GoalCompleted, GoalKind.SHOW))
        assert reason_of(outcome) is Reason.UNKNOWN_SESSION

    @pytest.mark.parametrize("pairs", [[], [ShowPair(show_goal=GOAL)], [ShowPair(funding_goal=FUNDING)]])
    async def test_returns_for_a_show_that_nobody_funded(self, stage: Stage, pairs: list[ShowPair]) -> None:
        await a_session(GoalKind.SHOW, show_goal_pairs=pairs)
        outcome = await deliver(stage, trigger_show_escrow_transfer, goal_event(GoalCompleted, GoalKind.SHOW))
        assert reason_of(outcome) is Reason.NO_FUNDING

    @pytest.mark.parametrize("has_session", [True, False])
    async def test_a_show_whose_pair_was_removed_knows_what_funded_it(self, stage: Stage, has_session: bool) -> None:
        if has_session:
            await a_session(GoalKind.SHOW, show_goal_pairs=[])
        event = funded(goal_event(GoalCompleted, GoalKind.SHOW))
        follow_up = debt_of(await deliver(stage, trigger_show_escrow_transfer, event))
        assert (follow_up.arguments["escrow_id"], follow_up.arguments["user_id"]) == (SHOW_ESCROW, STREAMER)

    async def test_the_fee_of_the_goal_is_fixed_in_the_promise(self, stage: Stage) -> None:
        await a_session(GoalKind.SHOW)
        event = goal_event(GoalCompleted, GoalKind.SHOW)
        event = replace(event, metadata=event.metadata.model_copy(update={"fee_bps": 250}))
        assert debt_of(await deliver(stage, trigger_show_escrow_transfer, event)).arguments["fee_bps"] == 250

    async def test_returns_for_other_kinds(self, stage: Stage) -> None:
        outcome = await deliver(stage, trigger_show_escrow_transfer, goal_event(GoalCompleted, GoalKind.KARAOKE))
        assert reason_of(outcome) is Reason.OTHER_GOAL_KIND

    async def test_a_second_delivery_changes_nothing(self, stage: Stage) -> None:
        await a_session(GoalKind.SHOW)
        await deliver_again(stage, trigger_show_escrow_transfer, goal_event(GoalCompleted, GoalKind.SHOW))


class TestTriggerShowEscrowRefund:
    async def test_a_show_whose_pair_was_removed_knows_what_funded_it(self, stage: Stage) -> None:
        await a_session(GoalKind.SHOW, show_goal_pairs=[])
        event = funded(goal_event(GoalEnded, GoalKind.SHOW, Run.SHORT))
        assert debt_of(await deliver(stage, trigger_show_escrow_refund, event)).arguments["escrow_id"] == SHOW_ESCROW

    async def test_owes_the_refund_of_a_show_that_stopped_short(self, stage: Stage) -> None:
        await a_session(GoalKind.SHOW)
        event = goal_event(GoalEnded, GoalKind.SHOW, Run.SHORT)
        follow_up = debt_of(await deliver(stage, trigger_show_escrow_refund, event))
        assert follow_up.task == "refund_escrow"
        assert follow_up.arguments == {"escrow_id": SHOW_ESCROW, "user_id": STREAMER, "goal_id": str(GOAL)}

    async def test_owes_the_refund_of_a_funding_that_did_not_come_together(self, stage: Stage) -> None:
        event = goal_event(GoalEnded, GoalKind.FUNDING, Run.SHORT)
        follow_up = debt_of(await deliver(stage, trigger_show_escrow_refund, event))
        assert follow_up.arguments["escrow_id"] == f"show_funding:{GOAL}"

    @pytest.mark.parametrize("kind", [GoalKind.SHOW, GoalKind.FUNDING])
    async def test_returns_when_the_target_was_reached(self, stage: Stage, kind: GoalKind) -> None:
        await a_session(kind)
        outcome = await deliver(stage, trigger_show_escrow_refund, goal_event(GoalEnded, kind))
        assert reason_of(outcome) is Reason.TARGET_REACHED

    async def test_returns_without_a_session(self, stage: Stage) -> None:
        event = without_session(goal_event(GoalEnded, GoalKind.SHOW, Run.SHORT))
        assert reason_of(await deliver(stage, trigger_show_escrow_refund, event)) is Reason.NO_SESSION

    async def test_returns_when_the_session_is_not_known(self, stage: Stage) -> None:
        outcome = await deliver(stage, trigger_show_escrow_refund, goal_event(GoalEnded, GoalKind.SHOW, Run.SHORT))
        assert reason_of(outcome) is Reason.UNKNOWN_SESSION

    async def test_returns_for_a_show_that_nobody_funded(self, stage: Stage) -> None:
        await a_session(GoalKind.SHOW, show_goal_pairs=[])
        outcome = await deliver(stage, trigger_show_escrow_refund, goal_event(GoalEnded, GoalKind.SHOW, Run.SHORT))
        assert reason_of(outcome) is Reason.NO_FUNDING

    async def test_returns_for_other_kinds(self, stage: Stage) -> None:
        outcome = await deliver(stage, trigger_show_escrow_refund, goal_event(GoalEnded, GoalKind.EXCLUSIVE))
        assert reason_of(outcome) is Reason.OTHER_GOAL_KIND

    async def test_a_second_delivery_changes_nothing(self, stage: Stage) -> None:
        await a_session(GoalKind.SHOW)
        await deliver_again(stage, trigger_show_escrow_refund, goal_event(GoalEnded, GoalKind.SHOW, Run.SHORT))


class TestTriggerExclusiveEscrowTransfer:
    def completed(self, **changes: Any) -> GoalCompleted:
        """An exclusive without a timed target, performed for a while."""
        untimed: dict[str, Any] = {"levels": (), "progress": 77}
        return goal_event(GoalCompleted, GoalKind.EXCLUSIVE, **untimed | changes)

    async def test_owes_the_performer_all_of_it(self, stage: Stage) -> None:
        await a_deposit(GoalKind.EXCLUSIVE)
        outcome = await deliver(stage, trigger_exclusive_escrow_transfer, self.completed())
        assert share(outcome) == ("escrow.completed", STREAMER, HELD)
        assert debt_of(outcome).arguments["escrow_id"] == EXCLUSIVE_ESCROW

    async def test_returns_for_a_timed_one_which_is_settled_at_its_end(self, stage: Stage) -> None:
        await a_deposit(GoalKind.EXCLUSIVE)
        event = self.completed(levels=(Level(target=60),))
        assert reason_of(await deliver(stage, trigger_exclusive_escrow_transfer, event)) is Reason.SETTLED_AT_THE_END

    async def test_returns_when_nothing_is_held(self, stage: Stage) -> None:
        outcome = await deliver(stage, trigger_exclusive_escrow_transfer, self.completed())
        assert reason_of(outcome) is Reason.NOTHING_HELD

    async def test_returns_for_other_kinds(self, stage: Stage) -> None:
        outcome = await deliver(stage, trigger_exclusive_escrow_transfer, goal_event(GoalCompleted, GoalKind.SHOW))
        assert reason_of(outcome) is Reason.OTHER_GOAL_KIND

    async def test_a_second_delivery_changes_nothing(self, stage: Stage) -> None:
        await a_deposit(GoalKind.EXCLUSIVE)
        await deliver_again(stage, trigger_exclusive_escrow_transfer, self.completed())


class TestSettleExclusiveEscrow:
    def ended(self, seconds: int, **changes: Any) -> GoalEnded:
        return goal_event(GoalEnded, GoalKind.EXCLUSIVE, progress=seconds, **changes)

    @pytest.mark.parametrize(("seconds", "paid"), [(360, 300), (500, 300), (200, 166), (2, 1), (359, 299)])
    async def test_owes_the_performed_share(self, stage: Stage, seconds: int, paid: int) -> None:
        await a_deposit(GoalKind.EXCLUSIVE)
        outcome = await deliver(stage, settle_exclusive_escrow, self.ended(seconds))
        assert share(outcome) == ("escrow.completed", STREAMER, paid)

    async def test_says_so_in_the_trace(self, stage: Stage) -> None:
        await a_deposit(GoalKind.EXCLUSIVE)
        outcome = await deliver(stage, settle_exclusive_escrow, self.ended(200))
        assert isinstance(outcome, Done)
        assert outcome.what == "166 of 300 tokens for 200 of 360 s"

    async def test_reckons_from_what_was_held_though_part_has_been_paid(self, stage: Stage) -> None:
        await a_deposit(GoalKind.EXCLUSIVE)
        await deliver(stage, settle_exclusive_escrow, self.ended(200))
        paid = {"$set": {"balance": HELD - 166}}
        await Account.get_motor_collection().update_one({"_id": escrow_account(EXCLUSIVE_ESCROW)}, paid)
        outcome = await deliver(stage, settle_exclusive_escrow, self.ended(200))
        assert share(outcome) == ("escrow.completed", STREAMER, 166)

    @pytest.mark.parametrize("seconds", [0, 1])
    async def test_returns_when_the_share_is_nothing(self, stage: Stage, seconds: int) -> None:
        await a_deposit(GoalKind.EXCLUSIVE)
        assert reason_of(await deliver(stage, settle_exclusive_escrow, self.ended(seconds))) is Reason.NOT_PERFORMED

    @pytest.mark.parametrize("levels", [(), (Level(target=0),)])
    async def test_returns_for_one_without_a_timed_target(self, stage: Stage, levels: tuple[Level, ...]) -> None:
        await a_deposit(GoalKind.EXCLUSIVE)
        event = self.ended(77, levels=levels)
        assert reason_of(await deliver(stage, settle_exclusive_escrow, event)) is Reason.NOT_TIMED

    async def test_returns_when_nothing_is_held(self, stage: Stage) -> None:
        assert reason_of(await deliver(stage, settle_exclusive_escrow, self.ended(200))) is Reason.NOTHING_HELD

    async def test_returns_for_other_kinds(self, stage: Stage) -> None:
        outcome = await deliver(stage, settle_exclusive_escrow, goal_event(GoalEnded, GoalKind.SHOW))
        assert reason_of(outcome) is Reason.OTHER_GOAL_KIND

    async def test_a_second_delivery_changes_nothing(self, stage: Stage) -> None:
        await a_deposit(GoalKind.EXCLUSIVE)
        await deliver_again(stage, settle_exclusive_escrow, self.ended(200))


class TestTriggerExclusiveGoalEscrowRefund:
    def progressed(self, **changes: Any) -> GoalProgressed:
        return goal_event(GoalProgressed, GoalKind.EXCLUSIVE, Run.SHORT, **changes)

    def ended(self, **changes: Any) -> GoalEnded:
        return goal_event(GoalEnded, GoalKind.EXCLUSIVE, Run.SHORT, **changes)

    async def test_owes_the_end_of_one_that_stays_paused(self, stage: Stage) -> None:
        follow_up = debt_of(await deliver(stage, trigger_exclusive_goal_escrow_refund, self.progressed()))
        assert (follow_up.id, follow_up.task) == ("exclusive_grace:e1", "deactivate_goal")
        assert follow_up.arguments == {"goal_id": str(GOAL), "paused_since": PAUSED}
        assert follow_up.due_at == NOW + timedelta(seconds=60)

    async def test_also_of_one_without_a_target(self, stage: Stage) -> None:
        debt_of(await deliver(stage, trigger_exclusive_goal_escrow_refund, self.progressed(levels=())))

    async def test_returns_when_it_has_been_resumed(self, stage: Stage) -> None:
        event = self.progressed(context=clock_times(GoalKind.EXCLUSIVE, running=True))
        assert reason_of(await deliver(stage, trigger_exclusive_goal_escrow_refund, event)) is Reason.RESUMED

    @pytest.mark.parametrize(
        ("seconds", "back"), [(200, HELD - 166), (1, HELD), (0, HELD), (359, 1)], ids=["200", "1", "0", "359"]
    )
    async def test_at_its_end_owes_the_viewer_the_unperformed_share(
        self, stage: Stage, seconds: int, back: int
    ) -> None:
        await a_deposit(GoalKind.EXCLUSIVE)
        outcome = await deliver(stage, trigger_exclusive_goal_escrow_refund, self.ended(progress=seconds))
        assert share(outcome) == ("escrow.refunded", VIEWER, back)

    async def test_all_of_one_without_a_target_that_was_not_performed(self, stage: Stage) -> None:
        await a_deposit(GoalKind.EXCLUSIVE)
        outcome = await deliver(stage, trigger_exclusive_goal_escrow_refund, self.ended(progress=0, levels=()))
        assert share(outcome) == ("escrow.refunded", VIEWER, HELD)

    @pytest.mark.parametrize("event", [GoalProgressed, GoalEnded])
    async def test_returns_when_the_target_was_reached(self, stage: Stage, event: type[Any]) -> None:
        outcome = await deliver(stage, trigger_exclusive_goal_escrow_refund, goal_event(event, GoalKind.EXCLUSIVE))
        assert reason_of(outcome) is Reason.TARGET_REACHED

    async def test_returns_at_the_end_of_one_without_a_target_that_was_performed(self, stage: Stage) -> None:
        await a_deposit(GoalKind.EXCLUSIVE)
        outcome = await deliver(stage, trigger_exclusive_goal_escrow_refund, self.ended(progress=77, levels=()))
        assert reason_of(outcome) is Reason.TARGET_REACHED

    async def test_returns_when_nothing_is_held(self, stage: Stage) -> None:
        outcome = await deliver(stage, trigger_exclusive_goal_escrow_refund, self.ended())
        assert reason_of(outcome) is Reason.NOTHING_HELD

    async def test_returns_without_a_viewer(self, stage: Stage) -> None:
        outcome = await deliver(stage, trigger_exclusive_goal_escrow_refund, without_viewer(self.ended()))
        assert reason_of(outcome) is Reason.NO_VIEWER

    async def test_returns_for_other_kinds(self, stage: Stage) -> None:
        outcome = await deliver(stage, trigger_exclusive_goal_escrow_refund, goal_event(GoalEnded, GoalKind.SHOW))
        assert reason_of(outcome) is Reason.OTHER_GOAL_KIND

    async def test_a_second_delivery_changes_nothing(self, stage: Stage) -> None:
        await a_deposit(GoalKind.EXCLUSIVE)
        await deliver_again(stage, trigger_exclusive_goal_escrow_refund, self.ended())

    async def test_a_second_announcement_of_the_pause_changes_nothing(self, stage: Stage) -> None:
        await deliver_again(stage, trigger_exclusive_goal_escrow_refund, self.progressed())


class TestHandleTriggerPrivateGoalEscrow:
    async def test_owes_the_hold_of_an_agreed_request_to_its_exclusive(self, stage: Stage) -> None:
        await a_session(GoalKind.TRIGGER)
        await a_deposit(GoalKind.TRIGGER)
        event = goal_event(GoalEnded, GoalKind.TRIGGER)
        follow_up = debt_of(await deliver(stage, handle_trigger_private_goal_escrow, event))
        arguments = follow_up.arguments
        assert (follow_up.task, arguments["from_escrow_id"], arguments["amount"]) == (
            "hold_exclusive",
            TRIGGER_ESCROW,
            HELD,
        )
        exclusive_id = arguments["to_escrow_id"].removeprefix("exclusive:")
        assert ObjectId.is_valid(exclusive_id)
        assert arguments["transfer_id"] == f"hold-{TRIGGER_ESCROW}-{exclusive_id}"

    async def test_the_hold_of_an_exclusive_that_cannot_begin_goes_back_to_the_viewer(self, stage: Stage) -> None:
        await a_deposit(GoalKind.TRIGGER)
        event = goal_event(GoalEnded, GoalKind.TRIGGER)
        assert share(await deliver(stage, handle_trigger_private_goal_escrow, event)) == (
            "escrow.refunded",
            VIEWER,
            HELD,
        )

    async def test_a_hold_that_has_no_viewer_is_a_failure_that_is_seen(self, stage: Stage) -> None:
        await a_deposit(GoalKind.TRIGGER)
        event = without_viewer(goal_event(GoalEnded, GoalKind.TRIGGER))
        with pytest.raises(InvalidError, match=r"metadata\.viewer_id: required"):
            await handle_trigger_private_goal_escrow(stage.context, event)

    async def test_owes_the_hold_of_a_declined_one_to_the_viewer(self, stage: Stage) -> None:
        await a_deposit(GoalKind.TRIGGER)
        event = goal_event(GoalEnded, GoalKind.TRIGGER, Run.SHORT)
        outcome = await deliver(stage, handle_trigger_private_goal_escrow, event)
        assert share(outcome) == ("escrow.refunded", VIEWER, HELD)

    async def test_returns_for_a_request_that_is_not_private(self, stage: Stage) -> None:
        metadata = goal_event(GoalEnded, GoalKind.TRIGGER).metadata.model_copy(update={"private": False})
        event = goal_event(GoalEnded, GoalKind.TRIGGER, metadata=metadata)
        assert reason_of(await deliver(stage, handle_trigger_private_goal_escrow, event)) is Reason.NOT_PRIVATE

    async def test_returns_when_nothing_is_held(self, stage: Stage) -> None:
        outcome = await deliver(stage, handle_trigger_private_goal_escrow, goal_event(GoalEnded, GoalKind.TRIGGER))
        assert reason_of(outcome) is Reason.NOTHING_HELD

    async def test_returns_without_a_viewer(self, stage: Stage) -> None:
        event = without_viewer(goal_event(GoalEnded, GoalKind.TRIGGER))
        assert reason_of(await deliver(stage, handle_trigger_private_goal_escrow, event)) is Reason.NO_VIEWER

    async def test_returns_for_other_kinds(self, stage: Stage) -> None:
        outcome = await deliver(stage, handle_trigger_private_goal_escrow, goal_event(GoalEnded, GoalKind.EXCLUSIVE))
        assert reason_of(outcome) is Reason.OTHER_GOAL_KIND

    @pytest.mark.parametrize("run", [Run.REACHED, Run.SHORT])
    async def test_a_second_delivery_changes_nothing(self, stage: Stage, run: Run) -> None:
        await a_deposit(GoalKind.TRIGGER)
        event = goal_event(GoalEnded, GoalKind.TRIGGER, run)
        await deliver_again(stage, handle_trigger_private_goal_escrow, event)


class TestPerformedShare:
    @pytest.mark.parametrize("held", [0, 1, 7, 100, 300, 10**12])
    @pytest.mark.parametrize("seconds", [0, 1, 59, 359, 360, 361, 10**6])
    def test_share_and_rest_are_the_escrow_to_the_token(self, held: int, seconds: int) -> None:
        share_of = performed_share(held, seconds, 360)
        assert 0 <= share_of <= held
        assert share_of == held * min(seconds, 360) // 360


class TestWhatIsPaidAndWhatGoesBack:
    @pytest.mark.parametrize("seconds", [0, 1, 2, 100, 200, 359, 360, 500])
    async def test_together_they_are_the_escrow(self, stage: Stage, seconds: int) -> None:
        await a_deposit(GoalKind.EXCLUSIVE)
        event = goal_event(GoalEnded, GoalKind.EXCLUSIVE, progress=seconds)
        outcomes = [
            await deliver(stage, receiver, event)
            for receiver in (settle_exclusive_escrow, trigger_exclusive_goal_escrow_refund)
        ]
        assert sum(share(outcome)[2] for outcome in outcomes if isinstance(outcome, Done)) == HELD
