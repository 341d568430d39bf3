"""The verbs of money and the erasure, on documents of which any field is absent, null or of another type.

None is answered by 5xx. What is refused has changed nothing at all; what is done has changed what it says and nothing else.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest
from bson import ObjectId

from tests.stories.scenes import a_funded_show, a_funding, contributes
from tests.stories.test_odd_money import store
from tests.support import documents as odd
from tests.world import World

pytestmark = pytest.mark.real

#: `make drivers` plays them all; else each fifth field has each ninth value.
ALL = os.environ.get("GOALSVC_TEST_ODD") == "all"


#: What a verb may not touch where it is refused.
LASTING = (
    "goals",
    "sessions",
    "users",
    "earnings",
    "accounts",
    "transfers",
    "withdrawals",
    "posts",
    "assets",
    "events",
)


def hashes(world: World) -> dict[str, str]:
    """What stands in each collection, as one hash."""
    found: dict[str, str] = world.database.command("dbHash", collections=list(LASTING))["collections"]
    return found


async def asks(world: World, method: str, path: str, changes: set[str], body: dict[str, Any] | None = None) -> bool:
    """Calls it: no 5xx, and only these collections are changed, where it succeeds; whether it did."""
    before = hashes(world)
    answer = await world.call(method, path, body)
    assert answer.status_code < 500, f"{method} {path}: {answer.text}"
    changed = {name for name, value in hashes(world).items() if before.get(name) != value}
    assert changed <= (changes if answer.is_success else set()), f"{method} {path}: {answer.status_code}"
    return answer.is_success


def variants(good: odd.Document, of: int = 1 if ALL else 9, part: int = 0) -> Iterator[odd.Document]:
    """The document with each of its values absent, and with each odd value in its place, or a part of these in `of`."""
    values = list(odd.ODD_VALUES.values())
    for number, path in enumerate(odd.paths_of(good)):
        if number % 5 == part % 5 or ALL:
            yield odd.without(good, path)
            for value in values[(number + part) % of :: of]:
                yield odd.with_value(good, path, value)


@contextmanager
def keeping_the_sum(world: World) -> Iterator[None]:
    """All accounts sum to the same before and after."""

    def total() -> object:
        (found,) = world.database.accounts.aggregate([{"$group": {"_id": None, "sum": {"$sum": "$balance"}}}])
        return found["sum"]

    before = total()
    yield
    assert total() == before


async def test_deposits_are_reversed(odd_world: World) -> None:
    world = odd_world
    made = await world.post("/v1/wallets/bob/deposits", {"amount": 7})
    (good,) = world.all("transfers", {"_id": made["id"]})
    deposits = [each | {"_id": f"d-{number}"} for number, each in enumerate(variants(good, part=2))]
    deposits = store(world, "transfers", deposits)
    done = 0
    with keeping_the_sum(world):
        for each in deposits:
            path = f"/v1/deposits/{each['_id']}/reverse"
            done += await asks(world, "POST", path, {"accounts", "transfers", "events"}, {"reason": "chargeback"})
    assert done


async def test_withdrawals_are_confirmed_and_returned(odd_world: World) -> None:
    world = odd_world
    await world.deposits("bob", 10_000)
    body = {"amount": 7, "reference": "payout", "metadata": {"a": 1}}
    made = await world.post("/v1/wallets/bob/withdrawals", body)
    (good,) = world.all("withdrawals", {"_id": made["id"]})
    good["returns_at"] = world.clock.now() - timedelta(hours=1)
    withdrawals = [each | {"_id": f"wd_{number:024x}"} for number, each in enumerate(variants(good, part=1))]
    past = {"$set": {"returns_at": good["returns_at"]}}
    world.database.withdrawals.update_one({"_id": made["id"]}, past)
    world.database.withdrawals.insert_many(withdrawals)
    world.database.accounts.insert_many({"_id": f"payout:{each['_id']}", "balance": 7} for each in withdrawals)
    changes = {"accounts", "transfers", "withdrawals", "events"}
    done = 0
    with keeping_the_sum(world):
        for state in ("", "&state=pending"):
            assert (await world.call("GET", f"/v1/wallets/bob/withdrawals?limit=200{state}")).status_code == 200
        for number, each in enumerate(withdrawals):
            path = f"/v1/withdrawals/{each['_id']}"
            assert (await world.call("GET", path)).status_code < 500
            if number % 3:
                done += await asks(world, "POST", f"{path}/{('confirm', 'return')[number % 2]}", changes)
        assert done
        await world.tick("return_withdrawals")
    assert world.account(f"payout:{made['id']}") == 0, "the good one returns"
    await world.deposits("bob", 1)


async def test_completed_goals_are_refunded(odd_world: World) -> None:
    world = odd_world
    show = await world.given(a_funded_show(seconds=60, earnings=2))
    await world.performs(show, seconds=70)
    await world.settle()
    good = world.goal(show)
    good |= {"returned": 0, "returns": {}, "returned_at": {}}
    with keeping_the_sum(world):
        for number, each in enumerate(variants(good, 29, 3)):
            world.database.goals.replace_one({"_id": good["_id"]}, {**each, "_id": good["_id"], "_cls": good["_cls"]})
            changes = {"goals", "events", "transfers", "accounts"}
            await asks(world, "POST", f"/v1/goals/{show.id}/refund", changes, {"amount": 1, "reason": "cut short"})
            await world.work()
            body = {"amount": 1, "reason": "cut short", "reference": f"refund-{number}"}
            await asks(world, "POST", f"/v1/goals/{show.id}/refund", changes, body)
            await world.work()
    world.database.goals.replace_one({"_id": good["_id"]}, good)


async def test_people_are_erased(odd_world: World) -> None:
    """Whose documents of any kind are odd, next to a person whose documents are not."""
    world = odd_world
    show = await world.given(a_funded_show(seconds=60, earnings=2))
    models = {
        "goals": [odd.goal("TriggerGoal"), odd.goal("ExclusiveGoal")],
        "sessions": [odd.session()],
        "earnings": [odd.earning(f"show_funding:{ObjectId()}")],
    }
    people = []
    for collection, goods in models.items():
        for number, each in enumerate(one for good in goods for one in variants(good, 29, 3)):
            person = f"{collection}-{number}"
            named: odd.Document = {"user_id": person} if collection != "goals" else {}
            if collection == "goals" and isinstance(each.get("metadata"), dict):
                named = {"metadata": {**each["metadata"], "viewer_id": person}}
            world.database[collection].insert_one({**each, **named, "_id": ObjectId()})
            people.append(person)
    names = {"a.b": 1, "$c": {"$d": 2}, "": 3, "deep": {"e.f": [{"$g": 1}]}}
    users = [each | {"_id": f"user-{number}"} for number, each in enumerate(variants(odd.user()))]
    users += [odd.user(_id=f"erased-{n}", erased_at=value) for n, value in enumerate(odd.ODD_VALUES.values())]
    users += [odd.user(_id=person) | names for person in people]
    world.database.users.insert_many(users)
    done = []
    for each in users:
        person = str(each["_id"])
        if await asks(world, "DELETE", f"/v1/users/{quote(person)}", {"users"}):
            done.append(person)
            kept = set(world.all("users", {"_id": person})[0])
            assert kept <= {"_id", "created_at", "updated_at", "erased_at", "promises"}, person
            again = await world.call("PUT", f"/v1/users/{quote(person)}", {"username": "Again"})
            assert (again.status_code, again.json()["code"]) == (409, "user_erased")
    assert set(done) >= {str(each["_id"]) for each in users if str(each["_id"]).startswith(("user-", "erased-"))}
    await world.performs(show, seconds=70)
    for _ in range(5):
        await world.work()
        await world.after(seconds=1)
    assert world.balance(show.streamer) == show.escrow


@pytest.mark.parametrize("writer", sorted(odd.WRITERS))
async def test_a_reversal_takes_from_contributions_of_any_driver(odd_world: World, writer: str) -> None:
    world = odd_world
    funding = await world.given(a_funding(target=300))
    deposit = (await world.post("/v1/wallets/bob/deposits", {"amount": 100}))["id"]
    await contributes(world, funding, "bob", 40)
    await contributes(world, funding, "bob", 60)
    for each in world.all("earnings"):
        del each["state"]  # which goalsvc alone writes
        world.database.earnings.replace_one({"_id": each["_id"]}, odd.WRITERS[writer](each))
    erased = await world.call("DELETE", "/v1/users/bob")
    assert erased.json()["code"] == "user_has_open_money"
    taken = await world.post(f"/v1/deposits/{deposit}/reverse", {"reason": "chargeback"})
    assert (taken["from_wallet"], taken["from_escrows"], taken["from_debt"]) == (100, 100, 0)
    assert world.escrow(f"show_funding:{funding.id}") == 0
    await world.ends(funding)
    await world.settle(patience=400)
    assert (world.balance("bob"), world.account("debt:bob"), world.all("dead_letters")) == (0, 0, [])
