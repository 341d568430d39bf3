"""A worker of one lane, on arq's keys and job format; and what arq's own command line needs to run all lanes.

The loop claims many jobs by one script, is woken by a token instead of polling, clears away in one write what ended
meanwhile, keeps running jobs leased, and comes back by itself when Redis was away (measured in docs/performance.md).
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from time import monotonic, perf_counter
from typing import Any

from arq.connections import RedisSettings
from arq.worker import func
from prometheus_client import Counter, Histogram
from redis.asyncio import Redis
from redis.exceptions import RedisError

from goalsvc import logs
from goalsvc.coalescer import Batches
from goalsvc.context import WorkerContext
from goalsvc.domain.lanes import Lane
from goalsvc.domain.promises import Job
from goalsvc.tasks.arq_queue import BODY, RUNNING, TRIES, deserialize, job_of, script, wake_key
from goalsvc.tasks.runner import Runner, TryAgain, about
from goalsvc.tasks.signing import JobSigner, Refusal, RefusedJobError

log = logging.getLogger(__name__)

REFUSED = Counter("goalsvc_jobs_refused_total", "Jobs that were dropped without being run, by reason.", ["reason"])
UNKNOWN = Counter("goalsvc_jobs_unknown_total", "Claims of jobs whose task this version does not have.")
DURATION = Histogram("goalsvc_job_duration_seconds", "How long jobs ran.", ["task"])
WAIT = Histogram("goalsvc_job_wait_seconds", "How long jobs were due before a worker claimed them.", ["task"])

#: How long a running job counts as running after its worker was last heard of.
LEASE_SECONDS = 12.0
#: How long a worker that has nothing to do waits for a token before it looks by itself.
LONGEST_WAIT_SECONDS = 2.0
#: How long to pause when Redis does not answer.
_PAUSE_SECONDS = 1.0
#: How long a job of a task that only a later version has is left to the workers of that version.
_LEFT_SECONDS = 3.0
#: How soon a lane that may not take as many jobs as usual asks again how many it may take.
_LOOK_AGAIN_SECONDS = 0.25
#: What a job may take beyond its task's own limit.
_GRACE_SECONDS = 5.0

AsyncScript = Callable[..., Awaitable[Any]]


class LaneWorker:
    """Runs the jobs of one lane, at most `at_once` side by side.

    `free` may say at any moment that fewer are to be run: none while the lane's service does not answer, few while a more
    urgent lane has more than it can take.
    """

    def __init__(
        self,
        lane: Lane,
        redis: Redis,
        runner: Runner,
        context: WorkerContext,
        signer: JobSigner,
        *,
        at_once: int,
        most: Callable[[], int] | None = None,
    ) -> None:
        self.lane = lane
        self.running: dict[str, asyncio.Task[None]] = {}
        self.claimed_at = monotonic()
        """When Redis last answered a claim, by the monotonic clock."""
        self.saturated = False
        """Whether the last claim may have left jobs that are due."""
        self._redis, self._runner, self._context, self._signer = redis, runner, context, signer
        self._at_once, self._most = at_once, most
        self._queue, self._wake = lane.queue, wake_key(lane.queue)
        self._claim_script: AsyncScript = redis.register_script(script("claim"))
        self._finish_script: AsyncScript = redis.register_script(script("finish"))
        self._renew_script: AsyncScript = redis.register_script(script("renew"))
        self._ended: Batches[_Ended] = Batches(f"{lane.value} ended", self._finish)
        self._room = asyncio.Event()
        self._claiming = asyncio.Lock()
        self._stopping = self._redis_is_away = False
        self._loop: asyncio.Task[None] | None = None
        self._refusals = _Refusals(lane)

    # -- the loop -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Runs jobs until `stop`."""
        self._loop = asyncio.create_task(self._claim_for_ever(), name=f"{self.lane.value} claims")
        renewing = asyncio.create_task(self._renew_leases(), name=f"{self.lane.value} leases")
        try:
            await self._loop
        except asyncio.CancelledError:
            if not self._stopping:
                raise
        finally:
            renewing.cancel()

    async def stop(self, limit_seconds: float) -> None:
        """Takes no more jobs and waits for those in hand, for at most that long; then cuts them off for other workers."""
        self._stopping = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_seconds):
                async with self._claiming:
                    pass  # what is being claimed at this moment is in hand
                if self.running:
                    await asyncio.wait(list(self.running.values()))
        for job in list(self.running.values()):
            job.cancel()
        await asyncio.gather(*self.running.values(), return_exceptions=True)
        await self._ended.flush()
        if self._loop is not None:
            self._loop.cancel()

    async def _claim_for_ever(self) -> None:
        while not self._stopping:
            try:
                await self._turn()
                self._note_redis(None)
            except (RedisError, OSError) as error:
                self._note_redis(error)
                await asyncio.sleep(_PAUSE_SECONDS)

    def _note_redis(self, error: Exception | None) -> None:
        """Logs when Redis stops to answer, and when it answers again; not each try in between."""
        if (error is not None) is self._redis_is_away:
            return
        self._redis_is_away = error is not None
        if error is None:
            log.warning("%s: Redis answers again", self.lane.value)
        else:
            log.warning("%s: Redis does not answer, trying again: %s", self.lane.value, error)

    async def _turn(self) -> None:
        self._room.clear()
        async with self._claiming:
            most = self._at_once if self._most is None else self._most()
            free = 0 if self._stopping else max(most - len(self.running), 0)
            # With nothing to claim, the question only tells that Redis answers.
            claimed, next_due_seconds = await self._claim(free)
        self.saturated = claimed >= free
        if not self.saturated:
            await self._token(min(LONGEST_WAIT_SECONDS, max(next_due_seconds, 0.001)))
            return
        # There may be more: it is claimed as soon as there is room for a good part of it, or more is allowed.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LONGEST_WAIT_SECONDS if most >= self._at_once else _LOOK_AGAIN_SECONDS):
                await self._room.wait()

    async def _claim(self, most: int) -> tuple[int, float]:
        """Claims jobs and starts them. Returns how many, and in how many seconds the next one is due."""
        lease = int(LEASE_SECONDS * 1000)
        next_due, *claimed = await self._claim_script(
            keys=[self._queue, self._wake], args=[most, lease, RUNNING, BODY, TRIES]
        )
        self.claimed_at = monotonic()
        for job_id, body, tried, waited in zip(claimed[::4], claimed[1::4], claimed[2::4], claimed[3::4], strict=True):
            try:
                self._start(job_id.decode(), body, tried, int(waited) / 1000)
            except UnicodeDecodeError:
                self._refusals.add(Refusal.UNREADABLE)
                await self._redis.zrem(self._queue, job_id)
        return len(claimed) // 4, float(next_due) / 1000 if next_due else LONGEST_WAIT_SECONDS

    async def _token(self, seconds: float) -> None:
        # redis-py's own `blpop` is typed for whole seconds only.
        token = await self._redis.execute_command("BLPOP", self._wake, seconds)  # type: ignore[no-untyped-call]
        if token is not None and self._stopping:
            # Another worker would wait for it: this one claims no more.
            await self._redis.execute_command("LPUSH", self._wake, b"1")  # type: ignore[no-untyped-call]

    def _start(self, job_id: str, body: bytes, tried: int, waited: float) -> None:
        if job_id in self.running:
            return  # Redis was emptied meanwhile: the run in hand goes on, and clears this away
        running = asyncio.create_task(self._run(job_id, body, tried, waited), name=job_id)
        self.running[job_id] = running
        running.add_done_callback(lambda _: self._forget(job_id))

    def _forget(self, job_id: str) -> None:
        self.running.pop(job_id, None)
        if len(self.running) <= self._at_once * 3 // 4:
            self._room.set()

    # -- one job ------------------------------------------------------------------------------------------------------

    async def _run(self, job_id: str, body: bytes, tried: int, waited: float) -> None:
        """Runs one job and notes what is to become of it in Redis."""
        again: TryAgain | None = None
        try:
            job = self._read(job_id, body)
            about(job).stay()  # this asyncio task ends with the job
            again = await self._run_known(job, tried, waited)
        except RefusedJobError as error:
            # Its promise, if there is one, is found by the sweep.
            self._refusals.add(error.refusal)
        except asyncio.CancelledError:
            again = TryAgain(0.0, failed=False)
            raise
        except Exception:
            # The runner deals with errors of tasks; this is the database or Redis failing it meanwhile.
            log.exception("job %s could not be run to its end; it will be tried again", job_id)
            again = TryAgain(min(2.0**tried, 30.0))
        finally:
            self._ended.take(_Ended(job_id, again))

    async def _run_known(self, job: Job, tried: int, waited: float) -> TryAgain | None:
        task = self._runner.task(job.task)
        if task is None:
            UNKNOWN.inc()
            self._refusals.unknown(job.task)
            return TryAgain(_LEFT_SECONDS, failed=False)
        WAIT.labels(job.task).observe(max(waited, 0.0))
        begun = perf_counter()
        try:
            async with asyncio.timeout(task.timeout_seconds + _GRACE_SECONDS):
                return await self._runner.run(self._context, job, tried)
        finally:
            DURATION.labels(job.task).observe(perf_counter() - begun)

    def _read(self, job_id: str, signed: bytes) -> Job:
        body = self._signer.verified(job_id, signed)
        try:
            read = deserialize(body)
            name, arguments = read["f"], read["k"]
            if not isinstance(name, str) or not isinstance(arguments, dict) or not all(map(_is_text, arguments)):
                raise TypeError
            return job_of(job_id, name, arguments)
        except (ValueError, KeyError, TypeError) as error:
            raise RefusedJobError(Refusal.UNREADABLE) from error

    # -- what ended ---------------------------------------------------------------------------------------------------

    async def _finish(self, batch: Sequence["_Ended"]) -> None:
        args: list[str | int] = [RUNNING, BODY, TRIES]
        for job in batch:
            after = -1 if job.again is None else max(1, round(job.again.after_seconds * 1000))
            args += [job.job_id, after, 0 if job.again is None or job.again.failed else 1]
        try:
            await self._finish_script(keys=[self._queue, self._wake], args=args)
        except (RedisError, OSError) as error:
            log.warning("could not record the end of %d jobs in Redis; they may run again: %s", len(batch), error)

    async def _renew_leases(self) -> None:
        while True:
            await asyncio.sleep(LEASE_SECONDS / 3)
            if not self.running:
                continue
            try:
                args = [int(LEASE_SECONDS * 1000), RUNNING, *self.running]
                await self._renew_script(keys=[self._queue], args=args)
            except (RedisError, OSError) as error:
                log.warning("could not renew the leases of %d jobs: %s", len(self.running), error)


@dataclass(frozen=True, slots=True)
class _Ended:
    """A job that was run, and whether it is to be run again."""

    job_id: str
    again: TryAgain | None


class _Refusals:
    """Counts each dropped job, and logs a line per reason at most once a minute; unknown tasks once each."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._lines = logs.Throttle()
        self._unknown: set[str] = set()

    def add(self, refusal: Refusal) -> None:
        REFUSED.labels(refusal.value).inc()
        if count := self._lines.add(refusal.value):
            log.warning("%s: %d jobs dropped: %s%s", self._lane.value, count, refusal.value, _HINTS.get(refusal, ""))

    def unknown(self, task: str) -> None:
        if task not in self._unknown and len(self._unknown) < 100:
            self._unknown.add(task)
            log.warning("%s: this version has no task %s; its jobs are left to a later version", self._lane.value, task)


_HINTS = {
    Refusal.UNSIGNED: " (another program or an earlier version wrote them)",
    Refusal.ALTERED: " (GOALSVC_JOB_KEY or GOALSVC_API_KEY must be the same for the API and all workers)",
}


def _is_text(value: object) -> bool:
    return isinstance(value, str)


# -- arq's own command line -------------------------------------------------------------------------------------------


def settings_for_arq(redis_url: str, open_worker: Callable[[], AbstractAsyncContextManager[object]]) -> type:
    """Returns the class that `arq goalsvc.tasks.WorkerSettings` asks for.

    arq is the host of the process: it handles signals and its own health key. The jobs are run by the worker that
    `open_worker` opens, as by `goalsvc worker`; arq's own queue stays empty.
    """
    opened = contextlib.AsyncExitStack()

    async def startup(ctx: dict[str, object]) -> None:
        await opened.enter_async_context(open_worker())

    async def shutdown(ctx: dict[str, object]) -> None:
        await opened.aclose()

    async def nothing(ctx: dict[str, object]) -> None:
        """Stands for the tasks: arq wants at least one."""

    options: dict[str, object] = {
        "functions": [func(nothing, name="nothing", keep_result=0)],
        "queue_name": "goalsvc:arq",
        "redis_settings": RedisSettings.from_dsn(redis_url),
        "on_startup": startup,
        "on_shutdown": shutdown,
        "poll_delay": 1.0,
        "health_check_interval": 15,
        "keep_result": 0,
    }
    return type("WorkerSettings", (), options)
