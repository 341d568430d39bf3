"""The queue: what a job looks like in Redis, and that enqueueing never fails whoever enqueues."""

import pickle
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast

import msgspec
import pytest
from arq.jobs import deserialize_job_raw
from bson import Int64, ObjectId
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from goalsvc.clock import to_epoch_milliseconds
from goalsvc.domain.origin import Cause, Origin
from goalsvc.domain.promises import Job
from goalsvc.tasks import ALL
from goalsvc.tasks.queue import ArqQueue, body_of, deserialize, job_of, serialize, wake_key
from goalsvc.tasks.task import CLIP_QUEUE, MAIN_QUEUE
from tests.receivers.fakes import NOW, FakeClock

NOW_MS = to_epoch_milliseconds(NOW)

#: An argument of every type that a task takes.
ARGUMENTS: dict[str, Any] = {
    "goal_id": "6955d0000000000000000002",
    "amount": 7,
    "huge": 2**40,
    "exp": NOW,
    "from_user_id": None,
    "tags": ["escrow::show_funding:1"],
    "metadata": {"doc_id": "d", "user_id": "héllo ☃"},
}
FULL = Job(
    "goals/g/p",
    "transfer",
    ARGUMENTS,
    promise="goals/g/p",
    fulfils=False,
    origin=Origin("s", "goal.ended/r", Cause(goal_id="g", event_id="e", key="héllo ☃", happened_at=NOW)),
    then=({"task": "transfer_escrow", "arguments": {"event": "escrow.completed"}},),
)


def back(job: Job) -> Job:
    """The job as the worker gets it."""
    name, args, kwargs, _, _ = deserialize_job_raw(body_of(job, NOW_MS), deserializer=deserialize)
    assert list(args) == []
    return job_of(job.id, name, kwargs)


class TestBody:
    @pytest.mark.parametrize("job", [FULL, Job("id", "sweep_promises", {})], ids=["full", "bare"])
    def test_comes_back_as_it_was(self, job: Job) -> None:
        returned = back(job)
        assert (returned.id, returned.task, returned.arguments) == (job.id, job.task, job.arguments)
        assert (returned.promise, returned.fulfils, returned.origin) == (job.promise, job.fulfils, job.origin)
        assert list(returned.then) == list(job.then)

    def test_a_time_stays_an_aware_time(self) -> None:
        assert back(FULL).arguments["exp"] == NOW
        assert back(FULL).arguments["exp"].utcoffset() == timedelta(0)

    def test_an_integer_of_mongodbs_own_type_is_an_integer(self) -> None:
        assert back(Job("i", "transfer", {"amount": Int64(2**40)})).arguments == {"amount": 2**40}

    def test_what_somebody_enqueued_by_hand_is_a_job_too(self) -> None:
        assert job_of("i", "deactivate_goal", {"goal_id": "g"}) == Job("i", "deactivate_goal", {"goal_id": "g"})

    def test_it_is_msgpack(self) -> None:
        assert isinstance(msgspec.msgpack.decode(body_of(FULL, NOW_MS)), dict)

    def test_pickle_is_never_read(self) -> None:
        """Whoever can write to Redis must not be able to run code here."""
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            with pytest.raises(msgspec.DecodeError):
                deserialize(pickle.dumps({"f": print}, protocol))

    def test_nor_written(self) -> None:
        with pytest.raises(TypeError):
            serialize({"an": object()})

    def test_an_object_id_is_refused_rather_than_changed(self) -> None:
        with pytest.raises(TypeError):
            serialize({"goal_id": ObjectId()})


@dataclass
class Commands:
    """A Redis of which only what is written is kept."""

    written: list[list[tuple[Any, ...]]] = field(default_factory=list)
    down: int = 0
    pending: list[tuple[Any, ...]] = field(default_factory=list)

    @asynccontextmanager
    async def pipeline(self, transaction: bool) -> AsyncIterator["Commands"]:
        assert transaction
        self.pending = []
        yield self

    def set(self, key: str, body: bytes, *, nx: bool, px: int) -> None:
        self.pending.append(("set", key, body, nx, px))

    def zadd(self, queue: str, members: dict[str, int], *, nx: bool) -> None:
        self.pending.append(("zadd", queue, members, nx))

    def lpush(self, key: str, *tokens: bytes) -> None:
        self.pending.append(("lpush", key, len(tokens)))

    def ltrim(self, key: str, begin: int, end: int) -> None:
        self.pending.append(("ltrim", key, begin, end))

    async def execute(self) -> None:
        if self.down:
            self.down -= 1
            raise RedisConnectionError("down")
        self.written.append(self.pending)

    def named(self, name: str) -> list[tuple[Any, ...]]:
        return [command[1:] for commands in self.written for command in commands if command[0] == name]


@pytest.fixture
def redis() -> Commands:
    return Commands()


@pytest.fixture
def queue(redis: Commands) -> ArqQueue:
    return ArqQueue(cast("Redis", redis), ALL, FakeClock())


class TestArqQueue:
    async def test_a_job_is_a_body_and_a_place_in_the_queue(self, queue: ArqQueue, redis: Commands) -> None:
        queue.enqueue(FULL)
        await queue.flush()
        ((key, body, taken_once, lives),) = redis.named("set")
        assert (key, taken_once, lives) == ("arq:job:goals/g/p", True, 24 * 3600 * 1000)
        assert body == body_of(FULL, NOW_MS)
        assert redis.named("zadd") == [(MAIN_QUEUE, {"goals/g/p": NOW_MS}, True)]

    async def test_whoever_waits_is_woken(self, queue: ArqQueue, redis: Commands) -> None:
        queue.enqueue(FULL)
        await queue.flush()
        assert redis.named("lpush") == [(wake_key(MAIN_QUEUE), 1)]

    async def test_what_comes_meanwhile_goes_out_together(self, queue: ArqQueue, redis: Commands) -> None:
        for number in range(16):
            queue.enqueue(Job(f"j{number}", "transfer", {}))
        await queue.flush()
        assert len(redis.written) == 1
        assert len(redis.named("set")) == 16
        assert redis.named("lpush") == [(wake_key(MAIN_QUEUE), 4)]

    async def test_clips_go_to_their_own_queue(self, queue: ArqQueue, redis: Commands) -> None:
        queue.enqueue(Job("c", "clip_livestream_as_asset", {}))
        await queue.flush()
        assert redis.named("zadd") == [(CLIP_QUEUE, {"c": NOW_MS}, True)]
        assert redis.named("lpush") == [(wake_key(CLIP_QUEUE), 1)]

    async def test_what_is_due_later_waits_and_its_body_lives_longer(self, queue: ArqQueue, redis: Commands) -> None:
        queue.enqueue(Job("l", "transfer", {}, due_at=NOW + timedelta(hours=30)))
        await queue.flush()
        assert redis.named("zadd") == [(MAIN_QUEUE, {"l": NOW_MS + 30 * 3600 * 1000}, True)]
        assert redis.named("set")[0][3] == 54 * 3600 * 1000

    async def test_what_was_due_is_due_now(self, queue: ArqQueue, redis: Commands) -> None:
        queue.enqueue(Job("l", "transfer", {}, due_at=NOW - timedelta(hours=30)))
        await queue.flush()
        assert redis.named("zadd") == [(MAIN_QUEUE, {"l": NOW_MS}, True)]

    async def test_without_redis_it_is_lost_but_nobody_fails(self, queue: ArqQueue, redis: Commands) -> None:
        """Enqueueing is a hint; the sweep finds what was lost."""
        redis.down = 1
        queue.enqueue(Job("lost", "transfer", {}))
        await queue.flush()
        queue.enqueue(Job("kept", "transfer", {}))
        await queue.flush()
        assert redis.named("zadd") == [(MAIN_QUEUE, {"kept": NOW_MS}, True)]

    async def test_one_that_cannot_be_written_does_not_take_the_others_with_it(
        self, queue: ArqQueue, redis: Commands
    ) -> None:
        """The sweep would enqueue it again and again, each time together with others."""
        queue.enqueue(Job("poison", "transfer", {"goal_id": ObjectId()}))
        queue.enqueue(Job("kept", "transfer", {}))
        await queue.flush()
        assert redis.named("zadd") == [(MAIN_QUEUE, {"kept": NOW_MS}, True)]

    async def test_flush_with_nothing_to_do(self, queue: ArqQueue, redis: Commands) -> None:
        await queue.flush()
        assert redis.written == []
