"""Who is taken by an exclusive: one slot for each session, viewer and performer, written in the transaction that takes it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from beanie import Document, PydanticObjectId
from bson import ObjectId
from pydantic import ConfigDict, Field
from pymongo import ReturnDocument

from goalsvc.database_session import DatabaseSession
from goalsvc.domain.documents import RawDocument
from goalsvc.domain.goals import GoalKind, user_id
from goalsvc.domain.ids import exclusive_of
from goalsvc.domain.reading import mapping, sequence
from goalsvc.models.filters import A_USER, ACTIVE
from goalsvc.models.goal import ENDED, Goal, is_active
from goalsvc.models.session import Session


@dataclass(frozen=True, slots=True)
class Parties:
    """Between whom an exclusive is, and where."""

    session_id: ObjectId
    viewer: str
    performer: str


class ExclusiveSlot(Document):
    """The goal that took a session, viewer or performer last: an ExclusiveGoal, or the request that becomes one.

    A slot is never released. Whether it is free is what its goal says, so nothing can stay taken by a crash; and because
    everything that takes a slot writes it, two transactions that take the same one cannot both commit.
    """

    model_config = ConfigDict(extra="allow", arbitrary_types_allowed=True)

    id: str = Field(default="", alias="_id")  # type: ignore[assignment]
    goal_id: PydanticObjectId
    at: datetime

    class Settings:
        """Where and how Beanie keeps slots."""

        name = "exclusive_slots"
        keep_nulls = False
        indexes: ClassVar[list[object]] = []

    @classmethod
    async def take(cls, parties: Parties, goal_id: ObjectId, now: datetime, session: DatabaseSession) -> str | None:
        """Takes the three slots for that goal, within a transaction; the code of what is taken already, or None.

        When it answers a code, the transaction must be given up.
        """
        slots = [
            (f"session:{parties.session_id}", "exclusive_running"),
            (f"performer:{parties.performer}", "performer_in_exclusive"),
            *([(f"viewer:{parties.viewer}", "viewer_in_exclusive")] if parties.viewer else []),
        ]
        holders = [(await cls._taken(slot, goal_id, now, session), code) for slot, code in slots]
        for holder, code in holders:
            if holder not in (None, goal_id) and await _holds(holder, session):
                return code
        return await _running(parties, goal_id, session)

    @classmethod
    async def _taken(cls, slot: str, goal_id: ObjectId, now: datetime, session: DatabaseSession) -> ObjectId | None:
        before = await cls.get_motor_collection().find_one_and_update(
            {"_id": slot},
            {"$set": {"goal_id": goal_id, "at": now}},
            upsert=True,
            return_document=ReturnDocument.BEFORE,
            session=session,
        )
        return before["goal_id"] if before else None


async def _holds(holder: ObjectId | None, session: DatabaseSession) -> bool:
    """Whether that goal is an exclusive that goes on, or a request that was agreed to and has not become one yet."""
    found = await _raw({"_id": holder}, session)
    if not found:
        return False
    goal = found[0]
    if goal.get("_cls") != GoalKind.TRIGGER.cls:
        return is_active(goal)
    if user_id(goal.get("triggerer")) is None:
        return False
    if any(mapping(promise).get("id") == ENDED for promise in sequence(goal.get("promises"))):
        return True
    exclusives = await _raw({"_id": exclusive_of(goal["_id"])}, session)
    return any(map(is_active, exclusives))


async def _running(parties: Parties, goal_id: ObjectId, session: DatabaseSession) -> str | None:
    """What the documents say, which other services may have written: the code of what is taken, or None."""
    streaming = await Session.get_motor_collection().find_one({"_id": parties.session_id}, session=session)
    if streaming is not None and user_id(mapping(streaming.get("status")).get("exclusive_to")) is not None:
        return "exclusive_running"
    begun = {"_cls": GoalKind.EXCLUSIVE.cls, "active": ACTIVE}
    agreed = {"_cls": GoalKind.TRIGGER.cls, "active": False, "triggerer": A_USER, "promises.id": ENDED}
    own = {"_id": {"$nin": [goal_id, exclusive_of(goal_id)]}}
    here = {"conditions.session_id": {"$in": [parties.session_id, str(parties.session_id)]}, "$or": [begun, agreed]}
    if await _raw(here | own, session):
        return "exclusive_running"
    if await _raw(begun | own | {"metadata.user_id": parties.performer}, session):
        return "performer_in_exclusive"
    if parties.viewer and await _raw(begun | own | {"conditions.exclusive_to": parties.viewer}, session):
        return "viewer_in_exclusive"
    return None


async def _raw(where: RawDocument, session: DatabaseSession) -> Sequence[RawDocument]:
    wanted = {"_cls": 1, "active": 1, "triggerer": 1, "promises.id": 1}
    found: Sequence[RawDocument] = (
        await Goal.get_motor_collection().find(where, wanted, session=session).limit(1).to_list(1)
    )
    return found
