"""The notices that a join or leave of a stream owes: the latest of a user and stream replace the earlier ones."""

from collections.abc import Sequence
from datetime import datetime

from goalsvc.context import Context
from goalsvc.domain.trace import TracedFollowUp
from goalsvc.models.stream_notices import PresenceNotice
from goalsvc.tasks.dispatch import enqueue_these


async def promise_notices(
    context: Context, stream: str, user_id: str, at: datetime, follow_ups: Sequence[TracedFollowUp], now: datetime
) -> None:
    """Promises these notices of a join or leave at that instant, unless later ones are promised, and enqueues them."""
    promised = await PresenceNotice.promise_notices(stream, user_id, at, follow_ups, now)
    enqueue_these(context, "presence_notices", PresenceNotice.identity_of(stream, user_id), promised)
