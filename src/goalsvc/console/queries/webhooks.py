"""Pusher's webhooks as they arrived, looked at from the latest on: all, those refused, those late."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from goalsvc.models.received_webhooks import Webhook, arrivals

#: How many of those that are looked through a page shows.
MOST_SHOWN = 100


class Which(StrEnum):
    """Which webhooks a page shows."""

    ALL = "all"
    REFUSED = "refused"
    LATE = "late"


@dataclass(frozen=True, slots=True)
class WebhookPage:
    """What was found among the latest webhooks."""

    shown: Sequence[Webhook]
    looked_at: int
    sentence: str
    earlier: datetime | None
    """Where to go on with what is older: all that arrived in this millisecond is shown or looked at."""


async def webhook_page(which: Which, until: datetime) -> WebhookPage:
    """Returns the webhooks that arrived before that instant, latest first."""
    found = await arrivals(until)
    chosen = {Which.ALL: found.webhooks, Which.REFUSED: found.refused, Which.LATE: found.late}[which]
    shown = _page_of(chosen)
    last = found.webhooks[-1].at if found.truncated else None
    earlier = shown[-1].at if len(chosen) > len(shown) else last
    return WebhookPage(shown, len(found.webhooks), found.sentence, earlier)


def _page_of(chosen: Sequence[Webhook]) -> Sequence[Webhook]:
    """Returns the first of these, up to the end of a millisecond, so that the next page begins with an earlier one."""
    if len(chosen) <= MOST_SHOWN:
        return chosen
    last = chosen[MOST_SHOWN - 1].at
    return [webhook for webhook in chosen if webhook.at >= last]
