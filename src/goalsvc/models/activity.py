"""What arrives and what is done: roots of the trace and attempts of deliveries, latest first, or as they are committed."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Self

from goalsvc.domain.call import Scope
from goalsvc.domain.reading import instant, mapping, sequence
from goalsvc.domain.shown import shown
from goalsvc.models.bounded import MOST_MILLISECONDS
from goalsvc.models.changes import Change
from goalsvc.models.records import TraceSegment
from goalsvc.models.webhooks import Delivery

#: At most so many rows of one millisecond are read, so that a page ends between two milliseconds.
_MOST_OF_ONE_INSTANT = 2_000


class Kind(StrEnum):
    """What a reader watches."""

    ALL = "all"
    WEBHOOK = "webhook"
    CALL = "call"
    TASK = "task"
    DELIVERY = "delivery"


@dataclass(frozen=True, slots=True)
class View:
    """What one reader sees: a kind, and deliveries only with the scope that their own operations require."""

    kind: Kind = Kind.ALL
    scopes: frozenset[Scope] = frozenset()

    @property
    def kinds(self) -> Sequence[Kind]:
        """The kinds that this reader may choose."""
        return [kind for kind in Kind if kind is not Kind.DELIVERY or Scope.ADMIN in self.scopes]

    @property
    def roots(self) -> bool:
        """Whether it has roots of the trace."""
        return self.kind is not Kind.DELIVERY

    @property
    def deliveries(self) -> bool:
        """Whether it has deliveries."""
        return self.kind in (Kind.ALL, Kind.DELIVERY) and Scope.ADMIN in self.scopes

    def shows(self, change: Change) -> bool:
        """Whether it has what this change is about."""
        if change.collection == "deliveries":
            return self.deliveries
        return self.roots and self.kind in (Kind.ALL, (mapping(mapping(change.document).get("node"))).get("kind"))


@dataclass(frozen=True, slots=True)
class Activity:
    """One thing that happened: `fields` are what a reader is told of it, without what is absent."""

    at: datetime
    id: str
    fields: Mapping[str, Any]

    @classmethod
    def of_root(cls, root: Mapping[str, Any]) -> Self:
        """Returns what a root of the trace tells."""
        node, identity = mapping(root.get("node")), str(root["_id"])
        refs = shown(mapping(node.get("refs")))
        told = {name: node.get(name) for name in _TOLD} | {"goal_id": root.get("goal_id"), "refs": refs or None}
        return cls(root["at"], identity, {"id": identity, "at": root["at"], **_present(told)})

    @classmethod
    def of_delivery(cls, delivery: Mapping[str, Any]) -> Self:
        """Returns what a delivery tells of its last attempt; each attempt has an id of its own."""
        at = delivery["tried_at"]
        attempts = sequence(delivery.get("attempts"))
        last = mapping(attempts[-1]) if attempts else {}
        told = {
            "name": delivery.get("type"),
            "outcome": delivery.get("state"),
            "reason": last.get("error"),
            "status": last.get("status"),
            "ms": last.get("ms"),
            "endpoint_id": delivery.get("endpoint_id"),
            "event_id": delivery.get("event_id"),
            "goal_id": delivery.get("goal_id"),
            "next_at": instant(delivery.get("next_at")),
        }
        identity = f"{delivery['_id']}/{round(at.timestamp() * 1000)}"
        return cls(at, identity, {"id": identity, "at": at, "kind": Kind.DELIVERY.value, **_present(told)})

    @classmethod
    def of_change(cls, change: Change) -> Self | None:
        """Returns what a change tells; None where the document is gone meanwhile."""
        if change.document is None:
            return None
        return cls.of_delivery(change.document) if change.collection == "deliveries" else cls.of_root(change.document)


_TOLD = (
    "kind", "name", "outcome", "reason", "ms", "user_id", "channel", "key", "app_key", "request_id", "event_id", "happened_at",
)  # fmt: skip
_ROOT = {"at": 1, "goal_id": 1, **{f"node.{name}": 1 for name in (*_TOLD, "refs")}}


def _present(fields: Mapping[str, object]) -> dict[str, Any]:
    return {name: shown(value) for name, value in fields.items() if value is not None}


@dataclass(frozen=True, slots=True)
class ActivityPage:
    """A page, latest first; `earlier` is the instant before which the next one goes on, None where there is nothing more."""

    items: Sequence[Activity]
    earlier: datetime | None


async def latest_activity(view: View, before: datetime, most: int) -> ActivityPage:
    """Returns at most so many of the latest before an instant, with all others of the same millisecond as the last of them.

    Raises PyMongoError.
    """
    found = await _between(view, {"$lt": before}, most + 1)
    if len(found) <= most:
        return ActivityPage(found, None)
    last = found[most - 1].at
    same = await _between(view, {"$gte": last, "$lte": last}, _MOST_OF_ONE_INSTANT)
    return ActivityPage([*(one for one in found if one.at > last), *same], last)


async def _between(view: View, when: Mapping[str, datetime], most: int) -> list[Activity]:
    roots, deliveries = await asyncio.gather(
        _roots(view.kind, when, most) if view.roots else _nothing(),
        _deliveries(when, most) if view.deliveries else _nothing(),
    )
    found = [*map(Activity.of_root, roots), *map(Activity.of_delivery, deliveries)]
    return sorted(found, key=lambda one: (one.at, one.id), reverse=True)[:most]


async def _nothing() -> list[Mapping[str, Any]]:
    return []


async def _roots(kind: Kind, when: Mapping[str, datetime], most: int) -> list[Mapping[str, Any]]:
    where: dict[str, object] = {"at": when, "parent": {"$exists": False}}
    if kind is not Kind.ALL:
        where["node.kind"] = kind.value
    cursor = TraceSegment.get_motor_collection().find(where, _ROOT).sort([("at", -1)]).limit(most)
    rows: list[Mapping[str, Any]] = await cursor.max_time_ms(MOST_MILLISECONDS).to_list(most)
    return rows


async def _deliveries(when: Mapping[str, datetime], most: int) -> list[Mapping[str, Any]]:
    cursor = Delivery.get_motor_collection().find({"tried_at": when}).sort([("tried_at", -1), ("_id", -1)]).limit(most)
    rows: list[Mapping[str, Any]] = await cursor.max_time_ms(MOST_MILLISECONDS).to_list(most)
    return rows
