"""What is written down for analytics."""

from dataclasses import replace
from typing import Any

import pytest

from goalsvc.domain.goals import GoalKind
from goalsvc.domain.outcome import Done
from goalsvc.receivers.tracking import track_channel_presence, track_escrow, track_goals
from goalsvc.signals.events import (
    EscrowCompleted,
    EscrowRefunded,
    EscrowShareCompleted,
    EscrowShareRefunded,
    GoalCompleted,
    GoalEnded,
    GoalEvent,
    GoalProgressed,
    GoalStarted,
)

from .delivery import deliver, deliver_again
from .fakes import NOW, Stage
from .scenes import CHANNEL, GOAL, HELD, SESSION, STREAMER, Run, any_event, goal_event, joined, left, without_session


def tracked(stage: Stage) -> dict[str, Any]:
    """The one record."""
    (record,) = stage.recorder.tracked.values()
    return dict(record)


class TestTrackChannelPresence:
    async def test_writes_down_who_joined_which_channel(self, stage: Stage) -> None:
        assert await deliver(stage, track_channel_presence, joined()) == Done()
        assert tracked(stage) == {
            "_id": "e1",
            "name": "channel_occupied",
            "at": NOW,
            "channel": CHANNEL,
            "about": str(GOAL),
            "user_id": STREAMER,
        }

    async def test_and_who_left_it(self, stage: Stage) -> None:
        await deliver(stage, track_channel_presence, left())
        assert tracked(stage)["name"] == "channel_vacated"

    async def test_a_user_who_is_not_named_is_absent_not_null(self, stage: Stage) -> None:
        await deliver(stage, track_channel_presence, joined(user_id=None))
        assert "user_id" not in tracked(stage)

    async def test_a_second_delivery_changes_nothing(self, stage: Stage) -> None:
        await deliver_again(stage, track_channel_presence, joined())


class TestTrackGoals:
    @pytest.mark.parametrize("event", [GoalStarted, GoalProgressed, GoalCompleted, GoalEnded])
    async def test_writes_down_what_happened_to_a_goal(self, stage: Stage, event: type[GoalEvent]) -> None:
        assert await deliver(stage, track_goals, goal_event(event, GoalKind.SHOW)) == Done()
        record = tracked(stage)
        assert record["_id"] == f"{event.sender}:{GOAL}:e1"
        assert (record["name"], record["goal_id"], record["kind"]) == (event.sender, str(GOAL), "ShowGoal")
        assert (record["user_id"], record["session_id"]) == (STREAMER, SESSION)

    async def test_progress_with_its_amount(self, stage: Stage) -> None:
        await deliver(stage, track_goals, goal_event(GoalProgressed, GoalKind.SHOW, amount=7))
        assert tracked(stage)["amount"] == 7

    async def test_a_goal_without_a_session(self, stage: Stage) -> None:
        await deliver(stage, track_goals, without_session(goal_event(GoalEnded, GoalKind.SHOW)))
        assert "session_id" not in tracked(stage)

    async def test_the_same_cause_at_two_goals_is_two_records(self, stage: Stage) -> None:
        event = goal_event(GoalEnded, GoalKind.SHOW)
        await deliver(stage, track_goals, event)
        await deliver(stage, track_goals, replace(event, goal_id=str(SESSION)))
        assert len(stage.recorder.tracked) == 2

    async def test_a_second_delivery_changes_nothing(self, stage: Stage) -> None:
        await deliver_again(stage, track_goals, goal_event(GoalProgressed, GoalKind.SHOW))


class TestTrackEscrow:
    @pytest.mark.parametrize("event", [EscrowShareCompleted, EscrowShareRefunded])
    async def test_writes_down_a_share_with_whom_it_went_to(self, stage: Stage, event: type[Any]) -> None:
        assert await deliver(stage, track_escrow, any_event(event, GoalKind.SHOW, Run.REACHED)) == Done()
        record = tracked(stage)
        assert (record["_id"], record["name"]) == (f"{event.sender}:t1", event.sender)
        assert (record["user_id"], record["amount"]) == (STREAMER, HELD)

    @pytest.mark.parametrize("event", [EscrowCompleted, EscrowRefunded])
    async def test_and_that_all_of_it_is_through(self, stage: Stage, event: type[Any]) -> None:
        assert await deliver(stage, track_escrow, any_event(event, GoalKind.SHOW, Run.REACHED)) == Done()
        assert tracked(stage)["escrow_id"].startswith("show_funding:")

    async def test_a_second_delivery_changes_nothing(self, stage: Stage) -> None:
        await deliver_again(stage, track_escrow, any_event(EscrowCompleted, GoalKind.SHOW, Run.REACHED))
