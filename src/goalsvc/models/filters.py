"""Filters and expressions by which the database reads as leniently as `goalsvc.domain.reading` does.

What is not a date is not set, what is not `false` is active: absent, `null` and a value of another type behave alike.
"""

from collections.abc import Mapping
from datetime import datetime

from goalsvc.domain.documents import Query
from goalsvc.domain.reading import LAST_TIME, ZERO_TIME

#: The filter value for `active`: absent means true.
ACTIVE: Query = {"$ne": False}

#: The filter value for a date that is not set.
UNSET: Query = {"$not": {"$gt": ZERO_TIME, "$lte": LAST_TIME}}

#: The filter value for a reference that is not set.
NO_REFERENCE: Query = {"$not": {"$type": ["objectId", "string"]}}

#: The filter value for a user id that is set.
A_USER: Query = {"$type": ["string", "number"]}


def equal_to(value: object) -> Query:
    """The filter value for that very value, which alone might be read as a pattern, or as operators (`{"$date": …}`)."""
    return {"$eq": value}


def objects_stage(*names: str) -> Mapping[str, object]:
    """The update stage that makes empty objects of arrays: some drivers write an empty map as an empty array."""
    return {"$set": {name: {"$cond": [{"$isArray": f"${name}"}, {}, f"${name}"]} for name in names}}


def at_most(instant: datetime) -> Mapping[str, object]:
    """The filter value for a date that is set and not later than that."""
    return {"$gt": ZERO_TIME, "$lte": instant}


def date_or(path: str, otherwise: object) -> Mapping[str, object]:
    """The expression for the date at that path, or `otherwise` where none is set."""
    value = f"${path}"
    is_set = {"$and": [{"$gt": [value, ZERO_TIME]}, {"$lte": [value, LAST_TIME]}]}
    return {"$cond": [is_set, value, otherwise]}


def whole_part_of(path: str) -> Mapping[str, object]:
    """The expression for the number at that path without its fraction; 0 for what is not a number of up to 64 bits."""
    as_long = {"$convert": {"input": f"${path}", "to": "long", "onError": 0, "onNull": 0}}
    return {"$cond": [{"$isNumber": f"${path}"}, as_long, 0]}


def counts(path: str, number: int) -> Query:
    """The filter for documents in which the number at that path is read as `number`, however it is written."""
    return {"$expr": {"$eq": [whole_part_of(path), number]}}


def whole_of(path: str) -> Mapping[str, object]:
    """The expression for the whole number at that path, also where it is written as a double or a Decimal128; else 0."""
    return {"$cond": [{"$eq": [whole_part_of(path), f"${path}"]}, whole_part_of(path), 0]}


def text_of(value: str) -> Mapping[str, object]:
    """The expression for the text that `value` (as in `$name`) holds; null where it holds none, or an empty one."""
    is_text = {"$and": [{"$eq": [{"$type": value}, "string"]}, {"$ne": [value, ""]}]}
    return {"$cond": [is_text, value, None]}


def user_id_of(path: str) -> Mapping[str, object]:
    """The expression for the user id at that path, also where it is written as a whole number; null where there is none."""
    is_whole = {"$and": [{"$isNumber": f"${path}"}, {"$eq": [whole_part_of(path), f"${path}"]}]}
    return {"$cond": [is_whole, {"$toString": whole_part_of(path)}, text_of(f"${path}")]}


def earliest(path: str, instant: datetime) -> Mapping[str, object]:
    """The expression for the date at that path, at the latest `instant`; `instant` where none is set."""
    return {"$min": [date_or(path, instant), instant]}
