"""`/examples` of `goalsvc dev`: small pages that join channels as a performer and a viewer, to be read and copied."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import jwt
from fastapi import FastAPI, Query, Request
from fastapi.responses import RedirectResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel

from goalsvc.api.dependencies import ContextOf, UserIdText
from goalsvc.settings import Settings

_BESIDE_THE_SOURCE = Path(__file__).parents[3] / "examples"
_IN_THE_WHEEL = Path(__file__).parents[1] / "examples"

#: Keys that everyone knows. A key that the environment configured is never given to a page.
_KNOWN_API_KEY = "goalsvc-api-key"
_KNOWN_JWT_KEY = "goalsvc-jwt-key-for-development-only"
_TOKEN_LIVES = timedelta(hours=12)


class PusherAddress(BaseModel):
    """Where a page connects to Pusher."""

    host: str
    port: int
    key: str
    tls: bool


class ExampleSettings(BaseModel):
    """What a page of the examples needs; the keys are empty unless they are those that `goalsvc dev` sets."""

    pusher: PusherAddress
    api_key: str
    user_token: str


def serve_examples(app: FastAPI) -> None:
    """Serves the folder of examples, from the checkout or from the wheel, and what its pages need to know."""

    @app.get("/examples/config.json", include_in_schema=False)
    async def example_settings(context: ContextOf, user_id: Annotated[UserIdText, Query()]) -> ExampleSettings:
        """Returns where Pusher is, and a token of that user."""
        return settings_for(context.settings, user_id, context.clock.now())

    @app.get("/examples", include_in_schema=False)
    async def first_page(request: Request) -> RedirectResponse:
        """Leads to the page with links to the others, which relate to its folder."""
        return RedirectResponse(f"{request.scope.get('root_path', '')}/examples/index.html", 303)

    directory = next(folder for folder in (_BESIDE_THE_SOURCE, _IN_THE_WHEEL) if folder.is_dir())
    app.mount("/examples", StaticFiles(directory=directory, html=True), name="examples")


def settings_for(settings: Settings, user_id: str, now: datetime) -> ExampleSettings:
    """Returns what the page of that user needs."""
    token = ""
    if settings.jwt_key.get_secret_value() == _KNOWN_JWT_KEY:
        token = jwt.encode({"sub": user_id, "exp": now + _TOKEN_LIVES}, _KNOWN_JWT_KEY, algorithm="HS256")
    api_key = settings.api_key.get_secret_value()
    pusher = PusherAddress(
        host=settings.pusher_host, port=settings.pusher_port, key=settings.pusher_key, tls=settings.pusher_ssl
    )
    return ExampleSettings(pusher=pusher, api_key=api_key if api_key == _KNOWN_API_KEY else "", user_token=token)
