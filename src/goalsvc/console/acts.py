"""What operators may do from a page: for each act the operation of the API, its scope, and the page that shows the result."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from goalsvc.domain.call import Caller, Scope

Form = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Act:
    """Something that an operator may do."""

    label: str
    scope: Scope
    method: str
    path: str
    """Of the operation, with `{id}`."""
    leads_to: str
    """The page that shows what came of it, with `{id}`."""
    done: str
    body: Callable[[Form], Mapping[str, Any] | None] = lambda form: None


def _refund(form: Form) -> Mapping[str, Any]:
    amount = form.get("amount", "").strip()
    return {"reason": form["reason"], **({"amount": _whole(amount)} if amount else {})}


def _whole(text: str) -> int | str:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else text


ACTS: Mapping[str, Act] = {
    "end": Act("End", Scope.OPERATE, "POST", "/v1/goals/{id}/end", "/goals/{id}", "The goal was ended."),
    "agree": Act("Agree", Scope.OPERATE, "POST", "/v1/goals/{id}/agree", "/goals/{id}", "The request was agreed to."),
    "decline": Act(
        "Decline", Scope.OPERATE, "POST", "/v1/goals/{id}/decline", "/goals/{id}", "The request was declined."
    ),
    "refund": Act(
        "Refund", Scope.MONEY, "POST", "/v1/goals/{id}/refund", "/goals/{id}", "The payout is being returned.", _refund
    ),
    "end-session": Act(
        "End",
        Scope.OPERATE,
        "POST",
        "/v1/sessions/{id}/end",
        "/sessions/{id}",
        "The session was ended, with its open goals.",
    ),
    "redrive": Act(
        "Try again",
        Scope.OPERATE,
        "POST",
        "/v1/dead-letters/{id}/redrive",
        "/dead-letters?id={id}",
        "The task is promised again.",
    ),
    "retry-clip": Act(
        "Cut again", Scope.OPERATE, "POST", "/v1/clips/{id}/retry", "/clips/{id}", "The clip is being cut again."
    ),
    "resend": Act(
        "Send again",
        Scope.OPERATE,
        "POST",
        "/v1/events/{id}/resend",
        "/events/{id}",
        "The event is delivered once more to each endpoint that selects it.",
    ),
    "replay-events": Act(
        "Deliver again",
        Scope.OPERATE,
        "POST",
        "/v1/webhook-endpoints/{id}/replay",
        "/deliveries/{id}",
        "The endpoint's events are delivered once more.",
        lambda form: {"since": form.get("since", "")},
    ),
    "revoke-key": Act("Revoke", Scope.ADMIN, "DELETE", "/v1/keys/{id}", "/keys", "The key was revoked."),
}


def offered(caller: Caller, *names: str) -> list[tuple[str, Act]]:
    """Returns those of the acts that this caller's key may do. The API refuses the others whatever a page shows."""
    return [(name, ACTS[name]) for name in names if ACTS[name].scope in caller.scopes]


def fields_of(goal_active: bool, kind: str, paid: bool) -> Sequence[str]:
    """Returns the acts that make sense for a goal as it stands."""
    if not goal_active:
        return ("refund",) if paid else ()
    return ("agree", "decline") if kind == "TriggerGoal" else ("end",)
