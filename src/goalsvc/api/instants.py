"""Instants that callers give: text as RFC 3339 writes it, never a number of seconds."""

import re
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BeforeValidator

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


def _with_a_date(value: object) -> object:
    """Returns the value; raises ValueError for what has no date, which would be read as seconds since 1970."""
    if value is None or isinstance(value, datetime) or (isinstance(value, str) and _DATE.match(value)):
        return value
    raise ValueError("must be a date and time with an offset (RFC 3339), as 2026-01-01T20:00:00Z")


def _in_utc(instant: datetime) -> datetime:
    """Returns that instant in UTC; raises ValueError for one that has no year there, which cannot be stored."""
    try:
        return instant.astimezone(UTC)
    except OverflowError:
        rule = "before the year 1" if instant.year == 1 else "after the year 9999"
        raise ValueError(f"is {rule} in UTC") from None


#: A time that a caller gives, in UTC.
Instant = Annotated[AwareDatetime, BeforeValidator(_with_a_date), AfterValidator(_in_utc)]
