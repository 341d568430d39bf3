"""Pusher's webhooks as they arrived: one row for each event, and one for each webhook that was refused."""

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from fastapi import Query
from pydantic import Field, ValidationError

from goalsvc.api.dependencies import ContextOf
from goalsvc.api.errors import responses
from goalsvc.api.operation import CallOf, operations
from goalsvc.api.views import Page, Text, Time, View, absent
from goalsvc.domain.call import Scope
from goalsvc.domain.shown import shown
from goalsvc.errors import InvalidError
from goalsvc.models.trace_roots import Place, roots_after

router = operations("/v1/webhooks", "Webhook")


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
    body: Text = absent("The webhook's body, where it is kept (`GOALSVC_KEEP_WEBHOOKS`); needs `read:payload`.")

    @classmethod
    def of(cls, segment: Mapping[str, Any], *, with_body: bool) -> Self:
        """The view of that root of the trace."""
        node = segment.get("node") or {}
        names = set(cls.model_fields) - {"id", "at", "goal_id"} - (set() if with_body else {"body"})
        fields = {name: shown(node[name]) for name in names if node.get(name) is not None}
        return cls(id=str(segment["_id"]), at=segment["at"], goal_id=segment.get("goal_id"), **fields)


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
) -> Page[ReceivedWebhookView]:
    """Events of webhooks in the order in which they arrived, from the trace; a row appears about a second after it arrived.

    `next` is always there: continue with it, also after an empty page. For watching and recording; what must not be missed is
    in `GET /v1/events`.
    """
    now = context.clock.now()
    place = Place.parse(after) if after is not None else Place(now)
    if place is None:
        raise InvalidError("after", "is not one that this list gave out")
    with_body = Scope.READ_PAYLOAD in call.caller.scopes
    found = await roots_after(place, now, limit, kind="webhook")
    items = []
    for _, row in found:
        with suppress(ValidationError):  # one that cannot be shown affects no other
            items.append(ReceivedWebhookView.of(row, with_body=with_body))
    return Page(items=items, next=str(found[-1][0] if found else place))
