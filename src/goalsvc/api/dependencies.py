"""What endpoints ask for: the context, the caller's key, ids of the right form."""

from typing import Annotated

from bson import ObjectId
from fastapi import Depends, Header, Path, Query, Request
from pydantic import AfterValidator, WithJsonSchema

from goalsvc import logs
from goalsvc.context import Context
from goalsvc.domain.call import Call
from goalsvc.domain.ids import USER_ID, USER_ID_RULE
from goalsvc.domain.origin import Cause, Origin, accepted_traceparent
from goalsvc.models.paging import Order, Paging
from goalsvc.resources import Resources


def get_context(request: Request) -> Context:
    """The context that the app opened."""
    context: Context = request.app.state.context
    return context


async def call_context(request: Request) -> Context:
    """The context of this call: whatever the call makes necessary has the call as its origin."""
    context, call = get_context(request), getattr(request.state, "call", None)
    if not isinstance(call, Call):  # a route that is not an operation of the API
        return context
    cause = Cause(
        call=call.operation,
        key=call.caller.name,
        request_id=call.request_id,
        happened_at=context.clock.now(),
        traceparent=accepted_traceparent(request.headers.get("traceparent")),
    )
    origin = Origin.new(cause)
    logs.About(trace_id=origin.cause.trace_id).stay()
    own = request.state.own_context = context.within(origin)
    return own


async def get_resources(request: Request) -> Resources:
    """The connections behind the context."""
    resources: Resources = request.app.state.resources
    return resources


def _object_id(value: str) -> str:
    if not ObjectId.is_valid(value):
        raise ValueError("must be 24 hexadecimal digits")
    return value


#: Less than every ObjectId that is made, so that documents of other services with other ids stay out of lists.
FIRST_ID = ObjectId("0" * 24)


def _user_id(value: str) -> str:
    if not USER_ID.fullmatch(value):
        raise ValueError(USER_ID_RULE)
    return value


UserIdText = Annotated[
    str,
    AfterValidator(_user_id),
    WithJsonSchema(
        {
            "type": "string",
            "minLength": 1,
            "maxLength": 128,
            "pattern": "^[A-Za-z0-9_=@,.;-]*[A-Za-z0-9_=@,;-][A-Za-z0-9_=@,.;-]*$",
            "examples": ["u-alice-1"],
        }
    ),
]
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


async def get_paging(
    limit: Limit = 50,
    cursor: Cursor = None,
    order: Annotated[Order, Query(description="The direction of the list.")] = Order.ASC,
) -> Paging:
    """Which page of a list is asked for."""
    return Paging(limit, cursor, order)


PagingOf = Annotated[Paging, Depends(get_paging)]

Json = dict[str, object]
