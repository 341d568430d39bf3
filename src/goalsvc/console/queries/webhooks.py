"""Pusher's webhooks as they arrived, looked at from the latest on: all, those refused, those late."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from goalsvc.domain.durations import duration_text
from goalsvc.models.received_webhooks import LATE, MOST_LOOKED_AT, Webhook, latest_webhooks

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
    refused: int
    late: int
    slowest: timedelta
    earlier: datetime | None
    """Where to go on with what is older: all that arrived in this millisecond is shown or looked at."""

    @property
    def sentence(self) -> str:
        """Whether webhooks come, and in time."""
        if not self.looked_at:
            return "No webhook has arrived in this time."
        if not self.late and not self.refused:
            return f"All {self.looked_at} webhook events were taken and arrived within 5 s."
        slowest = duration_text(self.slowest)
        late = f"{self.late} arrived more than 5 s late, the slowest {slowest}" if self.late else "none was late"
        refused = (
            f"{self.refused} were refused"
            if self.refused > 1
            else "1 was refused"
            if self.refused
            else "all were taken"
        )
        return f"Of {self.looked_at} webhook events {refused}; {late}."


async def webhook_page(which: Which, until: datetime) -> WebhookPage:
    """Returns the webhooks that arrived before that instant, latest first."""
    found = await latest_webhooks(until, MOST_LOOKED_AT + 1)
    more = len(found) > MOST_LOOKED_AT
    webhooks = _whole_milliseconds(found[:MOST_LOOKED_AT], found[-1].at) if more else found
    late = [webhook for webhook in webhooks if webhook.late is not None and webhook.late > LATE]
    refused = [webhook for webhook in webhooks if webhook.refused]
    chosen = {Which.ALL: webhooks, Which.REFUSED: refused, Which.LATE: late}[which]
    shown = _page_of(chosen)
    earlier = shown[-1].at if len(chosen) > len(shown) else webhooks[-1].at if more else None
    slowest = max((webhook.late for webhook in late if webhook.late is not None), default=timedelta())
    return WebhookPage(shown, len(webhooks), len(refused), len(late), slowest, earlier)


def _whole_milliseconds(webhooks: Sequence[Webhook], cut: datetime) -> Sequence[Webhook]:
    """Returns those of milliseconds that are complete: without the one in which the list was cut, if there is another."""
    return [webhook for webhook in webhooks if webhook.at > cut] or webhooks


def _page_of(chosen: Sequence[Webhook]) -> Sequence[Webhook]:
    """Returns the first of these, up to the end of a millisecond, so that the next page begins with an earlier one."""
    if len(chosen) <= MOST_SHOWN:
        return chosen
    last = chosen[MOST_SHOWN - 1].at
    return [webhook for webhook in chosen if webhook.at >= last]
