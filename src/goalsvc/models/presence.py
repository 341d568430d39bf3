"""What Pusher's answers say of running clocks, written in bulk: who was seen, and who is missed since when."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from bson import ObjectId
from pymongo import ASCENDING, UpdateMany

from goalsvc.domain.documents import RawDocument
from goalsvc.domain.goals import PERFORMED_CLASSES
from goalsvc.domain.reading import mapping, text
from goalsvc.models.filters import ACTIVE, earliest
from goalsvc.models.goal import Goal, is_active

_RUNNING = {
    "_cls": 1,
    "active": 1,
    "clock.known_at": 1,
    "clock.absent_at": 1,
    "clock.asked_at": 1,
    "clock.rule": 1,
    "clock.revision": 1,
}
_WHOLE = {"_cls": 1, "active": 1, "exp": 1, "clock": 1, "context": 1, "metadata": 1, "conditions": 1}


async def running_clocks() -> list[dict[str, Any]]:
    """Returns every active goal whose clock runs: what an answer for all channels needs of it."""
    found = await Goal.get_motor_collection().find({"clock.running": True}, _RUNNING).to_list(None)
    return [goal for goal in found if _can_be_moved(goal)]


async def longest_unasked(most: int, known_before: datetime) -> list[dict[str, object]]:
    """Returns the goals whose clocks run that were not asked about for longest, and not heard of since then."""
    where = {"clock.running": True, "clock.known_at": {"$lte": known_before}}
    cursor = Goal.get_motor_collection().find(where, _WHOLE).sort("clock.asked_at", ASCENDING).limit(most)
    return [goal for goal in await cursor.to_list(None) if _can_be_moved(goal)]


async def goals_of(goal_ids: Sequence[ObjectId], classes: Iterable[str]) -> list[dict[str, object]]:
    """Returns those of these goals that are active and of these classes."""
    where = {"_id": {"$in": list(goal_ids)}, "active": ACTIVE, "_cls": {"$in": list(classes)}}
    found: list[RawDocument] = await Goal.get_motor_collection().find(where, _WHOLE).to_list(None)
    return [goal for goal in found if _can_be_moved(goal)]


def _can_be_moved(goal: Mapping[str, Any]) -> bool:
    """Whether it is an active goal of goalsvc that has a clock; an id or class of another type is another service's."""
    ours = isinstance(goal["_id"], ObjectId) and text(goal.get("_cls")) in PERFORMED_CLASSES
    return ours and is_active(goal) and not isinstance(goal.get("clock"), list)


async def note(
    *,
    seen: Sequence[Mapping[str, Any]] = (),
    missed: Sequence[ObjectId] = (),
    asked: Sequence[ObjectId] = (),
    at: datetime,
) -> None:
    """Notes in one bulk write what was learnt at `at`: who was seen, who is missed, about whom Pusher was asked singly."""
    back = [goal["_id"] for goal in seen if "absent_at" in mapping(goal.get("clock"))]
    runs = {"clock.running": True}
    since = {"$set": {"clock.absent_at": earliest("clock.absent_at", at)}}
    writes = []
    for goal_ids, update in (
        ([goal["_id"] for goal in seen], {"$max": {"clock.known_at": at}}),
        (back, {"$unset": {"clock.absent_at": True}}),
        (missed, [since]),
    ):
        if goal_ids:
            writes.append(UpdateMany({"_id": {"$in": list(goal_ids)}, **runs}, update))
    if asked:
        # A clock that stands may have no fields yet, and must not get one of another service's type.
        writes.append(UpdateMany({"_id": {"$in": list(asked)}, "clock.running": {"$exists": True}}, _asked(at)))
    if writes:
        await Goal.get_motor_collection().bulk_write(writes, ordered=False)


def _asked(at: datetime) -> dict[str, object]:
    return {"$max": {"clock.asked_at": at}}
