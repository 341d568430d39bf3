"""What clients are told of goals, through Pusher."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from goalsvc.domain.goals import GoalKind
from goalsvc.domain.outcome import Done, Reason
from goalsvc.receivers.notices import (
    notify_goal_ended,
    notify_goal_progress_updated,
    notify_livestream_mvps,
    notify_stream_authorized_for_agreed_trigger_goal,
    notify_stream_authorized_for_ended_exclusive_goal,
    notify_viewer_change_stream_for_show,
    notify_wallet_updated,
    trigger_exclusive_on_close_notification,
)
from goalsvc.signals.events import (
    EscrowCompleted,
    EscrowRefunded,
    EscrowShareCompleted,
    EscrowShareRefunded,
    GoalCompleted,
    GoalEnded,
    GoalProgressed,
)
from tests.support.services import Notice

from .delivery import debt_of, deliver, deliver_again, reason_of
from .fakes import NOW, Stage
from .scenes import (
    GOAL,
    HELD,
    SESSION,
    STREAMER,
    VIEWER,
    Run,
    an_earning,
    any_event,
    goal_event,
    without_session,
    without_viewer,
)

VIEWERS, WATCHERS = f"private-stream@{STREAMER}", f"presence-stream@{STREAMER}"
THE_STREAMER, THE_VIEWER = f"private-user@{STREAMER}", f"private-user@{VIEWER}"
EVERYWHERE = (VIEWERS, WATCHERS, THE_STREAMER)
AT = "2026-01-01T12:10:00Z"


def told(stage: Stage, event: str, channels: Sequence[str]) -> Notice:
    """The one notice, which was told in one call."""
    (notice,) = stage.notifier.notices
    assert (notice.event, set(notice.channels)) == (event, set(channels))
    return notice


class TestNotifyGoalProgressUpdated:
    async def test_tells_the_stream_and_the_streamer_in_one_call(self, stage: Stage) -> None:
        event = goal_event(GoalProgressed, GoalKind.SHOW, Run.SHORT)
        assert await deliver(stage, notify_goal_progress_updated, event) == Done("goal.progress.updated")
        assert told(stage, "goal.progress.updated", EVERYWHERE).data == {
            "event_id": "e1",
            "goal_id": str(GOAL),
            "kind": "ShowGoal",
            "progress": 120,
            "amount": 120,
            "level": 0,
            "levels": [{"title": "A ShowGoal", "target": 360}],
            "user_id": STREAMER,
            "session_id": str(SESSION),
            "at": AT,
        }

    async def test_owes_the_last_value_when_clients_were_told_just_now(self, stage: Stage) -> None:
        event = goal_event(GoalProgressed, GoalKind.SHOW, Run.SHORT)
        await deliver(stage, notify_goal_progress_updated, event)
        later = replace(event, progress=150, amount=30, event_id="e2")
        follow_up = debt_of(await deliver(stage, notify_goal_progress_updated, later))
        assert (follow_up.id, follow_up.task) == ("goal.progress.updated:late", "notify_progress")
        assert follow_up.due_at is not None
        assert follow_up.due_at > NOW

    async def test_returns_when_clients_know_of_more(self, stage: Stage) -> None:
        event = goal_event(GoalProgressed, GoalKind.SHOW, Run.SHORT)
        await deliver(stage, notify_goal_progress_updated, event)
        earlier = replace(event, progress=60, event_id="e0")
        assert reason_of(await deliver(stage, notify_goal_progress_updated, earlier)) is Reason.OVERTAKEN

    async def test_a_goal_without_a_session(self, stage: Stage) -> None:
        await deliver(stage, notify_goal_progress_updated, without_session(goal_event(GoalProgressed, GoalKind.SHOW)))
        assert "session_id" not in told(stage, "goal.progress.updated", EVERYWHERE).data

    async def test_owes_what_pusher_would_not_take(self, stage: Stage) -> None:
        stage.notifier.refuse()
        event = goal_event(GoalProgressed, GoalKind.SHOW)
        follow_up = debt_of(await deliver(stage, notify_goal_progress_updated, event))
        assert (follow_up.id, follow_up.task) == ("goal.progress.updated:e1", "deliver_notice")
        assert follow_up.arguments["event"] == "goal.progress.updated"
        assert follow_up.arguments["channels"] == list(EVERYWHERE)
        assert follow_up.arguments["data"]["progress"] == 360

    async def test_a_notice_that_was_not_taken_is_not_overtaken_by_itself(self, stage: Stage) -> None:
        """The write that keeps the promise may fail, and the announcement runs again in the same process."""
        stage.notifier.refuse()
        event = goal_event(GoalProgressed, GoalKind.SHOW)
        await deliver(stage, notify_goal_progress_updated, event)
        again = debt_of(await deliver(stage, notify_goal_progress_updated, event))
        assert again.id == "goal.progress.updated:late"
        stage.clock.advance(1.0)
        stage.notifier.refuse()
        assert debt_of(await deliver(stage, notify_goal_progress_updated, event)).id == "goal.progress.updated:e1"

    async def test_owes_what_pusher_never_will_take(self, stage: Stage) -> None:
        """The task becomes a dead letter with the reason; the goal's progress is not held up by it."""
        event = replace(goal_event(GoalProgressed, GoalKind.SHOW), event_id="e" * 11_000)
        assert debt_of(await deliver(stage, notify_goal_progress_updated, event)).task == "deliver_notice"
        assert stage.notifier.notices == []

    async def test_returns_for_an_exclusive_which_is_private(self, stage: Stage) -> None:
        event = goal_event(GoalProgressed, GoalKind.EXCLUSIVE)
        assert reason_of(await deliver(stage, notify_goal_progress_updated, event)) is Reason.OTHER_GOAL_KIND
        assert stage.notifier.notices == []

    async def test_a_second_delivery_changes_nothing(self, stage: Stage) -> None:
        await deliver_again(stage, notify_goal_progress_updated, goal_event(GoalProgressed, GoalKind.SHOW))


class TestNotifyViewerChangeStreamForShow:
    async def test_tells_the_stream_to_switch_to_the_show(self, stage: Stage) -> None:
        event = goal_event(GoalProgressed, GoalKind.FUNDING)
        assert await deliver(stage, notify_viewer_change_stream_for_show, event) == Done("stream.changed")
        notice = told(stage, "stream.changed", [VIEWERS, WATCHERS])
        assert notice.data["show"] == {"title": "Ukulele medley", "target": 360}

    async def test_a_funding_that_does_not_say_what_for(self, stage: Stage) -> None:
        event = goal_event(GoalProgressed, GoalKind.FUNDING)
        event = replace(event, metadata=event.metadata.model_copy(update={"show": None}))
        await deliver(stage, notify_viewer_change_stream_for_show, event)
        assert "show" not in told(stage, "stream.changed", [VIEWERS, WATCHERS]).data

    async def test_returns_below_the_target(self, stage: Stage) -> None:
        event = goal_event(GoalProgressed, GoalKind.FUNDING, Run.LOWER_LEVEL)
        outcome = await deliver(stage, notify_viewer_change_stream_for_show, event)
        assert reason_of(outcome) is Reason.TARGET_NOT_REACHED

    async def test_returns_when_it_was_reached_before(self, stage: Stage) -> None:
        event = goal_event(GoalProgressed, GoalKind.FUNDING, progress=1100, amount=50)
        outcome = await deliver(stage, notify_viewer_change_stream_for_show, event)
        assert reason_of(outcome) is Reason.NO_NEW_LEVEL

    async def test_returns_for_other_kinds(self, stage: Stage) -> None:
        event = goal_event(GoalProgressed, GoalKind.SHOW)
        outcome = await deliver(stage, notify_viewer_change_stream_for_show, event)
        assert reason_of(outcome) is Reason.OTHER_GOAL_KIND

    async def test_a_second_delivery_changes_nothing(self, stage: Stage) -> None:
        await deliver_again(stage, notify_viewer_change_stream_for_show, goal_event(GoalProgressed, GoalKind.FUNDING))


class TestNotifyLivestreamMvps:
    async def test_tells_the_top_three(self, stage: Stage) -> None:
        for viewer, amount in [("a", 10), ("b", 30), ("c", 20), ("d", 5), ("a", 25)]:
            await an_earning(f"show_funding:{GOAL}", viewer, amount)
        event = goal_event(GoalCompleted, GoalKind.FUNDING)
        assert await deliver(stage, notify_livestream_mvps, event) == Done("livestream.mvps")
        assert told(stage, "livestream.mvps", [VIEWERS, WATCHERS]).data["mvps"] == [
            {"user_id": "a", "amount": 35},
            {"user_id": "b", "amount": 30},
            {"user_id": "c", "amount": 20},
        ]

    async def test_a_song_to_which_nobody_contributed(self, stage: Stage) -> None:
        await deliver(stage, notify_livestream_mvps, goal_event(GoalCompleted, GoalKind.KARAOKE))
        assert told(stage, "livestream.mvps", [VIEWERS, WATCHERS]).data["mvps"] == []

    async def test_returns_for_other_kinds(self, stage: Stage) -> None:
        outcome = await deliver(stage, notify_livestream_mvps, goal_event(GoalCompleted, GoalKind.SHOW))
        assert reason_of(outcome) is Reason.OTHER_GOAL_KIND

    async def test_a_second_delivery_changes_nothing(self, stage: Stage) -> None:
        await deliver_again(stage, notify_livestream_mvps, goal_event(GoalCompleted, GoalKind.FUNDING))


class TestNotifyGoalEnded:
    @pytest.mark.parametrize(
        ("kind", "run", "completed"),
        [
            (GoalKind.FUNDING, Run.REACHED, True),
            (GoalKind.FUNDING, Run.SHORT, False),
            (GoalKind.TRIGGER, Run.REACHED, False),
            (GoalKind.SHOW, Run.SHORT, False),
            (GoalKind.KARAOKE, Run.REACHED, True),
        ],
    )
    async def test_tells_the_stream(self, stage: Stage, kind: GoalKind, run: Run, completed: bool) -> None:
        assert await deliver(stage, notify_goal_ended, goal_event(GoalEnded, kind, run)) == Done("goal.ended")
        assert told(stage, "goal.ended", EVERYWHERE).data["completed"] is completed

    async def test_tells_of_an_exclusive_its_parties_alone(self, stage: Stage) -> None:
        await deliver(stage, notify_goal_ended, goal_event(GoalEnded, GoalKind.EXCLUSIVE))
        told(stage, "goal.ended", [THE_VIEWER, THE_STREAMER])

    async def test_returns_for_a_completed_show(self, stage: Stage) -> None:
        outcome = await deliver(stage, notify_goal_ended, goal_event(GoalEnded, GoalKind.SHOW))
        assert reason_of(outcome) is Reason.COMPLETED_SHOW

    async def test_a_second_delivery_changes_nothing(self, stage: Stage) -> None:
        await deliver_again(stage, notify_goal_ended, goal_event(GoalEnded, GoalKind.KARAOKE))


class TestTriggerExclusiveOnCloseNotification:
    async def test_tells_viewer_and_streamer(self, stage: Stage) -> None:
        event = goal_event(GoalEnded, GoalKind.EXCLUSIVE)
        assert await deliver(stage, trigger_exclusive_on_close_notification, event) == Done("exclusive.closed")
        told(stage, "exclusive.closed", [THE_VIEWER, THE_STREAMER])

    async def test_without_a_viewer_the_streamer(self, stage: Stage) -> None:
        event = without_viewer(goal_event(GoalEnded, GoalKind.EXCLUSIVE))
        await deliver(stage, trigger_exclusive_on_close_notification, event)
        told(stage, "exclusive.closed", [THE_STREAMER])

    async def test_returns_for_other_kinds(self, stage: Stage) -> None:
        outcome = await deliver(stage, trigger_exclusive_on_close_notification, goal_event(GoalEnded, GoalKind.SHOW))
        assert reason_of(outcome) is Reason.OTHER_GOAL_KIND

    async def test_a_second_delivery_changes_nothing(self, stage: Stage) -> None:
        await deliver_again(stage, trigger_exclusive_on_close_notification, goal_event(GoalEnded, GoalKind.EXCLUSIVE))


class TestNotifyStreamAuthorizedForAgreedTriggerGoal:
    receiver = notify_stream_authorized_for_agreed_trigger_goal

    async def test_tells_the_viewer_from_when_on(self, stage: Stage) -> None:
        outcome = await deliver(stage, self.receiver, goal_event(GoalEnded, GoalKind.TRIGGER))
        assert outcome == Done("stream.authorized")
        data = told(stage, "stream.authorized", [THE_VIEWER]).data
        assert (data["viewer_id"], data["nbf"], "exp" in data) == (VIEWER, AT, False)

    async def test_returns_for_a_request_that_was_declined(self, stage: Stage) -> None:
        outcome = await deliver(stage, self.receiver, goal_event(GoalEnded, GoalKind.TRIGGER, Run.SHORT))
        assert reason_of(outcome) is Reason.NOT_AGREED

    async def test_returns_without_a_viewer(self, stage: Stage) -> None:
        outcome = await deliver(stage, self.receiver, without_viewer(goal_event(GoalEnded, GoalKind.TRIGGER)))
        assert reason_of(outcome) is Reason.NO_VIEWER

    async def test_returns_for_a_request_that_does_not_say_what_for(self, stage: Stage) -> None:
        event = goal_event(GoalEnded, GoalKind.TRIGGER)
        event = replace(event, metadata=event.metadata.model_copy(update={"exclusive": None}))
        assert reason_of(await deliver(stage, self.receiver, event)) is Reason.NO_EXCLUSIVE

    async def test_returns_for_other_kinds(self, stage: Stage) -> None:
        outcome = await deliver(stage, self.receiver, goal_event(GoalEnded, GoalKind.EXCLUSIVE))
        assert reason_of(outcome) is Reason.OTHER_GOAL_KIND

    async def test_a_second_delivery_changes_nothing(self, stage: Stage) -> None:
        await deliver_again(stage, self.receiver, goal_event(GoalEnded, GoalKind.TRIGGER))


class TestNotifyStreamAuthorizedForEndedExclusiveGoal:
    receiver = notify_stream_authorized_for_ended_exclusive_goal

    async def test_tells_the_stream_that_it_is_public_again(self, stage: Stage) -> None:
        outcome = await deliver(stage, self.receiver, goal_event(GoalEnded, GoalKind.EXCLUSIVE))
        assert outcome == Done("stream.authorized")
        notice = told(stage, "stream.authorized", [VIEWERS, WATCHERS])
        expected = {"event_id": "e1", "user_id": STREAMER, "at": AT, "nbf": AT, "exclusive_goal_id": str(GOAL)}
        assert notice.data == expected

    async def test_does_not_tell_everybody_for_whom_it_was(self, stage: Stage) -> None:
        await deliver(stage, self.receiver, goal_event(GoalEnded, GoalKind.EXCLUSIVE))
        assert VIEWER not in str(stage.notifier.notices)

    async def test_returns_for_other_kinds(self, stage: Stage) -> None:
        outcome = await deliver(stage, self.receiver, goal_event(GoalEnded, GoalKind.TRIGGER))
        assert reason_of(outcome) is Reason.OTHER_GOAL_KIND

    async def test_a_second_delivery_changes_nothing(self, stage: Stage) -> None:
        await deliver_again(stage, self.receiver, goal_event(GoalEnded, GoalKind.EXCLUSIVE))


class TestNotifyWalletUpdated:
    @pytest.mark.parametrize("event", [EscrowCompleted, EscrowShareRefunded])
    async def test_tells_the_user_what_has_come_in(self, stage: Stage, event: type[Any]) -> None:
        share = any_event(event, GoalKind.SHOW, Run.REACHED)
        assert await deliver(stage, notify_wallet_updated, share) == Done("wallet.updated")
        data = told(stage, "wallet.updated", [THE_STREAMER]).data
        assert (data["user_id"], data["amount"], data["at"]) == (STREAMER, HELD, AT)
        assert (data["event_id"], data["direction"], data["shares"]) == ("t1", "credit", 1)

    @pytest.mark.parametrize(
        ("event", "reason"),
        [(EscrowShareCompleted, Reason.TOLD_AT_THE_END), (EscrowRefunded, Reason.TOLD_BY_SHARE)],
    )
    async def test_returns_for_what_is_told_otherwise(self, stage: Stage, event: type[Any], reason: Reason) -> None:
        outcome = await deliver(stage, notify_wallet_updated, any_event(event, GoalKind.SHOW, Run.REACHED))
        assert reason_of(outcome) is reason
        assert stage.notifier.notices == []

    async def test_returns_when_all_of_it_is_the_platforms(self, stage: Stage) -> None:
        event = EscrowCompleted(event_id="t1", at=NOW, escrow_id="show_funding:1", to_user_id=STREAMER, shares=1)
        assert reason_of(await deliver(stage, notify_wallet_updated, event)) is Reason.NOTHING_HELD

    async def test_owes_what_pusher_would_not_take(self, stage: Stage) -> None:
        stage.notifier.refuse()
        share = any_event(EscrowCompleted, GoalKind.SHOW, Run.REACHED)
        assert debt_of(await deliver(stage, notify_wallet_updated, share)).id == "wallet.updated:t1"

    async def test_a_second_delivery_changes_nothing(self, stage: Stage) -> None:
        await deliver_again(stage, notify_wallet_updated, any_event(EscrowCompleted, GoalKind.SHOW, Run.REACHED))


def test_the_scene_is_at_the_time_that_these_tests_spell_out() -> None:
    assert (NOW + timedelta(0)).isoformat().replace("+00:00", "Z") == AT
