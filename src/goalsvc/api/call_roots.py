"""The root of a call in the trace: which operation, by which key, and what it touched."""

import hashlib
import json
from datetime import datetime

from fastapi import Request, Response

from goalsvc.api.paths import path_of
from goalsvc.context import Context
from goalsvc.domain.call import Call
from goalsvc.domain.outcome import Done, Failed
from goalsvc.domain.trace import Ref, node_of, refs_among, segment_document

#: What the `id` of an answer is, by the operation's first path segment after `/v1`.
_CREATED = {"goals": "goal", "sessions": "session", "wallets": "transfer", "transfers": "transfer"}
_LONGEST_ERROR = 500


def record_call(
    request: Request,
    call: Call,
    response: Response | None,
    error: Exception | None,
    began: datetime,
    milliseconds: float,
) -> None:
    """Writes the root of a call that changed something, or failed; what it made necessary hangs below it."""
    context: Context | None = getattr(request.state, "own_context", None)
    if context is None:
        return  # the endpoint has no context: nothing can follow from it
    refs = _refs_of(request, response) | context.refs
    answer = Done() if error is None else Failed(f"{type(error).__name__}: {error}"[:_LONGEST_ERROR])
    node = node_of("call", call.operation, answer, began, milliseconds, refs=refs)
    node |= {"key": call.caller.name, "request_id": call.request_id}
    key = request.headers.get("Idempotency-Key")
    if key is not None:
        node["idempotency"] = hashlib.sha256(key.encode()).hexdigest()[:16]
    goal_id = refs.get("goal")
    context.recorder.trace(segment_document(context.origin, str(goal_id) if goal_id else None, None, began, node))


def _refs_of(request: Request, response: Response | None) -> dict[str, Ref]:
    """What the path names, and what the answer tells of."""
    refs = refs_among(request.path_params)
    letter = request.path_params.get("letter_id", "")
    if letter.startswith("goals/"):
        refs["goal"] = letter.split("/", 2)[1]
    try:
        told: object = json.loads(bytes(response.body)) if response is not None else None
    except ValueError:
        told = None
    if isinstance(told, dict):
        refs |= refs_among(told)
        kind = _CREATED.get(path_of(request).strip("/").split("/")[1])
        if (
            response is not None
            and response.status_code == 201
            and isinstance(told.get("id"), str)
            and kind not in refs
        ):
            refs[kind or "id"] = told["id"]
    return refs
