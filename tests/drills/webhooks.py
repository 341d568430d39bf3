"""Signed webhooks, as Pusher sends them."""

import hmac
import json
from hashlib import sha256

import httpx

from .processes import KEY, SECRET


def signed(name: str, goal: str, user: str, time_ms: int) -> tuple[bytes, dict[str, str]]:
    """The body and headers of a webhook with one event."""
    event = {"name": name, "channel": f"presence-enc-goal@{goal}", "user_id": user}
    body = json.dumps({"time_ms": time_ms, "events": [event]}).encode()
    signature = hmac.new(SECRET.encode(), body, sha256).hexdigest()
    return body, {"X-Pusher-Key": KEY, "X-Pusher-Signature": signature, "Content-Type": "application/json"}


def send(client: httpx.Client, name: str, goal: str, user: str, time_ms: int) -> int:
    """Sends it; the status of the answer."""
    body, headers = signed(name, goal, user, time_ms)
    return client.post("/notify/pusher", content=body, headers=headers).status_code
