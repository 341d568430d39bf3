"""The worker process: a worker for each lane, the periodic tasks, and a child process for clips.

`goalsvc worker` and `arq goalsvc.tasks.WorkerSettings` run the same.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from logging import getLogger
from pathlib import Path

from prometheus_client import REGISTRY
from redis.asyncio import Redis

from goalsvc import logs, metrics
from goalsvc.context import WorkerContext
from goalsvc.domain.lanes import Lane
from goalsvc.integrations import outbound
from goalsvc.integrations.breaker import Breaker, Breakers
from goalsvc.integrations.child import Child
from goalsvc.integrations.leases import Leases
from goalsvc.integrations.webhook_sender import open_sender
from goalsvc.models.database import WITH_PROMISES
from goalsvc.models.migration import prepare_indexes
from goalsvc.scratch import remove_abandoned
from goalsvc.settings import Settings
from goalsvc.tasks.arq_worker import LaneWorker, settings_for_arq
from goalsvc.tasks.bookkeeping import audit_books, end_idle_sessions, expire_unbegun_shows, make_end_abandoned
from goalsvc.tasks.census import EVERY_SECONDS, CensusFigures, make_census
from goalsvc.tasks.courier import Courier
from goalsvc.tasks.ending import expire_goals
from goalsvc.tasks.periodic import Periodic, run_periodically
from goalsvc.tasks.reconcile import reconcile_clocks
from goalsvc.tasks.registry import ALL, sweep_promises
from goalsvc.tasks.runner import Runner
from goalsvc.tasks.signing import JobSigner
from goalsvc.tasks.withdrawals import return_withdrawals
from goalsvc.tasks.worker_health import WorkerHealth, serving_health
from goalsvc.wiring import open_worker_context

log = getLogger(__name__)

#: How long a worker waits, after SIGTERM, for the jobs that it has in hand; what is cut off is run again by another.
STOP_SECONDS = 8.0

#: How many jobs of a lane run side by side; of `money`, as many as `GOALSVC_WORKER_MAX_JOBS`, of the others never more.
AT_ONCE = {
    Lane.NOTICES: 64,
    Lane.RECORDINGS: 16,
    Lane.DELIVERIES: 32,
    Lane.ANALYTICS: 16,
    # Most of the time a clip waits for its seconds to be streamed; how many are encoded side by side, the cutter limits.
    Lane.CLIPS: 16,
}
#: The part of them that a lane runs while the lane of money has more to do than it can take.
_YIELDING = 8

#: The lanes of the worker's own process; `clips` has a child process.
OWN_LANES = tuple(lane for lane in Lane if lane is not Lane.CLIPS)


def lane_workers(
    context: WorkerContext,
    redis: Redis,
    runner: Runner,
    signer: JobSigner,
    lanes: Collection[Lane],
    breakers: Breakers | None = None,
) -> list[LaneWorker]:
    """Returns a worker for each of these lanes, most urgent first; they do not run yet.

    With `breakers`, a lane whose service does not work runs one job at a time, to probe it, and leaves the others in Redis.
    """
    workers: list[LaneWorker] = []
    most_jobs = context.settings.worker_max_jobs
    for lane in (lane for lane in Lane if lane in lanes):
        at_once = min(AT_ONCE.get(lane, most_jobs), most_jobs)
        breaker = breakers.of(lane.service) if breakers is not None and lane.service is not None else None
        most = _most(workers[0] if workers else None, at_once, breaker)
        workers.append(LaneWorker(lane, redis, runner, context, signer, at_once=at_once, most=most))
    return workers


def _most(urgent: LaneWorker | None, at_once: int, breaker: Breaker | None) -> Callable[[], int]:
    """Returns how many jobs a lane may have in hand at a moment."""

    def most() -> int:
        yields = urgent is not None and urgent.saturated and urgent.lane is Lane.MONEY
        allowed = max(1, at_once // _YIELDING) if yields else at_once
        return allowed if breaker is None else breaker.calls_now(allowed)

    return most


def periodic_tasks(settings: Settings) -> list[Periodic]:
    """Returns what runs by the clock."""
    return [
        Periodic(expire_goals, 1.0),
        Periodic(sweep_promises, settings.promise_sweep_seconds),
        Periodic(reconcile_clocks, settings.reconcile_seconds),
        Periodic(expire_unbegun_shows, 1.0),
        Periodic(return_withdrawals, 60.0),
        Periodic(end_idle_sessions, 60.0),
        Periodic(audit_books, 600.0),
    ]


@asynccontextmanager
async def open_worker(settings: Settings, lanes: Collection[Lane] = ()) -> AsyncIterator["asyncio.Future[None]"]:
    """Runs jobs while it is open; yields what ends, with its error, when a part of the worker fails.

    With `lanes`, it runs these lanes alone, all in this process. On leaving it finishes what is in hand, within a limit.
    """
    await asyncio.to_thread(outbound.load)
    await asyncio.to_thread(remove_abandoned)
    runner = Runner(ALL, WITH_PROMISES)
    signer = JobSigner.from_settings(settings)
    metrics.introduce("worker")
    async with open_worker_context(settings) as (context, resources), AsyncExitStack() as stack:
        workers = lane_workers(context, resources.redis, runner, signer, lanes or OWN_LANES, resources.breakers)
        child = None if lanes else _clips_child(stack.enter_context(metrics.child_counts()))
        running = [asyncio.create_task(worker.run(), name=worker.lane.value) for worker in workers]
        if Lane.MONEY in (lanes or OWN_LANES):
            leases = Leases(resources.redis, f"{socket.gethostname()}:{os.getpid()}")
            figures = CensusFigures()
            stack.enter_context(figures.shown_by(REGISTRY))
            tasks = [
                *periodic_tasks(settings),
                Periodic(make_census(figures), EVERY_SECONDS),
                Periodic(make_end_abandoned(resources.database), 5.0),
            ]
            periodic = run_periodically(context, runner, tasks, leases)
            running.append(asyncio.create_task(periodic, name="periodic"))
        if Lane.DELIVERIES in (lanes or OWN_LANES):
            sender = await stack.enter_async_context(open_sender(settings))
            courier = Courier(context, resources.events, sender)
            running.append(asyncio.create_task(courier.run(), name="courier"))
        if child is not None:
            child.start()
        health = WorkerHealth(resources.redis, workers, context.clock, resources.breakers)
        watching = asyncio.create_task(health.watch(), name="health")
        port = stack.enter_context(_health_port(settings, health))
        log.info("worker ready%s", f", health on port {port}" if port else "")
        failed = asyncio.ensure_future(_first_end(running))
        try:
            yield failed
        finally:
            failed.cancel()
            stopping = [worker.stop(STOP_SECONDS) for worker in workers]
            if child is not None:
                stopping.append(child.stop(STOP_SECONDS + 1))
            await asyncio.gather(*stopping)
            for part in (*running, watching):
                part.cancel()
            await asyncio.gather(*running, watching, return_exceptions=True)


def _health_port(settings: Settings, health: WorkerHealth) -> AbstractContextManager[int]:
    """Serves the worker's health where a port is set; the port, or 0."""
    if not settings.worker_port:
        return contextlib.nullcontext(0)
    key = settings.metrics_key.get_secret_value()
    return serving_health(health, settings.worker_host, settings.worker_port, key)


def _clips_child(environment: Mapping[str, str]) -> Child:
    command = [sys.executable, "-m", "goalsvc", "worker", "--lane", Lane.CLIPS.value, "--end-with-stdin"]
    return Child("the process for clips", command, {"GOALSVC_WORKER_PORT": "0", **environment})


async def _first_end(running: Sequence["asyncio.Task[None]"]) -> None:
    ended, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    for part in ended:
        part.result()


async def run_worker(settings: Settings, lanes: Collection[Lane] = (), *, ends_with_stdin: bool = False) -> None:
    """Runs a worker until SIGTERM or SIGINT, or until standard input closes where that is wanted."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    if ends_with_stdin:
        await _watch_stdin(stopped)
        _prefer_to_be_killed()
    async with open_worker(settings, lanes) as failed:
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, stopped.set)
        failed.add_done_callback(lambda _: stopped.set())
        await stopped.wait()
        if failed.done():
            failed.result()


async def _watch_stdin(stopped: asyncio.Event) -> None:
    class Watch(asyncio.Protocol):
        def connection_lost(self, exc: Exception | None) -> None:
            stopped.set()

    await asyncio.get_running_loop().connect_read_pipe(Watch, sys.stdin)


def _prefer_to_be_killed() -> None:
    """Where memory runs out, the kernel ends this process rather than its parent."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")


def worker_settings() -> type:
    """Returns the class that arq's own command line asks for, made from the environment when it is asked for."""
    settings = Settings.from_environment()

    @asynccontextmanager
    async def opened() -> AsyncIterator[None]:
        logs.configure(settings)  # arq has set up its own by now
        await prepare_indexes(settings, log.warning)
        async with open_worker(settings) as failed:
            failed.add_done_callback(_end_process_on_failure)
            yield

    return settings_for_arq(settings.redis_url, opened)


def _end_process_on_failure(failed: "asyncio.Future[None]") -> None:
    if not failed.cancelled() and (error := failed.exception()) is not None:
        log.error("a part of the worker failed; the worker stops", exc_info=error)
        os.kill(os.getpid(), signal.SIGTERM)
