"""Every error is `application/problem+json` with its status and a stable code; who has no key gets nothing else."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pymongo.errors import AutoReconnect, ServerSelectionTimeoutError
from redis.exceptions import ConnectionError as RedisConnectionError

from goalsvc.api import errors
from goalsvc.api.errors import STATUS, WebError
from goalsvc.app import create_app
from goalsvc.errors import (
    ConflictError,
    ExternalServiceError,
    GoalsvcError,
    InsufficientFundsError,
    InvalidError,
    LedgerBusyError,
    NotFoundError,
    ReceiverFailedError,
    TransferConflictError,
)
from goalsvc.models.goal import Goal
from goalsvc.settings import Settings

from .app import API_KEY, Service, open_service

TABLE = [
    (InvalidError("levels.0.target", "must be greater"), 422, "invalid"),
    (NotFoundError("there is no goal"), 404, "not_found"),
    (ConflictError("goal_inactive", "the goal is not active"), 409, "goal_inactive"),
    (TransferConflictError("other content"), 409, "transfer_conflict"),
    (InsufficientFundsError("holds 1"), 402, "insufficient_funds"),
    (LedgerBusyError("busy"), 503, "ledger_busy"),
    (ReceiverFailedError("r: x"), 503, "receiver_failed"),
    (ExternalServiceError("pusher", "no"), 500, "external_service"),
    (GoalsvcError("of a new kind"), 500, "error"),
    (WebError(418, "teapot", "is one"), 418, "teapot"),
    (AutoReconnect("down"), 503, "unavailable"),
    (ServerSelectionTimeoutError("down"), 503, "unavailable"),
    (RedisConnectionError("down"), 503, "unavailable"),
    (TimeoutError(), 503, "unavailable"),
    (ZeroDivisionError("a bug"), 500, "internal_server_error"),
]


def assert_problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    problem: dict[str, Any] = answer.json()
    assert (problem["status"], problem["code"], problem["type"]) == (status, code, f"/errors/{code}")
    assert problem["title"]
    assert problem["detail"]
    return problem


class TestTable:
    @pytest.mark.parametrize(("error", "status", "code"), TABLE, ids=lambda value: type(value).__name__)
    async def test_each_error_is_a_problem(self, error: Exception, status: int, code: str) -> None:
        app = FastAPI()
        errors.install(app)

        @app.get("/")
        async def fails() -> None:
            raise error

        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            problem = assert_problem(await client.get("/"), status, code)
        if isinstance(error, InvalidError):
            assert [fault["field"] for fault in problem["errors"]] == ["levels.0.target"]
        else:
            assert "errors" not in problem
        if code == "internal_server_error":
            assert "a bug" not in str(problem)

    def test_the_first_that_fits_is_the_most_special(self) -> None:
        kinds = [kind for kind, _ in STATUS]
        assert not any(issubclass(later, kinds[n]) for n in range(len(kinds)) for later in kinds[n + 1 :])

    async def test_what_may_pass_says_when_to_come_back(
        self, service: Service, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def down(goal_id: object, session: object = None) -> None:
            raise AutoReconnect("down")

        monkeypatch.setattr(Goal, "by_id", down)
        answer = await service.client.get("/v1/goals/6955d0000000000000000002")
        assert_problem(answer, 503, "unavailable")
        assert answer.headers["retry-after"] == "1"

    async def test_an_unknown_path(self, service: Service) -> None:
        assert_problem(await service.client.get("/v1/nothing"), 404, "not_found")

    async def test_a_method_that_is_not_there(self, service: Service) -> None:
        answer = await service.client.delete("/v1/goals")
        assert_problem(answer, 405, "method_not_allowed")
        assert answer.headers["allow"] == "GET, HEAD, OPTIONS, POST"


def _operations() -> Iterator[tuple[str, str, list[dict[str, list[str]]]]]:
    document = create_app(Settings(mongodb_url="mongodb://127.0.0.1/x", redis_url="redis://127.0.0.1")).openapi()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation.get("security", [])


OPERATIONS = list(_operations())
WITH_API_KEY = [(method, path) for method, path, security in OPERATIONS if security == [{"ApiKey": []}]]


class TestApiKey:
    def test_all_but_these_need_it(self) -> None:
        others = {path for _, path, security in OPERATIONS if {"ApiKey": []} not in (security or [])}
        assert others == {"/notify/pusher", "/pusher/auth", "/healthz", "/readyz", "/metrics"}
        assert all(path.startswith("/v1/") for _, path in WITH_API_KEY)

    @pytest.mark.parametrize(("method", "path"), WITH_API_KEY)
    @pytest.mark.parametrize(
        "authorization",
        [None, "Bearer wrong", f"Bearer {API_KEY}x", f"Bearer {API_KEY[:-1]}", "Bearer ", f"Basic {API_KEY}", API_KEY],
        ids=repr,
    )
    async def test_without_it_or_with_another_it_is_401(
        self, service: Service, method: str, path: str, authorization: str | None
    ) -> None:
        headers = {} if authorization is None else {"Authorization": authorization}
        answer = await service.stranger.request(method, path, headers=headers, json={})
        assert_problem(answer, 401, "unauthorized")
        assert answer.headers["www-authenticate"] == "Bearer"
        assert await service.stage.everything() == {}

    async def test_a_key_that_is_not_ascii_is_401(self, service: Service) -> None:
        answer = await service.stranger.get("/v1/goals", headers=[(b"Authorization", b"Bearer \xe9")])
        assert_problem(answer, 401, "unauthorized")

    async def test_nothing_of_a_body_is_read_before_the_key_is_known(self, service: Service) -> None:
        read = []

        async def body() -> AsyncIterator[bytes]:
            read.append(1)
            yield b"not JSON"

        for client, status, code in ((service.stranger, 401, "unauthorized"), (service.client, 422, "invalid")):
            answer = await client.post("/v1/goals", content=body(), headers={"Content-Type": "application/json"})
            assert_problem(answer, status, code)
            assert len(read) == (status == 422)

    async def test_with_no_key_configured_nobody_is_let_in(self) -> None:
        async with open_service(api_key="") as service:
            for authorization in ("Bearer ", "Bearer", f"Bearer {API_KEY}"):
                answer = await service.stranger.get("/v1/goals", headers={"Authorization": authorization})
                assert_problem(answer, 401, "unauthorized")

    @pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/openapi.json", "/docs"])
    async def test_these_are_open(self, service: Service, path: str) -> None:
        assert (await service.stranger.get(path)).status_code == 200


class TestHealth:
    @pytest.fixture
    def down(self, service: Service) -> Service:
        service.mongodb.down = True
        return service

    async def test_alive_whatever_else_is_down(self, down: Service) -> None:
        assert (await down.stranger.get("/healthz")).json() == {"status": "ok"}

    async def test_not_ready_without_the_database(self, down: Service) -> None:
        answer = await down.stranger.get("/readyz")
        assert answer.status_code == 503
        assert answer.json() == {"mongodb": "unreachable (ConnectionError)", "redis": "ok"}

    async def test_ready(self, service: Service) -> None:
        answers = await asyncio.gather(*(service.stranger.get("/readyz") for _ in range(3)))
        assert [answer.json() for answer in answers] == [{"mongodb": "ok", "redis": "ok"}] * 3

    async def test_metrics_are_prometheus_text(self, service: Service) -> None:
        answer = await service.stranger.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain")
        assert "goalsvc_webhooks_total" in answer.text
