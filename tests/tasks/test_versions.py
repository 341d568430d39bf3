"""A worker of this version beside an API of the version before, and the reverse."""

from typing import Any

import msgspec
import pytest
from arq.jobs import deserialize_job_raw, serialize_job
from bson import ObjectId

from goalsvc.clock import SystemClock
from goalsvc.domain.lanes import Lane
from goalsvc.domain.promises import Job
from goalsvc.tasks.arq_queue import body_of, deserialize, wake_key
from goalsvc.tasks.arq_worker import REFUSED
from goalsvc.tasks.signing import JobSigner
from tests.stories.scenes import a_karaoke
from tests.world import API_KEY, World

pytestmark = pytest.mark.real


def body_of_the_version_before(task: str, arguments: dict[str, Any], promise: str) -> bytes:
    """What version 0.1.0 wrote: arq's format in msgpack, without a signature."""
    given = {**arguments, "_promise": promise}
    body: bytes = serialize_job(task, (), given, None, 0, serializer=msgspec.msgpack.encode)
    return body


async def enqueue(world: World, job_id: str, body: bytes) -> None:
    await world.redis.set(f"arq:job:{job_id}", body, px=60_000)
    await world.redis.zadd(Lane.MONEY.queue, {job_id: 0})
    await world.redis.execute_command("LPUSH", wake_key(Lane.MONEY.queue), b"1")  # type: ignore[no-untyped-call]


async def test_a_job_of_the_version_before_moves_nothing_and_its_promise_is_kept(busy_world: World) -> None:
    """It cannot be told from a planted one; the promise in the document is found by the sweep."""
    goal = await busy_world.given(a_karaoke())
    await busy_world.settle()
    arguments = {"goal_id": goal.id, "amount": 30, "event_id": "event-1"}
    promise = {
        "id": "event-1",
        "task": "increment_goal_progress",
        "arguments": arguments,
        "at": busy_world.clock.now(),
        "parent": "",
    }
    busy_world.database.goals.update_one({"_id": ObjectId(goal.id)}, {"$push": {"promises": promise}})
    before = REFUSED.labels("unsigned")._value.get()
    ref = f"goals/{goal.id}/event-1"
    await enqueue(busy_world, ref, body_of_the_version_before("increment_goal_progress", arguments, ref))
    await busy_world.work()
    assert REFUSED.labels("unsigned")._value.get() == before + 1
    assert busy_world.progress(goal) == 0
    await busy_world.settle()
    assert busy_world.progress(goal) == 30
    busy_world.database.goals.delete_many({})  # no webhook ever told of these seconds


async def test_arguments_of_a_later_version_are_ignored(busy_world: World) -> None:
    """An API that is newer than this worker: its signed job has one argument more."""
    signer, now = JobSigner([API_KEY]), 0
    job = Job("later", "deactivate_goal", {"goal_id": "6955d0000000000000000002", "colour": "red"})
    await enqueue(busy_world, job.id, signer.signed(job.id, body_of(job, now)))
    await busy_world.work()
    assert busy_world.all("dead_letters") == []


async def test_a_missing_argument_is_a_dead_letter_that_names_it(busy_world: World) -> None:
    busy_world.has_dead_letters = True
    job = Job("earlier", "deactivate_goal", {})
    await enqueue(busy_world, job.id, JobSigner([API_KEY]).signed(job.id, body_of(job, 0)))
    await busy_world.work()
    (letter,) = busy_world.all("dead_letters")
    assert letter["tries"] == 1
    assert letter["reason"].startswith("missing_argument: deactivate_goal: goal_id: required")


@pytest.mark.parametrize("arguments", [{}, {"goal_id": "6955d0000000000000000002"}], ids=["none", "no session"])
async def test_the_death_of_a_job_that_names_nothing_is_one_dead_letter(
    busy_world: World, arguments: dict[str, Any]
) -> None:
    """What follows the death of a recording's task cannot be told of a session that is not named."""
    busy_world.has_dead_letters = True
    job = Job("earlier", "StopRecord", arguments)
    await enqueue(busy_world, job.id, JobSigner([API_KEY]).signed(job.id, body_of(job, 0)))
    await busy_world.work()
    assert [letter["task"] for letter in busy_world.all("dead_letters")] == ["StopRecord"]
    assert [event for event in busy_world.all("events") if event["type"] == "recording.failed"] == []


def test_a_worker_of_the_version_before_reads_our_jobs() -> None:
    """It verifies no signature, and finds the task, its arguments and its promise where it looks for them."""
    at = SystemClock().now()
    arguments = {"goal_id": "g", "at": at}
    job = Job("goals/g/p", "announce_goal_started", arguments, promise="goals/g/p")
    signed = JobSigner(["secret"]).signed(job.id, body_of(job, 0))
    name, positional, named, _, _ = deserialize_job_raw(signed, deserializer=deserialize)
    assert (name, list(positional)) == ("announce_goal_started", [])
    assert named == {"goal_id": "g", "at": at, "_promise": "goals/g/p"}
