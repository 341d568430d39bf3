"""A show and an exclusive, run by a script that uses only what the two documents say."""

import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from typing import Any, TypeVar

import httpx
import pytest

from tests.integrator.generated import GeneratedClient, GeneratedListener
from tests.support.waiting import read_until

T = TypeVar("T")

pytestmark = pytest.mark.real


@pytest.fixture
def http(stack: dict[str, Any]) -> Iterator[httpx.Client]:
    headers = {"Authorization": "Bearer goalsvc-api-key"}
    with httpx.Client(base_url=stack["api_url"], headers=headers, trust_env=False, timeout=15) as client:
        yield client


@pytest.fixture
def api(http: httpx.Client) -> GeneratedClient:
    return GeneratedClient(http.get("/openapi.json").json(), http)


@pytest.fixture
def listener(http: httpx.Client) -> GeneratedListener:
    return GeneratedListener(http.get("/asyncapi.json").json())


def tell(api: GeneratedClient, name: str, goal_id: str, user_id: str, seconds_ago: float) -> None:
    """Sends a webhook, signed as the operation's description says."""
    event = {"name": name, "channel": f"presence-enc-goal@{goal_id}", "user_id": user_id}
    body = json.dumps({"time_ms": int((time.time() - seconds_ago) * 1000), "events": [event]}).encode()
    signature = hmac.new(b"goalsvc-secret", body, hashlib.sha256).hexdigest()
    headers = {"X-Pusher-Key": "goalsvc-key", "X-Pusher-Signature": signature, "Content-Type": "application/json"}
    api.call("pusher_s_webhook", body=body, headers=headers)


def assert_told_as_documented(stack: dict[str, Any], listener: GeneratedListener, *expected: str) -> None:
    def told() -> list[dict[str, Any]]:
        recorded: list[dict[str, Any]] = httpx.get(f"{stack['pusher_url']}/recorded", trust_env=False).json()
        return recorded

    notices = read_until(told, lambda notices: set(expected) <= {notice["name"] for notice in notices})
    for notice in notices:
        for channel in notice["channels"]:
            listener.check(channel, notice["name"], notice["data"])


def test_a_show(stack: dict[str, Any], api: GeneratedClient, listener: GeneratedListener) -> None:
    session = api.call("begin_a_session", body={"user_id": "i-streamer", "rtc": {"room_id": "room-i"}})
    plan = {
        "kind": "FundingGoal",
        "session_id": session["id"],
        "levels": [{"title": "Fund it", "target": 100}],
        "metadata": {"show": {"title": "Songs", "target": 360}},
    }
    funding = api.call("create_a_goal", body=plan)
    api.call("deposit_tokens", user_id="i-viewer", body={"amount": 100}, idempotency_key="i-deposit")
    contribution = {"user_id": "i-viewer", "amount": 100}
    api.call("contribute_to_a_fundinggoal", goal_id=funding["id"], body=contribution, idempotency_key="i-1")
    pairs = read_until(
        lambda: api.call("read_a_session", session_id=session["id"])["show_goal_pairs"], lambda pairs: bool(pairs)
    )
    show = pairs[0]["show_goal"]
    tell(api, "member_added", show, "i-streamer", 400)
    tell(api, "member_removed", show, "i-streamer", 0)
    read_until(lambda: api.call("read_a_wallet", user_id="i-streamer")["balance"], lambda balance: balance == 100)
    assert api.call("read_an_escrow", escrow_id=f"show_funding:{funding['id']}")["balance"] == 0
    assert api.call("read_a_goal", goal_id=show)["active"] is False
    assert api.call("who_contributed_most", goal_id=funding["id"])["items"] == [{"user_id": "i-viewer", "amount": 100}]
    # A trace is written a moment after what it tells of.
    read_until(lambda: api.call("what_happened_to_a_goal", goal_id=show)["events"], lambda events: bool(events))
    assert_told_as_documented(stack, listener, "goal.progress.updated", "stream.changed", "wallet.updated")


def test_an_exclusive(stack: dict[str, Any], api: GeneratedClient, listener: GeneratedListener) -> None:
    session = api.call("begin_a_session", body={"user_id": "x-streamer"})
    api.call("deposit_tokens", user_id="x-viewer", body={"amount": 301}, idempotency_key="x-deposit")
    metadata = {
        "viewer_id": "x-viewer",
        "private": True,
        "price": 301,
        "exclusive": {"title": "A private minute", "target": 360},
    }
    plan = {"kind": "TriggerGoal", "session_id": session["id"], "metadata": metadata}
    request = api.call("create_a_goal", body=plan)
    assert api.call("read_a_wallet", user_id="x-viewer")["balance"] == 0
    api.call("agree_to_a_request", goal_id=request["id"])
    pairs = read_until(
        lambda: api.call("read_a_session", session_id=session["id"])["exclusive_goal_pairs"], lambda pairs: bool(pairs)
    )
    exclusive = pairs["x-viewer"]["exclusive_goal"]
    held = f"exclusive:{exclusive}"
    read_until(lambda: api.call("read_an_escrow", escrow_id=held)["balance"], lambda balance: balance == 301)
    assert api.call("may_this_viewer_watch", session_id=session["id"], viewer_id="x-viewer")
    tell(api, "member_added", exclusive, "x-streamer", 200)
    tell(api, "member_removed", exclusive, "x-streamer", 0)
    read_until(lambda: api.call("read_a_goal", goal_id=exclusive)["progress"], lambda progress: progress == 200)
    api.call("end_a_goal", goal_id=exclusive)
    read_until(lambda: api.call("read_an_escrow", escrow_id=held)["balance"], lambda balance: balance == 0)
    assert api.call("read_a_wallet", user_id="x-streamer")["balance"] == 301 * 200 // 360
    assert api.call("read_a_wallet", user_id="x-viewer")["balance"] == 301 - 301 * 200 // 360
    assert_told_as_documented(stack, listener, "stream.authorized", "exclusive.closed", "goal.ended", "wallet.updated")
