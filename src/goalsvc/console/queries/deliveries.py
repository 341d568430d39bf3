"""What became of events at the endpoints of the platform's backend."""

from collections.abc import Mapping, Sequence

from goalsvc.console.queries import rows

_MOST_ENDPOINTS = 50


async def deliveries_of(event_ids: Sequence[str]) -> Mapping[str, Sequence[Mapping[str, object]]]:
    """Returns the deliveries of these events as they are stored, by event; of at most 50 endpoints. Raises PyMongoError."""
    endpoints = await rows("webhook_endpoints", {}, limit=_MOST_ENDPOINTS, fields={"_id": 1})
    ids = [f"{endpoint['_id']}:{event_id}" for endpoint in endpoints for event_id in event_ids]
    found: dict[str, list[Mapping[str, object]]] = {}
    if ids:
        for row in await rows("deliveries", {"_id": {"$in": ids}}, sort=[("_id", 1)], limit=len(ids)):
            found.setdefault(str(row.get("event_id")), []).append(row)
    return found
