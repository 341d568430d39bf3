"""pusher-js runs in pages of another origin: the browser asks first, and reads the answer only if it may."""

import pytest

from .conftest import Gate, token_of

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]

OURS, FOREIGN = "https://live.example.com", "https://elsewhere.example.com"
ASKED = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}


async def test_a_page_of_a_configured_origin_may_ask(gate: Gate) -> None:
    preflight = await gate.client.options("/pusher/auth", headers={"Origin": OURS, **ASKED})
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == OURS
    headers = {"Authorization": f"Bearer {token_of('alice')}", "Origin": OURS}
    form = {"socket_id": "1234.5678", "channel_name": "private-user@alice"}
    answer = await gate.post(data=form, headers=headers)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, OURS)


async def test_a_page_of_another_origin_may_not(gate: Gate) -> None:
    preflight = await gate.client.options("/pusher/auth", headers={"Origin": FOREIGN, **ASKED})
    assert preflight.status_code == 400
    assert "access-control-allow-origin" not in preflight.headers


async def test_the_rest_of_the_interface_is_not_for_pages(gate: Gate) -> None:
    preflight = await gate.client.options("/v1/goals", headers={"Origin": OURS, **ASKED})
    assert "access-control-allow-origin" not in preflight.headers
