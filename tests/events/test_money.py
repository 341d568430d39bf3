"""Each money verb tells the platform's backend, once, in the transaction that moves the tokens."""

from typing import Any

import pytest

from tests.stories.scenes import a_funding, a_stage, contributes
from tests.stories.test_money import a_paid_show
from tests.world import World

from .test_feed import feed, types

pytestmark = pytest.mark.real


async def the_only(world: World, type_: str) -> dict[str, Any]:
    """The event of that type, of which there must be exactly one."""
    (event,) = await feed(world, f"&types={type_}")
    return event


@pytest.mark.parametrize("direction", ["credit", "debit"])
async def test_an_adjustment(world: World, direction: str) -> None:
    await world.deposits("bob", 100)
    body = {"amount": 30, "direction": direction, "reason": "goodwill"}
    made = await world.post("/v1/wallets/bob/adjustments", body, key="a")
    await world.post("/v1/wallets/bob/adjustments", body, key="a")
    event = await the_only(world, "adjustment.created")
    told = event["data"]["transfer"]
    assert (told["id"], told["amount"], told["metadata"]["reason"]) == (made["id"], 30, "goodwill")
    assert ("to_user_id" in told, "from_user_id" in told) == (direction == "credit", direction == "debit")
    assert event["user_ids"] == ["bob"]


async def test_an_adjustment_that_is_refused_tells_nothing(world: World) -> None:
    body = {"amount": 30, "direction": "debit", "reason": "mistake"}
    assert (await world.call("POST", "/v1/wallets/bob/adjustments", body)).status_code == 402
    assert await feed(world, "&types=adjustment.created") == []


async def test_a_tip(world: World) -> None:
    await world.deposits("bob", 100)
    body = {"from_user_id": "bob", "to_user_id": "alice", "amount": 7}
    made = await world.post("/v1/transfers", body, key="t")
    await world.post("/v1/transfers", body, key="t")
    event = await the_only(world, "transfer.created")
    told = event["data"]["transfer"]
    assert (told["id"], told["from_user_id"], told["to_user_id"], told["amount"]) == (made["id"], "bob", "alice", 7)
    assert sorted(event["user_ids"]) == ["alice", "bob"]


@pytest.mark.parametrize(("verb", "type_"), [("confirm", "withdrawal.confirmed"), ("return", "withdrawal.returned")])
async def test_a_withdrawal(world: World, verb: str, type_: str) -> None:
    await world.deposits("bob", 100)
    made = await world.post("/v1/wallets/bob/withdrawals", {"amount": 60}, key="w")
    for _ in range(2):
        await world.post(f"/v1/withdrawals/{made['id']}/{verb}", {"reason": "closed"} if verb == "return" else None)
    events = await feed(world, "&types=withdrawal.*")
    assert types(events) == ["withdrawal.created", type_]
    assert [event["data"]["transfer"]["amount"] for event in events] == [60, 60]
    assert all(f"withdrawal::{made['id']}" in event["data"]["transfer"]["tags"] for event in events)


async def test_a_reversal_tells_where_the_tokens_came_from(world: World) -> None:
    deposit = await world.post("/v1/wallets/bob/deposits", {"amount": 100})
    funding = await world.given(a_funding(target=300))
    await contributes(world, funding, "bob", 50)
    await world.post("/v1/transfers", {"from_user_id": "bob", "to_user_id": "alice", "amount": 30})
    await world.settle()
    await world.after(seconds=60)
    for _ in range(2):
        await world.post(f"/v1/deposits/{deposit['id']}/reverse", {"reason": "chargeback"})
    event = await the_only(world, "deposit.reversed")
    data = event["data"]
    assert (data["transfer"]["id"], data["transfer"]["amount"], data["reason"]) == (deposit["id"], 100, "chargeback")
    assert (data["from_wallet"], data["from_escrows"], data["from_debt"]) == (70, 50, 30)
    assert event["user_ids"] == ["bob"]
    (made,) = await feed(world, "&types=deposit.created")
    assert event["created_at"] > made["created_at"]


async def test_a_refund_of_a_goal_is_told_once_for_each_call(world: World) -> None:
    show = await a_paid_show(world)
    for _ in range(2):
        await world.post(f"/v1/goals/{show.id}/refund", {"amount": 100, "reason": "cut short"}, key="r")
        await world.settle()
    event = await the_only(world, "goal.refunded")
    refund = event["data"]["refund"]
    assert (refund["amount"], refund["paid"], refund["reason"]) == (100, show.escrow, "cut short")
    assert (event["goal_id"], event["data"]["goal"]["id"]) == (show.id, show.id)
    await world.post(f"/v1/goals/{show.id}/refund", {"reason": "the rest"})
    await world.settle()
    told = [each["data"]["refund"]["amount"] for each in await feed(world, "&types=goal.refunded")]
    assert told == [100, show.escrow - 100]


async def test_a_change_of_a_goal_tells_the_goal_as_it_then_is(world: World) -> None:
    stage = await world.given(a_stage())
    body = {"kind": "KaraokeGoal", "session_id": stage.session_id, "levels": [{"target": 60}]}
    goal = await world.post("/v1/goals", body)
    path = f"/v1/goals/{goal['id']}"
    for target in (120, 180):
        answer = await world.call("PATCH", path, {"levels": [{"title": "Songs", "target": target}]})
        assert answer.status_code == 200, answer.text
    assert (await world.call("PATCH", path, {"metadata": {"price": 1}})).status_code == 422
    events = await feed(world, "&types=goal.updated")
    assert [event["data"]["goal"]["levels"][0]["target"] for event in events] == [120, 180]
    assert {event["goal_id"] for event in events} == {goal["id"]}
    assert {event["session_id"] for event in events} == {stage.session_id}
