"""Contributions on the real server: batches, several processes, and what fails in the middle."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeVar

import pytest
from bson import ObjectId
from pymongo.errors import AutoReconnect, OperationFailure

from goalsvc.domain.funding import Contributed, Contribution
from goalsvc.domain.origin import NOWHERE
from goalsvc.errors import GoalsvcError, LedgerBusyError
from goalsvc.models.contributions import ANNOUNCE, Contributions, close_announcement
from goalsvc.models.database import Database
from tests.stories.scenes import Goal, a_funding
from tests.world import World

pytestmark = pytest.mark.real

T = TypeVar("T")
Work = Callable[[Any], Awaitable[T]]


def database_of(world: World) -> Database:
    """The connection of the world's own ledger."""
    database: Database = world.context.ledger._database  # type: ignore[attr-defined]
    return database


class Failing:
    """Transactions of which the first do not do what they should."""

    def __init__(self, inner: Database, *, before: int = 0, after: int = 0) -> None:
        self._inner, self._before, self._after = inner, before, after
        self.begun = 0

    async def transaction(self, work: Work[T]) -> T:
        """Fails before the work so many times, then after its commit so many times."""
        self.begun += 1
        if self._before > 0:
            self._before -= 1
            raise OperationFailure("the batch fails as a whole", 2)
        result = await self._inner.transaction(work)
        if self._after > 0:
            self._after -= 1
            raise AutoReconnect("the answer of the commit is lost")
        return result


def process(world: World, database: Any = None, **options: Any) -> Contributions:
    """What another process would open."""
    database = database_of(world) if database is None else database
    return Contributions(database, world.clock.now, allow_self_payment=False, **options)


def of(funding: Goal, user: str, amount: int = 1, key: str | None = None) -> Contribution:
    transfer_id = f"contribution-{funding.id}-{key or ObjectId()}"
    return Contribution(goal_id=ObjectId(funding.id), transfer_id=transfer_id, user_id=user, amount=amount)


async def outcomes(*made: Awaitable[Contributed]) -> Counter[str]:
    """How these went, side by side."""
    answers = await asyncio.gather(*made, return_exceptions=True)
    unexpected = [one for one in answers if isinstance(one, BaseException) and not isinstance(one, GoalsvcError)]
    assert unexpected == []
    return Counter(
        one.code if isinstance(one, GoalsvcError) else ("made" if one.new else "known")  # type: ignore[union-attr]
        for one in answers
    )


async def viewers(world: World, count: int, amount: int = 10) -> list[str]:
    names = [f"viewer-{number}" for number in range(count)]
    for name in names:
        await world.deposits(name, amount)
    return names


def check(world: World, funding: Goal, total: int) -> None:
    """Every token is in one place, and each contribution has its earning and its transfer."""
    assert (world.progress(funding), world.escrow(f"show_funding:{funding.id}")) == (total, total)
    earnings = world.all("earnings", {"goal_id": ObjectId(funding.id)})
    transfers = world.all("transfers", {"_id": {"$regex": "^contribution-"}})
    assert sum(one["amount"] for one in earnings) == sum(one["amount"] for one in transfers) == total
    assert {one["transfer_id"] for one in earnings} == {one["_id"] for one in transfers}
    announced = [p for p in world.goal(funding)["promises"] if p["task"] == ANNOUNCE]
    assert sum(p["arguments"]["amount"] for p in announced) == total
    assert announced[-1]["progress"] == total


async def test_a_batch_shares_one_transaction(world: World) -> None:
    funding = await world.given(a_funding(target=10_000))
    names = await viewers(world, 40)
    counting = Failing(database_of(world))
    crowd = process(world, counting)
    assert await outcomes(*(crowd.make(of(funding, name), NOWHERE) for name in names)) == {"made": 40}
    assert counting.begun == 1
    check(world, funding, 40)


async def test_several_goals_share_one_transaction(world: World) -> None:
    first = await world.given(a_funding(target=10_000))
    second = await world.given(a_funding(target=10_000))
    await world.deposits("bob", 5)
    counting = Failing(database_of(world))
    crowd = process(world, counting)
    offered = [crowd.make(of(funding, "bob"), NOWHERE) for funding in (first, second) * 3]
    assert await outcomes(*offered) == {"made": 5, "insufficient_funds": 1}
    assert counting.begun == 1
    assert (world.progress(first), world.progress(second), world.balance("bob")) == (3, 2, 0)


async def test_one_promise_however_many_contributions(world: World) -> None:
    funding = await world.given(a_funding(target=10_000))
    await world.deposits("bob", 1000)
    for _ in range(5):
        crowd = process(world)
        await outcomes(*(crowd.make(of(funding, "bob"), NOWHERE) for _ in range(30)))
    (promise,) = [p for p in world.goal(funding)["promises"] if p["task"] != "write_event"]
    assert (promise["progress"], promise["arguments"]["contributions"]) == (150, 150)
    check(world, funding, 150)


async def test_what_comes_after_an_announcement_has_begun_is_another_one(world: World) -> None:
    funding = await world.given(a_funding(target=10_000))
    await world.deposits("bob", 100)
    crowd = process(world)
    first = await crowd.make(of(funding, "bob", 10), NOWHERE)
    assert first.promise is not None
    closed = await close_announcement(ObjectId(funding.id), first.promise.id)
    assert closed is not None
    second = await crowd.make(of(funding, "bob", 5), NOWHERE)
    assert second.promise is not None
    # The first has not been made: the second must wait for it, or clients would be told 15 and then 10.
    still = await close_announcement(ObjectId(funding.id), second.promise.id)
    assert still is not None
    assert [p.closed for p in still.promises if p.task != "write_event"] == [True, False]
    await world.settle(patience=120)
    told = [(one["progress"], one["amount"]) for one in world.told("goal.progress.updated")]
    assert told == [(10, 10), (15, 5)]


async def test_two_processes_take_turns(world: World) -> None:
    funding = await world.given(a_funding(target=10_000))
    names = await viewers(world, 20, 20)
    crowds = [process(world) for _ in range(3)]
    offered = [crowds[n % 3].make(of(funding, names[n % 20]), NOWHERE) for n in range(240)]
    assert await outcomes(*offered) == {"made": 240}
    check(world, funding, 240)


async def test_the_same_key_in_two_processes_is_made_once(world: World) -> None:
    funding = await world.given(a_funding(target=10_000))
    await world.deposits("bob", 100)
    offered = [process(world).make(of(funding, "bob", 7, key="once"), NOWHERE) for _ in range(8)]
    assert await outcomes(*offered) == {"made": 1, "known": 7}
    check(world, funding, 7)


async def test_a_goal_that_ends_in_the_middle(world: World) -> None:
    funding = await world.given(a_funding(target=10_000))
    names = await viewers(world, 20)
    crowds = [process(world) for _ in range(2)]

    async def end() -> None:
        await asyncio.sleep(0)
        await world.ends(funding)

    offered = [crowds[n % 2].make(of(funding, names[n % 20]), NOWHERE) for n in range(150)]
    _, found = await asyncio.gather(end(), outcomes(*offered))
    assert set(found) <= {"made", "goal_inactive"}
    assert len(world.all("earnings")) == found["made"]
    await world.settle()
    assert sum(world.balance(name) for name in names) == 200


async def test_what_one_process_refused_as_too_late_no_process_takes_whose_clock_is_behind(world: World) -> None:
    """The same request in two processes: a client that was told no must not find later that it was yes."""
    funding = await world.given(a_funding(target=10_000, lasts=60))
    exp = world.clock.now() + timedelta(seconds=60)
    await world.deposits("bob", 100)
    late = Contributions(database_of(world), lambda: exp + timedelta(seconds=1), allow_self_payment=False)
    assert await outcomes(process(world).make(of(funding, "bob", 5), NOWHERE)) == {"made": 1}
    assert await outcomes(late.make(of(funding, "bob", 7, key="twice"), NOWHERE)) == {"goal_inactive": 1}
    assert await outcomes(process(world).make(of(funding, "bob", 7, key="twice"), NOWHERE)) == {"goal_inactive": 1}
    check(world, funding, 5)


async def test_a_batch_that_fails_as_a_whole_is_made_one_by_one(world: World) -> None:
    funding = await world.given(a_funding(target=10_000))
    names = await viewers(world, 5)
    crowd = process(world, Failing(database_of(world), before=1))
    offered = [crowd.make(of(funding, name), NOWHERE) for name in [*names, "without-funds"]]
    assert await outcomes(*offered) == {"made": 5, "insufficient_funds": 1}
    check(world, funding, 5)


async def test_a_commit_whose_answer_is_lost_is_answered_truly(world: World) -> None:
    funding = await world.given(a_funding(target=10_000))
    names = await viewers(world, 5)
    crowd = process(world, Failing(database_of(world), after=1))
    assert await outcomes(*(crowd.make(of(funding, name), NOWHERE) for name in names)) == {"made": 5}
    check(world, funding, 5)


async def test_a_goal_that_another_transaction_holds_keeps_no_other_goal_waiting(world: World) -> None:
    held = await world.given(a_funding(target=10_000))
    free = await world.given(a_funding(target=10_000))
    await world.deposits("bob", 10)
    database = database_of(world)
    goals = database.client[database.name]["goals"]
    crowd = process(world, longest_wait_seconds=1.0)
    async with await database.client.start_session() as session:
        session.start_transaction()
        await goals.update_one({"_id": ObjectId(held.id)}, {"$set": {"batch_id": ObjectId()}}, session=session)
        stuck = asyncio.create_task(crowd.make(of(held, "bob"), NOWHERE))
        made = await crowd.make(of(free, "bob"), NOWHERE)
        assert made.new
        with pytest.raises(LedgerBusyError):
            await stuck
        await session.abort_transaction()
    assert (world.progress(held), world.progress(free), world.balance("bob")) == (0, 1, 9)
