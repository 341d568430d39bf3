"""Pusher Channels: telling clients something, asking who is there, and letting clients into channels.

The `pusher` package builds and signs the requests; sending them, measuring them and reading the answer is ours, because
its `trigger` measures Python's idea of a string's size instead of bytes, and returns an error's body as if it were a
result. HTTP API: https://pusher.com/docs/channels/library_auth_reference/rest-api/
"""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from itertools import islice
from typing import Any

from prometheus_client import Histogram
from pusher.authentication_client import AuthenticationClient
from pusher.http import GET, POST, Request
from pydantic import SecretStr

from goalsvc.clock import SystemClock
from goalsvc.context import Telling
from goalsvc.domain.channels import CHANNEL_NAME, CHANNEL_NAME_RULE
from goalsvc.errors import (
    ExternalServiceError,
    GoalsvcError,
    InvalidError,
    NoticeTooLargeError,
    ServiceDownError,
    SettingsError,
)
from goalsvc.integrations.breaker import Breaker
from goalsvc.integrations.outbound import NoAnswerError, Outbound, open_outbound
from goalsvc.metrics import DELAYS
from goalsvc.settings import Settings

CHANNELS_PER_CALL = 100
DATA_LIMIT_BYTES = 10 * 1024
EVENT_NAME_LIMIT = 200
CONCURRENT_CALLS = 64
#: Events of one call of `batch_events`. https://pusher.com/docs/channels/library_auth_reference/rest-api/#post-batch-events-trigger-multiple-events
EVENTS_PER_BATCH = 10
#: How many calls `trigger_each` makes side by side.
_SIDE_BY_SIDE = 8

_SOCKET_ID = re.compile(r"[0-9]{1,20}\.[0-9]{1,20}")

_HINTS = {
    400: "the request is not what Pusher expects",
    401: "the signature was refused: check GOALSVC_PUSHER_KEY and GOALSVC_PUSHER_SECRET, and this machine's clock",
    403: "the app is disabled or over its quota",
    404: "no such app: check GOALSVC_PUSHER_APP_ID and GOALSVC_PUSHER_HOST",
}


@dataclass(frozen=True, slots=True)
class PusherApp:
    """Which Pusher app is spoken for, and where its HTTP API is."""

    app_id: str
    key: str
    secret: SecretStr
    host: str
    port: int = 443
    ssl: bool = True

    @classmethod
    def from_settings(cls, settings: Settings) -> "PusherApp":
        """The app that the settings name. Raises SettingsError when its id is not a number."""
        if settings.pusher_app_id and not re.fullmatch("[0-9]+", settings.pusher_app_id):
            raise SettingsError("GOALSVC_PUSHER_APP_ID: must be a number")
        return cls(
            app_id=settings.pusher_app_id,
            key=settings.pusher_key,
            secret=settings.pusher_secret,
            host=settings.pusher_host,
            port=settings.pusher_port,
            ssl=settings.pusher_ssl,
        )

    @property
    def missing(self) -> list[str]:
        """The variables that must be set before Pusher can be called."""
        given = {"APP_ID": self.app_id, "KEY": self.key, "SECRET": self.secret.get_secret_value()}
        return [f"GOALSVC_PUSHER_{name}" for name, value in given.items() if not value]


NOTICE_DELAY = Histogram(
    "goalsvc_notice_delay_seconds", "Time from what a notice is about to its acceptance by Pusher.", buckets=DELAYS
)


def _observe_delay(data: Mapping[str, object]) -> None:
    at = data.get("at")
    if isinstance(at, str):
        with contextlib.suppress(ValueError):
            delay = SystemClock().now() - datetime.fromisoformat(at)
            NOTICE_DELAY.observe(max(0.0, delay.total_seconds()))


@dataclass(frozen=True, slots=True)
class _Encoded:
    """An event of many: its place among them, and its data as Pusher carries it."""

    place: int
    telling: Telling
    data: str

    @property
    def fields(self) -> dict[str, str]:
        """Returns the event as a batch holds it."""
        return {"name": self.telling.event, "channel": self.telling.channel, "data": self.data}


class _NoBackend:
    """Stands where the package would put an HTTP library of its own (`requests`, by default)."""

    def __init__(self, client: object) -> None:
        pass


class PusherNotifier:
    """Speaks to Pusher over one shared connection pool.

    A call takes `timeout_seconds` at most, the wait for a free connection included, and no more than `CONCURRENT_CALLS`
    are under way: a slow Pusher slows its callers down and cannot fill the memory.
    """

    def __init__(
        self, app: PusherApp, client: Outbound, *, timeout_seconds: float = 2.0, breaker: Breaker | None = None
    ) -> None:
        self._app = app
        self._breaker = breaker or Breaker("pusher")
        self._client = client
        self._timeout_seconds = timeout_seconds
        self._free = asyncio.Semaphore(CONCURRENT_CALLS)
        self._signer: object = None
        self._takes_batches: bool | None = None
        """Whether the server knows `batch_events`; None: it has not been asked."""

    async def trigger(self, channels: Sequence[str], event: str, data: Mapping[str, object]) -> None:
        """Hands one event to Pusher; more than 100 channels (Pusher's limit) take a call for each hundred.

        Raises InvalidError for a channel or event name that Pusher would refuse, NoticeTooLargeError when the encoded
        data is over 10 KB, ExternalServiceError when Pusher refuses, fails or does not answer in time. Then some of
        several hundreds of channels may have been told: notices are at least once.
        """
        encoded = encode_notice(channels, event, data)
        for hundred in hundreds(channels):
            await self._call(POST, "events", {"name": event, "channels": hundred, "data": encoded})
        _observe_delay(data)

    async def trigger_each(self, tellings: Sequence[Telling]) -> dict[int, GoalsvcError]:
        """Hands many events to Pusher, ten in a call, eight calls side by side; where one call can take all, one by one.

        Returns why an event was refused, by its place: InvalidError or NoticeTooLargeError. Raises ExternalServiceError when
        Pusher fails: then some have been handed over. A server that fails the first batch and takes its events singly knows no
        batches.
        """
        refused: dict[int, GoalsvcError] = {}
        encoded: list[_Encoded] = []
        for place, telling in enumerate(tellings):
            try:
                encoded.append(_Encoded(place, telling, encode_notice([telling.channel], telling.event, telling.data)))
            except GoalsvcError as error:
                refused[place] = error
        size = EVENTS_PER_BATCH if len(encoded) >= EVENTS_PER_BATCH else 1
        rest = iter([encoded[at : at + size] for at in range(0, len(encoded), size)])
        if self._takes_batches is None and (first := next(rest, None)) is not None:
            refused.update(await self._tell(first))

        async def tell() -> None:
            for some in rest:
                refused.update(await self._tell(some))

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(_SIDE_BY_SIDE, len(encoded))):
                    group.create_task(tell())
        except* GoalsvcError as failures:
            failure = failures.exceptions[0]
        else:
            return refused
        raise failure

    async def _tell(self, some: Sequence["_Encoded"]) -> Mapping[int, GoalsvcError]:
        """Hands these over in one call if the server takes it, otherwise one by one; returns those that it found too large."""
        if len(some) == 1 or self._takes_batches is False:
            return await self._tell_singly(some)
        try:
            await self._call(POST, "batch_events", {"batch": [one.fields for one in some]})
        except NoticeTooLargeError:
            return await self._tell_singly(some)
        except ExternalServiceError:
            if self._takes_batches:
                raise
            refused = await self._tell_singly(some)
            self._takes_batches = False
            return refused
        self._takes_batches = True
        for one in some:
            _observe_delay(one.telling.data)
        return {}

    async def _tell_singly(self, some: Sequence["_Encoded"]) -> Mapping[int, GoalsvcError]:
        refused: dict[int, GoalsvcError] = {}
        for one in some:
            try:
                fields = {"name": one.telling.event, "channels": [one.telling.channel], "data": one.data}
                await self._call(POST, "events", fields)
            except NoticeTooLargeError as error:
                refused[one.place] = error
            else:
                _observe_delay(one.telling.data)
        return refused

    async def users_in(self, channel: str) -> list[str]:
        """Ids of the users that are in a presence channel at this moment; Pusher answers for no other channels.

        Raises InvalidError for a channel's name that Pusher would refuse, ExternalServiceError.
        """
        answer = await self._call(GET, f"channels/{checked_channel(channel)}/users", {})
        try:
            return [str(user["id"]) for user in json.loads(answer)["users"]]
        except (ValueError, KeyError, TypeError) as error:
            raise ExternalServiceError("pusher", "the answer is not a list of users") from error

    async def occupied(self, prefix: str) -> dict[str, int] | None:
        """Returns how many users are in each occupied channel with that prefix; None where the server does not count them.

        One call answers for all channels. soketi knows neither the filter nor the numbers. Raises ExternalServiceError.
        """
        answer = await self._call(GET, "channels", {"filter_by_prefix": prefix, "info": "user_count"})
        try:
            channels = json.loads(answer)["channels"]
            counts = {str(name): channel.get("user_count") for name, channel in channels.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ExternalServiceError("pusher", "the answer is not a list of channels") from error
        known = {name: count for name, count in counts.items() if type(count) is int and name.startswith(prefix)}
        return known if len(known) == len(counts) else None

    def authenticate(
        self, channel: str, socket_id: str, user_id: str | None = None, user_info: Mapping[str, object] | None = None
    ) -> dict[str, str]:
        """What pusher-js needs to join a private or presence channel: `auth`, on presence channels also `channel_data`.

        A presence channel needs the `user_id`; `user_info` is shown to its other members. Raises InvalidError, with
        `channel`, `socket_id` or `user_id` as its field. https://pusher.com/docs/channels/library_auth_reference/auth-signatures/
        """
        checked_channel(channel)
        if not _SOCKET_ID.fullmatch(socket_id):
            raise InvalidError("socket_id", "must be two numbers with a dot between them")
        if not channel.startswith(("private-", "presence-")):
            raise InvalidError("channel", "only private and presence channels are authorised")
        member: dict[str, object] | None = None
        if channel.startswith("presence-"):
            if not user_id:
                raise InvalidError("user_id", "a presence channel needs to know who joins")
            member = {"user_id": user_id} | ({"user_info": dict(user_info)} if user_info else {})
        authorisation: dict[str, str] = self._signing().authenticate(channel, socket_id, member)
        return authorisation

    async def _call(self, method: str, path: str, parameters: Mapping[str, object]) -> bytes:
        """The body of the answer to one signed request. A signature is good for 10 minutes, so each call gets its own."""
        signing = self._signing()
        with self._breaker.call():
            return await self._send(signing, method, path, parameters)

    async def _send(self, signing: object, method: str, path: str, parameters: Mapping[str, object]) -> bytes:
        try:
            async with asyncio.timeout(self._timeout_seconds), self._free:
                request = Request(signing, method, f"/apps/{self._app.app_id}/{path}", dict(parameters))
                # A redirection would not be followed: the signature is for this address.
                status, body = await self._client.call(
                    method, request.url, content=request.body, headers=request.headers
                )
        except TimeoutError as error:
            raise ServiceDownError("pusher", f"no answer within {self._timeout_seconds:g} s") from error
        except NoAnswerError as error:
            raise ServiceDownError("pusher", f"cannot be reached ({error})") from error
        if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            raise NoticeTooLargeError("Pusher found the event too large")
        if not 200 <= status < 300:
            hint = _HINTS.get(status, "")
            # Only 400 is about this call; with any other status no call would do better.
            refused = ExternalServiceError if status == HTTPStatus.BAD_REQUEST else ServiceDownError
            raise refused("pusher", f"HTTP {status}" + (f": {hint}" if hint else ""))
        return body

    def _signing(self) -> Any:
        """The package's client, which holds the secret and signs; made at first use, for it refuses empty values."""
        if self._app.missing:
            raise ExternalServiceError("pusher", f"not configured: {', '.join(self._app.missing)}")
        if self._signer is None:
            self._signer = AuthenticationClient(
                self._app.app_id,
                self._app.key,
                self._app.secret.get_secret_value(),
                ssl=self._app.ssl,
                host=self._app.host,
                port=self._app.port,
                backend=_NoBackend,
            )
        return self._signer


@asynccontextmanager
async def open_notifier(
    settings: Settings, *, timeout_seconds: float = 2.0, breaker: Breaker | None = None
) -> AsyncIterator[PusherNotifier]:
    """A PusherNotifier for the app that the settings name; its connections are closed on leaving.

    Without an app the notifier opens all the same, and each call raises ExternalServiceError naming what is missing.
    Raises SettingsError when the app's id is not a number.
    """
    app = PusherApp.from_settings(settings)
    async with open_outbound(connections=CONCURRENT_CALLS) as client:
        yield PusherNotifier(app, client, timeout_seconds=timeout_seconds, breaker=breaker)


def checked_channel(channel: str) -> str:
    """`channel` itself. Raises InvalidError when Pusher would refuse its name."""
    if not CHANNEL_NAME.fullmatch(channel):
        raise InvalidError("channel", CHANNEL_NAME_RULE)
    if channel.startswith("private-encrypted-"):
        # Pusher reserves this prefix for data that it cannot read; ours is not encrypted (`private-enc-` is another word).
        raise InvalidError("channel", "end-to-end encrypted channels are not served")
    return channel


def encode_notice(channels: Sequence[str], event: str, data: Mapping[str, object]) -> str:
    """The event's data as the JSON text that Pusher carries, once everything about the event is found to be acceptable.

    Raises InvalidError for a name, NoticeTooLargeError for data over 10 KB. What counts is UTF-8, so characters are not
    escaped to ASCII, which would make an emoji of 4 bytes 12.
    """
    for channel in channels:
        checked_channel(channel)
    if not 1 <= len(event) <= EVENT_NAME_LIMIT:
        raise InvalidError("event", f"must be 1 to {EVENT_NAME_LIMIT} characters")
    encoded = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    size = len(encoded.encode(errors="surrogatepass"))  # half an emoji, cut off by a client, is no reason to fail
    if size > DATA_LIMIT_BYTES:
        raise NoticeTooLargeError(f"the data of {event} is {size} bytes, Pusher takes {DATA_LIMIT_BYTES}")
    return encoded


def hundreds(channels: Sequence[str]) -> Iterator[list[str]]:
    """The channels, each once, in order, at most 100 at a time."""
    rest = iter(dict.fromkeys(channels))
    while hundred := list(islice(rest, CHANNELS_PER_CALL)):
        yield hundred
