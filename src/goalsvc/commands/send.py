"""`goalsvc send`: one webhook event, signed as Pusher signs it."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from time import monotonic
from typing import Any

from goalsvc.clock import from_epoch_milliseconds, to_epoch_milliseconds, whole_milliseconds
from goalsvc.commands.answers import reason_of, worth_knowing
from goalsvc.commands.api import Api, ApiRefusedError, CommandError, Target, goal_path
from goalsvc.commands.clock import now_at
from goalsvc.commands.times import instant_of
from goalsvc.domain.channels import Channel, ChannelKind, goal_channel
from goalsvc.domain.documents import Json
from goalsvc.request_id import new_id

#: How long the trace of what was sent is waited for, and how often it is looked for.
TRACE_SECONDS = 2.0
_LOOK_AGAIN_SECONDS = 0.1

#: The events of Pusher's webhooks.
PUSHER_EVENTS = (
    "member_added",
    "member_removed",
    "channel_occupied",
    "channel_vacated",
    "client_event",
    "cache_miss",
    "subscription_count",
)


def webhook_body(at: datetime, events: Sequence[Mapping[str, object]]) -> bytes:
    """A webhook's body: these events, all of them at that time."""
    return json.dumps({"time_ms": to_epoch_milliseconds(at), "events": list(events)}).encode()


@dataclass(frozen=True, slots=True)
class Sent:
    """A webhook event that the API accepted, and what is known of what came of it."""

    event: Json
    """`name`, `channel`, `user_id`?"""
    at: datetime
    request_id: str
    outcome: Mapping[str, Any] | None
    """The event as the trace shows it, with the answer of each receiver; None: no trace appeared in time."""
    goal: Json | None
    """The goal as it is now; None when the event is about no goal, or about one that does not exist."""

    def document(self) -> Json:
        """All of it, as JSON."""
        known = {"event": self.event, "at": _shown(self.at), "request_id": self.request_id}
        return {**known, "outcome": self.outcome, "goal": self.goal}

    def lines(self) -> list[str]:
        """The event; the receivers that did something or returned for a reason worth knowing; the goal."""
        of_user = f" of {self.event['user_id']}" if "user_id" in self.event else ""
        told = [f"{self.event['name']} on {self.event['channel']}{of_user}, {_shown(self.at)}: accepted"]
        return told + self._outcome() + ([_told_of_goal(self.goal)] if self.goal is not None else [])

    def _outcome(self) -> list[str]:
        if self.outcome is None:
            return [f"  no trace of it appeared within {TRACE_SECONDS:g} s: what came of it is not known"]
        if not self.outcome["answers"]:
            return [f"  ignored: {reason_of(self.outcome)}"]
        answers = worth_knowing(self.outcome["answers"])
        return [f"  {one['receiver']:<24}{one['outcome']:<9} {reason_of(one)}".rstrip() for one in answers]


async def send(target: Target, name: str, *, channel: str, user_id: str | None, at: str) -> Sent:
    """Sends the event, and looks up in the trace what came of it.

    Raises CommandError: Pusher has no event of that name, no server answers, the webhook is refused, or the goal that it is
    about does not exist.
    """
    if name not in PUSHER_EVENTS:
        near = get_close_matches(name, PUSHER_EVENTS, 1)
        hint = f"do you mean {near[0]}?" if near else f"there are {', '.join(PUSHER_EVENTS)}"
        raise CommandError(f"{name!r} is not an event of Pusher's: {hint}")
    event = {"name": name, "channel": channel} | ({"user_id": user_id} if user_id is not None else {})
    instant_of(at, from_epoch_milliseconds(10**12))  # a wrong form is an error before the API is asked for its time
    async with Api.open(target) as api:
        instant, request_id = whole_milliseconds(instant_of(at, await now_at(api))), new_id()
        await api.notify(webhook_body(instant, [event]), request_id)
        parsed = Channel.parse(channel)
        outcome = await outcome_of(api, request_id)
        goal = await _goal(api, parsed.about) if parsed is not None and parsed.kind is ChannelKind.GOAL else None
        return Sent(event, instant, request_id, outcome, goal)


async def outcome_of(api: Api, request_id: str, within_seconds: float = TRACE_SECONDS) -> Mapping[str, object] | None:
    """The event of that request as the trace shows it; None when no trace of it appears in time. Raises CommandError."""
    until = monotonic() + within_seconds
    while True:
        rows: Sequence[Mapping[str, object]] = (await api.get("/v1/webhooks", request_id=request_id))["items"]
        if rows:
            return rows[0]
        if monotonic() > until:
            return None
        await asyncio.sleep(_LOOK_AGAIN_SECONDS)


async def _goal(api: Api, goal_id: str) -> Json:
    try:
        goal: Json = await api.get(goal_path(goal_id))
    except ApiRefusedError as error:
        if error.code != "not_found":
            raise
        raise CommandError(f"the webhook was accepted and changed nothing: there is no goal {goal_id}") from None
    return goal


def _told_of_goal(goal: Json) -> str:
    target = f" of {goal['levels'][-1]['target']}" if goal["levels"] else ""
    state = "active" if goal["active"] else "ended"
    return f"{goal['kind']} {goal['id']}: {state}{_told_of_clock(goal['context'])}, progress {goal['progress']}{target}"


def _told_of_clock(clock: Mapping[str, str]) -> str:
    started, paused = (datetime.fromisoformat(clock[name]) if name in clock else None for name in ("started", "paused"))
    if started is not None and (paused is None or started > paused):
        return f", clock runs since {_shown(started)}"
    return f", clock paused at {_shown(paused)}" if paused is not None else ""


def channel_of(goal: str | None, channel: str | None) -> str:
    """The channel that the options `--goal` and `--channel` name. Raises CommandError unless it is exactly one."""
    if (goal is None) == (channel is None):
        raise CommandError("say which channel: by --goal ID, or by --channel NAME")
    if channel is not None:
        return channel
    goal_path(str(goal))  # so that a slip of the pen is told before anything is sent
    return goal_channel(str(goal))


def _shown(instant: datetime) -> str:
    return instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")
