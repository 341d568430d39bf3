"""Operations of the API, called by pages: within this process, as the caller whom the cookie names.

A page does what the API does, with the same checks of the scope, the same errors, the same audit and the same trace.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from fastapi import Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send

from goalsvc.console import access
from goalsvc.console.rendering import HEADERS
from goalsvc.domain import call as calls
from goalsvc.domain.call import Caller

log = logging.getLogger("goalsvc.console")

_KEPT = ("type", "asgi", "http_version", "scheme", "server", "client", "app", "extensions")
#: What Starlette and FastAPI keep in the scope for the handlers of errors and for what is closed after an answer.
_KEPT_PREFIXES = ("starlette.exception", "fastapi_")


@dataclass(frozen=True, slots=True)
class Answer:
    """What an operation answered."""

    status: int
    body: object

    @property
    def ok(self) -> bool:
        """Whether it was done."""
        return self.status < 300

    @property
    def code(self) -> str:
        """The code of the error; empty when it was done."""
        return str(self.body.get("code", "")) if not self.ok and isinstance(self.body, Mapping) else ""

    @property
    def refusal(self) -> str:
        """Why it was not done, in the API's words."""
        if not isinstance(self.body, Mapping):
            return f"The API answered {self.status}."
        return str(self.body.get("detail") or self.body.get("title") or f"The API answered {self.status}.")


async def call_operation(
    request: Request,
    caller: Caller,
    method: str,
    path: str,
    body: Mapping[str, object] | None = None,
    *,
    query: Mapping[str, object] | None = None,
    key: str = "",
    reason: str = "",
) -> Answer:
    """Calls an operation as that caller. `key` is its Idempotency-Key; `reason` is written into the audit."""
    content = b"" if body is None else json.dumps(body).encode()
    headers = [(b"content-type", b"application/json")]
    if key:
        headers.append((b"idempotency-key", key.encode("ascii", "replace")))
    state = {**_state(request, caller), "reason": reason}
    return await _ask(request, method, path, content, headers, state, _query(query))


class OperationFile(Response):
    """What a GET of the API answers, passed on as it is while it is made: a file of any length."""

    def __init__(self, request: Request, caller: Caller, path: str, query: Mapping[str, object]) -> None:
        super().__init__()
        self._router = request.app.router
        self._asked = _scope(request, "GET", path, b"", [], _state(request, caller), _query(query))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Calls the operation, and gives its answer the headers of the console."""

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                names = {name for name, _ in own}
                message["headers"] = [*(pair for pair in message["headers"] if pair[0] not in names), *own]
            await send(message)

        await self._router(self._asked, receive, guarded)


def _state(request: Request, caller: Caller) -> dict[str, object]:
    return {"caller": caller, "key_name": caller.name, "request_id": request.state.request_id}


def _query(given: Mapping[str, object] | None) -> bytes:
    return urlencode({name: value for name, value in (given or {}).items() if value not in (None, "")}).encode()


async def _ask(
    request: Request,
    method: str,
    path: str,
    content: bytes,
    headers: Sequence[tuple[bytes, bytes]],
    state: Mapping[str, object],
    query: bytes,
) -> Answer:
    scope = _scope(request, method, path, content, headers, state, query)
    told: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": content, "more_body": False}

    async def send(message: Message) -> None:
        told.append(message)

    try:
        await request.app.router(scope, receive, send)
    except HTTPException as error:  # no operation has that path: the app, which would answer this, is not asked
        return Answer(error.status_code, {"detail": f"{error.detail}: no operation of the API is {method} {path!r}."})
    except Exception:  # as of any call: it is logged, and the page says where to look
        log.exception("the operation %s %s failed, called by a page", method, path)
        return Answer(500, {"detail": f"The API failed; its log says why, at the request {request.state.request_id}."})
    status = next(message["status"] for message in told if message["type"] == "http.response.start")
    text = b"".join(message.get("body", b"") for message in told if message["type"] == "http.response.body")
    try:
        return Answer(status, json.loads(text))
    except ValueError:
        return Answer(status, None)


def _scope(
    request: Request,
    method: str,
    path: str,
    content: bytes,
    headers: Sequence[tuple[bytes, bytes]],
    state: Mapping[str, object],
    query: bytes,
) -> dict[str, Any]:
    kept = {name: value for name, value in request.scope.items() if name in _KEPT or name.startswith(_KEPT_PREFIXES)}
    return {
        **kept,
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": query,
        "headers": [*headers, (b"content-length", str(len(content)).encode())],
        "state": dict(state),
    }


async def read_operation(request: Request, caller: Caller, path: str, **query: object) -> Any:
    """Returns what a GET of the API answers; None for a 404. Raises ForbiddenError without the scope."""
    answer = await call_operation(request, caller, "GET", path, query=query)
    if answer.code == "insufficient_scope":
        raise access.ForbiddenError(_scope_in(answer))
    return answer.body if answer.ok else None


def _scope_in(answer: Answer) -> calls.Scope:
    named = [scope for scope in calls.Scope if f"`{scope.value}`" in answer.refusal]
    return named[0] if named else calls.Scope.ADMIN
