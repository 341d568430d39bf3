"""`goalsvc send`: one webhook event, signed as Pusher signs it."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from difflib import get_close_matches
from typing import Any

from goalsvc.clock import from_epoch_milliseconds, to_epoch_milliseconds, whole_milliseconds
from goalsvc.commands.api import Api, ApiRefusedError, CommandError, Target, goal_path
from goalsvc.commands.clock import now_at
from goalsvc.commands.times import instant_of
from goalsvc.domain.channels import Channel, ChannelKind, goal_channel

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


def webhook_body(at: datetime, events: Sequence[Mapping[str, Any]]) -> bytes:
    """A webhook's body: these events, all of them at that time."""
    return json.dumps({"time_ms": to_epoch_milliseconds(at), "events": list(events)}).encode()


async def send(target: Target, name: str, *, channel: str, user_id: str | None, at: str) -> str:
    """Sends the event and says in a line or two what came of it.

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
        instant = whole_milliseconds(instant_of(at, await now_at(api)))
        await api.notify(webhook_body(instant, [event]))
        told = f"{name} on {channel}{f' of {user_id}' if user_id is not None else ''}, {_shown(instant)}: accepted"
        parsed = Channel.parse(channel)
        if parsed is None:
            return f"{told}, and ignored: the channel is not one of goalsvc's"
        if parsed.kind is not ChannelKind.GOAL:
            return told
        return f"{told}\n{await _state_of(api, parsed.about)}"


async def _state_of(api: Api, goal_id: str) -> str:
    try:
        goal = await api.get(goal_path(goal_id))
    except ApiRefusedError as error:
        if error.code != "not_found":
            raise
        raise CommandError(f"the webhook was accepted and changed nothing: there is no goal {goal_id}") from None
    target = f" of {goal['levels'][-1]['target']}" if goal["levels"] else ""
    state = "active" if goal["active"] else "ended"
    return f"{goal['kind']} {goal_id}: {state}{_told_of_clock(goal['context'])}, progress {goal['progress']}{target}"


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
