"""The queue: jobs in Redis, in arq's own format. With `worker.py`, the only module that knows arq.

Differences to arq's `enqueue_job`, each measured (docs/performance.md): all jobs that came while a write was under way go
out in the next one, as one pipeline instead of several round trips each; job bodies are msgpack, so that whoever can write
to Redis cannot run code here; a token wakes a blocked worker at once instead of at its next poll.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from arq.constants import job_key_prefix
from arq.jobs import SerializationError, serialize_job
from prometheus_client import Counter
from redis.asyncio import Redis
from redis.exceptions import RedisError

from goalsvc.clock import Clock, SystemClock, to_epoch_milliseconds
from goalsvc.coalescer import Batches
from goalsvc.domain.origin import Origin
from goalsvc.domain.promises import Job
from goalsvc.tasks.task import CLIP_QUEUE, MAIN_QUEUE, Task

log = logging.getLogger(__name__)

DROPPED = Counter(
    "goalsvc_jobs_dropped_total", "Jobs that could not be written to Redis; the sweep enqueues them anew."
)

#: A job body that nobody fetched for so long is dropped by Redis; its promise is still there.
_EXPIRES_MILLISECONDS = 24 * 3600 * 1000
#: More jobs than this are not kept in memory while Redis does not answer; the sweep finds what is dropped.
_MOST_WAITING = 20_000
#: Wake-up tokens beyond this say nothing new.
_MOST_TOKENS = 64


def plain(value: Any) -> Any:
    """What msgspec does not know: MongoDB gives whole numbers beyond 32 bits as an `int` of its own (`bson.Int64`)."""
    if isinstance(value, int):
        return int(value)
    raise TypeError(f"a {type(value).__name__} cannot be part of a job")


serialize = msgspec.msgpack.Encoder(enc_hook=plain).encode
deserialize = msgspec.msgpack.decode


def wake_key(queue: str) -> str:
    """The Redis list on which workers of that queue wait for a token."""
    return f"{queue}:wake"


class ArqQueue:
    """Takes jobs and writes them to Redis in batches that the load forms by itself."""

    def __init__(self, redis: Redis, tasks: Sequence[Task[Any]], clock: Clock) -> None:
        self._redis = redis
        self._queues: Mapping[str, str] = {task.name: task.queue for task in tasks}
        self._clock = clock
        self._machine = SystemClock()
        self._batches: Batches[Job] = Batches("queue writer", self._write)

    def enqueue(self, job: Job) -> None:
        """Takes the job; it is written very soon, together with others. Never raises, never waits."""
        if len(self._batches) >= _MOST_WAITING:
            DROPPED.inc()
            return
        self._batches.take(job)

    async def flush(self) -> None:
        """Waits until all that was taken has been written (or could not be)."""
        await self._batches.flush()

    async def _write(self, batch: Sequence[Job]) -> None:
        try:
            await self._enqueue(batch)
        except (RedisError, OSError) as error:
            DROPPED.inc(len(batch))
            log.warning("%d jobs not enqueued, the sweep will do it: %s", len(batch), error)

    async def _enqueue(self, batch: Sequence[Job]) -> None:
        # Scores are compared with the machine's time, which a test clock does not move.
        now = to_epoch_milliseconds(self._machine.now())
        here = to_epoch_milliseconds(self._clock.now())
        woken: dict[str, int] = {}
        # One MULTI: a body without its place in the queue, or the reverse, would be a job that never runs.
        async with self._redis.pipeline(transaction=True) as pipe:
            for job in batch:
                due = now if job.due_at is None else now + max(0, to_epoch_milliseconds(job.due_at) - here)
                queue = self._queues.get(job.task, MAIN_QUEUE)
                lives = due - now + _EXPIRES_MILLISECONDS
                try:
                    body = body_of(job, now)
                except SerializationError:
                    # A mistake of ours in one job must not keep the others from their places.
                    DROPPED.inc()
                    log.exception("job %s of task %s cannot be written", job.id, job.task)
                    continue
                # Taken only if no job of this id waits or runs: `nx` twice does what arq's WATCH and EXISTS do.
                pipe.set(job_key_prefix + job.id, body, nx=True, px=lives)
                pipe.zadd(queue, {job.id: due}, nx=True)
                woken[queue] = woken.get(queue, 0) + 1
            for queue, count in woken.items():
                pipe.lpush(wake_key(queue), *[b"1"] * min(count, 4))
                pipe.ltrim(wake_key(queue), 0, _MOST_TOKENS - 1)
            await pipe.execute()


def body_of(job: Job, now: int) -> bytes:
    """The job in arq's format. What is not an argument of the task has a name that begins with an underscore."""
    extra = {
        "_promise": job.promise,
        "_settles": job.fulfils,
        "_parent": job.origin.parent or None,
        "_cause": job.origin.cause.document() or None,
        "_then": list(job.then),
    }
    arguments = {**job.arguments, **{name: value for name, value in extra.items() if value not in (None, True, [])}}
    body: bytes = serialize_job(job.task, (), arguments, None, now, serializer=serialize)
    return body


def job_of(job_id: str, name: str, arguments: Mapping[str, Any]) -> Job:
    """The job that `body_of` wrote; also one that somebody enqueued with nothing but the task's own arguments."""
    own = {name: value for name, value in arguments.items() if not name.startswith("_")}
    return Job(
        job_id,
        name,
        own,
        promise=arguments.get("_promise"),
        fulfils=arguments.get("_settles", True),
        origin=Origin.read(arguments.get("_parent"), arguments.get("_cause")),
        then=arguments.get("_then", ()),
    )


async def hasten(redis: Redis, seconds: float) -> None:
    """Makes every job that waits for its time due earlier by that many seconds: a test clock has been moved."""
    for queue in (MAIN_QUEUE, CLIP_QUEUE):
        waiting = await redis.zrange(queue, 0, -1, withscores=True)
        async with redis.pipeline(transaction=False) as pipe:
            for job_id, due in waiting:
                pipe.zadd(queue, {job_id: due - seconds * 1000}, xx=True)
            pipe.lpush(wake_key(queue), b"1")
            await pipe.execute()
