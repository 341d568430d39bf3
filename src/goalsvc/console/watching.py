"""Whether all is right: the wiring, what others say, and what a recording would change."""

from typing import Any

from fastapi import Request
from fastapi.responses import Response

from goalsvc.console import access
from goalsvc.console.acting import refused_elsewhere, without_reason
from goalsvc.console.acts import offered
from goalsvc.console.instants import instants_in
from goalsvc.console.operating import read_operation, send_webhook
from goalsvc.console.queries.rehearsal import (
    Recorded,
    RecordingError,
    Rehearsal,
    read_recording,
    rehearse,
)
from goalsvc.console.rendering import page
from goalsvc.console.routing import Operator, console_router, texts_of
from goalsvc.context import Context
from goalsvc.domain.call import Caller, Scope
from goalsvc.domain.performance import Rule
from goalsvc.models.audit import AuditEvent

router = console_router()
_LONGEST_RECORDING = 2_000_000


@router.get("/start")
async def show_start(request: Request, caller: Operator) -> Response:
    """Shows whether the wiring is right: webhooks, their types and keys, settings that are missing."""
    found = instants_in(await read_operation(request, caller, "/v1/wiring"))
    if found is None:
        raise TimeoutError
    return page(request, "start.html", caller=caller, wiring=found, now=found["at"])


@router.get("/reconciliation")
async def show_reconciliation(request: Request, caller: Operator) -> Response:
    """Shows four proofs: clocks against Pusher, ledger against transfers, promises, silence."""
    found = instants_in(await read_operation(request, caller, "/v1/reconciliation"))
    if found is None:
        raise TimeoutError
    acts = offered(caller, "ask-pusher")
    return page(request, "reconciliation.html", caller=caller, found=found, now=found["at"], acts=acts)


@router.get("/replay")
async def show_replay(request: Request, caller: Operator) -> Response:
    """Asks for a recording."""
    return page(request, "replay.html", caller=caller, text="", keep_time=False, rehearsal=None, wrong="")


@router.post("/replay")
async def replay(request: Request, caller: Operator) -> Response:
    """Plays a recording to copies of the clocks; sent for real only with the hash of the dry run that was looked at."""
    if (refusal := refused_elsewhere(request, caller)) is not None:
        return refusal
    form = texts_of(await request.form())
    context: Context = request.app.state.context
    now = context.clock.now()
    text, keep_time = form.get("recording", ""), bool(form.get("keep_time"))
    shown: dict[str, Any] = {"caller": caller, "text": text, "keep_time": keep_time, "digest": ""}
    try:
        if len(text) > _LONGEST_RECORDING:
            raise RecordingError("The recording is longer than 2 MB; use goalsvc replay.")
        recording = read_recording(text, now, keep_time=keep_time)
    except RecordingError as error:
        return page(request, "replay.html", status=422, **shown, rehearsal=None, wrong=str(error))
    rehearsal = await rehearse(recording, now, Rule(context.settings.exclusive_clock))
    shown["digest"] = digest = rehearsal.digest(text, keep_time=keep_time)
    if not form.get("digest"):
        return page(request, "replay.html", **shown, rehearsal=rehearsal, wrong="")
    if Scope.OPERATE not in caller.scopes:
        raise access.ForbiddenError(Scope.OPERATE)
    if not form.get("reason", "").strip():
        return without_reason(request, caller)
    if form["digest"] != digest:
        wrong = "The goals have changed since the dry run. This is what the recording would change now."
        return page(request, "replay.html", status=409, **shown, rehearsal=rehearsal, wrong=wrong)
    return await _send(request, caller, recording, rehearsal, form["reason"].strip())


async def _send(
    request: Request, caller: Caller, recording: list[Recorded], rehearsal: Rehearsal, reason: str
) -> Response:
    context: Context = request.app.state.context
    refused = []
    for webhook in recording:
        answer = await send_webhook(request, webhook.body)
        if not answer.ok:
            refused.append(f"line {webhook.line}: {answer.refusal}")
    await AuditEvent.write(
        {
            "at": context.clock.now(),
            "key": caller.name,
            "key_id": caller.key_id,
            "via": caller.via.value,
            "operation": "replay_webhooks",
            "targets": [change.goal_id for change in rehearsal.changes],
            "reason": reason[:1000],
            "request_id": request.state.request_id,
            "outcome": "done" if not refused else f"refused: {len(refused)} webhooks",
        }
    )
    return page(
        request,
        "replayed.html",
        caller=caller,
        sent=len(recording) - len(refused),
        refused=refused,
        rehearsal=rehearsal,
    )
