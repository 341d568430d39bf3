"""What the browser looks at: an evening with two shows, and an operator who has logged in."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx
from bson import ObjectId
from playwright.sync_api import expect
from pymongo import MongoClient

from goalsvc.clock import to_epoch_milliseconds
from goalsvc.commands.api import signed_headers
from goalsvc.devstack.ports import free_port
from tests.support.waiting import read_until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

KEY = "goalsvc-api-key"
Evening = dict[str, str]
#: Each page, with the ids of the evening.
PAGES = (
    "", "/search?q=nothing", "/goals/{show}", "/goals/{show}/trace", "/goals/{show}/seconds", "/goals/{refunded}",
    "/goals/{open}", "/escrows/show_funding:{funding}", "/sessions/{session}", "/users/console-alice", "/webhooks",
    "/dead-letters", "/health", "/transfers/{share}", "/events/{event}", "/live", "/start", "/reconciliation", "/replay",
    "/keys", "/audit", "/deliveries", "/deliveries/{endpoint}", "/clips/{clip}", "/clips/{failed_clip}",
    "/redrives/{redrive}", "/dead-letters?id={letter}", "/requests/{request}",
)  # fmt: skip


@contextmanager
def an_evening(dev: dict[str, Any]) -> Iterator[Evening]:
    """A show that was funded by three viewers, performed and paid, with a late leave; another that was ended and refunded."""
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=dev["api_url"], headers=headers, trust_env=False, timeout=20) as api:

        def post(path: str, body: dict[str, Any]) -> dict[str, Any]:
            answer = api.post(path, json=body, headers={"Idempotency-Key": f"{path}{body}"})
            made: dict[str, Any] = answer.raise_for_status().json()
            return made

        nowhere = {"url": f"http://127.0.0.1:{free_port()}/hook", "types": ["goal.*"]}
        endpoint = post("/v1/webhook-endpoints", nowhere)["id"]
        session = post("/v1/sessions", {"user_id": "console-alice"})
        fund = {"kind": "FundingGoal", "session_id": session["id"], "levels": [{"title": "Fund it", "target": 60}]}
        funding = post("/v1/goals", {**fund, "metadata": {"show": {"title": "Ukulele", "target": 30}}})
        for viewer in ("console-bob", "console-carol", "console-dave"):
            post(f"/v1/wallets/{viewer}/deposits", {"amount": 30})
            post(f"/v1/goals/{funding['id']}/contributions", {"user_id": viewer, "amount": 20})
        refunded = post("/v1/goals", {**fund, "metadata": {"show": {"title": "Juggling", "target": 30}}})
        post(f"/v1/goals/{refunded['id']}/contributions", {"user_id": "console-bob", "amount": 7})
        post(f"/v1/goals/{refunded['id']}/end", {"reason": "the juggler is ill"})

        def shows() -> list[dict[str, Any]]:
            items = api.get("/v1/goals", params={"session_id": session["id"]}).raise_for_status().json()["items"]
            return [goal for goal in items if goal["kind"] == "ShowGoal"]

        show = read_until(shows, bool)[0]["id"]
        send(dev, "member_added", show, "console-alice")
        send(dev, "member_added", show, "mallory")
        now = datetime.fromisoformat(post("/v1/test-clock/advance", {"seconds": 43})["now"])
        send(dev, "member_removed", show, "console-alice", now - timedelta(seconds=12))

        def balances() -> list[int]:
            wallets = [api.get(f"/v1/wallets/{viewer}").json() for viewer in ("console-alice", "console-bob")]
            return [wallet["balance"] for wallet in wallets]

        read_until(balances, lambda found: found == [60, 10])
        share = api.get("/v1/transfers", params={"user_id": "console-alice"}).json()["items"][0]["id"]
        event = api.get("/v1/events", params={"goal_id": show}).json()["items"][0]["id"]
        request = api.post("/notify/pusher", content=b"{}").headers["X-Request-ID"]  # it is not signed
        left = {"request_id": request}
        read_until(lambda: api.get("/v1/activity", params=left).json()["items"], bool)
        other = post("/v1/sessions", {"user_id": "console-erin"})
        levels = [{"title": "Poems", "target": 600}]
        going_on = post("/v1/goals", {"kind": "ShowGoal", "session_id": other["id"], "levels": levels})
        ids = {
            "open": going_on["id"],
            "session": session["id"],
            "funding": funding["id"],
            "show": show,
            "refunded": refunded["id"],
        }
        with MongoClient[dict[str, Any]](dev["mongodb_url"]) as documents:
            letter = "nowhere/impossible/StopRecord"
            bury(documents, [letter])
            clips = a_clip(documents, show, "quarantined"), a_clip(documents, show, "failed", reason="no source")
        redrive = post("/v1/redrives", {"code": "rtc_failed", "reason": "BytePlus is back"})["id"]
        read_until(lambda: api.get(f"/v1/redrives/{redrive}").json()["state"], lambda state: state == "finished")
        found = {
            "letter": letter,
            "clip": clips[0],
            "failed_clip": clips[1],
            "redrive": redrive,
            "endpoint": endpoint,
            "request": request,
        }
        yield {**ids, **found, "share": quote(share, safe=""), "event": event}


def bury(documents: "MongoClient[dict[str, Any]]", places: list[str], code: str = "rtc_failed") -> None:
    """Writes dead letters of these places, whose reason begins with that code."""
    arguments = {"goal_id": "0" * 24, "session_id": "0" * 24}
    letter = {"task": "StopRecord", "reason": f"{code}: no answer", "tries": 5, "state": "dead", "arguments": arguments}
    now = documents.admin.command("hello")["localTime"]
    documents.get_default_database()["dead_letters"].insert_many(
        [{**letter, "_id": place, "promise": place, "at": now} for place in places]
    )


def a_clip(documents: "MongoClient[dict[str, Any]]", goal: str, state: str, **fields: Any) -> str:
    """Writes a clip of that goal, as if it had been cut."""
    now = documents.admin.command("hello")["localTime"]
    clip = {"state": state, "goal_id": ObjectId(goal), "user_id": "console-alice", "created_at": now, "begins_at": now}
    made = documents.get_default_database()["assets"].insert_one({**clip, "duration": 30.0, **fields})
    return str(made.inserted_id)


def send(dev: dict[str, Any], name: str, goal: str, user: str, at: datetime | None = None) -> None:
    """Posts a signed webhook, dated by its receipt unless a time is given."""
    event = {"name": name, "channel": f"presence-enc-goal@{goal}", "user_id": user}
    time = {"timestamp": ""} if at is None else {"time_ms": to_epoch_milliseconds(at)}
    body = json.dumps({**time, "events": [event]}).encode()
    headers = signed_headers(body, "goalsvc-key", "goalsvc-secret")
    httpx.post(f"{dev['api_url']}/notify/pusher", content=body, headers=headers, trust_env=False).raise_for_status()


def logged_in(browser: "Browser", dev: dict[str, Any], **options: Any) -> "Page":
    page = browser.new_context(**options).new_page()
    page.goto(f"{dev['api_url']}/console")
    page.get_by_label("API key").fill(KEY)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="From any id to its cause")).to_be_visible()
    return page
