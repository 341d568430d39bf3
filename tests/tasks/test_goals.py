"""Progress and ends: what workers do to a goal."""

from datetime import timedelta
from typing import Any

import pytest
from bson import ObjectId

from goalsvc.domain.channels import goal_channel
from goalsvc.domain.goals import GoalKind
from goalsvc.domain.origin import NOWHERE
from goalsvc.domain.outcome import Done, Reason, Returned
from goalsvc.domain.promises import Job, Promise
from goalsvc.errors import NotYetError
from goalsvc.models.database import WITH_PROMISES
from goalsvc.models.goal import ENDED, Goal
from goalsvc.models.user import User
from goalsvc.receivers.presence import karaoke_control
from goalsvc.tasks import ALL, sweep_promises
from goalsvc.tasks.ending import deactivate_goal, end_session, expire_goals
from goalsvc.tasks.progress import announce_goal_started, increment_goal_progress
from goalsvc.tasks.runner import Runner
from tests.receivers.fakes import NOW, Stage
from tests.receivers.scenes import (
    GOAL,
    PAUSED,
    SESSION,
    STARTED,
    STREAMER,
    a_goal,
    a_session,
    goal_document,
    left,
    set_up,
)

RUNNER = Runner(ALL, WITH_PROMISES)


def sent(stage: Stage) -> list[str]:
    """Senders of what was said of the goal, in order."""
    return [record["name"] for record in stage.recorder.tracked.values() if "goal_id" in record]


async def promises() -> list[str]:
    return [promise["id"] for promise in (await goal_document()).get("promises", [])]


async def run(stage: Stage, task: str) -> None:
    """Runs the one job of that task that waits."""
    (job,) = [job for job in stage.queue.take() if job.task == task]
    assert await RUNNER.run(stage.context, job, 1) is None


class TestIncrementGoalProgress:
    async def a_pause(self, stage: Stage) -> None:
        await set_up(GoalKind.SHOW, running=True)
        await karaoke_control(stage.context, left())

    async def test_adds_the_amount_and_announces_it(self, stage: Stage) -> None:
        await self.a_pause(stage)
        await run(stage, "increment_goal_progress")
        assert (await goal_document())["progress"] == 500
        assert sent(stage) == ["goal.progressed", "goal.completed"]

    async def test_what_its_receivers_owe_takes_the_promises_place(self, stage: Stage) -> None:
        await self.a_pause(stage)
        await run(stage, "increment_goal_progress")
        assert sorted(await promises()) == [
            "StopRecord",
            "create_post_from_livestream",
            "deactivate_goal",
            "escrow_out",
        ]

    async def test_adds_it_once_however_often_it_runs(self, stage: Stage) -> None:
        await self.a_pause(stage)
        arguments: dict[str, Any] = {"goal_id": str(GOAL), "amount": 500, "event_id": "e1"}
        for _ in range(3):
            assert isinstance(await increment_goal_progress(stage.context, **arguments), Done)
        assert (await goal_document())["progress"] == 500

    async def test_returns_once_its_promise_is_paid(self, stage: Stage) -> None:
        await self.a_pause(stage)
        (job,) = stage.queue.jobs
        await RUNNER.run(stage.context, job, 1)
        outcome = await increment_goal_progress(stage.context, **job.arguments)
        assert outcome == Returned(Reason.ALREADY_COUNTED)

    async def test_counts_what_is_promised_whatever_the_job_says(self, stage: Stage) -> None:
        """Whoever can write to Redis cannot make seconds."""
        await self.a_pause(stage)
        forged = Job("j", "increment_goal_progress", {"goal_id": str(GOAL), "amount": 10**6, "event_id": "e1"})
        await RUNNER.run(stage.context, forged, 1)
        assert (await goal_document())["progress"] == 500

    async def test_returns_for_a_goal_that_is_gone(self, stage: Stage) -> None:
        outcome = await increment_goal_progress(stage.context, goal_id=str(GOAL), amount=1, event_id="e")
        assert outcome == Returned(Reason.UNKNOWN_GOAL)


class TestAnnounceGoalStarted:
    async def test_sends_it_as_of_when_it_happened(self, stage: Stage) -> None:
        await set_up(GoalKind.SHOW, running=True)
        outcome = await announce_goal_started(stage.context, goal_id=str(GOAL), event_id="e", at=STARTED)
        assert isinstance(outcome, Done)
        (record,) = stage.recorder.tracked.values()
        assert (record["name"], record["at"]) == ("goal.started", STARTED)

    async def test_returns_for_a_goal_that_is_gone(self, stage: Stage) -> None:
        outcome = await announce_goal_started(stage.context, goal_id=str(GOAL), event_id="e", at=STARTED)
        assert outcome == Returned(Reason.UNKNOWN_GOAL)


class TestDeactivateGoal:
    async def test_ends_the_goal_and_announces_it(self, stage: Stage) -> None:
        await set_up(GoalKind.SHOW)
        outcome = await deactivate_goal(stage.context, goal_id=str(GOAL))
        assert isinstance(outcome, Done)
        assert (outcome.what, outcome.fulfils) == ("progress 360", ENDED)
        goal = await goal_document()
        assert (goal["active"], goal["exp"]) == (False, NOW)
        assert sent(stage) == ["goal.ended"]

    async def test_exp_is_never_put_off(self, stage: Stage) -> None:
        await set_up(GoalKind.SHOW)
        earlier = NOW - timedelta(minutes=5)
        await Goal.get_motor_collection().update_one({"_id": GOAL}, {"$set": {"exp": earlier}})
        await deactivate_goal(stage.context, goal_id=str(GOAL))
        assert (await goal_document())["exp"] == earlier

    async def test_a_clock_that_runs_is_paused_first_and_its_seconds_count(self, stage: Stage) -> None:
        await set_up(GoalKind.SHOW, running=True)
        stage.notifier.users[goal_channel(str(GOAL))] = [STREAMER]
        with pytest.raises(NotYetError):
            await deactivate_goal(stage.context, goal_id=str(GOAL))
        assert (await goal_document())["context"]["paused"] == NOW
        assert sent(stage) == []
        await run(stage, "increment_goal_progress")
        await deactivate_goal(stage.context, goal_id=str(GOAL))
        assert (await goal_document())["progress"] == 500
        assert sent(stage) == ["goal.progressed", "goal.completed", "goal.ended"]

    async def test_a_goal_ends_once(self, stage: Stage) -> None:
        await set_up(GoalKind.KARAOKE)
        job = Job(f"goals/{GOAL}/deactivate_goal", "deactivate_goal", {"goal_id": str(GOAL)})
        await RUNNER.run(stage.context, job, 1)
        assert await deactivate_goal(stage.context, goal_id=str(GOAL)) == Returned(Reason.ALREADY_DONE)
        assert sent(stage) == ["goal.ended"]

    async def test_after_a_crash_before_the_announcement_it_announces(self, stage: Stage) -> None:
        await set_up(GoalKind.KARAOKE)
        await Goal.deactivate(GOAL, NOW, NOWHERE)
        outcome = await deactivate_goal(stage.context, goal_id=str(GOAL))
        assert isinstance(outcome, Done)
        assert sent(stage) == ["goal.ended"]

    async def test_an_exclusive_without_levels_is_completed_by_its_end(self, stage: Stage) -> None:
        await set_up(GoalKind.EXCLUSIVE)
        await Goal.get_motor_collection().update_one({"_id": GOAL}, {"$set": {"levels": [], "progress": 77}})
        await deactivate_goal(stage.context, goal_id=str(GOAL))
        assert sorted(sent(stage)) == ["goal.completed", "goal.ended"]

    async def test_but_not_when_it_was_not_performed(self, stage: Stage) -> None:
        await set_up(GoalKind.EXCLUSIVE)
        await Goal.get_motor_collection().update_one({"_id": GOAL}, {"$set": {"levels": [], "progress": 0}})
        await deactivate_goal(stage.context, goal_id=str(GOAL))
        assert sent(stage) == ["goal.ended"]

    async def test_returns_for_a_goal_that_is_gone(self, stage: Stage) -> None:
        assert await deactivate_goal(stage.context, goal_id=str(GOAL)) == Returned(Reason.UNKNOWN_GOAL)


class TestResumeGrace:
    """`deactivate_goal` with `paused_since`: an exclusive that stays paused."""

    async def test_ends_one_that_is_still_paused_since_then(self, stage: Stage) -> None:
        await set_up(GoalKind.EXCLUSIVE)
        assert isinstance(await deactivate_goal(stage.context, goal_id=str(GOAL), paused_since=PAUSED), Done)

    @pytest.mark.parametrize(
        "times",
        [
            pytest.param({"context.started": NOW}, id="it runs again"),
            pytest.param({"context.paused": NOW}, id="it ran and is paused again"),
        ],
    )
    async def test_returns_when_it_was_resumed(self, stage: Stage, times: dict[str, Any]) -> None:
        await set_up(GoalKind.EXCLUSIVE)
        await Goal.get_motor_collection().update_one({"_id": GOAL}, {"$set": times})
        outcome = await deactivate_goal(stage.context, goal_id=str(GOAL), paused_since=PAUSED)
        assert outcome == Returned(Reason.RESUMED)
        assert (await goal_document())["active"] is True


class TestExpireGoals:
    @pytest.mark.parametrize(("after", "ended"), [(-60, True), (0, True), (1, False)])
    async def test_ends_what_has_expired(self, stage: Stage, after: int, ended: bool) -> None:
        await a_goal(GoalKind.FUNDING, exp=NOW + timedelta(seconds=after))
        outcome = await expire_goals(stage.context)
        assert outcome == (Done("1 goals") if ended else Returned(Reason.ALREADY_DONE))
        assert (await goal_document())["active"] is not ended
        assert stage.queue.tasks() == (["deactivate_goal"] if ended else [])

    async def test_not_what_never_expires(self, stage: Stage) -> None:
        await a_goal(GoalKind.FUNDING)
        assert await expire_goals(stage.context) == Returned(Reason.ALREADY_DONE)

    async def test_once(self, stage: Stage) -> None:
        await a_goal(GoalKind.FUNDING, exp=NOW)
        await expire_goals(stage.context)
        assert await expire_goals(stage.context) == Returned(Reason.ALREADY_DONE)

    async def test_the_end_is_announced_by_the_job_that_it_hurries(self, stage: Stage) -> None:
        await set_up(GoalKind.FUNDING)
        await Goal.get_motor_collection().update_one({"_id": GOAL}, {"$set": {"exp": NOW}})
        await expire_goals(stage.context)
        await run(stage, "deactivate_goal")
        assert sent(stage) == ["goal.ended"]


class TestEndSession:
    async def test_ends_its_open_goals(self, stage: Stage) -> None:
        await a_session(GoalKind.SHOW)
        await a_goal(GoalKind.SHOW)
        await a_goal(GoalKind.KARAOKE, id=ObjectId(), active=False)
        await a_goal(GoalKind.KARAOKE, id=ObjectId(), conditions={"session_id": ObjectId()})
        assert await end_session(stage.context, session_id=str(SESSION)) == Done("1 goals")
        assert (await goal_document())["active"] is False

    async def test_also_those_that_name_it_by_a_hex_string(self, stage: Stage) -> None:
        await a_goal(GoalKind.SHOW)
        named = {"$set": {"conditions.session_id": str(SESSION)}}
        await Goal.get_motor_collection().update_one({"_id": GOAL}, named)
        assert await end_session(stage.context, session_id=str(SESSION)) == Done("1 goals")

    async def test_returns_when_there_is_none(self, stage: Stage) -> None:
        assert await end_session(stage.context, session_id=str(SESSION)) == Returned(Reason.ALREADY_DONE)


class TestSweepPromises:
    def promise(self, seconds_ago: float) -> Promise:
        at = NOW - timedelta(seconds=seconds_ago)
        return Promise(id=f"p{seconds_ago}", task="deliver_notice", arguments={}, at=at, parent="s#x/y")

    async def test_enqueues_what_is_overdue(self, stage: Stage) -> None:
        await a_goal(GoalKind.SHOW, promises=[self.promise(60), self.promise(5), self.promise(4), self.promise(-60)])
        assert await sweep_promises(stage.context) == Done("2 promises")
        assert [job.id for job in stage.queue.jobs] == [f"goals/{GOAL}/p60", f"goals/{GOAL}/p5"]
        assert stage.queue.jobs[0].origin.parent == "s#x/y"
        assert stage.queue.flushed

    async def test_of_every_document_that_can_owe(self, stage: Stage) -> None:
        await a_goal(GoalKind.SHOW, promises=[self.promise(60)])
        await a_session(GoalKind.SHOW, promises=[self.promise(60)])
        await User(id="u", promises=[self.promise(60)]).insert()
        assert await sweep_promises(stage.context) == Done("3 promises")
        assert {job.id.partition("/")[0] for job in stage.queue.jobs} == {"goals", "sessions", "users"}

    async def test_changes_nothing(self, stage: Stage) -> None:
        await a_goal(GoalKind.SHOW, promises=[self.promise(60)])
        before = await stage.everything()
        await sweep_promises(stage.context)
        await sweep_promises(stage.context)
        assert await stage.everything() == before
        assert len(stage.queue.jobs) == 1

    async def test_returns_when_nothing_is_owed(self, stage: Stage) -> None:
        await a_goal(GoalKind.SHOW)
        assert await sweep_promises(stage.context) == Returned(Reason.ALREADY_DONE)
