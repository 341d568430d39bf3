"""`examples/platform.py`: a backend that reacts to webhooks only, is killed twice, and has the same books in the end."""

import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from goalsvc.devstack.waiting import holds_within
from tests.cli.command_line import clean_environment

pytestmark = pytest.mark.real

PROGRAM = Path(__file__).parents[2] / "examples" / "platform.py"
#: Deliveries are tried again after 5 s; the test clock passes them at once.
RETRY_SECONDS = 6


@pytest.fixture
def api(own_dev: dict[str, Any]) -> Iterator[httpx.Client]:
    headers = {"Authorization": "Bearer goalsvc-api-key"}
    with httpx.Client(base_url=own_dev["api_url"], headers=headers, trust_env=False, timeout=15) as client:
        yield client


def a_free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


class Backend:
    """The example, as a process on this machine."""

    def __init__(self, api_url: str, directory: Path) -> None:
        self.port, self._directory = a_free_port(), directory
        self._environment = {**clean_environment(), "GOALSVC_API_URL": api_url}

    @contextmanager
    def running(self) -> Iterator[None]:
        """Runs it; kills it in the end, as a machine that loses its power does."""
        database = str(self._directory / "books.sqlite")
        command = [sys.executable, str(PROGRAM), "--database", database, "--port", str(self.port)]
        with (self._directory / "platform.log").open("ab") as log:
            process = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)
        try:
            assert holds_within(30, lambda: self.books() is not None, every=0.02), self.log()
            yield
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait(timeout=10)

    def books(self) -> dict[str, Any] | None:
        """What it says of itself; None while it does not answer."""
        try:
            told: dict[str, Any] = httpx.get(f"http://127.0.0.1:{self.port}/books", trust_env=False, timeout=5).json()
        except httpx.TransportError:
            return None
        return told

    def has_heard(self, events: int) -> bool:
        books = self.books()
        return books is not None and books["events"] >= events

    def log(self) -> str:
        return (self._directory / "platform.log").read_text()


def comes_about(api: httpx.Client, condition: Callable[[], bool], every: float = 0.1) -> bool:
    """Waits for the condition. A machine so slow that a delivery failed twice has the events replayed, as an operator does."""
    if holds_within(12, condition, every):
        return True
    for endpoint in api.get("/v1/webhook-endpoints").json()["items"]:
        since = {"since": endpoint["created_at"]}
        api.post(f"/v1/webhook-endpoints/{endpoint['id']}/replay", json=since).raise_for_status()
    return holds_within(45, condition, every)


def test_its_books_are_those_of_goalsvc(api: httpx.Client, own_dev: dict[str, Any], tmp_path: Path) -> None:
    backend = Backend(own_dev["api_url"], tmp_path)
    for events in (8, 35):
        with backend.running():
            assert comes_about(api, partial(backend.has_heard, events), every=0.01), backend.log()
    with backend.running():
        api.post("/v1/test-clock/advance", json={"seconds": RETRY_SECONDS}).raise_for_status()

        def reported() -> Any:
            return api.get("/v1/reports/balances").raise_for_status().json()

        def over() -> bool:
            books = backend.books()
            return books is not None and books["over"] and books["kinds"] == reported()["kinds"]

        assert comes_about(api, over), (backend.books(), reported(), backend.log())
    kinds = reported()["kinds"]
    # 160 of the show and 50 of the exclusive are paid, less a tenth; of the rest of the chargeback bob owes 60.
    assert (kinds["fees"]["balance"], kinds["debt"]["balance"]) == (16 + 5, -60)
    assert kinds["escrow"]["balance"] == kinds["payout"]["balance"] == 0
    assert api.get("/v1/wallets/alice").json()["balance"] == 160 - 16 + 50 - 5 - 90
    assert "Error" not in backend.log()
    assert api.get("/v1/dead-letters").json()["items"] == []
