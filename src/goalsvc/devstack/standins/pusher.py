"""An emulator of Pusher: its HTTP API (signatures and limits verified, events recorded), its websockets and its webhooks.

https://pusher.com/docs/channels/library_auth_reference/rest-api/
"""

import hashlib
import hmac
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute

from goalsvc.clock import Clock, SystemClock
from goalsvc.devstack.standins.recording import Entry, StandIn
from goalsvc.devstack.standins.sockets import CHANNEL, Sockets
from goalsvc.devstack.standins.webhooks import Subscriber, WebhookSender

_DATA_LIMIT = 10_240  # bytes
_CHANNELS_LIMIT = 100
_BATCH_LIMIT = 10
_CLOCK_SKEW_SECONDS = 600


class _RefusedError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class PusherStandIn(StandIn):
    """Records `{"at", "channels", "name", "data"}` of each event; `data` is decoded where it is JSON.

    `GET /recorded` filters by `event=` and `channel=`. `PUT /channels/{channel}/users` with a JSON list of user ids sets
    who is said to be in a presence channel.
    """

    def __init__(
        self,
        app_id: str,
        secrets: Mapping[str, str],
        *,
        subscribers: Sequence[Subscriber] = (),
        clock: Clock | None = None,
    ) -> None:
        """`secrets`: app key → secret; there may be several, for rotation. `subscribers` receive the webhooks."""
        super().__init__()
        self.sockets = Sockets(secrets, WebhookSender(subscribers, clock or SystemClock()).take)
        self.present: dict[str, list[str]] = {}
        self._app_id = app_id
        self._secrets = dict(secrets)
        self.app = Starlette(
            routes=[
                Route("/apps/{app_id}/events", self._events, methods=["POST"]),
                Route("/apps/{app_id}/batch_events", self._batch_events, methods=["POST"]),
                Route("/apps/{app_id}/channels", self._channels, methods=["GET"]),
                Route("/apps/{app_id}/channels/{channel}/users", self._users, methods=["GET"]),
                Route("/channels/{channel}/users", self._set_users, methods=["PUT"]),
                WebSocketRoute("/app/{key}", self.sockets.serve),
                *self.own_routes(),
            ]
        )

    def matches(self, entry: Entry, wanted: Mapping[str, str]) -> bool:
        """Filters by `event` (the name) and `channel` (one of them)."""
        return wanted.get("event", entry["name"]) == entry["name"] and (
            "channel" not in wanted or wanted["channel"] in entry["channels"]
        )

    async def _events(self, request: Request) -> Response:
        return await self._answer(request, lambda body: [_event(body)])

    async def _batch_events(self, request: Request) -> Response:
        def batch(body: dict[str, object]) -> list[Entry]:
            events = body.get("batch")
            if not isinstance(events, list) or len(events) > _BATCH_LIMIT:
                raise _RefusedError(400, f"The batch must be a list of at most {_BATCH_LIMIT} events")
            return [_event(event) for event in events]

        return await self._answer(request, batch)

    async def _answer(self, request: Request, read: Any) -> Response:
        raw = await request.body()
        if trouble := await self.meet_trouble():
            return PlainTextResponse(trouble.error or "the emulator was told to refuse", trouble.status or 503)
        try:
            self._authenticate(request, raw)
            body = _json_object(raw)
            for entry in read(body):
                self.recording.add(**{**entry, "data": _decoded(entry["data"])})
                await self.sockets.publish(entry["channels"], entry["name"], entry["data"], body.get("socket_id"))
        except _RefusedError as refused:
            return PlainTextResponse(f"{refused}\n", refused.status)
        return JSONResponse({})

    async def _channels(self, request: Request) -> Response:
        """The occupied channels; with `info=user_count`, which needs a `filter_by_prefix` of presence channels, their users."""
        if trouble := await self.meet_trouble():
            return PlainTextResponse(trouble.error or "the emulator was told to refuse", trouble.status or 503)
        prefix, info = (request.query_params.get(name, "") for name in ("filter_by_prefix", "info"))
        try:
            self._authenticate(request, b"")
            if info not in ("", "user_count"):
                raise _RefusedError(400, f"Unknown info {info!r}")
            if info and not prefix.startswith("presence-"):
                raise _RefusedError(400, "user_count may only be requested for presence channels")
        except _RefusedError as refused:
            return PlainTextResponse(f"{refused}\n", refused.status)
        occupied = {*self.sockets.occupied(), *(name for name, users in self.present.items() if users)}
        channels = {
            name: {"user_count": len(self._present_in(name))} if info else {}
            for name in sorted(occupied)
            if name.startswith(prefix)
        }
        return JSONResponse({"channels": channels})

    async def _users(self, request: Request) -> Response:
        if trouble := await self.meet_trouble():
            return PlainTextResponse(trouble.error or "the emulator was told to refuse", trouble.status or 503)
        channel = request.path_params["channel"]
        try:
            self._authenticate(request, b"")
            if not channel.startswith("presence-"):
                raise _RefusedError(400, "Presence users can only be retrieved for presence channels")
        except _RefusedError as refused:
            return PlainTextResponse(f"{refused}\n", refused.status)
        return JSONResponse({"users": [{"id": user} for user in self._present_in(channel)]})

    def _present_in(self, channel: str) -> list[str]:
        """Returns the users of a presence channel: those whose websockets are in it, and those that `PUT` named."""
        return list(dict.fromkeys([*self.sockets.members_of(channel), *self.present.get(channel, [])]))

    async def _set_users(self, request: Request) -> Response:
        self.present[request.path_params["channel"]] = [str(user) for user in await request.json()]
        return Response(status_code=204)

    def _authenticate(self, request: Request, body: bytes) -> None:
        query = dict(request.query_params)
        signature = query.pop("auth_signature", "")
        secret = self._secrets.get(query.get("auth_key", ""))
        if secret is None:
            raise _RefusedError(401, f"There is no app with the key {query.get('auth_key', '')}")
        if request.path_params["app_id"] != self._app_id:
            raise _RefusedError(404, "There is no app with this id")
        if query.get("auth_version") != "1.0":
            raise _RefusedError(401, "auth_version must be 1.0")
        try:
            age = abs(time.time() - int(query.get("auth_timestamp", "")))
        except ValueError:
            raise _RefusedError(401, "auth_timestamp must be a number of seconds") from None
        if age > _CLOCK_SKEW_SECONDS:
            raise _RefusedError(401, f"Timestamp expired: it is not within {_CLOCK_SKEW_SECONDS} s of now")
        if body and query.get("body_md5") != hashlib.md5(body, usedforsecurity=False).hexdigest():
            raise _RefusedError(401, "body_md5 does not match the body")
        parameters = "&".join(f"{name.lower()}={query[name]}" for name in sorted(query, key=str.lower))
        # Some clients sign the path as they send it, others before they percent-encode it: take either.
        sent = request.scope.get("raw_path", b"").decode("ascii", "replace").partition("?")[0]
        if not any(
            hmac.compare_digest(signature, self._sign(secret, f"{request.method}\n{path}\n{parameters}"))
            for path in {sent, request.url.path, request.scope["path"]}
        ):
            raise _RefusedError(401, "Invalid signature")

    @staticmethod
    def _sign(secret: str, text: str) -> str:
        return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()


def _json_object(raw: bytes) -> dict[str, Any]:
    try:
        body = json.loads(raw)
    except ValueError:
        raise _RefusedError(400, "The body is not JSON") from None
    if not isinstance(body, dict):
        raise _RefusedError(400, "The body is not a JSON object")
    return body


def _event(body: object) -> Entry:
    if not isinstance(body, dict):
        raise _RefusedError(400, "An event must be a JSON object")
    name, data = body.get("name"), body.get("data")
    channels = body.get("channels", [body["channel"]] if "channel" in body else None)
    if not isinstance(name, str) or not 1 <= len(name) <= 200:
        raise _RefusedError(400, "The event's name must be a text of 1 to 200 characters")
    if not isinstance(channels, list) or not 1 <= len(channels) <= _CHANNELS_LIMIT:
        raise _RefusedError(400, f"There must be 1 to {_CHANNELS_LIMIT} channels")
    for channel in channels:
        if not isinstance(channel, str) or not CHANNEL.fullmatch(channel):
            raise _RefusedError(400, f"Invalid channel name {channel!r}")
    if not isinstance(data, str):
        raise _RefusedError(400, "The event's data must be a text")
    if len(data.encode()) > _DATA_LIMIT:
        raise _RefusedError(413, f"The data of the event is over the limit of {_DATA_LIMIT} bytes")
    return {"channels": channels, "name": name, "data": data}


def _decoded(data: str) -> object:
    try:
        return json.loads(data)
    except ValueError:
        return data
