"""A backend that hears events alone has the books: each transfer has one event, and all of them sum up to the balances."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from goalsvc.domain.events import EVENT_TYPES, TELLING_OF_TRANSFERS
from tests.stories.scenes import a_funding, a_request, an_exclusive, contributes
from tests.stories.test_money import a_paid_show
from tests.world import World, joined, left

from .test_feed import feed

pytestmark = pytest.mark.real

DOCS = Path(__file__).parents[2] / "docs"


async def books(world: World) -> tuple[dict[str, int], set[str]]:
    """The sum of each kind of account, from events alone, and the types that told of transfers."""
    told: dict[str, dict[str, Any]] = {}
    types = set()
    for event in await feed(world):
        if event["type"] in TELLING_OF_TRANSFERS and "transfer" in event["data"]:
            transfer = event["data"]["transfer"]
            assert transfer["id"] not in told, f"{transfer['id']} is told of twice"
            told[transfer["id"]] = transfer
            types.add(event["type"])
    sums: Counter[str] = Counter()
    for transfer in told.values():
        sums[transfer["debit"].partition(":")[0]] -= transfer["amount"]
        sums[transfer["credit"].partition(":")[0]] += transfer["amount"]
    return dict(sums), types


async def reported(world: World) -> dict[str, int]:
    kinds = (await world.get("/v1/reports/balances"))["kinds"]
    return {name: kind["balance"] for name, kind in kinds.items()}


def test_each_is_in_the_catalogue() -> None:
    assert set(TELLING_OF_TRANSFERS) <= set(EVENT_TYPES)


def test_the_specification_names_each_and_the_exception() -> None:
    text = (DOCS / "specification.md").read_text()
    _, _, after = text.partition("the types `TELLING_OF_TRANSFERS`")
    listed, _, exception = after.partition("- **Event**")[0].partition("\n`deposit.reversed` is not one of them")
    named = re.findall(r"`([a-z.]+)\.([a-z|]+)`", listed)
    assert {f"{noun}.{verb}" for noun, verbs in named for verb in verbs.split("|")} - {"data.transfer"} == set(
        TELLING_OF_TRANSFERS
    )
    assert exception


async def test_an_evening_with_every_verb(world: World) -> None:
    show = await a_paid_show(world, fee_bps=1000)
    await world.post("/v1/transfers", {"from_user_id": show.streamer, "to_user_id": "shop", "amount": 200})
    await world.post(f"/v1/goals/{show.id}/refund", {"amount": 100, "reason": "cut short"})
    await world.settle()
    exclusive = await world.given(an_exclusive(price=360, seconds=360))
    await world.hears(joined(exclusive), joined(exclusive, exclusive.viewer))
    await world.after(seconds=100)
    await world.hears(left(exclusive), left(exclusive, exclusive.viewer))
    await world.settle(patience=500)
    declined = await world.given(a_request(price=300))
    await world.post(f"/v1/goals/{declined.id}/decline")
    await world.settle()
    funding = await world.given(a_funding(target=300))
    deposit = await world.post("/v1/wallets/eve/deposits", {"amount": 100})
    await contributes(world, funding, "eve", 60)
    await world.post("/v1/wallets/eve/adjustments", {"amount": 30, "direction": "debit", "reason": "mistake"})
    await world.post(f"/v1/deposits/{deposit['id']}/reverse", {"reason": "chargeback"})
    await world.post("/v1/wallets/eve/deposits", {"amount": 50})
    for verb in ("confirm", "return"):
        made = await world.post("/v1/wallets/shop/withdrawals", {"amount": 20})
        await world.post(f"/v1/withdrawals/{made['id']}/{verb}")
    await world.settle()
    sums, types = await books(world)
    assert sums == await reported(world)
    assert types == set(TELLING_OF_TRANSFERS)


async def test_a_fee_that_is_all_of_the_payout(world: World) -> None:
    show = await a_paid_show(world, fee_bps=10_000)
    sums, types = await books(world)
    assert sums == await reported(world)
    assert (sums["fees"], world.balance(show.streamer)) == (300, 0)
    assert "fee.taken" in types


@pytest.mark.parametrize(
    ("type_", "users"),
    [("debt.created", {"bob"}), ("debt.repaid", {"bob"}), ("withdrawal.confirmed", {"bob"}), ("fee.taken", set())],
)
async def test_whom_it_concerns(world: World, type_: str, users: set[str]) -> None:
    deposit = await world.post("/v1/wallets/bob/deposits", {"amount": 100})
    made = await world.post("/v1/wallets/bob/withdrawals", {"amount": 60})
    await world.post(f"/v1/withdrawals/{made['id']}/confirm")
    await world.post(f"/v1/deposits/{deposit['id']}/reverse", {"reason": "chargeback"})
    await world.post("/v1/wallets/bob/deposits", {"amount": 10})
    await a_paid_show(world, fee_bps=1000)
    events = await feed(world, f"&types={type_}")
    assert events
    assert {user for event in events for user in event["user_ids"]} == users
