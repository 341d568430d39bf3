"""The API process: the FastAPI app, with everything opened when it starts and closed when it stops."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Depends, FastAPI
from fastapi.openapi.utils import get_openapi

from goalsvc import __version__
from goalsvc.api import dead_letters, errors, goals, health, sessions, users, wallets, webhook
from goalsvc.api.dependencies import require_api_key
from goalsvc.api.errors import Problem
from goalsvc.settings import Settings
from goalsvc.wiring import open_context

DESCRIPTION = """
goalsvc keeps the score and the money of live performances. Pusher tells it by webhook when a performer joins and leaves a
goal's presence channel; goalsvc turns that into performed seconds, completes and ends goals, pays or refunds escrow, cuts the
clip, stops the recording, and tells everybody concerned.

Every error is `application/problem+json` (RFC 9457) with a stable `code`. Lists are `{"items": […], "next": cursor or null}`.
Amounts are whole tokens, durations whole seconds, times ISO 8601 in UTC.
"""

#: The webhook's body. It is read by a faster parser than the other bodies, so that its schema is written down here.
WEBHOOK_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["events"],
    "properties": {
        "time_ms": {"type": "integer", "description": "When it happened: epoch milliseconds."},
        "timestamp": {
            "anyOf": [{"type": "number"}, {"type": "string"}],
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

SECURITY_SCHEMES: dict[str, Any] = {
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
}


def create_app(settings: Settings | None = None) -> FastAPI:
    """The app; without settings it reads the environment when it starts."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        own = settings or Settings.from_environment()
        async with open_context(own) as (context, resources):
            app.state.context = context
            app.state.resources = resources
            app.state.webhook_secrets = own.webhook_secrets
            yield

    app = FastAPI(title="goalsvc", version=__version__, description=DESCRIPTION, lifespan=lifespan)
    errors.install(app)
    app.include_router(webhook.router)
    for module in (users, sessions, goals, wallets, dead_letters):
        app.include_router(module.router, dependencies=[Depends(require_api_key)])
    app.include_router(health.router)

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
                openapi_version="3.1.0",
            )
            components = document.setdefault("components", {})
            components.setdefault("schemas", {})["PusherWebhook"] = WEBHOOK_SCHEMA
            problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
            components["schemas"].update(problem.pop("$defs"))
            components["schemas"]["Problem"] = problem
            components.setdefault("securitySchemes", {}).update(SECURITY_SCHEMES)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
    return app
