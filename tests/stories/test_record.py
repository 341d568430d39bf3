"""The record: roots of webhooks and calls, references as data, pages that leave nothing out, and what was refused."""

import json
from collections.abc import Iterator
from typing import Any

from goalsvc.models.trace_reading import TracePage, read_page, summary_of
from tests.world import World, channel_of

from .scenes import Show, a_funded_show, a_funding, contributes

Node = dict[str, Any]


def walk(nodes: list[Node]) -> Iterator[Node]:
    for node in nodes:
        yield node
        yield from walk(node["children"])


async def pages(world: World, goal_id: str, limit: int) -> list[dict[str, Any]]:
    """Every page of a goal's trace."""
    await world.context.recorder.flush()
    found, cursor = [], ""
    while True:
        page = await world.get(f"/v1/goals/{goal_id}/trace?limit={limit}{cursor}")
        found.append(page)
        if page["next"] is None:
            return found
        cursor = f"&cursor={page['next']}"


async def a_performed_show(world: World, earnings: int = 3) -> Show:
    show = await world.given(a_funded_show(seconds=60, earnings=earnings))
    await world.performs(show, seconds=70)
    await world.settle()
    return show


class TestRoots:
    async def test_of_a_webhook_say_who_where_when_and_which_key(self, world: World) -> None:
        show = await a_performed_show(world)
        joined = next(node for node in await world.trace(show) if node["name"] == "member_added")
        assert (joined["kind"], joined["user_id"], joined["channel"]) == ("webhook", "alice", channel_of(show))
        assert joined["app_key"] == "world-key"
        assert joined["refs"] == {"goal": show.id}
        payouts = world.all("transfers", {"_id": {"$regex": "^escrow-"}})
        roots = {root["id"]: root for root in await world.trace(show)}
        for payout in payouts:
            root = roots[payout["cause"]["root"]]
            assert root["event_id"] == payout["cause"]["event_id"]

    async def test_of_a_call_say_operation_key_request_and_what_it_touched(self, world: World) -> None:
        funding = await world.given(a_funding(target=500))
        await world.deposits("bob", 100)
        made = await contributes(world, funding, "bob", 100, key="secret-key")
        await world.settle()
        calls = [node for node in await world.trace(funding) if node["kind"] == "call"]
        assert [call["name"] for call in calls] == ["create_goal", "create_contribution"]
        call = calls[1]
        assert (call["key"], call["refs"]["transfer"], call["refs"]["amount"]) == ("env", made["transfer_id"], 100)
        assert call["request_id"]
        assert "secret-key" not in json.dumps(call)
        assert len(call["idempotency"]) == 16
        assert "goal.progressed" in {node.get("sender") for node in walk(call["children"])}

    async def test_of_the_end_of_a_session_is_above_what_it_ended(self, world: World) -> None:
        show = await world.given(a_funded_show(seconds=60, earnings=2))
        await world.post(f"/v1/sessions/{show.session_id}/end")
        await world.settle()
        (root,) = [node for node in await world.trace(show) if node["name"] == "end_session"]
        assert root["kind"] == "call"
        refunds = [node for node in walk(root["children"]) if node["name"] == "transfer"]
        assert len(refunds) == 2
        assert all(node["refs"]["transfer"].startswith("refund-") for node in refunds)
        assert {type(node["refs"]["amount"]) for node in refunds} == {int}

    async def test_a_repeated_call_is_recorded_once(self, world: World) -> None:
        funding = await world.given(a_funding(target=500))
        await world.deposits("bob", 100)
        for _ in range(2):
            await contributes(world, funding, "bob", 50, key="k")
        assert [n["name"] for n in await world.trace(funding) if n["kind"] == "call"] == [
            "create_goal",
            "create_contribution",
        ]


class TestPages:
    async def test_of_one_root_each_leave_nothing_out(self, world: World) -> None:
        show = await a_performed_show(world)
        whole = await world.trace(show)
        found = await pages(world, show.id, 1)
        assert [page["events"][0] for page in found] == whole
        assert not any(page["truncated"] for page in found)
        assert found[0]["summary"] == {
            "nodes": sum(1 for _ in walk(whole)),
            "transfers": 3,
            "failures": 0,
        }

    async def test_a_root_with_more_segments_than_a_page_goes_on_on_the_next_page(self, world: World) -> None:
        show = await a_performed_show(world, earnings=40)
        await world.context.recorder.flush()
        found: list[TracePage] = []
        cursor = None
        while cursor is not None or not found:
            found.append(await read_page(show.id, cursor, 100, segments=10))
            cursor = found[-1].next
        assert len(found) > 3
        assert found[0].truncated
        assert not found[-1].truncated
        own = [node for page in found for node in walk(list(page.events)) if not node.get("repeated")]
        paid = [node["refs"]["transfer"] for node in own if node["kind"] == "task" and node["name"] == "transfer"]
        assert len(paid) == len(set(paid)) == 40 == (await summary_of(show.id))["transfers"]
        assert [node.get("sender") for node in own].count("escrow.completed") == 1

    async def test_a_cursor_of_elsewhere_is_refused(self, world: World) -> None:
        show = await world.given(a_funded_show())
        for cursor in ("x", "bnVsbA", "W10", "%00"):
            assert (await world.call("GET", f"/v1/goals/{show.id}/trace?cursor={cursor}")).status_code == 422


class TestRefusals:
    async def test_a_refused_webhook_leaves_a_root_without_its_body(self, world: World) -> None:
        body = b'{"time_ms": 1, "events": [{"name": "secret-body"}]}'
        answer = await world.client.post(
            "/notify/pusher", content=body, headers={"X-Pusher-Key": "other", "X-Pusher-Signature": "0"}
        )
        assert answer.status_code == 401
        await world.context.recorder.flush()
        (segment,) = world.all("traces", {"node.name": "refused"})
        node = segment["node"]
        assert (node["outcome"], node["app_key"], node["size"]) == ("failed", "other", len(body))
        assert node["reason"].startswith("bad_signature")
        assert "secret-body" not in str(segment)
        assert "goal_id" not in segment

    async def test_at_most_ten_in_a_second(self, world: World) -> None:
        for _ in range(25):
            await world.client.post("/notify/pusher", content=b"{}")
        await world.context.recorder.flush()
        assert len(world.all("traces", {"node.name": "refused"})) == 10


class TestIdleTicks:
    async def test_write_nothing(self, world: World) -> None:
        before = len(world.all("traces"))
        for task in ("expire_goals", "sweep_promises"):
            await world.tick(task)
        await world.context.recorder.flush()
        assert len(world.all("traces")) == before
