"""Periodic tasks meet a document that they cannot use: the others are handled all the same, and the fault is logged once."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
from bson import ObjectId

from goalsvc.domain.moves import Move, Moved
from goalsvc.domain.outcome import Reason
from goalsvc.models.clocks import GoalClocks
from goalsvc.models.goal import Goal
from tests.world import World

from .scenes import a_funded_show, a_stage

pytestmark = pytest.mark.real

EXTENDED_JSON = {"$oid": "68143584d6945d32e732cc2f"}


@contextmanager
def failing_for(monkeypatch: pytest.MonkeyPatch, identity: ObjectId) -> Iterator[None]:
    """A mistake of ours that one goal brings to light: it can neither be ended nor moved."""
    end, move = Goal.deactivate, GoalClocks.move

    async def deactivate(goal_id: Any, *given: Any, **more: Any) -> Goal | None:
        if goal_id == identity:
            raise AttributeError("nothing of that name")
        ended: Goal | None = await end(goal_id, *given, **more)
        return ended

    async def moved(self: GoalClocks, asked: Move) -> Moved | Reason:
        if asked.goal_id == identity:
            raise AttributeError("nothing of that name")
        return await move(self, asked)

    with monkeypatch.context() as patched:
        patched.setattr(Goal, "deactivate", deactivate)
        patched.setattr(GoalClocks, "move", moved)
        yield


def faults(caplog: pytest.LogCaptureFixture, identity: object) -> list[str]:
    """What was logged of that document by the loops of periodic tasks."""
    ours = [record for record in caplog.records if record.name == "goalsvc.tasks.one_by_one"]
    return [record.getMessage() for record in ours if str(identity) in record.getMessage()]


async def ticks(world: World, task: str, times: int = 2) -> None:
    for _ in range(times):
        await world.tick(task)
    assert world.all("dead_letters") == [], "the run does not fail"


def open_goal(at: datetime, **fields: Any) -> dict[str, Any]:
    goal = {"_id": ObjectId(), "_cls": "Goal.ShowGoal", "active": True, "progress": 0, "metadata": {"user_id": "zed"}}
    return goal | {"begin_by": at, "created_at": at, **fields}


class TestAFault:
    @pytest.mark.parametrize(("task", "due"), [("expire_goals", "exp"), ("expire_unbegun_shows", "begin_by")])
    async def test_of_one_goal_lets_the_others_end(
        self, world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, task: str, due: str
    ) -> None:
        at = world.clock.now() - timedelta(hours=1)
        odd, *good = [open_goal(at + timedelta(seconds=n), **{due: at + timedelta(seconds=n)}) for n in range(4)]
        world.database.goals.insert_many([odd, *good])
        with failing_for(monkeypatch, odd["_id"]):
            await ticks(world, task)
        assert [world.goal(str(one["_id"]))["active"] for one in (odd, *good)] == [True, False, False, False]
        (fault,) = faults(caplog, odd["_id"])
        assert fault == f"goals/{odd['_id']} is not ended: AttributeError: nothing of that name"
        await ticks(world, task, 1)
        assert not world.goal(str(odd["_id"]))["active"], "once it can be ended, it is"
        with failing_for(monkeypatch, odd["_id"]):
            world.database.goals.update_one({"_id": odd["_id"]}, {"$set": {"active": True, due: at}})
            await ticks(world, task, 1)
        assert len(faults(caplog, odd["_id"])) == 2, "a fault that comes back is logged anew"
        world.database.goals.delete_one({"_id": odd["_id"]})

    @pytest.mark.parametrize("counted", [True, False])
    async def test_of_one_clock_lets_the_others_be_paused(
        self, world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, counted: bool
    ) -> None:
        world.notifier.counts = counted
        shows = [await world.given(a_funded_show(seconds=360, earnings=1)) for _ in range(3)]
        for show in shows:
            await world.performer_joins(show)
        await world.settle()
        world.notifier.users = {}
        odd = ObjectId(shows[0].id)
        with failing_for(monkeypatch, odd):
            for _ in range(40):
                await world.after(seconds=30)
                await ticks(world, "reconcile_clocks", 1)
        assert [world.goal(show)["clock"]["running"] for show in shows] == [True, False, False]
        assert len(faults(caplog, odd)) == 1
        await ticks(world, "reconcile_clocks", 1)
        await world.settle()

    async def test_that_concerns_all_ends_the_run(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        at, asked = world.clock.now() - timedelta(hours=1), list[object]()
        world.database.goals.insert_many([open_goal(at) for _ in range(3)])

        async def deactivate(goal_id: object, *_given: Any, **_more: Any) -> Goal | None:
            asked.append(goal_id)
            raise TimeoutError("the database does not answer")

        with monkeypatch.context() as patched:
            patched.setattr(Goal, "deactivate", deactivate)
            await world.tick("expire_unbegun_shows")
        assert len(asked) == 1
        world.database.goals.delete_many({})


class TestIdleSessions:
    @pytest.mark.parametrize("cls", ["Goal.Other", "Goal.ShowGoal"])
    @pytest.mark.parametrize("goal_id", ["9a1c-uuid", 5, {"a": 1}])
    async def test_beside_one_whose_goal_has_another_id(self, world: World, cls: str, goal_id: object) -> None:
        at = world.clock.now() - timedelta(days=3)
        odd, session = ObjectId(), (await world.given(a_stage())).session_id
        world.database.sessions.insert_one({"_id": odd, "user_id": "zed", "statuses": {"started": at}})
        world.database.goals.insert_one({"_id": goal_id, "_cls": cls, "conditions": {"session_id": odd}})
        await world.after(seconds=3 * 86_400)
        await ticks(world, "end_idle_sessions")
        assert "ended" in world.session(str(odd))["statuses"]
        assert "ended" in world.session(session)["statuses"]
        world.database.goals.delete_one({"_id": goal_id})
        await world.settle()

    @pytest.mark.parametrize("streamer", [EXTENDED_JSON, None, [], ["a"], 7, {"$gt": 1}])
    async def test_beside_one_of_an_odd_streamer(self, world: World, streamer: object) -> None:
        at = world.clock.now() - timedelta(days=3)
        odd, session = ObjectId(), (await world.given(a_stage())).session_id
        world.database.sessions.insert_one({"_id": odd, "user_id": streamer, "statuses": {"started": at}})
        await world.after(seconds=3 * 86_400)
        await ticks(world, "end_idle_sessions")
        assert "ended" in world.session(str(odd))["statuses"]
        assert "ended" in world.session(session)["statuses"]
        await world.settle()

    async def test_beside_one_that_is_no_session_of_ours(self, world: World) -> None:
        at, session = world.clock.now() - timedelta(days=3), (await world.given(a_stage())).session_id
        theirs = {"_id": "theirs", "user_id": "zed", "statuses": {"started": at}}
        world.database.sessions.insert_one(theirs)
        await world.after(seconds=3 * 86_400)
        await ticks(world, "end_idle_sessions")
        assert "ended" in world.session(session)["statuses"]
        assert world.database.sessions.find_one({"_id": "theirs"}) == theirs
        world.database.sessions.delete_one({"_id": "theirs"})
        await world.settle()


class TestUnbegunShows:
    @pytest.mark.parametrize(
        "odd", [{"exp": EXTENDED_JSON}, {"context": {"started": EXTENDED_JSON}}, {"clock": {"revision": EXTENDED_JSON}}]
    )
    async def test_beside_one_with_a_date_as_extended_json(self, world: World, odd: dict[str, Any]) -> None:
        at = world.clock.now() - timedelta(hours=1)
        shows = [open_goal(at, **odd), open_goal(at + timedelta(seconds=1))]
        world.database.goals.insert_many(shows)
        await ticks(world, "expire_unbegun_shows")
        assert [world.goal(str(show["_id"]))["active"] for show in shows] == [False, False]
        await world.settle()


class TestWithdrawals:
    async def test_more_than_one_run_returns_that_cannot_be_returned_keep_no_other(
        self, world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr("goalsvc.tasks.withdrawals._BATCH", 2)
        await world.deposits("bob", 100)
        now = world.clock.now()
        poor = [f"wd_poor_{number}" for number in range(3)]
        pending = {"user_id": "eve", "amount": 5, "state": "pending", "created_at": now, "returns_at": now}
        world.database.withdrawals.insert_many([{"_id": one, **pending} for one in poor])
        await world.post("/v1/wallets/bob/withdrawals", {"amount": 40})
        await world.after(seconds=30 * 86_400)
        await ticks(world, "return_withdrawals")
        assert world.balance("bob") == 100
        assert [len(faults(caplog, one)) for one in poor] == [1, 1, 1]
        world.database.withdrawals.delete_many({"_id": {"$in": poor}})
