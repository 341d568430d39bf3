"""An operation of the API: what every route under `/v1` does around its endpoint.

A router of the API is made by `operations(prefix, tag)`, so that each of its routes is an `Operation`. It requires a scope of
the key (`@requires`), takes the Idempotency-Key of every POST, hands the endpoint one frozen `Call` (`CallOf`), and writes what
was changed into the audit.
"""

import hashlib
import hmac
import json
import re
from collections.abc import Callable, Container, Coroutine
from dataclasses import dataclass
from time import perf_counter
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

from goalsvc.api import auditing
from goalsvc.api.call_roots import record_call
from goalsvc.api.errors import WebError, responses, status_of
from goalsvc.api.paths import path_of
from goalsvc.domain.call import Call, Scope
from goalsvc.errors import InvalidError
from goalsvc.models.idempotency import IdempotencyRecord, KeyUse, StoredAnswer

HEADER = "Idempotency-Key"
REPLAYED = "Idempotent-Replayed"
LONGEST_KEY = 255
_READING = frozenset({"GET", "HEAD", "OPTIONS"})

Endpoint = TypeVar("Endpoint", bound=Callable[..., object])
Handler = Callable[[Request], Coroutine[object, object, Response]]


def requires(scope: Scope) -> Callable[[Endpoint], Endpoint]:
    """Declares the scope that an operation requires. A GET without it requires `read`; all others must declare one."""

    def declare(endpoint: Endpoint) -> Endpoint:
        endpoint.__dict__["required_scope"] = scope
        return endpoint

    return declare


@dataclass(frozen=True, slots=True)
class ParameterFamily:
    """Query parameters that begin with the same word; `rule` says in words which names match."""

    prefix: str
    names: re.Pattern[str]
    rule: str


def takes_parameters(family: ParameterFamily) -> Callable[[Endpoint], Endpoint]:
    """Lets an operation take query parameters of that family, besides those that it declares."""

    def declare(endpoint: Endpoint) -> Endpoint:
        endpoint.__dict__["takes_parameters"] = family
        return endpoint

    return declare


def with_etag(endpoint: Endpoint) -> Endpoint:
    """Gives the answer an `ETag`; a caller that has it already (`If-None-Match`) gets 304 without a body."""
    endpoint.__dict__["with_etag"] = True
    return endpoint


def changes_nothing(endpoint: Endpoint) -> Endpoint:
    """Marks a POST that only reads, such as one that takes much text: it leaves no audit, no root and no record of its key."""
    endpoint.__dict__["changes_nothing"] = True
    return endpoint


def repeated_by_the_ledger(endpoint: Endpoint) -> Endpoint:
    """Marks an endpoint whose transfer is the record of its Idempotency-Key, so that none is written besides.

    The ledger derives the transfer's id from path and key, answers a repeat from the transfer, and refuses another body.
    """
    endpoint.__dict__["repeated_by_the_ledger"] = True
    return endpoint


async def _idempotency_key(
    key: Annotated[
        str | None,
        Header(
            alias=HEADER,
            min_length=1,
            max_length=LONGEST_KEY,
            description="Chosen by the caller, one for each intended effect. It belongs to its path and is remembered for at "
            "least 24 h after its last use: a repeat with the same body has no further effect and gets the first answer, "
            "with `Idempotent-Replayed: true`; another body is refused with 409. A refused call (4xx) does not use it up.",
            examples=["8e03978e-40d5-43dd-bc93-6894a57f9324"],
        ),
    ] = None,
) -> None:
    """Documents and checks the header; the route itself reads it."""


async def _unused_key(
    key: Annotated[
        str | None,
        Header(
            alias=HEADER,
            min_length=1,
            max_length=LONGEST_KEY,
            description="Accepted, as for every POST, and not used: the operation changes nothing. A repeat is answered anew.",
        ),
    ] = None,
) -> None:
    """Documents and checks the header of a POST that changes nothing."""


async def _if_none_match(
    tag: Annotated[
        str | None,
        Header(alias="If-None-Match", max_length=4096, description="ETags of answers that the caller has."),
    ] = None,
) -> None:
    """Documents the header; the route itself reads it."""


async def known_tags(
    request: Request,
    tag: Annotated[
        str | None,
        Header(
            alias="If-Match",
            max_length=4096,
            description="ETags of the states in which the caller knows the document, comma-separated; `*` is any state. The "
            "document is changed only if it is in one of them, else the answer is 412 `precondition_failed`. A weak ETag "
            "(`W/…`) is never one of them. Absent: it is changed in whatever state it is.",
        ),
    ] = None,
) -> frozenset[str] | None:
    """The ETags of `If-Match`; None without the header."""
    given = request.headers.getlist("If-Match")
    return frozenset(one.strip() for one in ",".join(given).split(",")) if given else None


#: The ETags of `If-Match`, for an operation that changes a document.
KnownTags = Annotated[frozenset[str] | None, Depends(known_tags)]

_ETAG = {"ETag": {"description": "Names this state of the document.", "schema": {"type": "string"}}}


class Operation(APIRoute):
    """A route of the API."""

    def __init__(self, path: str, endpoint: Callable[..., object], **options: Any) -> None:
        methods = set(options.get("methods") or ())
        declared: Scope | None = getattr(endpoint, "required_scope", None)
        if declared is None and not methods <= _READING:
            raise TypeError(f"{endpoint.__name__}: declare the scope that it requires, as in @requires(Scope.WRITE)")
        self.required_scope = declared or Scope.READ
        self.reads = methods <= _READING or getattr(endpoint, "changes_nothing", False)
        statuses = (401, 403) if self.reads or "POST" not in methods else (401, 403, 409)
        options["responses"] = {**responses(*statuses), **(options.get("responses") or {})}
        options["openapi_extra"] = {
            "x-required-scope": self.required_scope.value,
            **(options.get("openapi_extra") or {}),
        }
        if getattr(endpoint, "with_etag", False):
            options["dependencies"] = [*(options.get("dependencies") or ()), Depends(_if_none_match)]
            options["responses"] |= {200: {"headers": _ETAG}, 304: {"description": "The caller has it already."}}
        if "POST" in methods:
            key = _unused_key if self.reads else _idempotency_key
            options["dependencies"] = [*(options.get("dependencies") or ()), Depends(key)]
        super().__init__(path, endpoint, **options)

    def get_route_handler(self) -> Handler:
        """The endpoint's handler, with what every operation does around it."""
        endpoint = super().get_route_handler()
        known = _query_parameters(self.dependant)
        more: ParameterFamily | None = getattr(self.endpoint, "takes_parameters", None)
        tagged: bool = getattr(self.endpoint, "with_etag", False)

        async def handle(request: Request) -> Response:
            call = Call(operation=self.name, request_id=request.state.request_id, caller=request.state.caller)
            request.state.call = call
            if self.reads:
                _refuse_without(self.required_scope, call)
                _refuse_unknown(request, known, more)
                _key_of(request)
                response = await endpoint(request)
                return _tagged(request, response) if tagged else response
            clock, begun = request.app.state.context.clock, perf_counter()
            began = clock.now()
            try:
                _refuse_without(self.required_scope, call)
                _refuse_unknown(request, known, more)
                response = await self._change(request, endpoint)
                if response.status_code < 300 and response.headers.get(REPLAYED) is None:
                    record_call(request, request.state.call, response, None, began, (perf_counter() - begun) * 1000)
                return response
            except Exception as error:
                status = status_of(error)
                if status >= 500:
                    record_call(request, request.state.call, None, error, began, (perf_counter() - begun) * 1000)
                if status >= 500 or status == 403:
                    outcome = auditing.FAILED if status >= 500 else f"refused: {getattr(error, 'code', status)}"
                    await auditing.audit(request, request.state.call, None, outcome)
                raise

        return handle

    async def _change(self, request: Request, endpoint: Handler) -> Response:
        key = _key_of(request)
        if key is None or getattr(self.endpoint, "repeated_by_the_ledger", False):
            return await _audited(request, await endpoint(request))
        return await _answer_once(request, key, endpoint)


def operations(prefix: str, tag: str) -> APIRouter:
    """A router whose routes are operations of the API."""
    return APIRouter(prefix=prefix, tags=[tag], route_class=Operation)


async def get_call(request: Request) -> Call:
    """The call that is being answered."""
    call: Call = request.state.call
    return call


CallOf = Annotated[Call, Depends(get_call)]


def _refuse_without(scope: Scope, call: Call) -> None:
    if scope not in call.caller.scopes:
        own = ", ".join(sorted(call.caller.scopes)) or "none"
        challenge = {"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{scope.value}"'}
        message = f"the key requires the scope `{scope.value}` for this operation; its scopes are: {own}"
        raise WebError(403, "insufficient_scope", message, challenge)


def _query_parameters(dependant: Dependant) -> set[str]:
    own = {parameter.alias for parameter in dependant.query_params}
    return own.union(*(_query_parameters(inner) for inner in dependant.dependencies))


def tag_of(body: bytes) -> str:
    """The ETag of an answer with that body."""
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'


def _tagged(request: Request, response: Response) -> Response:
    """The answer with its ETag, or 304 where the caller has it."""
    if response.status_code != 200:
        return response
    tag = tag_of(bytes(response.body))
    given = {one.strip().removeprefix("W/") for one in request.headers.get("If-None-Match", "").split(",")}
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    if tag in given or "*" in given:
        return Response(status_code=304, headers=headers)
    response.headers.update(headers)
    return response


def _refuse_unknown(request: Request, known: Container[str], more: ParameterFamily | None) -> None:
    """Raises InvalidError for a query parameter that the operation does not have: a misspelt filter must not list all."""
    for name in request.query_params:
        if name in known or (more and more.names.fullmatch(name)):
            continue
        if more and name.startswith(more.prefix):
            raise InvalidError(f"query.{name}", more.rule)
        raise InvalidError(f"query.{name}", "is not a parameter of this operation")


async def _audited(request: Request, response: Response) -> Response:
    if response.status_code < 300 and response.headers.get(REPLAYED) is None:
        await auditing.audit(request, request.state.call, response, auditing.DONE)
    return response


# -- the Idempotency-Key ----------------------------------------------------------------------------------------------


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


async def _answer_once(request: Request, key: str, endpoint: Handler) -> Response:
    """Answers a call with an Idempotency-Key: from its record if it was answered before, else by its effect.

    Concurrent repeats, and a repeat after a crash between effect and answer, run the effect again. Every id that it creates is
    derived from the record's seed, so nothing is created twice, and the first answer that is stored holds for all.
    """
    use = await IdempotencyRecord.begin(f"{request.method} {path_of(request)}", key, await _asked(request))
    if use.answer is not None:
        return _replay(use.answer)
    pepper = request.app.state.context.settings.api_key.get_secret_value().encode()
    entropy = hmac.digest(pepper, use.secret + use.seed.binary, "sha256")
    request.state.call = request.state.call.with_key(use.record_id, use.seed, entropy)
    try:
        response = await _audited(request, await endpoint(request))
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


async def _asked(request: Request) -> bytes:
    """What is asked, so that two bodies that say the same in JSON are the same."""
    body = await request.body()
    try:
        body = json.dumps(json.loads(body), sort_keys=True, separators=(",", ":")).encode() if body else b""
    except (ValueError, RecursionError):
        if request.headers.get("content-type", "").startswith("application/json"):
            raise RequestValidationError([{"loc": ("body",), "msg": "is not JSON", "type": "json_invalid"}]) from None
    return str(request.url.query).encode() + b"\n" + body
