"""Pusher's webhooks as they arrived, from the latest on, as the trace has them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

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


_TEXTS = ("name", "reason", "user_id", "channel", "app_key", "request_id")
_FIELDS = (*_TEXTS, "happened_at")


async def latest_webhooks(until: datetime, most: int = MOST_LOOKED_AT) -> list[Webhook]:
    """Returns at most so many webhook events that arrived before that instant, latest first."""
    where = {"at": {"$lt": until}, "parent": {"$exists": False}, "node.kind": "webhook"}
    fields = {"at": 1, "goal_id": 1, **{f"node.{name}": 1 for name in _FIELDS}}
    return [_webhook(row) for row in await rows("traces", where, sort=[("at", -1)], limit=most, fields=fields)]


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
