"""An instant is a date and time with an offset: a number is refused, in a query as in a body."""

from datetime import datetime
from typing import Any

import pytest

from .app import Service
from .times import times_asked_for


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


_OUTSIDE = {
    "9999-12-31T23:59:59-14:00": "is after the year 9999 in UTC",
    "0001-01-01T00:00:00+14:00": "is before the year 1 in UTC",
}


async def test_no_time_of_any_operation_leaves_the_calendar_in_utc(service: Service) -> None:
    asked = list(times_asked_for(service.app.openapi()))
    assert {name for _, _, _, name in asked} >= {"from", "to", "until", "expires_at", "since", "exp"}
    assert len({path for _, path, _, _ in asked}) >= 12
    for method, path, body, name in asked:
        for given, rule in _OUTSIDE.items():
            sent: dict[str, Any] = {"params": {name: given}} if body is None else {"json": {**body, name: given}}
            answer = await service.client.request(method, path, **sent)
            assert answer.status_code == 422, (method, path, name, given, answer.text)
            field = f"query.{name}" if body is None else name
            assert {"field": field, "message": rule} in answer.json()["errors"], (method, path, answer.text)


async def test_no_period_of_any_operation_begins_after_its_end(service: Service) -> None:
    window = {"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"}
    paths = [
        path for method, path, body, name in times_asked_for(service.app.openapi()) if body is None and name == "from"
    ]
    assert len(paths) >= 8
    for path in paths:
        answer = await service.client.get(path, params=window)
        assert answer.status_code == 422, (path, answer.text)
        assert answer.json()["errors"] == [{"field": "query.from", "message": "must not be after `to`"}], path
