"""Telling clients something: now if Pusher takes it, else as a promise."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from goalsvc.context import Context
from goalsvc.errors import RetryableError
from goalsvc.signals.outcome import Done, Outcome
from goalsvc.tasks.notices import deliver_notice


async def tell(
    context: Context, channels: Sequence[str], event: str, data: Mapping[str, Any], *, cause: str
) -> Outcome:
    """Hands the notice to Pusher; what Pusher would not take at once is owed, under an id that follows from `cause`."""
    sent = msgspec.to_builtins(data)  # times as ISO 8601
    try:
        await context.notifier.trigger(channels, event, sent)
    except RetryableError:
        debt = deliver_notice.owe(channels=list(channels), event=event, data=sent)
        return Done("owed", owes=(debt.called(f"{event}:{cause}"),))
    return Done(event)
