"""From exceptions to `application/problem+json` (RFC 9457): one table."""

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from pymongo.errors import OperationFailure, PyMongoError
from redis.exceptions import RedisError
from starlette.exceptions import HTTPException

from goalsvc import request_id
from goalsvc.api.error_catalogue import CATALOGUE, address_of
from goalsvc.api.methods import methods_of
from goalsvc.domain.goals import GoalKind
from goalsvc.errors import (
    ConflictError,
    CursorExpiredError,
    GoalsvcError,
    InsufficientFundsError,
    InvalidError,
    LedgerBusyError,
    NotFoundError,
    NotPromisedError,
    PreconditionFailedError,
    ReceiverFailedError,
    TransferConflictError,
    UnusableDocumentError,
)
from goalsvc.models.healing import is_about_a_document

log = logging.getLogger(__name__)

PROBLEM_JSON = "application/problem+json"


class Fault(BaseModel):
    """One thing that is wrong with a request."""

    field: str = Field(description="Path of the offending value, as in `levels.0.target`.")
    message: str


class Problem(BaseModel):
    """An error, as RFC 9457 has it. `code` is stable; `detail` is for people."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "type": "/errors/goal_inactive",
                "title": "Conflict",
                "status": 409,
                "code": "goal_inactive",
                "detail": "the goal is not active",
                "request_id": "req_5f2c1a9b7d3e4f6081726354",
            }
        }
    )

    type: str = Field(description="Where the code is explained: an address of this API, relative to it.")
    title: str = Field(description="The name of the status.")
    status: int = Field(description="The HTTP status.")
    code: str = Field(
        description="Stable, for programs; explained at `type`.", json_schema_extra={"enum": [*sorted(CATALOGUE)]}
    )
    detail: str = Field(description="For people.")
    request_id: str = Field(description="The call's `X-Request-ID`, to be named to the operators of goalsvc.")
    errors: list[Fault] | None = Field(default=None, description="For invalid input: what is wrong, field by field.")
    oldest: str | None = Field(default=None, description="For an expired cursor: the oldest one that is valid.")


class WebError(GoalsvcError):
    """An error that exists only at the HTTP interface, such as a missing signature."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = headers


#: What an error of ours means to a client; the first class that fits.
STATUS: tuple[tuple[type[GoalsvcError], int], ...] = (
    (InvalidError, 422),
    (NotFoundError, 404),
    (TransferConflictError, 409),
    (ConflictError, 409),
    (InsufficientFundsError, 402),
    (UnusableDocumentError, 409),
    (NotPromisedError, 409),
    (CursorExpiredError, 410),
    (PreconditionFailedError, 412),
    (LedgerBusyError, 503),
    (ReceiverFailedError, 503),
)

_TITLES = {
    400: "Bad Request",
    401: "Unauthorized",
    402: "Payment Required",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    410: "Gone",
    412: "Precondition Failed",
    413: "Content Too Large",
    422: "Unprocessable Content",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


def problem(
    status: int,
    code: str,
    detail: str,
    faults: list[Fault] | None = None,
    headers: Mapping[str, str] | None = None,
    request: Request | None = None,
    oldest: str | None = None,
) -> JSONResponse:
    """The response that tells of an error; `request` is needed where its id was not given to it before."""
    given = None if request is None else request.headers.get(request_id.HEADER)
    own_id = request_id.CURRENT.get() or request_id.accepted_or_new(given)
    body = Problem(
        type=address_of(code),
        title=_TITLES.get(status, "Error"),
        status=status,
        code=code,
        detail=detail,
        request_id=own_id,
        errors=faults,
        oldest=oldest,
    )
    content = body.model_dump(exclude_none=True)
    return JSONResponse(content, status, {**(headers or {}), request_id.HEADER: own_id}, media_type=PROBLEM_JSON)


def status_of(error: Exception) -> int:
    """The status that an error is answered with."""
    if isinstance(error, RequestValidationError):
        return 422
    if isinstance(error, HTTPException):
        return error.status_code
    if isinstance(error, WebError):
        return error.status
    return next((status for kind, status in STATUS if isinstance(error, kind)), 500)


async def on_own_error(request: Request, error: GoalsvcError) -> JSONResponse:
    """Answers with the status that the table gives to an error of ours."""
    if isinstance(error, WebError):
        return problem(error.status, error.code, error.message, headers=error.headers, request=request)
    status = status_of(error)
    if status >= 500:
        log.warning("%s %s: %s", request.method, request.url.path, error)
    if isinstance(error, CursorExpiredError):
        return problem(status, error.code, error.message, oldest=str(error.oldest), request=request)
    faults = [Fault(field=error.field, message=error.fault)] if isinstance(error, InvalidError) else None
    return problem(status, error.code, error.message, faults, request=request)


async def on_invalid(request: Request, error: RequestValidationError) -> JSONResponse:
    """Answers a body, path, query or header that is not of the documented form; the values themselves are not repeated."""
    errors = error.errors()
    told = dict.fromkeys((_field(e), _message(e)) for e in errors)  # a header may be declared twice
    if isinstance(error.body, bytes) and error.body:  # it was not read as JSON, so nothing in it is at fault
        elsewhere = dict.fromkeys((_field(e), _message(e)) for e in errors if e["loc"][:1] != ("body",))
        told = {("header.Content-Type", "must be application/json"): None, **elsewhere}
    faults = [Fault(field=field, message=message) for field, message in told]
    named = "; ".join(f"{fault.field}: {fault.message}" for fault in faults)
    return problem(422, "invalid", named, faults)


def _message(error: Mapping[str, Any]) -> str:
    """What is wrong, without the value that was given, which may be long."""
    if error.get("type") == "union_tag_not_found":
        return f"required: one of {_NAMED_KINDS}"
    if error.get("type") == "union_tag_invalid":
        return f"must be one of {_NAMED_KINDS}"
    return str(error["msg"]).removeprefix("Value error, ")


def _field(error: Mapping[str, Any]) -> str:
    """The path of what is wrong. Of a body of several kinds it does not name the kind, and without one it is `kind`."""
    location: tuple[object, ...] = tuple(error["loc"])
    if error.get("type") in ("union_tag_not_found", "union_tag_invalid"):
        return _path((*location, "kind"))
    return _path(tuple(part for number, part in enumerate(location) if number != 1 or part not in _KINDS))


_KINDS = frozenset(kind.value for kind in GoalKind)
_NAMED_KINDS = ", ".join(kind.value for kind in GoalKind)


def _path(location: tuple[object, ...]) -> str:
    """`("body", "levels", 0, "target")` as `levels.0.target`; what is not in the body keeps where it is.

    Of a body that is not JSON the place is a number of characters: that is no field.
    """
    in_body = location[:1] == ("body",) and len(location) > 1 and isinstance(location[1], str)
    parts = location[1:] if in_body else location[:1] if location[:1] == ("body",) else location
    return ".".join(str(part) for part in parts)


async def on_http(request: Request, error: HTTPException) -> JSONResponse:
    """Answers an unknown path or method, and a body that cannot even be decoded (FastAPI's one use of 400)."""
    if error.status_code == 400:
        return problem(422, "invalid", "body: is not JSON", [Fault(field="body", message="is not JSON")])
    title = _TITLES.get(error.status_code, "error")
    headers = error.headers
    if error.status_code == 405 and (methods := methods_of(request.app, request.scope)):
        headers = {"Allow": ", ".join(methods)}
    return problem(error.status_code, title.lower().replace(" ", "_"), str(error.detail), headers=headers)


async def on_bug(request: Request, error: Exception) -> JSONResponse:
    """Answers an unforeseen error; the server logs it, the client learns nothing of it."""
    return problem(500, "internal_server_error", "something went wrong here; it was logged")


async def on_outage(request: Request, error: Exception) -> JSONResponse:
    """Answers when the database or Redis cannot be reached: the caller may try again.

    A document that refuses a change will refuse it again: that is a conflict.
    """
    if isinstance(error, OperationFailure) and is_about_a_document(error):
        log.warning("%s %s: a document refuses a change: %s", request.method, request.url.path, error)
        return problem(409, UnusableDocumentError.code, "a document refuses the change", request=request)
    log.warning("%s %s: %s", request.method, request.url.path, type(error).__name__)
    return problem(
        503,
        "unavailable",
        "a service that this needs cannot be reached; try again",
        headers={"Retry-After": "1"},
        request=request,
    )


def install(app: FastAPI) -> None:
    """Lets the app answer every error as a problem."""
    handlers: Mapping[type[Exception], Any] = {
        GoalsvcError: on_own_error,
        RequestValidationError: on_invalid,
        HTTPException: on_http,
        PyMongoError: on_outage,
        RedisError: on_outage,
        TimeoutError: on_outage,
        Exception: on_bug,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)


def responses(*statuses: int, causes: Mapping[int, str] | None = None) -> dict[int | str, dict[str, object]]:
    """The errors of an operation, for its OpenAPI description; `causes` says what one means there, where that is more."""
    usual = {
        400: "The request is not of the documented form.",
        401: "The API key is missing or wrong.",
        402: "The wallet does not hold that many tokens; nothing was moved.",
        403: "The API key does not have the scope that the operation requires (`insufficient_scope`).",
        404: "There is no such document.",
        409: "The document's state does not allow it, or the Idempotency-Key was used for another body.",
        410: "Events after that cursor have been deleted; `oldest` is the cursor to continue with.",
        412: "The document is no longer as `If-Match` says (`precondition_failed`); nothing was changed.",
        413: "The body is larger than is accepted.",
        422: "A value is not what it should be; `errors` names each field.",
        503: "The database or Redis cannot be reached, or is too busy; nothing was changed. Try again.",
    }
    content = {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        status: {"description": (causes or {}).get(status, usual[status]), "content": content} for status in statuses
    }
