"""Row 7: `escrow_out` over 10,000 earnings beside 1,000: time and peak memory.

`python -m bench.payout GOAL_ID FUNDING_ID`: runs that one task by the runner, in a process of its own; prints the seconds
that it took, the most resident memory (MB) while it ran, and the most that Python objects took beyond what was there before.
"""

import asyncio
import os
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import mean
from time import perf_counter

import uvloop
from bson import ObjectId
from redis.asyncio import Redis

from bench.lab import Lab, Proc
from bench.latency import put_funded_show
from bench.report import Result, Spread, ratios
from bench.traffic import streamer_of
from goalsvc.clock import SystemClock
from goalsvc.context import Job
from goalsvc.models.database import OWING
from goalsvc.settings import Settings
from goalsvc.tasks import ALL
from goalsvc.tasks.escrow import escrow_out
from goalsvc.tasks.queue import ArqQueue
from goalsvc.tasks.runner import Runner
from goalsvc.wiring import open_context

_DATABASE = "payout"
_REDIS = 5
_PATIENCE_SECONDS = 900.0
#: A small payout of another show first: what is imported and connected at first use is not what grows.
_WARM_UP = 200


def payout_of(goal_id: ObjectId, funding_id: ObjectId) -> Job:
    """The job that pays that show's performer."""
    now = datetime.now(UTC)
    arguments = {
        "escrow_id": f"show_funding:{funding_id}",
        "user_id": streamer_of(goal_id),
        "nbf": now - timedelta(hours=2),
        "exp": now,
        "goal_id": str(goal_id),
    }
    promise = f"goals/{goal_id}/{escrow_out.name}"
    return Job(promise, escrow_out.name, arguments, promise=promise)


async def run_task(settings: Settings, warm_up: Job, job: Job) -> tuple[float, float, float]:
    """Seconds, peak of resident memory, peak of Python's own."""
    runner = Runner(ALL, OWING)
    async with open_context(settings) as (context, _):
        await runner.run(context, warm_up, 1)
        us = Proc(os.getpid())
        us.forget_peak()
        begun = perf_counter()
        await runner.run(context, job, 1)
        await context.queue.flush()
        took, peak = perf_counter() - begun, us.peak_mb()
        # Once more, slowly: its jobs are in the queue already, so that each is offered and none is taken twice.
        tracemalloc.start()
        await runner.run(context, job, 1)
        _, objects = tracemalloc.get_traced_memory()
    return took, peak, objects / 1024**2


@dataclass(slots=True)
class _Figures:
    """The same measured several times over so many earnings."""

    seconds: list[float]
    peaks: list[float]
    objects: list[float]
    settled: list[float]
    worker_peaks: list[float]


async def payouts(
    lab: Lab, *, few: int, many: int, rounds: int, settle_rounds: int, say: Callable[[str], None]
) -> list[Result]:
    """Row 7: the task by itself, and the whole settlement by a worker until `escrow.completed`."""
    figures = {size: _Figures([], [], [], [], []) for size in (few, many)}
    say(f"row 7: {rounds} times escrow_out over {few:,} and {many:,} earnings")
    for _ in range(rounds):
        for size in (few, many):
            took, peak, objects = await _task_alone(lab, size)
            figures[size].seconds.append(took)
            figures[size].peaks.append(peak)
            figures[size].objects.append(objects)
    say(f"row 7: {settle_rounds} whole settlements of each")
    for _ in range(settle_rounds):
        for size, (took, peak) in (await _settlements(lab, few, many)).items():
            figures[size].settled.append(took)
            figures[size].worker_peaks.append(peak)
    less, more = figures[few], figures[many]

    def grown(what: str, name: str, unit: str, at_most: float | None, digits: int = 2) -> Result:
        ours, theirs = getattr(more, name), getattr(less, name)
        ratio = ratios(ours, theirs)
        basis = f"{Spread(tuple(ours)).median:,.{digits}f} {unit} : {Spread(tuple(theirs)).median:,.{digits}f} {unit}"
        return Result(7, what, ratio.median, "×", at_most=at_most, spread=ratio, basis=basis)

    times, pair = 10.5 * many / few / 10, f"{many:,} earnings against {few:,}"
    return [
        grown(f"escrow_out over {pair}: time", "seconds", "s", times),
        grown("· peak resident memory of its process", "peaks", "MB", 1.1, 1),
        grown("· peak of what Python holds besides", "objects", "MB", None),
        grown(f"all shares of {pair} settled by one worker: time", "settled", "s", times),
        grown("· peak resident memory of that worker", "worker_peaks", "MB", 1.1, 1),
    ]


async def _funding_of(lab: Lab, goal_id: ObjectId) -> ObjectId:
    (found,) = await lab.mongo[_DATABASE]["sessions"].find({"show_goal_pairs.show_goal": goal_id}).to_list()
    funding_id: ObjectId = found["show_goal_pairs"][0]["funding_goal"]
    return funding_id


async def _task_alone(lab: Lab, earnings: int) -> tuple[float, float, float]:
    await lab.empty_redis(_REDIS)
    words = []
    for size in (_WARM_UP, earnings):
        goal_id = await put_funded_show(lab, _DATABASE, size)
        words += [str(goal_id), str(await _funding_of(lab, goal_id))]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.payout", *words),
        env=lab.environment(_DATABASE, _REDIS),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"escrow_out ended with {process.returncode}")
    took, peak, objects = map(float, output.split())
    return took, peak, objects


async def _settlements(lab: Lab, few: int, many: int) -> dict[int, tuple[float, float]]:
    """Seconds from the enqueueing to the end of the escrow, and the peak of the worker, the same for all, for each size.

    The small ones come before and after the large one, and count by their mean: a machine that is shared is now fast, now slow.
    """
    async with lab.worker(_DATABASE, _REDIS) as worker:

        async def settle(earnings: int) -> tuple[float, float]:
            goal_id = await put_funded_show(lab, _DATABASE, earnings)
            worker.forget_peak()
            return await _settled(lab, goal_id), worker.peak_mb()

        await settle(_WARM_UP)
        before = [await settle(few) for _ in range(2)]
        large = await settle(many)
        after = [await settle(few) for _ in range(2)]
        return {few: (mean([took for took, _ in before + after]), max(peak for _, peak in before)), many: large}


async def _settled(lab: Lab, goal_id: ObjectId) -> float:
    """Owes and enqueues the payout, as a completed show does, and waits until every share is through; how long that took."""
    funding_id = await _funding_of(lab, goal_id)
    job = payout_of(goal_id, funding_id)
    owed = {
        "id": job.task,
        "task": job.task,
        "arguments": dict(job.arguments),
        "at": datetime.now(UTC),
        "parent": "",
    }
    store = lab.mongo[_DATABASE]
    await store["goals"].update_one({"_id": goal_id}, {"$set": {"promises": [owed]}})
    account = {"_id": f"escrow:show_funding:{funding_id}", "completed_at": {"$ne": None}}
    async with Redis.from_url(lab.redis_url(_REDIS)) as redis:
        queue = ArqQueue(redis, ALL, SystemClock())
        begun = perf_counter()
        queue.enqueue(job)
        await queue.flush()
        while not await store["accounts"].find_one(account):
            if perf_counter() > begun + _PATIENCE_SECONDS:
                raise TimeoutError("the escrow was not settled")
            await asyncio.sleep(0.02)
        return perf_counter() - begun


def main() -> None:
    """Runs the task once, after a small one."""
    ids = [ObjectId(word) for word in sys.argv[1:]]
    warm_up, job = payout_of(ids[0], ids[1]), payout_of(ids[2], ids[3])
    figures = uvloop.run(run_task(Settings.from_environment(), warm_up, job))
    sys.stdout.write(" ".join(map(str, figures)) + "\n")


if __name__ == "__main__":
    main()
