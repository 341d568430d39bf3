"""MongoDB is backed up while livestreams are played, and restored to new servers: all that is owed is done, once.

MongoDB's own tools are not among the wheels. Two ways are tried that need nothing else: a copy of the files while writes are
held up (`fsyncLock`), as a file system's snapshot makes it, and the documents as one snapshot session reads them.
"""

import asyncio
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import bson
import pytest
from pymongo import MongoClient

from goalsvc.devstack import private_mongod
from goalsvc.devstack.waiting import holds_within
from tests.faults.outside import (
    Clients,
    DevStack,
    audited,
    dev_stack,
    play_livestream,
    promises_of,
    settle,
    violations_of,
)

from .only import in_drills

pytestmark = [pytest.mark.real, in_drills, pytest.mark.timeout(700)]

LIVESTREAMS = 12
SETTLED_AFTER_SECONDS = 400
BEGUN_SECONDS, ENDED_SECONDS = 180.0, 120.0
#: Longer than `settle` waits, which says what is owed.
FINISHED_SECONDS = 420.0
Document = dict[str, Any]
Backup = Callable[[DevStack, Path], None]


def copy_of_the_files(stack: DevStack, to: Path) -> None:
    """Copies the data of MongoDB while it writes nothing."""
    with MongoClient[Document](stack.addresses["mongodb_url"]) as client:
        client.admin.command({"fsync": 1, "lock": True})
        try:
            shutil.copytree(stack.data / "mongod", to, ignore=shutil.ignore_patterns("mongod.lock"))
        finally:
            client.admin.command("fsyncUnlock")


def documents_of_one_moment(stack: DevStack, to: Path) -> None:
    """Reads all documents as they were at one moment, and writes them into the data of a new MongoDB, without indexes."""
    with (
        MongoClient[Document](stack.addresses["mongodb_url"]) as client,
        client.start_session(snapshot=True) as session,
    ):
        database = client.get_default_database()
        names = sorted(set(database.list_collection_names()) - {"system.views"})
        found = {name: [bson.encode(each) for each in database[name].find(session=session)] for name in names}
    with tempfile.TemporaryDirectory(prefix="goalsvc-backup-") as directory:
        with private_mongod(Path(directory)) as server, MongoClient[Document](server.url) as client:
            database = client.get_default_database()
            for name, documents in found.items():
                if documents:
                    database[name].insert_many([bson.decode(each) for each in documents])
        shutil.copytree(Path(directory) / "0", to, ignore=shutil.ignore_patterns("mongod.lock"))


async def play_and_back_up(backup: Backup, to: Path, valkey: Path | None) -> tuple[int, int]:
    """Plays livestreams and makes the backup in the middle; with a path, Valkey's data of a later time as well.

    Returns how many webhooks were sent in all, and how many promises were owed at the backup.
    """
    async with dev_stack() as stack:
        clients = Clients(stack.addresses, Random(7))
        try:
            async with asyncio.TaskGroup() as playing:
                for number in range(LIVESTREAMS):
                    playing.create_task(play_livestream(clients, Random(number)))
                begun = asyncio.to_thread(
                    holds_within, BEGUN_SECONDS, lambda: clients.tally.webhooks >= 2 * LIVESTREAMS
                )
                assert await begun, f"{clients.tally.webhooks} webhooks in {BEGUN_SECONDS:g} s"
                stack.signal("worker", signal.SIGSTOP)  # so that much is owed in the backup
                await asyncio.sleep(1)
                await asyncio.to_thread(backup, stack, to)
                owed = await asyncio.to_thread(_owed, stack)
                stack.signal("worker", signal.SIGCONT)
        finally:
            await clients.close()
        if valkey is not None:
            await asyncio.to_thread(shutil.copytree, stack.data / "valkey", valkey)
    assert not clients.wrong, "\n".join(clients.wrong)
    assert owed, "nothing was owed at the backup"
    return clients.tally.webhooks, owed


def _owed(stack: DevStack) -> int:
    with MongoClient[Document](stack.addresses["mongodb_url"], tz_aware=True) as client:
        return len(promises_of(client.get_default_database()))


@contextmanager
def restored(directory: Path) -> Iterator[DevStack]:
    """A new `goalsvc dev` on the data that are in the directory."""
    stack = DevStack(directory)
    try:
        yield stack
    finally:
        stack.stop()


@pytest.mark.parametrize(
    ("backup", "redis"),
    [(copy_of_the_files, "empty"), (copy_of_the_files, "of a later time"), (documents_of_one_moment, "empty")],
    ids=["files", "files, Redis of a later time", "documents"],
)
async def test_what_is_owed_is_done_once_after_a_restore(backup: Backup, redis: str) -> None:
    with tempfile.TemporaryDirectory(prefix="goalsvc-restored-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        data = directory / "data"
        data.mkdir()
        webhooks, owed = await play_and_back_up(backup, data / "mongod", data / "valkey" if redis != "empty" else None)
        with restored(directory) as stack:
            wrong, told = await asyncio.wait_for(_finish(stack), FINISHED_SECONDS)
    print(f"{webhooks} webhooks; restored with {owed} promises, {told}")
    assert not wrong, "\n".join(wrong)


async def _finish(stack: DevStack) -> tuple[list[str], str]:
    """Ends the sessions that were open at the backup, waits until nothing is owed, and looks at the books."""
    clients = Clients(stack.addresses, Random(8))
    try:
        return await _end_and_audit(stack, clients)
    finally:
        await clients.close()


async def _end_and_audit(stack: DevStack, clients: Clients) -> tuple[list[str], str]:
    with MongoClient[Document](stack.addresses["mongodb_url"], tz_aware=True) as client:
        database = client.get_default_database()

        def active() -> int:
            return database["goals"].count_documents({"active": {"$ne": False}})

        open_sessions = [each["_id"] for each in database["sessions"].find({"statuses.ended": None}, {"_id": 1})]
        told = f"{len(open_sessions)} open sessions, {active()} active goals"
        for session in open_sessions:
            await clients.insist("POST", f"/v1/sessions/{session}/end")
        # A task ends their goals. One that ended after the clock was advanced would wait for six minutes of its own.
        assert await asyncio.to_thread(holds_within, ENDED_SECONDS, lambda: not active(), 0.1), f"{active()} are active"
    # Of a clock that ran at the backup no leave is known, and Pusher does not know its performer: such a goal is settled after
    # the six minutes in which a webhook may still come.
    advanced = await clients.insist("POST", "/v1/test-clock/advance", {"seconds": SETTLED_AFTER_SECONDS})
    assert advanced.status_code == 200, advanced.text
    took, redriven = await settle(clients, stack.addresses, clients.wrong)
    report = (await clients.insist("GET", "/v1/reports/audit")).json()
    wrong = clients.wrong + violations_of(stack.addresses, [], []) + await audited(clients)
    told += f"; at rest after {took:.1f} s, {redriven} dead letters, {report['transfers']} transfers"
    return wrong, told
