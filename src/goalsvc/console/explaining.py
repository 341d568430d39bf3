"""Sentences: the story of a goal, its reasons in words, and how a transfer came about. Pure functions of stored documents."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

from goalsvc.console.pictures.ribbon import Party
from goalsvc.console.pictures.timeline import Mark, Timeline
from goalsvc.domain.channels import JOINS
from goalsvc.domain.durations import duration_text
from goalsvc.domain.escrow import performed_share
from goalsvc.domain.goals import GoalKind
from goalsvc.domain.why import Why
from goalsvc.models.escrow_sums import EscrowSums
from goalsvc.models.goal import Goal

#: Why something did not count, in words.
REASONS: Mapping[str, str] = {
    "not_a_participant": "is not a participant of the goal",
    "goal_inactive": "the goal had ended, and the six minutes for late webhooks were over",
    "unknown_goal": "there was no such goal",
    "other_goal_kind": "a goal of this kind has no clock",
    "already_running": "the clock was running: a repeat or twin",
    "not_running": "the clock stood: a repeat or twin",
    "stale_webhook": "the webhook was older than 15 minutes",
}

_LONGEST_STORY = 20


@dataclass(frozen=True, slots=True)
class Told:
    """One line of a story."""

    at: datetime | None
    text: str
    path: str = ""


def reason_text(reason: str) -> str:
    """Returns a reason code in words; codes without words of their own are spelt out."""
    return REASONS.get(reason, reason.replace("_", " "))


@dataclass(frozen=True, slots=True)
class Step:
    """One link of the chain of causes, and the page that shows it, if one does."""

    kind: str
    text: str
    path: str


def steps(why: Why, goal_id: object) -> list[Step]:
    """Returns the chain of an explanation; `goal_id` is the goal whose trace its cause is in."""
    roots = [link.id for link in why.chain if link.kind == "trace"]
    trace = f"/goals/{goal_id}/trace?root={quote(roots[0], safe='')}" if roots and goal_id else ""
    made = []
    for link in why.chain:
        identity = quote(link.id, safe="")
        paths = {
            "transfer": f"/transfers/{identity}",
            "goal": f"/goals/{identity}",
            "escrow": f"/goals/{identity}",
            "mark": f"/users/{identity}",
            "dead_letter": f"/dead-letters?id={identity}",
            "webhook": trace,
            "call": trace,
            "task": trace,
        }
        if link.kind != "trace":
            made.append(Step(link.kind, link.text, paths.get(link.kind, "")))
    return made


def held(sums: EscrowSums) -> str:
    """Returns a sentence that says how an escrow stands."""
    balance = sums.balance
    if sums.paid_in is None or sums.paid_out is None:
        return f"{balance} tokens are held; it has too many payments for their sums on this page."
    payments_in, payments_out = sums.paid_in.transfers, sums.paid_out.transfers
    if not payments_in:
        return "Nothing was ever held in this escrow."
    came = f"{payments_in} payment{'s' if payments_in != 1 else ''} came in and {payments_out} went out"
    if balance == 0 and payments_out:
        return f"All of it is settled: {came}; 0 tokens are left."
    return f"{came[0].upper()}{came[1:]}; {balance} tokens are held."


def rule(
    escrow_id: str, goal: Goal | None, parties: tuple[Sequence[Party], Sequence[Party]] | None, platform_fee_bps: int
) -> str:
    """Returns the rule by which an escrow is settled, with its figures once it is; empty for an escrow of another kind."""
    kind = escrow_id.partition(":")[0]
    fee_bps = platform_fee_bps if goal is None or goal.metadata.fee_bps is None else goal.metadata.fee_bps
    fee = f" The platform's fee is {fee_bps / 100:g} % of each payout, rounded down." if fee_bps else ""
    if kind == "show_funding":
        return (
            "Rule: each contribution goes to the streamer when the show reaches its last level, and back to who paid it when "
            f"the show or its funding ends below that.{fee}"
        )
    if kind == "trigger":
        return f"Rule: the price goes to the streamer when the request is agreed to, and otherwise back to the viewer.{fee}"
    if kind != "exclusive" or goal is None or not goal.target or parties is None:
        return ""
    price = sum(party.amount for party in parties[0])
    seconds = min(goal.progress, goal.target)
    told = f"Rule: the performer is paid by the second, and what was not performed goes back to the viewer.{fee}"
    if goal.active or not price or not parties[1]:
        return told
    share = performed_share(price, goal.progress, goal.target)
    figures = f"{price} tokens × {seconds} s of {goal.target} s, rounded down, are {share} for the performer"
    return f"{told} {figures}, and the remainder of {price - share} goes back."


def story(goal: Goal, timeline: Timeline) -> list[Told]:
    """Returns at most twenty lines that say what happened, oldest first; long repetitions are summed up."""
    acts = [act for act in timeline.acts if not act.name.startswith("level")]
    lines = [
        Told(act.at, f"{act.name.capitalize()}." if " " in act.name else f"The goal was {act.name}.", act.path)
        for act in acts
    ]
    lines += _performance(timeline)
    lines += _refused(timeline)
    lines += _levels(goal, timeline)
    lines += _money(timeline)
    lines.sort(key=lambda told: told.at or timeline.now)
    if len(lines) <= _LONGEST_STORY:
        return lines
    half = _LONGEST_STORY // 2
    left_out = len(lines) - 2 * half
    return [
        *lines[:half],
        Told(None, f"… {left_out} more things happened; the tables below have all of them …"),
        *lines[-half:],
    ]


def _performance(timeline: Timeline) -> Iterable[Told]:
    runs = timeline.runs
    if len(runs) > 6:
        closed = [run for run in runs if run.until is not None]
        return [
            Told(runs[0].since, f"{len(closed)} stretches were performed, {duration_text(timeline.performed)} in all.")
        ]
    told = []
    for run in runs:
        if run.until is None:
            told.append(Told(run.since, "The clock was started and runs."))
        else:
            told.append(Told(run.until, f"{duration_text(run.until - run.since)} were performed.", run.path))
    return told


def _refused(timeline: Timeline) -> Iterable[Told]:
    refused: dict[tuple[str, str], list[Mark]] = {}
    for mark in timeline.marks:
        if not mark.counted:
            refused.setdefault((mark.user, mark.reason), []).append(mark)
    for (user, reason), marks in refused.items():
        times = "once" if len(marks) == 1 else f"{len(marks)} times"
        told = f"{user} joined or left {times} and it did not count: {_because(user, reason)}."
        yield Told(marks[0].at, told, marks[0].path)


def _because(user: str, reason: str) -> str:
    text = reason_text(reason)
    return f"{user} {text}" if text.startswith("is ") else text


def uncounted(timeline: Timeline) -> list[str]:
    """Returns sentences that say which joins and leaves did not count, and why."""
    if not timeline.marks:
        return []
    told = [line.text for line in _refused(timeline)]
    return told or [f"All {len(timeline.marks)} joins and leaves counted."]


def _levels(goal: Goal, timeline: Timeline) -> Iterable[Told]:
    unit = timeline.unit
    for level in goal.levels:
        reached = next((step for step in timeline.steps if step.progress >= level.target), None)
        if reached is not None:
            named = f"“{level.title}” ({level.target} {unit})" if level.title else f"{level.target} {unit}"
            yield Told(reached.at, f"Level {named} was reached with {reached.progress} {unit}.", reached.path)


def _money(timeline: Timeline) -> Iterable[Told]:
    for flows, verb in (
        ([flow for flow in timeline.flows if flow.amount > 0], "filled the escrow with"),
        ([flow for flow in timeline.flows if flow.amount < 0], "emptied the escrow of"),
    ):
        number, amount = sum(flow.count for flow in flows), abs(sum(flow.amount for flow in flows))
        if number > 3:
            at = flows[0].at if flows[0].amount > 0 else flows[-1].at
            yield Told(at, f"{number} payments {verb} {amount} tokens.")
        else:
            way = "into" if verb.startswith("filled") else "out of"
            yield from (
                Told(flow.at, f"{flow.title[0].upper()}{flow.title[1:]} {way} escrow.", flow.path) for flow in flows
            )


def verdict(goal: Goal, timeline: Timeline) -> str:
    """Returns one sentence that says how the goal stands."""
    unit, target = timeline.unit, goal.target
    of_target = f"{goal.progress} of {target} {unit}" if target else f"{goal.progress} {unit}"
    if goal.kind is GoalKind.TRIGGER:
        if goal.active:
            return "The request waits for an answer."
        return (
            f"The request was agreed to by {goal.triggerer}."
            if goal.triggerer
            else "The request was declined or expired."
        )
    if goal.active:
        runs = " Its clock runs." if goal.context.running else ""
        return f"The goal is open with {of_target}.{runs}"
    if target is not None and goal.progress >= target:
        return f"The goal reached its target with {of_target}."
    if target is None:
        return f"The goal ended with {of_target}."
    missing = target - goal.progress
    return f"The goal ended below its target: {of_target}, {missing} {unit} short."


def root_sentence(root: Mapping[str, Any]) -> str:
    """Returns one sentence that says what a root of the trace was, as `GET /v1/activity` shows it."""
    at: datetime = root["at"]
    name, who = str(root.get("name", "")), str(root.get("user_id") or "the channel")
    if name == "refused":
        return f"A webhook was refused at {at:%H:%M:%S}: {root.get('reason', 'no reason is stored')}."
    if root.get("kind") == "webhook":
        happened = root.get("happened_at")
        verb = "joined" if name in JOINS else "left"
        if not isinstance(happened, datetime):
            return f"Pusher told at {at:%H:%M:%S} that {who} {verb} ({name})."
        late = duration_text(max(at - happened, timedelta()))
        return f"Pusher told at {at:%H:%M:%S}, {late} late, that {who} {verb} at {happened:%H:%M:%S} ({name})."
    if root.get("kind") == "call":
        key = f" with the key “{root['key']}”" if root.get("key") else ""
        done = "" if root.get("outcome") != "failed" else f" and failed: {root.get('reason', 'no reason is stored')}"
        return f"The call {name} was made{key} at {at:%H:%M:%S}{done} (request {root.get('request_id', 'unknown')})."
    return f"The periodic task {name} ran at {at:%H:%M:%S}."


def request_sentence(roots: Sequence[Mapping[str, Any]], acts: Sequence[Mapping[str, Any]]) -> str:
    """Returns one sentence that says what a request was: the roots that it left, or what the audit has of it."""
    if len(roots) == 1:
        return root_sentence(roots[0])
    if roots:
        return f"A webhook with {len(roots)} events arrived at {roots[-1]['at']:%H:%M:%S}."
    act = acts[0]
    operation = str(act["operation"]).replace("_", " ")
    return f"The call {operation} was made with the key “{act['key']}” at {act['at']:%H:%M:%S}; its trace is kept no longer."
