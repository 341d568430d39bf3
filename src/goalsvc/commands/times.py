"""Times as people write them."""

import re
from datetime import datetime, timedelta

from goalsvc.clock import from_epoch, from_iso
from goalsvc.commands.api import CommandError

_RELATIVE = re.compile(r"([+-])(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNITS = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


def instant_of(text: str, now: datetime) -> datetime:
    """The instant that is meant: `now`, `-30s` (`ms`, `s`, `m`, `h`, `d`), epoch seconds or milliseconds, ISO 8601.

    ISO 8601 without an offset is UTC. Raises CommandError.
    """
    given = text.strip()
    try:
        if given == "now":
            return now
        if match := _RELATIVE.fullmatch(given):
            sign, amount, unit = match.groups()
            return now + float(f"{sign}{amount}") * _UNITS[unit]
        if _NUMBER.fullmatch(given):
            return from_epoch(float(given))
        return from_iso(given)
    except (ValueError, OverflowError, OSError):
        raise CommandError(
            f"{text!r} is not a time: give ISO 8601, epoch seconds or milliseconds, or a distance such as -30s"
        ) from None
