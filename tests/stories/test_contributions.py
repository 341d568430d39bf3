"""Contributions, many at once: not a token too many, not one lost."""

import asyncio
from collections import Counter

import httpx
import pytest

from tests.world import World

from .scenes import Goal, a_funding

pytestmark = pytest.mark.real


def contribution(
    world: World, funding: Goal, user: str, amount: int, key: str | None = None
) -> "asyncio.Task[httpx.Response]":
    body = {"user_id": user, "amount": amount}
    return asyncio.create_task(world.call("POST", f"/v1/goals/{funding.id}/contributions", body, key=key))


def answers(responses: list[httpx.Response]) -> Counter[tuple[int, str]]:
    return Counter((response.status_code, response.json().get("code", "")) for response in responses)


def held(world: World, funding: Goal) -> int:
    return world.escrow(f"show_funding:{funding.id}")


async def test_of_twenty_viewers_at_once(world: World) -> None:
    funding = await world.given(a_funding(target=10_000))
    for number in range(20):
        await world.deposits(f"viewer-{number}", 50 + number)
    given = await asyncio.gather(*(contribution(world, funding, f"viewer-{n}", 50 + n) for n in range(20)))
    assert answers(list(given)) == {(201, ""): 20}
    total = sum(50 + number for number in range(20))
    await world.settle()
    assert (world.progress(funding), held(world, funding)) == (total, total)
    assert len(world.all("earnings")) == 20
    (told,) = world.told("goal.progress.updated")
    assert (told["progress"], told["amount"], told["contributions"]) == (total, total, 20)


async def test_twenty_of_one_viewer_who_can_afford_seven(world: World) -> None:
    funding = await world.given(a_funding(target=10_000))
    await world.deposits("bob", 75)
    given = await asyncio.gather(*(contribution(world, funding, "bob", 10) for _ in range(20)))
    assert answers(list(given)) == {(201, ""): 7, (402, "insufficient_funds"): 13}
    await world.settle()
    assert (world.balance("bob"), held(world, funding), world.progress(funding)) == (5, 70, 70)
    board = await world.get(f"/v1/goals/{funding.id}/leaderboard")
    assert board == {"items": [{"user_id": "bob", "amount": 70}], "next": None}


async def test_the_same_key_twice_at_once(world: World) -> None:
    funding = await world.given(a_funding(target=10_000))
    await world.deposits("bob", 100)
    given = await asyncio.gather(*(contribution(world, funding, "bob", 60, key="once") for _ in range(5)))
    assert answers(list(given)) == {(201, ""): 5}
    assert sum("Idempotent-Replayed" in response.headers for response in given) == 4
    assert len({response.json()["id"] for response in given}) == 1
    await world.settle()
    assert (world.balance("bob"), held(world, funding), world.progress(funding)) == (40, 60, 60)
    assert len(world.all("earnings")) == 1


@pytest.mark.parametrize(("user", "amount"), [("bob", 61), ("carol", 60)])
async def test_the_same_key_for_something_else(world: World, user: str, amount: int) -> None:
    funding = await world.given(a_funding(target=10_000))
    for viewer in ("bob", "carol"):
        await world.deposits(viewer, 200)
    await contribution(world, funding, "bob", 60, key="once")
    other = await contribution(world, funding, user, amount, key="once")
    assert (other.status_code, other.json()["code"]) == (409, "transfer_conflict")
    assert held(world, funding) == 60


async def test_a_repeat_gets_its_first_answer_also_when_the_funding_is_over(world: World) -> None:
    funding = await world.given(a_funding(target=100))
    await world.deposits("bob", 100)
    first = await contribution(world, funding, "bob", 100, key="once")
    await world.settle()
    again = await contribution(world, funding, "bob", 100, key="once")
    assert (again.status_code, again.json()["id"]) == (201, first.json()["id"])
    late = await contribution(world, funding, "bob", 1)
    assert late.status_code in (402, 409)


async def test_the_last_tokens_complete_it_once(world: World) -> None:
    funding = await world.given(a_funding(target=100))
    for number in range(10):
        await world.deposits(f"viewer-{number}", 30)
    given = await asyncio.gather(*(contribution(world, funding, f"viewer-{n}", 30) for n in range(10)))
    assert answers(list(given)) == {(201, ""): 4, (409, "goal_inactive"): 6}
    await world.settle()
    assert (world.progress(funding), held(world, funding)) == (120, 120)
    assert len(world.all("goals", {"_cls": "Goal.ShowGoal"})) == 1
    assert len(world.told("stream.changed")) == 1


async def test_deposits_with_one_key_at_once(world: World) -> None:
    calls = (world.call("POST", "/v1/wallets/bob/deposits", {"amount": 70}, key="once") for _ in range(5))
    assert {response.status_code for response in await asyncio.gather(*calls)} == {201}
    assert world.balance("bob") == 70
    other = await world.call("POST", "/v1/wallets/bob/deposits", {"amount": 71}, key="once")
    assert (other.status_code, other.json()["code"]) == (409, "transfer_conflict")


async def test_a_capped_one_takes_what_is_missing(world: World) -> None:
    funding = await world.given(a_funding(target=100))
    await world.deposits("bob", 500)
    path, body = f"/v1/goals/{funding.id}/contributions", {"user_id": "bob", "amount": 130, "cap": True}
    first = await world.post(path, body, key="once")
    assert (first["amount"], first["surplus"], first["progress"]) == (100, 30, 100)
    again = await world.call("POST", path, body, key="once")
    assert again.headers["Idempotent-Replayed"] == "true"
    assert (again.json()["amount"], again.json()["surplus"]) == (100, 30)
    other = await world.call("POST", path, {"user_id": "bob", "amount": 130}, key="once")
    assert (other.status_code, other.json()["code"]) == (409, "transfer_conflict")
    assert (world.balance("bob"), held(world, funding)) == (400, 100)


async def test_two_capped_ones_at_once_never_overshoot(world: World) -> None:
    funding = await world.given(a_funding(target=100))
    for name in ("bob", "carol", "dave"):
        await world.deposits(name, 80)
    path = f"/v1/goals/{funding.id}/contributions"
    given = await asyncio.gather(
        *(world.call("POST", path, {"user_id": name, "amount": 80, "cap": True}) for name in ("bob", "carol", "dave"))
    )
    assert answers(list(given)) == {(201, ""): 2, (409, "goal_inactive"): 1}
    assert sorted(one.json().get("amount", 0) for one in given) == [0, 20, 80]
    assert held(world, funding) == 100


async def test_streamers_do_not_fund_their_own_goals(world: World) -> None:
    funding = await world.given(a_funding(target=100))
    await world.deposits(funding.streamer, 80)
    refused = await contribution(world, funding, funding.streamer, 80)
    assert (refused.status_code, refused.json()["code"]) == (409, "self_payment")
    assert (world.balance(funding.streamer), held(world, funding)) == (80, 0)
