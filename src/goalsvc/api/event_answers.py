"""Examples of what the operations of events, webhook endpoints and explanations answer."""

from typing import Any

_AT = "2026-01-01T20:07:00Z"
_GOAL_ID, _SESSION_ID = "68143584d6945d32e732cc21", "68143584d6945d32e732cc20"
_EVENT_ID = "evt_1f0c1d9c8e7b6a59483726150a1b2c3d"
_CAUSE = {"goal_id": _GOAL_ID, "event_id": "5f0c1d9c8e7b6a5948372615", "happened_at": _AT}

EVENT: dict[str, Any] = {
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

ANSWERS: dict[str, Any] = {
    "GET /v1/events": {"items": [EVENT], "next": "1042"},
    "GET /v1/events/{event_id}": EVENT,
}
