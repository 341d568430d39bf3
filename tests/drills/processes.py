"""A stack as in production: real processes of APIs and workers on a MongoDB and a Valkey, and a Pusher that notes calls."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from aiohttp import web

from goalsvc.devstack.ports import HOST, free_port
from goalsvc.devstack.waiting import holds_within

API_KEY, KEY, SECRET = "drill-api-key", "drill-key", "drill-secret"
#: Limits for what hangs: on a busy machine three processes took more than a minute to start, half of one to end.
READY_SECONDS, STOPPED_SECONDS = 180.0, 120.0


@dataclass
class Told:
    """An event that Pusher was handed, and when, by the monotonic clock."""

    event: str
    data: Mapping[str, Any]
    at: float


@dataclass
class FakePusher:
    """Answers 200 to everything and notes each event; in a thread, so that it answers whatever the test does."""

    port: int = 0
    told: list[Told] = field(default_factory=list)
    status: int = 200
    """What events are answered with."""
    rest_seconds: float = 0.0
    """How long each answer takes."""
    occupied: set[str] = field(default_factory=set)
    """Channels that a client is in."""

    @contextmanager
    def running(self) -> Iterator["FakePusher"]:
        loop, started = asyncio.new_event_loop(), threading.Event()

        async def serve() -> web.AppRunner:
            app = web.Application()
            app.router.add_post("/{path:.*}", self._take)
            app.router.add_get("/{path:.*}", self._tell)
            runner = web.AppRunner(app, access_log=None)
            await runner.setup()
            await web.TCPSite(runner, HOST, self.port).start()
            return runner

        def run() -> None:
            asyncio.set_event_loop(loop)
            runner = loop.run_until_complete(serve())
            started.set()
            loop.run_forever()
            loop.run_until_complete(runner.cleanup())
            loop.close()

        self.port = free_port()
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        assert started.wait(10)
        try:
            yield self
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(10)

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.json()
        await asyncio.sleep(self.rest_seconds)
        if self.status != 200:
            return web.Response(status=self.status)
        self.told.append(Told(body["name"], json.loads(body["data"]), time.monotonic()))
        return web.json_response({})

    async def _tell(self, _request: web.Request) -> web.Response:
        channels = {channel: {"user_count": 1} for channel in self.occupied}
        return web.json_response({"users": [], "channels": channels})


class Program:
    """`goalsvc serve` or `goalsvc worker`, which can be told to stop and started again on its port."""

    def __init__(self, words: list[str], port: int, environment: Mapping[str, str], log: Path) -> None:
        self.url, self.log, self.port = f"http://{HOST}:{port}", log, port
        self.words, self.environment = words, environment
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "goalsvc", *self.words],
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", trust_env=False, timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    def wait_until_ready(self) -> None:
        assert holds_within(READY_SECONDS, self.is_ready), self.log.read_text()[-4000:]

    def stop(self) -> None:
        """Sends SIGTERM and waits until it is gone."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(STOPPED_SECONDS)
            self.process = None


@dataclass
class Stack:
    """The processes that run."""

    apis: list[Program]
    workers: list[Program]
    pusher: FakePusher
    redis_url: str

    def client(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {API_KEY}"}
        return httpx.Client(base_url=self.apis[0].url, headers=headers, trust_env=False, timeout=20)

    def logs(self) -> str:
        return "".join(program.log.read_text() for program in (*self.apis, *self.workers))


def environment_of(mongodb_url: str, redis_url: str, pusher: FakePusher, **settings: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GOALSVC_")}
    own = {
        "MONGODB_URL": mongodb_url,
        "REDIS_URL": redis_url,
        "API_KEY": API_KEY,
        "PUSHER_APP_ID": "1",
        "PUSHER_KEY": KEY,
        "PUSHER_SECRET": SECRET,
        "PUSHER_HOST": HOST,
        "PUSHER_PORT": str(pusher.port),
        "PUSHER_SSL": "false",
        "CLIPS": "off",
        **settings,
    }
    return clean | {f"GOALSVC_{name}": value for name, value in own.items()}


@contextmanager
def running_stack(
    directory: Path, mongodb_url: str, redis_url: str, *, apis: int = 1, workers: int = 1, **settings: str
) -> Iterator[Stack]:
    """Starts that many of each; all are stopped on leaving."""
    with ExitStack() as left:
        pusher = left.enter_context(FakePusher().running())
        ports = [free_port() for _ in range(apis + workers)]
        programs = []
        for number, port in enumerate(ports):
            own = {} if number < apis else {"WORKER_PORT": str(port)}
            words = ["serve", "--port", str(port)] if number < apis else ["worker"]
            environment = environment_of(mongodb_url, redis_url, pusher, **settings, **own)
            program = Program(words, port, environment, directory / f"{words[0]}-{number}.log")
            left.callback(program.stop)
            program.start()
            programs.append(program)
        for program in programs:
            program.wait_until_ready()
        yield Stack(programs[:apis], programs[apis:], pusher, redis_url)
