"""A stack as in production: real processes of APIs and workers on a MongoDB and a Valkey, and a Pusher that notes calls."""

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
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from goalsvc.devstack.ports import HOST, free_port
from goalsvc.devstack.waiting import holds_within

API_KEY, KEY, SECRET = "drill-api-key", "drill-key", "drill-secret"
READY_SECONDS = 60.0


@dataclass
class Told:
    """An event that Pusher was handed, and when, by the monotonic clock."""

    event: str
    data: Mapping[str, Any]
    at: float


@dataclass
class FakePusher:
    """Answers 200 to everything and notes each event."""

    port: int = 0
    told: list[Told] = field(default_factory=list)

    @contextmanager
    def running(self) -> Iterator["FakePusher"]:
        told = self.told

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                told.append(Told(body["name"], json.loads(body["data"]), time.monotonic()))
                self._answer(b"{}")

            def do_GET(self) -> None:
                self._answer(b'{"users": [], "channels": {}}')

            def _answer(self, body: bytes) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
                pass

        server = ThreadingHTTPServer((HOST, 0), Handler)
        server.daemon_threads = True
        self.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()


class Program:
    """`goalsvc serve` or `goalsvc worker`, which can be told to stop and started again on its port."""

    def __init__(self, words: list[str], port: int, environment: Mapping[str, str], log: Path) -> None:
        self.url, self.log = f"http://{HOST}:{port}", log
        self._words, self._environment = words, environment
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "goalsvc", *self._words],
                env=dict(self._environment),
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
            self.process.wait(30)
            self.process = None


@dataclass
class Stack:
    """The processes that run."""

    apis: list[Program]
    workers: list[Program]
    pusher: FakePusher

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
        yield Stack(programs[:apis], programs[apis:], pusher)
