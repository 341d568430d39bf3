"""Sends signed webhooks one by one, at the pace that a measurement wants."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from time import perf_counter

from bench.lab import Proc
from goalsvc.devstack.ports import HOST


class Sender:
    """Sends requests over a few connections that are kept alive."""

    def __init__(self) -> None:
        self._free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()

    @classmethod
    @contextlib.asynccontextmanager
    async def to(cls, server: Proc, connections: int = 16) -> "AsyncIterator[Sender]":
        """Opens the connections."""
        sender = cls()
        for _ in range(connections):
            sender._free.put_nowait(await asyncio.open_connection(HOST, server.port))
        yield sender
        while not sender._free.empty():
            sender._free.get_nowait()[1].close()

    async def send(self, request: bytes) -> float:
        """Sends one request and waits for its answer; when it was sent."""
        reader, writer = await self._free.get()
        sent_at = perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        size = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        await reader.readexactly(int(size or 0))
        self._free.put_nowait((reader, writer))
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"the webhook was answered {head[:40]!r}")
        return sent_at
