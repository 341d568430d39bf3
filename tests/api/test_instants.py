"""An instant is a date and time with an offset: a number is refused, in a query as in a body."""

from datetime import datetime

import pytest

from .app import Service


@pytest.mark.parametrize("path", ["/v1/sessions", "/v1/goals", "/v1/contributions", "/v1/transfers", "/v1/audit"])
@pytest.mark.parametrize("given", ["0", "0.5", "-1", "1767225600", "soon", "2026-01-01T20:00:00"])
async def test_a_query_that_is_none(service: Service, path: str, given: str) -> None:
    answer = await service.client.get(path, params={"to": given})
    assert answer.status_code == 422
    assert [fault["field"] for fault in answer.json()["errors"]] == ["query.to"]


@pytest.mark.parametrize("given", ["2026-01-01T20:00:00Z", "2026-01-01T21:00:00.5+01:00"])
async def test_a_query_that_is_one(service: Service, given: str) -> None:
    assert datetime.fromisoformat(given).tzinfo is not None
    assert (await service.client.get("/v1/sessions", params={"to": given})).status_code == 200


async def test_a_body(service: Service) -> None:
    answer = await service.client.post(
        "/v1/keys", json={"name": "shop", "scopes": ["read"], "expires_at": 4_000_000_000}
    )
    assert answer.status_code == 422
    assert [fault["field"] for fault in answer.json()["errors"]] == ["expires_at"]


async def test_a_boolean_is_no_number(service: Service) -> None:
    body = {"url": "https://backend.example.com/goalsvc", "enabled": 0}
    answer = await service.client.post("/v1/webhook-endpoints", json=body)
    assert answer.status_code == 422
    assert [fault["field"] for fault in answer.json()["errors"]] == ["enabled"]
