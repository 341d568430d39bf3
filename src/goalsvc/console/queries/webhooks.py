"""Pusher's webhooks as they arrived, looked at from the latest on: all, those refused, those late."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from goalsvc.console.pictures.axis import duration_text
from goalsvc.console.queries import rows

#: A webhook that takes longer than this is late.
LATE = timedelta(seconds=5)
#: How many roots are looked through for one page, and how many of them it shows.
MOST_LOOKED_AT = 5_000
MOST_SHOWN = 100


class Which(StrEnum):
    """Which webhooks a page shows."""

    ALL = "all"
    REFUSED = "refused"
    LATE = "late"


@dataclass(frozen=True, slots=True)
class Webhook:
    """One event of a webhook, or a webhook that was refused."""

    id: str
    at: datetime
    name: str
    reason: str
    user_id: str
    channel: str
    goal_id: str
    app_key: str
    request_id: str
    late: timedelta | None
    """How long after the event it arrived; None where it does not say."""
    refused: bool


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


_TEXTS = ("name", "reason", "user_id", "channel", "app_key", "request_id")
_FIELDS = (*_TEXTS, "happened_at")


async def latest_webhooks(until: datetime, most: int = MOST_LOOKED_AT) -> list[Webhook]:
    """Returns at most so many webhook events that arrived before that instant, latest first."""
    where = {"at": {"$lt": until}, "parent": {"$exists": False}, "node.kind": "webhook"}
    fields = {"at": 1, "goal_id": 1, **{f"node.{name}": 1 for name in _FIELDS}}
    return [_webhook(row) for row in await rows("traces", where, sort=[("at", -1)], limit=most, fields=fields)]


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


def _webhook(row: Mapping[str, Any]) -> Webhook:
    node = row.get("node") or {}
    happened = node.get("happened_at")
    texts = {name: str(node.get(name) or "") for name in _TEXTS}
    return Webhook(
        id=str(row["_id"]),
        at=row["at"],
        goal_id=str(row.get("goal_id") or ""),
        late=max(row["at"] - happened, timedelta()) if isinstance(happened, datetime) else None,
        refused=node.get("name") == "refused",
        **texts,
    )
