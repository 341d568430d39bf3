"""What is too large is refused before it is parsed, and nothing is kept of it; by the app, and by what serves it."""

import socket
from collections.abc import AsyncIterator, Iterator
from threading import Event, Thread
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.importer import import_from_string

from goalsvc.api import heads
from goalsvc.api.heads import LimitedHead
from goalsvc.api.limits import LIMIT_BYTES
from goalsvc.cli import running
from goalsvc.devstack.ports import HOST, free_port
from goalsvc.devstack.waiting import holds_within
from tests.receivers.fakes import settings_with

from .app import Service
from .test_errors import assert_problem

#: Not JSON: had it been parsed, the answer would be 422.
PIECE = b"[" * 64 * 1024


class TestBodies:
    """Of `/v1/…`; the webhook and `/pusher/auth` have limits and tests of their own."""

    async def test_at_the_limit_it_is_parsed(self, service: Service) -> None:
        body = b"[" * LIMIT_BYTES
        answer = await service.client.post("/v1/goals", content=body, headers={"Content-Type": "application/json"})
        assert_problem(answer, 422, "invalid")

    async def test_one_byte_more_is_413_before_any_is_read(self, service: Service) -> None:
        read = 0

        async def body() -> AsyncIterator[bytes]:
            nonlocal read
            read += 1
            yield b"[" * (LIMIT_BYTES + 1)

        headers = {"Content-Type": "application/json", "Content-Length": str(LIMIT_BYTES + 1)}
        answer = await service.client.post("/v1/goals", content=body(), headers=headers)
        assert_problem(answer, 413, "too_large")
        assert read == 0

    async def test_without_a_content_length_it_is_found_while_reading(self, service: Service) -> None:
        read = 0

        async def much() -> AsyncIterator[bytes]:
            nonlocal read
            for _ in range(100):
                read += len(PIECE)
                yield PIECE

        answer = await service.client.post("/v1/goals", content=much(), headers={"Content-Type": "application/json"})
        assert "content-length" not in answer.request.headers
        assert answer.status_code == 413
        assert read <= LIMIT_BYTES + 2 * len(PIECE)

    async def test_a_content_length_that_understates_is_not_believed(self, service: Service) -> None:
        headers = {"Content-Type": "application/json", "Content-Length": "10"}
        answer = await service.client.post("/v1/goals", content=b"[" * 2 * LIMIT_BYTES, headers=headers)
        assert answer.status_code == 413


async def _read_all(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with how many bytes the body had."""
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(str(size)))]})
    await send({"type": "http.response.body", "body": str(size).encode()})


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Where uvicorn serves as `goalsvc serve` has it."""
    found = free_port()
    config = uvicorn.Config(
        _read_all, host=HOST, port=found, http=LimitedHead, log_config=None, lifespan="off", ws="none"
    )
    server = uvicorn.Server(config)
    thread = Thread(target=server.run)
    thread.start()
    assert holds_within(10, lambda: server.started)
    yield found
    server.should_exit = True
    thread.join(10)


def sent(port: int, begin: bytes, piece: bytes, pieces: int, end: bytes = b"") -> tuple[bytes, int]:
    """The answer, and how many of the pieces could be sent until it came."""
    with socket.create_connection((HOST, port), timeout=10) as connection:
        connection.sendall(begin)
        for number in range(pieces):
            try:
                connection.sendall(piece)
            except OSError:
                return b"", number
        try:
            connection.sendall(end)
            return connection.recv(4096), pieces
        except ConnectionError:
            return b"", pieces


#: Far more than a socket's buffers hold: whoever does not read cannot be sent all that.
MANY = 500
CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


class TestHeads:
    def test_goalsvc_serve_limits_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        options: dict[str, Any] = {}
        monkeypatch.setattr(running, "_settings", settings_with)
        monkeypatch.setattr(running, "_wait_for_services", lambda _: None)
        monkeypatch.setattr(uvicorn, "run", lambda *_, **given: options.update(given))
        running.serve(workers=1)
        assert import_from_string(options["http"]) is LimitedHead

    @pytest.mark.parametrize(
        ("begin", "piece"),
        [
            pytest.param(b"GET / HTTP/1.1\r\nX: ", b"a" * 64 * 1024, id="a header without end"),
            pytest.param(b"GET / HTTP/1.1\r\n", b"X-A: a\r\n" * 8 * 1024, id="headers without end"),
            pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n", b"a" * 64 * 1024, id="a name without end"),
            pytest.param(CHUNKED + b"1\r\na\r\n0\r\nX: ", b"a" * 64 * 1024, id="a trailer without end"),
            pytest.param(CHUNKED + b"1;", b"a" * 64 * 1024, id="a chunk's extension without end"),
        ],
    )
    def test_without_end_they_end_the_connection(self, port: int, begin: bytes, piece: bytes) -> None:
        answer, pieces = sent(port, begin, piece, MANY)
        assert pieces < MANY
        assert not answer

    def test_too_large_is_400(self, port: int) -> None:
        head = b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * heads.LIMIT_BYTES
        answer, _ = sent(port, head, b"", 0)
        assert answer.startswith(b"HTTP/1.1 400 ")

    def test_what_clients_send_is_taken(self, port: int) -> None:
        head = b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * (heads.LIMIT_BYTES // 2) + b"\r\n\r\n"
        assert sent(port, head, b"", 0)[0].startswith(b"HTTP/1.1 200 ")

    def test_a_body_is_no_head(self, port: int) -> None:
        begin = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (100 * len(PIECE))
        answer, _ = sent(port, begin, PIECE, 100)
        assert answer.endswith(b"\r\n\r\n%d" % (100 * len(PIECE)))

    def test_nor_are_the_frames_of_its_chunks(self, port: int) -> None:
        answer, _ = sent(port, CHUNKED, b"1\r\na\r\n" * 1000, 100, b"0\r\n\r\n")
        assert answer.endswith(b"\r\n\r\n100000")

    def test_each_request_of_a_connection_counts_for_itself(self, port: int) -> None:
        request = b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 1024 + b"\r\n\r\n"
        with socket.create_connection((HOST, port), timeout=10) as connection:
            for _ in range(2 * heads.LIMIT_BYTES // len(request)):
                connection.sendall(request)
                assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")


class TestSlowClients:
    @pytest.mark.parametrize(
        "begun",
        [
            pytest.param(b"GET / HTTP/1.1\r\nHost:", id="half a head"),
            pytest.param(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf", id="half a body"),
        ],
    )
    def test_are_closed(self, port: int, begun: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(heads, "ARRIVAL_SECONDS", 0.1)
        with socket.create_connection((HOST, port), timeout=10) as connection:
            connection.sendall(begun)
            assert connection.recv(4096).startswith(b"HTTP/1.1 408 ")
            assert connection.recv(4096) == b""

    def test_a_connection_between_two_requests_is_not_slow(self, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(heads, "ARRIVAL_SECONDS", 0.1)
        request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
        waited = Event()
        with socket.create_connection((HOST, port), timeout=10) as connection:
            connection.sendall(request)
            assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
            waited.wait(0.3)  # nothing is to happen meanwhile
            connection.sendall(request)
            assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
