"""Pages in a real browser: Debian's chromium, driven by Playwright."""

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.conftest import running_dev

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
#: Without these, chromium looks for hosts of its own maker.
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    missing = "chromium is not installed" if CHROMIUM is None else None
    if importlib.util.find_spec("playwright") is None:
        missing = "the extra `browser` is not installed"
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.browser)
            if missing:
                item.add_marker(pytest.mark.skip(reason=f"no page can be shown: {missing}"))


@pytest.fixture(scope="package")
def chromium() -> Iterator["Browser"]:
    """A browser for all tests in here. Playwright keeps an event loop running, which no other test may find."""
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=20_000)  # a busy machine takes longer than the 5 s that Playwright waits
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: "Browser") -> Iterator["BrowserContext"]:
    """A fresh browser profile; any message on a page's console fails the test."""
    context = chromium.new_context()
    said: list[str] = []
    context.on("console", lambda message: said.append(message.text))
    context.on("weberror", lambda error: said.append(str(error.error)))
    yield context
    context.close()
    assert said == []


@pytest.fixture(scope="package")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A running `goalsvc dev`: its JSON object."""
    with running_dev(tmp_path_factory.mktemp("browser-dev")) as told:
        yield told


@pytest.fixture(scope="package")
def evening(dev: dict[str, Any]) -> Iterator[dict[str, str]]:
    """The ids of an evening with two shows."""
    from .scene import an_evening  # playwright may be missing

    with an_evening(dev) as ids:
        yield ids


@pytest.fixture(scope="package")
def operator(chromium: "Browser", dev: dict[str, Any]) -> Iterator["Page"]:
    """One page of an operator for all questions."""
    from .scene import logged_in

    page = logged_in(chromium, dev)
    yield page
    page.context.close()
