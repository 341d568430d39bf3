"""The console's pages: who may see them, what protects them, and that they say what the documents say."""

import json
import re
from datetime import timedelta
from html import escape, unescape
from urllib.parse import quote

import httpx
from bson import ObjectId
from fastapi import FastAPI

from goalsvc.clock import to_epoch_milliseconds
from goalsvc.console.access import COOKIE
from goalsvc.console.explaining import rule
from goalsvc.console.pictures.ribbon import Party
from goalsvc.console.queries.money import MOST_LINES
from goalsvc.console.queries.webhooks import MOST_SHOWN
from goalsvc.console.routing import console_router
from goalsvc.models.goal import Goal
from goalsvc.models.records import TraceSegment
from tests.world import API_KEY, World

from .conftest import FROM_HERE, a_key, hear, log_in

PAGES = (
    "",
    "/search?q=x",
    "/live",
    "/webhooks",
    "/webhooks?which=late",
    "/health",
    "/dead-letters",
    "/start",
    "/reconciliation",
    "/replay",
    "/keys",
    "/audit",
    "/deliveries",
    "/users/alice",
    "/escrows/show_funding:0",
)


class TestLogIn:
    async def test_is_asked_for_and_leads_back(self, browser: httpx.AsyncClient) -> None:
        for path in PAGES:
            answer = await browser.get(f"/console{path}")
            assert answer.status_code == 303
            assert answer.headers["location"].startswith("/console/login?to=%2Fconsole")

    async def test_refuses_other_keys(self, browser: httpx.AsyncClient) -> None:
        for key in ("", "wrong", "gsk_" + "a" * 43, "é" * 50):
            answer = await log_in(browser, key)
            assert answer.status_code == 401
            assert "set-cookie" not in answer.headers
            assert "not valid" in answer.text

    async def test_the_cookie_holds_no_key_and_is_well_guarded(self, browser: httpx.AsyncClient) -> None:
        cookie = (await log_in(browser, API_KEY)).headers["set-cookie"]
        assert cookie.startswith(f"{COOKIE}=")
        assert API_KEY not in cookie
        for word in ("HttpOnly", "Secure", "SameSite=strict", "Path=/", "Max-Age=43200"):
            assert word in cookie

    async def test_leads_nowhere_else(self, browser: httpx.AsyncClient) -> None:
        for to in ("https://evil.test/", "//evil.test", "/console//evil.test", "/v1/goals", ""):
            assert (await log_in(browser, API_KEY, to=to)).headers["location"] == "/console"

    async def test_from_another_site_is_refused(self, browser: httpx.AsyncClient) -> None:
        elsewhere: list[dict[str, str]] = [{}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.test"}]
        for headers in elsewhere:
            answer = await browser.post("/console/login", data={"key": API_KEY}, headers=headers)
            assert answer.status_code == 403

    async def test_a_forged_cookie_is_none(self, operator: httpx.AsyncClient) -> None:
        value = operator.cookies[COOKIE]
        operator.cookies.clear()
        operator.cookies.set(COOKIE, value[:-1] + ("0" if value[-1] != "0" else "1"), domain="goalsvc.test")
        assert (await operator.get("/console")).status_code == 303

    async def test_lasts_twelve_hours(self, world: World, operator: httpx.AsyncClient) -> None:
        assert (await operator.get("/console")).status_code == 200
        world.clock.move_on(12 * 3600 + 1)
        assert (await operator.get("/console")).status_code == 303


class TestEveryPage:
    async def test_is_guarded(self, operator: httpx.AsyncClient) -> None:
        for path in PAGES:
            answer = await operator.get(f"/console{path}")
            assert answer.status_code == 200
            assert answer.headers["cache-control"] == "no-store"
            policy = answer.headers["content-security-policy"]
            assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert " style=" not in answer.text
            assert not re.search(r"<script(?![^>]*src=)", answer.text)
            assert not re.search(r"(?:src|href)=\"https?://", answer.text)

    async def test_of_what_is_not_there_says_so(self, operator: httpx.AsyncClient) -> None:
        for path in ("goals/nonsense", "goals/" + "0" * 24, "sessions/" + "0" * 24, "transfers/none"):
            answer = await operator.get(f"/console/{path}")
            assert (answer.status_code, "There is no" in answer.text) == (404, True)


MARKUP = "<script>alert(1)</script>\u202e😀"


class TestAGoal:
    async def test_is_told_with_its_seconds_and_its_money(self, world: World, operator: httpx.AsyncClient) -> None:
        session = await world.post("/v1/sessions", {"user_id": "alice"})
        funding = await world.post(
            "/v1/goals",
            {
                "kind": "FundingGoal",
                "session_id": session["id"],
                "levels": [{"title": MARKUP, "target": 50}],
                "metadata": {"show": {"title": MARKUP, "target": 60}},
            },
        )
        await world.post("/v1/wallets/bob/deposits", {"amount": 50})
        await world.post(f"/v1/goals/{funding['id']}/contributions", {"user_id": "bob", "amount": 50})
        await world.settle()
        goals = (await world.get(f"/v1/goals?session_id={session['id']}"))["items"]
        (show,) = [goal for goal in goals if goal["kind"] == "ShowGoal"]
        await hear(world, "member_added", show["id"], "alice")
        await world.after(seconds=5)
        await hear(world, "member_added", show["id"], "mallory")
        await world.after(seconds=55)
        await hear(world, "member_removed", show["id"], "alice")
        await world.settle()

        text = (await operator.get(f"/console/goals/{show['id']}")).text
        assert "<script>alert" not in text
        assert "&lt;script&gt;alert(1)" in text
        assert "The goal reached its target with 60 of 60 s." in text
        assert "mallory joined or left once and it did not count: mallory is not a participant of the goal" in text
        assert "Σ 0" in text
        why_not = await world.get(f"/v1/goals/{show['id']}/why-not")
        assert why_not["sentence"].split("“")[0] in text
        picture = await operator.get(f"/console/goals/{show['id']}/timeline.svg")
        assert picture.headers["content-type"].startswith("image/svg+xml")
        assert "<script>alert" not in picture.text
        escrow = (await operator.get(f"/console/escrows/show_funding:{funding['id']}")).text
        assert "2 transfers sum to 0; the balance is 0." in escrow
        wallet = (await operator.get("/console/users/alice")).text
        assert "+50" in wallet
        trace = (await operator.get(f"/console/goals/{show['id']}/trace")).text
        assert "karaoke_control" in trace
        assert "escrow_out" in trace
        (share,) = (await world.get("/v1/transfers?user_id=alice"))["items"]
        address = f"/console/transfers/{quote(share['id'], safe='')}"
        assert address in wallet, "one click leads from the tokens to their cause"
        page = (await operator.get(address)).text
        why = await world.get(f"/v1/transfers/{share['id']}/why")
        assert why["sentence"].startswith("alice received 50 tokens")
        assert "second 60 was performed at 2026-03-01 20:01" in why["sentence"]
        assert re.search(r"that arrived \d+\.\d s later", why["sentence"])
        assert escape(why["sentence"], quote=True).replace("&#x27;", "&#39;") in page.replace("&#34;", "&quot;")
        cause = re.search(rf"/console(/goals/{show['id']}/trace\?root=[0-9a-f]{{24}})", page)
        assert cause is not None, "and one more to the webhook"
        told = (await operator.get(f"/console{cause[1]}")).text
        assert re.search(r"Pusher told at [\d:]+, \d+ ms late, that alice left at [\d:]+ \(member_removed\)\.", told)

    async def test_is_found_by_its_id(self, world: World, operator: httpx.AsyncClient) -> None:
        session = await world.post("/v1/sessions", {"user_id": "alice"})
        answer = await operator.get(f"/console/search?q={session['id']}")
        assert answer.headers["location"] == f"/console/sessions/{session['id']}"
        nothing = await operator.get("/console/search?q=<b>")
        assert "Nothing has the id <code>&lt;b&gt;</code>" in nothing.text


class TestKeys:
    async def test_without_the_scope_see_which_one_they_lack(self, world: World, browser: httpx.AsyncClient) -> None:
        key = await a_key(world, "write")
        assert (await log_in(browser, key["key"])).status_code == 303
        answer = await browser.get("/console/health")
        assert answer.status_code == 403
        assert "has not the scope read" in answer.text

    async def test_that_are_revoked_while_the_page_is_open_are_logged_out(
        self, world: World, browser: httpx.AsyncClient
    ) -> None:
        key = await a_key(world, "read")
        await log_in(browser, key["key"])
        assert (await browser.get("/console/health")).status_code == 200
        await world.call("DELETE", f"/v1/keys/{key['id']}")
        assert (await browser.get("/console/health")).status_code == 303


class TestLive:
    async def test_shows_what_arrived(self, world: World, operator: httpx.AsyncClient) -> None:
        await hear(world, "member_added", "0" * 24, "alice")
        await world.context.recorder.flush()
        world.clock.move_on(timedelta(seconds=2).total_seconds())
        await world.post("/v1/wallets/bob/deposits", {"amount": 7})
        await world.context.recorder.flush()
        text = (await operator.get("/console/live")).text
        assert "webhook member_added" in text
        assert "7 tokens by env done" in text
        calls = (await operator.get("/console/live?kind=call")).text
        assert "webhook member_added" not in calls
        assert "7 tokens by env done" in calls


class TestWebhooks:
    async def test_that_were_late_or_refused_are_shown_with_how_late_and_why(
        self, world: World, operator: httpx.AsyncClient
    ) -> None:
        event = {"name": "member_added", "channel": f"presence-enc-goal@{'0' * 24}", "user_id": MARKUP}
        late = to_epoch_milliseconds(world.clock.now()) - 30_200
        assert (await world.webhook({"time_ms": late, "events": [event]})).status_code == 200
        await world.client.post("/notify/pusher", content=json.dumps({}), headers={"X-Pusher-Key": "unknown"})
        await world.context.recorder.flush()
        world.clock.move_on(2)
        text = (await operator.get("/console/webhooks")).text
        assert "Of 2 webhook events 1 was refused; 1 arrived more than 5 s late, the slowest 30.2 s." in text
        assert "<script>alert" not in text
        assert "does not sign this body" in (await operator.get("/console/webhooks?which=refused")).text
        assert "30.2 s" in (await operator.get("/console/webhooks?which=late")).text

    async def test_that_arrived_in_one_millisecond_are_never_divided_between_pages(
        self, world: World, operator: httpx.AsyncClient
    ) -> None:
        instants = [world.clock.now() - timedelta(seconds=1 + at // 30) for at in range(2 * MOST_SHOWN)]
        world.database.traces.insert_many(
            {"at": at, "node": {"kind": "webhook", "name": "member_added", "user_id": f"user-{number}-"}}
            for number, at in enumerate(instants)
        )
        path, shown = "/console/webhooks", list[str]()
        while path:
            text = (await operator.get(path)).text
            shown += re.findall(r"<bdi>(user-\d+-)</bdi>", text)
            older = re.search(r'href="([^"]*until=[^"]*)">Older ones', text)
            path = f"/console/webhooks{unescape(older[1])}" if older else ""
        assert sorted(shown) == sorted(f"user-{number}-" for number in range(2 * MOST_SHOWN))


class TestStatements:
    async def test_are_read_page_by_page_without_a_gap(self, world: World, operator: httpx.AsyncClient) -> None:
        for number in range(1, MOST_LINES + 6):
            await world.post("/v1/wallets/bob/deposits", {"amount": number})
        path, text = "/console/users/bob", ""
        changes: list[int] = []
        while path:
            text = (await operator.get(path)).text
            lines = re.findall(r'<td class="n">\+([\d ]+)</td>', text)
            assert len(lines) <= MOST_LINES
            changes = [int(line.replace(" ", "")) for line in lines] + changes
            earlier = re.search(r'href="\?before=([^"]+)"', text)
            path = f"/console/users/bob?before={earlier[1]}" if earlier else ""
            if earlier is None:
                assert 'Opening</td><td class="n">0</td>' in text
        assert sorted(changes) == list(range(1, MOST_LINES + 6))
        assert f"{MOST_LINES + 5} transfers sum to" in text


ODD = (
    "<img src=x onerror=alert(1)>",
    "\u202eright to left",
    "W" * 256,
    "😀" * 128,
    "' onmouseover='alert(1)",
    "{{ 7 * 7 }}",
)


class TestBadInput:
    async def test_in_titles_names_and_tags_is_shown_as_text_and_breaks_nothing(
        self, world: World, operator: httpx.AsyncClient
    ) -> None:
        for odd in ODD:
            await world.call("PUT", "/v1/users/alice", {"username": odd, "tags": [odd]})
            session = await world.post("/v1/sessions", {"user_id": "alice"})
            levels = [{"title": odd, "target": 60}]
            goal = await world.post(
                "/v1/goals",
                {"kind": "ShowGoal", "session_id": session["id"], "levels": levels, "metadata": {"odd": odd}},
            )
            await hear(world, "member_added", goal["id"], odd)
            await hear(world, "member_added", goal["id"], "alice")
            await world.context.recorder.flush()
            await world.settle()
            for path in (f"/goals/{goal['id']}", f"/sessions/{session['id']}", "/users/alice", "/live", "/webhooks"):
                answer = await operator.get(f"/console{path}")
                assert answer.status_code == 200, (path, odd)
                assert "<img src=x" not in answer.text
                assert "' onmouseover='" not in answer.text
            assert escape(odd) in (await operator.get(f"/console/goals/{goal['id']}")).text.replace("&#39;", "&#x27;")

    async def test_in_addresses_says_what_is_not_there(self, world: World, operator: httpx.AsyncClient) -> None:
        session = await world.post("/v1/sessions", {"user_id": "alice"})
        for path in (
            f"/goals/{session['id']}",
            f"/goals/{session['id']}/seconds",
            "/clips/x",
            f"/clips/{session['id']}",
            f"/events/evt_{'0' * 32}",
            f"/deliveries/whe_{'0' * 24}",
            "/act/nothing",
            "/users/%00",
            "/escrows/nothing",
            "/transfers/a/b/c",
            "/dead-letters?id=%00",
            "/audit?cursor=x",
            "/live/stream/x",
            "/webhooks?which=odd",
            "/webhooks?until=-1",
        ):
            answer = await operator.get(f"/console{path}")
            assert answer.status_code in (200, 404, 405, 422), path


class TestAnEvent:
    async def test_is_shown_with_its_cause_and_can_be_sent_again(
        self, world: World, operator: httpx.AsyncClient
    ) -> None:
        await world.post("/v1/sessions", {"user_id": "alice"})
        await world.post("/v1/wallets/bob/deposits", {"amount": 7})
        await world.settle()
        for event in (await world.get("/v1/events"))["items"]:
            found = await operator.get(f"/console/search?q={event['id']}")
            text = (await operator.get(found.headers["location"])).text
            assert f"<h1>{event['type']}</h1>" in text
            assert "by key env" in text
            fields = {"id": event["id"], "reason": "the shop lost it"}
            sent = await operator.post("/console/act/resend", data=fields, headers=FROM_HERE)
            assert sent.headers["location"] == f"/console/events/{event['id']}?did=resend"


class TestASlowDatabase:
    async def test_is_said_on_a_plain_page(self, world: World) -> None:
        router = console_router()

        @router.get("/slow")
        async def slow() -> None:
            where = {"$where": "sleep(2000) || true"}
            await Goal.get_motor_collection().find(where).max_time_ms(30).to_list(1)

        await a_key(world, "read")
        await Goal.get_motor_collection().insert_one({"_cls": "Goal.ShowGoal"})
        app = FastAPI()
        app.include_router(router)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://goalsvc.test") as client:
            answer = await client.get("/console/slow")
        assert answer.status_code == 503
        assert "The database took longer than three seconds to answer this page." in answer.text
        await Goal.get_motor_collection().delete_many({})


class TestFiles:
    async def test_are_what_the_api_answers_with_the_headers_of_the_console(
        self, world: World, operator: httpx.AsyncClient
    ) -> None:
        await world.post("/v1/wallets/bob@x/deposits", {"amount": 7})
        text = (await operator.get("/console/users/bob@x")).text
        (address,) = re.findall(r'href="(/console/users/[^"]+/statement\.csv)"', text)
        answer = await operator.get(address)
        assert answer.headers["content-type"].startswith("text/csv")
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.text == (await world.call("GET", "/v1/wallets/bob@x/statement?format=csv")).text
        assert answer.text.count("\n") == 4
        operator.cookies.clear()
        assert (await operator.get(address)).status_code == 303


class TestAnEscrow:
    async def test_says_by_which_rule_it_is_settled_and_what_became_of_its_shares(
        self, world: World, operator: httpx.AsyncClient
    ) -> None:
        session = await world.post("/v1/sessions", {"user_id": "alice"})
        levels, plan = [{"title": "Fund it", "target": 50}], {"show": {"title": "Ukulele", "target": 60}}
        goal = {"kind": "FundingGoal", "session_id": session["id"], "levels": levels, "metadata": plan, "fee_bps": 250}
        funding = await world.post("/v1/goals", goal)
        await world.post("/v1/wallets/bob/deposits", {"amount": 50})
        await world.post(f"/v1/goals/{funding['id']}/contributions", {"user_id": "bob", "amount": 20})
        path = f"/console/escrows/show_funding:{funding['id']}"
        text = (await operator.get(path)).text
        assert "Rule: each contribution goes to the streamer when the show reaches its last level" in text
        assert "The platform&#39;s fee is 2.5 % of each payout, rounded down." in text
        assert "0 tokens are paid, 0 are refunded, 20 are held." in text
        (transfer,) = world.database.transfers.find({"credit": f"escrow:show_funding:{funding['id']}"})
        digest = transfer["_id"].rpartition("-")[2]
        assert f"contribution <code>{transfer['metadata']['doc_id']}</code>, key digest" in text
        assert f'title="{digest}"' in text
        assert len(digest) == 40
        (await operator.get(f"{path}/statement.csv")).raise_for_status()
        await world.post(f"/v1/goals/{funding['id']}/end")
        await world.settle()
        assert "0 tokens are paid, 20 are refunded, 0 are held." in (await operator.get(path)).text

    def test_that_is_divided_says_how(self) -> None:
        stored = {"_id": ObjectId(), "_cls": "Goal.ExclusiveGoal", "active": False, "progress": 74}
        goal = Goal.parse({**stored, "levels": [{"title": "", "target": 120}], "metadata": {"user_id": "alice"}})
        escrow = f"exclusive:{goal.id}"
        told = rule(escrow, goal, ([Party("bob", 300)], [Party("alice", 185), Party("bob", 115)]), 500)
        assert told == (
            "Rule: the performer is paid by the second, and what was not performed goes back to the viewer. "
            "The platform's fee is 5 % of each payout, rounded down. "
            "300 tokens × 74 s of 120 s, rounded down, are 185 for the performer, and the remainder of 115 goes back."
        )
        assert "300" not in rule(escrow, goal, ([Party("bob", 300)], []), 0), "before it is divided"
        assert rule("other:x", goal, None, 0) == rule(escrow, None, None, 0) == ""


class TestATrace:
    async def test_has_earlier_pieces_on_further_pages_and_none_twice(
        self, world: World, operator: httpx.AsyncClient
    ) -> None:
        now, goal_id = world.clock.now(), "a" * 24
        await TraceSegment.get_motor_collection().insert_many(
            [
                {
                    "_id": f"{number:024x}",
                    "goal_id": goal_id,
                    "at": now + timedelta(milliseconds=number // 2),
                    "node": {"kind": "call", "name": f"call-{number}-", "outcome": "done", "at": now, "children": []},
                }
                for number in range(301)
            ]
        )
        path, seen = f"/console/goals/{goal_id}/trace?all=true", list[str]()
        while path:
            text = (await operator.get(path)).text
            seen += re.findall(r"<summary>call <strong>(call-\d+-)", text)
            earlier = re.search(r'href="(\?[^"]*upto=\d+)"', text)
            path = f"/console/goals/{goal_id}/trace{unescape(earlier[1])}" if earlier else ""
            assert "all=true" in path or not path
        assert sorted(seen) == sorted(f"call-{number}-" for number in range(301))
