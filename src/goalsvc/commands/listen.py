"""`goalsvc listen`: follows the event feed and posts each event, signed, to a server on this machine."""

import ipaddress
import json
import re
from collections.abc import AsyncGenerator, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import httpx

from goalsvc.actions.webhooks import new_secret
from goalsvc.commands.api import Api, CommandError, Target, is_address
from goalsvc.domain.webhooks import ANSWER_SECONDS
from goalsvc.integrations.webhook_sender import signatures

#: How long the API waits for an event.
_WAIT_SECONDS = 4
_SECRET = re.compile(r"whsec_[A-Za-z0-9+/]{2,}={0,2}")

Event = Mapping[str, Any]


async def listen_to(
    target: Target,
    url: str,
    *,
    types: str | None,
    after: str | None,
    secret: str | None,
    as_json: bool,
    tell: Callable[[str], None],
) -> None:
    """Posts every event to that URL, one line each, until it is cancelled. Raises CommandError, for what is wrong at once."""
    _check_address(url)
    own = secret or new_secret()
    _signatures(own, "evt_", datetime.now(UTC), b"")
    if secret is None and not as_json:
        tell(f"signed with {own}")
    async for event in follow(target, types=types, after=after):
        line = await forward(url, own, event)
        tell(json.dumps(event, ensure_ascii=False) if as_json else line)


def _check_address(url: str) -> None:
    """Raises CommandError unless the address is that of a server on this machine: what is posted are all events."""
    if not is_address(url):
        raise CommandError(f"--forward-to: {url!r} is not an http(s) address")
    host = httpx.URL(url).host
    try:
        here = ipaddress.ip_address(host).is_loopback
    except ValueError:
        here = host.rstrip(".") == "localhost" or host.rstrip(".").endswith(".localhost")
    if not here:
        raise CommandError(
            f"--forward-to: {host} is not this machine: use localhost or a loopback address; for other servers there are "
            "webhook endpoints (POST /v1/webhook-endpoints)"
        )


def _signatures(secret: str, event_id: str, at: datetime, body: bytes) -> str:
    try:
        if _SECRET.fullmatch(secret):
            return signatures([secret], event_id, at, body)
    except ValueError:  # as many letters as no bytes have
        pass
    raise CommandError("--secret: must be `whsec_` and base64")


async def follow(target: Target, *, types: str | None, after: str | None) -> AsyncGenerator[Event, None]:
    """Every event after the cursor, or from now on, as it happens. Raises CommandError."""
    filters = {"types": types} if types else {}
    async with Api.open(target) as api:
        cursor = after if after is not None else await _end_of(api)
        while True:
            page = await api.get("/v1/events", after=cursor, wait=str(_WAIT_SECONDS), **filters)
            for event in page["items"]:
                yield event
            cursor = page["next"]


async def _end_of(api: Api) -> str:
    """The cursor behind the last event: only what happens from now on is of interest."""
    newest = (await api.get("/v1/events", order="desc", limit="1"))["items"]
    if newest:
        return str(newest[0]["sequence"])
    return str((await api.get("/v1/events", limit="1"))["next"])


async def forward(url: str, secret: str, event: Event) -> str:
    """Posts the event to that URL as an outgoing webhook is posted; what came of it, in one line."""
    body = json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()
    at = datetime.now(UTC)
    headers = {
        "content-type": "application/json",
        "webhook-id": event["id"],
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": _signatures(secret, event["id"], at, body),
    }
    try:
        async with httpx.AsyncClient(timeout=ANSWER_SECONDS, trust_env=False) as client:
            answer = await client.post(url, content=body, headers=headers)
        told = str(answer.status_code)
    except httpx.HTTPError as error:
        told = f"no answer ({type(error).__name__})"
    return f"{event['sequence']:>8}  {event['type']:<28} {event.get('goal_id', '-'):<24}  -> {told}"
