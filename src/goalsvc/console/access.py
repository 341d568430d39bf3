"""Who may look: a key is given once, and a cookie remembers which; its scopes are looked up for each request."""

import hmac
from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final

from fastapi import Request, Response

from goalsvc.clock import from_epoch_milliseconds, to_epoch_milliseconds
from goalsvc.context import Context
from goalsvc.domain.call import ENVIRONMENT, Caller, Scope, Via
from goalsvc.models.api_key import ApiKey, key_digest

COOKIE: Final = "__Host-goalsvc"
LIVES: Final = timedelta(hours=12)
_ENVIRONMENT_ID: Final = "env"


class LogInError(Exception):
    """The request has no valid cookie: the page of the log-in is to be shown."""


class ForbiddenError(Exception):
    """The key has not the scope that the page requires."""

    def __init__(self, scope: Scope) -> None:
        super().__init__(scope.value)
        self.scope = scope


def is_open(context: Context) -> bool:
    """Returns whether a key is configured by which the console signs its cookies; without one it stays closed."""
    return bool(_secret(context))


async def caller_by_key(context: Context, given: str) -> Caller | None:
    """Returns the caller of a key that was typed in; None when there is no such key, or it is revoked or expired."""
    settings = context.settings
    for key in (settings.api_key.get_secret_value(), settings.api_key_next.get_secret_value()):
        if key and hmac.compare_digest(given.encode(), key.encode()):
            return replace(ENVIRONMENT, via=Via.CONSOLE)
    known = await ApiKey.by_digest(key_digest(given))
    if known is None or not known.valid_at(context.clock.now()):
        return None
    return replace(known.caller, via=Via.CONSOLE)


async def operator(request: Request, scope: Scope = Scope.READ) -> Caller:
    """Returns the caller whom the cookie names. Raises LogInError, ForbiddenError."""
    context: Context = request.app.state.context
    key_id = _key_id_in(request.cookies.get(COOKIE, ""), context) if is_open(context) else None
    if key_id is None:
        raise LogInError
    caller = ENVIRONMENT
    if key_id != _ENVIRONMENT_ID:
        key = await ApiKey.by_id(key_id)
        if key is None or not key.valid_at(context.clock.now()):
            raise LogInError
        caller = key.caller
    if scope not in caller.scopes:
        raise ForbiddenError(scope)
    return replace(caller, via=Via.CONSOLE)


async def reader(request: Request) -> Caller:
    """Returns the caller whom the cookie names and who may read. Raises LogInError, ForbiddenError."""
    return await operator(request)


def remember(response: Response, context: Context, caller: Caller) -> None:
    """Sets the cookie that names the caller's key."""
    expires_at = context.clock.now() + LIVES
    value = f"{caller.key_id}.{to_epoch_milliseconds(expires_at)}"
    response.set_cookie(
        COOKIE,
        f"{value}.{_signature(value, context)}",
        max_age=int(LIVES.total_seconds()),
        path="/",
        secure=True,
        httponly=True,
        samesite="strict",
    )


def forget(response: Response) -> None:
    """Removes the cookie."""
    response.delete_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="strict")


def is_same_origin(request: Request) -> bool:
    """Returns whether a request that changes something comes from a page of this console."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get("origin", "")
    return origin.partition("://")[2] == request.headers.get("host", "")


def _key_id_in(cookie: str, context: Context) -> str | None:
    value, _, signature = cookie.rpartition(".")
    key_id, _, expires = value.rpartition(".")
    if not key_id or not expires.isdecimal() or not hmac.compare_digest(signature, _signature(value, context)):
        return None
    expires_at: datetime = from_epoch_milliseconds(int(expires[:15]))
    return key_id if expires_at > context.clock.now() else None


def _signature(value: str, context: Context) -> str:
    secret = sha256(b"goalsvc console " + _secret(context).encode()).digest()
    return hmac.new(secret, value.encode("utf-8", "replace"), sha256).hexdigest()


def _secret(context: Context) -> str:
    settings = context.settings
    return settings.job_key.get_secret_value() or settings.api_key.get_secret_value()
