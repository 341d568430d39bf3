"""Notices to clients that Pusher would not take at once."""

from collections.abc import Mapping, Sequence
from typing import Any

from goalsvc.context import Context
from goalsvc.domain.lanes import Lane
from goalsvc.domain.outcome import Done, Outcome
from goalsvc.tasks.task import task


@task(lane=Lane.NOTICES)
async def deliver_notice(context: Context, *, channels: Sequence[str], event: str, data: Mapping[str, Any]) -> Outcome:
    """Hands a notice to Pusher; at least once, so its data carries an `event_id`."""
    await context.notifier.trigger(channels, event, data)
    return Done(event)
