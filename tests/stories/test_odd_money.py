"""Earnings, accounts, transfers, clips, posts and users of which any field is absent, null or of another type.

All variants stand in the database at once, next to a good show. Every list, view, report and page meets them; none is answered
by 5xx, no list goes round in circles, and the good show is paid.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from bson import Decimal128, ObjectId
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo.errors import BulkWriteError

from goalsvc.domain.escrow import ISSUER, escrow_account
from goalsvc.domain.ids import derived_id
from goalsvc.domain.orders import Order
from goalsvc.domain.reading import whole
from tests.stories.scenes import a_funded_show
from tests.support import documents as odd
from tests.world import API_KEY, World

pytestmark = pytest.mark.real

#: What may stand in `_id` where goalsvc writes a text.
ODD_IDS: list[Any] = [5, 5.5, {"a": 1}, Decimal128("1"), True, b"x", ObjectId()]
#: What may stand there where goalsvc writes an ObjectId.
NO_OBJECT_IDS: list[Any] = [*ODD_IDS[:-1], "x"]


@pytest.fixture
async def operator(odd_world: World) -> AsyncIterator[httpx.AsyncClient]:
    """A browser of an operator who has logged in to the console."""
    transport = httpx.ASGITransport(odd_world.app)
    async with httpx.AsyncClient(transport=transport, base_url="https://goalsvc.test") as client:
        answer = await client.post("/console/login", data={"key": API_KEY}, headers={"Sec-Fetch-Site": "same-origin"})
        assert answer.status_code == 303
        yield client


async def answers(world: World, path: str, *, method: str = "GET", body: dict[str, Any] | None = None) -> Any:
    """What the API says at that path, which is no 5xx; None for a refusal."""
    response = await world.call(method, path, body)
    assert response.status_code < 500, f"{method} {path}: {response.text}"
    return response.json() if response.is_success and "json" in response.headers["content-type"] else None


async def shows(operator: httpx.AsyncClient, path: str) -> None:
    """A page of the console, which is no 5xx."""
    answer = await operator.get(f"/console{path}")
    assert answer.status_code < 500, f"{path}: {answer.text[-1500:]}"


async def listed(world: World, path: str, most: int, limit: int) -> list[Any]:
    """All rows of a list of at most so many documents: pages of `limit` rows, the last of which has no next."""
    found: list[Any] = []
    cursor = ""
    for _ in range(most // limit + 2):
        page = await answers(world, f"{path}{'&' if '?' in path else '?'}limit={limit}{cursor}")
        found += page["items"]
        if page["next"] is None:
            ids = [row["id"] for row in found]
            assert len(ids) == len(set(ids)), f"{path}: a row is listed twice"
            return found
        cursor = f"&cursor={page['next']}"
    raise AssertionError(f"{path}: the list goes round in circles")


async def lists_both_ways(world: World, path: str, most: int) -> set[str]:
    """The ids in a list, which holds the same forwards in large pages and backwards in small ones."""
    join = "&" if "?" in path else "?"
    forwards = await listed(world, f"{path}{join}order=asc", most, 200)
    backwards = await listed(world, f"{path}{join}order=desc", most, 23)
    assert [row["id"] for row in backwards] == [row["id"] for row in reversed(forwards)]
    return {row["id"] for row in forwards}


def variants(good: odd.Document, identities: Iterable[Any], part: int = 0, of: int = 1) -> Iterator[odd.Document]:
    """The document with each of its values absent, and with each odd value in its place; or one part of these in `of`."""
    values, ids = list(odd.ODD_VALUES.values()), iter(identities)
    for number, path in enumerate(odd.paths_of(good)):
        yield odd.without(good, path) | {"_id": next(ids)}
        for value in values[(number + part) % of :: of]:
            yield odd.with_value(good, path, value) | {"_id": next(ids)}


def numbered(prefix: str) -> Iterator[str]:
    return (f"{prefix}{number}" for number in range(10_000))


def object_ids() -> Iterator[ObjectId]:
    while True:
        yield ObjectId()


#: What MongoDB itself refuses: two arrays in one index, and a key that is taken.
REFUSED = {171, 11000}


def store(world: World, collection: str, documents: Iterable[odd.Document]) -> list[odd.Document]:
    """Writes these documents as another service would; those that the indexes of the collection admit."""
    documents = list(documents)
    refused: dict[int, int] = {}
    try:
        world.database[collection].insert_many(documents, ordered=False)
    except BulkWriteError as error:
        refused = {fault["index"]: fault["code"] for fault in error.details["writeErrors"]}
        assert set(refused.values()) <= REFUSED
    return [each for number, each in enumerate(documents) if number not in refused]


async def reports(world: World, operator: httpx.AsyncClient) -> None:
    """Everything that reads all of the books."""
    for path in ("/v1/reports/balances", "/v1/reports/transfers", "/v1/reports/audit", "/v1/search?q=bob"):
        await answers(world, path)
    await answers(world, "/v1/reports/seals", method="POST")
    for path in ("/health", "/users/alice", "/users/bob", "/search?q=alice"):
        await shows(operator, path)


async def test_earnings_of_which_any_field_is_odd(odd_world: World, operator: httpx.AsyncClient) -> None:
    world = odd_world
    show = await world.given(a_funded_show(seconds=60, earnings=2))
    funding = ObjectId(show.funding_id)
    model = odd.earning(show.escrow_id, goal_id=funding)
    earnings = list(variants(model, object_ids(), 0, 2))
    world.database.earnings.insert_many([*earnings, *(model | {"_id": identity} for identity in NO_OBJECT_IDS)])
    amounts = [whole(each.get("amount")) for each in earnings if f"_{show.escrow_id}" in each]
    due = [amount for amount in amounts if amount is not None and 0 < amount < 2**40]
    more = Order(transfer_id="theirs", debit=ISSUER, credit=escrow_account(show.escrow_id), amount=sum(due))
    await world.context.ledger.post(more, world.clock.now())

    for path in ("/v1/contributions", f"/v1/goals/{funding}/contributions", "/v1/contributions?from_user_id=bob"):
        assert await lists_both_ways(world, path, len(earnings) + 10)
    await answers(world, f"/v1/goals/{funding}/leaderboard?limit=200")
    await reports(world, operator)
    await shows(operator, f"/goals/{show.id}")
    await world.performs(show, seconds=70)
    await world.settle()
    assert world.balance(show.streamer) == show.escrow + sum(due)
    await shows(operator, f"/escrows/{show.escrow_id}")
    await answers(world, f"/v1/goals/{show.id}/why-not")
    await answers(world, f"/v1/goals/{show.id}/refund", method="POST", body={"reason": "asked for"})
    await world.settle()
    await reports(world, operator)


async def test_transfers_of_which_any_field_is_odd(odd_world: World, operator: httpx.AsyncClient) -> None:
    world = odd_world
    show = await world.given(a_funded_show(seconds=60, earnings=2))
    model = odd.transfer("x")
    transfers = list(variants(model, numbered("t-"), 0, 2)) + [model | {"_id": identity} for identity in ODD_IDS]
    transfers += [
        model | {"_id": f"r-{number}", "reference": value} for number, value in enumerate(odd.ODD_VALUES.values())
    ]
    theirs = {name: value for name, value in model.items() if name not in ("debit", "credit")}
    transfers += variants(theirs, numbered("theirs-"), 1, 6)
    transfers = store(world, "transfers", transfers)

    listed_ids = await lists_both_ways(world, "/v1/transfers", len(transfers) + 20)
    assert {each["_id"] for each in transfers if isinstance(each["_id"], str)} <= listed_ids
    for query in ("user_id=bob", "account=user:alice", "escrow_id=show_funding:68143584d6945d32e732cc21"):
        assert await lists_both_ways(world, f"/v1/transfers?{query}", len(transfers))
    for each in transfers[::5]:
        identity = quote(str(each["_id"]), safe="")
        await answers(world, f"/v1/transfers/{identity}")
        await answers(world, f"/v1/transfers/{identity}/why")
        await shows(operator, f"/transfers/{identity}")
    for path in ("/v1/wallets/alice/statement", "/v1/wallets/bob/statement", "/v1/wallets/bob"):
        await answers(world, path)
        await answers(world, f"{path}?format=csv&from=2020-01-01T00:00:00Z")
        await answers(world, f"{path}?from=2020-01-01T00:00:00Z")
    await reports(world, operator)
    await answers(world, "/v1/users/bob", method="DELETE")
    await world.performs(show, seconds=70)
    await world.settle()
    assert world.balance(show.streamer) == show.escrow


async def test_payouts_of_which_any_field_is_odd(odd_world: World) -> None:
    """The transfers that a refund of the goal reads."""
    world = odd_world
    show = await world.given(a_funded_show(seconds=60, earnings=2))
    await world.performs(show, seconds=70)
    await world.settle()
    model = odd.transfer("x", to_user_id="alice")
    prefix = f"escrow-{show.escrow_id}-z"
    store(world, "transfers", variants(model, numbered(prefix), 0, 4))
    await answers(world, f"/v1/goals/{show.id}/refund", method="POST", body={"amount": 100, "reason": "cut short"})
    await world.settle()


async def test_accounts_of_which_any_field_is_odd(odd_world: World, operator: httpx.AsyncClient) -> None:
    world = odd_world
    show = await world.given(a_funded_show(seconds=60, earnings=2))
    balances = [odd.account(f"user:b-{number}", balance=value) for number, value in enumerate(odd.ODD_VALUES.values())]
    users = [*variants(odd.account("x"), numbered("user:u-"), 0, 29), *balances]
    escrows = list(variants(odd.account("x"), (f"escrow:show_funding:{one}" for one in object_ids()), 1, 29))
    debts = [each | {"_id": each["_id"].replace("user:", "debt:")} for each in users[::4]]
    others = [odd.account("x") | {"_id": identity} for identity in ODD_IDS]
    store(world, "accounts", [*users, *escrows, *debts, *others])
    for each in users:
        user = each["_id"].partition(":")[2]
        for path in ("", "/statement", "/statement?from=2020-01-01T00:00:00Z", "/statement?format=csv"):
            await answers(world, f"/v1/wallets/{user}{path}")
        await shows(operator, f"/users/{user}")
        await answers(world, f"/v1/wallets/{user}/deposits", method="POST", body={"amount": 5})
        await answers(world, f"/v1/wallets/{user}/withdrawals", method="POST", body={"amount": 1})
        tip = {"from_user_id": user, "to_user_id": "carol", "amount": 1}
        await answers(world, "/v1/transfers", method="POST", body=tip)
        await answers(world, f"/v1/users/{user}", method="DELETE")
    for each in escrows:
        escrow = each["_id"].partition(":")[2]
        await answers(world, f"/v1/escrows/{escrow}")
        await answers(world, f"/v1/escrows/{escrow}/statement")
        await shows(operator, f"/escrows/{escrow}")
    await reports(world, operator)
    await world.performs(show, seconds=70)
    await world.settle()
    assert world.balance(show.streamer) == show.escrow


async def test_clips_of_which_any_field_is_odd(odd_world: World, operator: httpx.AsyncClient) -> None:
    world = odd_world
    show = await world.given(a_funded_show(seconds=60, earnings=2))
    assets = store(world, "assets", variants(odd.asset(), object_ids(), 0, 2))
    others = store(world, "assets", (odd.asset(_id=identity) for identity in NO_OBJECT_IDS))
    posts = store(world, "posts", variants(odd.post(), object_ids(), 0, 4))
    store(world, "posts", (odd.post(_id=identity) for identity in NO_OBJECT_IDS))
    listed_ids = await lists_both_ways(world, "/v1/clips", len(assets) + 10)
    # Of several times there is none to be listed by.
    assert {str(each["_id"]) for each in assets if not isinstance(each.get("created_at"), list)} <= listed_ids
    for query in ("user_id=alice", "state=failed"):
        await lists_both_ways(world, f"/v1/clips?{query}", len(assets) + 10)
    for each in [*assets[::7], *others]:
        await answers(world, f"/v1/clips/{each['_id']}")
        await shows(operator, f"/clips/{each['_id']}")
        await answers(world, f"/v1/clips/{each['_id']}/retry", method="POST")
    await answers(world, f"/v1/search?q={posts[0]['_id']}")
    await world.performs(show, seconds=70)
    await world.settle()
    assert world.balance(show.streamer) == show.escrow
    (stored,) = world.all("assets", {"_id": derived_id(ObjectId(show.id), "asset")})
    assert stored["state"] == "quarantined"


async def test_users_of_which_any_field_is_odd_are_listed_and_read(
    odd_world: World, operator: httpx.AsyncClient
) -> None:
    world = odd_world
    users = list(variants(odd.user(), numbered("user-"), 0, 2)) + [odd.user(_id=identity) for identity in ODD_IDS]
    store(world, "users", users)
    listed_ids = await lists_both_ways(world, "/v1/users", len(users))
    assert {each["_id"] for each in users if isinstance(each["_id"], str)} <= listed_ids
    for each in users[::7]:
        await answers(world, f"/v1/users/{each['_id']}")
        await shows(operator, f"/users/{each['_id']}")
        await answers(world, f"/v1/users/{each['_id']}", method="DELETE")


#: A good document of each collection, and the paths that show it.
MODELS: dict[str, tuple[Callable[[], odd.Document], tuple[str, ...]]] = {
    "earnings": (
        lambda: odd.earning("show_funding:68143584d6945d32e732cc21"),
        ("/v1/contributions?order=desc", "/v1/contributions?from_user_id=bob"),
    ),
    "accounts": (lambda: odd.account(f"user:u-{ObjectId()}"), ("/v1/reports/balances",)),
    "transfers": (
        lambda: odd.transfer(f"t-{ObjectId()}"),
        ("/v1/transfers?order=desc", "/v1/wallets/alice/statement", "/v1/reports/transfers"),
    ),
    "assets": (odd.asset, ("/v1/clips?order=desc",)),
    "posts": (odd.post, ()),
    "users": (lambda: odd.user(_id=f"u-{ObjectId()}"), ("/v1/users?order=desc",)),
}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_documents_of_money_as_any_driver_writes_them(odd_world: World, data: st.DataObject) -> None:
    world = odd_world
    for collection, (model, paths) in MODELS.items():
        good = model()
        written = data.draw(odd.documents(good, most=6)) | {"_id": good["_id"]}
        stored = store(world, collection, [written])
        for path in paths if stored else ():
            await answers(world, path)
    await answers(world, "/v1/reports/audit")


async def test_balances_beyond_what_mongodb_stores_are_audited(odd_world: World) -> None:
    """The figures of the audit are kept, and two such balances come to more than 8 bytes hold."""
    store(odd_world, "accounts", [odd.account(f"user:rich-{number}") | {"balance": 2**62} for number in range(3)])
    await answers(odd_world, "/v1/reports/audit")
