"""Every page of the console by keyboard alone, and without JavaScript."""

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from .scene import KEY, PAGES, Evening, logged_in

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

#: Notes what gets the focus, and whether that can be seen.
WATCH = """() => {
  const seen = window.seen = new Map();
  document.addEventListener("focusin", ({target}) => {
    const style = getComputedStyle(target), box = target.getBoundingClientRect();
    const outlined = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
    seen.set(target, outlined && box.width > 0 && box.right > 0 && box.left < innerWidth);
  });
  const stops = "a[href], button, input:not([type=hidden]), select, textarea, summary, video[controls], [tabindex='0']";
  window.stops = [...document.querySelectorAll(stops)].filter((one) => one.checkVisibility());
}"""
MISSED = """() => window.stops.filter((one) => !window.seen.get(one)).map((one) =>
  `${one.outerHTML.slice(0, 120)}: ${window.seen.has(one) ? "the focus cannot be seen" : "not reached"}`)"""
#: How often Tab is pressed before it is asked whether all is reached; a date has several stops of its own.
AT_ONCE, MOST = 15, 400


class TestByKeyboard:
    def test_every_page_has_all_that_can_be_used_within_reach_and_shows_where_the_focus_is(
        self, chromium: "Browser", dev: dict[str, Any], evening: Evening
    ) -> None:
        page = chromium.new_page()
        page.goto(f"{dev['api_url']}/console/login")
        missed = tabbed_through(page, "/login")
        page.get_by_label("API key").fill(KEY)
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="From any id to its cause")).to_be_visible()
        for path in PAGES:
            page.goto(f"{dev['api_url']}/console{path.format(**evening)}")
            missed |= tabbed_through(page, path)
        page.context.close()
        assert missed == {}

    def test_an_operator_logs_in_finds_reads_acts_and_logs_out(
        self, chromium: "Browser", dev: dict[str, Any], evening: Evening
    ) -> None:
        page = chromium.new_page()
        page.goto(f"{dev['api_url']}/console")
        expect(page.get_by_label("API key")).to_be_focused()  # on a busy machine a moment after the page is loaded
        page.keyboard.type(KEY)
        page.keyboard.press("Enter")
        page.wait_for_url("**/console")
        page.keyboard.press("Tab")
        expect(page.locator(":focus")).to_have_text("Skip to the content")
        page.keyboard.press("/")
        page.keyboard.type(evening["show"])
        page.keyboard.press("Enter")
        expect(page.get_by_text("The goal reached its target")).to_be_visible()
        page.keyboard.press("j")
        first = page.locator(":focus").inner_text()
        page.keyboard.press("j")
        assert page.locator(":focus").inner_text() != first
        page.keyboard.press("k")
        expect(page.locator(":focus")).to_have_text(first)
        tab_to(page, "summary")
        page.keyboard.press("Enter")
        expect(page.get_by_role("region", name="Joins and leaves")).to_be_visible()
        tab_to(page, "input[name=reason]")
        page.keyboard.type("the tokens belong to bob")
        tab_to(page, "button", "Refund the payout")
        page.keyboard.press("Enter")
        expect(page.get_by_role("status")).to_have_text("The payout is being returned.")
        tab_to(page, "button", "Log out")
        page.keyboard.press("Enter")
        expect(page.get_by_label("API key")).to_be_focused()
        page.context.close()


def tabbed_through(page: "Page", path: str) -> dict[str, list[str]]:
    """Presses Tab until all that can be used had the focus; what did not, or did not show it."""
    page.evaluate(WATCH)
    page.evaluate("document.activeElement?.blur()")
    missed: list[str] = page.evaluate(MISSED)
    for _ in range(0, MOST, AT_ONCE):
        if not missed:
            break
        for _ in range(AT_ONCE):
            page.keyboard.press("Tab")
        missed = page.evaluate(MISSED)
    return {path: missed} if missed else {}


def tab_to(page: "Page", selector: str, text: str = "") -> None:
    """Presses Tab until the focus is on something of that kind, with that text."""
    for _ in range(MOST):
        page.keyboard.press("Tab")
        here = page.locator(":focus")
        if here.count() and here.evaluate("(one, kind) => one.matches(kind)", selector) and text in here.inner_text():
            return
    pytest.fail(f"Tab never came to {selector} {text}")


class TestWithoutScripts:
    def test_every_page_is_there_and_does_what_it_is_for(
        self, chromium: "Browser", dev: dict[str, Any], evening: Evening
    ) -> None:
        page = logged_in(chromium, dev, java_script_enabled=False)
        base = f"{dev['api_url']}/console"
        for path in PAGES:
            answer = page.goto(base + path.format(**evening))
            assert answer is not None
            assert answer.status == 200, path
            expect(page.locator("main h1")).to_be_visible()
        page.get_by_label("Search by id").fill(evening["show"])
        page.get_by_role("button", name="Search").click()
        expect(page.get_by_text("The goal reached its target")).to_be_visible()
        expect(page.get_by_role("img", name="Time line of ShowGoal")).to_be_visible()
        page.get_by_text("All 3 joins and leaves").click()
        expect(page.get_by_role("region", name="Joins and leaves")).to_be_visible()
        page.get_by_role("button", name="Show this range").click()
        expect(page.get_by_text("The 3 joins and leaves in this range")).to_be_visible()

        page.goto(f"{base}/goals/{evening['open']}")
        form = page.locator("form", has=page.get_by_role("button", name="Send a test event"))
        form.get_by_label("User").fill("stranger")
        form.get_by_label("Reason").fill("without scripts")
        form.get_by_role("button", name="Send a test event").click()
        expect(page.get_by_role("row").filter(has_text="karaoke_control")).to_contain_text("not a participant")
        page.get_by_role("link", name="Who did what to it").click()
        expect(page.get_by_role("row").filter(has_text="send test event").first).to_contain_text("without scripts")

        page.goto(f"{base}/live?kind=webhook")
        expect(page.get_by_role("status")).to_have_text("not following: reload for newer lines")
        expect(page.get_by_text(re.compile("member_added .*stranger")).first).to_be_visible()
        page.goto(f"{base}/replay")
        event = {"name": "member_added", "channel": f"presence-enc-goal@{evening['show']}", "user_id": "x"}
        page.get_by_label("Recording").fill(
            json.dumps({"body": json.dumps({"time_ms": 1_700_000_000_000, "events": [event]})})
        )
        page.get_by_role("button", name="Show what it would change").click()
        expect(page.locator(".sentence")).to_have_text("A replay would change no goal.")
        page.get_by_role("button", name="Log out").click()
        expect(page.get_by_label("API key")).to_be_visible()
        page.context.close()
