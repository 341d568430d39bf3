"""The health of a worker: its port, its heartbeat in Redis, its gauges."""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack
from http.client import HTTPConnection

import pytest

from goalsvc.clock import SystemClock
from goalsvc.domain.lanes import Lane
from goalsvc.domain.promises import Job
from goalsvc.models.database import WITH_PROMISES
from goalsvc.tasks import ALL, worker_health
from goalsvc.tasks.arq_queue import ArqQueue
from goalsvc.tasks.arq_worker import LaneWorker
from goalsvc.tasks.runner import Runner
from goalsvc.tasks.signing import JobSigner
from goalsvc.tasks.worker_health import WorkerHealth, serving_health
from tests.world import World

pytestmark = pytest.mark.real

SIGNER = JobSigner(["secret"])


def ask(port: int, path: str, method: str = "GET", **headers: str) -> tuple[int, bytes]:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


async def asked(port: int, path: str, method: str = "GET", **headers: str) -> tuple[int, bytes]:
    return await asyncio.to_thread(ask, port, path, method, **headers)


@pytest.fixture
def worker(world: World) -> LaneWorker:
    return LaneWorker(Lane.MONEY, world.redis, Runner(ALL, WITH_PROMISES), world.context, SIGNER, at_once=10)


@pytest.fixture
def health(world: World, worker: LaneWorker) -> WorkerHealth:
    return WorkerHealth(world.redis, [worker], SystemClock())


@pytest.fixture
async def port(health: WorkerHealth) -> AsyncIterator[int]:
    with ExitStack() as stack:
        yield stack.enter_context(serving_health(health, "127.0.0.1", 0, ""))


class TestPort:
    async def test_a_worker_that_is_well(self, port: int) -> None:
        assert (await asked(port, "/healthz"))[0] == 200
        status, body = await asked(port, "/readyz")
        assert (status, json.loads(body)) == (200, {"redis": "ok", "jobs": {"money": 0}})

    async def test_it_answers_while_the_event_loop_hangs_and_says_so(
        self, port: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(worker_health, "LONGEST_LAG_SECONDS", 0.1)
        monkeypatch.setattr(worker_health, "_BEAT_SECONDS", 0.0)
        found: list[tuple[int, bytes]] = []
        hanging = threading.Event()

        def look() -> None:
            hanging.wait(10)
            while not found or found[-1][0] != 503:
                found.append(ask(port, "/healthz"))

        looking = threading.Thread(target=look)
        looking.start()
        hanging.set()
        looking.join(10)  # holds up the loop, as a long computation does
        assert found[-1][0] == 503
        assert json.loads(found[-1][1])["status"] == "event loop lags"

    async def test_a_worker_that_cannot_claim_is_not_ready(
        self, port: int, worker: LaneWorker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        worker.claimed_at = time.monotonic() - 11
        status, body = await asked(port, "/readyz")
        assert status == 503
        assert json.loads(body)["redis"].startswith("no claim for 11 s")
        assert (await asked(port, "/healthz"))[0] == 200, "a restart would not help"

    async def test_metrics(self, port: int) -> None:
        status, body = await asked(port, "/metrics")
        assert status == 200
        for name in (
            *("goalsvc_job_duration_seconds", "goalsvc_job_wait_seconds", "goalsvc_queue_depth"),
            *("goalsvc_queue_oldest_seconds", "goalsvc_event_loop_lag_seconds", "goalsvc_outbound_duration_seconds"),
            *("goalsvc_jobs_refused_total", "goalsvc_jobs_total", "goalsvc_promises_unknown"),
        ):
            assert f"# TYPE {name.removesuffix('_total')}".encode() in body, name

    async def test_metrics_may_ask_for_a_key(self, health: WorkerHealth) -> None:
        with serving_health(health, "127.0.0.1", 0, "metrics-key") as port:
            assert (await asked(port, "/metrics"))[0] == 401
            assert (await asked(port, "/metrics", Authorization="Bearer wrong"))[0] == 401
            assert (await asked(port, "/metrics", Authorization="Bearer metrics-key"))[0] == 200
            assert (await asked(port, "/healthz"))[0] == 200

    async def test_other_paths_and_methods(self, port: int) -> None:
        assert (await asked(port, "/secrets"))[0] == 404
        assert (await asked(port, "/healthz", "HEAD")) == (200, b"")
        assert (await asked(port, "/healthz", "POST"))[0] == 501


class TestWatch:
    async def test_the_heartbeat_is_there_and_ends_with_the_worker(self, world: World, health: WorkerHealth) -> None:
        watching = asyncio.create_task(health.watch())
        async with asyncio.timeout(10):
            while True:
                found = await world.redis.get(health.key)
                if found is not None:
                    break
                await asyncio.sleep(0.01)
        state = json.loads(found)
        assert (state["lanes"], state["jobs"]) == (["money"], 0)
        assert {"host", "pid", "version", "last_claim_at", "lag_seconds"} <= state.keys()
        assert 0 < await world.redis.pttl(health.key) <= 15_000, "one that is killed is gone soon"
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        assert await world.redis.exists(health.key) == 0

    async def test_how_long_the_queues_are(self, world: World, health: WorkerHealth) -> None:
        queue = ArqQueue(world.redis, ALL, SystemClock(), SIGNER)
        for number in range(3):
            queue.enqueue(Job(f"n{number}", "deliver_notice", {}))
        await queue.flush()
        oldest = await world.redis.zrange(Lane.NOTICES.queue, 0, 0)
        await world.redis.zincrby(Lane.NOTICES.queue, -90_000, oldest[0])
        await health._gather()
        assert worker_health.DEPTH.labels("notices")._value.get() == 3
        assert worker_health.OLDEST.labels("notices")._value.get() == pytest.approx(90, abs=10)
        assert worker_health.DEPTH.labels("money")._value.get() == 0
