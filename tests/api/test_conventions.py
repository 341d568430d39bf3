"""What all of the interface has in common: lists, filters, cursors, ETags, times, changes of goals, user ids, search."""

import base64
from datetime import timedelta
from typing import Any

import httpx
import pytest

from goalsvc.models.records import DeadLetter
from goalsvc.models.webhooks import Delivery, WebhookEndpoint
from tests.receivers.fakes import NOW

from .app import Service
from .test_errors import assert_problem

Json = dict[str, Any]


async def post(service: Service, path: str, body: Json, **headers: str) -> Json:
    answer = await service.client.post(path, json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    created: Json = answer.json()
    return created


async def session_of(service: Service, user_id: str = "alice") -> str:
    return str((await post(service, "/v1/sessions", {"user_id": user_id}))["id"])


async def show(service: Service, session_id: str, **more: Any) -> Json:
    body = {"kind": "ShowGoal", "session_id": session_id, "levels": [{"title": "Songs", "target": 360}], **more}
    return await post(service, "/v1/goals", body)


async def funding(service: Service, session_id: str) -> Json:
    metadata = {"show": {"title": "Songs", "target": 360}}
    body = {"kind": "FundingGoal", "session_id": session_id, "levels": [{"target": 1000}], "metadata": metadata}
    return await post(service, "/v1/goals", body)


async def items(service: Service, path: str, **query: Any) -> list[Json]:
    answer = await service.client.get(path, params=query)
    assert answer.status_code == 200, answer.text
    found: list[Json] = answer.json()["items"]
    return found


async def ids(service: Service, path: str, **query: Any) -> list[str]:
    return [item["id"] for item in await items(service, path, **query)]


class TestLists:
    async def test_a_cursor_holds_while_rows_are_added(self, service: Service) -> None:
        session_id = await session_of(service)
        first = [(await show(service, session_id))["id"] for _ in range(4)]
        for order, expected in (("asc", sorted(first)), ("desc", sorted(first, reverse=True))):
            page = (await service.client.get("/v1/goals", params={"limit": 2, "order": order})).json()
            seen = [goal["id"] for goal in page["items"]]
            added = (await show(service, session_id))["id"]
            while page["next"]:
                query = {"limit": 2, "order": order, "cursor": page["next"]}
                page = (await service.client.get("/v1/goals", params=query)).json()
                seen += [goal["id"] for goal in page["items"]]
            assert len(seen) == len(set(seen))
            assert [goal for goal in seen if goal in first] == expected
            assert (added in seen) == (order == "asc")

    async def test_a_cursor_belongs_to_its_order(self, service: Service) -> None:
        session_id = await session_of(service)
        for _ in range(2):
            await show(service, session_id)
        cursor = (await service.client.get("/v1/goals", params={"limit": 1})).json()["next"]
        answer = await service.client.get("/v1/goals", params={"limit": 1, "order": "desc", "cursor": cursor})
        assert_problem(answer, 422, "invalid")

    @pytest.mark.parametrize(
        "path", ["goals", "sessions", "users", "transfers", "contributions", "dead-letters", "keys"]
    )
    @pytest.mark.parametrize("cursor", ["x", "W10", "e30", "WzEsMiwzLDRd", "%00", "☃"])
    async def test_a_cursor_that_was_not_given_out_is_refused(self, service: Service, path: str, cursor: str) -> None:
        answer = await service.client.get(f"/v1/{path}", params={"cursor": cursor})
        assert_problem(answer, 422, "invalid")

    @pytest.mark.parametrize(
        "path", ["goals", "sessions", "users", "transfers", "contributions", "dead-letters", "audit"]
    )
    async def test_a_filter_that_does_not_exist_is_refused(self, service: Service, path: str) -> None:
        answer = await service.client.get(f"/v1/{path}", params={"colour": "red"})
        assert_problem(answer, 422, "invalid")
        assert answer.json()["errors"][0]["field"] == "query.colour"

    async def test_sessions_by_streamer_state_and_time(self, service: Service) -> None:
        first = await session_of(service)
        service.stage.clock.advance(60)
        second = await session_of(service, "bob")
        service.stage.clock.advance(60)
        third = await session_of(service)
        await service.client.post(f"/v1/sessions/{first}/end")
        assert await ids(service, "/v1/sessions") == [first, second, third]
        assert await ids(service, "/v1/sessions", order="desc") == [third, second, first]
        assert await ids(service, "/v1/sessions", user_id="alice") == [first, third]
        assert await ids(service, "/v1/sessions", open=True) == [second, third]
        assert await ids(service, "/v1/sessions", open=False) == [first]
        window = {"from": (NOW + timedelta(seconds=60)).isoformat(), "to": (NOW + timedelta(seconds=61)).isoformat()}
        assert await ids(service, "/v1/sessions", **window) == [second]

    async def test_goals_by_streamer_kind_time_and_metadata(self, service: Service) -> None:
        session_id, other = await session_of(service), await session_of(service, "bob")
        winter = (await show(service, session_id, metadata={"campaign": "winter", "wave": 2, "on": True}))["id"]
        nested = (await show(service, other, metadata={"a": {"b-c": "x"}}))["id"]
        service.stage.clock.advance(60)
        money = (await funding(service, session_id))["id"]
        assert await ids(service, "/v1/goals", user_id="bob") == [nested]
        assert await ids(service, "/v1/goals", kind="FundingGoal") == [money]
        later = (NOW + timedelta(seconds=1)).isoformat()
        assert await ids(service, "/v1/goals", **{"from": later}) == [money]
        assert await ids(service, "/v1/goals", to=later, user_id="alice") == [winter]
        for query in ({"metadata.campaign": "winter"}, {"metadata.wave": "2"}, {"metadata.on": "true"}):
            assert await ids(service, "/v1/goals", **query) == [winter]
        assert await ids(service, "/v1/goals", **{"metadata.a.b-c": "x"}) == [nested]
        assert await ids(service, "/v1/goals", **{"metadata.campaign": "summer"}) == []

    @pytest.mark.parametrize("name", ["metadata.", "metadata.$where", "metadata.a..b", "metadata", "metadatax.a"])
    async def test_a_malformed_filter_of_the_metadata_is_refused(self, service: Service, name: str) -> None:
        assert_problem(await service.client.get("/v1/goals", params={name: "1"}), 422, "invalid")

    async def test_transfers_by_time_account_and_user(self, service: Service) -> None:
        made = []
        for user in ("zoe", "amy"):
            path = f"/v1/wallets/{user}/deposits"
            made.append((await post(service, path, {"amount": 1}, **{"Idempotency-Key": "k"}))["id"])
            service.stage.clock.advance(60)
        assert await ids(service, "/v1/transfers") == made  # in order of time, not of ids
        assert await ids(service, "/v1/transfers", order="desc") == made[::-1]
        assert await ids(service, "/v1/transfers", account="user:amy") == made[1:]
        assert (
            await ids(service, "/v1/transfers", account="issuer", to=(NOW + timedelta(seconds=1)).isoformat())
            == made[:1]
        )
        read = await service.client.get(f"/v1/transfers/{made[0]}")
        assert (read.status_code, read.json()["amount"]) == (200, 1)
        assert_problem(await service.client.get("/v1/transfers/nothing"), 404, "not_found")

    async def test_users_are_listed_and_read(self, service: Service) -> None:
        for user in ("bob", "alice"):
            await service.client.put(f"/v1/users/{user}", json={"username": user.title()})
        assert await ids(service, "/v1/users") == ["alice", "bob"]
        assert await ids(service, "/v1/users", online=True) == []
        assert (await service.client.get("/v1/users/bob")).json()["username"] == "Bob"
        assert_problem(await service.client.get("/v1/users/nobody"), 404, "not_found")

    async def test_contributions_and_the_leaderboard(self, service: Service) -> None:
        goal = await funding(service, await session_of(service))
        path = f"/v1/goals/{goal['id']}"
        for number, (user, amount) in enumerate([("bob", 100), ("carol", 300), ("bob", 200), ("dave", 50)]):
            key = {"Idempotency-Key": f"{number}"}
            await post(service, f"/v1/wallets/{user}/deposits", {"amount": amount}, **key)
            await post(service, f"{path}/contributions", {"user_id": user, "amount": amount}, **key)
        listed = await items(service, f"{path}/contributions")
        assert sorted(one["amount"] for one in listed) == [50, 100, 200, 300]
        assert [one["amount"] for one in await items(service, "/v1/contributions", from_user_id="carol")] == [300]
        assert await items(service, "/v1/contributions", goal_id=goal["id"]) == listed
        first = (await service.client.get(f"{path}/leaderboard", params={"limit": 1})).json()
        assert first["items"] == [{"user_id": "bob", "amount": 300}]
        rest = await service.client.get(f"{path}/leaderboard", params={"cursor": first["next"]})
        expected = [{"user_id": "carol", "amount": 300}, {"user_id": "dave", "amount": 50}]
        assert rest.json() == {"items": expected, "next": None}

    async def test_the_leaderboard_in_either_order(self, service: Service) -> None:
        path = f"/v1/goals/{(await funding(service, await session_of(service)))['id']}"
        for user, amount in (("bob", 10), ("carol", 30), ("dave", 10), ("erin", 20)):
            await post(service, f"/v1/wallets/{user}/deposits", {"amount": amount}, **{"Idempotency-Key": user})
            body = {"user_id": user, "amount": amount}
            await post(service, f"{path}/contributions", body, **{"Idempotency-Key": user})
        found: dict[str, list[str]] = {"desc": [], "asc": []}
        for order, users in found.items():
            cursor: dict[str, str] = {}
            while True:
                query = {"limit": "1", "order": order, **cursor}
                page = (await service.client.get(f"{path}/leaderboard", params=query)).json()
                users.extend(one["user_id"] for one in page["items"])
                if page["next"] is None:
                    break
                other = {**query, "cursor": page["next"], "order": "asc" if order == "desc" else "desc"}
                assert_problem(await service.client.get(f"{path}/leaderboard", params=other), 422, "invalid")
                cursor = {"cursor": page["next"]}
        assert found["desc"] == ["carol", "erin", "bob", "dave"]
        assert found["asc"] == found["desc"][::-1]


class TestInOrderOfTime:
    """Lists whose ids are words or hashes."""

    async def in_order(self, service: Service, path: str) -> list[str]:
        """The ids that pages of one row give; both directions are the same."""
        found: dict[str, list[str]] = {"asc": [], "desc": []}
        for order, seen in found.items():
            cursor: dict[str, str] = {}
            while True:
                page = (await service.client.get(path, params={"limit": 1, "order": order, **cursor})).json()
                seen.extend(one["id"] for one in page["items"])
                if page["next"] is None:
                    break
                cursor = {"cursor": page["next"]}
        assert found["asc"] == found["desc"][::-1]
        return found["asc"]

    async def test_withdrawals(self, service: Service) -> None:
        await post(service, "/v1/wallets/bob/deposits", {"amount": 9}, **{"Idempotency-Key": "k"})
        made = []
        for number in range(5):
            key = {"Idempotency-Key": str(number)}
            made.append((await post(service, "/v1/wallets/bob/withdrawals", {"amount": 1}, **key))["id"])
            service.stage.clock.advance(1)
        assert await self.in_order(service, "/v1/wallets/bob/withdrawals") == made

    async def test_webhook_endpoints_and_deliveries(self, service: Service) -> None:
        path, made = "/v1/webhook-endpoints", [f"whe_{letter * 24}" for letter in "bca"]
        for second, endpoint_id in enumerate(made):
            at = NOW + timedelta(seconds=second)
            await WebhookEndpoint(id=endpoint_id, url="https://x.example", created_at=at, updated_at=at).insert()
        assert await self.in_order(service, path) == made
        for second, event_id in enumerate(("evt_b", "evt_c", "evt_a")):
            event = {"_id": event_id, "type": "goal.ended"}
            await Delivery.owe([(made[0], event)], NOW + timedelta(seconds=second))
        listed = await self.in_order(service, f"{path}/{made[0]}/deliveries")
        assert [one.partition(":")[2] for one in listed] == ["evt_b", "evt_c", "evt_a"]

    async def test_dead_letters(self, service: Service) -> None:
        for second, letter_id in enumerate(("b", "c", "a")):
            letter = DeadLetter(
                id=letter_id, task="x", arguments={}, reason="r", at=NOW + timedelta(seconds=second), tries=1
            )
            await DeadLetter.bury(letter)
        assert await self.in_order(service, "/v1/dead-letters") == ["b", "c", "a"]

    async def test_a_cursor_of_before_is_refused(self, service: Service) -> None:
        before = base64.urlsafe_b64encode(b'["asc","b",null,false]').decode().rstrip("=")
        assert_problem(await service.client.get("/v1/dead-letters", params={"cursor": before}), 422, "invalid")


class TestTimes:
    async def test_every_object_says_when_it_was_created_and_changed(self, service: Service) -> None:
        session_id = await session_of(service)
        goal = await show(service, session_id)
        service.stage.clock.advance(60)
        await service.client.post(f"/v1/goals/{goal['id']}/end")
        ended = (await service.client.get(f"/v1/goals/{goal['id']}")).json()
        assert (ended["created_at"], ended["updated_at"]) == ("2026-01-01T12:10:00Z", "2026-01-01T12:11:00Z")
        await service.client.put("/v1/users/bob", json={})
        await post(service, "/v1/wallets/bob/deposits", {"amount": 1}, **{"Idempotency-Key": "k"})
        for path in (f"sessions/{session_id}", "users/bob", "wallets/bob"):
            read = (await service.client.get(f"/v1/{path}")).json()
            assert read["created_at"], path
            assert read["updated_at"] >= read["created_at"], path
        (transfer,) = await items(service, "/v1/transfers")
        assert transfer["created_at"] == transfer["updated_at"] == "2026-01-01T12:11:00Z"

    async def test_a_contribution_changes_its_goal(self, service: Service) -> None:
        goal = await funding(service, await session_of(service))
        await post(service, "/v1/wallets/bob/deposits", {"amount": 9}, **{"Idempotency-Key": "k"})
        for amount, at in ((4, "2026-01-01T12:11:00Z"), (5, "2026-01-01T12:12:00Z")):
            service.stage.clock.advance(60)
            body, key = {"user_id": "bob", "amount": amount}, {"Idempotency-Key": str(amount)}
            made = await post(service, f"/v1/goals/{goal['id']}/contributions", body, **key)
            read = (await service.client.get(f"/v1/goals/{goal['id']}")).json()
            assert read["updated_at"] == made["updated_at"] == made["created_at"] == at

    async def test_an_attempt_changes_a_delivery(self, service: Service) -> None:
        at = NOW + timedelta(seconds=60)
        endpoint_id = f"whe_{'a' * 24}"
        await WebhookEndpoint(id=endpoint_id, url="https://x.example", created_at=NOW, updated_at=NOW).insert()
        await Delivery.owe([(endpoint_id, {"_id": "evt_a", "type": "goal.ended"})], NOW)
        path = f"/v1/webhook-endpoints/{endpoint_id}/deliveries"
        (delivery,) = await items(service, path)
        assert delivery["updated_at"] == delivery["created_at"] == "2026-01-01T12:10:00Z"
        attempts = {"$push": {"attempts": {"at": at, "ms": 1.0, "status": 500}}}
        await service.stage.database["deliveries"].update_one({}, attempts)
        (delivery,) = await items(service, path)
        assert (delivery["created_at"], delivery["updated_at"]) == ("2026-01-01T12:10:00Z", "2026-01-01T12:11:00Z")


@pytest.mark.parametrize("name", ["metadata.é", "metadata.", "metadata.a b", "metadata.a.b.c.d.e.f.g"])
async def test_a_filter_by_metadata_says_which_names_it_takes(service: Service, name: str) -> None:
    answer = await service.client.get("/v1/goals", params={name: "ü"})
    (fault,) = assert_problem(answer, 422, "invalid")["errors"]
    assert (fault["field"], "A-Z a-z 0-9 _ -" in fault["message"]) == (f"query.{name}", True)
    other = (await service.client.get("/v1/goals", params={"metadatum": "1"})).json()["errors"]
    assert other == [{"field": "query.metadatum", "message": "is not a parameter of this operation"}]


class TestEtags:
    async def read(self, service: Service, path: str, **headers: str) -> httpx.Response:
        return await service.client.get(path, headers=headers)

    async def test_what_did_not_change_is_304(self, service: Service) -> None:
        session_id = await session_of(service)
        goal = await show(service, session_id)
        for path in (f"/v1/goals/{goal['id']}", f"/v1/sessions/{session_id}", "/v1/wallets/bob"):
            tag = (await self.read(service, path)).headers["ETag"]
            for given in (tag, f"W/{tag}", f'"other", {tag}', "*"):
                answer = await self.read(service, path, **{"If-None-Match": given})
                assert (answer.status_code, answer.content, answer.headers["ETag"]) == (304, b"", tag)
            assert (await self.read(service, path, **{"If-None-Match": '"other"'})).status_code == 200

    async def test_what_changed_has_another(self, service: Service) -> None:
        goal = await show(service, await session_of(service))
        path = f"/v1/goals/{goal['id']}"
        tag = (await self.read(service, path)).headers["ETag"]
        await service.client.post(f"{path}/end")
        answer = await self.read(service, path, **{"If-None-Match": tag})
        assert (answer.status_code, answer.json()["active"]) == (200, False)


class TestChangingAGoal:
    async def change(self, service: Service, goal_id: str, **body: Any) -> httpx.Response:
        return await service.client.patch(f"/v1/goals/{goal_id}", json=body)

    async def test_its_end_metadata_and_later_levels(self, service: Service) -> None:
        goal = await show(service, await session_of(service), metadata={"a": 1, "b": 2})
        levels = [{"title": "Songs", "target": 360}, {"title": "More", "target": 720}]
        exp = "2026-01-01T20:00:00Z"
        changed = await self.change(service, goal["id"], exp=exp, metadata={"a": None, "c": [3]}, levels=levels)
        assert changed.status_code == 200, changed.text
        told = changed.json()
        assert (told["exp"], told["levels"]) == (exp, levels)
        assert {name: told["metadata"].get(name) for name in "abc"} == {"a": None, "b": 2, "c": [3]}
        assert (await service.client.get(f"/v1/goals/{goal['id']}")).json() == told
        assert (await self.change(service, goal["id"], exp=None)).json()["exp"] is None

    async def test_only_as_the_caller_knows_it(self, service: Service) -> None:
        metadata = {"a": 0.1, "title": "é ↗ <&>", "e": 1e300, "n": None, "l": [{}, []]}
        path = f"/v1/goals/{(await show(service, await session_of(service), metadata=metadata))['id']}"

        async def change(number: int, *headers: str) -> httpx.Response:
            given = [("If-Match", header) for header in headers]
            return await service.client.patch(path, json={"metadata": {"a": number}}, headers=given)

        async def tag() -> str:
            return str((await service.client.get(path)).headers["ETag"])

        old = await tag()
        assert (await change(1, old)).status_code == 200
        for given in ([old], ["other"], [""], ['"*"'], [f"W/{await tag()}"], [old, '"x", "y"'], ["x" * 4097]):
            refused = await change(2, *given)
            if len(given[0]) > 4096:
                assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "header.If-Match")
            else:
                assert_problem(refused, 412, "precondition_failed")
                assert "If-Match" in refused.json()["detail"]
        for number in range(3, 7):
            given = (["*"], [f'"x", {await tag()}'], [old, await tag()], [])[number - 3]
            assert (await change(number, *given)).json()["metadata"]["a"] == number, given
        await service.client.post(f"{path}/end")
        assert_problem(await change(9, "*"), 409, "goal_inactive")

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({}, "body"),
            ({"exp": "2001-01-01T00:00:00Z"}, "exp"),
            ({"metadata": {"user_id": "mallory"}}, "metadata.user_id"),
            ({"metadata": {"price": 1}}, "metadata.price"),
            ({"metadata": {"$set": 1}}, "metadata.$set"),
            ({"levels": []}, "levels"),
            ({"levels": [{"target": 5}, {"target": 5}]}, "levels"),
            ({"levels": [{"target": 86_401}]}, "levels.0.target"),
            ({"active": False}, "active"),
        ],
        ids=str,
    )
    async def test_422_names_the_field_and_changes_nothing(self, service: Service, body: Json, field: str) -> None:
        goal = await show(service, await session_of(service))
        before = await service.stage.everything()
        answer = await self.change(service, goal["id"], **body)
        assert_problem(answer, 422, "invalid")
        assert answer.json()["errors"][0]["field"] == field
        assert await service.stage.everything() == before

    async def test_a_level_that_is_reached_stays(self, service: Service) -> None:
        session_id = await session_of(service)
        goal = await show(service, session_id, levels=[{"title": "One", "target": 10}, {"title": "Two", "target": 20}])
        await service.stage.database["goals"].update_one({}, {"$set": {"progress": 12}})
        first = {"title": "One", "target": 10}
        refused: list[tuple[list[Json], str]] = [
            ([{"title": "Other", "target": 10}, {"title": "Two", "target": 20}], "levels.0"),
            ([first], "levels"),
            ([first, {"title": "", "target": 12}], "levels.1.target"),
        ]
        for levels, field in refused:
            answer = await self.change(service, goal["id"], levels=levels)
            assert answer.status_code == 422, levels
            assert answer.json()["errors"][0]["field"] == field
        changed = await self.change(service, goal["id"], levels=[first, {"title": "Two", "target": 15}])
        assert changed.json()["levels"][1]["target"] == 15

    async def test_one_that_has_ended_is_409(self, service: Service) -> None:
        goal = await show(service, await session_of(service))
        await service.client.post(f"/v1/goals/{goal['id']}/end")
        assert_problem(await self.change(service, goal["id"], metadata={"a": 1}), 409, "goal_inactive")


async def test_a_refund_requires_the_idempotency_key(service: Service) -> None:
    goal = await show(service, await session_of(service))
    path = f"/v1/goals/{goal['id']}/refund"
    assert_problem(await service.client.post(path, json={"reason": "x"}), 422, "invalid")
    answer = await service.client.post(path, json={"reason": "x"}, headers={"Idempotency-Key": "k"})
    assert_problem(answer, 409, "nothing_paid")


class TestUserIds:
    @pytest.mark.parametrize("user_id", ["bob.b@mail.example", "a.b", "...a", "A-z_0=9@,.;"])
    async def test_may_hold_what_a_channel_name_may(self, service: Service, user_id: str) -> None:
        answer = await service.client.put(f"/v1/users/{user_id}", json={"username": "B"})
        assert (answer.status_code, answer.json()["id"]) == (200, user_id)
        session_id = await session_of(service)
        conditions = {"exclusive_to": user_id}
        body = {"kind": "ExclusiveGoal", "session_id": session_id, "conditions": conditions}
        goal = await post(service, "/v1/goals", body)
        read = (await service.client.get(f"/v1/sessions/{session_id}")).json()
        assert read["exclusive_goal_pairs"] == {user_id: {"exclusive_goal": goal["id"]}}

    @pytest.mark.parametrize("user_id", ["a b", "a$b", "a/b", "é", ".", "..", "x" * 129])
    async def test_others_are_refused_with_the_allowed_characters(self, service: Service, user_id: str) -> None:
        answer = await service.client.post("/v1/sessions", json={"user_id": user_id})
        assert_problem(answer, 422, "invalid")
        assert "A-Z a-z 0-9 _ - = @ , . ;" in answer.json()["errors"][0]["message"]

    async def test_a_session_of_before_is_read(self, service: Service) -> None:
        session_id = await session_of(service)
        pairs = {"bob": {"exclusive_goal_started": NOW}}
        await service.stage.database["sessions"].update_one({}, {"$set": {"exclusive_goal_pairs": pairs}})
        read = (await service.client.get(f"/v1/sessions/{session_id}")).json()
        assert read["exclusive_goal_pairs"] == {"bob": {"exclusive_goal_started": "2026-01-01T12:10:00Z"}}


class TestSearch:
    async def test_finds_whatever_has_the_id(self, service: Service) -> None:
        session_id = await session_of(service)
        goal = await funding(service, session_id)
        await service.client.put("/v1/users/bob", json={})
        deposited = await post(service, "/v1/wallets/bob/deposits", {"amount": 9}, **{"Idempotency-Key": "k"})
        key = await post(service, "/v1/keys", {"name": "x", "scopes": ["read"]})
        withdrawn = await post(service, "/v1/wallets/bob/withdrawals", {"amount": 1}, **{"Idempotency-Key": "w"})
        endpoint_id, event_id = f"whe_{'a' * 24}", f"evt_{'b' * 32}"
        await WebhookEndpoint(id=endpoint_id, url="https://x.example", created_at=NOW, updated_at=NOW).insert()
        event = {"_id": event_id, "type": "goal.ended"}
        await service.stage.database["events"].insert_one({**event, "created_at": NOW})
        await Delivery.owe([(endpoint_id, event)], NOW)
        expected = {
            withdrawn["id"]: {("withdrawal", f"/v1/withdrawals/{withdrawn['id']}")},
            event_id: {("event", f"/v1/events/{event_id}")},
            endpoint_id: {("webhook_endpoint", f"/v1/webhook-endpoints/{endpoint_id}")},
            f"{endpoint_id}:{event_id}": {("delivery", f"/v1/webhook-endpoints/{endpoint_id}/deliveries")},
            session_id: {("session", f"/v1/sessions/{session_id}")},
            goal["id"]: {("goal", f"/v1/goals/{goal['id']}")},
            "bob": {("user", "/v1/users/bob"), ("wallet", "/v1/wallets/bob")},
            "user:bob": {("account", "/v1/transfers?account=user:bob")},
            deposited["id"]: {("transfer", f"/v1/transfers/{deposited['id']}")},
            key["id"]: {("key", f"/v1/keys/{key['id']}")},
            "alice": {("session", f"/v1/sessions/{session_id}")},  # streams, and is no stored user
            "nothing": set(),
        }
        for text, found in expected.items():
            assert {(one["kind"], one["path"]) for one in await items(service, "/v1/search", q=text)} == found

    async def test_keys_endpoints_and_deliveries_are_found_by_admins_only(self, service: Service) -> None:
        key = await post(service, "/v1/keys", {"name": "x", "scopes": ["read"]})
        headers = {"Authorization": f"Bearer {key['key']}"}
        await WebhookEndpoint(id="whe_a", url="https://x.example", created_at=NOW, updated_at=NOW).insert()
        await Delivery.owe([("whe_a", {"_id": "evt_a", "type": "goal.ended"})], NOW)
        for secret in (key["id"], "whe_a", "whe_a:evt_a"):
            answer = await service.stranger.get("/v1/search", params={"q": secret}, headers=headers)
            assert (answer.status_code, answer.json()["items"]) == (200, [])

    @pytest.mark.parametrize("q", ["", "\0", "x" * 513])
    async def test_what_is_not_an_id_is_refused(self, service: Service, q: str) -> None:
        assert_problem(await service.client.get("/v1/search", params={"q": q}), 422, "invalid")
