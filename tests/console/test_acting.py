"""What operators do from pages: only from this console, only with a reason, only with the scope; all of it in the audit."""

import re
from dataclasses import replace
from typing import Any

import httpx
from fastapi.routing import APIRoute

from goalsvc.console.acts import ACTS
from goalsvc.console.pages import ROUTERS
from goalsvc.domain.call import Scope
from tests.world import World

from .conftest import FROM_HERE, a_key, log_in

NOWHERE = "0" * 24
#: Each page, and the scope that it requires beside `read`.
REQUIRED = {
    "": None,
    "/search?q=x": None,
    "/live": None,
    "/webhooks": None,
    "/health": None,
    "/dead-letters": None,
    "/start": None,
    "/reconciliation": None,
    "/replay": None,
    "/users/alice": None,
    "/escrows/show_funding:0": None,
    f"/escrows/show_funding:{'a' * 24}/statement.csv": None,
    "/users/alice/statement.csv": None,
    "/keys": "admin",
    "/audit": "admin",
    "/deliveries": "admin",
    f"/goals/{NOWHERE}": None,
    f"/goals/{NOWHERE}/timeline.svg": None,
    f"/goals/{NOWHERE}/seconds": None,
    f"/goals/{NOWHERE}/trace": None,
    f"/sessions/{NOWHERE}": None,
    "/transfers/none": None,
    f"/requests/req_{NOWHERE}": None,
    f"/redrives/rdr_{NOWHERE}": None,
    f"/clips/{NOWHERE}": None,
    f"/events/evt_{'0' * 32}": None,
    f"/deliveries/whe_{NOWHERE}": "admin",
    "/dead-letters?id=none": None,
    "/webhooks?which=late": None,
}
#: What is open to all, and what never ends (`tests/console/test_live.py`).
ELSEWHERE = {"/login", "/static/{name}", "/live/stream"}


async def a_show(world: World) -> dict[str, Any]:
    session = await world.post("/v1/sessions", {"user_id": "alice"})
    levels = [{"title": "Ukulele", "target": 60}]
    made: dict[str, Any] = await world.post(
        "/v1/goals", {"kind": "ShowGoal", "session_id": session["id"], "levels": levels}
    )
    return made


async def submit(browser: httpx.AsyncClient, act: str, **fields: str) -> httpx.Response:
    return await browser.post(f"/console/act/{act}", data=fields, headers=FROM_HERE)


class TestScopes:
    async def test_of_every_page(self, world: World, browser: httpx.AsyncClient) -> None:
        for scope in Scope:
            for also in ([], ["read"]):
                await log_in(browser, (await a_key(world, scope.value, *also))["key"])
                for path, required in REQUIRED.items():
                    scopes = {scope.value, *also}
                    answer = await browser.get(f"/console{path}")
                    lacking = [one for one in ("read", required) if one is not None and one not in scopes]
                    gone = (NOWHERE in path and not path.endswith("/trace")) or path == "/transfers/none"
                    assert answer.status_code == (403 if lacking else 404 if gone else 200), (path, scopes)
                    if lacking:
                        assert f"has not the scope {lacking[0]}" in answer.text

    def test_are_tested_of_every_page_that_there_is(self) -> None:
        routes = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
        pages = [route for route in routes if "GET" in (route.methods or ())]
        tested = [f"/console{path.partition('?')[0]}" for path in REQUIRED]
        missing = {page.path for page in pages if not any(page.path_regex.match(path) for path in tested)}
        assert missing == {f"/console{path}" for path in ELSEWHERE}

    async def test_of_an_act_are_checked_by_the_server_and_the_form_is_not_shown(
        self, world: World, browser: httpx.AsyncClient
    ) -> None:
        goal = await a_show(world)
        await log_in(browser, (await a_key(world, "read", "money"))["key"])
        assert "/console/act/end" not in (await browser.get(f"/console/goals/{goal['id']}")).text
        answer = await submit(browser, "end", id=goal["id"], reason="ill")
        assert answer.status_code == 403
        assert "requires the scope `operate`" in answer.text
        assert (await world.get(f"/v1/goals/{goal['id']}"))["active"] is True
        (refused,) = (await world.get("/v1/audit?operation=end_goal"))["items"]
        assert (refused["outcome"], refused["via"]) == ("refused: insufficient_scope", "console")


class TestActs:
    async def test_are_done_with_a_reason_that_the_audit_keeps(self, world: World, operator: httpx.AsyncClient) -> None:
        goal = await a_show(world)
        page = (await operator.get(f"/console/goals/{goal['id']}")).text
        key = re.search(r'/console/act/end".*?name="key" value="([0-9a-f]{32})"', page, re.DOTALL)
        assert key is not None
        fields = {"id": goal["id"], "key": key[1], "reason": "the performer is ill <b>"}
        answer = await submit(operator, "end", **fields)
        assert answer.headers["location"] == f"/console/goals/{goal['id']}?did=end"
        assert "The goal was ended." in (await operator.get(answer.headers["location"])).text
        assert (await world.get(f"/v1/goals/{goal['id']}"))["active"] is False
        again = await submit(operator, "end", **fields)
        assert again.status_code == 303, "the form sent twice is one act"
        (done,) = (await world.get("/v1/audit?operation=end_goal"))["items"]
        assert (done["reason"], done["via"], done["outcome"]) == ("the performer is ill <b>", "console", "done")
        audit = (await operator.get("/console/audit")).text
        assert "the performer is ill &lt;b&gt;" in audit

    async def test_without_a_reason_or_from_another_site_are_refused(
        self, world: World, operator: httpx.AsyncClient
    ) -> None:
        goal = await a_show(world)
        answer = await submit(operator, "end", id=goal["id"], reason="  ")
        assert (answer.status_code, "reason: required" in answer.text) == (422, True)
        elsewhere: list[dict[str, str]] = [{}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}]
        for path in (
            "/console/act/end",
            "/console/keys",
            "/console/act/redrive-group",
            "/console/act/ask-pusher",
            "/console/replay",
        ):
            for headers in [*elsewhere, {"Origin": "https://evil.test"}]:
                data = {"id": goal["id"], "reason": "x"}
                assert (await operator.post(path, data=data, headers=headers)).status_code == 403
        assert (await world.get(f"/v1/goals/{goal['id']}"))["active"] is True

    async def test_that_come_too_late_say_why(self, world: World, operator: httpx.AsyncClient) -> None:
        goal = await a_show(world)
        await world.post(f"/v1/goals/{goal['id']}/end", {})
        answer = await submit(operator, "end", id=goal["id"], reason="ill")
        assert (answer.status_code, "the goal is not active" in answer.text) == (409, True)
        assert (await submit(operator, "explode", id="x", reason="y")).status_code == 404
        assert (await submit(operator, "end", id="../keys", reason="y")).status_code in (404, 422)

    async def test_on_what_no_operation_is_about_are_refused(self, operator: httpx.AsyncClient) -> None:
        for name, act in ACTS.items():
            answer = await submit(operator, name, reason="r")
            needs_an_id = "{id}" in act.path + act.leads_to
            assert ("id: required" in answer.text) is needs_an_id, (name, answer.text)
            assert answer.status_code == 422 if needs_an_id else answer.status_code < 500, (name, answer.text)
            if needs_an_id:
                for odd in ("a\nb", "a b", "é", "a/b", "..", "?", "%00"):
                    answer = await submit(operator, name, id=odd, reason="r")
                    assert 400 <= answer.status_code < 500, (name, odd, answer.text)

    async def test_of_a_browser_that_was_logged_out_lead_to_the_log_in(self, browser: httpx.AsyncClient) -> None:
        answer = await submit(browser, "end", id="x", reason="y")
        assert answer.headers["location"] == "/console/login"


class TestTestEvents:
    async def test_are_taken_as_webhooks_are_and_name_the_key(self, world: World, operator: httpx.AsyncClient) -> None:
        allow_test_events(world)
        goal = await a_show(world)
        assert "Send a test event" in (await operator.get(f"/console/goals/{goal['id']}")).text
        join = {"id": goal["id"], "name": "member_added", "user_id": "alice", "reason": "is it wired up?"}
        answer = await submit(operator, "test-event", **join)
        assert (answer.status_code, "karaoke_control" in answer.text) == (200, True)
        assert "acted on it" in answer.text
        mallory = await submit(operator, "test-event", **{**join, "user_id": "mallory"})
        assert "not a participant" in mallory.text
        world.clock.move_on(60)
        await world.post(f"/v1/goals/{goal['id']}/test-events", {"name": "member_removed", "user_id": "alice"})
        await world.settle()
        assert (await world.get(f"/v1/goals/{goal['id']}"))["progress"] == 60
        acts = (await world.get("/v1/audit?operation=send_test_event&order=desc"))["items"]
        assert [(one["via"], one.get("reason")) for one in acts[1:]] == [("console", "is it wired up?")] * 2
        await world.context.recorder.flush()
        world.clock.move_on(2)
        assert "test event by env" in (await operator.get("/console/webhooks")).text
        assert "None has been taken." in (await operator.get("/console/start")).text, "Pusher has not told anything"

    async def test_are_refused_unless_the_settings_allow_them(self, world: World, operator: httpx.AsyncClient) -> None:
        goal = await a_show(world)
        assert "Send a test event" not in (await operator.get(f"/console/goals/{goal['id']}")).text
        answer = await submit(operator, "test-event", id=goal["id"], name="member_added", reason="x")
        assert (answer.status_code, "GOALSVC_TEST_EVENTS" in answer.text) == (409, True)
        allow_test_events(world)
        for fields in ({"id": "0" * 24}, {"name": "explode"}, {"user_id": "<b>"}):
            wrong = await submit(
                operator, "test-event", **{"id": goal["id"], "name": "member_added", "reason": "x", **fields}
            )
            assert wrong.status_code in (404, 422), fields
        request = {"kind": "FundingGoal", "session_id": goal["conditions"]["session_id"]}
        plan = {"levels": [{"title": "Fund it", "target": 5}], "metadata": {"show": {"title": "x", "target": 5}}}
        funding = await world.post("/v1/goals", {**request, **plan})
        wrong = await submit(operator, "test-event", id=funding["id"], name="member_added", reason="x")
        assert (wrong.status_code, "has no clock" in wrong.text) == (409, True)


def allow_test_events(world: World) -> None:
    settings = world.context.settings.model_copy(update={"test_events": "on"})
    world.app.state.context = replace(world.app.state.context, settings=settings)


class TestKeys:
    async def test_are_created_shown_once_rolled_and_revoked(self, world: World, operator: httpx.AsyncClient) -> None:
        fields = {"name": "the shop", "scopes": ["read", "write"], "reason": "they sell tokens", "key": "a" * 32}
        made = await operator.post("/console/keys", data=fields, headers=FROM_HERE)
        shown = re.search(r"gsk_[A-Za-z0-9_-]{43}", made.text)
        assert shown is not None
        assert shown[0] not in (await operator.get("/console/keys")).text
        (key,) = (await world.get("/v1/keys"))["items"]
        assert (key["name"], key["scopes"]) == ("the shop", ["read", "write"])
        data = {"id": key["id"], "reason": "a leak"}
        rolled = await operator.post("/console/keys", data=data, headers=FROM_HERE)
        assert re.search(r"gsk_[A-Za-z0-9_-]{43}", rolled.text)
        revoked = await submit(operator, "revoke-key", id=key["id"], reason="a leak")
        assert revoked.headers["location"] == "/console/keys?did=revoke-key"
        assert (await world.get(f"/v1/keys/{key['id']}"))["revoked_at"] is not None

    async def test_with_a_bad_name_say_which_rule_was_broken(self, operator: httpx.AsyncClient) -> None:
        fields = {"name": "<b>", "scopes": ["read"], "reason": "x"}
        answer = await operator.post("/console/keys", data=fields, headers=FROM_HERE)
        assert answer.status_code == 422
        assert "name" in answer.text
