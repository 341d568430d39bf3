"""Erasing a person: what stands in the way is named, what is known is gone, the books stay whole."""

from typing import Any

import httpx
import pytest
from bson import ObjectId

from goalsvc.domain.ids import exclusive_of

from .app import Service
from .test_errors import assert_problem

KEY = {"Idempotency-Key": "k"}


async def erases(service: Service, user_id: str = "bob") -> httpx.Response:
    return await service.client.delete(f"/v1/users/{user_id}")


@pytest.fixture
async def bob(service: Service) -> None:
    body = {"username": "Bob Builder", "tags": ["vip"], "byteplus": {"hls_url": "https://pull.example.com/bob.m3u8"}}
    assert (await service.client.put("/v1/users/bob", json=body)).status_code == 200


async def session_of(service: Service, user_id: str) -> str:
    return str((await service.client.post("/v1/sessions", json={"user_id": user_id})).json()["id"])


@pytest.mark.usefixtures("bob")
class TestErasing:
    async def test_removes_what_is_known_of_the_person(self, service: Service) -> None:
        assert (await erases(service)).status_code == 200
        assert "Builder" not in str(await service.stage.everything())
        assert "pull.example.com" not in str(await service.stage.everything())
        assert_problem(await service.client.get("/v1/users/bob"), 404, "not_found")
        assert (await service.client.get("/v1/users")).json()["items"] == []

    async def test_leaves_nothing_to_be_found(self, service: Service) -> None:
        await service.client.post("/v1/wallets/bob/deposits", json={"amount": 5}, headers=KEY)
        await service.stage.database["accounts"].update_many({}, {"$set": {"balance": 0}})
        for kinds in ({"user", "wallet"}, {"wallet"}):
            found = (await service.client.get("/v1/search", params={"q": "bob"})).json()["items"]
            assert {one["kind"] for one in found} == kinds
            for one in found:
                assert (await service.client.get(one["path"])).status_code == 200, one
            assert (await erases(service)).status_code == 200

    async def test_again_changes_nothing(self, service: Service) -> None:
        await erases(service)
        before = await service.stage.database["users"].find().to_list(None)
        service.stage.clock.advance(60)
        assert (await erases(service)).status_code == 200
        assert await service.stage.database["users"].find().to_list(None) == before

    async def test_keeps_the_id_from_being_given_out_again(self, service: Service) -> None:
        await erases(service)
        assert_problem(await service.client.put("/v1/users/bob", json={"username": "B"}), 409, "user_erased")

    async def test_keeps_the_books(self, service: Service) -> None:
        await service.client.post("/v1/wallets/bob/deposits", json={"amount": 5}, headers=KEY)
        refused = await erases(service)
        assert_problem(refused, 409, "user_has_open_money")
        assert "wallet of 5 tokens" in refused.json()["detail"]
        await service.stage.database["accounts"].update_many({}, {"$set": {"balance": 0}})
        assert (await erases(service)).status_code == 200
        assert len((await service.client.get("/v1/transfers", params={"user_id": "bob"})).json()["items"]) == 1

    async def test_waits_for_a_session_of_the_users(self, service: Service) -> None:
        session_id = await session_of(service, "bob")
        refused = await erases(service)
        assert_problem(refused, 409, "user_has_running_goal")
        assert session_id in refused.json()["detail"]

    async def test_waits_for_a_goal_that_goes_on_with_the_user(self, service: Service) -> None:
        session_id = await session_of(service, "alice")
        metadata: dict[str, Any] = {"viewer_id": "bob", "exclusive": {"title": "A minute", "target": 60}}
        body = {"kind": "TriggerGoal", "session_id": session_id, "metadata": metadata}
        goal = (await service.client.post("/v1/goals", json=body)).json()
        refused = await erases(service)
        assert_problem(refused, 409, "user_has_running_goal")
        assert goal["id"] in refused.json()["detail"]
        await service.client.post(f"/v1/goals/{goal['id']}/decline")
        assert (await erases(service)).status_code == 200

    async def test_waits_for_a_share_that_is_held(self, service: Service) -> None:
        await service.stage.database["earnings"].insert_one(
            {"user_id": "alice", "from_user_id": "bob", "state": "held"}
        )
        assert_problem(await erases(service), 409, "user_has_open_money")

    async def test_waits_for_a_withdrawal_that_is_pending(self, service: Service) -> None:
        await service.client.post("/v1/wallets/bob/deposits", json={"amount": 5}, headers=KEY)
        begun = await service.client.post("/v1/wallets/bob/withdrawals", json={"amount": 5}, headers=KEY)
        refused = await erases(service)
        assert_problem(refused, 409, "user_has_open_money")
        assert begun.json()["id"] in refused.json()["detail"]
        await service.client.post(f"/v1/withdrawals/{begun.json()['id']}/confirm")
        assert (await erases(service)).status_code == 200

    @pytest.mark.parametrize("role", ["user_id", "viewer_id"])
    @pytest.mark.parametrize("kind", ["trigger", "exclusive"])
    async def test_waits_for_the_price_of_a_request(self, service: Service, role: str, kind: str) -> None:
        database, request = service.stage.database, ObjectId()
        escrow_id = f"{kind}:{request if kind == 'trigger' else exclusive_of(request)}"
        goal = {"_id": request, "_cls": "Goal.TriggerGoal", "active": False, "metadata": {role: "bob"}}
        await database["goals"].insert_one(goal)
        await database["accounts"].insert_one({"_id": f"escrow:{escrow_id}", "balance": 300})
        refused = await erases(service)
        assert_problem(refused, 409, "user_has_open_money")
        assert escrow_id in refused.json()["detail"]
        await database["accounts"].update_one({"_id": f"escrow:{escrow_id}"}, {"$set": {"balance": 0}})
        assert (await erases(service)).status_code == 200


async def test_one_that_is_not_known(service: Service) -> None:
    assert_problem(await erases(service, "nobody"), 404, "not_found")
