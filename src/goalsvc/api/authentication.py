"""Who calls: the API key of a request, looked up before its body is read."""

import hmac
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

from fastapi import Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import SecretStr
from pymongo.errors import PyMongoError
from starlette._utils import get_route_path
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from goalsvc import logs, request_id
from goalsvc.api.errors import WebError, on_outage, on_own_error
from goalsvc.api.paths import path_of
from goalsvc.api.user_token import caller_by_token
from goalsvc.domain.call import ENVIRONMENT, VIA_HEADER, Caller, Via
from goalsvc.domain.call import Scope as ScopeName
from goalsvc.models.keyring import Keyring

ON_BEHALF_OF_HEADER = "X-Goalsvc-On-Behalf-Of"
_LONGEST_NAME = 128

bearer = HTTPBearer(
    auto_error=False,
    scheme_name="ApiKey",
    description="An API key, as a bearer token: one of `POST /v1/keys`, which has the scopes that it was created with, or the "
    "one of `GOALSVC_API_KEY`, which has all. `x-required-scope` names the scope that an operation requires.",
)


def is_environment_key(given: str, keys: Sequence[SecretStr]) -> bool:
    """Whether that is one of these keys; compared in constant time. An empty key lets no caller in."""
    accepted = [key.get_secret_value() for key in keys]
    matching = [key for key in accepted if key and hmac.compare_digest(given.encode(), key.encode())]
    return bool(matching)


async def caller_of(request: Request, given: str) -> Caller:
    """Who calls with that key; raises WebError 401."""
    settings = request.app.state.context.settings
    if is_environment_key(given, (settings.api_key, settings.api_key_next)):
        return _as_stated(request, ENVIRONMENT)
    keyring: Keyring | None = getattr(request.app.state, "keyring", None)
    caller = await keyring.caller_of(given) if keyring is not None else None
    if caller is None:
        raise WebError(
            401, "unauthorized", "send a valid API key as `Authorization: Bearer …`", {"WWW-Authenticate": "Bearer"}
        )
    return _as_stated(request, caller)


def _as_stated(request: Request, caller: Caller) -> Caller:
    """The caller with the door and the person that the request names, for the audit."""
    via = request.headers.get(VIA_HEADER, "")
    person = request.headers.get(ON_BEHALF_OF_HEADER, "")
    return replace(
        caller,
        via=Via(via) if via in {door.value for door in Via} else Via.API,
        on_behalf_of=person[:_LONGEST_NAME] or None,
    )


async def require_api_key(
    request: Request, _credentials: Annotated[HTTPAuthorizationCredentials | None, Security(bearer)]
) -> Caller:
    """The caller, whom `KeyFirst` has let in; names the security scheme in the OpenAPI document."""
    caller: Caller = request.state.caller
    return caller


class KeyFirst:
    """Refuses callers of `/v1/…` without an API key before their body is read, which FastAPI parses before it asks for one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes on the requests of those who have a key, and all that need none."""
        if scope["type"] == "http" and get_route_path(scope).startswith("/v1/"):
            request = Request(scope)
            try:
                credentials = await bearer(request)
                caller = await _caller(request, credentials.credentials if credentials else "")
            except WebError as error:
                refusal = await on_own_error(request, error)
                await refusal(scope, receive, send)
                return
            except (PyMongoError, TimeoutError) as error:
                outage = await on_outage(request, error)
                await outage(scope, receive, send)
                return
            request.state.caller = caller
            with logs.About(key=caller.name, goal_id=_goal_in(get_route_path(scope))):
                await self._app(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _goal_in(path: str) -> str | None:
    """Returns the id of the goal that a path names, for the log."""
    found = re.match(r"/v1/goals/([0-9a-fA-F]{24})(?:/|$)", path)
    return found[1] if found else None


#: What a user may do with a token of their own.
_USER = Caller(key_id="user", name="user", scopes=frozenset({ScopeName.READ}))
_FOR_USERS = "/v1/channels/"


async def _caller(request: Request, given: str) -> Caller:
    """Who calls: the holder of a key or, to read a channel, a user with a token of their own."""
    try:
        return await caller_of(request, given)
    except WebError:
        if not path_of(request).startswith(_FOR_USERS) or given.count(".") != 2:
            raise
    request.state.user_id = await caller_by_token(request, given)
    return _USER


class RequestIds:
    """Gives every request an id, its own (`X-Request-ID`) or a new one, and returns it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, with its id in its state and in the context of what it logs."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), None)
        own = request_id.accepted_or_new(None if given is None else given.decode("latin-1"))
        scope.setdefault("state", {})["request_id"] = own
        token = request_id.CURRENT.set(own)

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[request_id.HEADER] = own
            await send(message)

        try:
            await self._app(scope, receive, answer)
        finally:
            request_id.CURRENT.reset(token)
