"""`/docs` in a real browser: nothing of it comes from another server, and what is written there can be found."""

from typing import TYPE_CHECKING, Any

from playwright.sync_api import expect

from .looks import looked_at

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext


def test_calls_can_be_tried_and_read_and_messages_read(visit: "BrowserContext", dev: dict[str, Any]) -> None:
    asked: list[str] = []
    visit.on("request", lambda request: asked.append(request.url))
    page = visit.new_page()
    page.goto(f"{dev['api_url']}/docs")
    expect(page.locator("#operations-Goals-make_goal, [id^='operations-']").first).to_be_visible()

    page.get_by_role("link", name="Read calls").click()
    expect(page.get_by_role("heading", name="A first show")).to_be_visible(timeout=60_000)
    page.get_by_placeholder("Search...").fill("contributions")
    expect(page.get_by_role("menuitem").filter(has_text="ontribut").first).to_be_visible()

    page.get_by_role("link", name="Read messages").click()
    page.get_by_role("navigation", name="Contents").get_by_role("link", name="wallet.updated").first.click()
    message = page.get_by_role("article").filter(has=page.get_by_role("heading", name="wallet.updated"))
    expect(message.get_by_role("rowheader", name="direction")).to_be_in_viewport()
    message.get_by_text("Example", exact=True).last.click()
    expect(message.locator("pre")).to_contain_text('"direction": "credit"')

    assert {url for url in asked if not url.startswith((dev["api_url"], "data:", "blob:"))} == set()


def test_the_page_of_messages_has_nothing_that_axe_finds(chromium: "Browser", dev: dict[str, Any]) -> None:
    context = chromium.new_context(bypass_csp=True)
    page = context.new_page()
    page.goto(f"{dev['api_url']}/docs/events")
    found = looked_at({"/docs/events": page})
    context.close()
    assert found == {}
