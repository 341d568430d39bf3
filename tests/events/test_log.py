"""The event log on the real server: one order that a reader can follow, whoever writes at the same time."""

import asyncio
import os
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from pymongo import MongoClient

from goalsvc.domain.events import Event
from goalsvc.domain.origin import Cause
from goalsvc.errors import CursorExpiredError
from goalsvc.models.database import Database, open_database
from goalsvc.models.event_log import EventDocument, EventLog
from goalsvc.models.migration import Keeping, make_indexes
from tests.world import START

pytestmark = pytest.mark.real

WRITERS = 8
#: `make events` sets it to 100,000.
EVENTS = int(os.environ.get("GOALSVC_TEST_LOGGED", "4000"))


def event(goal: str, number: int, **more: Any) -> Event:
    data = {"number": number}
    return Event(
        type="goal.progressed",
        identity=f"{goal}:{number}",
        created_at=START,
        data=data,
        goal_id=goal,
        cause=Cause(event_id="e"),
        **more,
    )


@asynccontextmanager
async def a_log(database: Database) -> AsyncIterator[EventLog]:
    log = EventLog(database)
    try:
        yield log
    finally:
        await log.close()


@pytest.fixture
async def database(documents: MongoClient[dict[str, Any]], mongodb_url: str) -> AsyncIterator[Database]:
    for name in ("events", "counters"):
        documents.get_default_database()[name].delete_many({})
    await make_indexes(mongodb_url, Keeping(20_000, 20_000, 0))
    async with open_database(mongodb_url) as opened:
        yield opened


@pytest.fixture
async def log(database: Database) -> AsyncIterator[EventLog]:
    async with a_log(database) as opened:
        yield opened


async def read_all(log: EventLog, limit: int = 100) -> list[Any]:
    """Everything in the log, page by page."""
    found: list[Any] = []
    place = 0
    while (page := await log.page(place, {}, limit)).events:
        found += page.events
        place = page.next
    return found


class TestTheOrder:
    async def test_no_reader_misses_an_event_of_eight_writers(self, database: Database) -> None:
        """Half of the events are committed late, in transactions that others overtake; each process has a log of its own."""
        each = EVENTS // WRITERS
        done = asyncio.Event()

        async def write(log: EventLog, goal: str) -> None:
            number = 0
            while number < each:
                count = min(random.randint(1, 40), each - number)
                batch = [event(goal, number + step) for step in range(count)]
                if random.random() < 0.5:
                    await log.write(batch)
                else:

                    async def work(session: Any, batch: list[Event] = batch) -> None:
                        await log.write(batch, session)
                        for _ in range(random.randint(0, 20)):  # meanwhile others take places, and commit
                            await database.client.admin.command("ping")

                    await database.transaction(work)
                number += count

        async def read(log: EventLog) -> list[Any]:
            found: list[Any] = []
            place = 0
            while True:
                last = done.is_set()
                page = await log.page(place, {}, 500)
                found += page.events
                if last and not page.events:
                    return found
                place = page.next

        async with AsyncExitStack() as stack:
            logs = [await stack.enter_async_context(a_log(database)) for _ in range(WRITERS + 1)]
            reading = asyncio.create_task(read(logs[-1]))
            await asyncio.gather(*(write(log, f"goal-{n}") for n, log in enumerate(logs[:WRITERS])))
            done.set()
            seen = await reading
        places = [one["sequence"] for one in seen]
        assert places == list(range(1, each * WRITERS + 1)), "each place once, in order, none left out"
        assert len({one["_id"] for one in seen}) == each * WRITERS
        of_each: dict[str, list[int]] = {}
        for one in seen:
            of_each.setdefault(one["goal_id"], []).append(one["data"]["number"])
        assert all(numbers == list(range(each)) for numbers in of_each.values()), "a goal's events are in their order"

    async def test_an_event_that_is_written_again_keeps_its_place(self, log: EventLog) -> None:
        await log.write([event("g", 1)])
        before = await read_all(log)
        await asyncio.gather(*(log.write([event("g", 1), event("g", 2)]) for _ in range(5)))
        assert (await read_all(log))[:1] == before
        assert Counter(one["data"]["number"] for one in await read_all(log)) == {1: 1, 2: 1}

    async def test_an_event_whose_transaction_fails_was_never_written(self, log: EventLog, database: Database) -> None:
        async def work(session: Any) -> None:
            await log.write([event("g", 1)], session)
            raise RuntimeError("changed its mind")

        with pytest.raises(RuntimeError):
            await database.transaction(work)
        assert await read_all(log) == []


class TestCursors:
    async def test_one_whose_events_have_expired_names_the_oldest(self, log: EventLog) -> None:
        await log.write([event("g", number) for number in range(10)])
        assert await log.number() == 10
        await EventDocument.get_motor_collection().delete_many({"sequence": {"$lte": 4}})
        with pytest.raises(CursorExpiredError) as refused:
            await log.page(2, {}, 10)
        assert refused.value.oldest == 4
        assert len((await log.page(4, {}, 10)).events) == 6
        assert len((await log.page(None, {}, 10)).events) == 6

    async def test_one_whose_events_have_all_expired(self, log: EventLog) -> None:
        await log.write([event("g", number) for number in range(3)])
        assert await log.number() == 3
        await EventDocument.get_motor_collection().delete_many({})
        with pytest.raises(CursorExpiredError) as refused:
            await log.page(1, {}, 10)
        assert refused.value.oldest == 3
        assert (await log.page(3, {}, 10)).events == []

    async def test_a_filtered_page_passes_over_what_it_does_not_hold(self, log: EventLog) -> None:
        await log.write([event("a", number) for number in range(5)])
        await log.write([event("b", 1)])
        page = await log.page(0, {"goal_id": "b"}, 10)
        assert [one["goal_id"] for one in page.events] == ["b"]
        assert (await log.page(page.next, {"goal_id": "a"}, 10)).events == []

    async def test_events_of_one_place_are_on_one_page(self, log: EventLog) -> None:
        """Another service has taken a place that was taken; what follows, and what was there, is read by every reader."""
        await log.write([event("g", number) for number in range(4)])
        await log.number()
        theirs = {"type": "theirs", "created_at": START, "sequence": 2}
        await EventDocument.get_motor_collection().insert_many([{"_id": f"evt_{n}", **theirs} for n in range(3)])
        seen, place = [], 0
        for _ in range(5):
            page = await log.page(place, {}, 2)
            seen += [one["_id"] for one in page.events]
            place = page.next
        assert (len(seen), len(set(seen)), place) == (7, 7, 4)

    async def test_an_invented_place_is_not_the_oldest(self, log: EventLog) -> None:
        await log.write([event("g", number) for number in range(4)])
        await log.number()
        await EventDocument.get_motor_collection().delete_many({})
        far = {"_id": "evt_far", "type": "theirs", "created_at": START, "sequence": 10**9}
        await EventDocument.get_motor_collection().insert_one(far)
        with pytest.raises(CursorExpiredError) as refused:
            await log.page(1, {}, 10)
        assert refused.value.oldest == 4
        assert await log.place_of("evt_far") == 4, "a reader who goes on after it misses nothing that is to come"


class TestWaiting:
    async def test_a_reader_is_woken_by_another_process(self, log: EventLog, database: Database) -> None:
        async with a_log(database) as other:
            waiting = asyncio.create_task(log.moved_on(0, 20))
            await other.write([event("g", 1)])
            assert await waiting is True

    async def test_and_gives_up_when_its_time_is_over(self, log: EventLog) -> None:
        assert await log.moved_on(0, 0.01) is False
