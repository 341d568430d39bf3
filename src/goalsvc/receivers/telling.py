"""Telling clients something: now if Pusher takes it, else as a promise. No signal fails for a notice."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from goalsvc.context import Context
from goalsvc.domain.outcome import Done, Outcome
from goalsvc.errors import GoalsvcError
from goalsvc.tasks.notices import deliver_notice


async def tell(
    context: Context, channels: Sequence[str], event: str, data: Mapping[str, Any], *, cause: str
) -> Outcome:
    """Hands the notice to Pusher; what Pusher would not take is owed, under an id that follows from `cause`.

    So is what Pusher never will take (too large, a name it refuses): the task that pays it becomes a dead letter with that
    reason at once, while the progress or the payout that the notice tells of goes on.
    """
    sent = msgspec.to_builtins(data)  # times as ISO 8601
    try:
        await context.notifier.trigger(channels, event, sent)
    except GoalsvcError:
        follow_up = deliver_notice.follow_up(channels=list(channels), event=event, data=sent)
        return Done("owed", follow_ups=(follow_up.called(f"{event}:{cause}"),))
    return Done(event)
