"""What happens in a running stack, as lines: read from the traces and deliveries as they are written.

A change stream shows them at once, in the order in which they were committed, and misses none that commits late: the cut of a
clip is traced at its end and dated at its beginning.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError

from goalsvc.commands.answers import worth_knowing
from goalsvc.domain.documents import Stored

Node = Mapping[str, Any]

#: Tasks that call BytePlus, and those that make clips.
_RECORDING = {"StartRecord", "StopRecord", "StartSnapshot"}
_CLIPS = {"create_post_from_livestream", "clip_livestream_as_asset"}
#: Every webhook has its answer; it says nothing of what came of the event.
_ALWAYS_DONE = "track_channel_presence"

_WHAT = [
    {
        "$match": {
            "$or": [
                {"ns.coll": "traces", "operationType": "insert"},
                {"ns.coll": "deliveries", "updateDescription.updatedFields.tried": {"$exists": True}},
            ]
        }
    }
]
_REST_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that happened: when, of which kind, its name, the goal that it is about, and what came of it."""

    at: datetime
    kind: str
    name: str
    goal_id: str | None
    told: str
    outcome: str = "done"
    """`done`, `returned` or `failed`."""


async def follow(mongodb_url: str) -> AsyncIterator[Line]:
    """Yields a line for each webhook, call, notice, recording, clip, delivery and failed task from now on, without an end.

    What happens while the database does not answer is yielded when it does.
    """
    async with AsyncMongoClient[dict[str, object]](mongodb_url, tz_aware=True) as client:
        place: Mapping[str, object] | None = None
        while True:
            try:
                watching = client.get_default_database().watch(_WHAT, full_document="updateLookup", resume_after=place)
                async with await watching as stream:
                    async for change in stream:
                        place = stream.resume_token
                        for line in lines_of(change):
                            yield line
            except PyMongoError:
                await asyncio.sleep(_REST_SECONDS)


def lines_of(change: Mapping[str, Any]) -> Iterator[Line]:
    """The lines of one change of the database."""
    document = change.get("fullDocument")
    if document is None:  # removed meanwhile
        return
    if change["ns"]["coll"] == "traces":
        yield from _of_node(document["node"], document["at"], document.get("goal_id"))
    elif document.get("attempts"):
        yield _of_delivery(document)


def _of_node(node: Node, at: datetime, goal_id: str | None) -> Iterator[Line]:
    """The line of a node of the trace, if it is worth one, then those of the nodes below it."""
    refs, name, outcome = node.get("refs") or {}, node["name"], node["outcome"]
    about = str(refs["goal"]) if refs.get("goal") is not None else goal_id
    notice = refs.get("notice")
    match node["kind"]:
        case "webhook":
            yield Line(at, "webhook", name, about, *_told_of_webhook(node))
        case "call":
            yield Line(at, "call", name, about, _told_of_call(node), outcome)
        case "task" if name in _RECORDING | _CLIPS:
            yield Line(at, "clip" if name in _CLIPS else "recording", name, about, _answered(node), outcome)
        case "task" if outcome == "failed" and notice is None:
            yield Line(at, "task", name, about, _answered(node), outcome)
    if notice is not None:
        yield Line(node["at"], "notice", str(notice), about, *_told_of_notice(str(notice), node))
    for child in node["children"]:
        yield from _of_node(child, child["at"], about)


def _told_of_webhook(node: Node) -> tuple[str, str]:
    """Who joined or left, and what the receivers did, with the worst of their outcomes."""
    who = str(node.get("user_id") or "")
    if not node["children"]:  # refused, or ignored
        where = "" if node["name"] == "refused" else str(node.get("channel") or "")
        return _arrow(_joined(who, where), _answered(node)), node["outcome"]
    receivers = [receiver for signal in node["children"] for receiver in signal["children"]]
    known = [one for one in worth_knowing(receivers) if one["name"] != _ALWAYS_DONE or one["outcome"] != "done"]
    told = ", ".join(f"{one['name']} {_answered(one)}" for one in known) or "no receiver acts on it"
    return _arrow(who, told), _worst([one["outcome"] for one in known])


def _answered(node: Node) -> str:
    """The outcome with its reason; what was done stands for itself."""
    reason = str(node.get("reason") or "")
    return reason if node["outcome"] == "done" and reason else _joined(node["outcome"], reason)


def _told_of_call(node: Node) -> str:
    amount = (node.get("refs") or {}).get("amount")
    by = _joined("" if amount is None else f"{amount} tokens", f"by {node.get('key')}")
    return by if node["outcome"] == "done" else _arrow(by, _answered(node))


def _told_of_notice(notice: str, node: Node) -> tuple[str, str]:
    outcome, reason = node["outcome"], str(node.get("reason") or "")
    if outcome == "done" and reason == "owed":
        return "owed: Pusher did not take it at once", "returned"
    if outcome == "done":
        return "sent" if reason in ("", notice) else f"sent: {reason}", outcome
    return _answered(node), outcome


def _of_delivery(delivery: Stored) -> Line:
    last = delivery["attempts"][-1]
    answer = f"{last.get('status') or last.get('error')}, {last.get('ms', 0):.0f} ms"
    again = f", again at {delivery['next_at']:%H:%M:%S}" if delivery.get("next_at") else ""
    told = _arrow(delivery["endpoint_id"], answer + again)
    outcome = "done" if delivery["state"] == "delivered" else "failed"
    return Line(last["at"], "delivery", delivery["type"], (delivery.get("cause") or {}).get("goal_id"), told, outcome)


def _worst(outcomes: Sequence[str]) -> str:
    return next((worst for worst in ("failed", "returned") if worst in outcomes), "done")


def _arrow(about: str, told: str) -> str:
    return f"{about} -> {told}" if about else told


def _joined(*words: str) -> str:
    return " ".join(word for word in words if word)
