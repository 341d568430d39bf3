"""Writes that a failover rolls back: a primary takes some that no other member has, is killed, and comes back as a secondary.

goalsvc writes with `w=1` what is done again after a crash (`lasting=False`): promises that are done, counts of shares,
analytics. Here such writes are lost in the middle of payouts, and afterwards the law and the books hold.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient, WriteConcern

from goalsvc.devstack import private_mongod
from goalsvc.devstack.private import PrivateMongod
from goalsvc.devstack.waiting import holds_within
from tests.drills.only import in_drills
from tests.stories.scenes import Show, a_funded_show
from tests.world import World, empty, joined, left, open_world

pytestmark = [pytest.mark.real, in_drills]

SHOWS, EARNINGS = 6, 20
ELECTED_SECONDS = 60.0
MARKS = 20
Document = dict[str, Any]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "members"


@pytest.fixture
def members(directory: Path) -> Iterator[PrivateMongod]:
    directory.mkdir()
    with private_mongod(directory, members=3) as server:
        yield server


@pytest.fixture
async def replicated(members: PrivateMongod, redis_url: str) -> AsyncIterator[World]:
    with MongoClient[Document](members.url) as documents:
        empty(documents)
        async with open_world(documents, members.url, redis_url) as world:
            yield world
            await world.check_invariants()


def lose_what_one_member_has(members: PrivateMongod, transfers: int) -> None:
    """Once there are so many transfers: the others are killed, the primary goes on alone and dies, they come back."""
    with MongoClient[Document](members.url) as client:
        database = client.get_default_database()
        assert holds_within(60.0, lambda: database["transfers"].count_documents({}) >= transfers)
        assert client.primary is not None
        port = client.primary[1]
        primary = members.member_on(port)
        others = [member for member in members.members if member is not primary]
        for member in others:  # what is on its way to one that merely stands still, it would still read
            member.kill()
        alone = database.get_collection("marks", write_concern=WriteConcern(w=1, j=True))
        for number in range(MARKS):  # meanwhile goalsvc writes as well, and what it writes is on this member's disk
            alone.insert_one({"_id": number})
        primary.kill()
        for member in others:
            member.start()
        assert holds_within(ELECTED_SECONDS, lambda: _writes(client))
        assert database["marks"].count_documents({}) == 0, "the others have what was to be lost"
        primary.start()
        primary.wait_until_ready()


def _writes(client: MongoClient[Document]) -> bool:
    """Whether a write is on a majority; raises nothing, for a primary may be still to be elected."""
    try:
        majority = client.get_default_database().get_collection("elected", write_concern=WriteConcern(w="majority"))
        return majority.replace_one({"_id": 1}, {"_id": 1}, upsert=True).acknowledged
    except Exception:
        return False


def rolled_back(directory: Path) -> list[Path]:
    """What the member that came back has put aside of each collection."""
    return sorted(directory.glob("*/rollback/*/*.bson"))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("transfers", [1, SHOWS * EARNINGS // 2])
async def test_payouts_whose_bookkeeping_is_rolled_back(
    directory: Path, members: PrivateMongod, replicated: World, transfers: int
) -> None:
    world = replicated
    shows: list[Show] = [await world.given(a_funded_show(seconds=360, earnings=EARNINGS)) for _ in range(SHOWS)]
    for show in shows:
        await world.hears(joined(show))
    await world.after(seconds=400)
    for show in shows:
        await world.hears(left(show))
    before = len(world.all("transfers"))
    losing = asyncio.to_thread(lose_what_one_member_has, members, before + transfers)
    await asyncio.gather(world.settle(patience=120), losing)
    assert await asyncio.to_thread(holds_within, 60.0, lambda: len(rolled_back(directory)) > 0)
    print(f"put aside of {len(rolled_back(directory))} collections")
    await world.settle(patience=120)
    for show in shows:
        assert (world.progress(show), world.escrow(show.escrow_id)) == (400, 0)
        assert world.balance(show.streamer) == sum(each.escrow for each in shows if each.streamer == show.streamer)
