"""Recordings of webhooks: one JSON object a line, with the webhook's body in `body`, as `goalsvc record` writes them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from goalsvc.clock import from_epoch, from_epoch_milliseconds, from_iso, to_epoch_milliseconds
from goalsvc.errors import InvalidError

#: A recording that is rehearsed has at most so many characters and webhooks; `goalsvc replay` sends any number.
MOST_CHARACTERS = 1_000_000
MOST_WEBHOOKS = 2_000

Line = tuple[int, Mapping[str, Any], datetime]


@dataclass(frozen=True, slots=True)
class Recorded:
    """One webhook of a recording: its line, its time moved to where it would be sent, and the body as it would be sent."""

    line: int
    events: Sequence[object]
    at: datetime
    body: bytes

    @property
    def malformed(self) -> bool:
        """Whether it would be refused because an event is not of the documented form."""
        return not all(map(_is_event, self.events))


def read_recording(text: str, now: datetime, *, keep_time: bool) -> list[Recorded]:
    """Returns the webhooks of a recording. Unless `keep_time`, they are moved so that the last one is now.

    Raises InvalidError naming the first line that is wrong.
    """
    found = [_line(number, line, now) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    if not found:
        raise _wrong("must hold at least one webhook")
    if len(found) > MOST_WEBHOOKS:
        raise _wrong(f"must hold at most {MOST_WEBHOOKS} webhooks; `goalsvc replay` sends more")
    shift = timedelta() if keep_time else now - max(at for _, _, at in found)
    return [_moved(line, shift) for line in found]


def _wrong(fault: str, number: int | None = None) -> InvalidError:
    return InvalidError("recording", fault if number is None else f"line {number}: {fault}")


def _line(number: int, line: str, now: datetime) -> Line:
    content = _content(line, number)
    return number, content, _time(content, number, now)


def _content(line: str, number: int) -> Mapping[str, Any]:
    try:
        entry = json.loads(line)
        body = entry["body"] if isinstance(entry["body"], dict) else json.loads(entry["body"])
    except (ValueError, TypeError, KeyError, RecursionError):
        raise _wrong("must be an object with the webhook's body in `body`", number) from None
    if not isinstance(body, dict) or not isinstance(body.get("events"), list):
        raise _wrong("the body must be an object with a list `events`", number)
    return body


def _time(content: Mapping[str, object], number: int, now: datetime) -> datetime:
    milliseconds, value = content.get("time_ms"), content.get("timestamp")
    try:
        if milliseconds is not None:
            return from_epoch_milliseconds(int(_number(milliseconds)))
        return now if value == "" else _instant(value)
    except (ValueError, OverflowError, OSError):
        raise _wrong("the body must have `time_ms` or a readable `timestamp`", number) from None


def _number(value: object) -> float:
    if not isinstance(value, int | float | str):
        raise ValueError
    return float(value)


def _instant(value: object) -> datetime:
    try:
        number = _number(value)
    except ValueError:
        return from_iso(str(value))
    return from_epoch(number)


def _moved(line: Line, shift: timedelta) -> Recorded:
    number, content, at = line
    try:
        moved = at + shift
        sent = {**content, "time_ms": to_epoch_milliseconds(moved)}
        sent.pop("timestamp", None)
        return Recorded(number, content["events"], moved, json.dumps(sent, separators=(",", ":")).encode())
    except (OverflowError, RecursionError):
        raise _wrong(
            "the body's time is too far from the last one, or its values are nested too deeply", number
        ) from None


def _is_event(event: object) -> bool:
    if not isinstance(event, Mapping):
        return False
    user = event.get("user_id")
    named = all(isinstance(event.get(name), str) for name in ("name", "channel"))
    return named and (user is None or (isinstance(user, str | int | float) and not isinstance(user, bool)))
