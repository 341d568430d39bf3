"""Speaking to the API as an integrator does: with an API key, and with webhooks signed as Pusher signs them."""

import hmac
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import httpx

from goalsvc.domain.addresses import fault_of_address
from goalsvc.domain.call import VIA_HEADER, Via
from goalsvc.errors import GoalsvcError
from goalsvc.request_id import HEADER

#: Pusher itself waits 4 s for the answer to a webhook; a person at a terminal has more patience.
_PATIENCE_SECONDS = 15.0
_GOAL_ID = re.compile(r"[0-9a-fA-F]{24}")
_THIS_MACHINE = ("127.0.0.1", "localhost", "::1")


class CommandError(GoalsvcError):
    """What was asked for cannot be done; the message says why in one sentence."""

    code = "command"


@dataclass(frozen=True, slots=True)
class Target:
    """The goalsvc that is spoken to."""

    api_url: str
    api_key: str = field(repr=False)
    pusher_key: str
    pusher_secret: str = field(repr=False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], defaults: Mapping[str, str]) -> "Target":
        """Reads `GOALSVC_API_URL`, `_API_KEY`, `_PUSHER_KEY` and `_PUSHER_SECRET`; a default stands in for what is unset."""

        def value(variable: str) -> str:
            return environment.get(variable) or defaults[variable]

        def in_a_header(variable: str) -> str:
            return header_value(variable, value(variable))

        api_url = value("GOALSVC_API_URL").rstrip("/")
        if not is_address(api_url):
            raise CommandError(f"GOALSVC_API_URL: {api_url!r} is not an http(s) address")
        secret = value("GOALSVC_PUSHER_SECRET")
        if not is_unicode(secret):
            raise CommandError("GOALSVC_PUSHER_SECRET: must be text in UTF-8")
        return cls(
            api_url=api_url,
            api_key=in_a_header("GOALSVC_API_KEY"),
            pusher_key=in_a_header("GOALSVC_PUSHER_KEY"),
            pusher_secret=secret,
        )


class ApiRefusedError(CommandError):
    """The API answered with an error; `status` and `code` are the API's."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class Api:
    """One connection to the API. Every call raises CommandError when there is no API, ApiRefusedError when it refuses."""

    def __init__(self, target: Target, client: httpx.AsyncClient) -> None:
        self._target = target
        self._client = client

    @classmethod
    @asynccontextmanager
    async def open(cls, target: Target, *, patience_seconds: float = _PATIENCE_SECONDS) -> AsyncIterator["Api"]:
        """Opens the connection (with the first call) and closes it on leaving."""
        here = httpx.URL(target.api_url).host in _THIS_MACHINE
        # A proxy of the environment leads out of this machine, never back into it.
        async with httpx.AsyncClient(timeout=patience_seconds, trust_env=not here) as client:
            yield cls(target, client)

    async def get(self, path: str, **query: str) -> Any:
        """Reads what is at `path`, which may hold a query of its own, or with this one."""
        return await self._call("GET", path, params=query or None)  # httpx lets an empty one replace the path's

    async def put(self, path: str, body: Mapping[str, object]) -> object:
        """Puts `body` there."""
        return await self._call("PUT", path, json=body)

    async def post(self, path: str, body: Mapping[str, object] | None = None, *, key: str | None = None) -> Any:
        """Posts `body`; `key` is the Idempotency-Key, for what wants one."""
        return await self._call("POST", path, json=body, headers={"Idempotency-Key": key} if key is not None else None)

    async def delete(self, path: str) -> Any:
        """Deletes what is at `path`."""
        return await self._call("DELETE", path)

    @asynccontextmanager
    async def answered(self, method: str, path: str, body: bytes, key: str) -> AsyncIterator[httpx.Response]:
        """Makes any call, and yields its answer, whose body is still to be read; `key` is the Idempotency-Key, or empty."""
        headers = {"Idempotency-Key": key} if key else {}
        if body:
            headers["Content-Type"] = "application/json"
        async with self._authorized(method, path, content=body or None, headers=headers) as answer:
            yield answer

    async def notify(self, body: bytes, request_id: str | None = None) -> None:
        """Posts a webhook's body, signed as Pusher signs it; `request_id` becomes its `X-Request-ID`."""
        headers = signed_headers(body, self._target.pusher_key, self._target.pusher_secret)
        headers |= {} if request_id is None else {HEADER: request_id}
        async with self._request("POST", "/notify/pusher", content=body, headers=headers) as answer:
            if answer.status_code == httpx.codes.UNAUTHORIZED:
                problem = f"the API does not take the key {self._target.pusher_key!r} with its secret"
                raise ApiRefusedError(401, "bad_signature", f"{problem} (GOALSVC_PUSHER_KEY, GOALSVC_PUSHER_SECRET)")
            await self._check(answer)

    async def _call(self, method: str, path: str, **words: Any) -> object:
        async with self._authorized(method, path, **words) as answer:
            await answer.aread()
        try:
            return answer.json()
        except ValueError:
            raise self._not_goalsvc() from None

    @asynccontextmanager
    async def _authorized(self, method: str, path: str, **words: Any) -> AsyncIterator[httpx.Response]:
        own = words.pop("headers", None) or {}
        headers = {"Authorization": f"Bearer {self._target.api_key}", VIA_HEADER: Via.CLI, **own}
        async with self._request(method, path, headers=headers, **words) as answer:
            if answer.status_code == httpx.codes.UNAUTHORIZED:
                raise ApiRefusedError(401, "unauthorized", "the API does not take this API key (GOALSVC_API_KEY)")
            await self._check(answer)
            if HEADER not in answer.headers:
                raise self._not_goalsvc()
            yield answer

    def _not_goalsvc(self) -> CommandError:
        return CommandError(f"what answers at {self._target.api_url} is not goalsvc (GOALSVC_API_URL)")

    @asynccontextmanager
    async def _request(self, method: str, path: str, **words: Any) -> AsyncIterator[httpx.Response]:
        try:
            async with self._client.stream(method, self._target.api_url + path, **words) as answer:
                yield answer
        except httpx.InvalidURL as error:
            raise CommandError(f"{path!r} is not a path ({error})") from None
        except httpx.TimeoutException:
            message = f"the API at {self._target.api_url} did not answer within {_PATIENCE_SECONDS:g} s"
            raise CommandError(message) from None
        except httpx.HTTPError as error:
            told = str(error) or type(error).__name__
            hint = "start one with `goalsvc dev`, or name another by --api-url or GOALSVC_API_URL"
            raise CommandError(f"the API at {self._target.api_url} cannot be reached ({told}): {hint}") from None

    async def _check(self, answer: httpx.Response) -> None:
        if answer.is_success:
            return
        await answer.aread()
        try:
            problem = answer.json()
            code, detail = problem["code"], problem["detail"]
        except (ValueError, LookupError, TypeError):
            message = f"the API at {self._target.api_url} answered {answer.status_code} {answer.reason_phrase}"
            raise ApiRefusedError(answer.status_code, "unknown", message.rstrip()) from None
        raise ApiRefusedError(answer.status_code, code, detail)


def is_address(url: str) -> bool:
    """Whether a server can be called at that address."""
    if fault_of_address(url) is not None:
        return False
    try:
        return bool(httpx.URL(url).host)
    except (httpx.InvalidURL, UnicodeError):  # UnicodeError: a host that cannot be written in ASCII
        return False


def is_unicode(text: str) -> bool:
    """Whether the text can be sent and printed; bytes of a command line that are not UTF-8 cannot."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def header_value(name: str, value: str) -> str:
    """The value, which is sent in a header; `name` is the option or variable. Raises CommandError, which does not show it."""
    if not value.isascii() or not value.isprintable() or value != value.strip():
        raise CommandError(f"{name}: must be printable ASCII without spaces around it, for it is sent in a header")
    return value


def goal_path(goal_id: str) -> str:
    """Where that goal is read. Raises CommandError for what is not the id of a goal."""
    if not _GOAL_ID.fullmatch(goal_id):
        raise CommandError(f"{goal_id!r} is not the id of a goal: that has 24 hexadecimal digits")
    return f"/v1/goals/{goal_id}"


def signed_headers(body: bytes, key: str, secret: str) -> dict[str, str]:
    """The headers with which Pusher sends a webhook of that body."""
    return {
        "Content-Type": "application/json",
        "X-Pusher-Key": key,
        "X-Pusher-Signature": hmac.new(secret.encode(), body, sha256).hexdigest(),
    }
