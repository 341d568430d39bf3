"""Pages of lists: one way to cut a query into pages that hold together while rows are added."""

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Generic, TypeVar, cast

import bson
from beanie import Document
from beanie.odm.utils.parsing import parse_obj
from bson import Code, CodecOptions, Decimal128, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.codec_options import DatetimeConversion
from bson.datetime_ms import DatetimeMS
from bson.errors import BSONError

from goalsvc.clock import from_epoch_milliseconds, to_epoch_milliseconds
from goalsvc.errors import GoalsvcError, InvalidError
from goalsvc.models.shared import Lenient

DocumentT = TypeVar("DocumentT", bound=Document)

#: How the value in a cursor is decoded: as the database's client decodes documents.
_AS_STORED: CodecOptions[dict[str, object]] = CodecOptions(
    tz_aware=True, tzinfo=UTC, datetime_conversion=DatetimeConversion.DATETIME_AUTO
)


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
    model: type[DocumentT], where: Mapping[str, object], paging: Paging, *, by: str | None = None
) -> Rows[DocumentT]:
    """The page of that query, in the order of the field `by` and then of `_id`; of `_id` alone without it.

    A cursor holds the place of the last row, and not a number of rows: what is added meanwhile moves nothing. `by` must be a
    time that a document keeps; where it is of another type, the row has its place by that type. A document that cannot be
    read, or has several times there, is left out and affects no other. Raises InvalidError for a cursor that this list did not
    give out.
    """
    direction = 1 if paging.order is Order.ASC else -1
    conditions: list[Mapping[str, object]] = [where] if where else []
    if issubclass(model, Lenient):
        conditions.append({"_id": model.usable_ids()})
    if by is not None:
        conditions.append({by: {"$not": {"$type": "array"}}})
    if paging.cursor is not None:
        conditions.append(_after(_decoded(paging, by is not None), by, paging.order))
    query = {"$and": conditions} if len(conditions) > 1 else dict(conditions[0]) if conditions else {}
    sort = [(by, direction), ("_id", direction)] if by else [("_id", direction)]
    found = await model.get_motor_collection().find(query).sort(sort).limit(paging.limit + 1).to_list(paging.limit + 1)
    shown = found[: paging.limit]
    following = _encoded(paging.order, shown[-1], by) if len(found) > paging.limit else None
    return Rows([row for document in shown if (row := _read(model, document)) is not None], following)


def _read(model: type[DocumentT], document: Mapping[str, object]) -> DocumentT | None:
    try:
        lenient = issubclass(model, Lenient)
        row = cast(DocumentT, model.parse(document) if lenient else parse_obj(model, document))
    except (ValueError, TypeError, GoalsvcError):
        return None
    return row


#: The types of BSON in the order in which MongoDB sorts their values; an absent value is sorted as null.
_SORTED_TYPES = (
    "minKey", "null", "number", "string", "object", "binData", "objectId", "bool", "date", "timestamp", "regex",
    "javascript", "maxKey",
)  # fmt: skip


def _after(place: tuple[object, object], by: str | None, order: Order) -> Mapping[str, object]:
    """The filter of the rows that follow that place. A comparison in MongoDB finds values of the same type only."""
    value, identity = place
    beyond = "$gt" if order is Order.ASC else "$lt"
    if by is None:
        return {"_id": {beyond: identity}}
    rank = _SORTED_TYPES.index(_type_of(value))
    types = _SORTED_TYPES[rank + 1 :] if order is Order.ASC else _SORTED_TYPES[:rank]
    branches: list[Mapping[str, object]] = [{by: {"$eq": value}, "_id": {beyond: identity}}]
    if isinstance(value, float) and value != value:  # NaN comes before all numbers, and compares with none
        branches += [{by: {"$gte": -math.inf}}] if order is Order.ASC else []
    elif value is not None and not isinstance(value, Regex | MinKey | MaxKey):
        branches.append({by: {beyond: value}})
        if _SORTED_TYPES[rank] == "number" and order is Order.DESC:
            branches.append({by: math.nan})
    if "null" in types:
        branches.append({by: None})
    branches.append({by: {"$type": [name for name in types if name != "null"]}})
    return {"$or": branches}


def _type_of(value: object) -> str:
    kinds: tuple[tuple[type | tuple[type, ...], str], ...] = (
        (type(None), "null"), (bool, "bool"), (Code, "javascript"), ((int, float, Decimal128), "number"), (str, "string"),
        (Regex, "regex"), (MinKey, "minKey"), (MaxKey, "maxKey"), (ObjectId, "objectId"), (bytes, "binData"),
        ((datetime, DatetimeMS), "date"), (Timestamp, "timestamp"),
    )  # fmt: skip
    return next((name for kind, name in kinds if isinstance(value, kind)), "object")


def _encoded(order: Order, row: Mapping[str, object], by: str | None) -> str:
    identity = row["_id"]
    value: object = row
    for part in by.split(".") if by else ():
        value = value.get(part) if isinstance(value, Mapping) else None
    time: object = None
    if by and isinstance(value, datetime):
        time = to_epoch_milliseconds(value)
    elif by and value is not None:
        time = base64.b64encode(bson.encode({"": value})).decode()
    place = [
        order.value,
        {"oid": str(identity)} if isinstance(identity, ObjectId) else identity,
        time,
        by is not None,
    ]
    return base64.urlsafe_b64encode(json.dumps(place, separators=(",", ":")).encode()).decode().rstrip("=")


def _decoded(paging: Paging, by_time: bool) -> tuple[object, object]:
    refusal = InvalidError("cursor", "is not one that this list gave out in this order")
    try:
        text = (paging.cursor or "").encode("ascii")
        order, identity, time, timed = json.loads(base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4)))
        if isinstance(identity, dict):
            identity = ObjectId(identity["oid"])
        elif not isinstance(identity, str) or "\0" in identity:
            raise refusal
        if isinstance(time, str):
            value: object = bson.decode(base64.b64decode(time), _AS_STORED)[""]
        else:
            value = None if time is None else from_epoch_milliseconds(time).astimezone(UTC)
    except (ValueError, TypeError, KeyError, OverflowError, BSONError, RecursionError):
        raise refusal from None
    if order != paging.order.value or timed is not by_time:
        raise refusal
    return value, identity


def between(begin: datetime | None, end: datetime | None) -> Mapping[str, object]:
    """The filter value of a time in [begin, end); empty without limits. Raises InvalidError where `begin` is after `end`."""
    check_period(begin, end)
    return {operator: instant for operator, instant in (("$gte", begin), ("$lt", end)) if instant is not None}


def check_period(begin: datetime | None, end: datetime | None) -> None:
    """Raises InvalidError for a period that begins after its end: `from` and `to` of a query."""
    if begin is not None and end is not None and begin > end:
        raise InvalidError("query.from", "must not be after `to`")
