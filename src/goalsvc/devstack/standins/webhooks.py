"""Webhooks as Pusher sends them: signed, one request for what happens within a moment, repeated until they are taken."""

import asyncio
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import httpx

from goalsvc.clock import Clock, to_epoch_milliseconds
from goalsvc.domain.documents import Stored

_BATCH_SECONDS = 0.05
_MOST_EVENTS = 10
#: Pusher waits so long for an answer, and repeats for five minutes with growing pauses.
_ANSWER_SECONDS = 4.0
_REPEATS_FOR_SECONDS = 300.0
_LONGEST_PAUSE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Subscriber:
    """Where webhooks go, and what signs them."""

    url: str
    key: str
    secret: str


class WebhookSender:
    """Sends what happens to every subscriber, in batches."""

    def __init__(self, subscribers: Sequence[Subscriber], clock: Clock) -> None:
        """Without a subscriber what happens is dropped."""
        self._subscribers = subscribers
        self._clock = clock
        self._waiting: list[Mapping[str, object]] = []
        self._since_ms = 0
        self._batching: asyncio.Task[None] | None = None
        self._sending: set[asyncio.Task[None]] = set()

    def take(self, event: Stored) -> None:
        """Takes one event of a webhook; never waits."""
        if not self._subscribers:
            return
        if not self._waiting:
            self._since_ms = to_epoch_milliseconds(self._clock.now())
        self._waiting.append(event)
        if self._batching is None or self._batching.done():
            self._batching = asyncio.create_task(self._batch())

    async def _batch(self) -> None:
        await asyncio.sleep(_BATCH_SECONDS)
        while self._waiting:
            time_ms = self._since_ms
            events, self._waiting = self._waiting[:_MOST_EVENTS], self._waiting[_MOST_EVENTS:]
            for subscriber in self._subscribers:
                sending = asyncio.create_task(self._send(subscriber, time_ms, events))
                self._sending.add(sending)
                sending.add_done_callback(self._sending.discard)

    async def _send(self, subscriber: Subscriber, time_ms: int, events: Sequence[Stored]) -> None:
        body = json.dumps({"time_ms": time_ms, "events": events}).encode()
        headers = {
            "Content-Type": "application/json",
            "X-Pusher-Key": subscriber.key,
            "X-Pusher-Signature": hmac.new(subscriber.secret.encode(), body, hashlib.sha256).hexdigest(),
        }
        waited, pause = 0.0, 0.5
        async with httpx.AsyncClient(timeout=_ANSWER_SECONDS, trust_env=False) as http:
            while waited < _REPEATS_FOR_SECONDS:
                try:
                    answer = await http.post(subscriber.url, content=body, headers=headers)
                    if answer.is_success:
                        return
                except httpx.HTTPError:
                    pass  # repeated like any other answer that is not 2xx
                await asyncio.sleep(pause)
                waited += pause
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
