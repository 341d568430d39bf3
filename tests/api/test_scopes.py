"""Every operation with every scope: answered with the one that it declares, refused with all others by the name of that one."""

import csv
import io
import json
import logging
from typing import Any

import httpx
import pytest

from goalsvc.app import create_app
from goalsvc.domain.call import Scope
from goalsvc.settings import Settings
from tests.receivers.fakes import NOW
from tests.support.waiting import comes_to_hold

from .app import Service
from .test_errors import assert_problem

OPERATIONS = [
    (method.upper(), path, operation)
    for path, methods in create_app(Settings(mongodb_url="mongodb://127.0.0.1/unused", redis_url="redis://127.0.0.1"))
    .openapi()["paths"]
    .items()
    if path.startswith("/v1/")
    for method, operation in methods.items()
]

#: A value for each parameter of a path, of the right form and of nothing that exists.
PARAMETERS = {
    "user_id": "u-alice-1",
    "escrow_id": "trigger:68143584d6945d32e732cc21",
    "channel": "private-stream@u-alice-1",
    "letter_id": "goals/68143584d6945d32e732cc21/StopRecord",
    "key_id": "key_68143584d6945d32e732cc30",
}


def filled(path: str) -> str:
    for part in path.split("/"):
        if part.startswith("{"):
            path = path.replace(part, PARAMETERS.get(part[1:-1], "68143584d6945d32e732cc21"))
    return path


async def key_with(service: Service, *scopes: str, **more: Any) -> dict[str, Any]:
    answer = await service.client.post("/v1/keys", json={"name": "-".join(scopes), "scopes": scopes, **more})
    assert answer.status_code == 201, answer.text
    created: dict[str, Any] = answer.json()
    return created


def bearer(key: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {key['key']}"}


class TestEveryOperation:
    def test_declares_its_scope(self) -> None:
        assert {operation.get("x-required-scope") for *_, operation in OPERATIONS} <= {scope.value for scope in Scope}

    def test_that_moves_money_or_keys_requires_more_than_write(self) -> None:
        scopes = {f"{method} {path}": operation["x-required-scope"] for method, path, operation in OPERATIONS}
        assert scopes["POST /v1/wallets/{user_id}/deposits"] == "money"
        assert scopes["POST /v1/goals/{goal_id}/agree"] == "operate"
        assert scopes["POST /v1/goals/{goal_id}/contributions"] == "write"
        assert scopes["POST /v1/keys"] == scopes["GET /v1/audit"] == "admin"

    @pytest.mark.parametrize("scope", list(Scope))
    async def test_is_refused_without_its_scope_alone(self, service: Service, scope: Scope) -> None:
        headers = bearer(await key_with(service, scope))
        for method, path, operation in OPERATIONS:
            required = operation["x-required-scope"]
            answer = await service.stranger.request(method, filled(path), headers=headers)
            if required == scope:
                assert answer.status_code not in (401, 403), (method, path, answer.text)
            else:
                assert_problem(answer, 403, "insufficient_scope")
                assert f"`{required}`" in answer.json()["detail"]

    async def test_is_refused_before_its_body_is_read(self, service: Service) -> None:
        headers = bearer(await key_with(service, "read"))
        answer = await service.stranger.post("/v1/goals", content=b"not JSON", headers=headers)
        assert_problem(answer, 403, "insufficient_scope")


class TestKeys:
    async def test_a_key_is_shown_once_and_not_kept(self, service: Service) -> None:
        created = await key_with(service, "read", "write")
        assert created["key"].startswith(created["prefix"])
        assert created["created_by"] == "env"
        read = (await service.client.get(f"/v1/keys/{created['id']}")).json()
        assert "key" not in read
        assert created["key"] not in str(await service.stage.everything())

    async def test_a_repeat_gets_the_same_key_and_the_database_cannot_show_it(self, service: Service) -> None:
        body = {"name": "backend", "scopes": ["read"]}
        answers = [await service.client.post("/v1/keys", json=body, headers={"Idempotency-Key": "k"}) for _ in range(2)]
        assert answers[0].json() == answers[1].json()
        assert answers[0].json()["key"] not in str(await service.stage.everything())
        assert len((await service.client.get("/v1/keys")).json()["items"]) == 1

    async def test_a_revoked_one_is_refused_at_the_next_call(self, service: Service) -> None:
        key = await key_with(service, "read")
        assert (await service.stranger.get("/v1/goals", headers=bearer(key))).status_code == 200
        assert (await service.client.delete(f"/v1/keys/{key['id']}")).json()["revoked_at"] is not None
        assert_problem(await service.stranger.get("/v1/goals", headers=bearer(key)), 401, "unauthorized")

    async def test_revoking_again_changes_nothing(self, service: Service) -> None:
        key = await key_with(service, "read")
        first = await service.client.delete(f"/v1/keys/{key['id']}")
        service.stage.clock.advance(60)
        assert (await service.client.delete(f"/v1/keys/{key['id']}")).json() == first.json()

    async def test_an_expired_one_is_refused(self, service: Service) -> None:
        key = await key_with(service, "read", expires_at=NOW.replace(hour=13).isoformat())
        assert (await service.stranger.get("/v1/goals", headers=bearer(key))).status_code == 200
        service.stage.clock.advance(3600)
        assert_problem(await service.stranger.get("/v1/goals", headers=bearer(key)), 401, "unauthorized")

    async def test_one_that_expires_in_the_past_is_not_created(self, service: Service) -> None:
        body = {"name": "x", "scopes": ["read"], "expires_at": "2001-01-01T00:00:00Z"}
        answer = await service.client.post("/v1/keys", json=body)
        assert_problem(answer, 422, "invalid")
        assert answer.json()["errors"][0]["field"] == "expires_at"

    async def test_a_rolled_one_is_valid_during_the_grace(self, service: Service) -> None:
        old = await key_with(service, "read")
        new = (await service.client.post(f"/v1/keys/{old['id']}/roll", json={"grace": 60})).json()
        assert (new["name"], new["scopes"]) == (old["name"], old["scopes"])
        for key in (old, new):
            assert (await service.stranger.get("/v1/goals", headers=bearer(key))).status_code == 200
        service.stage.clock.advance(60)
        assert (await service.stranger.get("/v1/goals", headers=bearer(old))).status_code == 401
        assert (await service.stranger.get("/v1/goals", headers=bearer(new))).status_code == 200

    async def test_a_revoked_one_is_not_rolled(self, service: Service) -> None:
        key = await key_with(service, "read")
        await service.client.delete(f"/v1/keys/{key['id']}")
        assert_problem(await service.client.post(f"/v1/keys/{key['id']}/roll"), 409, "key_revoked")

    async def test_one_that_does_not_exist(self, service: Service) -> None:
        path = "/v1/keys/key_68143584d6945d32e732cc30"
        for answer in (await service.client.get(path), await service.client.delete(path)):
            assert_problem(answer, 404, "not_found")

    async def test_its_use_is_noted(self, service: Service) -> None:
        key = await key_with(service, "read")
        await service.stranger.get("/v1/goals", headers=bearer(key))

        async def noted() -> bool:
            read = await service.client.get(f"/v1/keys/{key['id']}")
            return read.json()["last_used_at"] is not None

        assert await comes_to_hold(noted)

    @pytest.mark.parametrize(
        "body",
        [
            {"name": "x", "scopes": []},
            {"name": "x", "scopes": ["everything"]},
            {"name": "", "scopes": ["read"]},
            {"name": "two\nlines", "scopes": ["read"]},
            {"name": "env", "scopes": ["read"]},
            {"name": "env ", "scopes": ["read"]},
            {"scopes": ["read"]},
        ],
        ids=str,
    )
    async def test_a_malformed_one_is_not_created(self, service: Service, body: dict[str, Any]) -> None:
        assert_problem(await service.client.post("/v1/keys", json=body), 422, "invalid")
        assert (await service.client.get("/v1/keys")).json()["items"] == []


async def audited(service: Service, **query: str) -> list[dict[str, Any]]:
    answer = await service.client.get("/v1/audit", params=query)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


class TestTheAudit:
    async def test_has_each_call_that_changed_something(
        self, service: Service, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, logger="goalsvc.audit")
        key = await key_with(service, "write")
        headers = {**bearer(key), "X-Request-ID": "my-request", "X-Goalsvc-On-Behalf-Of": "dana"}
        session = (await service.stranger.post("/v1/sessions", json={"user_id": "alice"}, headers=headers)).json()
        (event,) = await audited(service, operation="begin_session")
        assert event.pop("id")
        assert event.pop("at")
        assert event == {
            "key": "write",
            "key_id": key["id"],
            "via": "api",
            "on_behalf_of": "dana",
            "operation": "begin_session",
            "targets": [session["id"]],
            "reason": None,
            "request_id": "my-request",
            "outcome": "done",
        }
        logged = [json.loads(record.message)["audit"] for record in caplog.records if record.name == "goalsvc.audit"]
        assert [line["operation"] for line in logged] == ["create_api_key", "begin_session"]

    async def test_has_nothing_of_reading_of_refusals_and_of_repeats(self, service: Service) -> None:
        headers = {"Idempotency-Key": "k"}
        for _ in range(2):
            await service.client.post("/v1/sessions", json={"user_id": "alice"}, headers=headers)
            await service.client.post("/v1/wallets/bob/deposits", json={"amount": 1}, headers=headers)
        await service.client.get("/v1/goals")
        await service.client.post("/v1/sessions", json={"user_id": ""})
        assert sorted(event["operation"] for event in await audited(service)) == ["begin_session", "deposit"]

    async def test_has_what_was_refused_for_its_scope(self, service: Service) -> None:
        key = await key_with(service, "read")
        await service.stranger.post("/v1/sessions", json={"user_id": "alice"}, headers=bearer(key))
        (event,) = await audited(service, key="read")
        assert event["outcome"] == "refused: insufficient_scope"

    async def test_is_found_by_target_time_and_request(self, service: Service) -> None:
        for user in ("alice", "bob", "carol"):
            await service.client.put(f"/v1/users/{user}", json={}, headers={"X-Request-ID": f"of-{user}"})
            service.stage.clock.advance(60)
        assert [event["targets"] for event in await audited(service, target="bob")] == [["bob"]]
        assert [event["targets"] for event in await audited(service, request_id="of-carol")] == [["carol"]]
        window = {"from": NOW.replace(minute=11).isoformat(), "to": NOW.replace(minute=12).isoformat()}
        assert [event["targets"] for event in await audited(service, **window)] == [["bob"]]
        assert [event["targets"][0] for event in await audited(service, order="desc")] == ["carol", "bob", "alice"]

    async def test_of_a_movement_is_found_by_who_pays_who_is_paid_and_the_transfer(self, service: Service) -> None:
        async def made(path: str, body: dict[str, Any]) -> dict[str, Any]:
            answer = await service.client.post(path, json=body, headers={"Idempotency-Key": path})
            assert answer.status_code == 201, answer.text
            found: dict[str, Any] = answer.json()
            return found

        async def operations_on(target: str) -> list[str]:
            return sorted(event["operation"] for event in await audited(service, target=target))

        plan = {"title": "Songs", "target": 60}
        session_id = (await made("/v1/sessions", {"user_id": "alice"}))["id"]
        show = {"kind": "FundingGoal", "session_id": session_id, "levels": [plan], "metadata": {"show": plan}}
        funding = (await made("/v1/goals", show))["id"]
        await made("/v1/wallets/bob/deposits", {"amount": 100})
        given = await made(f"/v1/goals/{funding}/contributions", {"user_id": "bob", "amount": 5})
        tip = await made("/v1/transfers", {"from_user_id": "bob", "to_user_id": "carol", "amount": 5})
        asked = {"viewer_id": "bob", "private": True, "price": 9, "exclusive": plan}
        body = {"kind": "TriggerGoal", "session_id": session_id, "metadata": asked}
        answer = await service.client.post("/v1/goals", json=body)
        assert answer.status_code == 201, answer.text
        assert await operations_on("bob") == ["create_contribution", "create_goal", "create_transfer", "deposit"]
        assert await operations_on("carol") == ["create_transfer"]
        assert await operations_on(given["transfer_id"]) == await operations_on(given["id"]) == ["create_contribution"]
        assert await operations_on(tip["id"]) == ["create_transfer"]
        assert await operations_on(funding) == ["create_contribution", "create_goal"]

    async def test_is_a_table_too(self, service: Service) -> None:
        await service.client.put("/v1/users/alice", json={}, headers={"X-Goalsvc-On-Behalf-Of": "=1+1"})
        answer = await service.client.get("/v1/audit", params={"format": "csv"})
        assert answer.headers["content-type"].startswith("text/csv")
        (row,) = csv.DictReader(io.StringIO(answer.text))
        assert (row["operation"], row["targets"], row["on_behalf_of"]) == ("put_user", "alice", "'=1+1")


class TestRequestIds:
    async def test_is_returned_and_in_the_problem(self, service: Service) -> None:
        answer = await service.client.get("/v1/goals/nonsense", headers={"X-Request-ID": "abc-1"})
        assert answer.headers["X-Request-ID"] == answer.json()["request_id"] == "abc-1"

    @pytest.mark.parametrize("given", ["", "two words", "x" * 129, "<script>"])
    async def test_is_generated_where_the_given_one_is_not_accepted(self, service: Service, given: str) -> None:
        answer = await service.client.get("/v1/goals", headers={"X-Request-ID": given})
        assert answer.headers["X-Request-ID"].startswith("req_")

    async def test_differs_from_call_to_call(self, service: Service) -> None:
        answers: list[httpx.Response] = [await service.client.get("/healthz") for _ in range(2)]
        assert len({answer.headers["X-Request-ID"] for answer in answers}) == 2
