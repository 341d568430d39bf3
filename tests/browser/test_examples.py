"""The first ten minutes: a show is funded, performed and paid in one's own browser, and the console says why."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playwright.sync_api import expect

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

FIRST_PAGE = Path(__file__).parents[2] / "docs/index.md"


def buttons() -> list[str]:
    """What the first page of the documentation says to press, in order."""
    steps = FIRST_PAGE.read_text("utf-8").partition("## 2. Perform")[2].partition("## 3.")[0]
    return re.findall(r"\*([^*]+)\*", steps)


def follow(examples: "Page", link: str) -> "Page":
    """Follows a link that opens a tab of its own."""
    with examples.expect_popup() as opened:
        examples.get_by_role("link", name=link).click()
    page = opened.value
    expect(page.locator("html[data-ready=true]")).to_be_attached()
    return page


def press(page: "Page", button: str) -> None:
    page.get_by_role("button", name=button, exact=True).click()


def test_from_nothing_to_a_show_that_one_sees_paid(visit: "BrowserContext", dev: dict[str, Any]) -> None:
    """The steps of docs/index.md, to the letter; only the seconds of the show pass by the test clock."""
    go_live, buy, give, perform, stop = buttons()
    examples = visit.new_page()
    examples.goto(f"{dev['api_url']}/examples")
    performer = follow(examples, "Be the performer, alice")
    viewer = follow(examples, "Be the viewer, bob")

    press(performer, go_live)
    expect(performer.locator("#funded")).to_have_text("0 of 100 tokens")
    press(viewer, buy)
    expect(viewer.locator("#wallet")).to_have_text("100 tokens")
    press(viewer, give)
    expect(performer.locator("#funded")).to_have_text("50 tokens")
    press(viewer, give)
    expect(performer.locator("#performed")).to_have_text("0 of 5 s")
    expect(viewer.locator("#wallet")).to_have_text("0 tokens")

    press(performer, perform)
    expect(performer.locator("#log")).to_contain_text("performing")
    performer.request.post(
        f"{dev['api_url']}/v1/test-clock/advance",
        data={"seconds": 6},
        headers={"Authorization": "Bearer goalsvc-api-key"},
    )
    press(performer, stop)
    expect(performer.locator("#wallet")).to_have_text("100 tokens")
    expect(viewer.locator("#log")).to_contain_text("goal.progress.updated")

    show = performer.locator("#show").inner_text()
    see_it_paid(visit.new_page(), dev["api_url"], show)


def see_it_paid(console: "Page", url: str, show: str) -> None:
    """From the performer's name to the transfer, the goal and the webhook, as an operator finds it."""
    console.goto(f"{url}/console")
    console.get_by_label("API key").fill("goalsvc-api-key")
    press(console, "Log in")
    expect(console.get_by_role("heading", name="From any id to its cause")).to_be_visible()
    console.keyboard.press("/")
    console.keyboard.type("alice")
    console.keyboard.press("Enter")

    console.get_by_role("link", name="Why 50 tokens").first.click()
    sentence = console.locator(".sentence")
    expect(sentence).to_contain_text("alice received 50 tokens at")
    expect(sentence).to_contain_text("because the ShowGoal “Ukulele medley” reached level 1 (5 s)")

    console.locator(f'a[href$="/goals/{show}"]').first.click()
    expect(console.get_by_role("heading", level=1)).to_contain_text("Ukulele medley")
    expect(sentence).to_have_text(re.compile(r"^The goal reached its target with \d+ of 5 s\.$"))
    paid = console.get_by_role("region", name="Transfers").get_by_role("row").filter(has_text="alice")
    expect(paid).to_have_count(2)
    for number in range(2):
        expect(paid.nth(number)).to_contain_text("50")

    paid.first.get_by_role("link", name="Why 50 tokens").click()
    console.get_by_role("link", name=re.compile("reported by a webhook")).click()
    expect(sentence).to_contain_text(re.compile(r"Pusher told at .* that alice left at .* \(member_removed\)"))
