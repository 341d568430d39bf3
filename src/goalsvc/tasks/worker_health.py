"""The health of a worker: its port for probes and metrics, its heartbeat in Redis, and its gauges.

The port is served by a thread, so that it answers while the event loop hangs, and says so.
"""

import asyncio
import contextlib
import hmac
import json
import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import monotonic

from prometheus_client import CONTENT_TYPE_LATEST, Gauge
from redis.asyncio import Redis
from redis.exceptions import RedisError

from goalsvc.clock import Clock, SystemClock
from goalsvc.integrations.breaker import Breakers
from goalsvc.integrations.redis_health import evicts, is_full
from goalsvc.metrics import LAG, exposition
from goalsvc.tasks.arq_queue import queue_depths
from goalsvc.tasks.arq_worker import LaneWorker
from goalsvc.tasks.heartbeats import EVERY_SECONDS, Beating

log = logging.getLogger(__name__)

DEPTH = Gauge("goalsvc_queue_depth", "Jobs that are due and not running.", ["queue"], multiprocess_mode="livemax")
OLDEST = Gauge(
    "goalsvc_queue_oldest_seconds", "For how long the oldest job has been due.", ["queue"], multiprocess_mode="livemax"
)
SKEW = Gauge(
    "goalsvc_clock_skew_seconds", "How far this host's clock is ahead of Redis's.", multiprocess_mode="livemax"
)
IN_HAND = Gauge("goalsvc_jobs_in_hand", "Jobs that this worker runs.", ["queue"], multiprocess_mode="livesum")
REDIS_FULL = Gauge(
    "goalsvc_redis_full", "1 while Redis refuses writes because it is full.", multiprocess_mode="livemax"
)

#: A worker whose loop woke up this late, or that could not claim for this long, is unwell.
LONGEST_LAG_SECONDS = 5.0
LONGEST_WITHOUT_CLAIM_SECONDS = 10.0

_BEAT_SECONDS = 1.0
_GATHER_SECONDS = 15.0


class WorkerHealth:
    """Watches the lanes of one worker. `watch` runs beside them."""

    def __init__(
        self, redis: Redis, workers: Sequence[LaneWorker], clock: Clock, breakers: Breakers | None = None
    ) -> None:
        self._redis, self._workers, self._clock = redis, workers, clock
        self._beating = Beating(redis, clock, "worker", breakers)
        self._beaten_at = monotonic()
        self._lag = 0.0
        self._redis_full = False
        self._evicts = ""

    @property
    def key(self) -> str:
        """The key of the heartbeat in Redis."""
        return self._beating.key

    # -- what is asked, by any thread ---------------------------------------------------------------------------------

    @property
    def lag_seconds(self) -> float:
        """For how long the event loop has not come round, beyond the time it rests."""
        return max(0.0, monotonic() - self._beaten_at - _BEAT_SECONDS)

    @property
    def without_claim_seconds(self) -> float:
        """For how long a lane has not been able to ask Redis for jobs; the longest of all lanes."""
        return monotonic() - min((worker.claimed_at for worker in self._workers), default=monotonic())

    def health(self) -> tuple[bool, dict[str, object]]:
        """Whether the event loop comes round."""
        lag = self.lag_seconds
        well = lag <= LONGEST_LAG_SECONDS
        return well, {"status": "ok" if well else "event loop lags", "event_loop_lag_seconds": round(lag, 3)}

    def readiness(self) -> tuple[bool, dict[str, object]]:
        """Whether the worker can claim jobs."""
        waited = self.without_claim_seconds
        ready = waited <= LONGEST_WITHOUT_CLAIM_SECONDS and self.health()[0]
        well = f"evicts keys ({self._evicts})" if self._evicts else "ok"
        state = "full" if self._redis_full else well if ready else f"no claim for {waited:.0f} s"
        return ready, {"redis": state, "jobs": {worker.lane.value: len(worker.running) for worker in self._workers}}

    # -- what runs in the loop ----------------------------------------------------------------------------------------

    async def watch(self) -> None:
        """Keeps the gauges and the heartbeat until it is cancelled; the heartbeat ends with it."""
        beating_at = gathering_at = monotonic()
        try:
            while True:
                now = monotonic()
                self._lag = max(0.0, now - self._beaten_at - _BEAT_SECONDS)
                LAG.labels("worker").set(self._lag)
                self._beaten_at = now
                for worker in self._workers:
                    IN_HAND.labels(worker.lane.value).set(len(worker.running))
                with contextlib.suppress(RedisError, OSError):  # the lanes say that Redis does not answer
                    async with asyncio.timeout(2.0):
                        if now >= beating_at:
                            beating_at = now + EVERY_SECONDS
                            await self._beat()
                        if now >= gathering_at:
                            gathering_at = now + _GATHER_SECONDS
                            await self._gather()
                await asyncio.sleep(_BEAT_SECONDS)
        finally:
            await self._beating.end()

    async def _beat(self) -> None:
        await self._beating.beat(
            self._lag,
            lanes=[worker.lane.value for worker in self._workers],
            jobs=sum(len(worker.running) for worker in self._workers),
            last_claim_at=self._clock.now() - timedelta(seconds=self.without_claim_seconds),
        )

    async def _gather(self) -> None:
        for lane, (depth, oldest) in (await queue_depths(self._redis)).items():
            DEPTH.labels(lane.value).set(depth)
            OLDEST.labels(lane.value).set(oldest)
        seconds, microseconds = await self._redis.time()
        SKEW.set(SystemClock().now().timestamp() - (seconds + microseconds / 1_000_000))
        full = await is_full(self._redis)
        if full != self._redis_full:
            log.warning("Redis is full: jobs in it are run, new ones wait for the sweep" if full else "Redis has room")
        self._redis_full = full
        policy = await evicts(self._redis)
        if policy and policy != self._evicts:
            log.warning("Redis evicts keys (maxmemory-policy %s): jobs may be lost, and are found by the sweep", policy)
        self._evicts = policy
        REDIS_FULL.set(full)


# -- the port ---------------------------------------------------------------------------------------------------------


@contextmanager
def serving_health(health: WorkerHealth, host: str, port: int, metrics_key: str) -> Iterator[int]:
    """Serves `/healthz`, `/readyz` and `/metrics` by a thread of its own; yields the port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 10  # of a client that sends half a request
        server_version, sys_version = "goalsvc", ""

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics":
                given = self.headers.get("Authorization", "")
                if metrics_key and not hmac.compare_digest(given.encode(), f"Bearer {metrics_key}".encode()):
                    self._answer(401, b'{"code": "unauthorized"}', "application/problem+json")
                else:
                    self._answer(200, exposition(), CONTENT_TYPE_LATEST)
            elif path in ("/healthz", "/readyz"):
                well, state = health.health() if path == "/healthz" else health.readiness()
                self._answer(200 if well else 503, json.dumps(state).encode(), "application/json")
            else:
                self._answer(404, b'{"code": "not_found"}', "application/problem+json")

        do_HEAD = do_GET  # noqa: N815 - the name that http.server asks for

        def _answer(self, status: int, body: bytes, content_type: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's own name
            """Writes no line per request."""

    server = ThreadingHTTPServer((host, port), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 5.0}, name="health", daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.socket.close()  # serve_forever would look for an end only now and then: the thread ends with the process
