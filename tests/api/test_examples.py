"""The pages that `goalsvc dev` serves to be tried in two tabs."""

import httpx
import pytest

from goalsvc.app import create_app
from tests.auth.conftest import settings_with


@pytest.mark.parametrize("written", ["/examples", "/examples/"])
async def test_the_address_that_dev_names_leads_to_the_first_page(written: str) -> None:
    app = create_app(settings_with(dev_dir="somewhere"))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        answer = await client.get(written, follow_redirects=True)
    assert answer.url.path == "/examples/index.html"
    assert "Be the performer, alice" in answer.raise_for_status().text


async def test_they_are_for_development_only() -> None:
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(create_app(settings_with())), base_url="http://test"
    ) as client:
        assert (await client.get("/examples")).status_code == 404
