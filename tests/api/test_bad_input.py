"""Bad input to every endpoint: 422 names the field, what cannot be is 404 or 409, and nothing is changed."""

from datetime import timedelta
from typing import Any

import httpx
import pytest

from goalsvc.domain.escrow import user_account
from goalsvc.domain.goals import GoalKind
from goalsvc.models.wallet import Account
from tests.receivers.fakes import NOW
from tests.receivers.scenes import FUNDING, GOAL, SESSION, STRANGER, STREAMER, VIEWER, a_goal, a_session

from .app import Service, encoded
from .test_errors import assert_problem

KEY = {"Idempotency-Key": "k"}
LEVELS = [{"title": "Fund the show", "target": 1000}]
SHOW = {"title": "Ukulele medley", "target": 360}
FUNDING_BODY = {
    "kind": "FundingGoal",
    "session_id": str(SESSION),
    "levels": LEVELS,
    "metadata": {"show": SHOW},
}
TRIGGER_BODY = {
    "kind": "TriggerGoal",
    "session_id": str(SESSION),
    "metadata": {"viewer_id": VIEWER, "private": True, "price": 300, "exclusive": SHOW},
}
SHOW_BODY = {"kind": "ShowGoal", "session_id": str(SESSION), "levels": LEVELS}

NOT_AN_ID = ["nonsense", "1", "x" * 24, "6955d000000000000000000", "6955d00000000000000000011", "%00"]
NOT_A_USER = ["", "a b", ".", "..", "a$b", "a/b", "é", "a\u0000", "x" * 129, "☃"]


def funding(**metadata: Any) -> dict[str, Any]:
    return FUNDING_BODY | {"metadata": {"show": SHOW} | metadata}


def trigger(**metadata: Any) -> dict[str, Any]:
    return TRIGGER_BODY | {"metadata": TRIGGER_BODY["metadata"] | metadata}  # type: ignore[operator]


#: (body of POST /v1/goals, the field that is named)
GOALS: list[Any] = [
    pytest.param({}, "kind", id="nothing"),
    pytest.param([], "body", id="an array"),
    pytest.param(FUNDING_BODY | {"kind": "Goal"}, "kind", id="no such kind"),
    pytest.param(FUNDING_BODY | {"kind": "Goal.ShowGoal"}, "kind", id="_cls for kind"),
    pytest.param(FUNDING_BODY | {"kind": None}, "kind", id="kind null"),
    pytest.param(FUNDING_BODY | {"session_id": "1"}, "session_id", id="session_id no id"),
    pytest.param(FUNDING_BODY | {"session_id": None}, "session_id", id="session_id null"),
    pytest.param({"kind": "ShowGoal", "levels": LEVELS}, "session_id", id="no session_id"),
    *(
        pytest.param(FUNDING_BODY | {"fee_bps": fee}, "fee_bps", id=f"a fee of {fee!r}")
        for fee in (10_001, 10**9, -1, 1.5, "100", True)
    ),
    pytest.param(FUNDING_BODY | {"levels": []}, "levels", id="no levels"),
    pytest.param(SHOW_BODY | {"levels": []}, "levels", id="a show without levels"),
    pytest.param(FUNDING_BODY | {"levels": {}}, "levels", id="levels an object"),
    pytest.param(FUNDING_BODY | {"levels": [{}]}, "levels.0.target", id="level without target"),
    pytest.param(FUNDING_BODY | {"levels": [{"target": 0}]}, "levels.0.target", id="target 0"),
    pytest.param(FUNDING_BODY | {"levels": [{"target": -1}]}, "levels.0.target", id="target below 0"),
    pytest.param(FUNDING_BODY | {"levels": [{"target": 1.5}]}, "levels.0.target", id="target a fraction"),
    pytest.param(FUNDING_BODY | {"levels": [{"target": "x"}]}, "levels.0.target", id="target a word"),
    pytest.param(FUNDING_BODY | {"levels": [{"target": 10**30}]}, "levels.0.target", id="target huge"),
    pytest.param(FUNDING_BODY | {"levels": [*LEVELS, {"target": 9, "x": 1}]}, "levels.1.x", id="unknown field"),
    pytest.param(FUNDING_BODY | {"levels": [{"target": 9, "title": "x" * 257}]}, "levels.0.title", id="long title"),
    pytest.param(FUNDING_BODY | {"levels": [{"target": n} for n in range(1, 102)]}, "levels", id="101 levels"),
    pytest.param(FUNDING_BODY | {"levels": [{"target": 9}, {"target": 9}]}, "levels", id="levels do not ascend"),
    pytest.param(FUNDING_BODY | {"levels": [{"target": True}]}, "levels.0.target", id="target a truth value"),
    pytest.param(FUNDING_BODY | {"levels": [{"target": "9"}]}, "levels.0.target", id="target a number in quotes"),
    pytest.param(SHOW_BODY | {"levels": [{"target": True}]}, "levels.0.target", id="seconds a truth value"),
    pytest.param(FUNDING_BODY | {"fee_bps": True}, "fee_bps", id="fee a truth value"),
    pytest.param(FUNDING_BODY | {"fee_bps": "5"}, "fee_bps", id="fee a number in quotes"),
    pytest.param(FUNDING_BODY | {"exp": "tomorrow"}, "exp", id="exp a word"),
    pytest.param(FUNDING_BODY | {"exp": "2030-01-01T00:00:00"}, "exp", id="exp without offset"),
    pytest.param(FUNDING_BODY | {"exp": NOW.isoformat()}, "exp", id="exp now"),
    pytest.param(FUNDING_BODY | {"exp": "9999-12-31T23:59:59-12:00"}, "exp", id="exp after year 9999"),
    pytest.param(FUNDING_BODY | {"more": 1}, "more", id="unknown field on top"),
    pytest.param(FUNDING_BODY | {"metadata": []}, "metadata", id="metadata an array"),
    pytest.param(FUNDING_BODY | {"metadata": {}}, "metadata.show", id="funding for nothing"),
    pytest.param(funding(show={"title": "x"}), "metadata.show.target", id="show without target"),
    pytest.param(funding(show={"target": 0}), "metadata.show.target", id="show of no seconds"),
    pytest.param(funding(show="x"), "metadata.show", id="show a word"),
    pytest.param(funding(show={"target": "9"}), "metadata.show.target", id="show a number in quotes"),
    pytest.param(funding(show={"target": 9, "title": "x" * 257}), "metadata.show.title", id="show with a long title"),
    pytest.param(funding(user_id="another"), "metadata.user_id", id="another streamer"),
    pytest.param(funding(**{"$where": 1}), "metadata.$where", id="an operator"),
    pytest.param(funding(**{"a.b": 1}), "metadata.a.b", id="a path"),
    pytest.param(funding(deep=[{"nul\u0000": 1}]), "metadata.deep.0.nul\\0", id="NUL in a nested name"),
    pytest.param(funding(**{"nul\u0000": 1}), "metadata.nul\\0", id="NUL in a name"),
    pytest.param(funding(huge=2**70), "metadata", id="an integer that no database holds"),
    pytest.param(FUNDING_BODY | {"conditions": {"session_id": "x"}}, "conditions.session_id", id="unknown condition"),
    pytest.param(FUNDING_BODY | {"conditions": {"exclusive_to": "a b"}}, "conditions.exclusive_to", id="no user id"),
    pytest.param(
        TRIGGER_BODY | {"conditions": {"exclusive_to": STRANGER}},
        "conditions.exclusive_to",
        id="two viewers, one to pay",
    ),
    pytest.param(trigger(viewer_id=None), "metadata.viewer_id", id="a request of nobody"),
    pytest.param(trigger(viewer_id="a!b"), "metadata.viewer_id", id="a viewer with another character"),
    pytest.param(trigger(viewer_id="a b"), "metadata.viewer_id", id="a viewer with a blank"),
    pytest.param(trigger(viewer_id="a\u0000"), "metadata.viewer_id", id="a viewer with a NUL"),
    pytest.param(trigger(exclusive=None), "metadata.exclusive", id="a request for nothing"),
    pytest.param(trigger(price=-1), "metadata.price", id="a price below 0"),
    pytest.param(trigger(price="x"), "metadata.price", id="a price that is a word"),
    pytest.param(trigger(price="5"), "metadata.price", id="a price in quotes"),
    pytest.param(trigger(price=True), "metadata.price", id="a price that is a truth value"),
    pytest.param(trigger(private=1), "metadata.private", id="privacy as a number"),
    pytest.param(trigger(exclusive={"target": True}), "metadata.exclusive.target", id="seconds that are a truth value"),
    pytest.param(trigger(price=10**13), "metadata.price", id="a price beyond all bounds"),
    pytest.param(trigger(private=False), "metadata.price", id="a public request with a price"),
    pytest.param({"kind": "ExclusiveGoal", "session_id": str(SESSION)}, "conditions.exclusive_to", id="for nobody"),
]


def assert_names(answer: httpx.Response, field: str) -> None:
    problem = assert_problem(answer, 422, "invalid")
    named = [fault["field"] for fault in problem["errors"]]
    assert field in named, named
    assert field in problem["detail"]


class TestGoals:
    @pytest.mark.parametrize(("body", "field"), GOALS)
    async def test_422_names_the_field_and_makes_nothing(self, service: Service, body: Any, field: str) -> None:
        await a_session(GoalKind.FUNDING)
        before = await service.stage.everything()
        assert_names(await service.client.post("/v1/goals", json=body), field)
        assert await service.stage.everything() == before

    @pytest.mark.parametrize("kind", ["Goal" * 1000, None, {}])
    async def test_a_kind_that_does_not_exist_is_not_repeated(self, service: Service, kind: Any) -> None:
        problem = assert_problem(await service.client.post("/v1/goals", json={"kind": kind}), 422, "invalid")
        known = "FundingGoal, TriggerGoal, ShowGoal, KaraokeGoal, ExclusiveGoal"
        assert problem["errors"] == [{"field": "kind", "message": f"must be one of {known}"}]

    @pytest.mark.parametrize(
        "body", [b"", b"{", b"\xff", b"[" * 20_000, b'{"kind": "ShowGoal"', b"null"], ids=lambda body: repr(body[:9])
    )
    async def test_what_is_no_json_is_422_of_the_body(self, service: Service, body: bytes) -> None:
        headers = {"Content-Type": "application/json"}
        answer = await service.client.post("/v1/goals", content=body, headers=headers)
        assert answer.status_code in {400, 422}
        problem = assert_problem(answer, answer.status_code, answer.json()["code"])
        assert all(fault["field"] == "body" for fault in problem.get("errors", []))

    @pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded"])
    @pytest.mark.parametrize(
        ("method", "path", "headers"),
        [
            ("POST", "/v1/goals", {}),
            ("POST", "/v1/sessions", KEY),
            ("POST", f"/v1/goals/{GOAL}/agree", {}),
            ("PATCH", f"/v1/goals/{GOAL}", {}),
            ("PUT", "/v1/users/alice", {}),
        ],
    )
    async def test_a_body_that_is_not_sent_as_json_is_422_of_its_type(
        self, service: Service, method: str, path: str, headers: dict[str, str], content_type: str | None
    ) -> None:
        given = headers if content_type is None else {**headers, "Content-Type": content_type}
        answer = await service.client.request(method, path, content=b'{"user_id": "alice"}', headers=given)
        problem = assert_problem(answer, 422, "invalid")
        assert problem["errors"] == [{"field": "header.Content-Type", "message": "must be application/json"}]

    @pytest.mark.parametrize(
        "value",
        [b"NaN", b"Infinity", b'"\\ud800"', b"1" * 400, b"[" * 300 + b"]" * 300],
        ids=lambda value: repr(value[:9]),
    )
    async def test_metadata_that_cannot_be_stored_or_shown_is_422(self, service: Service, value: bytes) -> None:
        await a_session(GoalKind.FUNDING)
        body = encoded(funding(odd="ODD")).replace(b'"ODD"', value)
        headers = {"Content-Type": "application/json"}
        assert_names(await service.client.post("/v1/goals", content=body, headers=headers), "metadata")
        assert (await service.client.get("/v1/goals")).json()["items"] == []

    async def test_the_value_itself_is_not_repeated(self, service: Service) -> None:
        answer = await service.client.post("/v1/goals", json=FUNDING_BODY | {"session_id": "a-secret"})
        assert "a-secret" not in answer.text

    async def test_a_session_that_does_not_exist(self, service: Service) -> None:
        assert_problem(await service.client.post("/v1/goals", json=FUNDING_BODY), 404, "not_found")

    async def test_a_session_that_has_ended(self, service: Service) -> None:
        await a_session(GoalKind.FUNDING, statuses={"started": NOW, "ended": NOW})
        assert_problem(await service.client.post("/v1/goals", json=FUNDING_BODY), 409, "session_ended")

    async def test_a_request_that_the_viewer_cannot_pay_is_402_and_makes_nothing(self, service: Service) -> None:
        await a_session(GoalKind.TRIGGER)
        before = await service.stage.everything()
        assert_problem(await service.client.post("/v1/goals", json=TRIGGER_BODY), 402, "insufficient_funds")
        assert await service.stage.everything() == before

    @pytest.mark.parametrize("goal_id", NOT_AN_ID)
    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", ""),
            ("POST", "/end"),
            ("POST", "/agree"),
            ("POST", "/decline"),
            ("GET", "/leaderboard"),
            ("GET", "/trace"),
        ],
    )
    async def test_an_id_that_is_none_is_422(self, service: Service, method: str, path: str, goal_id: str) -> None:
        assert_names(await service.client.request(method, f"/v1/goals/{goal_id}{path}"), "path.goal_id")

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", ""),
            ("POST", "/end"),
            ("POST", "/agree"),
            ("POST", "/decline"),
            ("GET", "/leaderboard"),
            ("GET", "/trace"),
        ],
    )
    async def test_a_goal_that_does_not_exist_is_404(self, service: Service, method: str, path: str) -> None:
        assert_problem(await service.client.request(method, f"/v1/goals/{GOAL}{path}"), 404, "not_found")

    @pytest.mark.parametrize(
        ("query", "field"),
        [
            ("session_id=1", "query.session_id"),
            ("active=perhaps", "query.active"),
            ("limit=0", "query.limit"),
            ("limit=201", "query.limit"),
            ("limit=x", "query.limit"),
            ("cursor=x", "cursor"),
            ("cursor=" + "x" * 513, "query.cursor"),
        ],
    )
    async def test_filters_and_cursors(self, service: Service, query: str, field: str) -> None:
        assert_names(await service.client.get(f"/v1/goals?{query}"), field)


class TestEnds:
    @pytest.mark.parametrize("path", ["end", "agree", "decline"])
    async def test_what_has_ended_is_409(self, service: Service, path: str) -> None:
        await a_goal(GoalKind.TRIGGER, active=False)
        before = await service.stage.everything()
        assert_problem(await service.client.post(f"/v1/goals/{GOAL}/{path}"), 409, "goal_inactive")
        assert await service.stage.everything() == before
        assert service.stage.queue.jobs == []

    @pytest.mark.parametrize("path", ["agree", "decline"])
    @pytest.mark.parametrize("kind", [GoalKind.FUNDING, GoalKind.SHOW, GoalKind.KARAOKE, GoalKind.EXCLUSIVE])
    async def test_only_a_request_is_agreed_to_or_declined(self, service: Service, path: str, kind: GoalKind) -> None:
        await a_goal(kind)
        before = await service.stage.everything()
        assert_problem(await service.client.post(f"/v1/goals/{GOAL}/{path}"), 409, "wrong_goal_kind")
        assert await service.stage.everything() == before

    async def test_agreeing_to_what_has_expired(self, service: Service) -> None:
        await a_goal(GoalKind.TRIGGER, exp=NOW - timedelta(milliseconds=1))
        assert_problem(await service.client.post(f"/v1/goals/{GOAL}/agree"), 409, "goal_expired")

    @pytest.mark.parametrize("user_id", NOT_A_USER)
    async def test_agreeing_as_nobody(self, service: Service, user_id: str) -> None:
        await a_goal(GoalKind.TRIGGER)
        before = await service.stage.everything()
        assert_names(await service.client.post(f"/v1/goals/{GOAL}/agree", json={"user_id": user_id}), "user_id")
        assert await service.stage.everything() == before


class TestContributions:
    async def contribute(self, service: Service, body: Any, headers: Any = KEY) -> httpx.Response:
        return await service.client.post(f"/v1/goals/{GOAL}/contributions", json=body, headers=headers)

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({}, "user_id"),
            ({"user_id": VIEWER}, "amount"),
            *(({"user_id": VIEWER, "amount": amount}, "amount") for amount in (0, -1, 1.5, "1", True, None, 10**13)),
            *(({"user_id": user_id, "amount": 1}, "user_id") for user_id in (*NOT_A_USER, None, 7)),
            ({"user_id": VIEWER, "amount": 1, "to": STREAMER}, "to"),
        ],
        ids=repr,
    )
    async def test_422_names_the_field_and_moves_nothing(self, service: Service, body: Any, field: str) -> None:
        await a_goal(GoalKind.FUNDING, progress=0)
        await Account(id=user_account(VIEWER), balance=100).insert()
        before = await service.stage.everything()
        assert_names(await self.contribute(service, body), field)
        assert await service.stage.everything() == before

    @pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": ""}, {"Idempotency-Key": "x" * 256}], ids=len)
    async def test_without_a_key_it_is_422(self, service: Service, headers: dict[str, str]) -> None:
        await a_goal(GoalKind.FUNDING, progress=0)
        answer = await self.contribute(service, {"user_id": VIEWER, "amount": 1}, headers)
        assert_names(answer, "header.Idempotency-Key")

    async def test_more_than_the_viewer_has_is_402_and_moves_nothing(self, service: Service) -> None:
        await a_goal(GoalKind.FUNDING, progress=0)
        await Account(id=user_account(VIEWER), balance=9).insert()
        before = await service.stage.everything()
        answer = await self.contribute(service, {"user_id": VIEWER, "amount": 10})
        assert_problem(answer, 402, "insufficient_funds")
        assert await service.stage.everything() == before

    @pytest.mark.parametrize(
        "changes", [{"active": False}, {"progress": 1000}, {"exp": NOW}], ids=["ended", "funded", "expired"]
    )
    async def test_what_takes_no_more_is_409_and_moves_nothing(self, service: Service, changes: dict[str, Any]) -> None:
        await a_goal(GoalKind.FUNDING, **{"progress": 0, **changes})
        await Account(id=user_account(VIEWER), balance=100).insert()
        before = await service.stage.everything()
        answer = await self.contribute(service, {"user_id": VIEWER, "amount": 10})
        assert_problem(answer, 409, "goal_inactive")
        assert await service.stage.everything() == before

    @pytest.mark.parametrize("kind", [GoalKind.TRIGGER, GoalKind.SHOW, GoalKind.KARAOKE, GoalKind.EXCLUSIVE])
    async def test_other_kinds_take_none(self, service: Service, kind: GoalKind) -> None:
        await a_goal(kind)
        answer = await self.contribute(service, {"user_id": VIEWER, "amount": 10})
        assert_problem(answer, 409, "wrong_goal_kind")

    async def test_the_same_key_again_moves_nothing_and_with_another_body_is_409(self, service: Service) -> None:
        await a_goal(GoalKind.FUNDING, progress=0)
        await Account(id=user_account(VIEWER), balance=100).insert()
        first = await self.contribute(service, {"user_id": VIEWER, "amount": 10})
        before = await service.stage.everything()
        again = await self.contribute(service, {"user_id": VIEWER, "amount": 10})
        assert (first.status_code, again.status_code) == (201, 201)
        assert again.json() == first.json()
        assert again.headers["idempotent-replayed"] == "true"
        other = await self.contribute(service, {"user_id": VIEWER, "amount": 11})
        assert_problem(other, 409, "transfer_conflict")
        assert await service.stage.everything() == before


class TestWallets:
    @pytest.mark.parametrize(
        "amount", [0, -1, 1.5, "1", True, None, 10**13, 10**400], ids=lambda value: repr(value)[:9]
    )
    async def test_deposits_name_the_amount(self, service: Service, amount: Any) -> None:
        answer = await service.client.post(f"/v1/wallets/{VIEWER}/deposits", json={"amount": amount}, headers=KEY)
        assert_names(answer, "amount")
        assert await service.stage.everything() == {}

    async def test_deposits_need_a_key(self, service: Service) -> None:
        answer = await service.client.post(f"/v1/wallets/{VIEWER}/deposits", json={"amount": 1})
        assert_names(answer, "header.Idempotency-Key")

    async def test_a_name_with_nul_in_the_metadata_is_named_with_the_rule(self, service: Service) -> None:
        path = f"/v1/wallets/{VIEWER}/deposits"
        for metadata, field in (({"x\0": 1}, "metadata.x\\0"), ({"a": {"b": [{"\0c": 1}]}}, "metadata.a.b.0.\\0c")):
            answer = await service.client.post(path, json={"amount": 1, "metadata": metadata}, headers=KEY)
            assert answer.json()["errors"] == [{"field": field, "message": "field names must not hold NUL"}]

    async def test_the_same_key_with_another_amount_is_409(self, service: Service) -> None:
        path = f"/v1/wallets/{VIEWER}/deposits"
        await service.client.post(path, json={"amount": 1}, headers=KEY)
        assert_problem(await service.client.post(path, json={"amount": 2}, headers=KEY), 409, "transfer_conflict")
        assert (await service.client.get(f"/v1/wallets/{VIEWER}")).json()["balance"] == 1

    async def test_a_key_belongs_to_its_path(self, service: Service) -> None:
        for user in (VIEWER, STREAMER):
            answer = await service.client.post(f"/v1/wallets/{user}/deposits", json={"amount": 1}, headers=KEY)
            assert answer.status_code == 201

    @pytest.mark.parametrize("user_id", ["a!b", "a%20b", "%E2%98%83", "x" * 129, "a%00"])
    async def test_what_is_no_user_id(self, service: Service, user_id: str) -> None:
        assert_names(await service.client.get(f"/v1/wallets/{user_id}"), "path.user_id")

    @pytest.mark.parametrize(
        "escrow_id",
        ["x", "show_funding:1", f"other:{GOAL}", f"show_funding:{GOAL}x", f"show_funding:{GOAL}%0A"],
    )
    async def test_what_is_no_escrow_id(self, service: Service, escrow_id: str) -> None:
        assert_names(await service.client.get(f"/v1/escrows/{escrow_id}"), "path.escrow_id")

    async def test_an_unknown_one_has_balance_0(self, service: Service) -> None:
        escrow_id = f"show_funding:{FUNDING}"
        assert (await service.client.get(f"/v1/escrows/{escrow_id}")).json() == {"id": escrow_id, "balance": 0}

    @pytest.mark.parametrize(
        ("query", "field"),
        [
            ("user_id=a!b", "query.user_id"),
            ("escrow_id=" + "x" * 129, "query.escrow_id"),
            ("limit=0", "query.limit"),
            ("cursor=%00", "cursor"),
        ],
    )
    async def test_filters_and_cursors_of_transfers(self, service: Service, query: str, field: str) -> None:
        assert_names(await service.client.get(f"/v1/transfers?{query}"), field)


class TestUsers:
    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({"username": 7}, "username"),
            ({"username": "x" * 257}, "username"),
            ({"tags": "verified"}, "tags"),
            ({"tags": [7]}, "tags.0"),
            ({"tags": ["x"] * 201}, "tags"),
            ({"byteplus": "https://x"}, "byteplus"),
            ({"byteplus": {"hls_url": 7}}, "byteplus.hls_url"),
            ({"byteplus": {"hls_url": "file:///etc/passwd"}}, "byteplus.hls_url"),
            ({"byteplus": {"hls_url": "pull.example.com/a.m3u8"}}, "byteplus.hls_url"),
            ({"byteplus": {"hls_url": "https://"}}, "byteplus.hls_url"),
            ({"byteplus": {"hls_url": "https://[x/a.m3u8"}}, "byteplus.hls_url"),
            ({"byteplus": {"hls_url": "https://x/a b.m3u8"}}, "byteplus.hls_url"),
            ({"byteplus": {"hls": "x"}}, "byteplus.hls"),
            ({"online": True}, "online"),
            ([], "body"),
        ],
        ids=lambda value: repr(value)[:30],
    )
    async def test_422_names_the_field_and_makes_nobody(self, service: Service, body: Any, field: str) -> None:
        assert_names(await service.client.put(f"/v1/users/{STREAMER}", json=body), field)
        assert await service.stage.everything() == {}

    @pytest.mark.parametrize("user_id", ["a!b", "$where", "a%20b", "x" * 129])
    async def test_what_is_no_user_id(self, service: Service, user_id: str) -> None:
        assert_names(await service.client.put(f"/v1/users/{user_id}", json={}), "path.user_id")

    async def test_nothing_to_set(self, service: Service) -> None:
        answer = await service.client.put(f"/v1/users/{STREAMER}", json={})
        assert (answer.status_code, answer.json()["id"]) == (200, STREAMER)

    @pytest.mark.parametrize("url", ["http://127.0.0.1:8080/a.m3u8", "HTTPS://pull.example.com/a.m3u8?t=1", ""])
    async def test_sources_of_a_livestream(self, service: Service, url: str) -> None:
        answer = await service.client.put(f"/v1/users/{STREAMER}", json={"byteplus": {"hls_url": url}})
        assert (answer.status_code, answer.json()["byteplus"]["hls_url"]) == (200, url)


class TestSessions:
    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({}, "user_id"),
            *(({"user_id": user_id}, "user_id") for user_id in (*NOT_A_USER, None, 7)),
            ({"user_id": STREAMER, "rtc": "room-1"}, "rtc"),
            ({"user_id": STREAMER, "rtc": {}}, "rtc.room_id"),
            ({"user_id": STREAMER, "rtc": {"room_id": ""}}, "rtc.room_id"),
            ({"user_id": STREAMER, "rtc": {"room_id": "a b"}}, "rtc.room_id"),
            ({"user_id": STREAMER, "rtc": {"room_id": "r", "record_task_id": "a b"}}, "rtc.record_task_id"),
            ({"user_id": STREAMER, "statuses": {}}, "statuses"),
        ],
        ids=lambda value: repr(value)[:40],
    )
    async def test_422_names_the_field_and_begins_nothing(self, service: Service, body: Any, field: str) -> None:
        assert_names(await service.client.post("/v1/sessions", json=body), field)
        assert await service.stage.everything() == {}

    @pytest.mark.parametrize("session_id", NOT_AN_ID)
    @pytest.mark.parametrize(("method", "path"), [("GET", ""), ("POST", "/end"), ("GET", "/token?viewer_id=v")])
    async def test_an_id_that_is_none(self, service: Service, method: str, path: str, session_id: str) -> None:
        assert_names(await service.client.request(method, f"/v1/sessions/{session_id}{path}"), "path.session_id")

    @pytest.mark.parametrize(("method", "path"), [("GET", ""), ("POST", "/end")])
    async def test_a_session_that_does_not_exist(self, service: Service, method: str, path: str) -> None:
        assert_problem(await service.client.request(method, f"/v1/sessions/{SESSION}{path}"), 404, "not_found")

    async def test_ending_what_has_ended(self, service: Service) -> None:
        await a_session(GoalKind.SHOW, statuses={"started": NOW, "ended": NOW})
        before = await service.stage.everything()
        assert_problem(await service.client.post(f"/v1/sessions/{SESSION}/end"), 409, "session_ended")
        assert await service.stage.everything() == before

    async def test_a_token_for_nobody(self, service: Service) -> None:
        assert_names(await service.client.get(f"/v1/sessions/{SESSION}/token"), "query.viewer_id")


class TestDeadLetters:
    @pytest.mark.parametrize(("query", "field"), [("state=gone", "query.state"), ("limit=201", "query.limit")])
    async def test_filters(self, service: Service, query: str, field: str) -> None:
        assert_names(await service.client.get(f"/v1/dead-letters?{query}"), field)

    @pytest.mark.parametrize("letter_id", ["nothing", f"goals/{GOAL}/escrow_out"])
    async def test_one_that_does_not_exist(self, service: Service, letter_id: str) -> None:
        assert_problem(await service.client.post(f"/v1/dead-letters/{letter_id}/redrive"), 404, "not_found")

    async def test_an_id_that_is_too_long(self, service: Service) -> None:
        assert_names(await service.client.post(f"/v1/dead-letters/{'x' * 513}/redrive"), "path.letter_id")
