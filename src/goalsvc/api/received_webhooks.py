"""Pusher's webhooks as they arrived: one row for each event, and one for each webhook that was refused."""

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, Self

from fastapi import Query
from pydantic import Field, ValidationError

from goalsvc.api.dependencies import ContextOf
from goalsvc.api.errors import responses
from goalsvc.api.instants import Instant
from goalsvc.api.operation import CallOf, operations
from goalsvc.api.views import Page, Part, Text, Time, View, absent
from goalsvc.domain.call import Scope
from goalsvc.domain.shown import shown
from goalsvc.errors import InvalidError
from goalsvc.models.received_webhooks import MOST_LOOKED_AT, Arrivals, arrivals
from goalsvc.models.trace_roots import MOST_LOOKED_THROUGH, SETTLES, Place, roots_after, roots_of_request

router = operations("/v1/webhooks", "Webhook")


class AnswerView(Part):
    """What one receiver answered to the event."""

    receiver: str = Field(examples=["karaoke_control"])
    outcome: Literal["done", "returned", "failed"]
    reason: Text = absent("Why it returned or failed, or what it did.", examples=["not_a_participant"])

    @classmethod
    def all_of(cls, node: Mapping[str, Any]) -> list[Self]:
        """The answers to the signal that the webhook's node sent; empty where it sent none."""
        receivers = [receiver for signal in node.get("children") or () for receiver in signal.get("children") or ()]
        return [cls(receiver=one["name"], outcome=one["outcome"], reason=one.get("reason")) for one in receivers]


class ReceivedWebhookView(View):
    """One event of a webhook, or a webhook that was refused."""

    id: str
    at: datetime = Field(description="When it arrived.")
    name: str = Field(description="Pusher's name of the event; `refused` for a webhook.", examples=["member_removed"])
    outcome: Literal["done", "returned", "failed"]
    reason: Text = absent("Why it changed nothing, or why it was refused.", examples=["unknown_channel"])
    channel: Text = absent("The channel that it names.", examples=["presence-enc-goal@68143584d6945d32e732cc21"])
    user_id: Text = absent("The user who joined or left.", examples=["u-alice-1"])
    goal_id: Text = absent("The goal that it is about.", examples=["68143584d6945d32e732cc21"])
    happened_at: Time = absent("When Pusher made it.")
    app_key: Text = absent("The app key that signed it.")
    event_id: Text = absent("Its identity: a repeat has the same.")
    request_id: Text = absent("The `X-Request-ID` of the request that brought it.")
    answers: list[AnswerView] = Field(
        default=[], description="What each receiver answered; empty where none was called."
    )
    body: Text = absent("The webhook's body, where it is kept (`GOALSVC_KEEP_WEBHOOKS`); needs `read:payload`.")

    @classmethod
    def of(cls, segment: Mapping[str, Any], *, with_body: bool) -> Self:
        """The view of that root of the trace."""
        node = segment.get("node") or {}
        names = set(cls.model_fields) - {"id", "at", "goal_id", "answers"} - (set() if with_body else {"body"})
        fields = {name: shown(node[name]) for name in names if node.get(name) is not None}
        about = {"at": segment["at"], "goal_id": segment.get("goal_id"), "answers": AnswerView.all_of(node)}
        return cls(id=str(segment["_id"]), **about, **fields)


class ArrivalsView(View):
    """How Pusher's webhooks came."""

    looked_at: int = Field(description=f"How many events there are, of at most {MOST_LOOKED_AT:,}.", examples=[1200])
    since: datetime | None = Field(description="When the first of them arrived; null: there is none.")
    refused: int = Field(description="How many webhooks were refused.", examples=[1])
    late: int = Field(description="How many events arrived more than 5 s late.", examples=[2])
    slowest_ms: int = Field(
        description="How late the slowest of those was, in milliseconds; 0: none was.", examples=[30200]
    )
    sentence: str = Field(
        description="The same in a sentence.",
        examples=["Of 1200 webhook events 1 was refused; 2 arrived more than 5 s late, the slowest 30.2 s."],
    )
    truncated: bool = Field(
        description="Whether there are earlier ones; `until=` the instant `since` goes on with them."
    )

    @classmethod
    def of(cls, found: Arrivals) -> Self:
        """The view of these arrivals."""
        return cls(
            looked_at=len(found.webhooks),
            since=found.webhooks[-1].at if found.webhooks else None,
            refused=len(found.refused),
            late=len(found.late),
            slowest_ms=found.slowest // timedelta(milliseconds=1),
            sentence=found.sentence,
            truncated=found.truncated,
        )


@router.get("/arrivals", summary="How webhooks came", responses=responses(401, 422, 503))
async def read_arrivals(
    context: ContextOf,
    until: Annotated[Instant | None, Query(description="Only those that arrived before this; absent: all.")] = None,
) -> ArrivalsView:
    """How many of the latest events of webhooks were refused or late, as long as their trace is kept."""
    return ArrivalsView.of(await arrivals(until if until is not None else context.clock.now() + SETTLES))


@router.get(
    "", summary="Follow Pusher's webhooks", responses=responses(401, 422, 503), response_model_exclude_none=True
)
async def list_webhooks(
    context: ContextOf,
    call: CallOf,
    after: Annotated[
        str | None, Query(max_length=100, description="`next` of the page before; absent: from now on.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="How many rows at most.")] = 100,
    request_id: Annotated[
        str | None,
        Query(
            max_length=128,
            description="Only events that the request with this `X-Request-ID` brought; an id that goalsvc did not make itself "
            f"is found among the latest {MOST_LOOKED_THROUGH:,} pieces of all traces.",
        ),
    ] = None,
) -> Page[ReceivedWebhookView]:
    """Events of webhooks in the order in which they arrived, from the trace; a row appears about a second after it arrived.

    `next` is always there: continue with it, also after an empty page. For watching and recording; what must not be missed is
    in `GET /v1/events`. With `request_id`, a row appears as soon as it is written.
    """
    now = context.clock.now()
    place = Place.parse(after) if after is not None else None
    if place is None and after is not None:
        raise InvalidError("after", "is not one that this list gave out")
    if request_id is None:
        place = place or Place(now)
        found = await roots_after(place, now, limit, kind="webhook")
    else:
        brought = [(Place.of(root), root) for root in await roots_of_request(request_id, kind="webhook")]
        found = [one for one in brought if place is None or one[0] > place][:limit]
        place = place or Place(now)
    with_body = Scope.READ_PAYLOAD in call.caller.scopes
    items = []
    for _, row in found:
        with suppress(ValidationError):  # one that cannot be shown affects no other
            items.append(ReceivedWebhookView.of(row, with_body=with_body))
    return Page(items=items, next=str(found[-1][0] if found else place))
