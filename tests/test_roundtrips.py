"""Requests that share round trips: each is answered, whenever it comes."""

import asyncio
from collections.abc import Sequence

import pytest

from goalsvc.roundtrips import LARGEST_BATCH, RoundTrips

Request = asyncio.Future[int]


class Server:
    """Answers each request with the number of its batch, when it is let."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.open = asyncio.Event()
        self.open.set()
        self.trips: RoundTrips[Request] = RoundTrips(
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
