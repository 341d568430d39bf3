"""Figures of pages that operations answer: sums of an escrow, accounts of a transfer, deliveries of an event, and more."""

import re
from datetime import datetime, timedelta

import httpx
from bson import Decimal128, ObjectId

from goalsvc.console.queries.money import MOST_PARTIES
from goalsvc.models.joined import MOST_GOALS
from tests.world import World

from .conftest import a_key, hear


async def a_funding(world: World, *amounts: int, target: int = 10**6) -> str:
    """A FundingGoal to which viewers have contributed so much, each one amount."""
    session = await world.post("/v1/sessions", {"user_id": "alice"})
    body = {"kind": "FundingGoal", "session_id": session["id"], "levels": [{"title": "a", "target": target}]}
    goal = await world.post("/v1/goals", {**body, "metadata": {"show": {"title": "a", "target": 60}}})
    for number, amount in enumerate(amounts):
        await world.post(f"/v1/wallets/v{number}/deposits", {"amount": amount})
        await world.post(f"/v1/goals/{goal['id']}/contributions", {"user_id": f"v{number}", "amount": amount})
    return str(goal["id"])


class TestAnEscrow:
    async def test_is_summed_by_payer_and_payee_and_state(self, world: World, operator: httpx.AsyncClient) -> None:
        escrow = f"show_funding:{await a_funding(world, 20, 50, 30)}"
        found = await world.get(f"/v1/escrows/{escrow}/sums?limit=2")
        assert (found["id"], found["balance"], found["agrees"]) == (escrow, 100, True)
        came = found["paid_in"]
        assert (came["amount"], came["transfers"], came["parties"], came["more"]) == (100, 3, 3, True)
        assert [(one["account"], one["user_id"], one["amount"]) for one in came["largest"]] == [
            ("user:v1", "v1", 50),
            ("user:v2", "v2", 30),
        ]
        assert found["paid_out"] == {"amount": 0, "transfers": 0, "parties": 0, "largest": [], "more": False}
        assert found["contributions"] == {"held": 100, "paid": 0, "refunded": 0, "holds": True}
        page = (await operator.get(f"/console/escrows/{escrow}")).text
        assert "3 payments came in and 0 went out; 100 tokens are held." in page
        assert "0 tokens are paid, 0 are refunded, 100 are held." in page

    async def test_with_many_payers_is_drawn_with_the_others_as_one(
        self, world: World, operator: httpx.AsyncClient
    ) -> None:
        escrow = f"show_funding:{ObjectId()}"
        number, account = MOST_PARTIES + 7, f"escrow:{escrow}"
        transfers = [
            {
                "_id": f"odd-{one}",
                "debit": f"user:v{one}",
                "credit": account,
                "amount": 10,
                "created_at": world.clock.now(),
            }
            for one in range(number)
        ]
        world.database.transfers.insert_many(transfers)
        world.database.accounts.insert_one({"_id": account, "balance": 10 * number})
        found = await world.get(f"/v1/escrows/{escrow}/sums?limit=200")
        assert (found["paid_in"]["parties"], len(found["paid_in"]["largest"])) == (number, number)
        page = (await operator.get(f"/console/escrows/{escrow}")).text
        assert f"{number} paid {10 * number} tokens into it" in page
        assert f"{number - 10} others" in page
        world.database.transfers.delete_many({"_id": {"$regex": "^odd-"}})
        world.database.accounts.delete_one({"_id": account})

    async def test_is_summed_leniently(self, world: World, operator: httpx.AsyncClient) -> None:
        escrow = f"show_funding:{ObjectId()}"
        account = f"escrow:{escrow}"
        odd: tuple[tuple[object, object], ...] = (
            (7, "x"),
            ({"a": 1}, None),
            (None, Decimal128("5")),
            ("user:bob", 5.0),
        )
        world.database.transfers.insert_many(
            {"_id": f"odd-{place}", "debit": debit, "credit": account, "amount": amount}
            for place, (debit, amount) in enumerate(odd)
        )
        world.database.earnings.insert_one({"amount": "x", "state": ["held"], f"_{escrow}": True})
        found = await world.get(f"/v1/escrows/{escrow}/sums")
        assert (found["paid_in"]["amount"], found["agrees"], found["contributions"]) == (10, False, None)
        assert (await operator.get(f"/console/escrows/{escrow}")).status_code == 200
        world.database.transfers.delete_many({"_id": {"$regex": "^odd-"}})
        world.database.earnings.delete_many({})

    async def test_that_nothing_was_paid_into_has_sums_of_nothing(self, world: World) -> None:
        found = await world.get(f"/v1/escrows/exclusive:{'0' * 24}/sums")
        assert (found["balance"], found["agrees"], found["paid_in"]["transfers"]) == (0, True, 0)
        assert (await world.call("GET", "/v1/escrows/other:1/sums")).status_code == 422


class TestATransfer:
    async def test_names_both_accounts(self, world: World, operator: httpx.AsyncClient) -> None:
        goal_id = await a_funding(world, 20)
        (paid,) = (await world.get(f"/v1/transfers?escrow_id=show_funding:{goal_id}"))["items"]
        assert (paid["debit"], paid["credit"]) == ("user:v0", f"escrow:show_funding:{goal_id}")
        made = await world.post("/v1/wallets/bob/deposits", {"amount": 7})
        assert (made["debit"], made["credit"]) == ("issuer", "user:bob")
        page = (await operator.get(f"/console/transfers/{paid['id']}")).text
        assert f'title="show_funding:{goal_id}"' in page

    async def test_of_another_service_is_read_from_its_users_and_tags(self, world: World) -> None:
        row = {"_id": "odd", "to_user_id": "alice", "amount": 5, "tags": ["escrow::show_funding:1"]}
        world.database.transfers.insert_one(row)
        found = await world.get("/v1/transfers/odd")
        assert (found["debit"], found["credit"]) == ("escrow:show_funding:1", "user:alice")
        world.database.transfers.delete_one({"_id": "odd"})


class TestAnEvent:
    async def test_has_its_deliveries_to_all_endpoints(self, world: World, operator: httpx.AsyncClient) -> None:
        goal_id = await a_funding(world)
        await world.settle()
        event = (await world.get(f"/v1/events?goal_id={goal_id}"))["items"][0]
        path, now = f"/v1/events/{event['id']}/deliveries", world.clock.now()
        assert await world.get(path) == {"items": [], "next": None}
        endpoints = [f"whe_{one:024x}" for one in range(3)]
        world.database.webhook_endpoints.insert_many({"_id": one, "url": "https://x.example"} for one in endpoints)
        tried = {"at": now, "ms": 4.0, "status": 503}
        fields = {"event_id": event["id"], "type": event["type"], "created_at": now, "state": "pending", "next_at": now}
        world.database.deliveries.insert_many(
            [
                {
                    "_id": f"{endpoints[0]}:{event['id']}",
                    "endpoint_id": endpoints[0],
                    **fields,
                    "attempts": [{"at": "x"}, tried],
                },
                {"_id": f"{endpoints[1]}:{event['id']}", "endpoint_id": endpoints[1], **fields, "attempts": "x"},
                {"_id": f"{endpoints[2]}:{event['id']}", "endpoint_id": 5},
            ]
        )
        found = (await world.get(path))["items"]
        assert [(one["endpoint_id"], one["state"]) for one in found] == [(one, "pending") for one in endpoints[:2]]
        assert found[0]["attempts"][0]["status"] == 503
        for page in (f"/console/events/{event['id']}", f"/console/goals/{goal_id}"):
            text = (await operator.get(page)).text
            assert all(f"/deliveries/{one}" in text for one in endpoints[:2])
            assert re.search(r"</a> pending, 503", text)
            assert endpoints[2] not in text
        for collection in ("webhook_endpoints", "deliveries"):
            world.database[collection].delete_many({})

    async def test_that_is_not_stored_is_not_found(self, world: World) -> None:
        assert (await world.call("GET", f"/v1/events/evt_{'0' * 32}/deliveries")).status_code == 404

    async def test_shows_them_with_the_scope_admin_only(self, world: World) -> None:
        key = await a_key(world, "read")
        headers = {"Authorization": f"Bearer {key['key']}"}
        path = f"/v1/events/evt_{'0' * 32}/deliveries"
        assert (await world.client.get(path, headers=headers)).status_code == 403


class TestAStatement:
    async def test_is_proved_when_asked(self, world: World, operator: httpx.AsyncClient) -> None:
        escrow = f"show_funding:{await a_funding(world, 20)}"
        await world.post("/v1/wallets/v0/deposits", {"amount": 7})
        path = "/v1/wallets/v0/statement"
        assert (await world.get(path))["proof"] is None
        proof = (await world.get(f"{path}?proof=true"))["proof"]
        assert proof == {"transfers": 3, "sum": 7, "balance": 7, "holds": True}
        assert "3 transfers sum to 7; the balance is 7." in (await operator.get("/console/users/v0")).text
        held = (await world.get(f"/v1/escrows/{escrow}/statement?proof=true"))["proof"]
        assert held == {"transfers": 1, "sum": 20, "balance": 20, "holds": True}
        world.database.accounts.update_one({"_id": "user:v0"}, {"$inc": {"balance": 1}})
        assert (await world.get(f"{path}?proof=true"))["proof"]["holds"] is False
        assert "THEY DIFFER" in (await operator.get("/console/users/v0")).text
        world.database.accounts.update_one({"_id": "user:v0"}, {"$inc": {"balance": -1}})


class TestAUser:
    async def test_has_joined_the_channels_of_these_goals(self, world: World, operator: httpx.AsyncClient) -> None:
        session = await world.post("/v1/sessions", {"user_id": "alice"})
        body = {"kind": "ShowGoal", "session_id": session["id"], "levels": [{"title": "a", "target": 600}]}
        goals = [await world.post("/v1/goals", body) for _ in range(2)]
        for goal in goals:
            await hear(world, "member_added", goal["id"], "alice")
        await hear(world, "member_removed", goals[1]["id"], "alice")
        found = await world.get("/v1/users/alice/channels")
        channel = f"presence-enc-goal@{goals[0]['id']}"
        one = {"goal_id": goals[0]["id"], "channel": channel, "kind": "ShowGoal", "performs": True}
        assert found == {"items": [one], "truncated": False}
        page = (await operator.get("/console/users/alice")).text
        assert f"<code>{channel}</code> as performer of the ShowGoal" in page
        assert f"presence-enc-goal@{goals[1]['id']}" not in page
        assert (await world.get("/v1/users/nobody/channels"))["items"] == []

    async def test_with_very_many_goals_is_told_that_not_all_are_looked_through(
        self, world: World, operator: httpx.AsyncClient
    ) -> None:
        goal = {"_cls": "Goal.ShowGoal", "active": True, "metadata": {"user_id": "alice"}, "clock": "x"}
        world.database.goals.insert_many({"_id": ObjectId(), **goal} for _ in range(MOST_GOALS + 1))
        assert (await world.get("/v1/users/alice/channels"))["truncated"] is True
        assert "Only 100 active goals" in (await operator.get("/console/users/alice")).text
        world.database.goals.delete_many({})


class TestASession:
    async def test_has_the_takings_of_each_goal(self, world: World, operator: httpx.AsyncClient) -> None:
        funding = await a_funding(world, 20, 30, target=50)
        await world.settle()
        (session,) = (await world.get("/v1/sessions?user_id=alice"))["items"]
        path = f"/v1/sessions/{session['id']}/takings"
        goals = (await world.get(f"/v1/goals?session_id={session['id']}"))["items"]
        (show,) = [goal["id"] for goal in goals if goal["kind"] == "ShowGoal"]
        found = await world.get(path)
        assert ([one["amount"] for one in found["items"]], found["total"], found["truncated"]) == ([0, 0], 0, False)
        await hear(world, "member_added", show, "alice")
        await world.after(seconds=60)
        await hear(world, "member_removed", show, "alice")
        await world.settle()
        odd = ObjectId()
        world.database.goals.insert_one(
            {"_id": odd, "_cls": "Goal.ShowGoal", "conditions": {"session_id": session["id"]}, "levels": 5, "clock": 7}
        )
        found = await world.get(path)
        amounts = {one["goal_id"]: one["amount"] for one in found["items"]}
        assert (amounts[show], amounts[funding], found["total"]) == (50, 0, 50)
        page = (await operator.get(f"/console/sessions/{session['id']}")).text
        assert re.search(rf'/goals/{show}">.*?<td class="n">50</td>', page)
        world.database.goals.delete_one({"_id": odd})
        assert (await world.call("GET", f"/v1/sessions/{'0' * 24}/takings")).status_code == 404


class TestWebhooks:
    async def test_are_counted_as_their_page_counts_them(self, world: World, operator: httpx.AsyncClient) -> None:
        empty = await world.get("/v1/webhooks/arrivals")
        assert (empty["looked_at"], empty["since"], empty["truncated"]) == (0, None, False)
        now = world.clock.now()
        nodes: list[dict[str, object]] = [
            {"name": "member_added", "happened_at": now - timedelta(seconds=31)},
            {"name": "member_added", "happened_at": now - timedelta(seconds=1)},
            {"name": "refused", "reason": "bad_signature"},
            {"name": 5, "happened_at": "x"},
        ]
        world.database.traces.insert_many(
            {"at": now - timedelta(seconds=1), "node": {"kind": "webhook", **node}} for node in nodes
        )
        found = await world.get("/v1/webhooks/arrivals")
        assert (found["looked_at"], found["refused"], found["late"], found["slowest_ms"]) == (4, 1, 1, 30_000)
        assert found["sentence"] in (await operator.get("/console/webhooks")).text
        assert datetime.fromisoformat(found["since"]) == now - timedelta(seconds=1)
        until = (now - timedelta(minutes=1)).isoformat().replace("+00:00", "Z")
        assert (await world.get(f"/v1/webhooks/arrivals?until={until}"))["looked_at"] == 0
