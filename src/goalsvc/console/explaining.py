"""Sentences: the story of a goal, its reasons in words, and how a transfer came about. Pure functions of stored documents."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from goalsvc.console.pictures.axis import duration_text
from goalsvc.console.pictures.timeline import Timeline
from goalsvc.domain.goals import GoalKind
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


def story(goal: Goal, timeline: Timeline, transfers: Sequence[Mapping[str, Any]]) -> list[Told]:
    """Returns at most twenty lines that say what happened, oldest first; long repetitions are summed up."""
    acts = [act for act in timeline.acts if not act.name.startswith("level")]
    lines = [
        Told(act.at, f"{act.name.capitalize()}." if " " in act.name else f"The goal was {act.name}.") for act in acts
    ]
    lines += _performance(timeline)
    lines += _refused(timeline)
    lines += _levels(goal, timeline)
    lines += _money(transfers, timeline)
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
            told.append(Told(run.until, f"{duration_text(run.until - run.since)} were performed."))
    return told


def _refused(timeline: Timeline) -> Iterable[Told]:
    refused: dict[tuple[str, str], list[datetime]] = {}
    for mark in timeline.marks:
        if not mark.counted:
            refused.setdefault((mark.user, mark.reason), []).append(mark.at)
    for (user, reason), instants in refused.items():
        times = "once" if len(instants) == 1 else f"{len(instants)} times"
        yield Told(instants[0], f"A join or leave of {user} did not count ({times}): {reason_text(reason)}.")


def _levels(goal: Goal, timeline: Timeline) -> Iterable[Told]:
    unit = timeline.unit
    for level in goal.levels:
        reached = next((step for step in timeline.steps if step.progress >= level.target), None)
        if reached is not None:
            named = f"“{level.title}” ({level.target} {unit})" if level.title else f"{level.target} {unit}"
            yield Told(reached.at, f"Level {named} was reached with {reached.progress} {unit}.")


def _money(transfers: Sequence[Mapping[str, Any]], timeline: Timeline) -> Iterable[Told]:
    into = [flow for flow in timeline.flows if flow.amount > 0]
    out = [flow for flow in timeline.flows if flow.amount < 0]
    if len(into) > 3:
        yield Told(
            into[0].at, f"{len(into)} payments filled the escrow with {sum(flow.amount for flow in into)} tokens."
        )
    else:
        yield from (Told(flow.at, f"{flow.title[0].upper()}{flow.title[1:]} into escrow.") for flow in into)
    if len(out) > 3:
        yield Told(out[-1].at, f"{len(out)} payments emptied the escrow of {-sum(flow.amount for flow in out)} tokens.")
    else:
        yield from (Told(flow.at, f"{flow.title[0].upper()}{flow.title[1:]} out of escrow.") for flow in out)


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


def lateness(timeline: Timeline) -> str:
    """Returns a sentence that says how late webhooks were."""
    delays = sorted(receipt.received_at - receipt.happened_at for receipt in timeline.receipts)
    if not delays:
        return "No webhook about this goal has been recorded."
    late = [delay for delay in delays if delay > timedelta(seconds=5)]
    worst = duration_text(max(delays[-1], timedelta()))
    if not late:
        return f"All {len(delays)} webhook events arrived within 5 s; the slowest took {worst}."
    return f"{len(late)} of {len(delays)} webhook events arrived more than 5 s late; the slowest took {worst}."
