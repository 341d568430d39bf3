"""Pusher's webhooks as they arrived, from the latest on, as the trace has them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from goalsvc.domain.durations import duration_text
from goalsvc.domain.reading import instant, mapping
from goalsvc.models.bounded import rows

#: A webhook that takes longer than this is late.
LATE = timedelta(seconds=5)
#: How many roots are looked through for one page or answer.
MOST_LOOKED_AT = 5_000


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
class Arrivals:
    """The latest webhook events before an instant."""

    webhooks: Sequence[Webhook]
    """The latest first; of milliseconds that are complete."""
    refused: Sequence[Webhook]
    late: Sequence[Webhook]
    truncated: bool
    """Whether there are earlier ones."""

    @property
    def slowest(self) -> timedelta:
        """How late the latest of those that were late was; zero when none was."""
        return max((one.late for one in self.late if one.late is not None), default=timedelta())

    @property
    def sentence(self) -> str:
        """Whether webhooks come, and in time."""
        number, refused, late = len(self.webhooks), len(self.refused), len(self.late)
        if not number:
            return "No webhook has arrived in this time."
        if not late and not refused:
            return f"All {number} webhook events were taken and arrived within 5 s."
        slowest = duration_text(self.slowest)
        lateness = f"{late} arrived more than 5 s late, the slowest {slowest}" if late else "none was late"
        taken = "all were taken" if not refused else f"{refused} {'was' if refused == 1 else 'were'} refused"
        return f"Of {number} webhook events {taken}; {lateness}."


async def arrivals(until: datetime) -> Arrivals:
    """Looks through the latest webhook events that arrived before that instant. Raises PyMongoError."""
    found = await latest_webhooks(until, MOST_LOOKED_AT + 1)
    more = len(found) > MOST_LOOKED_AT
    webhooks = _whole_milliseconds(found[:MOST_LOOKED_AT], found[-1].at) if more else found
    late = [one for one in webhooks if one.late is not None and one.late > LATE]
    return Arrivals(webhooks, [one for one in webhooks if one.refused], late, more)


def _whole_milliseconds(webhooks: Sequence[Webhook], cut: datetime) -> Sequence[Webhook]:
    """Returns those of milliseconds that are complete: without the one in which the list was cut, if there is another."""
    return [webhook for webhook in webhooks if webhook.at > cut] or webhooks


_TEXTS = ("name", "reason", "user_id", "channel", "app_key", "request_id")
_FIELDS = (*_TEXTS, "happened_at")


async def latest_webhooks(until: datetime, most: int = MOST_LOOKED_AT) -> list[Webhook]:
    """Returns at most so many webhook events that arrived before that instant, latest first."""
    where = {"at": {"$lt": until}, "parent": {"$exists": False}, "node.kind": "webhook"}
    fields = {"at": 1, "goal_id": 1, **{f"node.{name}": 1 for name in _FIELDS}}
    return [_webhook(row) for row in await rows("traces", where, sort=[("at", -1)], limit=most, fields=fields)]


def _webhook(row: Mapping[str, Any]) -> Webhook:
    node = mapping(row.get("node"))
    happened = instant(node.get("happened_at"))
    texts = {name: str(node.get(name) or "") for name in _TEXTS}
    return Webhook(
        id=str(row["_id"]),
        at=row["at"],
        goal_id=str(row.get("goal_id") or ""),
        late=max(row["at"] - happened, timedelta()) if happened is not None else None,
        refused=node.get("name") == "refused",
        **texts,
    )
