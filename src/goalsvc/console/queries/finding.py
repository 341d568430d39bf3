"""The search: from what `GET /v1/search` finds to the pages that show it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from bson import ObjectId

from goalsvc.console.queries import rows
from goalsvc.console.queries.flows import transfer_path

_ESCROW = re.compile(r"(?:escrow:)?((?:show_funding|exclusive|trigger):[0-9a-f]{24})")

#: The page of each kind that the API finds. Kinds that are not here have no page.
_PAGES = {
    "goal": "/goals/{id}",
    "session": "/sessions/{id}",
    "clip": "/clips/{id}",
    "user": "/users/{id}",
    "wallet": "/users/{id}",
    "escrow": "/escrows/{id}",
    "transfer": "/transfers/{id}",
    "event": "/events/{id}",
    "dead_letter": "/dead-letters?id={id}",
    "redrive": "/redrives/{id}",
    "request": "/requests/{id}",
    "webhook_endpoint": "/deliveries/{id}",
    "key": "/keys",
}
#: What a page calls a kind.
_NAMES = {"wallet": "user", "audit_event": "request", "delivery": "event"}


@dataclass(frozen=True, slots=True)
class Found:
    """A page that shows what was asked for."""

    kind: str
    name: str
    path: str
    """Below the console's own address."""


async def pages_of(asked: str, items: Sequence[Mapping[str, str]]) -> Sequence[Found]:
    """Returns the pages of what the API found for that text, each once. An escrow has one before anything was in it."""
    found: list[Found] = []
    if escrow := _ESCROW.fullmatch(asked):
        found.append(Found("escrow", escrow[1], f"/escrows/{quote(escrow[1], safe='')}"))
    for item in items:
        kind, identity = item["kind"], item["id"]
        if kind == "contribution":
            path = await _contribution_path(identity)
        elif kind == "audit_event":  # of the request of that id
            path, identity = f"/requests/{quote(asked, safe='')}", asked
        elif kind == "delivery":
            path = f"/events/{quote(identity.partition(':')[2], safe='')}"
        elif kind == "session" and identity != asked:  # a streamer who is no stored user
            path, kind, identity = f"/users/{quote(asked, safe='')}", "user", asked
        else:
            path = _PAGES.get(kind, "").format(id=quote(identity, safe=""))
        if path:
            found.append(Found(_NAMES.get(kind, kind).replace("_", " "), identity, path))
    return list({one.path: one for one in reversed(found)}.values())[::-1]


async def _contribution_path(identity: str) -> str:
    found = await rows("earnings", {"_id": ObjectId(identity)}, limit=1, fields={"transfer_id": 1})
    transfer_id = found[0].get("transfer_id") if found else None
    return transfer_path(transfer_id) if transfer_id else ""
