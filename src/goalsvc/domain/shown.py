"""Values of documents in JSON: ids as strings, and what JSON does not know in MongoDB's relaxed extended JSON."""

import math
from typing import Any
from uuid import UUID

from bson import ObjectId, json_util
from pydantic import BaseModel


def shown(value: object) -> Any:
    """Returns a value of a document as JSON can hold it, without what is absent.

    ObjectIds and UUIDs are strings; bytes, Decimal128, DBRef, Regex, Timestamp, Code, MinKey, dates beyond the year 9999 and
    numbers that are not finite are objects such as `{"$numberDecimal": "1.5"}`.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value) if type(value) is str else _extended(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else _extended(value)
    if isinstance(value, BaseModel):
        value = value.model_dump()
    if isinstance(value, dict):
        return {str(key): shown(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [shown(item) for item in value]
    if isinstance(value, ObjectId | UUID):
        return str(value)
    return _extended(value)


def _extended(value: object) -> object:
    if hasattr(value, "isoformat"):
        return value  # a date that Python can represent: written as ISO 8601 by who encodes it
    try:
        return json_util.default(value, json_util.RELAXED_JSON_OPTIONS)
    except (TypeError, ValueError):
        return str(value)
