"""Notices to clients: sent now if Pusher takes them, else promised. No signal fails for a notice, nor waits for long."""

import asyncio
from collections.abc import Mapping, Sequence

import msgspec

from goalsvc.context import Context
from goalsvc.domain.outcome import Done, Outcome
from goalsvc.errors import GoalsvcError
from goalsvc.tasks.notices import deliver_notice

#: How long work on progress and money waits for Pusher; the lane of notices has more time.
_PATIENCE_SECONDS = 1.5


async def tell(
    context: Context, channels: Sequence[str], event: str, data: Mapping[str, object], *, cause: str
) -> Outcome:
    """Sends the notice to Pusher, or promises it under an id that follows from `cause`, where Pusher does not take it at once.

    So is what Pusher never will take (too large, a name it refuses): the task that delivers it becomes a dead letter with
    that reason at once, while the progress or the payout that the notice is about goes on.
    """
    context.note(notice=event)
    sent = msgspec.to_builtins(data)  # times as ISO 8601
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            await context.notifier.trigger(channels, event, sent)
    except (GoalsvcError, TimeoutError):
        follow_up = deliver_notice.follow_up(channels=list(channels), event=event, data=sent)
        return Done("owed", follow_ups=(follow_up.called(f"{event}:{cause}"),))
    return Done(event)
