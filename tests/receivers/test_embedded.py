"""What a session shows of its goals."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from bson import ObjectId

from goalsvc.domain.goals import GoalKind
from goalsvc.domain.ids import exclusive_of
from goalsvc.domain.outcome import Done, Reason
from goalsvc.models.session import ExclusivePair, Session, SessionKaraoke
from goalsvc.receivers.embedded import (
    cleanup_expired_exclusive_goal_pairs,
    invalidate_cached_pusher_channel_data,
    set_embedded_goal_ended,
    set_embedded_goal_started,
    sync_trigger_goal_session_viewer,
    update_and_notify_session_karaoke_goal,
)
from goalsvc.signals.events import GoalCompleted, GoalEnded, GoalProgressed, GoalStarted
from goalsvc.signals.receiver import Receiver

from .delivery import debt_of, deliver, deliver_again, reason_of
from .fakes import NOW, Stage
from .scenes import (
    GOAL,
    SESSION,
    STARTED,
    STREAMER,
    VIEWER,
    Run,
    a_session,
    goal_event,
    session_document,
    without_session,
    without_viewer,
)

OTHER_GOAL = ObjectId("6955d000000000000000000f")
TOKEN_VIEW = f"session-token:{SESSION}"
CHANNEL_VIEWS = {
    f"channel:{prefix}@{STREAMER}" for prefix in ("private-user", "private-enc-user", "private-stream")
} | {f"channel:private-enc-stream@{STREAMER}"}


async def pair_of_show() -> dict[str, Any]:
    (pair,) = (await session_document())["show_goal_pairs"]
    return dict(pair)


async def pair_of_exclusive() -> dict[str, Any]:
    return dict((await session_document())["exclusive_goal_pairs"][VIEWER])


class TestSetEmbeddedGoalStarted:
    async def test_notes_when_the_show_started(self, stage: Stage) -> None:
        await a_session(GoalKind.SHOW)
        assert await deliver(stage, set_embedded_goal_started, goal_event(GoalStarted, GoalKind.SHOW)) == Done()
        assert (await pair_of_show())["show_started"] == STARTED

    async def test_returns_when_the_show_goes_on_after_a_pause(self, stage: Stage) -> None:
        await a_session(GoalKind.SHOW)
        await deliver(stage, set_embedded_goal_started, goal_event(GoalStarted, GoalKind.SHOW))
        again = goal_event(GoalStarted, GoalKind.SHOW, at=NOW, event_id="e2")
        assert reason_of(await deliver(stage, set_embedded_goal_started, again)) is Reason.ALREADY_DONE
        assert (await pair_of_show())["show_started"] == STARTED

    async def test_finds_a_pair_that_another_service_wrote_with_hex_strings(self, stage: Stage) -> None:
        await a_session(GoalKind.SHOW)
        pairs = [{"funding_goal": str(OTHER_GOAL), "show_goal": str(GOAL)}]
        await Session.get_motor_collection().update_one({"_id": SESSION}, {"$set": {"show_goal_pairs": pairs}})
        assert await deliver(stage, set_embedded_goal_started, goal_event(GoalStarted, GoalKind.SHOW)) == Done()

    async def test_an_exclusive_takes_the_stream_for_its_viewer(self, stage: Stage) -> None:
        await a_session(GoalKind.EXCLUSIVE)
        assert await deliver(stage, set_embedded_goal_started, goal_event(GoalStarted, GoalKind.EXCLUSIVE)) == Done()
        assert (await session_document())["status"] == {"exclusive_to": VIEWER}
        assert (await pair_of_exclusive())["exclusive_goal_started"] == STARTED
        assert set(stage.cache.dropped) >= {TOKEN_VIEW}

    async def test_an_exclusive_that_has_no_pair_yet_gets_one(self, stage: Stage) -> None:
        await a_session(GoalKind.EXCLUSIVE, exclusive_goal_pairs={})
        await deliver(stage, set_embedded_goal_started, goal_event(GoalStarted, GoalKind.EXCLUSIVE))
        assert await pair_of_exclusive() == {"exclusive_goal": GOAL, "exclusive_goal_started": STARTED}

    async def test_returns_for_a_show_that_nobody_paired(self, stage: Stage) -> None:
        await a_session(GoalKind.SHOW, show_goal_pairs=[])
        event = goal_event(GoalStarted, GoalKind.SHOW)
        assert reason_of(await deliver(stage, set_embedded_goal_started, event)) is Reason.NO_SESSION_PAIR

    @pytest.mark.parametrize("kind", [GoalKind.SHOW, GoalKind.EXCLUSIVE])
    async def test_returns_without_a_session(self, stage: Stage, kind: GoalKind) -> None:
        event = without_session(goal_event(GoalStarted, kind))
        assert reason_of(await deliver(stage, set_embedded_goal_started, event)) is Reason.NO_SESSION

    @pytest.mark.parametrize("kind", [GoalKind.SHOW, GoalKind.EXCLUSIVE])
    async def test_returns_when_the_session_is_not_known(self, stage: Stage, kind: GoalKind) -> None:
        event = goal_event(GoalStarted, kind)
        assert reason_of(await deliver(stage, set_embedded_goal_started, event)) is Reason.UNKNOWN_SESSION
        assert await stage.everything() == {}

    async def test_returns_for_an_exclusive_without_a_viewer(self, stage: Stage) -> None:
        await a_session(GoalKind.EXCLUSIVE)
        event = without_viewer(goal_event(GoalStarted, GoalKind.EXCLUSIVE))
        assert reason_of(await deliver(stage, set_embedded_goal_started, event)) is Reason.NO_VIEWER

    async def test_returns_for_other_kinds(self, stage: Stage) -> None:
        event = goal_event(GoalStarted, GoalKind.KARAOKE)
        assert reason_of(await deliver(stage, set_embedded_goal_started, event)) is Reason.OTHER_GOAL_KIND

    @pytest.mark.parametrize("kind", [GoalKind.SHOW, GoalKind.EXCLUSIVE])
    async def test_a_second_delivery_changes_nothing(self, stage: Stage, kind: GoalKind) -> None:
        await a_session(kind)
        await deliver_again(stage, set_embedded_goal_started, goal_event(GoalStarted, kind))


class TestSetEmbeddedGoalEnded:
    async def a_running_exclusive(self) -> None:
        await a_session(GoalKind.EXCLUSIVE)
        await Session.start_exclusive(SESSION, VIEWER, GOAL, STARTED)

    async def test_notes_when_the_show_was_completed(self, stage: Stage) -> None:
        await a_session(GoalKind.SHOW)
        assert await deliver(stage, set_embedded_goal_ended, goal_event(GoalCompleted, GoalKind.SHOW)) == Done()
        assert (await pair_of_show())["show_ended"] == NOW

    async def test_an_exclusive_gives_the_stream_back(self, stage: Stage) -> None:
        await self.a_running_exclusive()
        assert await deliver(stage, set_embedded_goal_ended, goal_event(GoalEnded, GoalKind.EXCLUSIVE)) == Done()
        assert "exclusive_to" not in (await session_document())["status"]
        assert (await pair_of_exclusive())["exclusive_goal_ended"] == NOW
        assert TOKEN_VIEW in stage.cache.dropped

    async def test_a_newer_exclusive_keeps_the_stream(self, stage: Stage) -> None:
        await a_session(GoalKind.EXCLUSIVE, exclusive_goal_pairs={VIEWER: ExclusivePair(exclusive_goal=OTHER_GOAL)})
        await Session.start_exclusive(SESSION, VIEWER, OTHER_GOAL, STARTED)
        event = goal_event(GoalEnded, GoalKind.EXCLUSIVE)
        assert reason_of(await deliver(stage, set_embedded_goal_ended, event)) is Reason.NO_SESSION_PAIR
        assert (await session_document())["status"] == {"exclusive_to": VIEWER}

    async def test_returns_when_it_is_noted_already(self, stage: Stage) -> None:
        await a_session(GoalKind.SHOW)
        event = goal_event(GoalCompleted, GoalKind.SHOW)
        await deliver(stage, set_embedded_goal_ended, event)
        again = replace(event, at=NOW + timedelta(seconds=1))
        assert reason_of(await deliver(stage, set_embedded_goal_ended, again)) is Reason.ALREADY_DONE
        assert (await pair_of_show())["show_ended"] == NOW

    async def test_returns_at_a_lower_level(self, stage: Stage) -> None:
        await a_session(GoalKind.SHOW)
        event = goal_event(GoalCompleted, GoalKind.SHOW, Run.LOWER_LEVEL)
        assert reason_of(await deliver(stage, set_embedded_goal_ended, event)) is Reason.NOT_THE_LAST_LEVEL

    async def test_returns_for_a_show_that_nobody_paired(self, stage: Stage) -> None:
        await a_session(GoalKind.SHOW, show_goal_pairs=[])
        event = goal_event(GoalCompleted, GoalKind.SHOW)
        assert reason_of(await deliver(stage, set_embedded_goal_ended, event)) is Reason.NO_SESSION_PAIR

    async def test_returns_without_a_session(self, stage: Stage) -> None:
        event = without_session(goal_event(GoalCompleted, GoalKind.SHOW))
        assert reason_of(await deliver(stage, set_embedded_goal_ended, event)) is Reason.NO_SESSION

    async def test_returns_when_the_session_is_not_known(self, stage: Stage) -> None:
        event = goal_event(GoalCompleted, GoalKind.SHOW)
        assert reason_of(await deliver(stage, set_embedded_goal_ended, event)) is Reason.UNKNOWN_SESSION

    async def test_returns_for_an_exclusive_without_a_viewer(self, stage: Stage) -> None:
        event = without_viewer(goal_event(GoalEnded, GoalKind.EXCLUSIVE))
        assert reason_of(await deliver(stage, set_embedded_goal_ended, event)) is Reason.NO_VIEWER

    async def test_returns_for_other_kinds(self, stage: Stage) -> None:
        event = goal_event(GoalEnded, GoalKind.SHOW)
        assert reason_of(await deliver(stage, set_embedded_goal_ended, event)) is Reason.OTHER_GOAL_KIND

    async def test_a_second_delivery_changes_nothing(self, stage: Stage) -> None:
        await self.a_running_exclusive()
        outcome = await deliver_again(stage, set_embedded_goal_ended, goal_event(GoalEnded, GoalKind.EXCLUSIVE))
        assert reason_of(outcome) is Reason.NO_SESSION_PAIR


class TestCleanupExpiredExclusiveGoalPairs:
    def expired(self) -> GoalEnded:
        return goal_event(GoalEnded, GoalKind.EXCLUSIVE, progress=0)

    async def test_removes_the_pair_of_an_exclusive_that_was_not_performed(self, stage: Stage) -> None:
        await a_session(GoalKind.EXCLUSIVE)
        assert await deliver(stage, cleanup_expired_exclusive_goal_pairs, self.expired()) == Done("removed")
        assert (await session_document())["exclusive_goal_pairs"] == {}

    async def test_is_done_also_when_there_is_nothing_to_remove(self, stage: Stage) -> None:
        await a_session(GoalKind.EXCLUSIVE)
        event = goal_event(GoalEnded, GoalKind.EXCLUSIVE)
        assert await deliver(stage, cleanup_expired_exclusive_goal_pairs, event) == Done("nothing to remove")
        assert await pair_of_exclusive() == {"exclusive_goal": GOAL}

    async def test_keeps_the_pair_of_one_that_was_begun(self, stage: Stage) -> None:
        await a_session(GoalKind.EXCLUSIVE)
        await Session.start_exclusive(SESSION, VIEWER, GOAL, STARTED)
        outcome = await deliver(stage, cleanup_expired_exclusive_goal_pairs, self.expired())
        assert outcome == Done("nothing to remove")

    async def test_keeps_the_pair_of_a_newer_exclusive(self, stage: Stage) -> None:
        await a_session(GoalKind.EXCLUSIVE, exclusive_goal_pairs={VIEWER: ExclusivePair(exclusive_goal=OTHER_GOAL)})
        await deliver(stage, cleanup_expired_exclusive_goal_pairs, self.expired())
        assert await pair_of_exclusive() == {"exclusive_goal": OTHER_GOAL}

    async def test_returns_without_a_session(self, stage: Stage) -> None:
        outcome = await deliver(stage, cleanup_expired_exclusive_goal_pairs, without_session(self.expired()))
        assert reason_of(outcome) is Reason.NO_SESSION

    async def test_returns_without_a_viewer(self, stage: Stage) -> None:
        outcome = await deliver(stage, cleanup_expired_exclusive_goal_pairs, without_viewer(self.expired()))
        assert reason_of(outcome) is Reason.NO_VIEWER

    async def test_returns_for_other_kinds(self, stage: Stage) -> None:
        event = goal_event(GoalEnded, GoalKind.TRIGGER)
        outcome = await deliver(stage, cleanup_expired_exclusive_goal_pairs, event)
        assert reason_of(outcome) is Reason.OTHER_GOAL_KIND

    async def test_a_second_delivery_changes_nothing(self, stage: Stage) -> None:
        await a_session(GoalKind.EXCLUSIVE)
        outcome = await deliver_again(stage, cleanup_expired_exclusive_goal_pairs, self.expired())
        assert outcome == Done("nothing to remove")


class TestSyncTriggerGoalSessionViewer:
    async def window(self) -> dict[str, Any]:
        return dict((await session_document())["viewers"][VIEWER])

    async def test_opens_the_window_of_an_agreed_request(self, stage: Stage) -> None:
        await a_session(GoalKind.TRIGGER)
        event = goal_event(GoalEnded, GoalKind.TRIGGER)
        assert await deliver(stage, sync_trigger_goal_session_viewer, event) == Done()
        window = await self.window()
        assert window == {"nbf": NOW, "duration": 360, "goal_id": exclusive_of(ObjectId(event.goal_id))}  # no end yet
        assert stage.cache.dropped == [TOKEN_VIEW]

    async def test_closes_it_when_the_exclusive_ends(self, stage: Stage) -> None:
        await a_session(GoalKind.EXCLUSIVE)
        event = goal_event(GoalEnded, GoalKind.EXCLUSIVE, Run.SHORT, at=STARTED + timedelta(seconds=200))
        assert await deliver(stage, sync_trigger_goal_session_viewer, event) == Done()
        window, ended_at = await self.window(), STARTED + timedelta(seconds=200)
        assert (window["nbf"], window["exp"], window["duration"], window["closed"]) == (STARTED, ended_at, 120, True)
        assert stage.cache.dropped == [TOKEN_VIEW]

    async def test_the_late_end_of_an_earlier_exclusive_does_not_close_the_window_of_the_next(
        self, stage: Stage
    ) -> None:
        await a_session(GoalKind.EXCLUSIVE)
        following = {"goal_id": ObjectId(), "nbf": STARTED, "duration": 360}
        await Session.get_motor_collection().update_one({}, {"$set": {f"viewers.{VIEWER}": following}})
        assert (
            await deliver(stage, sync_trigger_goal_session_viewer, goal_event(GoalEnded, GoalKind.EXCLUSIVE)) == Done()
        )
        assert await self.window() == following

    async def test_never_prolongs_it(self, stage: Stage) -> None:
        await a_session(GoalKind.EXCLUSIVE)
        await deliver(stage, sync_trigger_goal_session_viewer, goal_event(GoalEnded, GoalKind.EXCLUSIVE))
        assert (await self.window())["exp"] == STARTED + timedelta(seconds=360)

    async def test_returns_for_a_request_that_was_declined(self, stage: Stage) -> None:
        await a_session(GoalKind.TRIGGER)
        event = goal_event(GoalEnded, GoalKind.TRIGGER, Run.SHORT)
        assert reason_of(await deliver(stage, sync_trigger_goal_session_viewer, event)) is Reason.NOT_AGREED

    async def test_returns_for_a_request_that_does_not_say_what_for(self, stage: Stage) -> None:
        await a_session(GoalKind.TRIGGER)
        event = goal_event(GoalEnded, GoalKind.TRIGGER)
        event = replace(event, metadata=event.metadata.model_copy(update={"exclusive": None}))
        assert reason_of(await deliver(stage, sync_trigger_goal_session_viewer, event)) is Reason.NO_EXCLUSIVE

    @pytest.mark.parametrize("kind", [GoalKind.TRIGGER, GoalKind.EXCLUSIVE])
    async def test_returns_without_a_viewer(self, stage: Stage, kind: GoalKind) -> None:
        event = without_viewer(goal_event(GoalEnded, kind))
        assert reason_of(await deliver(stage, sync_trigger_goal_session_viewer, event)) is Reason.NO_VIEWER

    @pytest.mark.parametrize("kind", [GoalKind.TRIGGER, GoalKind.EXCLUSIVE])
    async def test_returns_without_a_session(self, stage: Stage, kind: GoalKind) -> None:
        event = without_session(goal_event(GoalEnded, kind))
        assert reason_of(await deliver(stage, sync_trigger_goal_session_viewer, event)) is Reason.NO_SESSION

    @pytest.mark.parametrize("kind", [GoalKind.TRIGGER, GoalKind.EXCLUSIVE])
    async def test_returns_when_the_session_is_not_known(self, stage: Stage, kind: GoalKind) -> None:
        event = goal_event(GoalEnded, kind)
        assert reason_of(await deliver(stage, sync_trigger_goal_session_viewer, event)) is Reason.UNKNOWN_SESSION

    async def test_returns_for_other_kinds(self, stage: Stage) -> None:
        event = goal_event(GoalEnded, GoalKind.SHOW)
        assert reason_of(await deliver(stage, sync_trigger_goal_session_viewer, event)) is Reason.OTHER_GOAL_KIND

    @pytest.mark.parametrize("kind", [GoalKind.TRIGGER, GoalKind.EXCLUSIVE])
    async def test_a_second_delivery_changes_nothing(self, stage: Stage, kind: GoalKind) -> None:
        await a_session(kind)
        assert await deliver_again(stage, sync_trigger_goal_session_viewer, goal_event(GoalEnded, kind)) == Done()


class TestUpdateAndNotifySessionKaraokeGoal:
    receiver: Receiver = update_and_notify_session_karaoke_goal

    def sung(self, progress: int, **changes: Any) -> GoalProgressed:
        return goal_event(GoalProgressed, GoalKind.KARAOKE, progress=progress, **changes)

    async def score(self) -> dict[str, Any]:
        return dict((await session_document())["karaoke_goal"])

    async def test_shows_the_score_and_tells_the_stream(self, stage: Stage) -> None:
        await a_session(GoalKind.KARAOKE)
        outcome = await deliver(stage, self.receiver, self.sung(60))
        assert outcome == Done("session.karaoke_goal.updated")
        levels = [{"title": "A KaraokeGoal", "target": 180}]
        assert await self.score() == {"id": GOAL, "progress": 60, "levels": levels, "active": True}
        (notice,) = stage.notifier.notices
        assert notice.channels == (f"private-stream@{STREAMER}", f"presence-stream@{STREAMER}")
        assert notice.event == "session.karaoke_goal.updated"
        assert notice.data["karaoke_goal"] == {"id": str(GOAL), "progress": 60, "levels": levels, "active": True}
        assert notice.data["event_id"] == "e1"

    async def test_at_its_target_the_goal_is_shown_as_over(self, stage: Stage) -> None:
        await a_session(GoalKind.KARAOKE)
        await deliver(stage, self.receiver, self.sung(180))
        assert (await self.score())["active"] is False

    async def test_takes_the_place_of_another_goals_score(self, stage: Stage) -> None:
        await a_session(GoalKind.KARAOKE, karaoke_goal=SessionKaraoke(id=OTHER_GOAL, progress=900))
        await deliver(stage, self.receiver, self.sung(60))
        assert (await self.score())["progress"] == 60

    async def test_returns_when_a_later_score_is_shown(self, stage: Stage) -> None:
        await a_session(GoalKind.KARAOKE, karaoke_goal=SessionKaraoke(id=GOAL, progress=61))
        assert reason_of(await deliver(stage, self.receiver, self.sung(60))) is Reason.OVERTAKEN
        assert (await self.score())["progress"] == 61
        assert stage.notifier.notices == []

    async def test_owes_the_notice_that_pusher_would_not_take(self, stage: Stage) -> None:
        await a_session(GoalKind.KARAOKE)
        stage.notifier.refuse()
        follow_up = debt_of(await deliver(stage, self.receiver, self.sung(60)))
        assert (follow_up.id, follow_up.task) == ("session.karaoke_goal.updated:e1", "deliver_notice")

    async def test_returns_without_a_session(self, stage: Stage) -> None:
        outcome = await deliver(stage, self.receiver, without_session(self.sung(60)))
        assert reason_of(outcome) is Reason.NO_SESSION

    async def test_returns_when_the_session_is_not_known(self, stage: Stage) -> None:
        assert reason_of(await deliver(stage, self.receiver, self.sung(60))) is Reason.UNKNOWN_SESSION

    async def test_returns_for_other_kinds(self, stage: Stage) -> None:
        outcome = await deliver(stage, self.receiver, goal_event(GoalProgressed, GoalKind.SHOW))
        assert reason_of(outcome) is Reason.OTHER_GOAL_KIND

    async def test_a_second_delivery_changes_nothing(self, stage: Stage) -> None:
        await a_session(GoalKind.KARAOKE)
        await deliver_again(stage, self.receiver, self.sung(60))
        assert len(stage.notifier.notices) == 2  # a crash may have come between the score and its notice


class TestInvalidateCachedPusherChannelData:
    @pytest.mark.parametrize("event", [GoalProgressed, GoalEnded])
    async def test_drops_what_the_streamers_channels_show(self, stage: Stage, event: type[Any]) -> None:
        outcome = await deliver(stage, invalidate_cached_pusher_channel_data, goal_event(event, GoalKind.SHOW))
        assert outcome == Done()
        assert set(stage.cache.dropped) == CHANNEL_VIEWS

    async def test_a_second_delivery_changes_nothing(self, stage: Stage) -> None:
        event = goal_event(GoalEnded, GoalKind.SHOW)
        assert await deliver_again(stage, invalidate_cached_pusher_channel_data, event) == Done()
