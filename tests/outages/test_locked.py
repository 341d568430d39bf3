"""A MongoDB that answers and lets nobody write, as for a backup (`fsyncLock`)."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from goalsvc.models.database import open_database

pytestmark = pytest.mark.real

#: The lock ends by itself after this, so that a process which stands still is seen and not waited for.
LOCKED_SECONDS = 4.0


@contextmanager
def locked(client: MongoClient[dict[str, Any]]) -> Iterator[None]:
    def unlock() -> None:
        with suppress(OperationFailure):  # it is unlocked already
            client.admin.command("fsyncUnlock")

    client.admin.command({"fsync": 1, "lock": True})
    timer = threading.Timer(LOCKED_SECONDS, unlock)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        unlock()


async def test_a_transaction_that_is_given_up_does_not_hold_up_the_process(
    documents: MongoClient[dict[str, Any]], mongodb_url: str
) -> None:
    async with open_database(mongodb_url) as database:
        await database.commits()
        with locked(documents):
            commit = asyncio.ensure_future(database.commits())
            await asyncio.wait([commit], timeout=0.5)
            assert not commit.done()
            commit.cancel()
            given_up = monotonic()
            await asyncio.sleep(0.1)  # the event loop comes round
            held_up = monotonic() - given_up
        await asyncio.gather(commit, return_exceptions=True)
        await database.commits()
    assert held_up < LOCKED_SECONDS / 2
