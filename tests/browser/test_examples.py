"""Two tabs: a show is funded, performed and paid before one's eyes."""

from typing import TYPE_CHECKING, Any

from playwright.sync_api import expect

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page


def open_page(visit: "BrowserContext", dev: dict[str, Any], name: str) -> "Page":
    page = visit.new_page()
    page.goto(f"{dev['api_url']}/examples/{name}")
    expect(page.locator("html[data-ready=true]")).to_be_attached()
    return page


def test_a_show_is_funded_performed_and_paid(visit: "BrowserContext", dev: dict[str, Any]) -> None:
    performer = open_page(visit, dev, "performer.html?user=alice")
    viewer = open_page(visit, dev, "viewer.html?user=bob&streamer=alice")

    performer.get_by_role("button", name="Go live").click()
    expect(performer.locator("#funded")).to_have_text("0 of 100 tokens")
    viewer.get_by_role("button", name="Buy 100 tokens").click()
    expect(viewer.locator("#wallet")).to_have_text("100 tokens")
    viewer.get_by_role("button", name="Give 50").click()
    expect(performer.locator("#funded")).to_have_text("50 tokens")
    viewer.get_by_role("button", name="Give 50").click()
    expect(performer.locator("#performed")).to_have_text("0 of 5 s")
    expect(viewer.locator("#wallet")).to_have_text("0 tokens")

    performer.get_by_role("button", name="Perform").click()
    expect(performer.locator("#log")).to_contain_text("performing")
    performer.request.post(
        f"{dev['api_url']}/v1/test-clock/advance",
        data={"seconds": 6},
        headers={"Authorization": "Bearer goalsvc-api-key"},
    )
    performer.get_by_role("button", name="Stop").click()

    expect(performer.locator("#wallet")).to_have_text("100 tokens", timeout=15_000)
    expect(viewer.locator("#log")).to_contain_text("goal.progress.updated")
