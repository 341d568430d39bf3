"""From a transfer one call leads to its webhook, from that one call to all its transfers; a large show is told completely.

`make explained` plays the show with 5,000 contributions.
"""

import asyncio
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from tests.world import World

from .scenes import Show, a_funding, contributes
from .test_money import a_paid_show

pytestmark = pytest.mark.real

#: How many contributions the large show has. More than 2,000 do not fit on one page of its trace.
CONTRIBUTIONS = int(os.environ.get("GOALSVC_TEST_CONTRIBUTIONS", "120"))
VIEWERS = 40

Json = dict[str, Any]


async def listed(world: World, path: str) -> list[Json]:
    """Every item of a list, page by page."""
    found: list[Json] = []
    cursor = ""
    while True:
        page = await world.get(f"{path}{cursor}")
        found += page["items"]
        if page["next"] is None:
            return found
        cursor = f"&cursor={page['next']}"


async def traced(world: World, goal_id: str, roots: int) -> list[Json]:
    """Every root of a goal's trace, page by page; what a page repeats is there as often."""
    await world.context.recorder.flush()
    found: list[Json] = []
    cursor = ""
    while True:
        page = await world.get(f"/v1/goals/{goal_id}/trace?limit={roots}{cursor}")
        found += page["events"]
        if page["next"] is None:
            return found
        cursor = f"&cursor={page['next']}"


def nodes_of(nodes: Sequence[Json]) -> Iterator[Json]:
    for node in nodes:
        yield node
        yield from nodes_of(node["children"])


def transfers_in(nodes: Sequence[Json]) -> Counter[str]:
    """The transfers that the tasks of these trees made, each with how often it is shown."""
    made = (node for node in nodes_of(nodes) if node["name"] == "transfer" and not node.get("repeated"))
    return Counter(node["refs"]["transfer"] for node in made)


async def test_each_transfer_leads_to_its_webhook_and_that_to_all_its_transfers(world: World) -> None:
    show = await a_paid_show(world, fee_bps=1000)
    by_webhook: dict[str, set[str]] = {}
    for transfer in world.all("transfers"):
        chain = {
            link["kind"]: link["id"] for link in (await world.get(f"/v1/transfers/{transfer['_id']}/why"))["chain"]
        }
        assert ("webhook" in chain) != ("call" in chain), chain
        if "webhook" in chain:
            by_webhook.setdefault(chain["webhook"], set()).add(transfer["_id"])
        else:
            assert transfer["_id"].startswith(("deposit-", "contribution-"))
    ((event_id, caused),) = by_webhook.items()
    assert sum(each.startswith("escrow-") for each in caused) == sum(each.startswith("fee-") for each in caused) == 2
    assert {each["id"] for each in await listed(world, f"/v1/transfers?event_id={event_id}")} == caused
    (root,) = [each for each in await world.trace(show) if each.get("event_id") == event_id and transfers_in([each])]
    assert set(transfers_in([root])) == {each for each in caused if each.startswith("escrow-")}


async def test_of_an_unknown_webhook_there_are_none(world: World) -> None:
    await a_paid_show(world)
    assert await listed(world, "/v1/transfers?event_id=nothing") == []


async def test_a_large_show_is_explained_completely(world: World) -> None:
    given = {f"viewer-{number % VIEWERS}": 0 for number in range(CONTRIBUTIONS)}
    for number in range(CONTRIBUTIONS):
        given[f"viewer-{number % VIEWERS}"] += number + 1
    total = sum(given.values())
    funding = await world.given(a_funding(target=total, seconds=60))
    for viewer, amount in given.items():
        await world.deposits(viewer, amount)
    for begin in range(0, CONTRIBUTIONS, 200):
        numbers = range(begin, min(begin + 200, CONTRIBUTIONS))
        await asyncio.gather(
            *(contributes(world, funding, f"viewer-{number % VIEWERS}", number + 1) for number in numbers)
        )
    await world.settle()
    (pair,) = world.session(funding.session_id)["show_goal_pairs"]
    show_id = str(pair["show_goal"])
    await world.performs(Show(show_id, funding.session_id, funding.id, given, 60), seconds=74)
    await world.settle(patience=60)
    assert world.balance("alice") == total

    roots = await traced(world, show_id, roots=1)
    payouts = transfers_in(roots)
    assert len(payouts) == CONTRIBUTIONS
    assert set(payouts.values()) == {1}
    ends = [
        node
        for node in nodes_of(roots)
        if node["name"] == "escrow.completed" or node.get("sender") == "escrow.completed"
    ]
    assert len(ends) == 1
    (payout, *_) = payouts
    chain = (await world.get(f"/v1/transfers/{payout}/why"))["chain"]
    (event_id,) = [link["id"] for link in chain if link["kind"] == "webhook"]
    assert {each["id"] for each in await listed(world, f"/v1/transfers?limit=200&event_id={event_id}")} == set(payouts)
    calls = [each for each in await traced(world, funding.id, roots=100) if each["name"] == "create_contribution"]
    assert len({each["request_id"] for each in calls}) == CONTRIBUTIONS
    summary = (await world.get(f"/v1/goals/{show_id}/trace?limit=1"))["summary"]
    assert (summary["transfers"], summary["failures"]) == (CONTRIBUTIONS, 0)
