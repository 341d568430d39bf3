"""Heartbeats in Redis, and the health of the service that is read from them."""

from datetime import timedelta

import pytest

from goalsvc.errors import ServiceDownError
from goalsvc.integrations.breaker import FAILURES, Breakers
from goalsvc.tasks.heartbeats import _INDEX, Beating, heartbeats
from tests.world import World

pytestmark = pytest.mark.real


def fail(breakers: Breakers, service: str, times: int) -> None:
    for _ in range(times):
        with pytest.raises(ServiceDownError), breakers.of(service).call():
            raise ServiceDownError(service, "answered 503")


async def test_the_health_names_workers_and_the_services_that_they_call(world: World) -> None:
    none = await world.get("/v1/health")
    assert (none["processes"], none["sentence"]) == ([], "No worker runs: what is promised waits until one does.")
    breakers = Breakers(world.clock)
    worker = Beating(world.redis, world.clock, "worker", breakers)
    fail(breakers, "pusher", FAILURES)
    fail(breakers, "byteplus", 1)
    with breakers.of("s3").call():
        pass
    claimed_at = world.clock.now()
    world.clock.move_on(3)
    await worker.beat(0.25, lanes=["money", "notices"], jobs=7, last_claim_at=claimed_at)

    found = await world.get("/v1/health")
    assert (found["sentence"], found["stuck"], found["redis"]) == ("Nothing is stuck.", False, True)
    (process,) = found["processes"]
    assert (process["role"], process["jobs"], process["lanes"]) == ("worker", 7, ["money", "notices"])
    assert (process["lag_seconds"], process["version"]) == (0.25, (await world.get("/openapi.json"))["info"]["version"])
    assert process["last_claim_at"].startswith(f"{claimed_at:%Y-%m-%dT%H:%M:%S}")
    services = {one["service"]: one for one in found["services"]}
    assert list(services) == ["pusher", "byteplus", "s3"], "what works least comes first"
    assert [one["state"] for one in services.values()] == ["down", "failing", "works"]
    assert services["pusher"]["failures"] == FAILURES
    assert services["byteplus"]["last_failure"].endswith("answered 503")
    assert services["pusher"]["last_failed_at"].startswith(f"{claimed_at:%Y-%m-%dT%H:%M:%S}")
    assert "last_failed_at" not in services["s3"]
    assert [queue["lane"] for queue in found["queues"]][:2] == ["money", "notices"]

    await worker.end()
    assert (await world.get("/v1/health"))["processes"] == []


async def test_a_promise_that_is_due_for_long_is_stuck(world: World) -> None:
    await Beating(world.redis, world.clock, "worker").beat(0)
    due = world.clock.now() - timedelta(seconds=75)
    promise = {"id": "x", "task": "StopRecord", "arguments": {}, "at": due}
    world.database.users.insert_one({"_id": "late", "promises": [promise]})
    found = await world.get("/v1/health")
    assert (found["stuck"], found["promises"], found["oldest_promise_seconds"]) == (True, {"StopRecord": 1}, 75)
    assert found["sentence"].startswith("A promise has been due for 75 s")
    world.database.users.delete_one({"_id": "late"})


async def test_what_is_gone_or_cannot_be_read_is_left_out(world: World) -> None:
    await world.redis.zadd(_INDEX, {"goalsvc:worker:gone:1": 1, "goalsvc:worker:odd:2": 9e15})
    await world.redis.set("goalsvc:worker:odd:2", "[]")
    await Beating(world.redis, world.clock, "api").beat(0)
    assert [beat.role for beat in await heartbeats(world.redis)] == ["api"]
    assert await world.redis.zscore(_INDEX, "goalsvc:worker:gone:1") is None, "the index forgets"
