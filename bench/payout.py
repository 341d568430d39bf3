"""Row 7: `escrow_out` over 10,000 earnings beside 1,000: time and peak memory.

`python -m bench.payout GOAL_ID FUNDING_ID …`: runs that one task by the runner for one show after another, in a process of
its own; prints for each the seconds that it took, the most resident memory (MB) while it ran, and the most that Python
objects took beyond what was there before.
"""

import asyncio
import os
import sys
import tracemalloc
from collections.abc import Callable, Sequence
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
from goalsvc import garbage
from goalsvc.clock import SystemClock
from goalsvc.domain.promises import Job
from goalsvc.models.database import WITH_PROMISES
from goalsvc.models.migration import Keeping, make_indexes
from goalsvc.settings import Settings
from goalsvc.tasks import ALL
from goalsvc.tasks.arq_queue import ArqQueue
from goalsvc.tasks.escrow import escrow_out
from goalsvc.tasks.runner import Runner
from goalsvc.tasks.signing import JobSigner
from goalsvc.wiring import open_worker_context

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


async def _owe(lab: Lab, job: Job) -> None:
    """Lets the show owe its payout, as one that is completed does."""
    owed = {"id": job.task, "task": job.task, "arguments": dict(job.arguments), "at": datetime.now(UTC), "parent": ""}
    goal_id = ObjectId(str(job.arguments["goal_id"]))
    await lab.mongo[_DATABASE]["goals"].update_one({"_id": goal_id}, {"$set": {"promises": [owed]}})


async def run_tasks(settings: Settings, jobs: Sequence[Job]) -> list[tuple[float, float, float]]:
    """Seconds, peak of resident memory, peak of Python's own, for each of the jobs."""
    runner = Runner(ALL, WITH_PROMISES)
    us, figures = Proc(os.getpid()), []
    await make_indexes(settings.mongodb_url, Keeping.of(settings))
    async with open_worker_context(settings) as (context, _):
        for job in jobs:
            us.forget_peak()
            begun = perf_counter()
            await runner.run(context, job, 1)
            await context.queue.flush()
            figures.append((perf_counter() - begun, us.peak_mb()))
        objects = []
        for job in jobs:
            # Once more, slowly: its jobs are in the queue already, so that each is offered and none is taken twice.
            tracemalloc.start()
            await runner.run(context, job, 1)
            objects.append(tracemalloc.get_traced_memory()[1] / 1024**2)
            tracemalloc.stop()
    return [(*figure, peak) for figure, peak in zip(figures, objects, strict=True)]


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
        for size, found in (await _tasks_alone(lab, few, many)).items():
            figures[size].seconds.append(mean(seconds for seconds, _, _ in found))
            figures[size].peaks.append(found[0][1])
            figures[size].objects.append(found[0][2])
    say(f"row 7: {settle_rounds} whole settlements of each")
    for _ in range(settle_rounds):
        for size, settled in (await _settlements(lab, few, many)).items():
            figures[size].settled.append(mean(seconds for seconds, _ in settled))
            figures[size].worker_peaks.append(settled[0][1])
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


def _sizes(few: int, many: int) -> tuple[int, ...]:
    """What is measured one after the other in one process, after a warm-up.

    Small ones before and after the large one, for a machine that is shared is now fast, now slow. Their mean counts, and the
    memory of the first, when the process has not yet seen the large one.
    """
    return few, few, many, few, few


async def _tasks_alone(lab: Lab, few: int, many: int) -> dict[int, list[tuple[float, float, float]]]:
    """Seconds, peak of resident memory and peak of Python's own of each `escrow_out`, by size."""
    await lab.empty_redis(_REDIS)
    sizes, words = (_WARM_UP, *_sizes(few, many)), []
    for size in sizes:
        goal_id = await put_funded_show(lab, _DATABASE, size)
        funding_id = await _funding_of(lab, goal_id)
        await _owe(lab, payout_of(goal_id, funding_id))
        words += [str(goal_id), str(funding_id)]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.payout", *words),
        env=lab.environment(_DATABASE, _REDIS),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"escrow_out ended with {process.returncode}")
    for size, funding in zip(sizes, words[1::2], strict=True):
        account = await lab.mongo[_DATABASE]["accounts"].find_one({"_id": f"escrow:show_funding:{funding}"})
        if account is None or account.get("shares_due") != size:
            raise RuntimeError(f"escrow_out has not enqueued {size} shares: {account}")
    found: dict[int, list[tuple[float, float, float]]] = {few: [], many: []}
    for size, line in list(zip(sizes, output.splitlines(), strict=True))[1:]:
        took, peak, objects = map(float, line.split())
        found[size].append((took, peak, objects))
    return found


async def _settlements(lab: Lab, few: int, many: int) -> dict[int, list[tuple[float, float]]]:
    """Seconds from the enqueueing to the end of each escrow, and the peak of the worker, by size."""
    found: dict[int, list[tuple[float, float]]] = {few: [], many: []}
    async with lab.worker(_DATABASE, _REDIS) as worker:
        await _settled(lab, await put_funded_show(lab, _DATABASE, _WARM_UP))
        for size in _sizes(few, many):
            goal_id = await put_funded_show(lab, _DATABASE, size)
            worker.forget_peak()
            found[size].append((await _settled(lab, goal_id), worker.peak_mb()))
    return found


async def _settled(lab: Lab, goal_id: ObjectId) -> float:
    """Owes and enqueues the payout, as a completed show does, and waits until every share is through; how long that took."""
    funding_id = await _funding_of(lab, goal_id)
    job = payout_of(goal_id, funding_id)
    store = lab.mongo[_DATABASE]
    await _owe(lab, job)
    account = {"_id": f"escrow:show_funding:{funding_id}", "completed_at": {"$ne": None}}
    async with Redis.from_url(lab.redis_url(_REDIS)) as redis:
        queue = ArqQueue(redis, ALL, SystemClock(), JobSigner([lab.environment(_DATABASE, _REDIS)["GOALSVC_API_KEY"]]))
        begun = perf_counter()
        queue.enqueue(job)
        await queue.flush()
        while not await store["accounts"].find_one(account):
            if perf_counter() > begun + _PATIENCE_SECONDS:
                raise TimeoutError("the escrow was not settled")
            await asyncio.sleep(0.02)
        return perf_counter() - begun


def main() -> None:
    """Runs the task for each of these shows, set up as a worker's process is."""
    ids = [ObjectId(word) for word in sys.argv[1:]]
    jobs = [payout_of(goal_id, funding_id) for goal_id, funding_id in zip(ids[::2], ids[1::2], strict=True)]
    garbage.resume()
    for figures in uvloop.run(run_tasks(Settings.from_environment(), jobs)):
        sys.stdout.write(" ".join(map(str, figures)) + "\n")


if __name__ == "__main__":
    main()
