"""`goalsvc listen` and `goalsvc why`, their parts: what is posted, and what is printed."""

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from standardwebhooks.webhooks import Webhook

from goalsvc.actions.webhooks import new_secret
from goalsvc.commands.api import CommandError, Target
from goalsvc.commands.listen import follow, forward, listen_to
from goalsvc.commands.why import lines_of
from tests.deliveries.receiver import a_receiver

from .command_line import assert_one_sentence, run_cli

EVENT = {
    "id": "evt_1",
    "type": "goal.ended",
    "sequence": 7,
    "goal_id": "68143584d6945d32e732cc21",
    "created_at": datetime(2026, 1, 1, tzinfo=UTC).isoformat(),
    "data": {"text": "héllo ☃"},
}


async def test_an_event_is_posted_as_an_outgoing_webhook_is() -> None:
    secret = new_secret()
    async with a_receiver() as receiver:
        line = await forward(receiver.url, secret, EVENT)
    ((headers, body),) = receiver.received
    assert Webhook(secret).verify(body, headers) == EVENT
    assert "goal.ended" in line
    assert line.endswith("-> 200")


async def test_a_server_that_is_not_there_is_told_of() -> None:
    line = await forward("http://127.0.0.1:9/", new_secret(), EVENT)
    assert "no answer" in line


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("notaurl", "is not an http(s) address"),
        ("ftp://127.0.0.1/hook", "is not an http(s) address"),
        ("http://127.0.0.1:99999/hook", "is not an http(s) address"),
        ("https://backend.example.com/hook", "backend.example.com is not this machine"),
        ("http://10.0.0.1:3000", "10.0.0.1 is not this machine"),
        ("http://0.0.0.0:3000", "0.0.0.0 is not this machine"),
        ("http://localhost.example.com", "localhost.example.com is not this machine"),
    ],
)
def test_only_a_server_on_this_machine_before_anything_is_asked(url: str, told: str) -> None:
    assert_one_sentence(run_cli("listen", "--forward-to", url, API_URL="http://127.0.0.1:1"), "--forward-to: ", told)


@pytest.mark.parametrize("url", ["http://127.0.0.1:3000/hook", "http://LOCALHOST:3000", "https://[::1]:3000/"])
def test_servers_on_this_machine(url: str) -> None:
    ended = run_cli("listen", "--forward-to", url, API_URL="http://127.0.0.1:1")
    assert "the API at http://127.0.0.1:1 cannot be reached" in ended.err


def test_a_secret_of_another_form_before_anything_is_asked() -> None:
    ended = run_cli("listen", "--forward-to", "http://127.0.0.1:3000", "--secret", "é", API_URL="http://127.0.0.1:1")
    assert_one_sentence(ended, "--secret: must be `whsec_` and base64")


def target_of(stack: dict[str, Any]) -> Target:
    return Target(api_url=stack["api_url"], api_key="goalsvc-api-key", pusher_key="", pusher_secret="")


def deposits(api: httpx.Client, user: str) -> None:
    headers = {"Idempotency-Key": "one"}
    api.post(f"/v1/wallets/{user}/deposits", json={"amount": 1}, headers=headers).raise_for_status()


async def test_events_are_forwarded_as_they_happen_each_once(stack: dict[str, Any], api: httpx.Client) -> None:
    users = [f"heard-{number}" for number in range(5)]
    await asyncio.to_thread(deposits, api, "before")
    newest = await asyncio.to_thread(api.get, "/v1/events?order=desc&limit=1")
    lines: asyncio.Queue[str] = asyncio.Queue()
    async with a_receiver() as receiver:
        listening = asyncio.create_task(
            listen_to(
                target_of(stack),
                receiver.url,
                types="deposit.*",
                after=str(newest.json()["items"][0]["sequence"]),
                secret=None,
                as_json=False,
                tell=lines.put_nowait,
            )
        )
        async with asyncio.timeout(30):
            secret = (await lines.get()).removeprefix("signed with ")
            told = []
            for user in users:
                await asyncio.to_thread(deposits, api, user)
                told.append(await lines.get())
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
    events = [Webhook(secret).verify(body, headers) for headers, body in receiver.received]
    assert [event["user_ids"] for event in events] == [[user] for user in users]
    assert {event["type"] for event in events} == {"deposit.created"}
    assert [line.split()[0] for line in told] == [str(event["sequence"]) for event in events]


async def test_without_a_cursor_what_was_before_is_not_forwarded(stack: dict[str, Any], api: httpx.Client) -> None:
    await asyncio.to_thread(deposits, api, "before")
    following = follow(target_of(stack), types="deposit.*", after=None)
    first = asyncio.ensure_future(anext(following))
    number = 0
    async with asyncio.timeout(30):
        while not first.done():
            await asyncio.to_thread(deposits, api, f"after-{number}")
            number += 1
            await asyncio.wait({first}, timeout=0.05)
    (user,) = first.result()["user_ids"]
    await following.aclose()
    assert user.startswith("after-")


async def test_a_key_that_is_refused_ends_it(stack: dict[str, Any]) -> None:
    wrong = replace(target_of(stack), api_key="another")
    with pytest.raises(CommandError):
        await anext(follow(wrong, types=None, after=None))


def test_the_sentence_and_the_chain() -> None:
    answer: dict[str, Any] = {
        "sentence": "alice received 5 tokens.",
        "chain": [{"kind": "goal", "id": "g", "text": "the show", "at": None}],
    }
    assert list(lines_of(json.loads(json.dumps(answer)))) == ["alice received 5 tokens.", "  goal         g  the show"]
