"""Further API processes beside a `goalsvc dev`, on its data: other options, other clocks."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from goalsvc.devstack.environment import PrivatePart, environment_for
from goalsvc.devstack.ports import free_port, http_status
from goalsvc.devstack.waiting import holds_within
from tests.faults.outside import DevStack

_READY_SECONDS = 30.0
_URL_OF = {
    PrivatePart.MONGOD: "mongodb_url",
    PrivatePart.VALKEY: "redis_url",
    PrivatePart.S3: "s3_endpoint_url",
    PrivatePart.PUSHER: "pusher_url",
    PrivatePart.BYTEPLUS: "byteplus_url",
}


@contextmanager
def api_beside(
    stack: DevStack, log: Path, *options: str, before: Sequence[str] = (), environment: dict[str, str] | None = None
) -> Iterator[dict[str, Any]]:
    """Runs `goalsvc serve` with these options, `before` in front of the command; yields dev's addresses with its own."""
    ports = {part: _port_of(stack.addresses[name]) for part, name in _URL_OF.items()}
    port = free_port()
    given = {name: value for name, value in os.environ.items() if not name.startswith("GOALSVC_")}
    told = {**environment_for(given, ports, port), **(environment or {})}
    words = [*before, sys.executable, "-m", "goalsvc", "serve", "--port", str(port), *options]
    with log.open("wb") as printed:
        process = subprocess.Popen(words, env=told, stdout=printed, stderr=printed, start_new_session=True)
    try:
        ready = holds_within(_READY_SECONDS, lambda: process.poll() is None and http_status(port, "/readyz") == 200)
        assert ready, log.read_text()
        yield {**json.loads(json.dumps(stack.addresses)), "api_url": f"http://127.0.0.1:{port}"}
    finally:
        os.killpg(process.pid, signal.SIGTERM)  # faketime is the parent of what it runs, and hands no signal on
        process.wait(30)


def _port_of(url: str) -> int:
    port = urlsplit(url.replace("?", "/?", 1)).port
    assert port is not None, url
    return port
