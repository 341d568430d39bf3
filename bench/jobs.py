"""Row 5: jobs per second through our tasks, beside arq's bare no-op at its best settings.

`python -m bench.jobs ours|arq REDIS_URL JOBS`: one worker that finds so many jobs waiting; prints the seconds from its
start to the end of the last one. On our side the job goes through the queue, the worker, the runner and the trace, and the
clock stops when the traces are written.
"""

import asyncio
import os
import sys
from collections.abc import Callable
from time import perf_counter
from typing import Any

import uvloop
from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import Worker as ArqWorker
from arq.worker import func
from redis.asyncio import Redis

from bench.lab import Lab
from bench.report import Result, Spread, ratios
from bench.webhooks import WrongResultError
from goalsvc.context import WorkerContext
from goalsvc.domain.lanes import Lane
from goalsvc.domain.outcome import Done, Outcome
from goalsvc.domain.promises import Job
from goalsvc.models.database import WITH_PROMISES
from goalsvc.models.migration import prepare_indexes
from goalsvc.settings import Settings
from goalsvc.tasks.runner import Runner
from goalsvc.tasks.signing import JobSigner
from goalsvc.tasks.task import task
from goalsvc.wiring import open_worker_context
from goalsvc.worker import lane_workers

_DATABASE = "jobs"
_REDIS = 4
_ARQ_AT_ITS_BEST = {"max_jobs": 100, "poll_delay": 0.01, "keep_result": 0, "log_results": False}


class _Countdown:
    """Tells when the last of so many jobs has run."""

    def __init__(self, jobs: int) -> None:
        self._left = jobs
        self.over = asyncio.Event()

    def one_less(self) -> None:
        self._left -= 1
        if self._left == 0:
            self.over.set()


async def run_ours(settings: Settings, jobs: int) -> tuple[float, float]:
    """Seconds to enqueue them, and to run them all."""
    countdown = _Countdown(jobs)

    @task()
    async def no_op(context: WorkerContext, *, goal_id: str) -> Outcome:
        countdown.one_less()
        return Done("nothing")  # what returns and is owed by nobody leaves no trace

    runner = Runner((no_op,), WITH_PROMISES)
    await prepare_indexes(settings, print)
    async with open_worker_context(settings) as (context, resources):
        begun = perf_counter()
        for number in range(jobs):
            context.queue.enqueue(Job(f"job-{number}", no_op.name, {"goal_id": "68143584d6945d32e732cc21"}))
            if number % 500 == 499:
                await context.queue.flush()
        await context.queue.flush()
        enqueued = perf_counter() - begun
        signer = JobSigner.from_settings(settings)
        (worker,) = lane_workers(context, resources.redis, runner, signer, [Lane.MONEY])
        begun = perf_counter()
        running = asyncio.create_task(worker.run())
        await countdown.over.wait()
        await context.recorder.flush()
        took = perf_counter() - begun
        await worker.stop(5)
        await asyncio.gather(running, return_exceptions=True)
    return enqueued, took


async def run_arq(redis_url: str, jobs: int) -> tuple[float, float]:
    """Seconds to enqueue them, and to run them all."""
    countdown = _Countdown(jobs)

    async def no_op(ctx: dict[str, Any], goal_id: str) -> None:
        countdown.one_less()

    settings = RedisSettings.from_dsn(redis_url)
    pool = await create_pool(settings)
    begun = perf_counter()
    waiting = iter(range(jobs))

    async def enqueue() -> None:
        for _ in waiting:
            await pool.enqueue_job("no_op", goal_id="68143584d6945d32e732cc21")

    await asyncio.gather(*(enqueue() for _ in range(32)))
    enqueued = perf_counter() - begun
    worker = ArqWorker(
        [func(no_op, name="no_op")],
        redis_pool=pool,
        handle_signals=False,
        **_ARQ_AT_ITS_BEST,  # type: ignore[arg-type]
    )
    begun = perf_counter()
    running = asyncio.create_task(worker.async_run())
    await countdown.over.wait()
    took = perf_counter() - begun
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return enqueued, took


async def _check(lab: Lab, jobs: int) -> None:
    """Raises WrongResultError unless every job has run, left its trace, and is gone from the queue."""
    traced = await lab.mongo[_DATABASE]["traces"].count_documents({"node.name": "no_op", "node.outcome": "done"})
    redis: Redis = Redis.from_url(lab.redis_url(_REDIS))
    waiting = await redis.zcard(Lane.MONEY.queue)
    await redis.aclose()
    if traced != jobs or waiting:
        raise WrongResultError(f"{traced} of {jobs} jobs left a trace, {waiting} are still in the queue")


async def jobs_per_second(lab: Lab, *, rounds: int, jobs: int, say: Callable[[str], None]) -> list[Result]:
    """Row 5."""
    say(f"row 5: {rounds} rounds of {jobs:,} jobs")
    rates: dict[str, list[float]] = {"ours": [], "arq": []}
    enqueues: dict[str, list[float]] = {"ours": [], "arq": []}
    for number in range(rounds):
        for side in ("ours", "arq") if number % 2 == 0 else ("arq", "ours"):
            await lab.empty_redis(_REDIS)
            await lab.empty(_DATABASE)
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "bench.jobs", side, lab.redis_url(_REDIS), str(jobs)),
                env=lab.environment(_DATABASE, _REDIS),
                stdout=asyncio.subprocess.PIPE,
            )
            output, _ = await process.communicate()
            if process.returncode:
                raise RuntimeError(f"the worker of {side} ended with {process.returncode}")
            enqueued, took = map(float, output.split())
            if side == "ours":
                await _check(lab, jobs)
            rates[side].append(jobs / took)
            enqueues[side].append(jobs / enqueued)
    ratio = ratios(rates["ours"], rates["arq"])
    entering = ratios(enqueues["ours"], enqueues["arq"])

    def pair(figures: dict[str, list[float]]) -> str:
        ours, arq = (Spread(tuple(figures[side])).median for side in ("ours", "arq"))
        return f"{ours:,.0f}/s : {arq:,.0f}/s"

    return [
        Result(5, "jobs/s through our tasks against arq's no-op", ratio.median, "×", None, 3.0, ratio, pair(rates)),
        Result(5, "· jobs enqueued/s", entering.median, "×", spread=entering, basis=pair(enqueues)),
    ]


def main() -> None:
    """Runs one side once."""
    side, redis_url, jobs = sys.argv[1:]
    if side == "ours":
        figures = uvloop.run(run_ours(Settings.from_environment(), int(jobs)))
    else:
        figures = uvloop.run(run_arq(redis_url, int(jobs)))
    sys.stdout.write(f"{figures[0]} {figures[1]}\n")
    sys.stdout.flush()
    os._exit(0)  # what is still running has no say in the figures


if __name__ == "__main__":
    main()
