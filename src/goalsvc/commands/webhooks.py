"""`goalsvc tail` and `goalsvc record`: Pusher's webhooks as they come, shown or written down."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any

from goalsvc.clock import to_epoch_milliseconds
from goalsvc.commands.api import Api, Target

#: How often the API is asked.
EVERY_SECONDS = 0.5

Row = Mapping[str, Any]


async def follow_webhooks(target: Target, *, every_seconds: float = EVERY_SECONDS) -> AsyncIterator[Row]:
    """Every event of a webhook from now on, as the API shows it. Raises CommandError."""
    async with Api.open(target) as api:
        place = (await api.get("/v1/webhooks", limit="1"))["next"]
        while True:
            page = await api.get("/v1/webhooks", after=place, limit="1000")
            for row in page["items"]:
                yield row
            place = page["next"]
            if not page["items"]:
                await asyncio.sleep(every_seconds)


def line_of(row: Row) -> str:
    """The event in one line: when it arrived, what it is about, and what came of it."""
    outcome = row["outcome"] + (f": {row['reason']}" if row.get("reason") else "")
    words = (row["at"], row["name"], row.get("channel"), row.get("user_id"), "->", outcome)
    return "  ".join(str(word) for word in words if word)


def recorded(row: Row) -> str | None:
    """The event as a line of a recording, for `goalsvc replay`; None for what was refused, for it has no event.

    A webhook with several events becomes several lines of the same time, which have the same effect.
    """
    if "channel" not in row or "happened_at" not in row:
        return None
    event = {"name": row["name"], "channel": row["channel"]}
    if "user_id" in row:
        event["user_id"] = row["user_id"]
    at = to_epoch_milliseconds(datetime.fromisoformat(row["happened_at"]))
    body = json.dumps({"time_ms": at, "events": [event]}, ensure_ascii=False, separators=(",", ":"))
    return json.dumps({"received_at": row["at"], "body": body}, ensure_ascii=False)
