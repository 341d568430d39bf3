"""Long queues and many promises: none waits behind those that cannot be fulfilled, and none is looked at again and again."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from bson import ObjectId

from goalsvc.context import WorkerContext
from goalsvc.domain.lanes import Lane
from goalsvc.domain.outcome import Done, Reason, Returned
from goalsvc.tasks import arq_queue, sweep_promises
from goalsvc.tasks.arq_queue import ArqQueue
from goalsvc.tasks.registry import ALL
from goalsvc.tasks.signing import JobSigner
from tests.world import World

pytestmark = pytest.mark.real


@pytest.fixture
def context(world: World) -> WorkerContext:
    queue = ArqQueue(world.redis, ALL, world.clock, JobSigner(["secret"]))
    return replace(world.context, queue=queue)


def owe(world: World, task: str, number: int, *, age: float, **arguments: Any) -> Sequence[ObjectId]:
    """Goals of others, each of which promises that task."""
    at = world.clock.now() - timedelta(seconds=age)
    ids = [ObjectId() for _ in range(number)]
    world.database.goals.insert_many(
        {
            "_id": goal_id,
            "_cls": "Goal.KaraokeGoal",
            "active": False,
            "progress": 0,
            "promises": [
                {"id": task, "task": task, "arguments": {"goal_id": str(goal_id), **arguments}, "at": at, "parent": ""}
            ],
        }
        for goal_id in ids
    )
    return ids


@pytest.fixture(autouse=True)
def nothing_is_owed_when_it_is_over(world: World) -> Any:
    """These promises are of goals that never were: what must hold of real ones is not asked of them."""
    yield
    world.database.goals.delete_many({})


async def queued(world: World, lane: Lane) -> int:
    return int(await world.redis.zcard(lane.queue))


async def test_no_promise_waits_behind_those_of_another_lane(world: World, context: WorkerContext) -> None:
    """1,100 clips wait for a slow origin and Redis was emptied: the leaves of other goals are found at once."""
    owe(world, "clip_livestream_as_asset", 1100, age=3600)
    owe(world, "increment_goal_progress", 100, age=60)
    assert await sweep_promises(context) == Done("1200 promises")
    assert await queued(world, Lane.MONEY) == 100
    assert await queued(world, Lane.CLIPS) == 1100


async def test_what_is_queued_is_not_looked_at_again_and_again(world: World, context: WorkerContext) -> None:
    owe(world, "clip_livestream_as_asset", 600, age=3600)
    assert await sweep_promises(context) == Done("600 promises")
    assert await sweep_promises(context) == Returned(Reason.ALREADY_DONE)
    owe(world, "deactivate_goal", 3, age=10)
    assert await sweep_promises(context) == Done("3 promises")


async def test_when_redis_was_emptied_everything_is_looked_at(world: World, context: WorkerContext) -> None:
    owe(world, "deliver_notice", 600, age=3600)
    await sweep_promises(context)
    await world.redis.flushall()
    assert await sweep_promises(context) == Done("600 promises")
    assert await queued(world, Lane.NOTICES) == 600


async def test_promises_of_a_later_version_are_left_and_hold_up_nothing(
    world: World, context: WorkerContext, caplog: pytest.LogCaptureFixture
) -> None:
    unknown = owe(world, "a_task_of_a_later_version", 1100, age=7200)
    owe(world, "increment_goal_progress", 1, age=60)
    assert await sweep_promises(context) == Done("1 promises")
    await world.redis.flushall()
    assert await sweep_promises(context) == Done("1 promises")
    assert await queued(world, Lane.MONEY) == 1
    lines = [record for record in caplog.records if "has no task a_task_of_a_later_version" in record.getMessage()]
    assert len(lines) <= 1, "logged once"
    left = world.database.goals.count_documents(
        {"_id": {"$in": list(unknown)}, "promises.task": "a_task_of_a_later_version"}
    )
    assert left == 1100
    assert world.all("dead_letters") == []


async def test_a_lane_that_is_full_takes_no_more_and_holds_up_no_other(
    world: World, context: WorkerContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arq_queue, "_MOST_QUEUED", 400)
    owe(world, "deliver_notice", 1600, age=3600)
    owe(world, "clip_livestream_as_asset", 10, age=3600)
    await sweep_promises(context)
    assert await queued(world, Lane.NOTICES) == 500, "one batch more than the limit"
    assert await queued(world, Lane.CLIPS) == 10
    await world.redis.delete(Lane.NOTICES.queue)  # they have been run
    world.database.goals.delete_many({"promises.task": "deliver_notice"})
    owe(world, "deliver_notice", 100, age=3000)
    assert await sweep_promises(context) == Done("100 promises"), "the lane is looked at as a whole until it has room"


async def test_a_promise_of_a_host_whose_clock_is_late_is_found(world: World, context: WorkerContext) -> None:
    await sweep_promises(context)
    owe(world, "deactivate_goal", 1, age=15)  # written now, by a clock that is 10 s behind
    assert await sweep_promises(context) == Done("1 promises")
