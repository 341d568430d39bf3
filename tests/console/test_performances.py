"""`GET /v1/goals/{id}/performance` and `/payments`: what counted and what was paid; the goal's pages show the same."""

import re
from datetime import UTC, datetime
from typing import Any

import httpx
from bson import ObjectId

from goalsvc.console.queries.flows import MOST_SINGLE
from tests.world import World

from .conftest import a_key, hear

ODD: tuple[object, ...] = (
    None, 7, "x", [], [None, 7, {"from": "x", "to": 5}], {"counted": "x", "stretches": 5},
    {"counted": 2**62, "stretches": [{"from": datetime(2026, 1, 1, tzinfo=UTC), "to": datetime(1, 1, 1, tzinfo=UTC)}]},
)  # fmt: skip


async def a_show(world: World, **fields: object) -> dict[str, Any]:
    session = await world.post("/v1/sessions", {"user_id": "alice"})
    body = {"kind": "ShowGoal", "session_id": session["id"], "levels": [{"title": "a", "target": 600}], **fields}
    made: dict[str, Any] = await world.post("/v1/goals", body)
    return made


class TestAPerformance:
    async def test_is_its_stretches_and_what_came_of_each_join_and_leave(
        self,
        world: World,
        operator: httpx.AsyncClient,
    ) -> None:
        goal = await a_show(world)
        begun = world.clock.now()
        await hear(world, "member_added", goal["id"], "alice")
        await world.after(seconds=5)
        await hear(world, "member_added", goal["id"], "mallory")
        await world.after(seconds=55)
        await hear(world, "member_removed", goal["id"], "alice")
        await world.after(seconds=10)
        await hear(world, "member_added", goal["id"], "alice")
        await world.settle()
        await world.context.recorder.flush()

        found = await world.get(f"/v1/goals/{goal['id']}/performance")
        assert (found["seconds"], found["performed_ms"], found["earlier_ms"], found["truncated"]) == (
            60,
            60_000,
            0,
            False,
        )
        closed, running = found["stretches"]
        assert datetime.fromisoformat(closed["from"]) == begun
        assert (running["to"], len(closed)) == (None, 2)
        told = [(mark["kind"], mark["user_id"], mark["role"], mark["counted"]) for mark in found["marks"]]
        assert told == [
            ("join", "alice", "performer", True),
            ("join", "mallory", None, False),
            ("leave", "alice", "performer", True),
            ("join", "alice", "performer", True),
        ]
        assert [mark.get("reason") for mark in found["marks"]] == [None, "not_a_participant", None, None]
        roots = {root["id"] for root in (await world.get(f"/v1/goals/{goal['id']}/trace"))["events"]}
        assert {mark["root"] for mark in found["marks"]} <= roots

        assert (found["webhook_events"], found["late"]) == (4, 0)
        assert "All 4 webhook events arrived within 5 s" in (await operator.get(f"/console/goals/{goal['id']}")).text
        page = (await operator.get(f"/console/goals/{goal['id']}/seconds")).text
        assert "Performed stretches: 1 min in all" in page
        assert len(re.findall(r">(?:joins|leaves)</a>", page)) == len(found["marks"])
        assert all(f"root={mark['root']}" in page for mark in found["marks"])

    async def test_of_a_goal_without_a_clock_is_empty(self, world: World) -> None:
        levels = [{"title": "a", "target": 60}]
        show = {"title": "a", "target": 60}
        goal = await a_show(world, kind="FundingGoal", levels=levels, metadata={"show": show})
        found = await world.get(f"/v1/goals/{goal['id']}/performance")
        assert (found["seconds"], found["performed_ms"], found["stretches"], found["marks"]) == (0, 0, [], [])

    async def test_is_read_leniently(self, world: World, operator: httpx.AsyncClient) -> None:
        for odd in ODD:
            identity, now = ObjectId(), world.clock.now()
            world.database.goals.insert_one({"_id": identity, "_cls": "Goal.ShowGoal", "active": False, "clock": odd})
            nodes: list[Any] = [odd, {"kind": "webhook", "at": now, "name": 5, "user_id": odd, "children": odd}]
            nodes += [{"kind": "webhook", "at": "x"}, {"kind": "webhook", "at": now, "children": [{"children": [odd]}]}]
            world.database.traces.insert_many([{"goal_id": str(identity), "at": now, "node": node} for node in nodes])
            found = await world.get(f"/v1/goals/{identity}/performance")
            assert (found["seconds"], found["stretches"]) == (0, [])
            for path in ("", "/seconds", "/timeline.svg"):
                assert (await operator.get(f"/console/goals/{identity}{path}")).status_code == 200, odd
            world.database.goals.delete_one({"_id": identity})

    async def test_of_no_goal_is_not_found(self, world: World) -> None:
        for path in ("performance", "payments"):
            assert (await world.call("GET", f"/v1/goals/{'0' * 24}/{path}")).status_code == 404


class TestPayments:
    async def test_are_summed_by_second_and_direction(
        self,
        world: World,
        operator: httpx.AsyncClient,
    ) -> None:
        show = {"title": "a", "target": 60}
        levels = [{"title": "a", "target": 10**6}]
        goal = await a_show(world, kind="FundingGoal", levels=levels, metadata={"show": show})
        await world.post("/v1/wallets/bob/deposits", {"amount": 100})
        for amount in (20, 30):
            await world.post(f"/v1/goals/{goal['id']}/contributions", {"user_id": "bob", "amount": amount})
        await world.after(seconds=2)
        await world.post(f"/v1/goals/{goal['id']}/contributions", {"user_id": "bob", "amount": 50})
        path = f"/v1/goals/{goal['id']}/payments"
        found = await world.get(path)
        assert [(one["direction"], one["amount"], one["transfers"]) for one in found["items"]] == [
            ("in", 50, 2),
            ("in", 50, 1),
        ]
        assert found["truncated"] is False
        await world.post(f"/v1/goals/{goal['id']}/end")
        await world.settle()
        out = [one for one in (await world.get(path))["items"] if one["direction"] == "out"]
        assert (sum(one["amount"] for one in out), sum(one["transfers"] for one in out)) == (100, 3)

        account, now = f"escrow:show_funding:{goal['id']}", world.clock.now()
        many: list[dict[str, object]] = [
            {"_id": f"odd-{one}", "debit": "user:bob", "credit": account, "amount": 1, "created_at": now, "tags": []}
            for one in range(MOST_SINGLE)
        ]
        many[0] |= {"amount": "x"}
        many[1] |= {"created_at": "x"}
        for one in many:
            one["tags"] = [f"escrow::show_funding:{goal['id']}"]
        world.database.transfers.insert_many(many)
        items = (await world.get(path))["items"]
        came, number = sum(one["amount"] for one in items if one["direction"] == "in"), 6 + MOST_SINGLE - 1
        assert (came, sum(one["transfers"] for one in items)) == (100 + MOST_SINGLE - 2, number)
        page = (await operator.get(f"/console/goals/{goal['id']}")).text
        assert f"{number} transfers, the last 20 of them" in page
        world.database.transfers.delete_many({"_id": {"$regex": "^odd-"}})


async def test_need_the_scope_read(world: World) -> None:
    goal = await a_show(world)
    for scope, status in (("read", 200), ("operate", 403)):
        headers = {"Authorization": f"Bearer {(await a_key(world, scope))['key']}"}
        for path in ("performance", "payments"):
            answer = await world.client.get(f"/v1/goals/{goal['id']}/{path}", headers=headers)
            assert answer.status_code == status
