"""Races on the real server: many at once, one winner."""

import asyncio
from datetime import timedelta

import pytest
from bson import ObjectId

from goalsvc.domain.goals import Level, Metadata
from goalsvc.domain.moves import Move, Moved
from goalsvc.domain.origin import NOWHERE
from goalsvc.domain.outcome import FollowUp
from goalsvc.domain.trace import TracedFollowUp
from goalsvc.models.clocks import GoalClocks
from goalsvc.models.goal import Goal, ShowGoal
from goalsvc.models.session import Session, ShowPair
from goalsvc.models.shared import SharedCollection
from tests.world import World

pytestmark = pytest.mark.real


async def a_goal(world: World) -> ObjectId:
    goal = ShowGoal(id=ObjectId(), levels=[Level(target=360)], metadata=Metadata(user_id="alice"))
    await goal.insert()
    assert goal.id is not None
    return goal.id


def processes(world: World, count: int) -> list[GoalClocks]:
    """The clocks of so many processes, which know nothing of one another."""
    return [GoalClocks(world.clock) for _ in range(count)]


class TestTwoLeavesOneWinner:
    async def test_in_processes_that_know_nothing_of_one_another(self, world: World) -> None:
        goal_id, begun = await a_goal(world), world.clock.now()
        (first, *others) = processes(world, 12)
        await first.move(Move(goal_id, True, "alice", begun, "join", NOWHERE))
        await world.after(seconds=100)
        left_at = [begun + timedelta(seconds=90, milliseconds=number) for number in range(12)]
        moved = await asyncio.gather(
            *(
                clocks.move(Move(goal_id, False, "alice", at, f"leave-{number}", NOWHERE))
                for number, (clocks, at) in enumerate(zip([first, *others], left_at, strict=True))
            )
        )
        winners = [one for one in moved if isinstance(one, Moved) and one.turned.paused]
        assert len(winners) == 1
        goal = await Goal.by_id(goal_id)
        assert goal is not None
        counting = [promise for promise in goal.promises if promise.task == "increment_goal_progress"]
        assert [promise.arguments["amount"] for promise in counting] == [90]
        world.database.goals.delete_many({})

    async def test_the_same_leave_everywhere_at_once(self, world: World) -> None:
        goal_id, begun = await a_goal(world), world.clock.now()
        clocks = processes(world, 8)
        await clocks[0].move(Move(goal_id, True, "alice", begun, "join", NOWHERE))
        await world.after(seconds=30)
        leave = Move(goal_id, False, "alice", world.clock.now(), "leave", NOWHERE)
        await asyncio.gather(*(one.move(leave) for one in clocks for _ in range(3)))
        goal = await Goal.by_id(goal_id)
        assert goal is not None
        assert [promise.id for promise in goal.promises] == ["join:started", "leave"]
        world.database.goals.delete_many({})


@pytest.fixture(params=["one process", "ten processes"])
def callers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether those who change a goal at the same time share their round trips, or each has its own."""
    if request.param == "ten processes":
        monkeypatch.setattr(Goal, "shared", lambda: SharedCollection(Goal.get_motor_collection(), Goal))


@pytest.mark.usefixtures("callers")
async def test_progress_is_added_once(world: World) -> None:
    goal_id, begun = await a_goal(world), world.clock.now()
    (clocks,) = processes(world, 1)
    await clocks.move(Move(goal_id, True, "alice", begun, "join", NOWHERE))
    await world.after(seconds=30)
    await clocks.move(Move(goal_id, False, "alice", world.clock.now(), "leave", NOWHERE))
    added = await asyncio.gather(*(Goal.add_progress(goal_id, "leave") for _ in range(10)))
    assert [goal.progress for goal in added if goal is not None] == [30] * 10
    goal = await Goal.by_id(goal_id)
    assert goal is not None
    assert [promise.progress for promise in goal.promises if promise.id == "leave"] == [30]
    world.database.goals.delete_many({})


async def test_a_goal_is_ended_by_one(world: World) -> None:
    goal_id, begun = await a_goal(world), world.clock.now()
    (clocks,) = processes(world, 1)
    await clocks.move(Move(goal_id, True, "alice", begun, "join", NOWHERE))
    await world.after(seconds=30)
    now = world.clock.now()
    ends = [Goal.deactivate(goal_id, now, NOWHERE) for _ in range(8)]
    leave = clocks.move(Move(goal_id, False, "alice", now, "leave", NOWHERE))
    *ended, _ = await asyncio.gather(*ends, leave)
    assert sum(goal is not None for goal in ended) == 1
    goal = await Goal.by_id(goal_id)
    assert goal is not None
    counting = [promise for promise in goal.promises if promise.task == "increment_goal_progress"]
    assert [promise.arguments["amount"] for promise in counting if promise.arguments["amount"]] == [30]
    assert [promise.task for promise in goal.promises].count("deactivate_goal") == 1
    world.database.goals.delete_many({})


@pytest.mark.usefixtures("callers")
async def test_a_promise_is_settled_once_and_what_follows_is_owed_once(world: World) -> None:
    goal_id = await a_goal(world)
    now = world.clock.now()
    await Goal.add_promises(goal_id, [TracedFollowUp(FollowUp("first", "StartRecord", {}), NOWHERE)], now)
    following = [TracedFollowUp(FollowUp("second", "StopRecord", {"goal_id": str(goal_id)}), NOWHERE)]
    settled = await asyncio.gather(*(Goal.fulfil(goal_id, "first", following, now) for _ in range(10)))
    owed = await asyncio.gather(*(Goal.add_promises(goal_id, following, now) for _ in range(10)))
    assert {tuple(promise.id for promise in promises) for promises in [*settled, *owed]} == {("second",)}
    assert await Goal.fulfil(goal_id, "second", (), now) == ()
    assert await Goal.fulfil(goal_id, "first", following, now) == [], "what is paid is not owed again"
    goal = await Goal.by_id(goal_id)
    assert goal is not None
    assert goal.promises == []
    world.database.goals.delete_many({})


async def test_a_show_is_paired_and_ended_once(world: World) -> None:
    session = Session(id=ObjectId(), user_id="alice")
    await session.insert()
    assert session.id is not None
    funding, show = ObjectId(), ObjectId()
    paired = await asyncio.gather(*(Session.pair_show(session.id, funding, show) for _ in range(8)))
    assert sum(paired) == 1
    ended = await asyncio.gather(*(Session.end_show(session.id, show, world.clock.now()) for _ in range(8)))
    assert sum(ended) == 1
    known = await Session.by_id(session.id)
    assert known is not None
    assert known.show_goal_pairs == [ShowPair(funding_goal=funding, show_goal=show, show_ended=world.clock.now())]


async def test_the_karaoke_score_ends_at_the_highest(world: World) -> None:
    session, goal_id = Session(id=ObjectId(), user_id="alice"), ObjectId()
    await session.insert()
    assert session.id is not None
    scores = [Session.update_karaoke(session.id, goal_id, score, [], True) for score in (5, 40, 10, 39, 1)]
    await asyncio.gather(*scores)
    known = await Session.by_id(session.id)
    assert known is not None
    assert known.karaoke_goal is not None
    assert known.karaoke_goal.progress == 40


async def test_of_two_karaoke_goals_that_are_sung_by_turns_none_goes_back(world: World) -> None:
    session, (one, other) = Session(id=ObjectId(), user_id="alice"), (ObjectId(), ObjectId())
    await session.insert()
    assert session.id is not None
    for goal_id, score, is_shown in ((one, 20, True), (other, 22, True), (one, 14, False), (one, 20, True)):
        shown = await Session.update_karaoke(session.id, goal_id, score, [], True)
        assert (shown is not None) is is_shown, (goal_id, score)
    known = await Session.by_id(session.id)
    assert known is not None
    assert known.karaoke_goal is not None
    assert (known.karaoke_goal.id, known.karaoke_goal.progress) == (one, 20)
    world.database.sessions.delete_many({})
