"""The audit of calls: what is written down of each that changed something."""

import json
import logging
from collections.abc import Mapping
from datetime import datetime
from functools import reduce

from fastapi import Request, Response
from pymongo.errors import PyMongoError

from goalsvc.context import Context
from goalsvc.domain.call import Call
from goalsvc.errors import UnusableDocumentError
from goalsvc.models.audit import AuditEvent

log = logging.getLogger("goalsvc.audit")

DONE, FAILED = "done", "failed"
_LONGEST_REASON = 1000


async def audit(request: Request, call: Call, response: Response | None, outcome: str) -> None:
    """Writes the call down: in `audit_events`, and as one line of JSON in the log.

    A call that was done stays done when the event cannot be written; the line in the log then says so.
    """
    context: Context = request.app.state.context
    event: dict[str, object] = {
        "at": context.clock.now(),
        "key": call.caller.name,
        "key_id": call.caller.key_id,
        "via": call.caller.via.value,
        "on_behalf_of": call.caller.on_behalf_of,
        "operation": call.operation,
        "targets": _targets_of(request, response),
        "reason": await _reason_of(request),
        "request_id": call.request_id,
        "outcome": outcome,
    }
    event = {name: value for name, value in event.items() if value is not None}
    identity = {} if call.idempotency is None else {"_id": call.object_id(f"audit:{outcome}")}
    written = True
    try:
        await AuditEvent.write(identity | event)
    except (PyMongoError, TimeoutError, UnusableDocumentError):
        written = False
    log.log(
        logging.INFO if written else logging.ERROR,
        "%s",
        json.dumps({"audit": event | ({} if written else {"stored": False})}, default=_text, ensure_ascii=False),
    )


def _text(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _targets_of(request: Request, response: Response | None) -> list[str]:
    """The ids that the path names, those that the endpoint names, those of what was created, and of its payer and payee."""
    targets = [*map(str, request.path_params.values()), *getattr(request.state, "targets", ())]
    if response is not None and response.status_code == 201:
        targets += _ids_in(bytes(response.body))
    return list(dict.fromkeys(targets))


#: Where an answer names what was created: its ids, who pays and who is paid, and the viewer whose goal it is.
_CREATED: tuple[tuple[str, ...], ...] = (
    ("id",),
    ("transfer_id",),
    ("from_user_id",),
    ("to_user_id",),
    ("metadata", "viewer_id"),
    ("conditions", "exclusive_to"),
)


def _ids_in(body: bytes) -> list[str]:
    try:
        answer: object = json.loads(body)
    except ValueError:
        return []
    return [found for path in _CREATED if isinstance(found := reduce(_part, path, answer), str)]


def _part(whole: object, name: str) -> object:
    return whole.get(name) if isinstance(whole, Mapping) else None


async def _reason_of(request: Request) -> str | None:
    """The `reason` that the caller gives in the body, if any; a page of the console gives it beside the body."""
    if given := getattr(request.state, "reason", ""):
        return str(given)[:_LONGEST_REASON]
    try:
        body = json.loads(await request.body())
    except (ValueError, RecursionError):
        return None
    reason = body.get("reason") if isinstance(body, dict) else None
    if not isinstance(reason, str):
        return None
    return reason[:_LONGEST_REASON].encode(errors="replace").decode()  # not validated yet: it may hold half a surrogate
