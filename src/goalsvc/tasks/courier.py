"""The courier: follows the event log and delivers events to webhook endpoints.

It runs beside a worker's lanes. Each endpoint with due deliveries has a task and a limit of its own, so a slow or dead one
delays no other, no payout and no notice. Claims are leases in the database: any number of workers share the work, and what a
crash leaves behind is delivered again.
"""

import asyncio
import logging
from dataclasses import replace
from time import perf_counter

from prometheus_client import Counter as Metric
from pymongo.errors import PyMongoError

from goalsvc.context import Context
from goalsvc.domain.events import Event
from goalsvc.domain.origin import CURRENT, Cause, Origin
from goalsvc.domain.webhooks import DeliveryState, is_delivered, next_attempt
from goalsvc.errors import CursorExpiredError, GoalsvcError
from goalsvc.integrations.webhook_sender import Answer, WebhookSender
from goalsvc.models.event_log import Counter, EventDocument, EventLog
from goalsvc.models.webhooks import Delivery, WebhookEndpoint, payload_of, selects

log = logging.getLogger(__name__)

DELIVERIES = Metric("goalsvc_deliveries_total", "Attempts to deliver an event, by how they ended.", ["outcome"])

#: How far events have been handed to endpoints.
_CURSOR = "deliveries"
_BATCH = 500
#: How often the log is looked at; while there is no endpoint, only to give events their places.
POLL_SECONDS = 0.5
WITHOUT_ENDPOINTS_SECONDS = 2.0
#: How many attempts are under way for an endpoint; for one that fails, one.
AT_ONCE = 4
#: After so many failures in a row an endpoint is left until the next look; one that fails now and then goes on.
FAILURES_IN_A_ROW = 3


class Courier:
    """Delivers events."""

    def __init__(self, context: Context, events: EventLog, sender: WebhookSender) -> None:
        self._context, self._events, self._sender = context, events, sender
        self._serving: dict[str, asyncio.Task[None]] = {}
        self._logged: set[str] = set()

    async def run(self) -> None:
        """Delivers until it is cancelled; what fails is tried again at the next look."""
        try:
            while True:
                rest = POLL_SECONDS
                try:
                    if not await self.turn():
                        rest = WITHOUT_ENDPOINTS_SECONDS
                except (PyMongoError, GoalsvcError, TimeoutError) as error:
                    log.warning("events are not delivered at the moment: %s", error)
                except Exception:  # the worker beside it pays, and must not end with it
                    log.exception("events are not delivered at the moment")
                await asyncio.sleep(rest)
        finally:
            for serving in self._serving.values():
                serving.cancel()
            await asyncio.gather(*self._serving.values(), return_exceptions=True)

    async def turn(self) -> bool:
        """Hands new events to the endpoints, and begins to serve those that have due deliveries; False without endpoints."""
        endpoints = await WebhookEndpoint.all_enabled(self._logged)
        while await self._hand_out(endpoints):
            pass
        now = self._context.clock.now()
        for endpoint in endpoints:
            serving = self._serving.get(endpoint.id)
            if (serving is None or serving.done()) and await Delivery.is_due(endpoint.id, now):
                self._serving[endpoint.id] = asyncio.create_task(
                    self._serve(endpoint.id), name=f"deliver {endpoint.id}"
                )
        return bool(endpoints)

    async def quiet(self) -> None:
        """Waits until what is being served is served."""
        await asyncio.gather(*self._serving.values())

    # -- from the log to deliveries ---------------------------------------------------------------------------------

    async def _hand_out(self, endpoints: list[WebhookEndpoint]) -> bool:
        """Creates the deliveries of a batch of events; whether there may be more."""
        place = await Counter.read(_CURSOR)
        if not endpoints:
            position = await self._events.number()
            if position > place:
                await Counter.raise_to(_CURSOR, position)
            return False
        try:
            page = await self._events.page(place, {}, _BATCH)
        except CursorExpiredError as error:
            await Counter.raise_to(_CURSOR, error.oldest)
            return True
        if not page.events:
            return False
        wanted = [
            (endpoint.id, event)
            for event in page.events
            for endpoint in endpoints
            if isinstance(event.get("type"), str)
            and event["sequence"] > endpoint.begins_after
            and selects(endpoint.types, event["type"])
        ]
        await Delivery.owe(wanted, self._context.clock.now())
        await Counter.raise_to(_CURSOR, page.next)
        return True

    # -- one endpoint -----------------------------------------------------------------------------------------------

    async def _serve(self, endpoint_id: str) -> None:
        try:
            endpoint = await WebhookEndpoint.find_one({"_id": endpoint_id, "enabled": True})
            if endpoint is None:
                return
            at_once = AT_ONCE if endpoint.failing_since is None else 1
            await asyncio.gather(*(self._deliver_due(endpoint_id) for _ in range(at_once)))
        except (PyMongoError, GoalsvcError) as error:
            log.warning("%s is not served at the moment: %s", endpoint_id, error)
        except Exception:  # what is claimed is tried again after its lease
            log.exception("%s is not served at the moment", endpoint_id)

    async def _deliver_due(self, endpoint_id: str) -> None:
        failures = 0
        while failures < FAILURES_IN_A_ROW:
            endpoint = await WebhookEndpoint.find_one({"_id": endpoint_id, "enabled": True})
            if endpoint is None:
                return
            delivery = await Delivery.claim(endpoint_id, self._context.clock.now())
            if delivery is None:
                return
            failures = 0 if await self._attempt(endpoint, delivery) else failures + 1

    async def _attempt(self, endpoint: WebhookEndpoint, delivery: Delivery) -> bool:
        """Tries the delivery once; whether the endpoint accepted it."""
        now, begun = self._context.clock.now(), perf_counter()
        event = await EventDocument.get_motor_collection().find_one({"_id": delivery.event_id})
        if event is None:
            answer = Answer(None, "the event has expired")
        else:
            secrets = endpoint.valid_secrets(now)
            cause = Cause.read(event.get("cause"))
            CURRENT.set(Origin(cause.root or "", cause=cause))
            answer = await self._sender.send(endpoint.url, secrets, delivery.event_id, now, payload_of(event))
        delivered = is_delivered(answer.status)
        attempt = _attempt_document(answer) | {"at": now, "ms": round((perf_counter() - begun) * 1000, 1)}
        ended = self._context.clock.now()
        again = None if delivered or event is None else next_attempt(max(delivery.tried, 0) + 1, ended)
        state = DeliveryState.DELIVERED if delivered else DeliveryState.FAILED
        await Delivery.conclude(delivery, attempt, state if again is None else DeliveryState.PENDING, again, ended)
        DELIVERIES.labels("delivered" if delivered else "failed").inc()
        if delivered:
            await WebhookEndpoint.worked(endpoint.id)
        elif event is not None and await WebhookEndpoint.failed(endpoint.id, now):
            await self._disable(endpoint)
        return delivered or event is None

    async def _disable(self, endpoint: WebhookEndpoint) -> None:
        now = self._context.clock.now()
        since = endpoint.failing_since
        told = Event(
            type="endpoint.disabled",
            identity=f"{endpoint.id}:{since.isoformat() if since else ''}",
            created_at=now,
            data={"endpoint": {"id": endpoint.id, "url": endpoint.url, "failing_since": since}},
            cause=replace(self._context.origin.cause, task="courier"),
        )
        await self._events.write([told])
        await WebhookEndpoint.change(endpoint.id, {"$set": {"enabled": False, "disabled_at": now, "updated_at": now}})
        log.error("webhook endpoint %s failed for three days and is disabled", endpoint.id)


def _attempt_document(answer: Answer) -> dict[str, object]:
    told = {"status": answer.status, "error": answer.error, "answer": answer.body or None}
    return {name: value for name, value in told.items() if value is not None}
