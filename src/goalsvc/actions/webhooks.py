"""Webhook endpoints: created, changed, given a new secret; events delivered to them once more."""

import base64
import ipaddress
import secrets as random_secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit

from pymongo import ASCENDING
from pymongo.errors import DuplicateKeyError

from goalsvc.context import Context
from goalsvc.domain.addresses import fault_of_address, is_public
from goalsvc.domain.call import Call
from goalsvc.domain.documents import RawDocument
from goalsvc.domain.events import selected_types
from goalsvc.domain.origin import Cause, Origin
from goalsvc.errors import ConflictError, InvalidError, NotFoundError
from goalsvc.models.event_log import EventDocument
from goalsvc.models.webhooks import MOST_ENDPOINTS, Delivery, Secret, WebhookEndpoint, selects

#: How many events one replay delivers.
MOST_REPLAYED = 10_000
_BATCH = 500
#: To how many traces of replayed events the replay's own trace links.
_MOST_LINKS = 32


@dataclass(frozen=True, slots=True)
class Replayed:
    """How many events are delivered again, and from when on to continue, if there are more."""

    events: int
    next: datetime | None


def new_secret() -> str:
    """A new secret in the form of Standard Webhooks."""
    return "whsec_" + base64.b64encode(random_secrets.token_bytes(24)).decode()


def check_url(context: Context, url: str) -> None:
    """Raises InvalidError unless events may be delivered to that address; its names are checked anew at each delivery."""
    if fault := fault_of_address(url):
        raise InvalidError("url", fault)
    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None:
        raise InvalidError("url", "must not contain a user name or password; deliveries are signed")
    host = parts.hostname or ""
    if context.settings.webhook_allow_private:
        return
    try:
        public = is_public(ipaddress.ip_address(host))
    except ValueError:
        public = host.rstrip(".").lower() != "localhost" and not host.lower().endswith((".localhost", ".local"))
    if not public:
        raise InvalidError("url", "must be a public address (GOALSVC_WEBHOOK_ALLOW_PRIVATE)")


def check_types(types: Sequence[str]) -> None:
    """Raises InvalidError for a pattern that selects no event type."""
    try:
        selected_types(types)
    except ValueError as error:
        raise InvalidError("types", str(error)) from None


async def create_endpoint(
    context: Context, call: Call, url: str, types: Sequence[str], description: str, enabled: bool, begins_after: int
) -> tuple[WebhookEndpoint, str]:
    """Creates an endpoint that receives the events from now on; it and its secret. Raises InvalidError, ConflictError."""
    check_url(context, url)
    check_types(types)
    if await WebhookEndpoint.get_motor_collection().count_documents({}, limit=MOST_ENDPOINTS) >= MOST_ENDPOINTS:
        raise ConflictError("too_many_endpoints", f"there are {MOST_ENDPOINTS} endpoints; delete one first")
    now, secret = context.clock.now(), new_secret()
    endpoint = WebhookEndpoint(
        id=f"whe_{call.object_id('endpoint')}",
        url=url,
        types=list(types),
        description=description,
        enabled=enabled,
        secrets=[Secret(secret=secret)],
        begins_after=begins_after,
        created_at=now,
        updated_at=now,
    )
    try:
        await endpoint.insert()
    except DuplicateKeyError:  # a repeat of the same call
        endpoint = await known_endpoint(endpoint.id)
        secret = endpoint.secrets[0].secret
    return endpoint, secret


async def known_endpoint(endpoint_id: str) -> WebhookEndpoint:
    """The endpoint of that id; raises NotFoundError."""
    endpoint = await WebhookEndpoint.find_one({"_id": endpoint_id})
    if endpoint is None:
        raise NotFoundError(f"there is no webhook endpoint {endpoint_id}")
    return endpoint


async def change_endpoint(context: Context, endpoint_id: str, changes: RawDocument) -> WebhookEndpoint:
    """Changes what is given of `url`, `types`, `description`, `enabled`. Raises InvalidError, NotFoundError."""
    if "url" in changes:
        check_url(context, changes["url"])
    if "types" in changes:
        check_types(changes["types"])
    update: RawDocument = {"$set": {**changes, "updated_at": context.clock.now()}}
    if changes.get("enabled"):
        update["$unset"] = {"failing_since": True, "disabled_at": True}
    changed = await WebhookEndpoint.change(endpoint_id, update)
    return changed or await known_endpoint(endpoint_id)


async def delete_endpoint(endpoint_id: str) -> WebhookEndpoint:
    """Deletes the endpoint and its deliveries; the endpoint as it was. Raises NotFoundError."""
    endpoint = await known_endpoint(endpoint_id)
    await WebhookEndpoint.get_motor_collection().delete_one({"_id": endpoint_id})
    await Delivery.get_motor_collection().delete_many({"endpoint_id": endpoint_id})
    return endpoint


async def rotate_secret(context: Context, endpoint_id: str) -> tuple[WebhookEndpoint, str]:
    """Gives the endpoint a new secret; both are valid for a day. Raises NotFoundError."""
    secret = new_secret()
    endpoint = await WebhookEndpoint.rotate(endpoint_id, secret, context.clock.now())
    return endpoint or await known_endpoint(endpoint_id), secret


async def replay(context: Context, endpoint_id: str, since: datetime, types: Sequence[str] | None) -> Replayed:
    """Delivers the endpoint's events since then once more. Raises InvalidError, NotFoundError."""
    endpoint = await known_endpoint(endpoint_id)
    check_types(types or ())
    selected = [name for name in selected_types(types or ("*",)) if selects(endpoint.types, name)]
    where: dict[str, object] = {"created_at": {"$gte": since}}
    if types or "*" not in endpoint.types:  # otherwise all, also types that a later version writes
        where["type"] = {"$in": selected}
    query = EventDocument.get_motor_collection().find(where, {"type": 1, "cause": 1, "created_at": 1})
    count = 0
    batch: list[tuple[str, Mapping[str, object]]] = []
    linked: list[str] = []
    async for event in query.sort([("created_at", ASCENDING)]).limit(MOST_REPLAYED + 1):
        if count == MOST_REPLAYED:
            await Delivery.owe(batch, context.clock.now(), again=True)
            return Replayed(count, event["created_at"])
        count += 1
        batch.append((endpoint.id, event))
        if count <= _MOST_LINKS and _spans_of(event):
            linked.extend(_spans_of(event))
            context.note(traceparent=linked)
        if len(batch) == _BATCH:
            await Delivery.owe(batch, context.clock.now(), again=True)
            batch = []
    await Delivery.owe(batch, context.clock.now(), again=True)
    return Replayed(count, None)


def _spans_of(event: Mapping[str, object]) -> list[str]:
    """Returns the root of the trace to which an event goes back, if there is one."""
    cause = Cause.read(event.get("cause"))
    text = Origin(cause.root or "", cause=cause).traceparent
    return [text] if text else []


async def resend(context: Context, event_id: str) -> int:
    """Delivers an event once more to each enabled endpoint that selects it; to how many. Raises NotFoundError."""
    event = await EventDocument.get_motor_collection().find_one({"_id": event_id}, {"type": 1, "cause": 1})
    if event is None:
        raise NotFoundError(f"there is no event {event_id}")
    endpoints = await WebhookEndpoint.all_enabled()
    selected = [(endpoint.id, event) for endpoint in endpoints if selects(endpoint.types, event["type"])]
    if spans := _spans_of(event):
        context.note(traceparent=spans)
    return await Delivery.owe(selected, context.clock.now(), again=True)
