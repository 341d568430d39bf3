"""Whether all is right: the wiring, what others say, and what a recording would change."""

from fastapi import Request
from fastapi.responses import Response

from goalsvc.console import access
from goalsvc.console.acting import refused_elsewhere, without_reason
from goalsvc.console.acts import Form, offered
from goalsvc.console.instants import instants_in
from goalsvc.console.operating import call_operation, read_operation
from goalsvc.console.rendering import page
from goalsvc.console.routing import Operator, console_router, texts_of
from goalsvc.domain.call import Caller, Scope

router = console_router()


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
    return _form(request, caller, {})


@router.post("/replay")
async def replay(request: Request, caller: Operator) -> Response:
    """Rehearses a recording; sends it for real only with the digest of the rehearsal that was looked at."""
    if (refusal := refused_elsewhere(request, caller)) is not None:
        return refusal
    form = texts_of(await request.form())
    if not form.get("digest"):
        return await _rehearsed(request, caller, form)
    reason = form.get("reason", "").strip()
    if not reason and Scope.OPERATE in caller.scopes:
        return without_reason(request, caller)
    body = {**_recording_in(form), "digest": form["digest"]}
    key = form.get("key", "")
    answer = await call_operation(request, caller, "POST", "/v1/replays", body, key=key, reason=reason)
    if answer.code == "insufficient_scope":
        raise access.ForbiddenError(Scope.OPERATE)
    if answer.code == "rehearsal_outdated":
        wrong = "The goals have changed since the rehearsal. This is what the recording would change now."
        return await _rehearsed(request, caller, form, status=409, wrong=wrong)
    if not answer.ok:
        return _form(request, caller, form, answer.status, answer.refusal)
    return page(request, "replayed.html", caller=caller, replay=answer.body)


async def _rehearsed(request: Request, caller: Caller, form: Form, status: int = 200, wrong: str = "") -> Response:
    answer = await call_operation(request, caller, "POST", "/v1/replays/rehearsal", _recording_in(form))
    if not answer.ok:
        return _form(request, caller, form, answer.status, answer.refusal)
    return _form(request, caller, form, status, wrong, answer.body)


def _recording_in(form: Form) -> dict[str, object]:
    return {"recording": form.get("recording", ""), "keep_time": bool(form.get("keep_time"))}


def _form(
    request: Request, caller: Caller, form: Form, status: int = 200, wrong: str = "", rehearsal: object = None
) -> Response:
    return page(
        request,
        "replay.html",
        status=status,
        caller=caller,
        text=form.get("recording", ""),
        keep_time=bool(form.get("keep_time")),
        rehearsal=rehearsal,
        wrong=wrong,
    )
