"""Servers that live but have another role: a Redis that became a replica, a MongoDB without transactions, options of URLs."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from pymongo import MongoClient
from redis import Redis

from goalsvc.api.readiness import mongodb_state, redis_state
from goalsvc.commands.preflight import mongodb_complaint, redis_complaint, wait_for_services
from goalsvc.devstack import private_valkey
from goalsvc.devstack.mongod import member_command
from goalsvc.devstack.parts import Part
from goalsvc.devstack.ports import free_port, is_listening
from goalsvc.devstack.private import _running
from goalsvc.errors import SettingsError
from goalsvc.integrations.redis import open_redis
from goalsvc.models.database import open_database
from tests.stories.scenes import a_funded_show
from tests.support.streams import copy
from tests.world import open_world, settings_of

pytestmark = pytest.mark.real

CHANGED_SECONDS = 20.0


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2].partition("/")[0])


@pytest.fixture
def two() -> Iterator[tuple[str, str]]:
    """Two servers of Valkey, of which the second is a replica of the first."""
    with private_valkey() as first, private_valkey() as second:
        with closing(Redis.from_url(second)) as replica:
            replica.replicaof("127.0.0.1", str(port_of(first)))
        yield first, second


class Name:
    """What a name resolves to: connections that are open stay where they are, new ones go where it points then."""

    def __init__(self, port: int) -> None:
        self.port = port

    @asynccontextmanager
    async def resolved(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._forward, "127.0.0.1", 0)
        async with server:
            yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
            server.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self.port)
        await asyncio.gather(copy(reader, back), copy(there, writer))


def swap_roles(first: str, second: str) -> None:
    with closing(Redis.from_url(first)) as old, closing(Redis.from_url(second)) as new:
        new.replicaof("NO", "ONE")
        old.replicaof("127.0.0.1", str(port_of(second)))


async def test_connections_leave_a_redis_that_became_a_replica(two: tuple[str, str]) -> None:
    name = Name(port_of(two[0]))
    async with name.resolved() as url:
        client = open_redis(url)
        async with client.pipeline(transaction=True) as pipe:
            pipe.set("a", 1)
            await pipe.execute()
        script = client.register_script("return redis.call('SET', KEYS[1], 1)")
        await script(keys=["b"])
        swap_roles(*two)
        name.port = port_of(two[1])
        # Every connection of the pool is still open to the old primary, which refuses each write.
        await client.set("c", 1)
        async with client.pipeline(transaction=True) as pipe:
            pipe.set("d", 1)
            pipe.set("e", 1)
            await pipe.execute()
        await script(keys=["f"])
        assert await redis_state(client) == "ok"
        await client.aclose()
    with closing(Redis.from_url(two[1])) as new:
        assert new.exists("c", "d", "e", "f") == 4


async def test_a_show_is_paid_through_a_failover_of_redis(
    two: tuple[str, str], documents: MongoClient[dict[str, Any]], mongodb_url: str
) -> None:
    name = Name(port_of(two[0]))
    async with name.resolved() as url, open_world(documents, mongodb_url, url, real_workers=True) as world:
        show = await world.given(a_funded_show(seconds=60, earnings=3))
        await world.performer_joins(show)
        await world.work()
        swap_roles(*two)
        name.port = port_of(two[1])
        await world.after(seconds=70)
        await world.performer_leaves(show)
        deadline = monotonic() + CHANGED_SECONDS
        while world.balance(show.streamer) != show.escrow and monotonic() < deadline:
            await world.work()
            await world.after(seconds=6)
            await world.tick("sweep_promises")
        assert world.balance(show.streamer) == show.escrow
        ready = await world.call("GET", "/readyz")
        assert (ready.status_code, ready.json()["redis"]) == (200, "ok")


async def test_readiness_says_that_redis_is_a_replica(two: tuple[str, str]) -> None:
    client = open_redis(two[1])
    assert await client.ping()
    assert await redis_state(client) == "is a read-only replica"
    complaint = redis_complaint(two[1])
    assert complaint is not None
    assert (complaint.text, complaint.lasting) == ("GOALSVC_REDIS_URL: is a read-only replica at this moment", False)
    await client.aclose()


async def test_readiness_says_that_redis_is_full(two: tuple[str, str]) -> None:
    client = open_redis(two[0])
    await client.config_set("maxmemory", "1")
    await client.config_set("maxmemory-policy", "noeviction")
    assert await redis_state(client) == "full (maxmemory is reached: jobs in it are run, new ones wait for the sweep)"
    await client.aclose()


async def test_a_redis_with_a_password_that_is_not_given(two: tuple[str, str]) -> None:
    with closing(Redis.from_url(two[0])) as server:
        server.config_set("requirepass", "secret")
    complaint = redis_complaint(two[0])
    assert complaint is not None
    assert (complaint.text, complaint.lasting) == ("GOALSVC_REDIS_URL: the credentials are refused", True)


@pytest.fixture(scope="module")
def standalone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A mongod that is not a member of a replica set."""
    directory: Path = tmp_path_factory.mktemp("standalone")
    port = free_port()
    command = member_command(directory / "data", port, 0.25)
    at = command.index("--replSet")
    with _running([Part("mongod", (*command[:at], *command[at + 2 :]), lambda _pid: is_listening(port))], directory):
        yield f"mongodb://127.0.0.1:{port}/goalsvc"


def test_a_mongodb_without_transactions_is_refused_at_the_start(standalone: str, redis_url: str) -> None:
    with pytest.raises(SettingsError) as caught:
        wait_for_services(settings_of(standalone, redis_url), lambda _: None)
    assert caught.value.message.startswith("GOALSVC_MONGODB_URL: is a single server, not a replica set")


async def test_readiness_says_that_mongodb_has_no_transactions(standalone: str) -> None:
    async with open_database(standalone) as database:
        assert (await mongodb_state(database)).startswith("is a single server")


def test_what_may_come_is_waited_for_and_each_state_is_said_once(mongodb_url: str) -> None:
    port = free_port()
    told: list[str] = []
    rests: list[float] = []

    class EnoughError(Exception):
        """The test has seen what it wants."""

    def rest(seconds: float) -> None:
        rests.append(seconds)
        if len(rests) == 3:
            raise EnoughError

    with pytest.raises(EnoughError):
        wait_for_services(settings_of(mongodb_url, f"redis://127.0.0.1:{port}/0"), told.append, rest=rest)
    (line,) = told
    assert line.startswith("waiting: GOALSVC_REDIS_URL: cannot be reached")
    assert "\n" not in line


@pytest.mark.parametrize(
    "option",
    [
        "readPreference=secondary", "readPreference=secondaryPreferred", "readPreference=nearest", "w=0", "w=1",
        "journal=false",
        "readConcernLevel=available", "readConcernLevel=linearizable", "readConcernLevel=snapshot", "retryWrites=false",
        "retryReads=false", "uuidRepresentation=standard", "maxStalenessSeconds=120&readPreference=nearest",
    ],
)  # fmt: skip
async def test_no_option_of_the_url_decides_about_money(
    documents: MongoClient[dict[str, Any]], mongodb_url: str, redis_url: str, option: str
) -> None:
    url = f"{mongodb_url}{'&' if '?' in mongodb_url else '?'}{option}"
    assert mongodb_complaint(url) is None
    async with open_world(documents, url, redis_url) as world:
        show = await world.given(a_funded_show(seconds=60, earnings=2))
        await world.performs(show, seconds=70)
        await world.settle()
        assert world.balance(show.streamer) == show.escrow
        ready = await world.call("GET", "/readyz")
        assert (ready.status_code, ready.json()["mongodb"]) == (200, "ok")


@pytest.mark.parametrize("url", ["mongodb://", "mongodb://host:port/x", "mongodb://a:secret@c:d@e/x"])
def test_a_url_that_will_never_work_is_one_sentence(url: str) -> None:
    complaint = mongodb_complaint(url, 0.2)
    assert complaint is not None
    assert complaint.lasting
    assert complaint.text.startswith("GOALSVC_MONGODB_URL: ")
    assert "\n" not in complaint.text
