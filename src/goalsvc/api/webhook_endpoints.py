"""Outgoing webhooks: endpoints, their secrets and deliveries; events delivered once more."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any, Self

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from goalsvc.actions import webhooks
from goalsvc.api.dependencies import ContextOf, PagingOf, ResourcesOf
from goalsvc.api.errors import responses
from goalsvc.api.events import known_event
from goalsvc.api.instants import Instant
from goalsvc.api.operation import CallOf, operations, requires
from goalsvc.api.views import Page
from goalsvc.domain.call import Scope
from goalsvc.domain.webhooks import DeliveryState
from goalsvc.models.paging import Rows, page_of
from goalsvc.models.webhooks import Delivery, WebhookEndpoint, deliveries_of

router = operations("/v1/webhook-endpoints", "Webhooks out")
resending = operations("/v1/events", "Webhooks out")

EndpointId = Annotated[
    str, Path(max_length=64, pattern=r"^whe_[0-9a-f]{24}$", examples=["whe_68143584d6945d32e732cc40"])
]
EventId = Annotated[str, Path(pattern="^evt_[0-9a-f]{32}$", examples=["evt_1f0c1d9c8e7b6a59483726150a1b2c3d"])]
Url = Annotated[str, Field(min_length=1, max_length=2048, examples=["https://backend.example.com/goalsvc"])]
Types = Annotated[
    list[Annotated[str, Field(max_length=64)]],
    Field(min_length=1, max_length=64, description="Event types; `goal.*` is all that begin so, `*` is all."),
]
Description = Annotated[str, Field(max_length=256)]
Enabled = Annotated[bool, Field(strict=True)]


class EndpointBody(BaseModel):
    """An address to which events are delivered."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"url": "https://backend.example.com/goalsvc", "types": ["goal.*", "escrow.*"]}},
    )

    url: Url
    types: Types = ["*"]
    description: Description = ""
    enabled: Enabled = True


class EndpointChanges(BaseModel):
    """What is to be changed of an endpoint; what is absent remains."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"enabled": True}})

    url: Url | None = None
    types: Types | None = None
    description: Description | None = None
    enabled: Enabled | None = None


class EndpointView(BaseModel):
    """A webhook endpoint, without its secret."""

    id: str = Field(examples=["whe_68143584d6945d32e732cc40"])
    url: str = Field(examples=["https://backend.example.com/goalsvc"])
    types: list[str] = Field(examples=[["goal.*", "escrow.*"]])
    description: str = Field(examples=["the shop"])
    enabled: bool
    created_at: datetime
    updated_at: datetime
    failing_since: datetime | None = Field(default=None, description="Since when no delivery was accepted.")
    disabled_at: datetime | None = Field(default=None, description="When it was disabled because it failed for 3 days.")

    @classmethod
    def of(cls, endpoint: WebhookEndpoint) -> Self:
        """The view of that endpoint."""
        return cls.model_validate(endpoint.model_dump(include=set(EndpointView.model_fields)))


class NewEndpointView(EndpointView):
    """A webhook endpoint with its new secret."""

    secret: str = Field(
        description="Signs deliveries (Standard Webhooks). It is shown once and cannot be read again.",
        examples=["whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"],
    )

    @classmethod
    def showing(cls, endpoint: WebhookEndpoint, secret: str) -> Self:
        """The view of that endpoint, with its secret."""
        return cls(**EndpointView.of(endpoint).model_dump(), secret=secret)


class AttemptView(BaseModel):
    """One attempt of a delivery."""

    at: datetime
    ms: float = Field(description="How long it took, in milliseconds.")
    status: int | None = Field(default=None, description="The status of the answer.", examples=[200])
    error: str | None = Field(default=None, description="Why there was no answer.")
    answer: str | None = Field(default=None, description="The first KB of the answer.", examples=["ok"])

    @classmethod
    def all_of(cls, attempts: Sequence[Mapping[str, object]]) -> list[Self]:
        """The views of these attempts; one that cannot be shown is left out."""
        views = []
        for attempt in attempts:
            with suppress(ValidationError):
                views.append(cls.model_validate(attempt))
        return views


class DeliveryView(BaseModel):
    """One event for one endpoint."""

    id: str
    endpoint_id: str | None = Field(default=None, examples=["whe_68143584d6945d32e732cc40"])
    event_id: str = Field(examples=["evt_1f0c1d9c8e7b6a59483726150a1b2c3d"])
    type: str = Field(examples=["goal.completed"])
    state: DeliveryState
    attempts: list[AttemptView] = Field(description="The last 20 attempts, the first one first.")
    next_at: datetime | None = Field(default=None, description="When the next attempt is due.")
    created_at: datetime
    updated_at: datetime = Field(description="When it was made, or attempted last.")

    @classmethod
    def of(cls, delivery: Delivery) -> Self:
        """The view of that delivery; an attempt that cannot be shown is left out."""
        fields = delivery.model_dump(include=set(cls.model_fields) - {"attempts"})
        attempted = [attempt["at"] for attempt in delivery.attempts if isinstance(attempt.get("at"), datetime)]
        shown = AttemptView.all_of(delivery.attempts)
        return cls.model_validate({**fields, "attempts": shown, "updated_at": max([delivery.created_at, *attempted])})


class ReplayBody(BaseModel):
    """Which events are delivered once more."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"since": "2026-01-01T20:00:00Z"}})

    since: Instant = Field(description="Events that happened at this time or later.")
    types: Types | None = None


class ReplayView(BaseModel):
    """How many events are delivered once more, and where to go on."""

    events: int = Field(description="How many events.", examples=[42])
    next: datetime | None = Field(default=None, description="`since` of the next call, when there are more.")


class ResentView(BaseModel):
    """To how many endpoints an event is delivered once more."""

    endpoints: int = Field(examples=[1])


@router.post("", status_code=201, summary="Create a webhook endpoint", responses=responses(422, 503))
@requires(Scope.ADMIN)
async def create_webhook_endpoint(
    context: ContextOf, resources: ResourcesOf, call: CallOf, body: EndpointBody
) -> NewEndpointView:
    """Creates an endpoint for the events from now on. The answer is the only one that shows its secret.

    An event is delivered when the endpoint answers 2xx within 15 s. Otherwise it is tried again after 5 s, 5 min, 30 min, 2 h,
    5 h, 10 h and 10 h. Delivery is at least once and unordered: `webhook-id` is the event's id, `sequence` orders the events of
    a goal. Redirects are not followed, and addresses that are not public are refused.
    """
    position = await resources.events.number()
    created = await webhooks.create_endpoint(
        context, call, body.url, body.types, body.description, body.enabled, position
    )
    return NewEndpointView.showing(*created)


@router.get("", summary="List webhook endpoints", responses=responses(422, 503))
@requires(Scope.ADMIN)
async def list_webhook_endpoints(paging: PagingOf) -> Page[EndpointView]:
    """Endpoints in the order in which they were created."""
    return Page.of(await page_of(WebhookEndpoint, {}, paging, by="created_at"), EndpointView.of)


@router.get("/{endpoint_id}", summary="Read a webhook endpoint", responses=responses(404, 422, 503))
@requires(Scope.ADMIN)
async def read_webhook_endpoint(endpoint_id: EndpointId) -> EndpointView:
    """The endpoint, without its secret."""
    return EndpointView.of(await webhooks.known_endpoint(endpoint_id))


@router.patch("/{endpoint_id}", summary="Change a webhook endpoint", responses=responses(404, 422, 503))
@requires(Scope.ADMIN)
async def change_webhook_endpoint(context: ContextOf, endpoint_id: EndpointId, body: EndpointChanges) -> EndpointView:
    """Changes what is given. Deliveries that wait go to the new address; an endpoint that is enabled again goes on."""
    changes: dict[str, object] = body.model_dump(exclude_none=True)
    return EndpointView.of(await webhooks.change_endpoint(context, endpoint_id, changes))


@router.delete("/{endpoint_id}", summary="Delete a webhook endpoint", responses=responses(404, 422, 503))
@requires(Scope.ADMIN)
async def delete_webhook_endpoint(context: ContextOf, endpoint_id: EndpointId) -> EndpointView:
    """Deletes the endpoint with its deliveries; the answer shows it as it was."""
    return EndpointView.of(await webhooks.delete_endpoint(endpoint_id))


@router.post("/{endpoint_id}/rotate", summary="Rotate a webhook secret", responses=responses(404, 422, 503))
@requires(Scope.ADMIN)
async def rotate_webhook_secret(context: ContextOf, endpoint_id: EndpointId) -> NewEndpointView:
    """Gives the endpoint a new secret. For 24 h deliveries are signed with both."""
    return NewEndpointView.showing(*await webhooks.rotate_secret(context, endpoint_id))


@router.get("/{endpoint_id}/deliveries", summary="List deliveries", responses=responses(404, 422, 503))
@requires(Scope.ADMIN)
async def list_deliveries(
    paging: PagingOf, endpoint_id: EndpointId, state: DeliveryState | None = None
) -> Page[DeliveryView]:
    """Deliveries to the endpoint, with their attempts, in the order in which they were made."""
    await webhooks.known_endpoint(endpoint_id)
    where: dict[str, Any] = {"endpoint_id": endpoint_id} | ({"state": state.value} if state is not None else {})
    return Page.of(await page_of(Delivery, where, paging, by="created_at"), DeliveryView.of)


@router.post("/{endpoint_id}/replay", summary="Replay events to an endpoint", responses=responses(404, 422, 503))
@requires(Scope.OPERATE)
async def replay_events(context: ContextOf, endpoint_id: EndpointId, body: ReplayBody) -> ReplayView:
    """Delivers the endpoint's events since that time once more, under the ids that they had; at most 10,000 a call."""
    replayed = await webhooks.replay(context, endpoint_id, body.since, body.types)
    return ReplayView(events=replayed.events, next=replayed.next)


@resending.get("/{event_id}/deliveries", summary="List an event's deliveries", responses=responses(404, 422, 503))
@requires(Scope.ADMIN)
async def list_event_deliveries(resources: ResourcesOf, event_id: EventId) -> Page[DeliveryView]:
    """The event's delivery to each endpoint, in the order of the endpoints' ids; all on one page."""
    await known_event(resources.events, event_id)
    found = (await deliveries_of([event_id]))[event_id]
    return Page.of(Rows(found, None), DeliveryView.of)


@resending.post("/{event_id}/resend", summary="Resend an event", responses=responses(404, 422, 503))
@requires(Scope.OPERATE)
async def resend_event(context: ContextOf, event_id: EventId) -> ResentView:
    """Delivers the event once more to each enabled endpoint that selects it."""
    return ResentView(endpoints=await webhooks.resend(context, event_id))
