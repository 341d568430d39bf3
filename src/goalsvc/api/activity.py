"""What arrives and what is done: webhooks, calls, periodic runs that changed something, and deliveries."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Annotated, Self

from fastapi import Header, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import Field, ValidationError

from goalsvc.actions.following import may_still_read, stream
from goalsvc.api.dependencies import ContextOf
from goalsvc.api.errors import WebError, responses
from goalsvc.api.operation import CallOf, operations
from goalsvc.api.stopping import stopping_of
from goalsvc.api.views import Page, Text, Time, View, Whole, absent
from goalsvc.clock import from_epoch_milliseconds, to_epoch_milliseconds
from goalsvc.errors import InvalidError
from goalsvc.models import activity
from goalsvc.models.activity import Activity, Kind
from goalsvc.models.changes import parse_place, place_now
from goalsvc.models.tails import MOST_TAILS, Tails
from goalsvc.models.trace_roots import MOST_LOOKED_THROUGH, roots_of_request

router = operations("/v1/activity", "Activity")

_LONGEST_PLACE = 2_000
#: What is written at this moment may be dated a little later by another process.
_AHEAD = timedelta(seconds=2)


class ActivityView(View):
    """A webhook's event, a refused webhook, a call, a periodic run that changed something, or an attempt of a delivery."""

    id: str = Field(description="Of the root of its trace; of an attempt, of its delivery and time.")
    at: datetime = Field(description="When it arrived or began; of an attempt, when it was over.")
    kind: str = Field(description="`webhook`, `call`, `task` or `delivery`.", examples=["webhook"])
    name: str = Field(
        description="Pusher's name of the event, or `refused`; the operation; the task; the type of the event delivered.",
        examples=["member_removed"],
    )
    outcome: str = Field(
        description="`done`, `returned`, `failed`; of a delivery its state: `pending`, `delivered`, `failed`.",
        examples=["done"],
    )
    reason: Text = absent("Why it changed nothing or failed.", examples=["unknown_channel"])
    ms: float | None = absent("How many milliseconds it took.", examples=[4.2])
    goal_id: Text = absent("The goal that it is about.", examples=["68143584d6945d32e732cc21"])
    user_id: Text = absent("Of a webhook: who joined or left.", examples=["u-alice-1"])
    channel: Text = absent("Of a webhook: the channel.", examples=["presence-enc-goal@68143584d6945d32e732cc21"])
    happened_at: Time = absent("Of a webhook: when Pusher made it.")
    app_key: Text = absent("Of a webhook: the app key that signed it.")
    key: Text = absent("Of a call: the name of its API key.", examples=["backend"])
    refs: dict[str, object] | None = absent("Of a call or task: ids and amounts that it touched.")
    request_id: Text = absent("The `X-Request-ID` of the call, or of the request that brought the webhook.")
    event_id: Text = absent("Of a webhook: its identity. Of a delivery: the event that is delivered.")
    endpoint_id: Text = absent("Of a delivery: the webhook endpoint.")
    status: Whole = absent("Of a delivery: the status that the endpoint answered with.")
    next_at: Time = absent("Of a delivery: when the next attempt is due.")

    @classmethod
    def of(cls, one: Activity) -> Self:
        """The view of that."""
        return cls.model_validate(one.fields)

    @classmethod
    def all_of(cls, found: Sequence[Activity]) -> list[Self]:
        """The views of these; what cannot be shown is left out and affects no other."""
        views = []
        for one in found:
            with suppress(ValidationError):
                views.append(cls.of(one))
        return views


class ActivityPage(Page[ActivityView]):
    """A page, latest first."""

    place: str = Field(
        description="Where the stream goes on after this page without a gap: its `after`. What was committed while the page "
        "was read may be in both; it has the same `id`.",
        examples=["826A1B2C3D00000001"],
    )


KindOf = Annotated[
    Kind,
    Query(
        description="Only this kind. Deliveries are there only for keys with the scope `admin`, as their own operations."
    ),
]


@router.get("", summary="Read what arrived and was done", responses=responses(401, 422, 503))
async def list_activity(
    context: ContextOf,
    call: CallOf,
    kind: KindOf = Kind.ALL,
    limit: Annotated[
        int, Query(ge=1, le=1000, description="How many rows, and all of the last one's millisecond.")
    ] = 100,
    cursor: Annotated[
        str | None, Query(max_length=15, pattern="^[0-9]{1,14}$", description="`next` of the page before.")
    ] = None,
    request_id: Annotated[
        str | None,
        Query(
            min_length=1,
            max_length=128,
            description="Only what the request with this `X-Request-ID` left, all on one page; an id that goalsvc did not make "
            f"itself is found among the latest {MOST_LOOKED_THROUGH:,} pieces of all traces.",
        ),
    ] = None,
) -> ActivityPage:
    """Webhooks, refused ones too, calls that changed something or failed, periodic runs that changed something, attempts of
    deliveries: the latest first, from the trace. For watching; what must not be missed is in `GET /v1/events`.
    """
    place = await place_now()  # before the rows are read: what comes meanwhile is told twice rather than not at all
    view = activity.View(kind, call.caller.scopes)
    if request_id is not None:
        if cursor is not None:
            raise InvalidError("query.cursor", "is not used with request_id: all is on one page")
        roots = await roots_of_request(request_id, None if kind is Kind.ALL else kind.value)
        return ActivityPage(
            items=ActivityView.all_of([Activity.of_root(root) for root in reversed(roots)]), place=place
        )
    before = context.clock.now() + _AHEAD if cursor is None else from_epoch_milliseconds(int(cursor))
    found = await activity.latest_activity(view, before, limit)
    following = str(to_epoch_milliseconds(found.earlier)) if found.earlier is not None else None
    return ActivityPage(items=ActivityView.all_of(found.items), next=following, place=place)


_STREAM = {"schema": {"type": "string"}, "example": "id: 826A1B2C3D00000001\nevent: webhook\ndata: {…}\n\n"}


@router.get(
    "/stream",
    summary="Stream what arrives and is done",
    response_class=StreamingResponse,
    responses={
        200: {"description": "Server-Sent Events.", "content": {"text/event-stream": _STREAM}},
        **responses(401, 422, 503),
    },
)
async def stream_activity(
    request: Request,
    context: ContextOf,
    call: CallOf,
    kind: KindOf = Kind.ALL,
    after: Annotated[
        str | None,
        Query(
            max_length=_LONGEST_PLACE, description="`place` of a page, or the `id` of an event; absent: from now on."
        ),
    ] = None,
    last_event_id: Annotated[
        str | None,
        Header(max_length=_LONGEST_PLACE, description="Sent by a client that reconnects; continues after that."),
    ] = None,
) -> StreamingResponse:
    """Server-Sent Events as things are committed: `id` is the place to continue after, `event` the kind, `data` a row of the
    list as JSON. Where rows are missing because they are no longer kept, or are older than an hour, the event is `gap`.

    It ends when the server stops, and within 10 s when the key is no longer valid or has other scopes. A process serves
    at most 20 streams, those of the console's live page among them; more are refused with 503.
    """
    tails, now = Tails.of(request.app.state), await place_now()
    given = last_event_id or after
    place = parse_place(given) if given else now
    if place is None:
        raise InvalidError("after", "is neither a place of this list nor the id of an event of this stream")
    if len(tails) >= MOST_TAILS:
        raise WebError(503, "unavailable", "too many streams are open in this process", {"Retry-After": "30"})
    view, may_read = activity.View(kind, call.caller.scopes), partial(may_still_read, context, call.caller)
    lines = stream(tails, place, now, view, _event, stopping_of(request), may_read)
    return StreamingResponse(
        lines, media_type="text/event-stream", headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    )


def _event(one: Activity) -> str:
    return f"event: {one.fields.get('kind')}\ndata: {ActivityView.of(one).model_dump_json()}"
