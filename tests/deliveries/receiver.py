"""A receiver of webhooks on this machine, which answers as it is told."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

Headers = dict[str, str]


@dataclass
class Receiver:
    """What was received, and how it is answered: a status, or a function of the number of the request."""

    port: int = 0
    answer: Callable[[int], Awaitable[bytes]] | None = None
    received: list[tuple[Headers, bytes]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    """The first line of each request."""
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    """The connection of each request."""

    more: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def until(self, count: int) -> None:
        """Waits until so many requests were received."""
        async with self.more:
            await self.more.wait_for(lambda: len(self.received) >= count)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"


def response(status: int, body: bytes = b"ok", **headers: str) -> bytes:
    """An HTTP answer."""
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


@asynccontextmanager
async def a_receiver(answer: Callable[[int], Awaitable[bytes]] | None = None) -> AsyncIterator[Receiver]:
    """A receiver that listens; without `answer` it answers 200."""
    receiver = Receiver(answer=answer)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in head[1:] if line)}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            receiver.received.append((headers, body))
            receiver.asked.append(head[0])
            receiver.writers.append(writer)
            number = len(receiver.received)
            async with receiver.more:
                receiver.more.notify_all()
            writer.write(response(200) if receiver.answer is None else await receiver.answer(number))
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
