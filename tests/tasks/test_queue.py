"""The queue: what a job looks like in Redis, and that enqueueing never fails whoever enqueues."""

import pickle
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from arq.jobs import deserialize_job_raw
from bson import Binary, Code, DBRef, Decimal128, Int64, ObjectId
from pydantic import SecretStr
from redis.asyncio import Redis

from goalsvc.clock import to_epoch_milliseconds
from goalsvc.domain.lanes import Lane
from goalsvc.domain.origin import Cause, Origin
from goalsvc.domain.promises import Job
from goalsvc.errors import SettingsError
from goalsvc.settings import Settings
from goalsvc.tasks import ALL
from goalsvc.tasks.arguments import OddValue
from goalsvc.tasks.arq_queue import (
    BODY,
    RUNNING,
    TRIES,
    ArqQueue,
    body_of,
    deserialize,
    job_of,
    script,
    serialize,
    wake_key,
)
from goalsvc.tasks.signing import JobSigner, RefusedJobError
from tests.receivers.fakes import NOW, FakeClock

LANE = Lane.MONEY
NOW_MS = to_epoch_milliseconds(NOW)
SIGNER = JobSigner(["secret"])

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
        """What no job can hold is a value that no task reads: a dead letter, which says its type."""
        written = {"an": object(), "code": [Code("return 1")], "uuid": Binary(b"0123456789abcdef", 4)}
        read = deserialize(serialize(written))
        assert read == {"an": OddValue("object"), "code": [OddValue("Code")], "uuid": OddValue("Binary")}

    def test_ids_and_numbers_of_documents_are_texts_and_numbers(self) -> None:
        identity = ObjectId()
        written = {"id": identity, "long": Int64(2**40), "whole": Decimal128("5"), "part": Decimal128("1.5")}
        read = deserialize(serialize(written | {"reference": DBRef("goals", identity)}))
        assert read == {
            "id": str(identity),
            "long": 2**40,
            "whole": 5,
            "part": 1.5,
            "reference": {"$ref": "goals", "$id": str(identity)},
        }

    def test_what_another_service_named_as_ours_is_no_part_of_it(self) -> None:
        job = Job("i", "transfer", {"amount": 5, "_then": 7, "_settles": False, "_promise": "x"})
        message = deserialize(body_of(job, NOW_MS))
        assert job_of("i", message["f"], message["k"]) == Job("i", "transfer", {"amount": 5})


class TestSigning:
    @pytest.fixture
    def body(self) -> bytes:
        return body_of(FULL, NOW_MS)

    def test_what_was_signed_comes_back(self, body: bytes) -> None:
        assert SIGNER.verified("id", SIGNER.signed("id", body)) == body

    def test_it_is_still_a_job_in_arqs_format(self, body: bytes) -> None:
        """A worker of the version before, which verifies nothing, reads it."""
        name, _, kwargs, _, _ = deserialize_job_raw(SIGNER.signed("id", body), deserializer=deserialize)
        assert job_of(FULL.id, name, kwargs) == back(FULL)

    def test_every_altered_byte_is_noticed(self, body: bytes) -> None:
        signed = SIGNER.signed("id", body)
        for place in range(len(signed)):
            altered = signed[:place] + bytes([signed[place] ^ 1]) + signed[place + 1 :]
            with pytest.raises(RefusedJobError):
                SIGNER.verified("id", altered)

    def test_a_signature_belongs_to_one_id(self, body: bytes) -> None:
        with pytest.raises(RefusedJobError, match="altered"):
            SIGNER.verified("another", SIGNER.signed("id", body))

    def test_what_is_not_signed_is_refused(self, body: bytes) -> None:
        with pytest.raises(RefusedJobError, match="unsigned"):
            SIGNER.verified("id", body)

    def test_another_key_is_refused(self, body: bytes) -> None:
        with pytest.raises(RefusedJobError, match="altered"):
            SIGNER.verified("id", JobSigner(["another"]).signed("id", body))

    def test_a_key_in_rotation_is_accepted(self, body: bytes) -> None:
        assert JobSigner(["next", "secret"]).verified("id", SIGNER.signed("id", body)) == body

    @pytest.mark.parametrize("secrets", [[], [""], ["", ""]])
    def test_without_a_key_nothing_is_signed(self, secrets: list[str]) -> None:
        with pytest.raises(SettingsError, match="GOALSVC_JOB_KEY: required"):
            JobSigner(secrets)

    def test_the_key_is_derived_from_the_api_key(self, body: bytes) -> None:
        settings = Settings(mongodb_url="mongodb://db/goalsvc", redis_url="redis://queue", api_key=SecretStr("secret"))
        assert JobSigner.from_settings(settings).verified("id", SIGNER.signed("id", body)) == body

    def test_a_job_key_of_its_own_wins(self, body: bytes) -> None:
        settings = Settings(
            mongodb_url="mongodb://db/goalsvc",
            redis_url="redis://queue",
            api_key=SecretStr("a"),
            job_key=SecretStr("secret"),
        )
        assert JobSigner.from_settings(settings).verified("id", SIGNER.signed("id", body)) == body


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as opened:
        await opened.flushall()
        yield opened


@pytest.fixture
def queue(redis: Redis) -> ArqQueue:
    return ArqQueue(redis, ALL, FakeClock(), SIGNER)


async def waiting(redis: Redis, lane: Lane = Lane.MONEY) -> dict[str, float]:
    """The ids in that lane, each with the seconds until it is due by Redis's own clock."""
    seconds, microseconds = await redis.time()
    now = seconds + microseconds / 1e6
    return {job_id.decode(): at / 1000 - now for job_id, at in await redis.zrange(lane.queue, 0, -1, withscores=True)}


async def tokens(redis: Redis, lane: Lane = Lane.MONEY) -> int:
    return len(await redis.execute_command("LRANGE", wake_key(lane.queue), 0, -1))  # type: ignore[no-untyped-call]


async def claimed(redis: Redis) -> dict[str, tuple[int, int]]:
    """Claims what is due, as a worker does: by id the argument `amount` and the number of the try."""
    args: list[str | int] = [10, 12_000, RUNNING, BODY, TRIES]
    _, *jobs = await redis.register_script(script("claim"))(keys=[LANE.queue, wake_key(LANE.queue)], args=args)
    bodies = [SIGNER.verified(job_id.decode(), body) for job_id, body in zip(jobs[::4], jobs[1::4], strict=True)]
    amounts = [deserialize(body)["k"].get("amount", 0) for body in bodies]
    return {
        job_id.decode(): (amount, tried) for job_id, amount, tried in zip(jobs[::4], amounts, jobs[2::4], strict=True)
    }


async def finished(redis: Redis, job_id: str, again_after_milliseconds: int = -1) -> None:
    """Notes the end of a job's run, as a worker does."""
    args: list[str | int] = [RUNNING, BODY, TRIES, job_id, again_after_milliseconds, 0]
    await redis.register_script(script("finish"))(keys=[LANE.queue, wake_key(LANE.queue)], args=args)


@pytest.mark.real
class TestArqQueue:
    async def test_a_job_is_a_body_and_a_place_in_the_queue(self, queue: ArqQueue, redis: Redis) -> None:
        queue.enqueue(FULL)
        await queue.flush()
        body = await redis.get("arq:job:goals/g/p")
        assert SIGNER.verified("goals/g/p", body) == body_of(FULL, NOW_MS)
        assert 23 < await redis.pttl("arq:job:goals/g/p") / 3_600_000 <= 24
        assert -10 < (await waiting(redis))["goals/g/p"] <= 0

    async def test_a_worker_that_waits_is_woken(self, queue: ArqQueue, redis: Redis) -> None:
        queue.enqueue(FULL)
        await queue.flush()
        assert await tokens(redis) == 1

    async def test_what_comes_meanwhile_goes_out_together(self, queue: ArqQueue, redis: Redis) -> None:
        await queue.flush()
        before = (await redis.info("commandstats")).get("cmdstat_evalsha", {}).get("calls", 0)
        for number in range(16):
            queue.enqueue(Job(f"j{number}", "transfer", {}))
        await queue.flush()
        assert len(await waiting(redis)) == 16
        assert await tokens(redis) == 4
        assert (await redis.info("commandstats"))["cmdstat_evalsha"]["calls"] - before <= 2  # once more where it is new

    async def test_each_lane_has_its_queue(self, queue: ArqQueue, redis: Redis) -> None:
        queue.enqueue(Job("c", "clip_livestream_as_asset", {}))
        queue.enqueue(Job("n", "deliver_notice", {}))
        await queue.flush()
        assert list(await waiting(redis, Lane.CLIPS)) == ["c"]
        assert list(await waiting(redis, Lane.NOTICES)) == ["n"]
        assert await tokens(redis, Lane.CLIPS) == 1
        assert await waiting(redis) == {}

    async def test_what_is_due_later_waits_and_its_body_lives_longer(self, queue: ArqQueue, redis: Redis) -> None:
        queue.enqueue(Job("l", "transfer", {}, due_at=NOW + timedelta(hours=30)))
        await queue.flush()
        assert (await waiting(redis))["l"] == pytest.approx(30 * 3600, abs=60)
        assert await redis.pttl("arq:job:l") == pytest.approx(54 * 3_600_000, abs=60_000)

    async def test_what_was_due_is_due_now(self, queue: ArqQueue, redis: Redis) -> None:
        queue.enqueue(Job("l", "transfer", {}, due_at=NOW - timedelta(hours=30)))
        await queue.flush()
        assert -10 < (await waiting(redis))["l"] <= 0

    @pytest.mark.parametrize("behind", [-10, 10])
    async def test_a_host_whose_clock_differs_delays_nothing(self, redis: Redis, behind: int) -> None:
        """Due times are by Redis's clock, so that an API and a worker need not agree."""
        differs = FakeClock(datetime.now(UTC) - timedelta(seconds=behind))
        queue = ArqQueue(redis, ALL, differs, SIGNER)
        queue.enqueue(Job("now", "transfer", {}))
        queue.enqueue(Job("due", "transfer", {}, due_at=differs.now()))
        queue.enqueue(Job("soon", "transfer", {}, due_at=differs.now() + timedelta(seconds=60)))
        await queue.flush()
        due = await waiting(redis)
        assert due["now"] <= 0
        assert due["due"] <= 0
        assert due["soon"] == pytest.approx(60, abs=5)

    async def test_a_job_that_waits_is_not_taken_twice(self, queue: ArqQueue, redis: Redis) -> None:
        queue.enqueue(Job("j", "transfer", {"amount": 1}, due_at=NOW + timedelta(hours=1)))
        queue.enqueue(Job("j", "transfer", {"amount": 2}))
        await queue.flush()
        assert (await waiting(redis))["j"] > 3000
        assert b"amount\x01" in await redis.get("arq:job:j")

    async def test_a_job_that_is_enqueued_while_it_runs_is_run_again(self, queue: ArqQueue, redis: Redis) -> None:
        """The run may have fulfilled its promise just before the promise was made anew."""
        queue.enqueue(Job("j", "transfer", {"amount": 1}))
        await queue.flush()
        assert await claimed(redis) == {"j": (1, 1)}
        queue.enqueue(Job("j", "transfer", {"amount": 2}))
        await queue.flush()
        assert await claimed(redis) == {}, "not beside the first"
        await finished(redis, "j")
        assert await claimed(redis) == {"j": (2, 1)}
        await finished(redis, "j")
        assert await redis.keys("arq:*") == []

    async def test_it_is_run_again_when_it_is_due(self, queue: ArqQueue, redis: Redis) -> None:
        queue.enqueue(Job("j", "transfer", {"amount": 1}))
        await queue.flush()
        await claimed(redis)
        queue.enqueue(Job("j", "transfer", {"amount": 2}, due_at=NOW + timedelta(hours=30)))
        await queue.flush()
        await finished(redis, "j")
        assert (await waiting(redis))["j"] == pytest.approx(30 * 3600, abs=60)
        assert await redis.pttl("arq:job:j") == pytest.approx(54 * 3_600_000, abs=60_000)

    async def test_one_that_is_tried_again_anyway_is_not_run_twice(self, queue: ArqQueue, redis: Redis) -> None:
        queue.enqueue(Job("j", "transfer", {"amount": 1}))
        await queue.flush()
        await claimed(redis)
        queue.enqueue(Job("j", "transfer", {"amount": 1}))
        await queue.flush()
        await finished(redis, "j", again_after_milliseconds=0)
        assert await claimed(redis) == {"j": (1, 2)}
        await finished(redis, "j")
        assert await redis.keys("arq:*") == []

    async def test_the_sweep_has_no_job_run_again(self, queue: ArqQueue, redis: Redis) -> None:
        """A promise is still there while its job runs; the sweep meets it at each look."""
        queue.enqueue(Job("j", "transfer", {}))
        await queue.flush()
        await claimed(redis)
        assert await queue.offer(Lane.MONEY, [Job("j", "transfer", {})])
        await finished(redis, "j")
        assert await redis.keys("arq:*") == []

    async def test_without_redis_it_is_lost_but_no_caller_fails(self, redis: Redis, queue: ArqQueue) -> None:
        """Enqueueing is a hint; the sweep finds what was lost."""
        down = ArqQueue(Redis(port=1), ALL, FakeClock(), SIGNER)
        down.enqueue(Job("lost", "transfer", {}))
        await down.flush()
        queue.enqueue(Job("kept", "transfer", {}))
        await queue.flush()
        assert list(await waiting(redis)) == ["kept"]

    async def test_one_that_cannot_be_written_does_not_take_the_others_with_it(
        self, queue: ArqQueue, redis: Redis
    ) -> None:
        """The sweep would enqueue it again and again, each time together with others."""
        queue.enqueue(Job("poison", "transfer", {"amount": 2**70}))
        queue.enqueue(Job("kept", "transfer", {}))
        await queue.flush()
        assert list(await waiting(redis)) == ["kept"]

    async def test_flush_with_nothing_to_do(self, queue: ArqQueue, redis: Redis) -> None:
        await queue.flush()
        assert await redis.dbsize() == 0
