"""The cloud recording of a show, and the snapshots of an exclusive."""

from goalsvc.domain.goals import GoalKind
from goalsvc.domain.outcome import Reason
from goalsvc.receivers.recording import record_show_with_rtc, snapshot_rtc_sources
from goalsvc.signals.events import GoalCompleted, GoalEnded, GoalStarted

from .delivery import debt_of, deliver, deliver_again, reason_of
from .fakes import Stage
from .scenes import GOAL, SESSION, Run, clock_times, goal_event, without_session

ARGUMENTS = {"goal_id": str(GOAL), "session_id": str(SESSION)}


class TestRecordShowWithRtc:
    async def test_owes_the_start_when_a_show_starts(self, stage: Stage) -> None:
        follow_up = debt_of(await deliver(stage, record_show_with_rtc, goal_event(GoalStarted, GoalKind.SHOW)))
        assert (follow_up.task, follow_up.arguments) == ("StartRecord", ARGUMENTS)

    async def test_owes_the_stop_when_it_is_completed(self, stage: Stage) -> None:
        follow_up = debt_of(await deliver(stage, record_show_with_rtc, goal_event(GoalCompleted, GoalKind.SHOW)))
        assert (follow_up.task, follow_up.arguments) == ("StopRecord", ARGUMENTS)

    async def test_returns_when_the_show_has_stopped_meanwhile(self, stage: Stage) -> None:
        """A start that is announced late must not start a recording that nobody stops."""
        event = goal_event(GoalStarted, GoalKind.SHOW, context=clock_times(GoalKind.SHOW))
        assert reason_of(await deliver(stage, record_show_with_rtc, event)) is Reason.NOT_RUNNING

    async def test_returns_at_a_lower_level(self, stage: Stage) -> None:
        event = goal_event(GoalCompleted, GoalKind.SHOW, Run.LOWER_LEVEL)
        assert reason_of(await deliver(stage, record_show_with_rtc, event)) is Reason.NOT_THE_LAST_LEVEL

    async def test_returns_without_a_session(self, stage: Stage) -> None:
        event = without_session(goal_event(GoalStarted, GoalKind.SHOW))
        assert reason_of(await deliver(stage, record_show_with_rtc, event)) is Reason.NO_SESSION

    async def test_returns_for_other_kinds(self, stage: Stage) -> None:
        event = goal_event(GoalStarted, GoalKind.KARAOKE)
        assert reason_of(await deliver(stage, record_show_with_rtc, event)) is Reason.OTHER_GOAL_KIND

    async def test_a_second_delivery_changes_nothing(self, stage: Stage) -> None:
        await deliver_again(stage, record_show_with_rtc, goal_event(GoalStarted, GoalKind.SHOW))


class TestSnapshotRtcSources:
    async def test_owes_the_snapshots(self, stage: Stage) -> None:
        follow_up = debt_of(await deliver(stage, snapshot_rtc_sources, goal_event(GoalEnded, GoalKind.EXCLUSIVE)))
        assert (follow_up.task, follow_up.arguments) == ("StartSnapshot", ARGUMENTS)

    async def test_returns_without_a_session(self, stage: Stage) -> None:
        event = without_session(goal_event(GoalEnded, GoalKind.EXCLUSIVE))
        assert reason_of(await deliver(stage, snapshot_rtc_sources, event)) is Reason.NO_SESSION

    async def test_returns_for_other_kinds(self, stage: Stage) -> None:
        event = goal_event(GoalEnded, GoalKind.SHOW)
        assert reason_of(await deliver(stage, snapshot_rtc_sources, event)) is Reason.OTHER_GOAL_KIND

    async def test_a_second_delivery_changes_nothing(self, stage: Stage) -> None:
        await deliver_again(stage, snapshot_rtc_sources, goal_event(GoalEnded, GoalKind.EXCLUSIVE))
