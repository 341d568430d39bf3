"""Periodic tasks: by their own timers, one worker at a time, and never behind jobs."""

import asyncio
import logging

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from goalsvc.context import WorkerContext
from goalsvc.domain.outcome import Done, Outcome, Reason, Returned
from goalsvc.integrations.leases import Leases
from goalsvc.models.database import WITH_PROMISES
from goalsvc.tasks.periodic import Lease, Periodic, run_periodically
from goalsvc.tasks.runner import Runner
from goalsvc.tasks.task import Task, task
from tests.receivers.fakes import Stage
from tests.world import World


class Always:
    """A lease that is always free; or Redis is not there."""

    def __init__(self) -> None:
        self.down = False

    async def take(self, name: str, seconds: float) -> bool:
        if self.down:
            raise RedisConnectionError("down")
        return True

    async def keep(self, name: str, seconds: float) -> bool:
        return True


def counting(done: list[int], enough: asyncio.Event, *, at: int, fails: range = range(0)) -> Task[[]]:
    @task()
    async def count(context: WorkerContext) -> Outcome:
        done.append(1)
        if len(done) >= at:
            enough.set()
        if len(done) in fails:
            raise ZeroDivisionError
        return Returned(Reason.ALREADY_DONE)

    return count


async def run_until(enough: asyncio.Event, context: WorkerContext, tasks: list[Task[[]]], leases: Lease) -> None:
    periodic = [Periodic(one, 0.01) for one in tasks]
    running = asyncio.create_task(run_periodically(context, Runner(tasks, WITH_PROMISES), periodic, leases))
    async with asyncio.timeout(10):
        await enough.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_it_runs_again_and_again_and_writes_no_trace_where_nothing_changed(stage: Stage) -> None:
    enough = asyncio.Event()
    await run_until(enough, stage.context, [counting([], enough, at=5)], Always())
    assert stage.recorder.segments == []


async def test_a_run_that_changed_something_leaves_a_trace(stage: Stage) -> None:
    enough = asyncio.Event()

    @task()
    async def change(context: WorkerContext) -> Outcome:
        enough.set()
        return Done("1 goals")

    await run_until(enough, stage.context, [change], Always())
    assert {segment["node"]["name"] for segment in stage.recorder.segments} == {"change"}


async def test_one_that_fails_or_hangs_holds_up_no_other(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "goalsvc")
    enough, never = asyncio.Event(), asyncio.Event()

    @task()
    async def hang(context: WorkerContext) -> Outcome:
        await never.wait()
        return Done()

    @task()
    async def fail(context: WorkerContext) -> Outcome:
        raise ZeroDivisionError

    await run_until(enough, stage.context, [hang, fail, counting([], enough, at=20)], Always())
    assert len([record for record in caplog.records if "fail fails" in record.getMessage()]) == 1, "one line"


async def test_the_end_of_a_failure_is_told(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "goalsvc")
    enough = asyncio.Event()
    await run_until(enough, stage.context, [counting([], enough, at=8, fails=range(1, 5))], Always())
    told = [record.getMessage() for record in caplog.records if record.name == "goalsvc.tasks.periodic"]
    assert told == ["count fails: ZeroDivisionError: ", "count works again"]


@pytest.mark.real
async def test_of_several_workers_one_runs_it(world: World) -> None:
    """Whatever their number, the work is done once in a period."""
    done: list[int] = []
    enough = asyncio.Event()
    counted = counting(done, enough, at=1)
    runner = Runner([counted], WITH_PROMISES)
    workers = [
        asyncio.create_task(
            run_periodically(world.context, runner, [Periodic(counted, 600.0)], Leases(world.redis, f"worker-{number}"))
        )
        for number in range(5)
    ]
    async with asyncio.timeout(10):
        await enough.wait()
    for _ in range(20):
        await world.redis.ping()
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
    assert len(done) == 1
