"""What a document owes: its own small outbox, written in the update that made the follow_up.

A promise is a task that must still be run. Enqueueing it is only a hint; `sweep` finds those that were not enqueued. It is
removed in the update that records its effect, together with the promises that follow from it, so at every instant the
document says exactly what is still to be done.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Self

from bson import DBRef, MaxKey, MinKey
from pydantic import ValidationError
from pymongo import ASCENDING, IndexModel, ReturnDocument
from pymongo.errors import OperationFailure

from goalsvc.database_session import DatabaseSession
from goalsvc.domain.documents import Query, Update
from goalsvc.domain.origin import Origin
from goalsvc.domain.outcome import FollowUp
from goalsvc.domain.promises import Promise, PromiseRef
from goalsvc.domain.reading import (
    LAST_TIME,
    ZERO_TIME,
    Path,
    dotted,
    instant,
    mapping,
    read_leniently,
    sequence,
    text,
)
from goalsvc.domain.trace import TracedFollowUp
from goalsvc.models.filters import counts
from goalsvc.models.healing import healing
from goalsvc.models.shared import Sharing

Expression = Any

_DUE = [("promises.at", ASCENDING), ("promises.task", ASCENDING)]


def promises_due() -> IndexModel:
    """The index in which the sweep finds what is due, for each collection of documents that can owe tasks."""
    return IndexModel(_DUE, name="promises_due", sparse=True)


def promise_expression(
    promise_id: str, task: str, arguments: Mapping[str, Expression], at: datetime, origin: Origin
) -> Expression:
    """A promise for use in an update pipeline, where arguments may be expressions."""
    return {
        "id": promise_id,
        "task": task,
        "arguments": dict(arguments),
        "at": at,
        "parent": origin.parent,
        "cause": {"$literal": origin.cause.document()},
    }


def _expression_of(follow_up: FollowUp, now: datetime, origin: Origin) -> Expression:
    noted = {} if follow_up.progress is None else {"progress": follow_up.progress}
    arguments = {"$literal": dict(follow_up.arguments)}
    return promise_expression(follow_up.id, follow_up.task, arguments, follow_up.due_at or now, origin) | noted


def array_of(expression: Expression) -> Expression:
    """An array that holds only this. (Plain `[expression]` would do, but mongomock does not evaluate what is in there.)"""
    return {"$map": {"input": [0], "as": "only", "in": expression}}


#: All that the document owes, also where it owes nothing yet.
PROMISES: Expression = {"$ifNull": ["$promises", []]}


def promises_without(promise_id: str) -> Expression:
    """Returns the document's promises but this one."""
    return {"$filter": {"input": PROMISES, "as": "p", "cond": {"$ne": ["$$p.id", promise_id]}}}


def promises_without_task(task: str) -> Expression:
    """All that the document owes but what that task would pay."""
    return {"$filter": {"input": PROMISES, "as": "p", "cond": {"$ne": ["$$p.task", task]}}}


def add_promises_stage(*promises: Expression) -> Mapping[str, object]:
    """The update stage that adds these promises: arrays of promises, or expressions that make such arrays."""
    return {"$set": {"promises": {"$concatArrays": [PROMISES, *promises]}}}


def _add_missing(follow_ups: Sequence[TracedFollowUp], now: datetime) -> Mapping[str, object]:
    """The update stage that adds those of these follow-ups that the document does not owe yet."""
    held = {"$map": {"input": PROMISES, "as": "p", "in": "$$p.id"}}
    added = [_expression_of(item.follow_up, now, item.origin) for item in follow_ups]
    return add_promises_stage(
        *({"$cond": [{"$in": [promise["id"], held]}, [], array_of(promise)]} for promise in added)
    )


def _held_of(follow_ups: Sequence[TracedFollowUp], document: Mapping[str, object] | None) -> Sequence[Promise]:
    """Which of these follow-ups that document owes."""
    ids = {item.follow_up.id for item in follow_ups}
    return [promise for promise in readable_promises(document) if promise.id in ids]


def readable_promises(document: Mapping[str, object] | None) -> list[Promise]:
    """The promises that the document holds, without the entries that cannot be read."""
    found = []
    for entry in sequence((document or {}).get("promises")):
        with suppress(ValidationError):
            found.append(_read(entry))
    return found


def _owing(named: Mapping[str, object], before: datetime, after: datetime | None) -> dict[str, object]:
    due_at: dict[str, object] = {"$lte": before} if after is None else {"$gt": after, "$lte": before}
    return {"promises": {"$elemMatch": {"task": named, "at": due_at}}}


def _read(entry: object) -> Promise:
    """Raises ValidationError when a field is unreadable without which a promise is none."""
    return read_leniently(Promise.model_validate, mapping(entry))[0]


def _fault_of(entry: object, place: Path) -> str:
    """`path: rule` of the first field of that entry, at that place, without which a promise is none."""
    if not isinstance(entry, Mapping):
        return f"{dotted(place)}: must be an object"
    try:
        Promise.model_validate(entry)
    except ValidationError as error:
        for each in error.errors(include_url=False, include_input=False):
            if each["loc"][0] in _NEEDED:
                rule = "required" if each["type"] == "missing" else each["msg"].removeprefix("Value error, ")
                return f"{dotted((*place, *each['loc']))}: {rule}"
    return f"{dotted(place)}: must be a promise"


#: What a promise must have.
_NEEDED = frozenset({"id", "task", "arguments", "at"})

#: The types that are not dates, each of which has a range of its own in the index; arrays are apart.
_NOT_DATES = (
    *("double", "string", "object", "binData", "objectId", "bool", "regex", "javascript", "int", "timestamp", "long"),
    *("decimal", "minKey", "maxKey"),
)
_NO_INSTANTS: Sequence[Query] = ({"$lte": ZERO_TIME}, {"$gt": LAST_TIME}, {"$type": list(_NOT_DATES)}, {"$eq": []})
#: Where `at` is there and not a date of the years 1 to 9999: each of these is one range of the index.
_UNDATED: Query = {"$or": [{"promises": {"$elemMatch": {"at": at}}} for at in _NO_INSTANTS]}
#: Where `at` is `null` or absent: a range of the index that no filter leads to, for the index is sparse.
_WITHOUT_AT: Mapping[str, Any] = {
    "hint": _DUE,
    "min": {"promises.at": None, "promises.task": MinKey()},
    "max": {"promises.at": None, "promises.task": MaxKey()},
}
#: The index that a query names does not exist.
_BAD_HINT = 2


#: The id of a promise that has none that can be read begins so; its place in the array follows.
PLACE = "promises."


@dataclass(frozen=True, slots=True)
class UnreadablePromise:
    """An entry of `promises` that is due and cannot be run, or that belongs to a document that cannot be used."""

    document_id: object
    index: int
    entry: Mapping[str, object]
    """Empty, where it is not an object."""
    fault: str
    """`path: rule`."""

    @property
    def id(self) -> str:
        """The promise's own id, or its place where it has none."""
        return text(self.entry.get("id")) or f"{PLACE}{self.index}"


class HasPromises(Sharing):
    """A document that can hold promises of tasks."""

    promises: list[Promise] = []

    expires: ClassVar[bool] = False
    """Whether such a document is removed when its time is over, and what it owes with it."""

    @classmethod
    async def owes(cls, before: datetime, after: datetime, tasks: Sequence[str]) -> bool:
        """Returns whether any document may owe a promise of these tasks that became due after `after` and until `before`."""
        where = _owing({"$in": list(tasks)}, before, after)
        return await cls.get_motor_collection().find_one(where, {"_id": 1}) is not None

    @classmethod
    async def overdue(
        cls,
        before: datetime,
        after: datetime | None = None,
        *,
        tasks: Sequence[str] = (),
        but_tasks: Sequence[str] = (),
        most: int = 0,
    ) -> AsyncIterator[tuple[object, Promise | UnreadablePromise]]:
        """Yields every promise that became due after `after` and until `before`, with the `_id` of its document.

        Only promises of `tasks`, or of other tasks than `but_tasks`; of at most `most` documents (0: all). Nothing but the
        promises is read, so whatever else a document holds keeps no promise from being found.
        """
        named: dict[str, object] = {"$in": list(tasks)} if tasks else {"$nin": list(but_tasks)}
        where = _owing(named, before, after)
        wanted = {"_id": 1, "_cls": 1, "promises": 1}
        async for document in cls.get_motor_collection().find(where, wanted).limit(most):
            if not cls.is_ours(document):
                continue
            identity = document["_id"]
            usable = isinstance(identity, cls._identity)
            for index, entry in enumerate(sequence(document["promises"])):
                if not isinstance(entry, Mapping | DBRef):
                    yield identity, cls._unreadable(identity, index, entry)
                    continue
                due = instant(mapping(entry).get("at"))
                if due is None or due > before or (after is not None and due <= after):
                    continue
                task = mapping(entry).get("task")
                if (task not in tasks) if tasks else (isinstance(task, str) and task in but_tasks):
                    continue
                try:
                    promise = _read(entry)
                except ValidationError:
                    yield identity, cls._unreadable(identity, index, entry)
                else:
                    yield identity, promise if usable else cls._unreadable(identity, index, entry)

    @classmethod
    async def undated(cls, most: int) -> AsyncIterator[UnreadablePromise]:
        """Yields the promises, of at most so many documents, whose `at` is absent or not a date of the years 1 to 9999.

        They are never due.
        """
        wanted = {"_id": 1, "_cls": 1, "promises": 1}
        collection = cls.get_motor_collection()
        found = {document["_id"]: document async for document in collection.find(_UNDATED, wanted).limit(most)}
        try:
            async for document in collection.find({}, wanted, **_WITHOUT_AT).limit(most):
                found[document["_id"]] = document
        except OperationFailure as error:
            if error.code != _BAD_HINT:  # of a large collection `goalsvc migrate` makes it
                raise
        for identity, document in found.items():
            if cls.is_ours(document):
                for index, entry in enumerate(sequence(document["promises"])):
                    if isinstance(entry, Mapping) and instant(entry.get("at")) is None:
                        yield cls._unreadable(identity, index, entry)

    @classmethod
    def _unreadable(cls, identity: object, index: int, entry: object) -> UnreadablePromise:
        usable = isinstance(identity, cls._identity)
        fault = _fault_of(entry, ("promises", index)) if usable else f"_id: must be of type {cls._identity.__name__}"
        return UnreadablePromise(identity, index, mapping(entry), fault)

    @classmethod
    async def set_aside(cls, unreadable: UnreadablePromise, until: datetime) -> None:
        """Lets the sweep leave an entry alone until then, unless it has changed since it was read.

        One that has no `at` is left as it is: it is not to become due.
        """
        if instant(unreadable.entry.get("at")) is None:
            return
        place = f"promises.{unreadable.index}"
        where = {"_id": unreadable.document_id, place: {"$eq": unreadable.entry}}
        await cls.get_motor_collection().update_one(where, {"$set": {f"{place}.at": until}})

    @classmethod
    async def fulfil(
        cls, document_id: object, promise_id: str, follow_ups: Sequence[TracedFollowUp], now: datetime
    ) -> Sequence[Promise]:
        """Removes a promise and adds what follows from it, in one write; which of these follow-ups the document then owes.

        When another run of the same task was faster, nothing is added, and those that are still owed are told all the same.
        """
        if not follow_ups:
            # A promise that comes back with a crash of the database is kept once more, which changes nothing. By `_id` alone,
            # for which MongoDB needs no plan.
            pull = {"$pull": {"promises": {"id": promise_id}}}
            await cls.shared().change(document_id, {}, pull, wants_document=False, lasting=False)
            return ()
        held = {"promises.id": promise_id}
        stages = [{"$set": {"promises": promises_without(promise_id)}}, _add_missing(follow_ups, now)]
        changed = await cls.shared().change(document_id, held, stages)
        return _held_of(follow_ups, changed)

    @classmethod
    async def add_promises(
        cls, document_id: object, follow_ups: Sequence[TracedFollowUp], now: datetime
    ) -> Sequence[Promise]:
        """Adds promises that the document does not hold yet; which of these follow-ups it then holds."""
        stages = [_add_missing(follow_ups, now)]
        return _held_of(follow_ups, await cls.shared().change(document_id, {}, stages))

    @classmethod
    async def defer(cls, document_id: object, promise_id: str, until: datetime) -> None:
        """Lets the sweep leave a promise alone until then, because its task is known to be under way."""
        held, later = {"promises.id": promise_id}, {"$set": {"promises.$.at": until}}
        await cls.shared().change(document_id, held, later, wants_document=False, lasting=False)

    @classmethod
    async def change(
        cls,
        where: Mapping[str, object],
        update: Update,
        *,
        session: DatabaseSession | None = None,
        upsert: bool = False,
    ) -> Self | None:
        """One find-one-and-update; the document after the change, or None when the filter did not match.

        On the document's own collection: Beanie's query builder would walk through the whole update to encode what is in
        BSON's types already, which takes longer than all the rest of the call.
        """
        collection = cls.get_motor_collection()

        async def write() -> Mapping[str, object] | None:
            changed: Mapping[str, object] | None = await collection.find_one_and_update(
                where, update, return_document=ReturnDocument.AFTER, session=session, upsert=upsert
            )
            return changed

        # Within a transaction an error has undone it: its caller begins again.
        changed = await (write() if session is not None else healing(cls, where["_id"], write))
        return None if changed is None else cls.parse(changed)

    @classmethod
    async def fulfil_at(cls, document_id: object, promise_id: str, progress: int, **changes: object) -> bool:
        """Removes a promise to tell of the goal's progress, if that is still what was told; `changes` are set besides.

        False when progress has been raised: what raised it found the promise and added none.
        """
        where = {"_id": document_id, **counts("progress", progress)}
        update: dict[str, object] = {"$pull": {"promises": {"id": promise_id}}}
        if changes:
            update["$set"] = changes
        return await cls.changes(where, update)

    @classmethod
    async def changes(cls, where: Mapping[str, object], update: Update) -> bool:
        """One update whose result no caller needs; whether the filter matched."""
        collection = cls.get_motor_collection()
        return bool((await healing(cls, where["_id"], lambda: collection.update_one(where, update))).matched_count)

    @classmethod
    async def read(cls, document_id: object, session: DatabaseSession | None = None) -> Self | None:
        """The document of that id, if it is one of goalsvc's; past Beanie's query builder for the same reason."""
        if session is None:
            found = await cls.shared().read(document_id)
        else:
            found = await cls.get_motor_collection().find_one({"_id": document_id}, session=session)
        return None if found is None or not cls.is_ours(found) else cls.parse(found)

    def promise(self, promise_id: str) -> Promise | None:
        """The promise of that id, if it is still owed."""
        return next((promise for promise in self.promises if promise.id == promise_id), None)

    def ref(self, promise_id: str) -> PromiseRef:
        """Where that promise of this document is kept."""
        return PromiseRef(self.get_settings().name or "", self.id, promise_id)
