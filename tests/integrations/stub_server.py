"""A small HTTP server on 127.0.0.1 that answers as a test tells it and keeps what it was asked."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True)
class StubRequest:
    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> dict[str, str]:
        pairs = (pair.partition("=") for pair in self.target.partition("?")[2].split("&"))
        return {name: value for name, _, value in pairs}


@dataclass(frozen=True)
class StubAnswer:
    body: bytes = b"{}"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    never: bool = False
    """Whether the answer is held back until the client hangs up."""
    after: asyncio.Event | None = None
    """What the answer waits for."""


Answering = Callable[[StubRequest], StubAnswer]


class StubServer:
    def __init__(self) -> None:
        self.requests: list[StubRequest] = []
        self.answering: Answering = lambda _: StubAnswer()
        self.port = 0
        self.connections = 0
        self.under_way = 0
        self.most_under_way = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def answer(self, body: bytes = b"{}", *, status: int = 200, never: bool = False, **headers: str) -> None:
        """Answers everything so from now on."""
        answer = StubAnswer(body, status, headers, never)
        self.answering = lambda _: answer

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                request_line, *lines = head.decode("latin-1").rstrip().split("\r\n")
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
                method, target, _ = request_line.split(" ")
                if headers.get("expect") == "100-continue":
                    writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                request = StubRequest(method, target, headers, body)
                self.requests.append(request)
                self.under_way += 1
                self.most_under_way = max(self.most_under_way, self.under_way)
                try:
                    answer = self.answering(request)
                    if answer.never:
                        await reader.read()
                        return
                    if answer.after is not None:
                        await answer.after.wait()
                    fields = {"Content-Length": str(len(answer.body)), **answer.headers}
                    lines = [f"HTTP/1.1 {answer.status} Stub", *(f"{name}: {value}" for name, value in fields.items())]
                    writer.write("\r\n".join([*lines, "", ""]).encode() + answer.body)
                    await writer.drain()
                finally:
                    self.under_way -= 1
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has gone
        finally:
            writer.close()


@asynccontextmanager
async def open_stub_server() -> AsyncIterator[StubServer]:
    stub = StubServer()
    connections: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        try:
            await stub.serve(reader, writer)
        except asyncio.CancelledError:
            pass  # the test is over
        finally:
            connections.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    stub.port = server.sockets[0].getsockname()[1]
    try:
        yield stub
    finally:
        server.close()
        for task in tuple(connections):
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        await server.wait_closed()


async def free_port() -> int:
    """A port on 127.0.0.1 that nobody listens on."""
    server = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return port
