"""A process is killed in the middle of a transaction: what it held is free again long before MongoDB would free it."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from motor.motor_asyncio import AsyncIOMotorClient

from goalsvc.domain.outcome import Done, Reason, Returned
from goalsvc.models.abandoned import APP_NAME
from goalsvc.models.database import Database
from goalsvc.tasks.bookkeeping import make_end_abandoned
from tests.world import World

pytestmark = pytest.mark.real

#: Within this what a killed process held is free; MongoDB alone takes 60 to 90 s.
FREE_SECONDS = 30.0
#: Debits the issuer, as every deposit does, and then waits for its death.
_HOLDS_THE_ISSUER = f"""
import sys, time
from pymongo import MongoClient
client = MongoClient(sys.argv[1], appname={APP_NAME!r})
session = client.start_session()
session.start_transaction()
client.get_default_database()["accounts"].update_one({{"_id": "issuer"}}, {{"$inc": {{"balance": -1}}}}, session=session)
print("held", flush=True)
time.sleep(600)
"""


@contextmanager
def killed_holding_the_issuer(url: str) -> Iterator[None]:
    """A process has debited the issuer in a transaction, and was killed."""
    with subprocess.Popen([sys.executable, "-c", _HOLDS_THE_ISSUER, url], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
        finally:
            process.kill()
    yield


async def test_a_deposit_does_not_wait_for_a_process_that_was_killed(world: World, mongodb_url: str) -> None:
    await world.deposits("bob", 5)
    with killed_holding_the_issuer(mongodb_url):
        await world.deposits("alice", 7)  # without help: 503 for up to 90 s
    assert (world.balance("bob"), world.balance("alice")) == (5, 7)


async def test_the_worker_frees_what_no_transaction_waits_for(world: World, mongodb_url: str) -> None:
    await world.deposits("bob", 5)
    client: AsyncIOMotorClient[dict[str, object]] = AsyncIOMotorClient(mongodb_url)
    free = make_end_abandoned(Database(client, "goalsvc"))
    with killed_holding_the_issuer(mongodb_url):
        assert await free.function(world.context) == Returned(Reason.ALREADY_DONE), "it may still be at work"
        async with asyncio.timeout(FREE_SECONDS):
            while await free.function(world.context) != Done("1 transactions"):
                pass
    client.close()
    world.database.accounts.update_one({"_id": "issuer"}, {"$inc": {"balance": 0}})  # waits for no one
