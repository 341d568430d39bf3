"""The Pusher-protocol servers of these tests: soketi, and the emulator of `goalsvc dev`, on this machine."""

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from goalsvc.devstack.parts import Part
from goalsvc.devstack.ports import HOST, free_port, http_status
from goalsvc.devstack.private import RunningPart
from goalsvc.devstack.process import PartLog
from goalsvc.devstack.standins.pusher import PusherStandIn
from goalsvc.devstack.standins.serving import serving
from goalsvc.devstack.standins.webhooks import Subscriber

from .node import SOKETI, node

APP_ID, KEY, SECRET = "1", "e2e-key", "e2e-secret"

#: All that soketi can tell; what it is not asked for it does not send.
WEBHOOK_EVENTS = ("channel_occupied", "channel_vacated", "member_added", "member_removed", "client_event", "cache_miss")


@dataclass(frozen=True, slots=True)
class Webhooks:
    """Where webhooks go, and whether those of a moment are sent together."""

    urls: Sequence[str]
    batched: bool
    emulated: bool = False
    """Whether the emulator of `goalsvc dev` sends them instead of soketi; it sends those of a moment together."""


def options_of(port: int, metrics_port: int, webhooks: Webhooks) -> dict[str, Any]:
    """The content of soketi's configuration file. It would listen on every interface unless told otherwise thrice."""
    app = {
        "id": APP_ID,
        "key": KEY,
        "secret": SECRET,
        "enabled": True,
        "enableClientMessages": True,
        "maxConnections": -1,
        "maxBackendEventsPerSecond": -1,
        "maxClientEventsPerSecond": -1,
        "maxReadRequestsPerSecond": -1,
        "webhooks": [{"url": url, "event_types": list(WEBHOOK_EVENTS)} for url in webhooks.urls],
    }
    return {
        "host": HOST,
        "port": port,
        "metrics.host": HOST,
        "metrics.port": metrics_port,
        "cluster.hostname": HOST,
        "appManager.array.apps": [app],
        "webhooks.batching.enabled": webhooks.batched,
        "webhooks.batching.duration": 50,
        "shutdownGracePeriod": 0,
    }


@contextlib.contextmanager
def running_soketi(directory: Path, port: int, webhooks: Webhooks) -> Iterator[None]:
    """A soketi that listens on that port; ready when entered, gone when left."""
    configuration = directory / "soketi.json"
    configuration.write_text(json.dumps(options_of(port, free_port(besides=[port]), webhooks)))
    part = Part(
        "soketi",
        (node(), str(SOKETI), "start", f"--config={configuration}"),
        lambda _pid: http_status(port, "/ready") == 200,
        # Nothing else of ours: SOKETI_… would override the configuration, a proxy would be given the webhooks.
        {"PATH": os.environ["PATH"], "HOME": str(directory)},
    )
    running = RunningPart(part, PartLog(directory / "soketi.log"))
    running.start()
    try:
        running.wait_until_ready()
        yield
    finally:
        running.kill()  # it has nothing to save, and takes two seconds to say goodbye


@contextlib.contextmanager
def running_emulator(port: int, webhooks: Webhooks) -> Iterator[None]:
    """The emulator of `goalsvc dev`, on that port."""
    subscribers = [Subscriber(url, KEY, SECRET) for url in webhooks.urls]
    with serving(PusherStandIn(APP_ID, {KEY: SECRET}, subscribers=subscribers).app, port):
        yield
