"""The OpenAPI document: what FastAPI cannot derive from the code. Texts, examples of answers, causes of errors, the webhook."""

import json
import re
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from goalsvc.api import errors, event_answers
from goalsvc.api.errors import Problem
from goalsvc.api.examples_of import example_of

DESCRIPTION = """
goalsvc keeps the score and the money of live performances. Pusher tells it by webhook when a performer joins and leaves a
goal's presence channel; goalsvc turns that into performed seconds, completes and ends goals, pays or refunds escrow, cuts the
clip, stops the recording, and informs everyone concerned.

Every error is `application/problem+json` (RFC 9457) with a stable `code`. Lists are `{"items": […], "next": cursor or null}`;
ask again with `cursor=` for the next page. Query parameters that an operation does not have are refused. Amounts are whole
tokens, durations whole seconds, times ISO 8601 in UTC.

What goalsvc tells, through Pusher and to webhook endpoints, is read at `/docs/events` (AsyncAPI 3: `/asyncapi.json`).

### A first show
1. `PUT /v1/users/{id}`, then `POST /v1/sessions`: the livestream begins.
2. `POST /v1/goals` makes a FundingGoal; viewers, who have tokens by `POST /v1/wallets/{id}/deposits`, contribute by
   `POST /v1/goals/{id}/contributions`. At its target the ShowGoal begins by itself.
3. The performer's client joins `presence-enc-goal@{goal_id}` (pusher-js asks `POST /pusher/auth`) and leaves it when the
   performance stops. Pusher tells `POST /notify/pusher`; the seconds are counted, and at the target the escrow is paid.
4. `GET /v1/goals/{id}/trace` shows all that happened, and why.
"""

TAGS: list[dict[str, object]] = [
    {"name": "Webhook", "description": "What Pusher calls when a user joins or leaves a channel."},
    {"name": "Pusher", "description": "What pusher-js calls, with the user's own token: may they join this channel?"},
    {"name": "Users", "description": "What goalsvc needs to know of performers and viewers."},
    {"name": "Sessions", "description": "Livestreams, and who may watch them."},
    {"name": "Channels", "description": "What a client shows when it subscribes, before the first event comes."},
    {"name": "Goals", "description": "Funding, requests, shows, songs and private minutes; and what happened to them."},
    {
        "name": "Wallet",
        "description": "Tokens: deposits, balances, escrows, transfers. Double entry: all sums to zero.",
    },
    {
        "name": "Money",
        "description": "Money in and out: withdrawals, reversals, corrections, tips, refunds of completed goals.",
    },
    {"name": "Statements", "description": "Statements of wallets and escrows, exports of all transfers."},
    {"name": "Reports", "description": "The audit of the books, and the seals of closed days."},
    {"name": "Activity", "description": "What arrives and is done, for people who watch or look back."},
    {"name": "Search", "description": "Whatever has a given id."},
    {"name": "Keys", "description": "API keys with scopes: created, rolled, revoked."},
    {"name": "Audit", "description": "Who changed what, by which key."},
    {"name": "Clips", "description": "Clips of performances: which seconds they show, where the file is; cut again."},
    {"name": "Dead letters", "description": "Tasks that were given up after their last try, to be tried again."},
    {"name": "Events", "description": "What happened, in one order, for the platform's backend: feed and stream."},
    {"name": "Webhooks out", "description": "Endpoints to which events are delivered, signed by Standard Webhooks."},
    {"name": "Explanations", "description": "Why a transfer was made, and why a goal is not paid."},
    {"name": "Health", "description": "For orchestrators and Prometheus. No key is needed."},
]

# -- the OpenAPI document ---------------------------------------------------------------------------------------------

#: How the webhook is signed, for programs that send one themselves.
SIGNING = """
```python
import hashlib, hmac, json

body = json.dumps({"time_ms": now_ms, "events": events}).encode()
headers = {
    "Content-Type": "application/json",
    "X-Pusher-Key": key,
    "X-Pusher-Signature": hmac.new(secret.encode(), body, hashlib.sha256).hexdigest(),
}
```

The signature is over the bytes of the body as they are sent. `goalsvc send` signs and posts one for you.
"""

#: The webhook's body. It is read by a faster parser than the other bodies, so that its schema is written down here.
WEBHOOK_SCHEMA: dict[str, object] = {
    "type": "object",
    "required": ["events"],
    "anyOf": [{"required": ["time_ms"]}, {"required": ["timestamp"]}],
    "properties": {
        "time_ms": {
            "anyOf": [{"type": "integer"}, {"type": "null"}],
            "description": "When it happened: epoch milliseconds.",
        },
        "timestamp": {
            "anyOf": [{"type": "number"}, {"type": "string"}, {"type": "null"}],
            "description": "In place of `time_ms`: epoch seconds or milliseconds, ISO 8601, or empty: now.",
        },
        "events": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name", "channel"],
                "properties": {
                    "name": {"type": "string", "description": "`member_added`, `channel_vacated`, …"},
                    "channel": {"type": "string"},
                    "user_id": {"anyOf": [{"type": "string"}, {"type": "number"}, {"type": "null"}]},
                },
            },
        },
    },
}

SECURITY_SCHEMES: dict[str, object] = {
    "PusherKey": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Pusher-Key",
        "description": "A configured Pusher app key.",
    },
    "PusherSignature": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Pusher-Signature",
        "description": "Hex HMAC-SHA256 of the raw request body under the secret of that app key.",
    },
    "MetricsKey": {
        "type": "http",
        "scheme": "bearer",
        "description": "The setting `GOALSVC_METRICS_KEY`; where it is empty, none is asked for.",
    },
}


_GOAL_ID, _SESSION_ID, _AT = "68143584d6945d32e732cc21", "68143584d6945d32e732cc20", "2026-01-01T20:00:00Z"
_SESSION: dict[str, object] = {
    "id": _SESSION_ID,
    "user_id": "u-alice-1",
    "statuses": {"started": _AT},
    "status": {},
    "show_goal_pairs": [{"funding_goal": "68143584d6945d32e732cc1f", "show_goal": _GOAL_ID}],
    "exclusive_goal_pairs": {},
    "viewers": {},
    "karaoke_goal": None,
    "rtc": {"room_id": "room-1"},
}
_GOAL: dict[str, object] = {
    "id": _GOAL_ID,
    "kind": "ShowGoal",
    "active": True,
    "progress": 120,
    "level": 0,
    "levels": [{"title": "Ukulele medley", "target": 360}],
    "conditions": {"session_id": _SESSION_ID},
    "context": {"started": _AT, "paused": "2026-01-01T20:02:00Z", "last_updated": "2026-01-01T20:02:00Z"},
    "metadata": {"user_id": "u-alice-1", "private": False, "price": 0},
    "breakdown_id": None,
    "exp": None,
    "triggerer": None,
}
_REQUEST: dict[str, Any] = _GOAL | {
    "kind": "TriggerGoal",
    "active": False,
    "progress": 0,
    "levels": [],
    "context": {},
    "metadata": {
        "user_id": "u-alice-1",
        "viewer_id": "u-bob-2",
        "private": True,
        "price": 300,
        "exclusive": {"title": "A private minute", "target": 360},
    },
    "exp": "2026-01-01T20:02:00Z",
}
_TRANSFER: dict[str, object] = {
    "id": f"escrow-show_funding:{_GOAL_ID}-68143584d6945d32e732cc2a-u-alice-1",
    "from_user_id": None,
    "to_user_id": "u-alice-1",
    "debit": f"escrow:show_funding:{_GOAL_ID}",
    "credit": "user:u-alice-1",
    "amount": 250,
    "tags": [f"escrow::show_funding:{_GOAL_ID}"],
    "metadata": {"doc_id": "68143584d6945d32e732cc2a", "user_id": "u-alice-1"},
    "created_at": "2026-01-01T20:07:00Z",
    "updated_at": "2026-01-01T20:07:00Z",
}
_LETTER: dict[str, object] = {
    "id": f"goals/{_GOAL_ID}/StopRecord",
    "task": "StopRecord",
    "arguments": {"goal_id": _GOAL_ID, "session_id": _SESSION_ID},
    "reason": "external_service: byteplus: HTTP 500",
    "at": "2026-01-01T20:09:00Z",
    "tries": 7,
    "state": "dead",
    "goal_id": _GOAL_ID,
    "history": [{"at": "2026-01-01T20:09:00Z", "reason": "external_service: byteplus: HTTP 500", "tries": 7}],
    "redriven_at": None,
}
_REDRIVE: dict[str, object] = {
    "id": "rdr_68143584d6945d32e732cc40",
    "task": "StopRecord",
    "code": "external_service",
    "goal_id": None,
    "limit": None,
    "state": "finished",
    "found": 240,
    "redriven": 200,
    "failed": 0,
    "failures": [],
    "by_others": [{"redrive_id": None, "key": "support", "letters": 40}],
    "key": "env",
    "reason": "BytePlus is back",
    "created_at": "2026-01-02T09:00:00Z",
    "updated_at": "2026-01-02T09:00:03Z",
    "finished_at": "2026-01-02T09:00:03Z",
}
_TRACE: dict[str, object] = {
    "events": [
        {
            "kind": "webhook",
            "name": "member_removed",
            "sender": "channel_vacated",
            "outcome": "done",
            "at": "2026-01-01T20:02:00Z",
            "ms": 2.1,
            "children": [
                {
                    "kind": "signal",
                    "name": "ext.pusher",
                    "sender": "channel_vacated",
                    "outcome": "done",
                    "at": "2026-01-01T20:02:00Z",
                    "ms": 1.9,
                    "children": [
                        {
                            "kind": "receiver",
                            "name": "trigger_online",
                            "outcome": "returned",
                            "reason": "not_a_user_channel",
                            "at": "2026-01-01T20:02:00Z",
                            "ms": 0.0,
                            "children": [],
                        }
                    ],
                }
            ],
        }
    ],
    "next": None,
    "truncated": False,
    "summary": {"nodes": 3, "transfers": 0, "failures": 0},
}

#: An example of what each operation answers when it succeeds, where its models do not give one.
ANSWERS: dict[str, object] = {
    "PUT /v1/users/{user_id}": {
        "id": "u-alice-1",
        "username": "Alice",
        "tags": ["verified"],
        "online": True,
        "last_seen": _AT,
        "byteplus": {"hls_url": "https://pull.example.com/live/alice/playlist.m3u8"},
    },
    "POST /v1/sessions": _SESSION | {"show_goal_pairs": []},
    "GET /v1/sessions/{session_id}": _SESSION,
    "POST /v1/sessions/{session_id}/end": _SESSION | {"statuses": {"started": _AT, "ended": "2026-01-01T22:00:00Z"}},
    "GET /v1/sessions/{session_id}/token": {
        "session_id": _SESSION_ID,
        "viewer_id": "u-bob-2",
        "allowed": True,
        "reason": "exclusive",
        "nbf": _AT,
        "exp": "2026-01-01T20:06:00Z",
    },
    "GET /v1/channels/{channel}": {
        "user_id": "u-alice-1",
        "session": {"id": _SESSION_ID, "started": _AT, "exclusive_to": None},
        "goals": [
            {name: _GOAL[name] for name in ("id", "kind", "progress", "level", "levels", "exp")},
        ],
    },
    "POST /v1/goals": _GOAL | {"progress": 0, "context": {}},
    "GET /v1/goals": {"items": [_GOAL], "next": _GOAL_ID},
    "GET /v1/goals/{goal_id}": _GOAL,
    "POST /v1/goals/{goal_id}/end": _GOAL | {"active": False, "exp": "2026-01-01T20:03:00Z"},
    "POST /v1/goals/{goal_id}/contributions": {
        "id": "68143584d6945d32e732cc2a",
        "goal_id": _GOAL_ID,
        "user_id": "u-alice-1",
        "from_user_id": "u-bob-2",
        "amount": 250,
        "surplus": 0,
        "transfer_id": f"contribution-{_GOAL_ID}-2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c",
        "created_at": _AT,
        "updated_at": _AT,
        "progress": 750,
    },
    "POST /v1/goals/{goal_id}/agree": _REQUEST | {"triggerer": "u-alice-1"},
    "POST /v1/goals/{goal_id}/decline": _REQUEST,
    "GET /v1/goals/{goal_id}/leaderboard": {
        "items": [{"user_id": "u-bob-2", "amount": 750}, {"user_id": "u-carol-3", "amount": 250}],
        "next": None,
    },
    "GET /v1/goals/{goal_id}/trace": _TRACE,
    "POST /v1/wallets/{user_id}/deposits": _TRANSFER
    | {
        "id": "deposit-u-alice-1-2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c",
        "debit": "issuer",
        "tags": ["deposit"],
        "metadata": {},
    },
    "GET /v1/wallets/{user_id}": {"id": "u-alice-1", "balance": 1500},
    "GET /v1/escrows/{escrow_id}": {"id": f"show_funding:{_GOAL_ID}", "balance": 1000},
    "GET /v1/transfers": {"items": [_TRANSFER], "next": None},
    "GET /v1/dead-letters": {"items": [_LETTER], "next": None},
    "POST /v1/dead-letters/{letter_id}/redrive": _LETTER | {"state": "redriven", "redriven_at": "2026-01-02T09:00:00Z"},
    "POST /v1/redrives": _REDRIVE
    | {"state": "running", "redriven": 0, "by_others": [], "updated_at": "2026-01-02T09:00:00Z", "finished_at": None},
    "GET /v1/redrives": {"items": [_REDRIVE], "next": None},
    "GET /v1/redrives/{redrive_id}": _REDRIVE,
    **event_answers.ANSWERS,
    "GET /healthz": {"status": "ok"},
    "GET /readyz": {"mongodb": "ok", "redis": "ok"},
}


def describe(app: FastAPI) -> dict[str, object]:
    """The app's OpenAPI 3.1 document: what FastAPI finds in the code, with examples and causes."""
    document = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        routes=app.routes,
        tags=TAGS,
        openapi_version="3.1.0",
        contact=app.contact,
        license_info=app.license_info,
        servers=[{"url": "/", "description": "The goalsvc that serves this document."}],
    )
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(problem.pop("$defs"))
    schemas |= {"PusherWebhook": WEBHOOK_SCHEMA, "Problem": problem}
    for fastapis_own in ("HTTPValidationError", "ValidationError"):
        schemas.pop(fastapis_own, None)
    components.setdefault("securitySchemes", {}).update(SECURITY_SCHEMES)
    document["webhooks"] = event_answers.webhooks()
    document["paths"]["/notify/pusher"]["post"]["description"] += f"\n{SIGNING}"
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if "requestBody" in operation and "413" not in operation["responses"]:
                operation["responses"]["413"] = errors.responses(413)[413]
            _describe_answers(f"{method.upper()} {path}", operation["responses"], schemas)
    return document


def _describe_answers(operation: str, answers: dict[str, Any], schemas: dict[str, Any]) -> None:
    if errors.PROBLEM_JSON not in answers.get("422", {}).get("content", {errors.PROBLEM_JSON: None}):
        answers["422"] = errors.responses(422)[422]  # FastAPI adds its own form of it, which is never sent
    for status, answer in answers.items():
        if errors.PROBLEM_JSON in answer.get("content", {}):
            cause = answer["description"]
            content = answer["content"][errors.PROBLEM_JSON] | {"example": _problem_example(int(status), cause)}
            answers[status] = {"description": cause, "content": {errors.PROBLEM_JSON: content}}
    success = next(status for status in answers if status.startswith("2"))
    content = answers[success].get("content", {}).get("application/json")
    if operation in ANSWERS:
        content["example"] = ANSWERS[operation]
    elif content and not {"example", "examples"} & set(content):
        content["example"] = example_of(content["schema"], schemas)


#: One for all examples, so that the document is the same each time that it is made.
_REQUEST_ID = "req_5f2c1a9b7d3e4f6081726354"

#: The code of an error of that status, where its cause does not name another.
_CODES = {
    401: "unauthorized",
    402: "insufficient_funds",
    404: "not_found",
    409: "conflict",
    410: "cursor_expired",
    413: "too_large",
    422: "invalid",
    503: "unavailable",
}


def _problem_example(status: int, cause: str) -> dict[str, object]:
    """An error of that status, with the first of the codes that its cause names."""
    named = re.search(r"\(`(\w+)`\)", cause)
    code = named[1] if named else _CODES[status]
    faults = (
        [errors.Fault(field="levels.0.target", message="Input should be greater than 0")] if status == 422 else None
    )
    example: dict[str, object] = json.loads(
        bytes(errors.problem(status, code, "what is wrong, for people", faults).body)
    )
    return example | {"request_id": _REQUEST_ID}


# -- the app ----------------------------------------------------------------------------------------------------------
