"""Pages of lists: one way to cut a query into pages that hold together while rows are added."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Generic, TypeVar, cast

from beanie import Document
from beanie.odm.utils.parsing import parse_obj
from bson import ObjectId
from bson.errors import BSONError

from goalsvc.clock import from_epoch_milliseconds, to_epoch_milliseconds
from goalsvc.errors import GoalsvcError, InvalidError
from goalsvc.models.shared import Lenient

DocumentT = TypeVar("DocumentT", bound=Document)


class Order(StrEnum):
    """The direction of a list."""

    ASC = "asc"
    DESC = "desc"


@dataclass(frozen=True, slots=True)
class Paging:
    """Which page is asked for: at most `limit` rows that follow `cursor`, in that direction."""

    limit: int = 50
    cursor: str | None = None
    order: Order = Order.ASC


@dataclass(frozen=True, slots=True)
class Rows(Generic[DocumentT]):
    """A page: its rows, and the cursor of the page that follows, or None."""

    items: Sequence[DocumentT]
    next: str | None


async def page_of(
    model: type[DocumentT], where: Mapping[str, Any], paging: Paging, *, by: str | None = None
) -> Rows[DocumentT]:
    """The page of that query, in the order of the field `by` and then of `_id`; of `_id` alone without it.

    A cursor holds the place of the last row, and not a number of rows: what is added meanwhile moves nothing. `by` must be a
    time that a document keeps. A document that cannot be read is left out and affects no other. Raises InvalidError for a
    cursor that this list did not give out.
    """
    direction = 1 if paging.order is Order.ASC else -1
    conditions: list[Mapping[str, Any]] = [where] if where else []
    if paging.cursor is not None:
        conditions.append(_after(_decoded(paging, by is not None), by, paging.order))
    query = {"$and": conditions} if len(conditions) > 1 else dict(conditions[0]) if conditions else {}
    sort = [(by, direction), ("_id", direction)] if by else [("_id", direction)]
    found = await model.get_motor_collection().find(query).sort(sort).limit(paging.limit + 1).to_list(paging.limit + 1)
    shown = found[: paging.limit]
    following = _encoded(paging.order, shown[-1], by) if len(found) > paging.limit else None
    return Rows([row for document in shown if (row := _read(model, document)) is not None], following)


def _read(model: type[DocumentT], document: Mapping[str, Any]) -> DocumentT | None:
    try:
        lenient = issubclass(model, Lenient)
        row = cast(DocumentT, model.parse(document) if lenient else parse_obj(model, document))
    except (ValueError, TypeError, GoalsvcError):
        return None
    return row


def _after(place: tuple[datetime | None, Any], by: str | None, order: Order) -> Mapping[str, Any]:
    """The filter of the rows that follow that place. An absent time comes before all others."""
    value, identity = place
    beyond = "$gt" if order is Order.ASC else "$lt"
    if by is None:
        return {"_id": {beyond: identity}}
    beside = {by: value, "_id": {beyond: identity}}
    if value is None:
        return {"$or": [beside, {by: {"$ne": None}}]} if order is Order.ASC else beside
    further: list[Mapping[str, Any]] = [beside, {by: {beyond: value}}]
    return {"$or": further if order is Order.ASC else [*further, {by: None}]}


def _encoded(order: Order, row: Mapping[str, Any], by: str | None) -> str:
    identity = row["_id"]
    value: Any = row
    for part in by.split(".") if by else ():
        value = value.get(part) if isinstance(value, Mapping) else None
    place = [
        order.value,
        {"oid": str(identity)} if isinstance(identity, ObjectId) else identity,
        to_epoch_milliseconds(value) if by and isinstance(value, datetime) else None,
        by is not None,
    ]
    return base64.urlsafe_b64encode(json.dumps(place, separators=(",", ":")).encode()).decode().rstrip("=")


def _decoded(paging: Paging, by_time: bool) -> tuple[datetime | None, Any]:
    refusal = InvalidError("cursor", "is not one that this list gave out in this order")
    try:
        text = (paging.cursor or "").encode("ascii")
        order, identity, milliseconds, timed = json.loads(base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4)))
        if isinstance(identity, dict):
            identity = ObjectId(identity["oid"])
        elif not isinstance(identity, str) or "\0" in identity:
            raise refusal
        value = None if milliseconds is None else from_epoch_milliseconds(milliseconds).astimezone(UTC)
    except (ValueError, TypeError, KeyError, OverflowError, BSONError, RecursionError):
        raise refusal from None
    if order != paging.order.value or timed is not by_time:
        raise refusal
    return value, identity


def between(begin: datetime | None, end: datetime | None) -> Mapping[str, Any]:
    """The filter value of a time in [begin, end); empty without limits."""
    return {operator: instant for operator, instant in (("$gte", begin), ("$lt", end)) if instant is not None}
