"""The queue: jobs in Redis, in arq's own format. With `arq_worker.py` and the scripts, the only module that knows arq.

Differences to arq's `enqueue_job`, each measured (docs/performance.md): all jobs that came while a write was under way go
out in the next one, as one script instead of several round trips each; job bodies are signed msgpack, so that write access
to Redis neither runs code here nor has work done; a token wakes a blocked worker at once instead of at its next poll; due
times are by Redis's clock alone.
"""

import contextlib
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from arq.constants import in_progress_key_prefix, job_key_prefix, retry_key_prefix
from prometheus_client import Counter
from redis.asyncio import Redis
from redis.exceptions import RedisError

from goalsvc.clock import Clock, from_epoch_milliseconds, to_epoch_milliseconds
from goalsvc.coalescer import Batches
from goalsvc.domain.lanes import Lane
from goalsvc.domain.origin import Origin
from goalsvc.domain.promises import Job
from goalsvc.domain.reading import plain
from goalsvc.tasks.arguments import OddValue
from goalsvc.tasks.signing import JobSigner
from goalsvc.tasks.task import Task

log = logging.getLogger(__name__)

DROPPED = Counter(
    "goalsvc_jobs_dropped_total", "Jobs that could not be written to Redis; the sweep enqueues them anew."
)

#: arq's keys.
RUNNING, BODY, TRIES = in_progress_key_prefix, job_key_prefix, retry_key_prefix

#: Redis drops a job body that no worker has fetched for this long; its promise is still there.
_EXPIRES_MILLISECONDS = 24 * 3600 * 1000
#: More jobs than this are not kept in memory while Redis does not answer; the sweep finds what is dropped.
_MOST_WAITING = 20_000
#: Jobs in one script, which nothing else in Redis interrupts.
_MOST_AT_ONCE = 500
#: The sweep adds no job to a queue that is longer than this: it would only fill Redis.
_MOST_QUEUED = 50_000
#: Wake-up tokens beyond this say nothing new.
_MOST_TOKENS = 64
#: Counts the formats of jobs; 2: signed.
_FORMAT = 2


#: The flag lets it be noted on a server that is full, so that the sweep does not look at everything each time.
_NOTE_SWEPT = """#!lua flags=allow-oom
if ARGV[2] == '' then return redis.call('SET', KEYS[1], ARGV[1], 'XX', 'KEEPTTL') end
return redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
"""


def _swept_key(lane: Lane) -> str:
    return f"goalsvc:swept:{lane.value}"


def script(name: str) -> str:
    """Returns the text of one of our scripts."""
    return Path(__file__).with_name(f"{name}.lua").read_text("utf-8")


#: The msgpack extension that stands for a value of a type that no job can hold; its data is the name of that type.
_ODD = 1


def _encodable(value: object) -> object:
    """Returns what a job carries in place of a value of a type of MongoDB's (`bson.Int64`, a regular expression).

    A job is written whatever its arguments are: what no task can read becomes a dead letter when the job is run.
    """
    found = plain(value)
    return msgspec.msgpack.Ext(_ODD, type(value).__name__.encode()) if found is value else found


def _decoded(code: int, data: memoryview) -> OddValue:
    return OddValue(bytes(data).decode() if code == _ODD else f"extension {code}")


serialize = msgspec.msgpack.Encoder(enc_hook=_encodable).encode
deserialize = msgspec.msgpack.Decoder(ext_hook=_decoded).decode


def wake_key(queue: str) -> str:
    """Returns the Redis list on which workers of that queue wait for a token.

    During an upgrade, workers of an earlier format wait on another list. They drop jobs that they cannot run, so those that
    can must be the first to be woken.
    """
    return f"{queue}:wake:{_FORMAT}"


class ArqQueue:
    """Takes jobs and writes them to Redis in batches that the load forms by itself."""

    def __init__(self, redis: Redis, tasks: Sequence[Task[Any]], clock: Clock, signer: JobSigner) -> None:
        self._redis = redis
        self._script = redis.register_script(script("enqueue"))
        self._note_swept = redis.register_script(_NOTE_SWEPT)
        self._lanes: Mapping[str, Lane] = {task.name: task.lane for task in tasks}
        self._clock, self._signer = clock, signer
        self._batches: Batches[Job] = Batches("queue writer", self._write)

    def enqueue(self, job: Job) -> None:
        """Takes the job; it is written very soon, together with others. Never raises, never waits."""
        if len(self._batches) >= _MOST_WAITING:
            DROPPED.inc()
            return
        self._batches.take(job)

    async def flush(self) -> None:
        """Waits until all jobs that were taken have been written, or could not be."""
        await self._batches.flush()

    async def offer(self, lane: Lane, jobs: Sequence[Job]) -> bool:
        """Writes these jobs of that lane now. False when Redis does not answer or is full, or the lane has enough jobs."""
        try:
            return await self._enqueue(lane, jobs, _MOST_QUEUED) >= 0
        except (RedisError, OSError) as error:
            log.warning("the sweep could not enqueue %d jobs: %s", len(jobs), error)
            return False

    async def swept_until(self, lane: Lane) -> datetime | None:
        """Until when all due promises of that lane have been offered; None when all are to be looked at."""
        try:
            noted = await self._redis.get(_swept_key(lane))
            return None if noted is None else from_epoch_milliseconds(int(noted))
        except (RedisError, OSError, ValueError):
            return None

    async def note_swept(self, lane: Lane, until: datetime, whole_again_seconds: float | None) -> None:
        """Notes that all due promises of that lane until then have been offered; Redis forgets it when it is emptied."""
        lifetime = "" if whole_again_seconds is None else max(1, round(whole_again_seconds * 1000))
        with contextlib.suppress(RedisError, OSError):  # then all are looked at again
            await self._note_swept(keys=[_swept_key(lane)], args=[to_epoch_milliseconds(until), lifetime])

    async def _write(self, batch: Sequence[Job]) -> None:
        by_lane: dict[Lane, list[Job]] = defaultdict(list)
        for job in batch:
            by_lane[self._lanes.get(job.task, Lane.MONEY)].append(job)
        for lane, jobs in by_lane.items():
            for first in range(0, len(jobs), _MOST_AT_ONCE):
                some = jobs[first : first + _MOST_AT_ONCE]
                try:
                    await self._enqueue(lane, some)
                except (RedisError, OSError) as error:
                    DROPPED.inc(len(some))
                    log.warning("%d jobs could not be enqueued; the sweep will enqueue them: %s", len(some), error)

    async def _enqueue(self, lane: Lane, jobs: Sequence[Job], most: int = 0) -> int:
        """Returns how many of the jobs are new, or -1 when the lane already holds `most` jobs."""
        now = self._clock.now()
        now_milliseconds = to_epoch_milliseconds(now)
        given: list[str | int | bytes] = [most, _MOST_TOKENS, BODY, RUNNING]
        for job in jobs:
            delay = 0 if job.due_at is None else max(0, to_epoch_milliseconds(job.due_at) - now_milliseconds)
            try:
                body = self._signer.signed(job.id, body_of(job, now_milliseconds))
            except (TypeError, ValueError, OverflowError, RecursionError):
                # A mistake of ours in one job must not keep the others from their places.
                DROPPED.inc()
                log.exception("job %s of task %s cannot be written", job.id, job.task)
                continue
            given += [job.id, delay, delay + _EXPIRES_MILLISECONDS, body]
        return int(await self._script(keys=[lane.queue, wake_key(lane.queue)], args=given))


def body_of(job: Job, now: int) -> bytes:
    """Returns the job in arq's format. What is not an argument of the task has a name that begins with an underscore.

    Arguments of such a name are another service's, and left out.
    """
    extra = {
        "_promise": job.promise,
        "_settles": job.fulfils,
        "_parent": job.origin.parent or None,
        "_cause": job.origin.cause.document() or None,
        "_then": list(job.then),
    }
    own = {name: value for name, value in job.arguments.items() if not name.startswith("_")}
    arguments = {**own, **{name: value for name, value in extra.items() if value not in (None, True, [])}}
    return serialize({"t": None, "f": job.task, "a": (), "k": arguments, "et": now})


def job_of(job_id: str, name: str, arguments: Mapping[str, Any]) -> Job:
    """Returns the job that `body_of` wrote, or one that has nothing but the task's own arguments."""
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
    """Brings the due time of each waiting job forward by that many seconds, because the test clock was advanced."""
    for lane in Lane:
        waiting = await redis.zrange(lane.queue, 0, -1, withscores=True)
        async with redis.pipeline(transaction=False) as pipe:
            for job_id, due in waiting:
                pipe.zadd(lane.queue, {job_id: due - seconds * 1000}, xx=True)
            pipe.lpush(wake_key(lane.queue), b"1")
            await pipe.execute()


async def queue_depths(redis: Redis) -> Mapping[Lane, tuple[int, float]]:
    """Returns how many jobs of each lane are due, and for how many seconds the oldest has been. Raises RedisError."""
    answer = await redis.register_script(script("queue_depths"))(keys=[lane.queue for lane in Lane])
    return {lane: (int(answer[2 * at]), int(answer[2 * at + 1]) / 1000) for at, lane in enumerate(Lane)}
