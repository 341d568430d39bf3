"""Examples of what the operations of events, webhook endpoints and explanations answer."""

from goalsvc.domain.events import EVENT_TYPES, TELLING_OF_TRANSFERS

_AT = "2026-01-01T20:07:00Z"
_GOAL_ID, _SESSION_ID = "68143584d6945d32e732cc21", "68143584d6945d32e732cc20"
_EVENT_ID = "evt_1f0c1d9c8e7b6a59483726150a1b2c3d"
_CAUSE = {"goal_id": _GOAL_ID, "event_id": "5f0c1d9c8e7b6a5948372615", "happened_at": _AT}

EVENT: dict[str, object] = {
    "id": _EVENT_ID,
    "type": "goal.completed",
    "created_at": _AT,
    "sequence": 1042,
    "goal_id": _GOAL_ID,
    "session_id": _SESSION_ID,
    "user_ids": ["u-alice-1"],
    "data": {
        "goal": {
            "id": _GOAL_ID,
            "kind": "ShowGoal",
            "active": True,
            "progress": 360,
            "level": 1,
            "levels": [{"title": "Ukulele medley", "target": 360}],
            "conditions": {"session_id": _SESSION_ID},
            "context": {"started": "2026-01-01T20:00:00Z", "paused": _AT},
            "metadata": {"user_id": "u-alice-1", "order": "platform-order-17"},
        }
    },
    "cause": _CAUSE,
}

#: A transfer as an event tells of it; the same in all events, whatever the verb.
_TRANSFER: dict[str, object] = {
    "id": "deposit-u-bob-2-0f6b3c9d2a4e8f7061524334a1b2c3d4e5f60718",
    "debit": "issuer",
    "credit": "user:u-bob-2",
    "to_user_id": "u-bob-2",
    "amount": 250,
    "tags": ["deposit"],
    "metadata": {},
    "reference": "pi_3MtwBwLkdIwHu7ix28a3tqPa",
    "created_at": _AT,
}

_ENDPOINT: dict[str, object] = {
    "id": "whe_68143584d6945d32e732cc40",
    "url": "https://backend.example.com/goalsvc",
    "types": ["goal.*", "escrow.*"],
    "description": "the shop",
    "enabled": True,
    "created_at": _AT,
    "updated_at": _AT,
    "failing_since": None,
    "disabled_at": None,
}
_DELIVERY: dict[str, object] = {
    "id": f"whe_68143584d6945d32e732cc40:{_EVENT_ID}",
    "endpoint_id": "whe_68143584d6945d32e732cc40",
    "event_id": _EVENT_ID,
    "type": "goal.completed",
    "state": "delivered",
    "attempts": [{"at": _AT, "ms": 41.5, "status": 200, "error": None, "answer": "ok"}],
    "next_at": None,
    "created_at": _AT,
    "updated_at": _AT,
}
_SECRET = {"secret": "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"}

_WHY: dict[str, object] = {
    "sentence": "u-alice-1 received 250 tokens at 2026-01-01 20:07:00 UTC because the ShowGoal “Ukulele” reached level 1 "
    "(360 s) with 360 s performed; reported by a webhook about 2026-01-01 20:06:00 UTC; this share is u-bob-2's contribution "
    "of 2026-01-01 19:50:00 UTC.",
    "chain": [
        {
            "kind": "webhook",
            "id": "5f0c1d9c8e7b6a59",
            "text": "reported by a webhook about 2026-01-01 20:06:00 UTC",
            "at": _AT,
        },
    ],
}

ANSWERS: dict[str, object] = {
    "GET /v1/events": {"items": [EVENT], "next": "1042"},
    "GET /v1/events/{event_id}": EVENT,
    "GET /v1/transfers/{transfer_id}/why": _WHY,
    "GET /v1/goals/{goal_id}/why-not": _WHY
    | {"sentence": "The ShowGoal “Ukulele medley” had 300 of 360 s performed; 60 of 360 s are missing."},
    "POST /v1/events/{event_id}/resend": {"endpoints": 1},
    "POST /v1/webhook-endpoints": _ENDPOINT | _SECRET,
    "GET /v1/webhook-endpoints": {"items": [_ENDPOINT], "next": None},
    "GET /v1/webhook-endpoints/{endpoint_id}": _ENDPOINT,
    "PATCH /v1/webhook-endpoints/{endpoint_id}": _ENDPOINT,
    "DELETE /v1/webhook-endpoints/{endpoint_id}": _ENDPOINT,
    "POST /v1/webhook-endpoints/{endpoint_id}/rotate": _ENDPOINT | _SECRET,
    "GET /v1/webhook-endpoints/{endpoint_id}/deliveries": {"items": [_DELIVERY], "next": None},
    "GET /v1/events/{event_id}/deliveries": {"items": [_DELIVERY], "next": None},
    "POST /v1/webhook-endpoints/{endpoint_id}/replay": {"events": 42, "next": None},
}


def webhooks() -> dict[str, object]:
    """The outgoing webhooks, for the OpenAPI document: one for each type of event."""
    return {name: {"post": _webhook(name, told)} for name, told in EVENT_TYPES.items()}


def example_of_event(name: str) -> dict[str, object]:
    """An event of that type."""
    if name == EVENT["type"]:
        return EVENT
    return EVENT | {"type": name, "data": {"transfer": _TRANSFER} if name in TELLING_OF_TRANSFERS else {}}


def _webhook(name: str, told: str) -> dict[str, object]:
    headers = {
        "webhook-id": "The event's id; the same in every attempt.",
        "webhook-timestamp": "When it was sent, in epoch seconds.",
        "webhook-signature": "`v1,` and the base64 HMAC-SHA256 of `{id}.{timestamp}.{body}`; several, separated by spaces, "
        "for a day after a rotation of the secret (Standard Webhooks).",
    }
    return {
        "operationId": "on_" + name.replace(".", "_"),
        "summary": name,
        "description": told,
        "tags": ["Webhooks out"],
        "security": [],
        "parameters": [
            {"name": header, "in": "header", "required": True, "description": text, "schema": {"type": "string"}}
            for header, text in headers.items()
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"$ref": "#/components/schemas/EventView"},
                    "example": example_of_event(name),
                }
            },
        },
        "responses": {"200": {"description": "Delivered; so is any other 2xx within 15 s."}},
    }
