"""Requests that share round trips: each is answered, whenever it comes."""

import asyncio
from collections.abc import Sequence

import pytest

from goalsvc.coalescer import LARGEST_BATCH, Batches, Coalescer

Request = asyncio.Future[int]


class Server:
    """Answers each request with the number of its batch, when it is let."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.open = asyncio.Event()
        self.open.set()
        self.trips: Coalescer[Request] = Coalescer(
            "test", self.serve, lambda request, error: self.refuse(request, error)
        )

    async def serve(self, batch: Sequence[Request]) -> None:
        self.batches.append(len(batch))
        number = len(self.batches)
        await self.open.wait()
        for request in batch:
            request.set_result(number)

    def refuse(self, request: Request, error: Exception) -> None:
        request.set_exception(error)

    def ask(self) -> Request:
        request: Request = asyncio.get_running_loop().create_future()
        self.trips.take(request)
        return request


async def test_what_comes_meanwhile_goes_out_together() -> None:
    """Also what comes in the very step in which a trip ends: it must not wait for one that is over."""
    server = Server()
    server.open.clear()
    first = [server.ask() for _ in range(3)]
    await asyncio.sleep(0)
    second = [server.ask()]
    await asyncio.sleep(0)
    rest = [server.ask() for _ in range(LARGEST_BATCH + 1)]
    server.open.set()
    await asyncio.gather(*first, *second, *rest)
    assert server.batches == [3, 1, LARGEST_BATCH, 1]


async def test_an_error_is_everybody_s_of_that_trip_only() -> None:
    server = Server()
    serve = server.serve

    async def fails_once(batch: Sequence[Request]) -> None:
        server.trips._serve = serve
        raise ConnectionError

    server.trips._serve = fails_once
    with pytest.raises(ConnectionError):
        await server.ask()
    assert await server.ask() == 1


class Shelf:
    """Keeps what is written, and lets it be written when it is told to."""

    def __init__(self, *, rest_seconds: float) -> None:
        self.written: list[Sequence[str]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.batches: Batches[str] = Batches("test", self.write, rest_seconds=rest_seconds)

    async def write(self, batch: Sequence[str]) -> None:
        await self.open.wait()
        self.written.append(batch)


async def test_what_nobody_waits_for_goes_out_in_order_and_together() -> None:
    shelf = Shelf(rest_seconds=0)
    shelf.open.clear()
    shelf.batches.take("a")
    await asyncio.sleep(0)
    shelf.batches.take("b")
    shelf.batches.take("c")
    assert (shelf.written, len(shelf.batches)) == ([], 2)
    shelf.open.set()
    await shelf.batches.flush()
    assert (shelf.written, len(shelf.batches)) == ([["a"], ["b", "c"]], 0)


async def test_a_trickle_rests_and_a_flush_does_not() -> None:
    shelf = Shelf(rest_seconds=3600)
    shelf.batches.take("at once")
    for _ in range(10):
        await asyncio.sleep(0)
    shelf.batches.take("b")
    for _ in range(10):
        await asyncio.sleep(0)
    shelf.batches.take("c")
    assert shelf.written == [["at once"]]
    async with asyncio.timeout(5):
        await shelf.batches.flush()
    assert shelf.written == [["at once"], ["b", "c"]]
    shelf.batches.take("after it, it rests again")
    async with asyncio.timeout(5):
        await shelf.batches.flush()
    assert len(shelf.written) == 3
