"""Keys, the audit, outgoing webhooks, events and clips: each page shows what an operation of the API answers."""

from typing import Annotated
from urllib.parse import quote, urlsplit

from fastapi import Query, Request
from fastapi.responses import Response

from goalsvc.console.acting import refused_elsewhere, without_reason
from goalsvc.console.acts import offered
from goalsvc.console.instants import instants_in, timed
from goalsvc.console.operating import call_operation, read_operation
from goalsvc.console.rendering import page
from goalsvc.console.routing import Operator, console_router, missing, texts_of
from goalsvc.context import Context
from goalsvc.domain.call import Scope

router = console_router()

Cursor = Annotated[str | None, Query(max_length=700)]
_PAGE = 50
#: How long a rolled key remains valid.
_GRACE_SECONDS = 86_400


@router.get("/keys")
async def show_keys(request: Request, caller: Operator, cursor: Cursor = None) -> Response:
    """Shows the API keys: scopes, last use, and what may be done with them."""
    found = await read_operation(request, caller, "/v1/keys", order="desc", limit=_PAGE, cursor=cursor)
    return page(
        request,
        "keys.html",
        caller=caller,
        found=timed(found),
        scopes=list(Scope),
        new=None,
        acts=offered(caller, "revoke-key"),
    )


@router.post("/keys")
async def change_keys(request: Request, caller: Operator) -> Response:
    """Creates a key, or rolls one; the answer is the only page that shows it."""
    if (refusal := refused_elsewhere(request, caller)) is not None:
        return refusal
    raw = await request.form()
    form = texts_of(raw)
    body: dict[str, object] = {"grace": _GRACE_SECONDS}
    if not form.get("reason", "").strip():
        return without_reason(request, caller)
    if rolled := form.get("id", ""):
        path = f"/v1/keys/{quote(rolled, safe='')}/roll"
    else:
        scopes: list[object] = [scope for scope in raw.getlist("scopes") if isinstance(scope, str)]
        path, body = "/v1/keys", {"name": form.get("name", ""), "scopes": scopes}
    answer = await call_operation(
        request, caller, "POST", path, body, key=form.get("key", ""), reason=form["reason"].strip()
    )
    if not answer.ok:
        title = "Not with this key" if answer.status == 403 else "It was not done"
        return page(
            request, "message.html", status=answer.status, title=title, text=answer.refusal, caller=caller, back="/keys"
        )
    found = await read_operation(request, caller, "/v1/keys", order="desc", limit=_PAGE)
    return page(
        request,
        "keys.html",
        caller=caller,
        found=timed(found),
        scopes=list(Scope),
        new=answer.body,
        acts=offered(caller, "revoke-key"),
    )


@router.get("/audit")
async def show_audit(
    request: Request,
    caller: Operator,
    cursor: Cursor = None,
    key: Annotated[str, Query(max_length=64)] = "",
    operation: Annotated[str, Query(max_length=64)] = "",
    target: Annotated[str, Query(max_length=512)] = "",
) -> Response:
    """Shows every act: who changed what, why, by which key."""
    filters = {"key": key.strip(), "operation": operation.strip(), "target": target.strip()}
    found = await read_operation(request, caller, "/v1/audit", order="desc", limit=_PAGE, cursor=cursor, **filters)
    return page(request, "audit.html", caller=caller, found=timed(found), filters=filters)


@router.get("/deliveries")
async def show_endpoints(request: Request, caller: Operator) -> Response:
    """Shows the endpoints of outgoing webhooks, and how each of them does."""
    found = await read_operation(request, caller, "/v1/webhook-endpoints", order="desc", limit=_PAGE)
    return page(request, "endpoints.html", caller=caller, found=timed(found))


@router.get("/deliveries/{endpoint_id}")
async def show_deliveries(
    request: Request,
    caller: Operator,
    endpoint_id: str,
    state: Annotated[str, Query(pattern="^(|pending|delivered|failed)$")] = "",
    cursor: Cursor = None,
) -> Response:
    """Shows what was delivered to an endpoint, each attempt with its answer."""
    path = f"/v1/webhook-endpoints/{quote(endpoint_id, safe='')}"
    endpoint = await read_operation(request, caller, path)
    if endpoint is None:
        return missing(request, caller, f"webhook endpoint {endpoint_id}")
    found = await read_operation(
        request, caller, f"{path}/deliveries", order="desc", limit=_PAGE, cursor=cursor, state=state
    )
    context: Context = request.app.state.context
    return page(
        request,
        "deliveries.html",
        caller=caller,
        endpoint=endpoint,
        found=timed(found),
        state=state,
        since=context.clock.now(),
        acts=offered(caller, "replay-events"),
    )


@router.get("/events/{event_id}")
async def show_event(request: Request, caller: Operator, event_id: str) -> Response:
    """Shows an event that the platform's backend was told, and its cause."""
    path = f"/v1/events/{quote(event_id, safe='')}"
    event = await read_operation(request, caller, path)
    if event is None:
        return missing(request, caller, f"event {event_id}")
    audited = Scope.ADMIN in caller.scopes
    told = timed(await read_operation(request, caller, f"{path}/deliveries"))["items"] if audited else None
    acts = offered(caller, "resend")
    return page(request, "event.html", caller=caller, event=instants_in(event), told=told, acts=acts)


@router.get("/clips/{clip_id}")
async def show_clip(request: Request, caller: Operator, clip_id: str) -> Response:
    """Shows a clip: which seconds were wanted and which were cut, and plays it."""
    clip = await read_operation(request, caller, f"/v1/clips/{quote(clip_id, safe='')}")
    if clip is None:
        return missing(request, caller, f"clip {clip_id}")
    address = urlsplit(clip.get("download_url") or "")
    host = f"{address.scheme}://{address.netloc}" if address.netloc else ""
    acts = offered(caller, "retry-clip") if clip["state"] == "failed" else []
    return page(request, "clip.html", caller=caller, clip=instants_in(clip), acts=acts, media=host)
