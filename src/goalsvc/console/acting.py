"""What operators do: each act is an operation of the API, given a reason, from a page of this console only."""

from urllib.parse import quote

from fastapi import Request
from fastapi.responses import RedirectResponse, Response

from goalsvc.console import access
from goalsvc.console.acts import ACTS, Act, Form
from goalsvc.console.instants import instants_in
from goalsvc.console.operating import Answer, call_operation
from goalsvc.console.rendering import HEADERS, page
from goalsvc.console.routing import Operator, base_of, console_router, texts_of
from goalsvc.domain.call import Caller

router = console_router()


def refused_elsewhere(request: Request, caller: Caller) -> Response | None:
    """Returns the refusal of a form that another site sent; None for one of this console."""
    if access.is_same_origin(request):
        return None
    text = "The form was not sent by a page of this console."
    return page(request, "message.html", status=403, title="Not from there", text=text, caller=caller)


def without_reason(request: Request, caller: Caller) -> Response:
    """Returns the page that asks for the reason that is missing."""
    text = "reason: required; it is written into the audit, with the name of your key. Go back and say why."
    return page(request, "message.html", status=422, title="Why?", text=text, caller=caller)


@router.post("/act/{name}")
async def act(request: Request, caller: Operator, name: str) -> Response:
    """Does what the form asks for, and leads to the page that shows what came of it."""
    if (refusal := refused_elsewhere(request, caller)) is not None:
        return refusal
    form = texts_of(await request.form())
    wanted = ACTS.get(name)
    if wanted is None:
        text = f"There is no act {name}."
        return page(request, "message.html", status=404, title="Nothing there", text=text, caller=caller)
    if not form.get("reason", "").strip():
        return without_reason(request, caller)
    if wanted.needs_id and not form.get("id", "").strip():
        text = "id: required; it names what the act is about."
        return page(request, "message.html", status=422, title="What?", text=text, caller=caller)
    answer = await _done(request, caller, wanted, form)
    back = wanted.back.format(id=quote(form.get("id", ""), safe=""))
    if not answer.ok:
        title = "Not with this key" if answer.status == 403 else "It was not done"
        return page(
            request, "message.html", status=answer.status, title=title, text=answer.refusal, caller=caller, back=back
        )
    if wanted.shows:
        return page(request, wanted.shows, caller=caller, answer=instants_in(answer.body), back=back)
    new = answer.body.get("id", "") if isinstance(answer.body, dict) else ""
    back = wanted.leads_to.format(id=quote(form.get("id", ""), safe=""), new=new)
    return RedirectResponse(_told(base_of(request) + back, name), 303, headers=dict(HEADERS))


def _told(address: str, name: str) -> str:
    return f"{address}{'&' if '?' in address else '?'}did={name}"


async def _done(request: Request, caller: Caller, wanted: Act, form: Form) -> Answer:
    identity = form.get("id", "")
    path = wanted.path.format(id=identity if "dead-letters" in wanted.path else quote(identity, safe=""))
    key = form.get("key", "") if wanted.method == "POST" else ""
    return await call_operation(
        request, caller, wanted.method, path, wanted.body(form), key=key, reason=form["reason"].strip()
    )
