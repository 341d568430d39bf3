"""Webhook endpoints of the platform's backend, and the deliveries of events to them."""

import base64
import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Annotated, Any, ClassVar, Self

import msgspec
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pymongo import ASCENDING, IndexModel, ReturnDocument, UpdateOne

from goalsvc.domain.reading import Flag, Instant, Text, Whole
from goalsvc.domain.shown import shown
from goalsvc.domain.webhooks import DISABLED_AFTER, ROTATION, DeliveryState
from goalsvc.errors import UnusableDocumentError
from goalsvc.models.bounded import MOST_MILLISECONDS
from goalsvc.models.healing import healing
from goalsvc.models.shared import Lenient

log = logging.getLogger(__name__)

#: How long an attempt is taken for running; another worker may then make it.
LEASE = timedelta(seconds=40)
#: How many endpoints there may be.
MOST_ENDPOINTS = 50


def _checked(secret: str) -> str:
    """Raises ValueError for what cannot sign."""
    base64.b64decode(secret.removeprefix("whsec_"))
    return secret


class Secret(BaseModel):
    """A secret with which deliveries are signed; one that was replaced is valid until `expires_at`."""

    secret: Annotated[Text, AfterValidator(_checked)]
    expires_at: Instant | None = None


class WebhookEndpoint(Lenient):
    """An address to which events are delivered. `types` holds patterns (`goal.*`)."""

    model_config = ConfigDict(extra="allow", arbitrary_types_allowed=True)

    _identity: ClassVar[type] = str

    id: str = Field(default="", alias="_id")  # type: ignore[assignment]
    url: Text
    types: list[Text] = ["*"]
    description: Text = ""
    enabled: Flag = True
    secrets: list[Secret] = []
    begins_after: Whole = 0
    """Events up to this place in the log happened before the endpoint was created."""
    created_at: Instant
    updated_at: Instant
    failing_since: Instant | None = None
    disabled_at: Instant | None = None

    class Settings:
        """Where and how Beanie keeps endpoints."""

        name = "webhook_endpoints"
        keep_nulls = False

    def valid_secrets(self, now: datetime) -> list[str]:
        """The secrets that are valid, the newest first."""
        return [each.secret for each in self.secrets if each.expires_at is None or each.expires_at > now]

    @classmethod
    async def all_enabled(cls, logged: set[str] | None = None) -> list[Self]:
        """The endpoints that are delivered to; one that cannot be used at all is passed over, and `logged` once."""
        return await cls.listed({"enabled": True}, "_id", most=0, logged=logged)

    @classmethod
    async def change(cls, endpoint_id: str, update: Mapping[str, object], **where: object) -> Self | None:
        """One find-one-and-update; the endpoint after the change, None when there is no such."""
        found = await cls.get_motor_collection().find_one_and_update(
            {"_id": endpoint_id, **where}, update, return_document=ReturnDocument.AFTER
        )
        return None if found is None else cls.model_validate(found)

    @classmethod
    async def rotate(cls, endpoint_id: str, secret: str, now: datetime) -> Self | None:
        """Replaces the secret; the one before remains valid for a day. Returns None when there is no such endpoint."""
        ends = now + ROTATION
        olds = {
            "$map": {
                "input": {"$cond": [{"$isArray": "$secrets"}, "$secrets", []]},
                "as": "s",
                "in": {"secret": "$$s.secret", "expires_at": {"$min": [{"$ifNull": ["$$s.expires_at", ends]}, ends]}},
            }
        }
        valid = {"$filter": {"input": olds, "as": "s", "cond": {"$gt": ["$$s.expires_at", now]}}}
        secrets = {"$concatArrays": [[{"secret": {"$literal": secret}}], {"$slice": [valid, 4]}]}
        found = await cls.get_motor_collection().find_one_and_update(
            {"_id": endpoint_id},
            [{"$set": {"secrets": secrets, "updated_at": now}}],
            return_document=ReturnDocument.AFTER,
        )
        return None if found is None else cls.model_validate(found)

    @classmethod
    async def worked(cls, endpoint_id: str) -> None:
        """Notes that a delivery was accepted."""
        update = {"$unset": {"failing_since": True}}
        await cls.get_motor_collection().update_one({"_id": endpoint_id, "failing_since": {"$ne": None}}, update)

    @classmethod
    async def failed(cls, endpoint_id: str, now: datetime) -> bool:
        """Notes that a delivery was not accepted; whether the endpoint has failed for so long that it is to be disabled."""
        endpoint = await cls.change(endpoint_id, {"$min": {"failing_since": now}}, enabled=True)
        return (
            endpoint is not None
            and endpoint.failing_since is not None
            and (endpoint.failing_since <= now - DISABLED_AFTER)
        )


class Delivery(Lenient):
    """One event for one endpoint: the attempts so far, and when the next one is due."""

    model_config = ConfigDict(extra="allow", arbitrary_types_allowed=True)

    _identity: ClassVar[type] = str
    added_to = ("tried",)

    id: str = Field(default="", alias="_id")  # type: ignore[assignment]
    endpoint_id: Text
    event_id: Text
    type: Text
    state: DeliveryState = DeliveryState.PENDING
    tried: Whole = 0
    attempts: list[dict[str, Any]] = []
    """The last 20 attempts: `at`, `status` or `error`, `ms`, `answer` (its first KB)."""
    created_at: Instant
    next_at: Instant | None = None
    claimed_until: Instant | None = None
    tried_at: Instant | None = None
    """When the last attempt was over."""
    cause: dict[str, object] = {}

    class Settings:
        """Where and how Beanie keeps deliveries; they end as the events do."""

        name = "deliveries"
        keep_nulls = False
        indexes: ClassVar[list[IndexModel]] = [
            IndexModel([("endpoint_id", ASCENDING), ("created_at", ASCENDING), ("_id", ASCENDING)], name="listed"),
            IndexModel(
                [("endpoint_id", ASCENDING), ("next_at", ASCENDING)],
                name="due",
                partialFilterExpression={"state": "pending"},
            ),
            IndexModel([("tried_at", ASCENDING), ("_id", ASCENDING)], name="tried", sparse=True),
        ]

    @classmethod
    async def owe(
        cls, deliveries: Iterable[tuple[str, Mapping[str, object]]], now: datetime, *, again: bool = False
    ) -> int:
        """Creates deliveries of events (endpoint id, event) that are not there; with `again`, all are tried anew, now.

        Returns how many were created or are tried anew.
        """
        writes = []
        for endpoint_id, event in deliveries:
            identity = f"{endpoint_id}:{event['_id']}"
            fixed = {
                "endpoint_id": endpoint_id,
                "event_id": event["_id"],
                "type": event["type"],
                "created_at": now,
                "cause": event.get("cause") or {},
            }
            pending = {"state": DeliveryState.PENDING.value, "tried": 0, "next_at": now}
            update = {"$setOnInsert": fixed, "$set": pending} if again else {"$setOnInsert": fixed | pending}
            writes.append(UpdateOne({"_id": identity}, update, upsert=True))
        if not writes:
            return 0
        made = await cls.get_motor_collection().bulk_write(writes, ordered=False)
        return int(made.upserted_count) + (int(made.matched_count) if again else 0)

    @classmethod
    async def is_due(cls, endpoint_id: str, now: datetime) -> bool:
        """Whether a delivery to that endpoint is due."""
        return await cls.get_motor_collection().find_one(cls._due(endpoint_id, now), {"_id": 1}) is not None

    @classmethod
    async def claim(cls, endpoint_id: str, now: datetime) -> Self | None:
        """Takes the delivery to that endpoint that has been due for longest, for one attempt.

        One that cannot be used at all is given up, so that it stands in no other's way.
        """
        deliveries = cls.get_motor_collection()
        while True:
            found = await deliveries.find_one_and_update(
                cls._due(endpoint_id, now),
                {"$set": {"claimed_until": now + LEASE}},
                sort=[("next_at", ASCENDING)],
                return_document=ReturnDocument.AFTER,
            )
            if found is None:
                return None
            try:
                delivery: Self = cls.model_validate(found)
            except UnusableDocumentError as error:
                log.warning("a delivery is given up: %s", error.message)
                given_up = {"$set": {"state": DeliveryState.FAILED.value}, "$unset": {"claimed_until": True}}
                await deliveries.update_one({"_id": found["_id"]}, given_up)
            else:
                return delivery

    @staticmethod
    def _due(endpoint_id: str, now: datetime) -> dict[str, object]:
        unclaimed = [{"claimed_until": None}, {"claimed_until": {"$lte": now}}]
        return {"endpoint_id": endpoint_id, "state": "pending", "next_at": {"$lte": now}, "$or": unclaimed}

    @classmethod
    async def conclude(
        cls,
        delivery: Self,
        attempt: Mapping[str, object],
        state: DeliveryState,
        next_at: datetime | None,
        now: datetime,
    ) -> None:
        """Writes an attempt down that is over now, unless another worker took the delivery meanwhile."""
        update: dict[str, object] = {
            "$push": {"attempts": {"$each": [dict(attempt)], "$slice": -20}},
            "$inc": {"tried": 1},
            "$set": {"state": state.value, "tried_at": now, **({"next_at": next_at} if next_at is not None else {})},
            "$unset": {"claimed_until": True, **({"next_at": True} if next_at is None else {})},
        }
        where = {"_id": delivery.id, "claimed_until": delivery.claimed_until}
        await healing(cls, delivery.id, lambda: cls.get_motor_collection().update_one(where, update))


async def deliveries_of(event_ids: Sequence[str]) -> Mapping[str, Sequence[Delivery]]:
    """Returns the deliveries of these events, by event; one that cannot be used is passed over. Raises PyMongoError.

    A delivery's id is made of its endpoint's and its event's, so that no index names the event; there are few endpoints.
    """
    known = WebhookEndpoint.get_motor_collection().find({}, {"_id": 1}).limit(MOST_ENDPOINTS)
    endpoints = await known.max_time_ms(MOST_MILLISECONDS).to_list(MOST_ENDPOINTS)
    ids = [f"{endpoint['_id']}:{event_id}" for endpoint in endpoints for event_id in event_ids]
    found: dict[str, list[Delivery]] = {event_id: [] for event_id in event_ids}
    if ids:
        stored = Delivery.get_motor_collection().find({"_id": {"$in": ids}}).sort("_id", ASCENDING)
        for document in await stored.max_time_ms(MOST_MILLISECONDS).to_list(len(ids)):
            with suppress(UnusableDocumentError):
                delivery = Delivery.model_validate(document)
                found[delivery.id.partition(":")[2]].append(delivery)
    return found


_SHOWN = ("type", "created_at", "sequence", "goal_id", "session_id", "user_ids", "data", "cause")


def payload_of(event: Mapping[str, object]) -> bytes:
    """The body of a delivery: the event as the feed shows it."""
    body = {"id": event["_id"], **{name: event[name] for name in _SHOWN if name in event}}
    return msgspec.json.encode(shown(body))


def selects(types: Sequence[str], event_type: str) -> bool:
    """Whether these patterns select that type; a pattern of a later version selects what it says."""
    return any(
        pattern in ("*", event_type) or (pattern.endswith(".*") and event_type.startswith(pattern[:-1]))
        for pattern in types
    )
