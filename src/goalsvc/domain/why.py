"""Why a transfer was made, and why a goal is not paid or completed: one sentence and a chain. Pure functions of documents."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from goalsvc.domain.goals import Level, level_of
from goalsvc.domain.origin import Cause
from goalsvc.domain.reading import whole_part

Document = Mapping[str, Any]

#: What a mark that did not count is explained by.
NOT_COUNTED: Mapping[str, str] = {
    "not_a_participant": "is not a participant of the goal",
    "goal_inactive": "came when the goal had ended",
}


@dataclass(frozen=True, slots=True)
class Link:
    """One step of the chain, from the effect towards its cause."""

    kind: str
    id: str
    text: str
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Why:
    """The answer: one sentence, and the chain of causes."""

    sentence: str
    chain: tuple[Link, ...]


def clock_text(at: object) -> str:
    """A time as people read it, in UTC."""
    return f"{at:%Y-%m-%d %H:%M:%S} UTC" if isinstance(at, datetime) else "an unknown time"


def cause_text(cause: Cause) -> str:
    """What the cause is, as part of a sentence; empty where none is stored."""
    if cause.event_id is not None and cause.task is None:
        return f"reported by a webhook about {clock_text(cause.happened_at)}"
    if cause.call is not None:
        key = f" with the key “{cause.key}”" if cause.key else ""
        return f"asked for by the call {cause.call}{key} at {clock_text(cause.happened_at)}"
    if cause.task is not None:
        return f"done by the periodic task {cause.task} for {clock_text(cause.happened_at)}"
    return ""


def _cause_links(cause: Cause) -> list[Link]:
    identity = cause.event_id or cause.request_id or cause.root or ""
    text = cause_text(cause)
    if not text:
        return []
    kind = "webhook" if cause.event_id and cause.task is None else "call" if cause.call else "task"
    links = [Link(kind, identity, text, cause.happened_at)]
    if cause.root is not None:
        links.append(Link("trace", cause.root, "the root of the trace, as long as it is kept"))
    return links


def _party(account: object, user_id: object) -> str:
    return str(user_id) if user_id else str(account or "an unknown account").removeprefix("user:")


def title_of(goal: Document) -> str:
    """What a goal is called: its kind, and its first title."""
    kind = str(goal.get("_cls", "Goal")).removeprefix("Goal.")
    levels = _list(goal.get("levels"))
    metadata = _dict(goal.get("metadata"))
    plan = _dict(metadata.get("show") or metadata.get("exclusive"))
    title = plan.get("title") or (_dict(levels[0]).get("title") if levels else "")
    return f"the {kind} “{title}”" if title else f"the {kind} {goal.get('_id')}"


def progress_text(goal: Document) -> str:
    """How far a goal has come, as part of a sentence."""
    progress, levels = _number(goal.get("progress")), _levels(goal)
    if str(goal.get("_cls")) == "Goal.TriggerGoal":
        return _request_text(goal)
    unit = "tokens" if str(goal.get("_cls")) == "Goal.FundingGoal" else "s"
    done = "contributed" if unit == "tokens" else "performed"
    if not levels:
        return f"{progress} {unit} {done}"
    reached = level_of(levels, progress)
    target = levels[max(reached, 1) - 1].target
    if reached:
        return f"reached level {reached} ({target} {unit}) with {progress} {unit} {done}"
    return f"had {progress} of {levels[-1].target} {unit} {done}"


def _request_text(goal: Document) -> str:
    """What became of a trigger goal, which has no seconds and no tokens to count."""
    if goal.get("triggerer"):
        return f"was agreed to by {goal['triggerer']}"
    return "waits for an answer" if goal.get("active") is not False else "was not agreed to"


def _levels(goal: Document) -> list[Level]:
    found = [_dict(one) for one in _list(goal.get("levels"))]
    levels = [Level(title=str(one.get("title", "")), target=_number(one.get("target"))) for one in found]
    return [level for level in levels if level.target > 0]


def _number(value: object) -> int:
    return whole_part(value) or 0


def _dict(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else []


def decided_text(goal: Document) -> str:
    """When the last second was performed that the level needed, as part of a sentence; empty where that is not known.

    The goal's document keeps its last stretches; of one that has had more, the second cannot be told.
    """
    clock, levels, progress = _dict(goal.get("clock")), _levels(goal), _number(goal.get("progress"))
    reached = level_of(levels, progress)
    stretches = [_dict(one) for one in _list(clock.get("stretches"))]
    spans = [(one.get("from"), one.get("to")) for one in stretches]
    known = [(since, until) for since, until in spans if isinstance(since, datetime) and isinstance(until, datetime)]
    whole = sum(((until - since) for since, until in known), timedelta())
    if not reached or whole < timedelta(seconds=_number(clock.get("counted"))):
        return ""
    left = timedelta(seconds=levels[reached - 1].target)
    for since, until in known:
        if until - since >= left:
            return f"second {levels[reached - 1].target} was performed at {clock_text(since + left)}"
        left -= until - since
    return ""


def arrival_text(cause: Cause, arrived_at: datetime | None) -> str:
    """How late the webhook arrived, to be added to what `cause_text` says; empty where that is not known."""
    if arrived_at is None or cause.happened_at is None or cause.event_id is None or cause.task is not None:
        return ""
    late = max((arrived_at - cause.happened_at).total_seconds(), 0.0)
    return f" that arrived {late:.1f} s later"


def why_transfer(
    transfer: Document, goal: Document | None, earning: Document | None, arrived_at: datetime | None = None
) -> Why:
    """Why that transfer was made: `goal` is the one that its cause or its escrow names, `earning` the share that it settles.

    `arrived_at` is when the webhook arrived that caused it, as long as its trace is kept.
    """
    identity, cause = str(transfer["_id"]), Cause.read(transfer.get("cause"))
    amount, at = transfer.get("amount"), transfer.get("created_at")
    payer = _party(transfer.get("debit"), transfer.get("from_user_id"))
    payee = _party(transfer.get("credit"), transfer.get("to_user_id"))
    what = title_of(goal) if goal is not None else "a goal"
    when = clock_text(at)
    because = _because(transfer, goal, what)
    match identity.partition("-")[0]:
        case "escrow":
            head = f"{payee} received {amount} tokens at {when}"
        case "refund":
            head = f"{payee} got {amount} tokens back at {when}"
        case "contribution":
            head = f"{payer} paid {amount} tokens at {when}"
        case "hold" if transfer.get("from_user_id"):
            head = f"{payer} put {amount} tokens aside at {when}"
        case "hold":
            head = f"{amount} tokens were moved to {payee} at {when}"
        case "deposit":
            head = f"{payee} received {amount} tokens at {when}"
        case _:
            head = f"{amount} tokens went from {payer} to {payee} at {when}"
    caused = cause_text(cause)
    told = [part for part in (because, caused and caused + arrival_text(cause, arrived_at)) if part]
    chain = [Link("transfer", identity, head, at if isinstance(at, datetime) else None)]
    if earning is not None:
        given = earning.get("created_at")
        share = f"this share is {earning.get('from_user_id')}'s contribution of {clock_text(given)}"
        told.append(share)
        chain.append(Link("earning", str(earning["_id"]), share, given if isinstance(given, datetime) else None))
        if earning.get("transfer_id"):
            chain.append(Link("transfer", str(earning["transfer_id"]), "the contribution's own transfer"))
    if goal is not None:
        chain.append(Link("goal", str(goal["_id"]), f"{what} {progress_text(goal)}"))
    sentence = " ".join([head, *told[:1]]) if because else "; ".join([head, *told[:1]])
    return Why("; ".join([sentence, *told[1:]]) + ".", (*chain, *_cause_links(cause)))


def _because(transfer: Document, goal: Document | None, what: str) -> str:
    """What the transfer was made for, as part of a sentence; empty where its id and its tags do not tell."""
    metadata, tags = _dict(transfer.get("metadata")), [str(tag) for tag in _list(transfer.get("tags"))]
    prefix, _, rest = str(transfer["_id"]).partition("-")
    if metadata.get("reversal"):
        return f"because the deposit {metadata['reversal']} was reversed"
    match prefix:
        case "escrow":
            decided = decided_text(goal) if goal is not None else ""
            done = f"because {what} {progress_text(goal)}" if goal is not None else "because a goal was completed"
            return f"{done}; {decided}" if decided else done
        case "refund" if goal is not None and str(goal.get("_cls")) == "Goal.TriggerGoal":
            return f"because {what} was not agreed to"
        case "refund":
            return f"because {what} ended below its target ({progress_text(goal)})" if goal is not None else ""
        case "contribution":
            return f"as a contribution to {what}"
        case "hold" if transfer.get("from_user_id"):
            return f"as the price of {what}"
        case "hold":
            return "because the request was agreed to"
        case "deposit":
            return "because they were deposited from outside"
        case "fee":
            done = f" because it {progress_text(goal)}" if goal is not None else ""
            return f"as the platform's fee on the payout of {what}{done}"
        case "withdrawal" if rest.endswith("-confirmed"):
            return "because the withdrawal was paid out"
        case "withdrawal" if rest.endswith("-returned"):
            return "because the withdrawal was not paid out"
        case "withdrawal":
            return "to be paid out to the outside"
        case "repay":
            return f"to repay a debt from the income {metadata.get('transfer_id')}"
    reason = f" ({metadata['reason']})" if metadata.get("reason") else ""
    told = {
        "adjustment": "as a correction",
        "reversal": f"because the deposit {metadata.get('transfer_id')} was reversed",
        "goal_refund": f"because the payout of {what} was refunded",
        "tip": "as a tip",
    }
    found = next((text for tag, text in told.items() if tag in tags), "")
    return found and found + reason


def why_not(
    goal: Document,
    held: int,
    dead_letters: Sequence[Document],
    uncounted: Mapping[tuple[str, str], int],
    now: datetime,
) -> Why:
    """Why that goal is not completed or not paid; `held` is in its escrow, `uncounted` marks by (user, reason)."""
    chain: list[Link] = []
    what, levels, progress = title_of(goal), _levels(goal), _number(goal.get("progress"))
    active = goal.get("active") is not False
    target = levels[-1].target if levels else None
    unit = "tokens" if str(goal.get("_cls")) == "Goal.FundingGoal" else "s"
    identity = str(goal["_id"])
    context = _dict(goal.get("context"))
    if target is not None and progress < target:
        chain.append(Link("goal", identity, f"{target - progress} of {target} {unit} are missing"))
    if active and unit == "s" and not context.get("started") and str(goal.get("_cls")) != "Goal.TriggerGoal":
        chain.append(Link("goal", identity, "it has not begun: the performer has not joined its channel"))
    if active:
        chain.append(Link("goal", identity, "it is still active, so nothing is settled yet"))
    elif isinstance(goal.get("exp"), datetime) and (target is None or progress < target):
        chain.append(Link("goal", identity, f"it ended at {clock_text(goal['exp'])}", goal["exp"]))
    for (user, reason), count in sorted(uncounted.items()):
        times = "once" if count == 1 else f"{count} times"
        chain.append(
            Link("mark", user, f"{user} joined or left {times} and did not count: {user} {NOT_COUNTED[reason]}")
        )
    for promise in [one for one in _list(goal.get("promises")) if isinstance(one, Mapping)]:
        at = promise.get("at")
        waits = "waits until" if isinstance(at, datetime) and at > now else "is due since"
        chain.append(
            Link("promise", str(promise.get("id")), f"the task {promise.get('task')} {waits} {clock_text(at)}")
        )
    chain += [
        Link("dead_letter", str(one["_id"]), f"the task {one.get('task')} was given up: {one.get('reason')}")
        for one in dead_letters
    ]
    if held > 0:
        chain.append(Link("escrow", identity, f"{held} tokens are still in escrow"))
    if not chain:
        return Why(f"Nothing is missing: {what} {progress_text(goal)} and is settled.", ())
    sentence = f"{what[0].upper()}{what[1:]} {progress_text(goal)}; {'; '.join(link.text for link in chain)}."
    return Why(sentence, tuple(chain))
