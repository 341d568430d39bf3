"""The webhook: from Pusher's signed request to signals."""

import asyncio
import hmac
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from hashlib import sha256
from secrets import token_bytes
from time import perf_counter

import msgspec
from fastapi import APIRouter, FastAPI, Request, Response
from prometheus_client import Counter, Histogram
from pymongo.errors import PyMongoError
from starlette._utils import get_route_path
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from goalsvc import logs, request_id
from goalsvc.actions.presence import promise_notices
from goalsvc.api.errors import WebError, on_outage, on_own_error, responses
from goalsvc.clock import from_epoch, from_epoch_milliseconds, from_iso, to_epoch_milliseconds, whole_milliseconds
from goalsvc.context import Context
from goalsvc.domain.channels import OCCUPIED, SENDER_BY_EVENT_NAME, Channel, event_id
from goalsvc.domain.ids import user_id_in
from goalsvc.domain.origin import Cause, Origin, accepted_traceparent
from goalsvc.domain.outcome import Answer, Done, Failed, Reason, Report, Returned
from goalsvc.domain.performance import STALE_AFTER
from goalsvc.domain.trace import follow_ups_of, node_of, segment_document, signal_node
from goalsvc.errors import GoalsvcError
from goalsvc.metrics import DELAYS, DURATIONS
from goalsvc.signals.events import ChannelOccupied, ChannelVacated, PresenceEvent

log = logging.getLogger(__name__)

WEBHOOKS = Counter("goalsvc_webhooks_total", "Webhook requests by how they were answered.", ["answer"])
DURATION = Histogram(
    "goalsvc_webhook_duration_seconds", "Time from a signed webhook's arrival to its answer.", buckets=DURATIONS
)
LATENESS = Histogram(
    "goalsvc_webhook_lateness_seconds", "Time from a webhook's own time to its arrival.", buckets=DELAYS
)

router = APIRouter(tags=["Webhook"])

#: Pusher gives up after 4 s and repeats; an answer that it does not wait for any more is of no use.
ANSWER_WITHIN_SECONDS = 3.5
#: How many webhooks one process answers at a time: some seconds' worth of what it can take.
MOST_UNDER_WAY = 2000
_LATER = {"Retry-After": "1"}
#: Pusher sends at most so many events in one webhook today; more are still taken.
_LONGEST_NAME = 200
#: A body that is larger is not kept with its root, and how many refused webhooks one process writes down each second.
_LONGEST_KEPT = 1024
_MOST_REFUSALS = 10


class WireEvent(msgspec.Struct):
    """One event of a webhook. What else Pusher sends with it (`data`, `socket_id`, …) is none of our business."""

    name: str
    channel: str
    user_id: str | int | float | None = None


class WireWebhook(msgspec.Struct):
    """The body of a webhook."""

    events: list[WireEvent]
    time_ms: int | None = None
    timestamp: str | int | float | None = None


_decode = msgspec.json.Decoder(WireWebhook).decode


# -- is it Pusher's? --------------------------------------------------------------------------------------------------


def verify(headers: Mapping[str, str], body: bytes, secrets: Mapping[str, str]) -> None:
    """Raises WebError 401 unless the body is signed with the secret of a configured app key."""
    secret = secrets.get(headers.get("x-pusher-key", ""))
    # An unknown key costs as much time as a wrong signature, and is answered by the same words.
    expected = hmac.new(secret.encode() if secret else token_bytes(32), body, sha256).hexdigest()
    given = headers.get("x-pusher-signature", "").lower()
    # A header that comes twice signs nothing: a proxy before us may have read the other one.
    names = list(headers)
    twice = names.count("x-pusher-key") > 1 or names.count("x-pusher-signature") > 1
    if not hmac.compare_digest(given.encode(), expected.encode()) or not secret or twice:
        raise WebError(401, "bad_signature", "X-Pusher-Signature does not sign this body with X-Pusher-Key's secret")


async def read_body(request: Request, limit: int) -> bytes:
    """The body; raises WebError 413 as soon as it is known to be larger than `limit` bytes."""
    too_large = WebError(413, "too_large", f"the body is over {limit} bytes")
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise too_large
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise too_large
        chunks.append(chunk)
    return b"".join(chunks)


# -- what does it say? ------------------------------------------------------------------------------------------------


def parse(body: bytes, now: datetime) -> tuple[datetime, list[WireEvent]]:
    """The time of the webhook, at most `now`, and its events. Raises WebError 400 naming what is wrong."""
    try:
        webhook = _decode(body)
    except msgspec.ValidationError as error:
        raise _malformed(*_located(str(error))) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _malformed("body", "is not JSON") from None
    at = _time_of(webhook, now)
    if now - at > STALE_AFTER:
        raise WebError(400, "stale_webhook", f"the webhook is of {at.isoformat()}, older than {STALE_AFTER}")
    return at, webhook.events


def _malformed(field: str, message: str) -> WebError:
    return WebError(400, "malformed_webhook", f"{field}: {message}")


def _located(message: str) -> tuple[str, str]:
    """msgspec's "Expected `str`, got `int` - at `$.events[0].name`" as ("events.0.name", "Expected …")."""
    text, _, place = message.partition(" - at `$")
    missing = re.search(r"missing required field `(\w+)`", text)
    path = re.sub(r"\[(\d*|\.\.\.)\]", r".\1", place.rstrip("`")).strip(".")
    if missing:
        path = f"{path}.{missing[1]}".strip(".")
    return path or "body", text


def _time_of(webhook: WireWebhook, now: datetime) -> datetime:
    value, field = (webhook.time_ms, "time_ms") if webhook.time_ms is not None else (webhook.timestamp, "timestamp")
    if value is None:
        raise _malformed("time_ms", "missing; time_ms or timestamp is required")
    if value == "":
        return now
    try:
        at = from_epoch_milliseconds(int(value)) if field == "time_ms" else _instant(value)
    except (ValueError, OverflowError, OSError):
        raise _malformed(field, "is not a time") from None
    return min(at, now)


#: A number as JSON writes it; Python's `float` would also take `1_7`, ` 17 ` and digits of other scripts.
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")


def _instant(value: str | float) -> datetime:
    """Epoch seconds, epoch milliseconds (both as numbers or as digits) or ISO 8601; without an offset it is UTC."""
    if isinstance(value, str) and not _NUMBER.fullmatch(value):
        return whole_milliseconds(from_iso(value))
    return from_epoch(float(value))


# -- what follows? ----------------------------------------------------------------------------------------------------


async def take(
    context: Context,
    wire: WireEvent,
    at: datetime,
    app_key: str | None = None,
    body: bytes = b"",
    traceparent: str | None = None,
) -> Report | None:
    """Sends one event's signal, keeps what it owes, and writes its trace. None when it is none of our business."""
    received, begun = context.clock.now(), perf_counter()
    sender = SENDER_BY_EVENT_NAME.get(wire.name)
    channel = Channel.parse(wire.channel) if sender is not None else None
    goal_id = channel.about if channel is not None and channel.kind == "goal" else None
    answer: Answer
    report: Report | None = None
    origin, user_id = Origin.new(), user_id_in(wire.user_id)
    if sender is None or channel is None:
        answer = Returned(Reason.UNKNOWN_EVENT if sender is None else Reason.UNKNOWN_CHANNEL)
    else:
        identity = event_id(wire.name, wire.channel, user_id, to_epoch_milliseconds(at))
        kind = ChannelOccupied if sender == OCCUPIED else ChannelVacated
        event: PresenceEvent = kind(channel=channel, user_id=user_id, at=at, event_id=identity)
        origin = Origin.new(Cause(goal_id=goal_id, event_id=identity, happened_at=at, traceparent=traceparent))
        with logs.About(goal_id=goal_id, trace_id=origin.cause.trace_id):
            report = await context.bus.send(context.within(origin), event)
        assert report is not None  # noqa: S101 - for the type checker
        answer = Done(reports=(report,))
        follow_ups = list(follow_ups_of(answer, origin))
        if follow_ups:
            await promise_notices(context, channel.about, user_id or "", at, follow_ups, received)
        if report.failures:
            answer = Failed("; ".join(report.failures))
    children = [signal_node(report)] if report is not None else []
    node = node_of("webhook", wire.name[:_LONGEST_NAME], answer, received, (perf_counter() - begun) * 1000, children)
    if sender is not None:
        node["sender"] = sender
    told = {
        "event_id": origin.cause.event_id,
        "user_id": user_id,
        "app_key": app_key,
        "request_id": request_id.CURRENT.get() or None,
    }
    node |= {name: value[:_LONGEST_NAME] for name, value in told.items() if value is not None}
    node |= {"channel": wire.channel[:_LONGEST_NAME], "happened_at": at}
    if goal_id is not None:
        node["refs"] = {"goal": goal_id}
        if context.settings.keep_webhooks and 0 < len(body) <= _LONGEST_KEPT:
            node["body"] = body.decode()
    context.recorder.trace(segment_document(origin, goal_id, None, received, node))
    return report


_CAUSES = {
    400: "Not JSON, or not of this form: `detail` names the field (`malformed_webhook`); or older than 15 minutes "
    "(`stale_webhook`).",
    401: "`X-Pusher-Key` names no configured app, or `X-Pusher-Signature` does not sign this body (`bad_signature`).",
    413: "The body is over `GOALSVC_WEBHOOK_LIMIT_BYTES` (256 KiB) (`too_large`).",
    503: "An event could not be handled, or the database cannot be reached (`unavailable`): Pusher repeats the webhook.",
}


@router.post(
    "/notify/pusher",
    summary="Pusher's webhook",
    status_code=200,
    response_class=Response,
    responses={
        200: {"description": "Every event's effects are durable, or durably promised."},
        **responses(400, 401, 413, 503, causes=_CAUSES),
    },
    openapi_extra={
        "security": [{"PusherKey": [], "PusherSignature": []}],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"$ref": "#/components/schemas/PusherWebhook"},
                    "examples": {
                        "leave": {
                            "summary": "One leave, as Pusher batches it",
                            "value": {
                                "time_ms": 1795199190756,
                                "events": [
                                    {
                                        "name": "channel_vacated",
                                        "channel": "presence-enc-goal@68143584d6945d32e732cc21",
                                    },
                                    {
                                        "name": "member_removed",
                                        "channel": "presence-enc-goal@68143584d6945d32e732cc21",
                                        "user_id": "u-alice-1",
                                    },
                                ],
                            },
                        }
                    },
                }
            },
        },
    },
)
async def notify_pusher(request: Request) -> Response:
    """Takes what Pusher tells of joins and leaves.

    `X-Pusher-Key` names a configured app key, and `X-Pusher-Signature` is the hex HMAC-SHA256 of the raw body under that
    key's secret. Webhooks older than 15 minutes are refused; a time in the future counts as now. Unknown events and
    channels are no error. Whatever the order in which webhooks arrive, and however often, the result is the same.
    """
    return await answer_webhook(request)


class WebhooksUnderWay:
    """How many signed webhooks this process has in hand. Beyond a limit they are refused: Pusher repeats them, and memory
    does not fill up while the database is slow.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.count = 0

    @contextmanager
    def one_more(self) -> Iterator[None]:
        """Counts one while it is under way; raises WebError 503 when there are too many."""
        if self.count >= self.most:
            WEBHOOKS.labels("refused").inc()
            raise WebError(503, "unavailable", "too many webhooks are under way; repeat this one", _LATER)
        self.count += 1
        try:
            yield
        finally:
            self.count -= 1


class Refusals:
    """Refused webhooks in the trace: a root without a goal, with the reason, the key's name and the size; never the body."""

    def __init__(self, most_per_second: int) -> None:
        self._most = most_per_second
        self._second, self._count = 0, 0
        self.lines = logs.Throttle()

    def record(self, context: Context, request: Request, error: WebError, size: int) -> None:
        """Writes the root, unless as many were written within this second; one line a minute for each kind in the log."""
        if count := self.lines.add(error.code):
            webhooks = "webhook" if count == 1 else "webhooks"
            log.warning("%d %s refused: %s (the last: %s)", count, webhooks, error.code, error.message)
        now = context.clock.now()
        second = int(now.timestamp())
        if second != self._second:
            self._second, self._count = second, 0
        self._count += 1
        if self._count > self._most:
            return
        node = node_of("webhook", "refused", Failed(f"{error.code}: {error.message}"), now, 0.0)
        announced = request.headers.get("content-length", "")
        node["size"] = size or (min(int(announced), 2**53) if announced.isdecimal() and len(announced) < 20 else 0)
        node["app_key"] = request.headers.get("x-pusher-key", "")[:_LONGEST_NAME]
        node["request_id"] = request_id.CURRENT.get()
        context.recorder.trace(segment_document(Origin.new(), None, None, now, node))


def install(app: FastAPI) -> None:
    """Gives the app what its webhooks share, and has them answered first."""
    app.state.webhooks_under_way, app.state.refusals = WebhooksUnderWay(MOST_UNDER_WAY), Refusals(_MOST_REFUSALS)
    app.add_middleware(DirectWebhook)


@contextmanager
def _counted_outages() -> Iterator[None]:
    """Counts a webhook that is not answered 200 because something does not work; Pusher repeats it."""
    try:
        yield
    except (GoalsvcError, PyMongoError, TimeoutError):
        WEBHOOKS.labels("unavailable").inc()
        raise


async def answer_webhook(request: Request) -> Response:
    """What `notify_pusher` does; raises WebError, and PyMongoError or TimeoutError when the database does not answer."""
    context: Context = request.app.state.context
    size = 0
    try:
        body = await read_body(request, context.settings.webhook_limit_bytes)
        size = len(body)
        verify(request.headers, body, request.app.state.webhook_secrets)
        now = context.clock.now()
        at, events = parse(body, now)
    except WebError as error:
        WEBHOOKS.labels(error.code).inc()
        refusals: Refusals = request.app.state.refusals
        refusals.record(context, request, error, size)
        raise
    app_key = request.headers["x-pusher-key"]
    parent = accepted_traceparent(request.headers.get("traceparent"))
    LATENESS.observe((now - at).total_seconds())
    under_way: WebhooksUnderWay = request.app.state.webhooks_under_way
    with under_way.one_more(), DURATION.time(), _counted_outages():
        async with asyncio.timeout(ANSWER_WITHIN_SECONDS):
            if len(events) == 1:
                reports = [await take(context, events[0], at, app_key, body, parent)]
            else:
                takes = (take(context, wire, at, app_key, body, parent) for wire in events)
                reports = list(await asyncio.gather(*takes))
    failures = [failure for report in reports if report is not None for failure in report.failures]
    if failures:
        WEBHOOKS.labels("failed").inc()
        log.warning("webhook to be repeated: %s", "; ".join(failures))
        raise WebError(503, "unavailable", "not every event could be handled; repeat the webhook", _LATER)
    WEBHOOKS.labels("ok").inc()
    return Response(status_code=200)


class DirectWebhook:
    """Answers the webhook before FastAPI's routing and dependencies, which would take a third of its time; the operation above
    is what the OpenAPI document is made from, and does the same.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers `POST /notify/pusher`, and passes everything else on."""
        if scope["type"] != "http" or get_route_path(scope) != "/notify/pusher" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        response: Response
        own_id = request_id.accepted_or_new(request.headers.get(request_id.HEADER))
        token = request_id.CURRENT.set(own_id)
        try:
            response = await answer_webhook(request)
        except GoalsvcError as error:
            response = await on_own_error(request, error)
        except (PyMongoError, TimeoutError) as error:
            response = await on_outage(request, error)
        except ClientDisconnect:
            return  # no one is left to answer
        finally:
            request_id.CURRENT.reset(token)
        response.headers[request_id.HEADER] = own_id
        await response(scope, receive, send)
