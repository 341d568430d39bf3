"""The console in a real browser: reachable by keyboard, usable without scripts, without a violation of WCAG that axe knows."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from playwright.sync_api import expect

from goalsvc.commands.api import signed_headers
from tests.e2e.goalsvc_api import eventually

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

KEY = "goalsvc-api-key"


@pytest.fixture(scope="module")
def evening(dev: dict[str, Any]) -> Iterator[dict[str, str]]:
    """A show that was funded by three viewers, performed and paid: the ids of what there is."""
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=dev["api_url"], headers=headers, trust_env=False, timeout=20) as api:

        def post(path: str, body: dict[str, Any], key: str = "") -> dict[str, Any]:
            answer = api.post(path, json=body, headers={"Idempotency-Key": key or f"{path}{body}"})
            made: dict[str, Any] = answer.raise_for_status().json()
            return made

        session = post("/v1/sessions", {"user_id": "console-alice"})
        body = {"kind": "FundingGoal", "session_id": session["id"], "levels": [{"title": "Fund it", "target": 60}]}
        funding = post("/v1/goals", {**body, "metadata": {"show": {"title": "Ukulele", "target": 30}}})
        for viewer in ("console-bob", "console-carol", "console-dave"):
            post(f"/v1/wallets/{viewer}/deposits", {"amount": 20})
            post(f"/v1/goals/{funding['id']}/contributions", {"user_id": viewer, "amount": 20})

        def shows() -> list[dict[str, Any]]:
            items = api.get("/v1/goals", params={"session_id": session["id"]}).raise_for_status().json()["items"]
            return [goal for goal in items if goal["kind"] == "ShowGoal"]

        show = eventually(shows, bool)[0]["id"]
        send(dev, "member_added", show, "console-alice")
        send(dev, "member_added", show, "mallory")
        post("/v1/test-clock/advance", {"seconds": 31})
        send(dev, "member_removed", show, "console-alice")
        eventually(
            lambda: api.get("/v1/wallets/console-alice").json(),
            lambda wallet: wallet["balance"] == 60,
        )
        yield {"session": session["id"], "funding": funding["id"], "show": show}


def send(dev: dict[str, Any], name: str, goal: str, user: str) -> None:
    """Posts a signed webhook, dated by its receipt."""
    event = {"name": name, "channel": f"presence-enc-goal@{goal}", "user_id": user}
    body = json.dumps({"timestamp": "", "events": [event]}).encode()
    headers = signed_headers(body, "goalsvc-key", "goalsvc-secret")
    httpx.post(f"{dev['api_url']}/notify/pusher", content=body, headers=headers, trust_env=False).raise_for_status()


@pytest.fixture
def console(visit: "BrowserContext", dev: dict[str, Any]) -> "Page":
    """The console, after the log-in."""
    page = visit.new_page()
    page.goto(f"{dev['api_url']}/console")
    page.get_by_label("API key").fill(KEY)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="From any id to its cause")).to_be_visible()
    return page


def look_up(page: "Page", text: str) -> None:
    page.keyboard.press("/")
    page.keyboard.type(text)
    page.keyboard.press("Enter")


class TestQuestions:
    def test_why_did_the_performer_get_these_tokens(self, console: "Page", evening: dict[str, str]) -> None:
        look_up(console, "console-alice")
        console.get_by_role("link", name="Why 20 tokens").first.click()
        expect(console.get_by_text("console-alice received 20 tokens at").first).to_be_visible()
        expect(console.get_by_text("because the ShowGoal “Ukulele” reached level 1 (30 s)").first).to_be_visible()

    def test_which_joins_did_not_count_and_why(self, console: "Page", evening: dict[str, str]) -> None:
        look_up(console, evening["show"])
        expect(console.get_by_text("is not a participant of the goal").first).to_be_visible()

    def test_did_pusher_tell_us_late(self, console: "Page", evening: dict[str, str]) -> None:
        look_up(console, evening["show"])
        expect(console.get_by_text("webhook events arrived within 5 s")).to_be_visible()

    def test_is_anything_stuck(self, console: "Page", evening: dict[str, str]) -> None:
        console.get_by_role("link", name="Health", exact=True).click()
        expect(console.get_by_text("Nothing is stuck.")).to_be_visible()

    def test_do_the_books_of_this_escrow_balance(self, console: "Page", evening: dict[str, str]) -> None:
        look_up(console, f"show_funding:{evening['funding']}")
        expect(console.get_by_text("6 transfers sum to 0; the balance is 0.")).to_be_visible()


class TestLive:
    def test_new_lines_come_by_themselves_and_wait_while_paused(
        self, console: "Page", dev: dict[str, Any], evening: dict[str, str]
    ) -> None:
        console.get_by_role("link", name="Live", exact=True).click()
        expect(console.get_by_role("status")).to_have_text("live")
        console.get_by_role("button", name="Pause").click()
        send(dev, "member_added", evening["show"], "latecomer")
        expect(console.get_by_role("status")).to_contain_text("new", timeout=15_000)
        expect(console.get_by_role("status")).not_to_have_text("paused, 0 new", timeout=15_000)
        console.get_by_role("button", name="Resume").click()
        expect(console.get_by_role("status")).to_have_text("live")


class TestAccessibility:
    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_axe_finds_nothing_on_any_page(
        self, chromium: "Browser", dev: dict[str, Any], evening: dict[str, str], scheme: Any
    ) -> None:
        from axe_playwright_python.sync_playwright import Axe

        # axe is handed to the page as a script, which the console's policy refuses to others.
        context = chromium.new_context(color_scheme=scheme, bypass_csp=True)
        page = context.new_page()
        page.goto(f"{dev['api_url']}/console/login")
        found = {"/login": Axe().run(page).response["violations"]}
        page.get_by_label("API key").fill(KEY)
        page.get_by_role("button", name="Log in").click()
        show, funding, session = evening["show"], evening["funding"], evening["session"]
        for path in (
            "",
            "/search?q=nothing",
            f"/goals/{show}",
            f"/goals/{show}/trace",
            f"/escrows/show_funding:{funding}",
            f"/sessions/{session}",
            "/users/console-alice",
            "/dead-letters",
            "/health",
            "/live",
        ):
            page.goto(f"{dev['api_url']}/console{path}")
            found[path] = Axe().run(page).response["violations"]
        context.close()
        told = {
            path: [(one["id"], one["nodes"][0]["html"]) for one in violations] for path, violations in found.items()
        }
        assert {path: violations for path, violations in told.items() if violations} == {}


class TestWithoutScripts:
    def test_every_page_says_the_same(self, chromium: "Browser", dev: dict[str, Any], evening: dict[str, str]) -> None:
        context = chromium.new_context(java_script_enabled=False)
        page = context.new_page()
        page.goto(f"{dev['api_url']}/console")
        page.get_by_label("API key").fill(KEY)
        page.get_by_role("button", name="Log in").click()
        page.get_by_label("Search by id").fill(evening["show"])
        page.get_by_role("button", name="Search").click()
        expect(page.get_by_text("The goal reached its target")).to_be_visible()
        expect(page.get_by_role("img", name="Time line of ShowGoal")).to_be_visible()
        context.close()


class TestNarrowScreens:
    def test_no_page_is_wider_than_320_pixels(
        self, chromium: "Browser", dev: dict[str, Any], evening: dict[str, str]
    ) -> None:
        context = chromium.new_context(viewport={"width": 320, "height": 640})
        page = context.new_page()
        page.goto(f"{dev['api_url']}/console")
        page.get_by_label("API key").fill(KEY)
        page.get_by_role("button", name="Log in").click()
        for path in ("", f"/goals/{evening['show']}", "/users/console-alice", "/health", "/live"):
            page.goto(f"{dev['api_url']}/console{path}")
            assert page.evaluate("document.documentElement.scrollWidth") <= 320, path
        context.close()
