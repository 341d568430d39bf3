"""An operation of the API: what every route under `/v1` does around its endpoint.

A router of the API is made by `operations(prefix, tag)`, so that each of its routes is an `Operation`: it takes the
Idempotency-Key of every POST, and hands the endpoint one frozen `Call` (`CallOf`).
"""

import json
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

from goalsvc.api.errors import status_of
from goalsvc.domain.call import Call
from goalsvc.errors import InvalidError
from goalsvc.models.idempotency import IdempotencyRecord, KeyUse, StoredAnswer

HEADER = "Idempotency-Key"
REPLAYED = "Idempotent-Replayed"
LONGEST_KEY = 255

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def repeated_by_the_ledger(endpoint: Endpoint) -> Endpoint:
    """Marks an endpoint whose transfer is the record of its Idempotency-Key, so that none is written besides.

    The ledger derives the transfer's id from path and key, answers a repeat from the transfer, and refuses another body.
    """
    endpoint.__dict__["repeated_by_the_ledger"] = True
    return endpoint


def _idempotency_key(
    key: Annotated[
        str | None,
        Header(
            alias=HEADER,
            min_length=1,
            max_length=LONGEST_KEY,
            description="Chosen by the caller, one for each intended effect. It belongs to its path and is remembered for at "
            "least 24 h after its last use: a repeat with the same body has no further effect and gets the first answer, "
            "with `Idempotent-Replayed: true`; another body is refused with 409. A refused call (4xx, 5xx) does not use it up.",
            examples=["8e03978e-40d5-43dd-bc93-6894a57f9324"],
        ),
    ] = None,
) -> None:
    """Documents and checks the header; the route itself reads it."""


class Operation(APIRoute):
    """A route of the API."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        if "POST" in (options.get("methods") or ()):
            options["dependencies"] = [*(options.get("dependencies") or ()), Depends(_idempotency_key)]
        super().__init__(path, endpoint, **options)

    def get_route_handler(self) -> Handler:
        """The endpoint's handler, with what every operation does around it."""
        answer = super().get_route_handler()
        by_the_ledger = getattr(self.endpoint, "repeated_by_the_ledger", False)

        async def handle(request: Request) -> Response:
            call = Call(operation=self.name, request_id="")
            request.state.call = call
            key = _key_of(request)
            if key is None or by_the_ledger:
                return await answer(request)
            return await _answer_once(request, call, key, answer)

        return handle


def operations(prefix: str, tag: str) -> APIRouter:
    """A router whose routes are operations of the API."""
    return APIRouter(prefix=prefix, tags=[tag], route_class=Operation)


def get_call(request: Request) -> Call:
    """The call that is being answered."""
    call: Call = request.state.call
    return call


CallOf = Annotated[Call, Depends(get_call)]


def _key_of(request: Request) -> str | None:
    """The Idempotency-Key of a POST, None without a valid one (the header's own check then refuses it)."""
    keys = request.headers.getlist(HEADER)
    if not keys:
        return None
    if request.method != "POST":
        raise InvalidError(f"header.{HEADER}", f"not used by {request.method} operations, which have no need of it")
    if len(keys) > 1:
        raise InvalidError(f"header.{HEADER}", "given more than once; one key is one intended effect")
    return keys[0] if 0 < len(keys[0]) <= LONGEST_KEY else None


async def _answer_once(request: Request, call: Call, key: str, answer: Handler) -> Response:
    """Answers a call with an Idempotency-Key: from its record if it was answered before, else by its effect.

    Concurrent repeats, and a repeat after a crash between effect and answer, run the effect again. Every id that it creates is
    derived from the record's seed, so nothing is created twice, and the first answer that is stored holds for all.
    """
    use = await IdempotencyRecord.begin(_path_of(request), key, await _asked(request))
    if use.answer is not None:
        return _replay(use.answer)
    request.state.call = call.with_key(use.record_id, use.seed)
    try:
        response = await answer(request)
    except Exception as error:
        if status_of(error) < 500:  # refused, and nothing was changed; after a failure nothing is known
            await IdempotencyRecord.release(use)
        raise
    return await _stored(use, response)


async def _stored(use: KeyUse, response: Response) -> Response:
    if not 200 <= response.status_code < 300:
        return response
    own = StoredAnswer(response.status_code, bytes(response.body), response.media_type or "application/json")
    first = await IdempotencyRecord.finish(use, own)
    return response if first is own else _replay(first)


def _replay(answer: StoredAnswer) -> Response:
    return Response(answer.body, answer.status, {REPLAYED: "true"}, media_type=answer.media_type)


def _path_of(request: Request) -> str:
    return f"{request.method} {request.url.path}"


async def _asked(request: Request) -> bytes:
    """What is asked, so that two bodies that say the same in JSON are the same."""
    body = await request.body()
    try:
        body = json.dumps(json.loads(body), sort_keys=True, separators=(",", ":")).encode() if body else b""
    except (ValueError, RecursionError):
        if request.headers.get("content-type", "").startswith("application/json"):
            raise RequestValidationError([{"loc": ("body",), "msg": "is not JSON", "type": "json_invalid"}]) from None
    return str(request.url.query).encode() + b"\n" + body
