"""Two API processes on one database: what one allows, the other knows."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack
from functools import partial

import httpx
import pytest
from pymongo import MongoClient

from goalsvc.devstack.ports import HOST, free_port, http_status
from goalsvc.devstack.process import bound_to_this_process
from goalsvc.devstack.waiting import holds_within
from tests.support.waiting import comes_to_hold
from tests.world import Document, empty

pytestmark = pytest.mark.real

API_KEY = "the-api-key"
ROUNDS = 12


def _ready(port: int) -> bool:
    return http_status(port, "/readyz") == 200


@pytest.fixture(scope="module")
def urls(mongodb_url: str, redis_url: str) -> Iterator[list[str]]:
    """The addresses of two API processes."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GOALSVC_")}
    own = {"MONGODB_URL": mongodb_url, "REDIS_URL": redis_url, "API_KEY": API_KEY, "PUSHER_APP_ID": "1"}
    own |= {"PUSHER_KEY": "key", "PUSHER_SECRET": "secret"}
    environment = inherited | {f"GOALSVC_{name}": value for name, value in own.items()}
    with ExitStack() as stack:
        ports = [free_port() for _ in range(2)]
        for port in ports:
            command = bound_to_this_process([sys.executable, "-m", "goalsvc", "serve", "--port", str(port)])
            process = stack.enter_context(subprocess.Popen(command, env=environment))
            stack.callback(process.terminate)
        for port in ports:
            assert holds_within(30, partial(_ready, port))
        yield [f"http://{HOST}:{port}" for port in ports]


@pytest.fixture
async def clients(urls: list[str], all_documents: MongoClient[Document]) -> AsyncIterator[list[httpx.AsyncClient]]:
    empty(all_documents)
    headers = {"Authorization": f"Bearer {API_KEY}"}
    async with AsyncExitStack() as stack:
        opened = [httpx.AsyncClient(base_url=url, headers=headers, trust_env=False) for url in urls]
        yield [await stack.enter_async_context(client) for client in opened]


async def created(client: httpx.AsyncClient, path: str, body: object) -> str:
    answer = await client.post(path, json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def test_one_key_at_both_has_one_effect(clients: list[httpx.AsyncClient]) -> None:
    first, _ = clients
    await first.post("/v1/wallets/bob/deposits", json={"amount": 10_000}, headers={"Idempotency-Key": "d"})
    session_id = await created(first, "/v1/sessions", {"user_id": "alice"})
    plan = {"title": "A minute", "target": 60}
    metadata = {"viewer_id": "bob", "private": True, "price": 100, "exclusive": plan}
    body = {"kind": "TriggerGoal", "session_id": session_id, "metadata": metadata}
    for number in range(ROUNDS):
        headers = {"Idempotency-Key": f"key-{number}"}
        calls = [client.post("/v1/goals", json=body, headers=headers) for client in clients * 3]
        answers = await asyncio.gather(*calls)
        assert {(answer.status_code, answer.text) for answer in answers} == {(201, answers[0].text)}
    wallet = await first.get("/v1/wallets/bob")
    assert wallet.json()["balance"] == 10_000 - 100 * ROUNDS


async def test_a_performer_is_booked_by_one_of_them(clients: list[httpx.AsyncClient]) -> None:
    for number in range(ROUNDS):
        performer = f"performer-{number}"
        bodies = []
        for viewer in range(4):
            session_id = await created(clients[0], "/v1/sessions", {"user_id": performer})
            exclusive_to = {"exclusive_to": f"viewer-{number}-{viewer}"}
            bodies.append({"kind": "ExclusiveGoal", "session_id": session_id, "conditions": exclusive_to})
        calls = [client.post("/v1/goals", json=body) for client, body in zip(clients * 2, bodies, strict=True)]
        answers = await asyncio.gather(*calls)
        assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]
        refused = {answer.json()["code"] for answer in answers if answer.status_code == 409}
        assert refused == {"performer_in_exclusive"}


async def test_a_key_that_one_revokes_is_refused_by_the_other(clients: list[httpx.AsyncClient]) -> None:
    first, second = clients
    made = (await first.post("/v1/keys", json={"name": "backend", "scopes": ["read"]})).json()
    own = {"Authorization": f"Bearer {made['key']}"}
    assert [(await client.get("/v1/goals", headers=own)).status_code for client in clients] == [200, 200]
    assert (await first.delete(f"/v1/keys/{made['id']}")).status_code == 200
    assert (await first.get("/v1/goals", headers=own)).status_code == 401

    async def is_refused() -> bool:
        return (await second.get("/v1/goals", headers=own)).status_code == 401

    assert await comes_to_hold(is_refused)
