"""The event feed: what happened, in one order, to be followed by the platform's backend."""

import json
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from time import monotonic
from typing import Annotated

from fastapi import Header, Path, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field, ValidationError

from goalsvc.actions.following import Reader, may_still_read
from goalsvc.api.dependencies import ContextOf, IdText, ResourcesOf, UserIdText
from goalsvc.api.errors import responses
from goalsvc.api.operation import CallOf, operations
from goalsvc.api.stopping import Stopping, stopping_of
from goalsvc.api.views import Page
from goalsvc.domain.events import EVENT_TYPES, selected_types
from goalsvc.domain.reading import dotted
from goalsvc.domain.shown import shown
from goalsvc.errors import InvalidError, NotFoundError, UnusableDocumentError
from goalsvc.models.event_log import EventDocument, EventLog
from goalsvc.models.paging import Order

router = operations("/v1/events", "Events")

#: How long a feed waits at most for an event. How often an idle stream says that it is there, and each asks for its key.
LONGEST_WAIT_SECONDS = 30.0
_HEARTBEAT_SECONDS = 15.0
#: How many events one turn of a stream reads.
_STREAM_BATCH = 200

log = logging.getLogger(__name__)


def _is_absent(value: object) -> bool:
    return value is None


class EventView(BaseModel):
    """Something that happened."""

    id: str = Field(examples=["evt_1f0c1d9c8e7b6a59483726150a1b2c3d"])
    type: str = Field(examples=["goal.completed"])
    created_at: datetime
    sequence: int = Field(description="The place in the feed; it also orders the events of one goal.", examples=[1042])
    goal_id: str | None = Field(default=None, exclude_if=_is_absent, examples=["68143584d6945d32e732cc21"])
    session_id: str | None = Field(default=None, exclude_if=_is_absent, examples=["68143584d6945d32e732cc20"])
    user_ids: list[str] = Field(description="Whom it concerns.", examples=[["u-alice-1"]])
    data: dict[str, object] = Field(
        description="What it is about; for a goal's event the whole goal, as `goal`; where tokens moved the transfer, as "
        "`transfer`: `debit` pays `amount` to `credit`. Each transfer has exactly one such event; in "
        "`deposit.reversed` it is the deposit, which `deposit.created` told."
    )
    cause: dict[str, object] = Field(description="The webhook, call or periodic task that it goes back to.")

    @classmethod
    def of(cls, event: Mapping[str, object]) -> "EventView":
        """The view of a stored event. Raises UnusableDocumentError for one that cannot be shown."""
        fields = {name: shown(event[name]) for name in cls.model_fields if name in event}
        try:
            return cls.model_validate({**fields, "id": event["_id"]})
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise UnusableDocumentError(f"events/{event['_id']}", dotted(first["loc"]), first["msg"]) from None


Types = Annotated[
    str | None,
    Query(
        max_length=2048,
        description="Only these types, comma-separated; `goal.*` is all that begin so. "
        f"Types: {', '.join(f'`{name}`' for name in EVENT_TYPES)}.",
        examples=["goal.ended,escrow.*"],
    ),
]
After = Annotated[
    str | None,
    Query(max_length=64, description="`next` of the page before, or an event's id; absent: from the oldest event on."),
]
Since = Annotated[
    str | None,
    Query(
        max_length=64,
        description="`next` of a page, the `id` of a message of this stream, or an event's id; absent: from the next event on.",
    ),
]
GoalFilter = Annotated[IdText | None, Query(description="Only events of this goal.")]
SessionFilter = Annotated[IdText | None, Query(description="Only events of this session.")]
UserFilter = Annotated[UserIdText | None, Query(description="Only events that concern this user.")]


@router.get("", summary="Follow the events", responses=responses(401, 410, 422, 503))
async def list_events(
    request: Request,
    resources: ResourcesOf,
    after: After = None,
    types: Types = None,
    goal_id: GoalFilter = None,
    session_id: SessionFilter = None,
    user_id: UserFilter = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="How many events at most.")] = 100,
    wait: Annotated[
        float,
        Query(ge=0, le=LONGEST_WAIT_SECONDS, description="How many seconds to wait for an event, if there is none."),
    ] = 0,
    order: Annotated[
        Order, Query(description="`desc`: the newest first, to look back; `asc`, with `wait`: to follow.")
    ] = Order.ASC,
) -> Page[EventView]:
    """Events in the one order that all readers see. `next` is always there: continue with it, also after an empty page.

    No event is ever placed before one that was read, whenever it is committed. 410 `cursor_expired` when events after the
    cursor have been deleted (`GOALSVC_EVENT_DAYS`); `oldest` is then the cursor to continue with.

    With `order=desc` a page holds the events before the cursor, or the newest ones, and `next` is null on the last page.
    """
    feed, where = resources.events, where_of(types, goal_id, session_id, user_id)
    place = await place_of(feed, after)
    if order is Order.DESC:
        if wait:
            raise InvalidError("query.wait", "is not used with order=desc: what is to come is not in the past")
        past = await feed.page_back(place, where, limit)
        return Page(items=_views(past.events), next=None if past.next is None else str(past.next))
    deadline = monotonic() + wait
    stopping = stopping_of(request)
    while True:
        page = await feed.page(place, where, limit)
        left = deadline - monotonic()
        if page.events or left <= 0 or not await _moved_on(feed, stopping, page.next, left):
            return Page(items=_views(page.events), next=str(page.next))
        place = page.next


def _views(events: Sequence[Mapping[str, object]]) -> list[EventView]:
    """The views of these events; one that cannot be shown is passed over."""
    views = []
    for event in events:
        try:
            views.append(EventView.of(event))
        except UnusableDocumentError as error:
            log.warning("an event is passed over: %s", error.message)
    return views


async def _moved_on(feed: EventLog, stopping: Stopping, place: int, within_seconds: float) -> bool:
    """Waits for a new event; False when there was none in time, or the server stops."""
    return bool(await stopping.unless_stopped(feed.moved_on(place, within_seconds)))


_EVENT_STREAM = {"schema": {"type": "string"}, "example": "id: 1042\nevent: goal.completed\ndata: {…}\n\n"}


@router.get(
    "/stream",
    summary="Stream the events",
    response_class=StreamingResponse,
    responses={
        200: {"description": "Server-Sent Events.", "content": {"text/event-stream": _EVENT_STREAM}},
        **responses(401, 410, 422, 503),
    },
)
async def stream_events(
    request: Request,
    resources: ResourcesOf,
    context: ContextOf,
    call: CallOf,
    after: Since = None,
    types: Types = None,
    goal_id: GoalFilter = None,
    session_id: SessionFilter = None,
    user_id: UserFilter = None,
    last_event_id: Annotated[
        str | None, Header(max_length=64, description="Sent by a client that reconnects; continues after that event.")
    ] = None,
) -> StreamingResponse:
    """Server-Sent Events: `id` is the cursor, `event` the type, `data` the event as JSON.

    Without `after` and `Last-Event-ID` it begins with the next event. It ends when the server stops (reconnect then), and
    within 15 s when the key is no longer valid or has other scopes.
    """
    feed, where = resources.events, where_of(types, goal_id, session_id, user_id)
    place = await place_of(feed, last_event_id or after)
    begin = place if place is not None else await feed.number()
    first = await feed.page(begin, where, _STREAM_BATCH)
    stopping = stopping_of(request)
    reader = Reader(partial(may_still_read, context, call.caller), _HEARTBEAT_SECONDS)

    async def lines() -> AsyncIterator[str]:
        page = first
        yield ": ok\n\n"
        while not stopping.stopped and await reader.may_go_on():
            for view in _views(page.events):
                data = view.model_dump_json()
                yield f"id: {view.sequence}\nevent: {view.type}\ndata: {data}\n\n"
            if not page.events and not await _moved_on(feed, stopping, page.next, reader.patience):
                yield ": waiting\n\n"
            page = await feed.page(page.next, where, _STREAM_BATCH)

    return StreamingResponse(
        lines(), media_type="text/event-stream", headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    )


@router.get("/{event_id}", summary="Read an event", responses=responses(401, 404, 422, 503))
async def read_event(
    resources: ResourcesOf,
    event_id: Annotated[str, Path(pattern="^evt_[0-9a-f]{32}$", examples=["evt_1f0c1d9c8e7b6a59483726150a1b2c3d"])],
) -> EventView:
    """The event of that id."""
    return EventView.of(await known_event(resources.events, event_id))


async def known_event(feed: EventLog, event_id: str) -> Mapping[str, object]:
    """The stored event of that id, with its place; raises NotFoundError."""
    if await feed.place_of(event_id) is None:
        raise NotFoundError(f"there is no event {event_id}")
    found: Mapping[str, object] | None = await EventDocument.get_motor_collection().find_one({"_id": event_id})
    if found is None:
        raise NotFoundError(f"there is no event {event_id}")
    return found


def where_of(types: str | None, goal_id: str | None, session_id: str | None, user_id: str | None) -> dict[str, object]:
    """The filter of the feed; raises InvalidError for a type that does not exist."""
    given = {
        "goal_id": goal_id and goal_id.lower(),
        "session_id": session_id and session_id.lower(),
        "user_ids": user_id,
    }
    where: dict[str, object] = {name: value for name, value in given.items() if value is not None}
    chosen = [part.strip() for part in (types or "").split(",") if part.strip()]
    if chosen:  # an empty filter is none
        try:
            where["type"] = {"$in": list(selected_types(chosen))}
        except ValueError as error:
            raise InvalidError("query.types", str(error)) from None
    return where


async def place_of(feed: EventLog, after: str | None) -> int | None:
    """The place that a cursor names: a number that the feed gave out, or the id of an event."""
    if after is None or after == "":
        return None
    if after.isascii() and after.isdecimal():
        place = int(after)
        if place > await feed.number():
            raise InvalidError("after", "is not a cursor that this feed gave out")
        return place
    place_of_event = await feed.place_of(after) if after.startswith("evt_") else None
    if place_of_event is None:
        raise InvalidError("after", "is neither a cursor of this feed nor the id of an event that is stored")
    return place_of_event


def payload_of(view: EventView) -> str:
    """The event as the body of an outgoing webhook: the same JSON as the feed gives."""
    return json.dumps(view.model_dump(mode="json"), ensure_ascii=False, separators=(",", ":"))
