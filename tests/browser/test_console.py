"""The console in a real browser: ten questions of support staff, each by the search box and at most two clicks.

It is usable by keyboard and without scripts, has no violation that axe knows, and says nothing on the browser's console.
"""

import json
import os
import re
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from playwright.sync_api import expect
from pymongo import MongoClient

from tests.support.waiting import read_until

from .looks import looked_at
from .scene import KEY, PAGES, Evening, bury, logged_in, send

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture
def console(operator: "Page", dev: dict[str, Any]) -> Iterator["Page"]:
    """The console, at its search; any message on the browser's console fails the test."""
    said: list[str] = []

    def note(message: Any) -> None:
        said.append(message.text)

    operator.on("console", note)
    operator.goto(f"{dev['api_url']}/console")
    yield operator
    operator.remove_listener("console", note)
    assert said == []


def look_up(page: "Page", text: str) -> None:
    page.keyboard.press("/")
    page.keyboard.type(text)
    page.keyboard.press("Enter")


class TestQuestions:
    """Each ends in the sentence that answers it."""

    def test_why_was_bob_refunded(self, console: "Page", evening: Evening) -> None:
        look_up(console, "console-bob")
        console.get_by_role("link", name="Why 7 tokens", exact=True).click()
        sentence = console.locator(".sentence")
        expect(sentence).to_contain_text("console-bob got 7 tokens back at")
        expect(sentence).to_contain_text(
            "because the FundingGoal “Juggling” ended below its target (had 7 of 60 tokens"
        )

    def test_why_did_alice_get_20_tokens(self, console: "Page", evening: Evening) -> None:
        look_up(console, "console-alice")
        console.get_by_role("link", name="Why 20 tokens").first.click()
        sentence = console.locator(".sentence")
        expect(sentence).to_contain_text("console-alice received 20 tokens at")
        expect(sentence).to_contain_text("because the ShowGoal “Ukulele” reached level 1 (30 s) with 31 s performed")
        expect(sentence).to_contain_text(re.compile(r"second 30 was performed at .* that arrived 12\.\d s later"))

    def test_which_webhook_caused_this_payment(self, console: "Page", evening: Evening) -> None:
        look_up(console, "console-alice")
        console.get_by_role("link", name="Why 20 tokens").first.click()
        console.get_by_role("link", name=re.compile("reported by a webhook")).click()
        expect(console.locator(".sentence")).to_contain_text(
            re.compile(r"Pusher told at .*, 12\.\d s late, that console-alice left at .* \(member_removed\)")
        )

    def test_which_seconds_of_this_show_did_not_count_and_why(self, console: "Page", evening: Evening) -> None:
        look_up(console, evening["show"])
        said = "mallory joined or left once and it did not count: mallory is not a participant of the goal."
        expect(console.get_by_text(said).first).to_be_visible()

    def test_did_pusher_tell_us_late(self, console: "Page", evening: Evening) -> None:
        look_up(console, evening["show"])
        said = re.compile(r"1 of 3 webhook events arrived more than 5 s late; the slowest took 12\.\d s\.")
        expect(console.get_by_text(said)).to_be_visible()

    def test_what_would_a_replay_change(self, console: "Page", evening: Evening) -> None:
        console.get_by_role("link", name="Replay", exact=True).click()
        event = {"name": "member_added", "channel": f"presence-enc-goal@{evening['show']}", "user_id": "console-alice"}
        line = json.dumps({"body": json.dumps({"time_ms": 1_700_000_000_000, "events": [event]})})
        console.get_by_label("Recording").fill(line)
        console.get_by_role("button", name="Show what it would change").click()
        expect(console.locator(".sentence")).to_have_text("A replay would change no goal.")

    def test_is_anything_stuck(self, console: "Page", evening: Evening) -> None:
        console.get_by_role("link", name="Health", exact=True).click()
        expect(console.locator(".sentence")).to_have_text(re.compile("^Nothing is stuck.$|^Nothing waits too long"))

    def test_what_became_of_this_request_of_pushers(self, console: "Page", evening: Evening) -> None:
        look_up(console, evening["request"])
        expect(console.locator(".sentence")).to_have_text(re.compile("^A webhook was refused at .*: bad_signature: "))

    def test_do_the_books_of_this_escrow_balance(self, console: "Page", evening: Evening) -> None:
        look_up(console, f"show_funding:{evening['funding']}")
        said = "All of it is settled: 3 payments came in and 3 went out; 0 tokens are left."
        expect(console.locator(".sentence")).to_have_text(said)
        expect(console.get_by_text("6 transfers sum to 0; the balance is 0.")).to_be_visible()

    def test_who_ended_this_goal_and_why(self, console: "Page", evening: Evening) -> None:
        look_up(console, evening["refunded"])
        console.get_by_role("link", name="Who did what to it, and why").click()
        row = console.get_by_role("row").filter(has_text="end goal")
        expect(row).to_contain_text("the juggler is ill")

    def test_is_my_wiring_right(self, console: "Page", evening: Evening) -> None:
        console.get_by_role("link", name="Start", exact=True).click()
        expect(console.locator(".sentence")).to_contain_text(re.compile("^The wiring is"))
        expect(console.get_by_role("row").filter(has_text="key goalsvc-key")).not_to_contain_text("never")

    def test_does_what_we_believe_agree_with_pusher_and_the_ledger(self, console: "Page", evening: Evening) -> None:
        console.get_by_role("link", name="Reconciliation", exact=True).click()
        expect(console.get_by_text("All accounts sum to 0.")).to_be_visible()


class TestPointing:
    def test_at_a_mark_of_the_time_line_leads_to_its_webhook(self, console: "Page", evening: Evening) -> None:
        look_up(console, evening["show"])
        console.locator("path.mark-refused").first.click()
        expect(console.locator(".sentence")).to_contain_text("that mallory joined at")

    def test_and_dragging_over_it_shows_a_part_whose_address_says_so(self, console: "Page", evening: Evening) -> None:
        look_up(console, evening["show"])
        picture = console.locator("svg[data-axis]")
        picture.scroll_into_view_if_needed()
        box = picture.bounding_box()
        assert box is not None
        middle = box["y"] + box["height"] * 0.55
        console.mouse.move(box["x"] + box["width"] * 0.3, middle)
        console.mouse.down()
        console.mouse.move(box["x"] + box["width"] * 0.4, middle, steps=3)
        expect(console.locator("rect.brush")).to_have_count(1)
        console.mouse.move(box["x"] + box["width"] * 0.5, middle, steps=3)
        console.mouse.up()
        console.wait_for_url(re.compile(r"/goals/\w+\?from=[\d%A-Z.T-]+&to="))
        expect(console.get_by_text("joins and leaves in this range")).to_be_visible()
        expect(console.locator("path.mark-refused")).to_have_count(0)
        shown = [console.get_by_label(name, exact=True).input_value() for name in ("From", "to")]
        assert shown[0] < shown[1]
        console.get_by_role("link", name="The whole time line").click()
        expect(console.locator("path.mark-refused")).to_have_count(1)

    def test_at_copy_puts_the_id_on_the_clipboard(self, console: "Page", evening: Evening) -> None:
        console.context.grant_permissions(["clipboard-read", "clipboard-write"])
        look_up(console, evening["show"])
        expect(console.get_by_role("button", name="Copy", exact=True)).to_be_visible()
        console.keyboard.press("c")
        expect(console.get_by_role("button", name="Copied")).to_be_visible()
        assert console.evaluate("navigator.clipboard.readText()") == evening["show"]


class TestActing:
    def test_a_test_event_is_sent_with_a_reason_and_says_what_came_of_it(
        self, console: "Page", evening: Evening
    ) -> None:
        look_up(console, evening["open"])
        form = console.locator("form", has=console.get_by_role("button", name="Send a test event"))
        form.get_by_label("Event").select_option("member_added")
        form.get_by_label("Reason").fill("is it wired up?")
        form.get_by_role("button", name="Send a test event").click()
        expect(console.locator(".sentence")).to_contain_text("member_added of console-erin")
        row = console.get_by_role("row").filter(has_text="karaoke_control")
        expect(row).to_contain_text("started")
        console.get_by_role("link", name="Back to the goal").click()
        expect(console.get_by_text("running", exact=True)).to_be_visible()

    def test_asks_for_a_reason_and_tells_what_was_done(
        self, console: "Page", dev: dict[str, Any], evening: Evening
    ) -> None:
        look_up(console, evening["session"])
        console.get_by_label("Reason").fill("the evening is over")
        console.get_by_role("button", name="End the session and its open goals").click()
        expect(console.get_by_role("status")).to_have_text("The session was ended, with its open goals.")


class TestEveryPage:
    """Each is opened once, and looked at in the light, in the dark, and on a narrow screen."""

    def test_has_nothing_that_axe_finds_and_is_not_wider_than_320_pixels(
        self, chromium: "Browser", dev: dict[str, Any], evening: Evening
    ) -> None:
        # axe is handed to the page as a script, which the console's policy refuses to others.
        context = chromium.new_context(bypass_csp=True)
        tabs = [context.new_page() for _ in range(TABS)]
        page = tabs[0]
        page.goto(f"{dev['api_url']}/console/login")
        found = looked_at({"/login": page})
        page.get_by_label("API key").fill(KEY)
        page.get_by_role("button", name="Log in").click()
        for first in range(0, len(PAGES), TABS):
            shown = dict(zip(PAGES[first : first + TABS], tabs, strict=False))
            for path, tab in shown.items():
                tab.goto(f"{dev['api_url']}/console{path.format(**evening)}")
            found |= looked_at(shown)
        asked, refused, *_ = tabs
        asked.goto(f"{dev['api_url']}/console/reconciliation")
        asked.get_by_label("Reason").fill("to be sure")
        asked.get_by_role("button", name="Ask Pusher now").click()
        said = re.compile(r"Pusher said that \d+ presence channels are occupied")
        expect(asked.locator(".sentence")).to_contain_text(said)
        refused.goto(f"{dev['api_url']}/console/clips/{evening['failed_clip']}")
        refused.get_by_label("Reason").fill("its source is there again")
        refused.get_by_role("button", name="Cut again").click()
        expect(refused.get_by_role("heading", name="It was not done")).to_be_visible()
        found |= looked_at({"after asking Pusher": asked, "after an act that was refused": refused})
        context.close()
        assert found == {}


#: So many pages are looked at side by side: each is a process of the browser, and axe is busy in one at a time.
TABS = 3


class TestLive:
    def test_new_lines_wait_while_paused_and_none_is_missed_when_the_api_stops(
        self, chromium: "Browser", dev: dict[str, Any], evening: Evening
    ) -> None:
        page = logged_in(chromium, dev)
        page.get_by_role("link", name="Live", exact=True).click()
        state = page.get_by_role("status")
        expect(state).to_have_text("live")
        page.get_by_role("button", name="Pause").click()
        send(dev, "member_added", evening["show"], "latecomer")
        expect(state).to_have_text(re.compile(r"paused, [1-9]\d* new"), timeout=15_000)
        page.get_by_role("button", name="Resume").click()
        expect(page.get_by_text("latecomer")).to_have_count(1)
        expect(
            page.get_by_text(re.compile(r"^delivery goal\.\S+ to whe_\w+, pending, .*again at")).first
        ).to_be_attached()
        os.kill(dev["pids"]["api"], signal.SIGTERM)
        expect(state).to_have_text(re.compile("^lost since .*; connecting$"), timeout=15_000)
        with MongoClient[dict[str, Any]](dev["mongodb_url"]) as documents:
            meanwhile(documents, evening["show"], [f"away-{number}" for number in range(5)])
        read_until(lambda: answers(dev, evening["show"]), bool)
        expect(state).to_have_text("live", timeout=15_000)
        expect(page.get_by_text("away-4")).to_have_count(1, timeout=15_000)
        lines = page.locator("[data-tail] li", has_text="away-").all_inner_texts()
        assert [line.split()[-2] for line in lines] == [f"away-{number}" for number in (4, 3, 2, 1, 0)], "no gap"
        expect(page.get_by_text("as-soon-as-possible")).to_have_count(1, timeout=15_000)
        expect(page.get_by_text("latecomer")).to_have_count(1)
        page.context.close()


def meanwhile(documents: "MongoClient[dict[str, Any]]", goal: str, users: list[str]) -> None:
    """Writes webhooks into the trace, as another process of the API would while this one is away."""
    now = documents.admin.command("hello")["localTime"]
    node = {"kind": "webhook", "name": "member_added", "outcome": "done", "at": now, "ms": 1.0, "children": []}
    documents.get_default_database()["traces"].insert_many(
        [{"at": now, "goal_id": goal, "node": {**node, "user_id": user}} for user in users]
    )


def answers(dev: dict[str, Any], show: str) -> bool:
    """Whether the API is there again; the first webhook that it takes is what the live tail must not miss."""
    try:
        send(dev, "member_added", show, "as-soon-as-possible")
    except httpx.HTTPError:
        return False
    return True


class TestRedriving:
    """At the end: what it sets going fills the live tail."""

    def test_shows_how_far_it_is_while_it_goes_on(self, console: "Page", dev: dict[str, Any], evening: Evening) -> None:
        with MongoClient[dict[str, Any]](dev["mongodb_url"]) as documents:
            users = [f"console-{number:04d}" for number in range(600)]
            documents.get_default_database()["users"].insert_many([{"_id": user} for user in users])
            bury(documents, [f"users/{user}/StopRecord" for user in users], "rtc_away")
        console.goto(f"{dev['api_url']}/console/dead-letters")
        row = console.get_by_role("row").filter(has_text="rtc_away").first
        row.get_by_label("Reason").fill("BytePlus is back")
        row.get_by_role("button", name="Try 600 again").click()
        expect(console.get_by_text("600 of 600 letters are promised again.")).to_be_visible()
        expect(console.get_by_text("finished", exact=True)).to_be_visible()
