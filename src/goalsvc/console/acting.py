"""What operators do: each act is an operation of the API, given a reason, from a page of this console only."""

from dataclasses import dataclass
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import RedirectResponse, Response

from goalsvc.console import access
from goalsvc.console.acts import ACTS, Act, Form
from goalsvc.console.operating import Answer, call_operation
from goalsvc.console.queries import overview
from goalsvc.console.rendering import HEADERS, page
from goalsvc.console.routing import Operator, base_of, console_router, texts_of
from goalsvc.domain.call import Caller, Scope

router = console_router()

#: How many letters one click redrives; the page then says how many are left.
MOST_AT_ONCE = 100


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
    answer = await _done(request, caller, wanted, form)
    back = wanted.leads_to.format(id=quote(form.get("id", ""), safe=""))
    if not answer.ok:
        title = "Not with this key" if answer.status == 403 else "It was not done"
        return page(
            request, "message.html", status=answer.status, title=title, text=answer.refusal, caller=caller, back=back
        )
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


@dataclass(slots=True)
class Redriven:
    """What came of redriving a group."""

    done: int = 0
    faster: int = 0
    """Letters that another operator had redriven meanwhile."""
    failed: list[tuple[str, str]] | None = None
    """Letters that could not be redriven, and why."""

    def note(self, letter_id: str, answer: Answer) -> None:
        """Counts the answer about one letter."""
        if answer.ok:
            self.done += 1
        elif answer.code == "already_redriven":
            self.faster += 1
        else:
            self.failed = [*(self.failed or ()), (letter_id, answer.refusal)]


@router.post("/redrive-group")
async def redrive_group(request: Request, caller: Operator) -> Response:
    """Redrives the letters of a group, or all; so many at once, and the page says how many are left."""
    if (refusal := refused_elsewhere(request, caller)) is not None:
        return refusal
    form = texts_of(await request.form())
    if not form.get("reason", "").strip():
        return without_reason(request, caller)
    if Scope.OPERATE not in caller.scopes:
        raise access.ForbiddenError(Scope.OPERATE)
    task, code = form.get("task", ""), form.get("code", "")
    letters = await overview.letters_of_group(task, code, MOST_AT_ONCE)
    redriven = Redriven()
    for letter_id in letters:
        redriven.note(
            letter_id, await _done(request, caller, ACTS["redrive"], {"id": letter_id, "reason": form["reason"]})
        )
    left = await overview.count_group(task, code)
    return page(
        request,
        "redriven.html",
        caller=caller,
        redriven=redriven,
        left=left,
        task=task,
        code=code,
        reason=form["reason"],
    )
