"""The worker process: arq's worker over our tasks, one for the quick queue and one for clips.

`goalsvc worker` and `arq goalsvc.tasks.WorkerSettings` run the same tasks with the same settings; the first also has
`Worker` below, whose differences to arq's own were each measured (docs/performance.md).
"""

import asyncio
import contextlib
import logging
import signal
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from time import time
from typing import Any

from arq.connections import ArqRedis, RedisSettings
from arq.constants import in_progress_key_prefix, job_key_prefix, retry_key_prefix
from arq.cron import CronJob, cron
from arq.jobs import SerializationError, deserialize_job_raw
from arq.worker import Function, Retry, func
from arq.worker import Worker as ArqWorker
from redis.exceptions import RedisError

from goalsvc.coalescer import Batches
from goalsvc.context import Context
from goalsvc.integrations import outbound
from goalsvc.models.database import WITH_PROMISES
from goalsvc.settings import Settings
from goalsvc.tasks import ALL, sweep_promises
from goalsvc.tasks.ending import expire_goals
from goalsvc.tasks.queue import deserialize, job_of, serialize, wake_key
from goalsvc.tasks.reconcile import reconcile_clocks
from goalsvc.tasks.runner import Runner
from goalsvc.tasks.task import CLIP_QUEUE, MAIN_QUEUE, Task
from goalsvc.wiring import open_context

log = logging.getLogger(__name__)

#: How long a running job is taken for running after its worker was last heard of.
LEASE_SECONDS = 12.0
#: How long a worker that has nothing to do waits for a token before it looks by itself.
LONGEST_WAIT_SECONDS = 1.0
#: How long a worker waits, after SIGTERM, for the jobs that it has in hand; what is cut off is run again by another.
STOP_SECONDS = 8.0
#: How many clips one worker cuts at a time: each keeps a core busy.
CLIPS_AT_ONCE = 2

#: arq must never give a job up by itself: how often it is tried is the runner's decision.
_NEVER = 1_000_000

#: Claims jobs that are due and that nobody runs: their bodies and how often they were tried come along, all in one round
#: trip (arq needs four for each). The last value is the time at which the next deferred job is due. Who takes all that is due
#: takes the tokens that are left as well: they would wake him for nothing.
_CLAIM = """
local now, most, lease = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local claimed = {}
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 1000)
for i = 1, #due do
  if #claimed >= 3 * most then break end
  if redis.call('SET', ARGV[4] .. due[i], '1', 'NX', 'PX', lease) then
    claimed[#claimed + 1] = due[i]
    claimed[#claimed + 1] = redis.call('GET', ARGV[5] .. due[i]) or ''
    claimed[#claimed + 1] = redis.call('INCR', ARGV[6] .. due[i])
    redis.call('EXPIRE', ARGV[6] .. due[i], 88400)
  end
end
if #claimed < 3 * most and #due < 1000 then redis.call('DEL', KEYS[2]) end
local next = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
claimed[#claimed + 1] = next[2] or ''
return claimed
"""


class Worker(ArqWorker):
    """arq's worker with another loop: it claims many jobs at once, is woken by a token instead of polling, clears away in one
    write what ended meanwhile, and comes back by itself when Redis was away. It keeps running jobs leased: arq marks them for
    as long as the longest time-out of all tasks, so that after a crash nobody touches them for minutes.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._ended: Batches[_Ended] = Batches("clearing", self._clear_away)
        self._room = asyncio.Event()
        self._claiming = asyncio.Lock()
        self._next_heart_beat = 0.0

    async def main(self) -> None:
        """Runs jobs until it is cancelled."""
        self.ctx["redis"] = self.pool
        claim = self.pool.register_script(_CLAIM)
        renewing = asyncio.create_task(self._renew_leases(), name="leases")
        try:
            while True:
                try:
                    await self._turn(claim)
                except (RedisError, OSError) as error:
                    log.warning("Redis does not answer, trying again: %s", error)
                    await asyncio.sleep(LONGEST_WAIT_SECONDS)
        finally:
            renewing.cancel()

    async def stop(self, limit_seconds: float) -> None:
        """Takes no more jobs and waits for those in hand, for so long."""
        self.allow_pick_jobs = False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_seconds):
                async with self._claiming:
                    pass  # what is being claimed at this moment is in hand
                if self.tasks:
                    await asyncio.wait(list(self.tasks.values()))
        await self._ended.flush()
        if self.main_task is not None:
            self.main_task.cancel()

    async def _turn(self, claim: Any) -> None:
        async with self._claiming:
            free = self.max_jobs - len(self.tasks) if self.allow_pick_jobs else 0
            claimed, next_due = await self._claim(claim, free) if free > 0 else (0, None)
        wait = LONGEST_WAIT_SECONDS
        if next_due is not None:
            wait = min(wait, max((next_due - _now()) / 1000, 0.001))
        if time() >= self._next_heart_beat:
            self._next_heart_beat = time() + 0.5
            await self.heart_beat()  # enqueues what is run by the clock
        if claimed == free:
            # There may be more: it is fetched as soon as there is room for a good part of it.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._room.wait()
        else:
            await self._token(wait)

    async def _claim(self, claim: Any, most: int) -> tuple[int, float | None]:
        """Claims jobs and starts them: how many, and when the next deferred one is due (epoch milliseconds)."""
        self._room.clear()
        prefixes = [in_progress_key_prefix, job_key_prefix, retry_key_prefix]
        lease = int(LEASE_SECONDS * 1000)
        keys = [self.queue_name, wake_key(self.queue_name)]
        *claimed, next_due = await claim(keys=keys, args=[_now(), most, lease, *prefixes])
        for job_id, body, tried in zip(claimed[::3], claimed[1::3], claimed[2::3], strict=True):
            try:
                self._start(job_id.decode(), body, tried)
            except UnicodeDecodeError:
                log.warning("a job is dropped: its id is no text")
                await self.pool.zrem(self.queue_name, job_id)
        return len(claimed) // 3, float(next_due) if next_due else None

    async def _token(self, seconds: float) -> None:
        # redis-py's own `blpop` is typed for whole seconds only.
        await self.pool.execute_command("BLPOP", wake_key(self.queue_name), seconds)  # type: ignore[no-untyped-call]

    def _start(self, job_id: str, body: bytes, tried: int) -> None:
        running = asyncio.create_task(self._run(job_id, body, tried), name=job_id)
        self.tasks[job_id] = running
        running.add_done_callback(lambda _: self._forget(job_id))

    def _forget(self, job_id: str) -> None:
        self.tasks.pop(job_id, None)
        if len(self.tasks) <= self.max_jobs * 3 // 4:
            self._room.set()

    # -- one job ------------------------------------------------------------------------------------------------------

    async def _run(self, job_id: str, body: bytes, tried: int) -> None:
        """Runs a job whose body is in arq's format, and says what is to become of it in Redis."""
        again_at: int | None = None
        is_cron = False
        try:
            name, args, kwargs, _, _ = deserialize_job_raw(body, deserializer=self.job_deserializer)
            if args or not _is_callable_with(name, kwargs):
                raise SerializationError
            function = self.functions[name]
            is_cron = isinstance(function, CronJob)
            async with asyncio.timeout(function.timeout_s):
                await function.coroutine({**self.ctx, "job_id": job_id, "job_try": tried}, *args, **kwargs)
        except Retry as retry:
            again_at = _now() + (retry.defer_score or 0)
        except (SerializationError, KeyError):
            # Expired, or of a version that we are not, or not by us: its promise, if there is one, is found by the sweep.
            log.warning("job %s is dropped: no body, or no such task", job_id)
        except asyncio.CancelledError:
            again_at = _now()
            raise
        except Exception:
            # The runner deals with errors of tasks; this is the database or Redis failing it meanwhile.
            log.exception("job %s could not be run to its end, it will be tried again", job_id)
            again_at = _now() + min(1000 * 2**tried, 30_000)
        finally:
            self._ended.take(_Ended(job_id, again_at, is_cron))

    async def _clear_away(self, batch: Sequence["_Ended"]) -> None:
        try:
            async with self.pool.pipeline(transaction=True) as pipe:
                for job in batch:
                    job.clear(pipe, self.queue_name)
                await pipe.execute()
        except (RedisError, OSError) as error:
            log.warning("%d jobs ended, but Redis does not know; they may be run again: %s", len(batch), error)

    async def _renew_leases(self) -> None:
        while True:
            await asyncio.sleep(LEASE_SECONDS / 3)
            with contextlib.suppress(RedisError, OSError):
                async with self.pool.pipeline(transaction=False) as pipe:
                    for job_id in list(self.tasks):
                        pipe.pexpire(in_progress_key_prefix + job_id, int(LEASE_SECONDS * 1000))
                    await pipe.execute()


@dataclass(frozen=True, slots=True)
class _Ended:
    """A job that was run: done with, or to be run again at `again_at` (epoch milliseconds)."""

    job_id: str
    again_at: int | None
    is_cron: bool

    def clear(self, pipe: Any, queue: str) -> None:
        """Says so in Redis, in the keys that arq knows."""
        running, tries = in_progress_key_prefix + self.job_id, retry_key_prefix + self.job_id
        if self.again_at is not None:
            pipe.zadd(queue, {self.job_id: self.again_at}, xx=True)
            pipe.delete(running)
            pipe.lpush(wake_key(queue), b"1")  # the wait that is under way knows nothing of this time
            return
        if self.is_cron:
            # The mark stays for a while, so that another worker whose clock is late does not run the same tick again.
            pipe.pexpire(running, _CRON_MARK_MILLISECONDS)
        else:
            pipe.delete(running)
        pipe.delete(tries, job_key_prefix + self.job_id)
        pipe.zrem(queue, self.job_id)


_CRON_MARK_MILLISECONDS = 60_000


def _now() -> int:
    """Epoch milliseconds by the machine's clock, which is what scores in Redis are compared with."""
    return int(time() * 1000)


def _is_callable_with(name: object, arguments: object) -> bool:
    """Whether that can be a task's name and arguments; arq's own first argument is not for a job to give."""
    if not isinstance(name, str) or not isinstance(arguments, dict):
        return False
    return all(isinstance(argument, str) and argument != "ctx" for argument in arguments)


def functions_of(tasks: tuple[Task[Any], ...], runner: Runner, queue: str) -> list[Function]:
    """The tasks of that queue as functions for arq, which find the context in arq's `ctx`."""
    return [
        func(
            _run(task.name, runner),
            name=task.name,
            keep_result=0,  # a kept result would block the job's id
            timeout=task.timeout_seconds + 5,
            max_tries=_NEVER,
        )
        for task in tasks
        if task.queue == queue
    ]


def _run(name: str, runner: Runner) -> Any:
    async def run(ctx: dict[str, Any], **arguments: Any) -> None:
        context: Context = ctx["context"]
        again = await runner.run(context, job_of(ctx["job_id"], name, arguments), ctx["job_try"])
        if again is not None and not again.failed:
            # arq counts every run as a try; one that only waited must not bring the task nearer to its last.
            await ctx["redis"].decr(retry_key_prefix + ctx["job_id"])
        if again is not None:
            raise Retry(defer=max(again.after_seconds, 0.001))

    return run


def cron_jobs(runner: Runner, settings: Settings) -> list[CronJob]:
    """What is run by the clock. All of it finds its work by itself, so that a missed tick costs only time."""
    return [
        _cron(sweep_promises, runner, _every(settings.promise_sweep_seconds)),
        _cron(expire_goals, runner, _every(1)),
        _cron(reconcile_clocks, runner, _every(settings.reconcile_seconds)),
    ]


def _every(seconds: float) -> set[int]:
    """The seconds of a minute at which something happens that is to happen so often, at least once a minute."""
    return set(range(0, 60, max(1, min(60, round(seconds)))))


def _cron(task: Task[[]], runner: Runner, seconds: set[int]) -> CronJob:
    run = _run(task.name, runner)

    async def tick(ctx: dict[str, Any]) -> None:
        await run(ctx)

    return cron(tick, name=f"cron:{task.name}", second=seconds, run_at_startup=True, keep_result=0, max_tries=1)


def redis_settings(url: str) -> RedisSettings:
    """The address in arq's form."""
    return RedisSettings.from_dsn(url)


def options_of(settings: Settings, runner: Runner, queue: str) -> dict[str, Any]:
    """arq's options for the worker of that queue."""
    main = queue == MAIN_QUEUE
    return {
        "functions": functions_of(ALL, runner, queue),
        "cron_jobs": cron_jobs(runner, settings) if main else None,
        "queue_name": queue,
        "max_jobs": settings.worker_max_jobs if main else CLIPS_AT_ONCE,
        "max_tries": _NEVER,
        "keep_result": 0,
        "job_serializer": serialize,
        "job_deserializer": deserialize,
        "log_results": False,
    }


async def run_worker(settings: Settings) -> None:
    """Runs both workers of this process until SIGTERM or SIGINT; then finishes what is in hand, within a limit."""
    outbound.load()
    runner = Runner(ALL, WITH_PROMISES)
    stopped = asyncio.Event()
    async with open_context(settings) as (context, resources):
        workers = []
        for queue in (MAIN_QUEUE, CLIP_QUEUE):
            pool = ArqRedis(
                resources.redis.connection_pool,
                job_serializer=serialize,
                job_deserializer=deserialize,
                default_queue_name=queue,
            )
            options = options_of(settings, runner, queue)
            workers.append(Worker(redis_pool=pool, handle_signals=False, ctx={"context": context}, **options))
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, stopped.set)
        running = [asyncio.create_task(worker.async_run(), name=worker.queue_name) for worker in workers]
        log.info("worker ready")
        waiting = asyncio.create_task(stopped.wait())
        await asyncio.wait([waiting, *running], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        await asyncio.gather(*(worker.stop(STOP_SECONDS) for worker in workers))
        for ended in await asyncio.gather(*running, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended


class _Companions:
    """What `arq goalsvc.tasks.WorkerSettings` runs besides its own worker: the context, and the worker for clips."""

    def __init__(self, settings: Settings, runner: Runner) -> None:
        self._settings, self._runner = settings, runner
        self._stack = AsyncExitStack()

    async def startup(self, ctx: dict[str, Any]) -> None:
        context, resources = await self._stack.enter_async_context(open_context(self._settings))
        ctx["context"] = context
        pool = ArqRedis(
            resources.redis.connection_pool,
            job_serializer=serialize,
            job_deserializer=deserialize,
            default_queue_name=CLIP_QUEUE,
        )
        options = options_of(self._settings, self._runner, CLIP_QUEUE)
        clips = Worker(redis_pool=pool, handle_signals=False, ctx={"context": context}, **options)
        running = asyncio.create_task(clips.async_run(), name=CLIP_QUEUE)

        async def stop() -> None:
            await clips.stop(STOP_SECONDS)
            await asyncio.wait([running])

        self._stack.push_async_callback(stop)

    async def shutdown(self, ctx: dict[str, Any]) -> None:
        await self._stack.aclose()


def worker_settings() -> type:
    """The class that arq's own command line asks for, made from the environment when it is asked for."""
    settings = Settings.from_environment()
    runner = Runner(ALL, WITH_PROMISES)
    companions = _Companions(settings, runner)
    options = options_of(settings, runner, MAIN_QUEUE) | {
        "redis_settings": redis_settings(settings.redis_url),
        "on_startup": companions.startup,
        "on_shutdown": companions.shutdown,
        "poll_delay": 0.05,
        "job_completion_wait": int(STOP_SECONDS),
    }
    return type("WorkerSettings", (), options)


__all__ = ["Worker", "run_worker", "worker_settings"]
