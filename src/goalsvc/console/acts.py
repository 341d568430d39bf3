"""What operators may do from a page: for each act the operation of the API, its scope, and the page that shows the result."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from goalsvc.domain.call import Caller, Scope
from goalsvc.domain.goals import PERFORMED, GoalKind

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
    """The page that shows what came of it, with `{id}`, or `{new}` for the id of what was created."""
    done: str
    body: Callable[[Form], Mapping[str, object] | None] = lambda form: None
    begun_at: str = ""
    """The page to go back to when it was refused; empty: the one that it leads to."""
    shows: str = ""
    """The template that shows the answer itself, in place of a page."""

    @property
    def back(self) -> str:
        """The page from which it is done, with `{id}`."""
        return self.begun_at or self.leads_to

    @property
    def needs_id(self) -> bool:
        """Whether it is about one document, whose id the form must name."""
        return "{id}" in self.path or "{id}" in self.leads_to


def _refund(form: Form) -> Mapping[str, object]:
    amount = form.get("amount", "").strip()
    return {"reason": form["reason"], **({"amount": _whole(amount)} if amount else {})}


def _whole(text: str) -> int | str:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else text


def _chosen(*names: str) -> Callable[[Form], Mapping[str, object]]:
    """Returns what a form says of these fields; what is empty is left out."""
    return lambda form: {name: value for name in names if (value := form.get(name, "").strip())}


def _group(form: Form) -> Mapping[str, object]:
    limit = form.get("limit", "").strip()
    return {**_chosen("task", "code")(form), **({"limit": _whole(limit)} if limit else {}), "reason": form["reason"]}


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
    "redrive-group": Act(
        "Try",
        Scope.OPERATE,
        "POST",
        "/v1/redrives",
        "/redrives/{new}",
        "A worker tries them again.",
        _group,
        begun_at="/dead-letters",
    ),
    "ask-pusher": Act(
        "Ask Pusher now",
        Scope.OPERATE,
        "POST",
        "/v1/reconciliation",
        "/reconciliation",
        "Pusher was asked.",
        _chosen("reason"),
        shows="asked.html",
    ),
    "ask-about-goal": Act(
        "Ask Pusher",
        Scope.OPERATE,
        "POST",
        "/v1/reconciliation",
        "/goals/{id}",
        "Pusher was asked.",
        lambda form: {"goal_id": form.get("id", ""), "reason": form["reason"]},
        shows="asked.html",
    ),
    "test-event": Act(
        "Send a test event",
        Scope.OPERATE,
        "POST",
        "/v1/goals/{id}/test-events",
        "/goals/{id}",
        "The test event was sent.",
        _chosen("name", "user_id", "reason"),
        shows="tested.html",
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


def fields_of(goal_active: bool, kind: GoalKind, *, paid: bool, tested: bool) -> Sequence[str]:
    """Returns the acts that make sense for a goal as it stands; `tested` says whether the settings allow test events."""
    if not goal_active:
        return ("refund",) if paid else ()
    if kind is GoalKind.TRIGGER:
        return ("agree", "decline")
    if kind not in PERFORMED:
        return ("end",)
    return ("end", "ask-about-goal", "test-event") if tested else ("end", "ask-about-goal")
