"""Many livestreams at once: copies of one that was played, as the documents of many others would be."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from bson import ObjectId
from pymongo import MongoClient
from pymongo.database import Database

from goalsvc.devstack.waiting import holds_within

from .processes import Program

Document = dict[str, Any]
Documents = Database[Document]


@contextmanager
def documents_of(mongodb_url: str) -> Iterator[Documents]:
    """Reads and writes documents past goalsvc."""
    with MongoClient[Document](mongodb_url, tz_aware=True) as client:
        yield client.get_default_database()


def copy_of(value: Any, names: Mapping[object, object]) -> Any:
    """The value with other ids: those that are a value by themselves, and those within a text."""
    if isinstance(value, dict):
        return {key: copy_of(each, names) for key, each in value.items()}
    if isinstance(value, list):
        return [copy_of(each, names) for each in value]
    if isinstance(value, str):
        for old, new in names.items():
            value = value.replace(str(old), str(new))
        return value
    return names[value] if isinstance(value, ObjectId) and value in names else value


def livestreams_like(session: Document, goal: Document, number: int) -> tuple[list[Document], list[Document]]:
    """So many sessions, each with a goal that owes what this one owes; each of a performer of its own."""
    causes = [promise["cause"] for promise in goal["promises"]]
    own = {session["_id"], goal["_id"], *(ObjectId(cause[name]) for cause in causes for name in ("event_id", "root"))}
    sessions, goals = [], []
    for each in range(number):
        names = {old: ObjectId() for old in own} | {session["user_id"]: f"singer-{each}"}
        sessions.append(copy_of(session, names))
        goals.append(copy_of(goal, names))
    return sessions, goals


def notice(number: int, user: str, at: datetime) -> Document:
    """The promise of a notice that Pusher did not take; its `event_id` is `notice-{number}`."""
    data = {"event_id": f"notice-{number}", "user_id": user, "direction": "credit", "amount": 1, "shares": 1}
    data |= {"escrow_id": "show_funding:68143584d6945d32e732cc21", "at": at.isoformat()}
    arguments = {"channels": [f"private-enc-user@{user}"], "event": "wallet.updated", "data": data}
    name = f"wallet.updated:notice-{number}"
    return {"id": name, "task": "deliver_notice", "arguments": arguments, "at": at, "parent": "", "cause": {}}


def make_overdue(documents: Documents) -> None:
    """Makes all that is promised an hour late."""
    due = {"$set": {"promises.$[].at": datetime.now(UTC) - timedelta(hours=1)}}
    documents["goals"].update_many({"promises.0": {"$exists": True}}, due)


def owed(documents: Documents, besides: str = "") -> dict[str, int]:
    """Task → promises that goals hold, besides that one."""
    others = {"_id": {"$ne": ObjectId(besides)}} if besides else {}
    counted: list[Mapping[str, Any]] = [
        {"$match": others},
        {"$unwind": "$promises"},
        {"$sortByCount": "$promises.task"},
    ]
    return {row["_id"]: row["count"] for row in documents["goals"].aggregate(counted)}


def metric(worker: Program, name: str) -> dict[str, int]:
    """The values of a gauge by task; without a recent census, nothing."""
    lines = httpx.get(f"{worker.url}/metrics", trust_env=False, timeout=20).text.splitlines()
    found = [line.removeprefix(f'{name}{{task="').split('"} ') for line in lines if line.startswith(f"{name}{{")]
    return {task: round(float(value)) for task, value in found}


def comes_to_show(worker: Program, name: str, wanted: Mapping[str, int], seconds: float = 60.0) -> bool:
    """Whether the worker's metric came to have these values; a census is taken every 15 s."""
    return holds_within(seconds, lambda: metric(worker, name) == dict(wanted), every=0.5)


def resident_megabytes(worker: Program) -> float:
    """The most memory that the worker's process has had."""
    assert worker.process is not None
    lines = Path(f"/proc/{worker.process.pid}/status").read_text("ascii").splitlines()
    (line,) = [line for line in lines if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024
