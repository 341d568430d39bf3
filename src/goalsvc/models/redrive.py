"""Redrives: groups of dead letters that are tried again by a worker, each a document that says how far it has come."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar, Self

from pydantic import ConfigDict, Field
from pymongo import ASCENDING, IndexModel

from goalsvc.domain.call import Caller
from goalsvc.domain.origin import Origin
from goalsvc.domain.outcome import FollowUp
from goalsvc.domain.promises import Promise
from goalsvc.domain.reading import Instant, Text, WholePart
from goalsvc.models.promise import HasPromises, promises_due
from goalsvc.models.records import DeadLetter

#: More letters than this are not counted; the figure is then a lower bound.
MOST_COUNTED = 100_000
#: So many of the letters that could not be tried again are named.
MOST_NAMED = 100
#: How long a redrive is kept once it is finished.
KEPT = timedelta(days=90)
_MOST_OTHERS = 20
_HELD_AT_MOST = timedelta(minutes=1)
_MOST_MILLISECONDS = 5_000


@dataclass(frozen=True, slots=True)
class Group:
    """Dead letters of one task, with one code of the reason, about one goal; what is None selects all."""

    task: str | None = None
    code: str | None = None
    """What the reason begins with, up to its first colon."""
    goal_id: str | None = None

    def chosen(self) -> dict[str, object]:
        """The filter of its letters, dead or not."""
        where: dict[str, object] = {name: value for name in ("task", "goal_id") if (value := getattr(self, name))}
        if self.code:
            where["reason"] = {"$regex": f"^{re.escape(self.code)}(:|$)"}
        return where

    def dead(self, until: datetime) -> dict[str, object]:
        """The filter of its letters that are dead and died until then."""
        return {"state": "dead", **self.chosen(), "at": {"$lte": until}}

    async def count(self, until: datetime) -> int:
        """Returns how many letters are dead now and died until then; of very many, a lower bound."""
        bounds: dict[str, Any] = {"limit": MOST_COUNTED, "maxTimeMS": _MOST_MILLISECONDS}
        return int(await DeadLetter.get_motor_collection().count_documents(self.dead(until), **bounds))


class Redrive(HasPromises):
    """A group of dead letters that is tried again: those that were dead when it was asked for."""

    model_config = ConfigDict(extra="allow", arbitrary_types_allowed=True)

    _identity: ClassVar[type] = str

    id: str = Field(default="", alias="_id")  # type: ignore[assignment]
    task: Text | None = None
    code: Text | None = None
    goal_id: Text | None = None
    limit: WholePart | None = None
    """At most so many letters are tried again."""
    found: WholePart = 0
    """How many letters were dead when it was asked for."""
    redriven: WholePart = 0
    failed: WholePart = 0
    failures: list[dict[str, object]] = []
    """The first letters that could not be tried again, `{letter_id, reason}`."""
    by_others: list[dict[str, object]] = []
    """Letters of the group that others tried again since it was asked for, `{by?, key?, letters}`, as of the end."""
    key: Text = ""
    key_id: Text = ""
    reason: Text | None = None
    place: Text | None = None
    """The last letter that was looked at."""
    created_at: Instant
    updated_at: Instant
    finished_at: Instant | None = None

    class Settings:
        """Where and how Beanie keeps redrives; MongoDB removes those that were finished long ago."""

        name = "redrives"
        keep_nulls = False
        indexes: ClassVar[list[IndexModel]] = [
            promises_due(),
            IndexModel([("created_at", ASCENDING), ("_id", ASCENDING)], name="listed"),
            IndexModel([("finished_at", ASCENDING)], name="end", expireAfterSeconds=int(KEPT.total_seconds())),
        ]

    @classmethod
    def begun(
        cls,
        redrive_id: str,
        group: Group,
        found: int,
        limit: int | None,
        caller: Caller,
        reason: str | None,
        now: datetime,
        promised: FollowUp | None,
        origin: Origin,
    ) -> Self:
        """A redrive that begins now, with the promise to do it; finished at once when no letter is dead."""
        promises = [] if promised is None else [Promise.of(promised.id, promised.task, promised.arguments, now, origin)]
        return cls(
            id=redrive_id,
            task=group.task,
            code=group.code,
            goal_id=group.goal_id,
            limit=limit,
            found=found,
            key=caller.name,
            key_id=caller.key_id,
            reason=reason,
            created_at=now,
            updated_at=now,
            finished_at=None if promises else now,
            promises=promises,
        )

    @property
    def group(self) -> Group:
        """Which letters it tries again."""
        return Group(self.task, self.code, self.goal_id)

    @property
    def left(self) -> int | None:
        """How many letters may still be tried again; None without a limit."""
        return None if self.limit is None else max(0, self.limit - self.redriven - self.failed)

    async def next_letters(self, most: int) -> list[str]:
        """Returns the ids of the letters that follow those that were looked at."""
        most = most if self.left is None else min(most, self.left)
        if not most:
            return []
        where = self.group.dead(self.created_at)
        if self.place is not None:
            where["_id"] = {"$gt": self.place}
        found = DeadLetter.get_motor_collection().find(where, {"_id": 1}).sort("_id", ASCENDING).limit(most)
        return [str(row["_id"]) for row in await found.to_list(most)]

    async def came_to(self, place: str, failures: Sequence[Mapping[str, object]], now: datetime) -> Self | None:
        """Notes that the letters up to that place were looked at; None when another run has come further meanwhile.

        What was tried again is counted from the letters, so that a batch that a crash interrupted is counted, too. The
        promise counts as due from now on: this is under way.
        """
        update: dict[str, object] = {
            "$set": {"place": place, "redriven": await self._marked(), "updated_at": now, "promises.$[].at": now},
            "$inc": {"failed": len(failures)},
            "$push": {"failures": {"$each": [dict(one) for one in failures], "$slice": MOST_NAMED}},
        }
        return await self.change({"_id": self.id, "place": self.place, "finished_at": None}, update)

    async def finish(self, now: datetime) -> Self | None:
        """Notes that it is finished, and what others did meanwhile; None when another run did so."""
        told = {"redriven": await self._marked(), "by_others": await self.others(now), "finished_at": now}
        return await self.change({"_id": self.id, "finished_at": None}, {"$set": {**told, "updated_at": now}})

    async def _marked(self) -> int:
        where = {"redriven_by": self.id}
        return int(await DeadLetter.get_motor_collection().count_documents(where, maxTimeMS=_MOST_MILLISECONDS))

    async def others(self, now: datetime) -> list[dict[str, object]]:
        """Returns what others tried again of the group while it ran: `{by?, key?, letters}`.

        A letter that another held when this redrive came by is counted as soon as that is over.
        """
        when = {"$gte": self.created_at, "$lte": (self.finished_at or now) + _HELD_AT_MOST}
        where = {"redriven_at": when, **self.group.chosen(), "redriven_by": {"$ne": self.id}}
        in_a_group = {"$regexMatch": {"input": {"$ifNull": ["$redriven_by", ""]}, "regex": "^rdr_"}}
        by_whom = {"by": {"$cond": [in_a_group, "$redriven_by", ""]}, "key": "$redriven_key"}
        group = {"$group": {"_id": by_whom, "letters": {"$sum": 1}}}
        order = {"$sort": {"letters": -1, "_id": 1}}
        stages: list[Mapping[str, object]] = [{"$match": where}, group, order, {"$limit": _MOST_OTHERS}]
        found = DeadLetter.get_motor_collection().aggregate(stages, maxTimeMS=_MOST_MILLISECONDS)
        return [
            {name: value for name, value in row["_id"].items() if value} | {"letters": int(row["letters"])}
            for row in await found.to_list(None)
        ]
