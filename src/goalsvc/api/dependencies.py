"""What endpoints ask for: the context, the caller's key, ids of the right form."""

import hmac
from typing import Annotated, Any

from bson import ObjectId
from fastapi import Depends, Header, Path, Query, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import AfterValidator, StringConstraints, WithJsonSchema
from starlette.types import ASGIApp, Receive, Scope, Send

from goalsvc.api.errors import WebError, on_own_error
from goalsvc.context import Context
from goalsvc.domain.ids import USER_ID
from goalsvc.domain.origin import Cause, Origin
from goalsvc.resources import Resources

bearer = HTTPBearer(
    auto_error=False, scheme_name="ApiKey", description="The API key of `GOALSVC_API_KEY`, as a bearer token."
)


def get_context(request: Request) -> Context:
    """The context that the app opened."""
    context: Context = request.app.state.context
    return context


async def call_context(request: Request) -> Context:
    """The context of this call: whatever the call makes necessary has the call as its origin."""
    state = request.state
    context = get_context(request)
    cause = Cause(
        call=request.scope["route"].name,
        key=getattr(state, "key_name", None),
        request_id=getattr(state, "request_id", None),
        happened_at=context.clock.now(),
    )
    return context.within(Origin.new(cause))


def get_resources(request: Request) -> Resources:
    """The connections behind the context."""
    resources: Resources = request.app.state.resources
    return resources


def require_api_key(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Security(bearer)]
) -> None:
    """Refuses a caller without an API key. Compared in constant time; with no key configured, nobody is let in."""
    settings = get_context(request).settings
    accepted = [key.get_secret_value() for key in (settings.api_key, settings.api_key_next)]
    given = credentials.credentials if credentials else ""
    matching = [key for key in accepted if key and hmac.compare_digest(given.encode(), key.encode())]
    if not matching:
        raise WebError(
            401, "unauthorized", "send the API key as `Authorization: Bearer …`", {"WWW-Authenticate": "Bearer"}
        )


class KeyFirst:
    """Refuses callers of `/v1/…` without the API key before their body is read, which FastAPI parses before it asks for one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes on the requests of those who have the key, and all that need none."""
        if scope["type"] == "http" and scope["path"].startswith("/v1/"):
            request = Request(scope)
            try:
                require_api_key(request, await bearer(request))
            except WebError as error:
                refusal = await on_own_error(request, error)
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _object_id(value: str) -> str:
    if not ObjectId.is_valid(value):
        raise ValueError("must be 24 hexadecimal digits")
    return value


UserIdText = Annotated[str, StringConstraints(pattern=f"^{USER_ID.pattern}$")]
IdText = Annotated[
    str,
    AfterValidator(_object_id),
    WithJsonSchema({"type": "string", "pattern": "^[0-9A-Fa-f]{24}$", "examples": ["68143584d6945d32e732cc21"]}),
]
UserPath = Annotated[UserIdText, Path(examples=["u-alice-1"])]

ContextOf = Annotated[Context, Depends(call_context)]
ResourcesOf = Annotated[Resources, Depends(get_resources)]

IdempotencyKey = Annotated[
    str,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="Chosen by the caller, one for each intended effect: a repeat with the same key and body changes "
        "nothing and gets the first answer, the same key with another body is refused with 409. It belongs to its path.",
        examples=["8e03978e-40d5-43dd-bc93-6894a57f9324"],
    ),
]
Limit = Annotated[int, Query(ge=1, le=200, description="How many items at most.")]
Cursor = Annotated[
    str | None, Query(max_length=512, description="`next` of the page before; absent for the first page.")
]

Json = dict[str, Any]
