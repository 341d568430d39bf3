"""A second receiver of soketi's webhooks, which only keeps them: what the tests compare goalsvc's account with."""

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from goalsvc.devstack.ports import HOST


@dataclass(frozen=True, slots=True)
class Webhook:
    """One request as it came."""

    time_ms: int
    events: tuple[dict[str, Any], ...]

    def about(self, channel: str) -> list[str]:
        """Names of its events that are about that channel."""
        return [event["name"] for event in self.events if event["channel"] == channel]


class Witness:
    """Keeps every webhook; may be asked from any thread."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._kept: list[Webhook] = []
        self._lock = threading.Lock()

    def keep(self, body: bytes) -> None:
        """Keeps the webhook with that body."""
        content = json.loads(body)
        with self._lock:
            self._kept.append(Webhook(content["time_ms"], tuple(content["events"])))

    def about(self, channel: str) -> list[Webhook]:
        """The webhooks that hold an event of that channel, in the order in which they came."""
        with self._lock:
            return [webhook for webhook in self._kept if webhook.about(channel)]

    def times_of(self, channel: str, *names: str) -> list[int]:
        """When the events of these names happened in that channel: epoch milliseconds, ascending."""
        return sorted(
            webhook.time_ms for webhook in self.about(channel) for name in webhook.about(channel) if name in names
        )


@contextlib.contextmanager
def listening_witness() -> Iterator[Witness]:
    """A witness that is being told, by way of the `url` that it names."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            witness.keep(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Not a line for every request."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

    server = Server((HOST, 0), Handler)
    witness = Witness(f"http://{HOST}:{server.server_port}/")
    serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    serving.start()
    try:
        yield witness
    finally:
        server.shutdown()
        server.server_close()
        serving.join()
