"""The search: from any id to the page that shows it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from bson import ObjectId

from goalsvc.console.queries import rows

_ESCROW = re.compile(r"(?:escrow:)?((?:show_funding|exclusive|trigger):[0-9a-f]{24})")


@dataclass(frozen=True, slots=True)
class Found:
    """A page that shows what was asked for."""

    kind: str
    name: str
    path: str
    """Below the console's own address."""


async def find(text: str) -> list[Found]:
    """Returns the pages that show the thing of that id: goal, session, user, escrow, transfer, event, asset, dead letter."""
    asked = text.strip()
    if not asked:
        return []
    found: list[Found] = []
    if escrow := _ESCROW.fullmatch(asked):
        found.append(Found("escrow", escrow[1], f"/escrows/{escrow[1]}"))
    if ObjectId.is_valid(asked):
        found += await _by_object_id(asked)
    return [*found, *await _by_text(asked)]


async def _by_object_id(asked: str) -> list[Found]:
    identity = ObjectId(asked)
    found: list[Found] = []
    if goal := await _one("goals", {"_id": identity}, "_cls"):
        found.append(Found(str(goal.get("_cls", "goal")).removeprefix("Goal."), asked, f"/goals/{asked}"))
    if await _one("sessions", {"_id": identity}, "_id"):
        found.append(Found("session", asked, f"/sessions/{asked}"))
    if await _one("assets", {"_id": identity}, "_id"):
        found.append(Found("clip", asked, f"/clips/{asked}"))
    earning = await _one("earnings", {"_id": identity}, "transfer_id")
    if earning and earning.get("transfer_id"):
        found.append(Found("contribution", asked, _transfer_path(str(earning["transfer_id"]))))
    return found


async def _by_text(asked: str) -> list[Found]:
    found: list[Found] = []
    if await _is_user(asked):
        found.append(Found("user", asked, f"/users/{quote(asked, safe='')}"))
    if await _one("transfers", {"_id": asked}, "_id"):
        found.append(Found("transfer", asked, _transfer_path(asked)))
    if await _one("dead_letters", {"_id": asked}, "_id"):
        found.append(Found("dead letter", asked, f"/dead-letters?id={quote(asked, safe='')}"))
    if await _one("redrives", {"_id": asked}, "_id"):
        found.append(Found("redrive", asked, f"/redrives/{quote(asked, safe='')}"))
    referred = await rows("transfers", {"reference": asked}, limit=5, fields={"_id": 1})
    found += [Found("transfer", str(row["_id"]), _transfer_path(str(row["_id"]))) for row in referred]
    if await _one("events", {"_id": asked}, "_id"):
        found.append(Found("event", asked, f"/events/{quote(asked, safe='')}"))
    if await _one("webhook_endpoints", {"_id": asked}, "_id"):
        found.append(Found("webhook endpoint", asked, f"/deliveries/{quote(asked, safe='')}"))
    if audited := await _one("audit_events", {"request_id": asked}, "targets"):
        target = str((audited.get("targets") or [""])[0])
        found.append(Found("request", asked, f"/audit?target={quote(target, safe='')}"))
    return found


async def _is_user(asked: str) -> bool:
    return bool(
        await _one("users", {"_id": asked}, "_id")
        or await _one("accounts", {"_id": f"user:{asked}"}, "_id")
        or await _one("sessions", {"user_id": asked}, "_id")
    )


async def _one(name: str, where: Mapping[str, object], field: str) -> Mapping[str, Any] | None:
    found = await rows(name, where, limit=1, fields={field: 1})
    return found[0] if found else None


def _transfer_path(transfer_id: str) -> str:
    return f"/transfers/{quote(transfer_id, safe='')}"
