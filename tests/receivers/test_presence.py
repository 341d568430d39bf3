"""Joins and leaves: the goal's clock, who is online, who watches."""

from datetime import timedelta

import pytest

from goalsvc.domain.goals import GoalKind
from goalsvc.domain.outcome import Done, Reason
from goalsvc.models.goal import Goal
from goalsvc.models.user import User
from goalsvc.receivers.presence import karaoke_control, trigger_online, trigger_user_enter
from goalsvc.signals.events import PresenceEvent

from .delivery import debt_of, deliver, deliver_again, reason_of
from .fakes import NOW, Stage
from .scenes import GOAL, PAUSED, STARTED, STRANGER, STREAMER, VIEWER, a_goal, goal_document, joined, left

STREAM = f"presence-stream@{STREAMER}"
USER = f"private-user@{STREAMER}"
PERFORMED_KINDS = [GoalKind.SHOW, GoalKind.KARAOKE, GoalKind.EXCLUSIVE]


class TestTriggerUserEnter:
    @pytest.mark.parametrize(
        ("event", "name"), [(joined(STREAM, VIEWER), "user.entered"), (left(STREAM, VIEWER), "user.left")]
    )
    async def test_owes_the_stream_word(self, stage: Stage, event: PresenceEvent, name: str) -> None:
        follow_up = debt_of(await deliver(stage, trigger_user_enter, event))
        assert follow_up.id == f"{name}:e1"
        assert (follow_up.task, follow_up.arguments["event"]) == ("deliver_notice", name)
        assert follow_up.arguments["channels"] == [f"private-stream@{STREAMER}", f"presence-stream@{STREAMER}"]
        assert follow_up.arguments["data"]["user_id"] == VIEWER
        assert follow_up.arguments["data"]["event_id"] == "e1"

    async def test_tells_nothing_at_once(self, stage: Stage) -> None:
        """The webhook's answer must not wait for Pusher's."""
        await deliver(stage, trigger_user_enter, joined(STREAM, VIEWER))
        assert stage.notifier.notices == []

    async def test_returns_when_no_user_is_named(self, stage: Stage) -> None:
        assert reason_of(await deliver(stage, trigger_user_enter, joined(STREAM, None))) is Reason.NO_USER

    async def test_returns_for_a_channel_that_is_no_streams(self, stage: Stage) -> None:
        outcome = await deliver(stage, trigger_user_enter, joined(USER, STREAMER))
        assert reason_of(outcome) is Reason.NOT_A_STREAM_CHANNEL

    async def test_a_second_delivery_changes_nothing(self, stage: Stage) -> None:
        await deliver_again(stage, trigger_user_enter, joined(STREAM, VIEWER))


class TestTriggerOnline:
    async def user(self) -> User:
        user = await User.by_id(STREAMER)
        assert user is not None
        return user

    async def test_notes_that_a_user_came(self, stage: Stage) -> None:
        await User(id=STREAMER).insert()
        assert await deliver(stage, trigger_online, joined(USER)) == Done("online")
        user = await self.user()
        assert (user.online, user.last_seen) == (True, NOW)

    async def test_notes_that_a_user_went(self, stage: Stage) -> None:
        await User(id=STREAMER, online=True, last_seen=STARTED).insert()
        assert await deliver(stage, trigger_online, left(USER)) == Done("offline")
        user = await self.user()
        assert (user.online, user.last_seen) == (False, NOW)

    async def test_returns_when_something_later_is_known(self, stage: Stage) -> None:
        await User(id=STREAMER, online=True, last_seen=NOW).insert()
        outcome = await deliver(stage, trigger_online, left(USER, at=NOW - timedelta(milliseconds=1)))
        assert reason_of(outcome) is Reason.OVERTAKEN
        assert (await self.user()).online is True

    async def test_returns_for_a_user_who_is_not_known(self, stage: Stage) -> None:
        assert reason_of(await deliver(stage, trigger_online, joined(USER))) is Reason.UNKNOWN_USER
        assert await stage.everything() == {}

    async def test_returns_for_a_channel_that_is_no_users(self, stage: Stage) -> None:
        assert reason_of(await deliver(stage, trigger_online, joined(STREAM))) is Reason.NOT_A_USER_CHANNEL

    async def test_a_second_delivery_changes_nothing(self, stage: Stage) -> None:
        await User(id=STREAMER).insert()
        assert reason_of(await deliver_again(stage, trigger_online, joined(USER))) is Reason.OVERTAKEN


class TestKaraokeControl:
    @pytest.mark.parametrize("kind", PERFORMED_KINDS)
    async def test_a_join_starts_the_clock_and_owes_word_of_it(self, stage: Stage, kind: GoalKind) -> None:
        await a_goal(kind)
        assert await deliver(stage, karaoke_control, joined()) == Done("started")
        goal = await goal_document()
        assert goal["context"]["started"] == goal["context"]["last_updated"] == NOW
        assert [promise["task"] for promise in goal["promises"]] == ["announce_goal_started"]
        assert stage.queue.tasks() == ["announce_goal_started"]

    @pytest.mark.parametrize("kind", PERFORMED_KINDS)
    async def test_a_leave_pauses_it_and_owes_the_seconds(self, stage: Stage, kind: GoalKind) -> None:
        await a_goal(kind, running=True)
        assert await deliver(stage, karaoke_control, left()) == Done("500 s performed")
        goal = await goal_document()
        assert goal["context"]["paused"] == goal["context"]["last_updated"] == NOW
        (promise,) = goal["promises"]
        assert promise["task"] == "increment_goal_progress"
        assert promise["arguments"] == {"goal_id": str(GOAL), "amount": 500, "event_id": "e1"}
        assert [job.id for job in stage.queue.jobs] == [f"goals/{GOAL}/e1"]

    async def test_progress_is_the_tasks_business(self, stage: Stage) -> None:
        before = await a_goal(GoalKind.SHOW, running=True)
        await deliver(stage, karaoke_control, left())
        assert (await goal_document())["progress"] == before.progress

    async def test_a_leave_that_overtook_its_join_counts_when_the_join_comes(self, stage: Stage) -> None:
        await a_goal(GoalKind.SHOW, context={})
        leave, join = left(at=NOW), joined(at=NOW - timedelta(seconds=40))
        assert reason_of(await deliver(stage, karaoke_control, leave)) is Reason.NOT_RUNNING
        assert await deliver(stage, karaoke_control, join) == Done("40 s performed")

    async def test_a_viewer_alone_does_not_start_their_exclusive(self, stage: Stage) -> None:
        await a_goal(GoalKind.EXCLUSIVE)
        assert reason_of(await deliver(stage, karaoke_control, joined(user_id=VIEWER))) is Reason.NOT_RUNNING

    @pytest.mark.parametrize("kind", PERFORMED_KINDS)
    async def test_returns_for_a_stranger(self, stage: Stage, kind: GoalKind) -> None:
        await a_goal(kind)
        before = await goal_document()
        outcome = await deliver(stage, karaoke_control, joined(user_id=STRANGER))
        assert reason_of(outcome) is Reason.NOT_A_PARTICIPANT
        assert await goal_document() == before

    async def test_returns_for_the_viewer_of_a_show(self, stage: Stage) -> None:
        await a_goal(GoalKind.SHOW)
        outcome = await deliver(stage, karaoke_control, joined(user_id=VIEWER))
        assert reason_of(outcome) is Reason.NOT_A_PARTICIPANT

    async def test_an_event_that_names_nobody_concerns_every_goal(self, stage: Stage) -> None:
        await a_goal(GoalKind.SHOW)
        assert await deliver(stage, karaoke_control, joined(user_id=None)) == Done("started")

    async def test_returns_when_a_join_finds_the_clock_running(self, stage: Stage) -> None:
        await a_goal(GoalKind.SHOW, running=True)
        assert reason_of(await deliver(stage, karaoke_control, joined())) is Reason.ALREADY_RUNNING
        assert (await goal_document())["context"]["started"] == STARTED

    async def test_returns_when_a_leave_finds_it_paused(self, stage: Stage) -> None:
        await a_goal(GoalKind.SHOW)
        assert reason_of(await deliver(stage, karaoke_control, left())) is Reason.NOT_RUNNING
        assert (await goal_document())["context"]["paused"] == PAUSED

    @pytest.mark.parametrize("event", [joined(), left()])
    async def test_returns_for_a_goal_that_has_ended(self, stage: Stage, event: PresenceEvent) -> None:
        await a_goal(GoalKind.SHOW, active=False)
        before = await goal_document()
        assert reason_of(await deliver(stage, karaoke_control, event)) is Reason.GOAL_INACTIVE
        assert await goal_document() == before

    async def test_a_leave_counts_in_a_goal_that_another_service_ended_while_its_clock_ran(self, stage: Stage) -> None:
        await a_goal(GoalKind.SHOW, running=True, active=False)
        assert await deliver(stage, karaoke_control, left()) == Done("500 s performed")

    @pytest.mark.parametrize("kind", [GoalKind.FUNDING, GoalKind.TRIGGER])
    async def test_returns_for_goals_without_a_clock(self, stage: Stage, kind: GoalKind) -> None:
        await a_goal(kind)
        assert reason_of(await deliver(stage, karaoke_control, joined())) is Reason.OTHER_GOAL_KIND

    @pytest.mark.parametrize("goal_id", [str(GOAL), "no-id"])
    async def test_returns_for_a_goal_that_is_not_known(self, stage: Stage, goal_id: str) -> None:
        event = joined(f"presence-enc-goal@{goal_id}")
        assert reason_of(await deliver(stage, karaoke_control, event)) is Reason.UNKNOWN_GOAL

    async def test_returns_for_a_channel_that_is_no_goals(self, stage: Stage) -> None:
        assert reason_of(await deliver(stage, karaoke_control, joined(STREAM))) is Reason.NOT_A_GOAL_CHANNEL

    @pytest.mark.parametrize(("event", "running"), [(joined(), False), (left(), True)])
    async def test_a_second_delivery_changes_nothing(self, stage: Stage, event: PresenceEvent, running: bool) -> None:
        await a_goal(GoalKind.SHOW, running=running)
        outcome = await deliver_again(stage, karaoke_control, event)
        assert reason_of(outcome) in {Reason.ALREADY_RUNNING, Reason.NOT_RUNNING}
        assert len(stage.queue.jobs) == 1

    async def test_its_twin_changes_only_when_it_was_last_updated(self, stage: Stage) -> None:
        await a_goal(GoalKind.SHOW, running=True)
        await deliver(stage, karaoke_control, left())
        before = await Goal.by_id(GOAL)
        twin = left(user_id=None, at=NOW + timedelta(milliseconds=4))
        assert reason_of(await deliver(stage, karaoke_control, twin)) is Reason.NOT_RUNNING
        after = await Goal.by_id(GOAL)
        assert before is not None
        assert after is not None
        assert (after.context.paused, after.promises) == (before.context.paused, before.promises)
