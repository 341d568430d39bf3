"""What the pages of sessions, users, dead letters and health show."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bson import ObjectId

from goalsvc.console.queries import MOST_MILLISECONDS, collection, rows, total
from goalsvc.models.goal import Goal
from goalsvc.models.session import Session
from goalsvc.models.user import User

MOST = 100
MOST_COUNTED = 20_000


@dataclass(frozen=True, slots=True)
class SessionPage:
    """One stream's evening."""

    session: Session
    goals: Sequence[Goal]
    cut: bool


async def session_page(session_id: ObjectId) -> SessionPage | None:
    """Returns the page of that session, None when there is no such session."""
    session = await Session.by_id(session_id)
    if session is None:
        return None
    where = {"conditions.session_id": {"$in": [session_id, str(session_id)]}}
    found = await rows("goals", where, sort=[("_id", 1)], limit=MOST + 1)
    return SessionPage(session, [goal for row in found[:MOST] if (goal := _goal(row)) is not None], len(found) > MOST)


def _goal(row: Mapping[str, Any]) -> Goal | None:
    try:
        return Goal.parse(row)
    except (ValueError, TypeError):
        return None


@dataclass(frozen=True, slots=True)
class UserPage:
    """A performer or viewer."""

    user_id: str
    user: User | None
    sessions: Sequence[Mapping[str, Any]]


async def user_page(user_id: str) -> UserPage:
    """Returns the page of that user, who need not be known."""
    user = await User.by_id(user_id)
    fields = {"statuses": 1, "user_id": 1}
    sessions = await rows("sessions", {"user_id": user_id}, sort=[("statuses.started", -1)], limit=20, fields=fields)
    return UserPage(user_id, user, sessions)


@dataclass(frozen=True, slots=True)
class LetterGroup:
    """Dead letters of one task with one kind of reason."""

    task: str
    reason: str
    count: int


async def dead_letter_groups() -> list[LetterGroup]:
    """Returns the dead letters by task and by the code with which their reason begins."""
    code = {"$arrayElemAt": [{"$split": ["$reason", ":"]}, 0]}
    found = await total(
        "dead_letters",
        [
            {"$match": {"state": "dead"}},
            {"$limit": 20_000},
            {"$group": {"_id": {"task": "$task", "reason": code}, "count": {"$sum": 1}}},
            {"$sort": {"count": -1, "_id": 1}},
        ],
    )
    return [LetterGroup(str(row["_id"].get("task")), str(row["_id"].get("reason")), row["count"]) for row in found]


def _group(task: str, code: str) -> dict[str, Any]:
    """The filter of the dead letters of a group; empty texts select all."""
    where: dict[str, Any] = {"state": "dead"}
    if task:
        where["task"] = task
    if code:
        where["reason"] = {"$regex": f"^{re.escape(code)}(:|$)"}
    return where


async def letters_of_group(task: str, code: str, most: int) -> list[str]:
    """Returns the ids of at most so many dead letters of a group, oldest first."""
    found = await rows("dead_letters", _group(task, code), sort=[("_id", 1)], limit=most, fields={"_id": 1})
    return [str(row["_id"]) for row in found]


async def count_group(task: str, code: str) -> int:
    """Returns how many dead letters are in a group; of very many, a lower bound."""
    bounds = {"limit": MOST_COUNTED, "maxTimeMS": MOST_MILLISECONDS}
    return int(await collection("dead_letters").count_documents(_group(task, code), **bounds))


async def dead_letters(letter_id: str | None, before: str | None) -> list[dict[str, Any]]:
    """Returns dead letters: the one of that id, or the latest (before that id)."""
    if letter_id:
        return await rows("dead_letters", {"_id": letter_id}, limit=1)
    where: dict[str, Any] = {"state": "dead"}
    if before:
        where["_id"] = {"$lt": before}
    return await rows("dead_letters", where, sort=[("_id", -1)], limit=MOST)


async def latest_roots(since: datetime, kind: str | None = None) -> list[dict[str, Any]]:
    """Returns the latest roots of the trace since an instant, of one kind or of all, latest first."""
    where: dict[str, Any] = {"at": {"$gte": since}, "parent": {"$exists": False}}
    if kind is not None:
        where["node.kind"] = kind
    fields = {f"node.{name}": 1 for name in ("kind", "name", "outcome", "reason", "user_id", "channel", "refs", "key")}
    return await rows("traces", where, sort=[("at", -1)], limit=MOST, fields={"at": 1, "goal_id": 1, **fields})
