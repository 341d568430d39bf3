"""What callers ask of the API while a worker has much to do; every answer is noted."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import httpx

from .processes import Stack
from .webhooks import send

#: The wallet that is paid into, and the performer who joins and leaves.
SAVER, PERFORMER = "carol", "alice"


@dataclass
class Asked:
    """Calls that were made, and how they were answered."""

    answers: Counter[int] = field(default_factory=Counter)
    """Status → answers; 0 stands for a call without an answer."""
    failed: list[str] = field(default_factory=list)
    """Calls that were not answered as they must be."""
    deposits: int = 0
    longest_seconds: float = 0.0

    def note(self, call: str, status: int, wanted: int, seconds: float) -> None:
        """Notes one answer."""
        self.answers[status] += 1
        self.longest_seconds = max(self.longest_seconds, seconds)
        if status != wanted:
            self.failed.append(f"{call}: {status}")

    def __str__(self) -> str:
        return (
            f"{self.answers.total()} calls meanwhile, {len(self.failed)} failed, longest {self.longest_seconds:.2f} s"
        )


@contextmanager
def asked_meanwhile(stack: Stack, goal: str) -> Iterator[Asked]:
    """Reads lists, pays into a wallet and lets a performer join and leave that goal by turns, until the block is left."""
    over, asked = threading.Event(), Asked()

    def go_on() -> None:
        number = 0
        with stack.client() as client:
            while not (over.is_set() and number % 2 == 0):  # the last webhook is of a leave
                _ask(client, asked, goal, number)
                number += 1
                over.wait(0.1)

    thread = threading.Thread(target=go_on, daemon=True)
    thread.start()
    try:
        yield asked
    finally:
        over.set()
        thread.join(60)


def _ask(client: httpx.Client, asked: Asked, goal: str, number: int) -> None:
    def deposit() -> int:
        headers = {"Idempotency-Key": f"meanwhile-{number}"}
        status = client.post(f"/v1/wallets/{SAVER}/deposits", json={"amount": 1}, headers=headers).status_code
        asked.deposits += status == 201
        return status

    def webhook() -> int:
        name = "member_removed" if number % 2 else "member_added"
        return send(client, name, goal, PERFORMER, int(time.time() * 1000))

    def read(path: str) -> int:
        return client.get(path).status_code

    calls: dict[str, tuple[Callable[[], int], int]] = {
        "GET /v1/goals": (partial(read, "/v1/goals"), 200),
        "GET /v1/dead-letters": (partial(read, "/v1/dead-letters"), 200),
        "POST deposits": (deposit, 201),
        "POST /notify/pusher": (webhook, 200),
    }
    for call, (make, wanted) in calls.items():
        begun = time.monotonic()
        try:
            status = make()
        except httpx.HTTPError:
            status = 0
        asked.note(call, status, wanted, time.monotonic() - begun)
