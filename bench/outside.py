"""A lean emulator for Pusher's and BytePlus's HTTP APIs: accepts every call at once and notes when it arrived.

The emulators of `goalsvc.devstack` check signatures and limits, which costs more than what is measured here.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any
from urllib.parse import parse_qs, urlsplit

from goalsvc.devstack.ports import HOST

_HEAD_END = b"\r\n\r\n"
_BODY = b'{"ResponseMetadata":{},"Result":{}}'


def _answer(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


_ANSWER = _answer(_BODY)


@dataclass(frozen=True, slots=True)
class Call:
    """One call, with the time (`perf_counter`) at which its last byte had arrived."""

    at: float
    target: str
    body: bytes

    @property
    def name(self) -> str:
        """The event that Pusher is to carry, or the action that BytePlus is to take; empty for a question."""
        action = parse_qs(urlsplit(self.target).query).get("Action")
        if action:
            return action[0]
        if not self.body:  # reconciliation asks who is in which channel
            return ""
        name: str = json.loads(self.body).get("name", "")
        return name

    @property
    def data(self) -> dict[str, Any]:
        """What the event tells, or what the action is asked for."""
        body: dict[str, Any] = json.loads(self.body)
        data: dict[str, Any] = json.loads(body["data"]) if "data" in body else body
        return data


@dataclass(slots=True)
class Outside:
    """The world outside: where it listens, and who is told of each call."""

    port: int = 0
    calls: int = 0
    listeners: list[Callable[[Call], None]] = field(default_factory=list)
    answer: bytes = _ANSWER
    """What every call is answered."""

    @contextlib.contextmanager
    def answering(self, body: bytes) -> Iterator[None]:
        """Answers every call with that, for as long as it is entered."""
        self.answer = _answer(body)
        try:
            yield
        finally:
            self.answer = _ANSWER

    @contextlib.contextmanager
    def heard_by(self, listener: Callable[[Call], None]) -> Any:
        """Tells `listener` of every call, for as long as it is entered."""
        self.listeners.append(listener)
        try:
            yield
        finally:
            self.listeners.remove(listener)


class _Connection(asyncio.Protocol):
    def __init__(self, outside: Outside) -> None:
        self._outside = outside
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (head_end := self._received.find(_HEAD_END)) >= 0:
            head = self._received[:head_end]
            size = _content_length(head)
            end = head_end + len(_HEAD_END) + size
            if len(self._received) < end:
                return
            body, self._received = self._received[end - size : end], self._received[end:]
            self._outside.calls += 1
            if self._outside.listeners:
                call = Call(perf_counter(), head.split(b" ", 2)[1].decode(), body)
                for listener in self._outside.listeners:
                    listener(call)
            if self._transport is not None:
                self._transport.write(self._outside.answer)


def _content_length(head: bytes) -> int:
    _, found, rest = head.lower().partition(b"\r\ncontent-length:")
    return int(rest.partition(b"\r\n")[0]) if found else 0


@contextlib.asynccontextmanager
async def open_outside() -> AsyncIterator[Outside]:
    """Listens on a free port of this machine, in this event loop."""
    outside = Outside()
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(outside), HOST, 0)
    outside.port = server.sockets[0].getsockname()[1]
    try:
        yield outside
    finally:
        server.close()
