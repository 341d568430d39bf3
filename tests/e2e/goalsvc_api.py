"""A running goalsvc as the platform around it sees it: its HTTP API, and the clock on the wall."""

import contextlib
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import httpx

from goalsvc.devstack.environment import DEFAULTS
from goalsvc.devstack.ports import HOST
from goalsvc.devstack.process import bound_to_this_process
from goalsvc.devstack.waiting import holds_within
from tests.support.waiting import read_until

from . import soketi

WAIT_SECONDS = 15.0

T = TypeVar("T")


def wait_until(moment: datetime) -> None:
    """Waits until that moment of real time has come: a performance takes as long as it takes."""
    remaining = (moment - datetime.now(UTC)).total_seconds()
    assert holds_within(remaining + 1, lambda: datetime.now(UTC) >= moment)


class Platform:
    """Calls goalsvc's API as the platform does."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    @property
    def url(self) -> str:
        """Where the API is."""
        return str(self._client.base_url).rstrip("/")

    def read(self, path: str) -> dict[str, Any]:
        """GET."""
        return self._content(self._client.get(path))

    def put(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """PUT."""
        return self._content(self._client.put(path, json=body))

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """POST, with a fresh Idempotency-Key."""
        return self._content(self._client.post(path, json=body, headers={"Idempotency-Key": uuid.uuid4().hex}))

    def goal(self, goal_id: str) -> dict[str, Any]:
        """The goal as it is now."""
        return self.read(f"/v1/goals/{goal_id}")

    def balance(self, user_id: str) -> int:
        """What is in a user's wallet."""
        return int(self.read(f"/v1/wallets/{user_id}")["balance"])

    def started(self, goal_id: str) -> datetime:
        """When the goal's clock was started, once it runs."""
        return datetime.fromisoformat(read_until(lambda: self.goal(goal_id), is_running)["context"]["started"])

    @staticmethod
    def _content(response: httpx.Response) -> dict[str, Any]:
        assert response.is_success, f"{response.request.method} {response.url}: {response.status_code} {response.text}"
        content: dict[str, Any] = response.json()
        return content


def is_running(goal: Mapping[str, Any]) -> bool:
    """Whether the goal's clock runs: it was started later than paused."""
    started, paused = (goal["context"].get(name) for name in ("started", "paused"))
    return started is not None and (paused is None or datetime.fromisoformat(started) > datetime.fromisoformat(paused))


@contextlib.contextmanager
def running_goalsvc(directory: Path, port: int, pusher_port: int) -> Iterator[Platform]:
    """API, worker and all they need, by `goalsvc dev`, with a Pusher server on that port in place of the emulator."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("GOALSVC_", "AWS_"))}
    environment = {
        **inherited,
        "GOALSVC_PUSHER_HOST": HOST,
        "GOALSVC_PUSHER_PORT": str(pusher_port),
        "GOALSVC_PUSHER_SSL": "false",
        "GOALSVC_PUSHER_APP_ID": soketi.APP_ID,
        "GOALSVC_PUSHER_KEY": soketi.KEY,
        "GOALSVC_PUSHER_SECRET": soketi.SECRET,
    }
    words = ("--json", "--port", str(port), "--data-dir", str(directory / "data"))
    command = bound_to_this_process([sys.executable, "-m", "goalsvc", "dev", *words])
    log = directory / "dev.log"
    with (
        log.open("wb") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=environment) as process,
    ):
        try:
            assert process.stdout is not None
            first_line = process.stdout.readline()
            assert first_line, log.read_text()
            url = json.loads(first_line)["api_url"]
            headers = {"Authorization": f"Bearer {DEFAULTS['GOALSVC_API_KEY']}"}
            with httpx.Client(base_url=url, headers=headers, timeout=10, trust_env=False) as client:
                yield Platform(client)
        finally:
            process.terminate()
