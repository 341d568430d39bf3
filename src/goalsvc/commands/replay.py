"""`goalsvc replay`: recorded webhooks, signed and sent anew.

A recording holds one JSON object a line, with the webhook's body as text in `body`; what else is there (headers, the time
of arrival) is not needed: the headers are made anew, with the configured key and secret.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from goalsvc.clock import to_epoch_milliseconds
from goalsvc.commands.api import Api, ApiRefusedError, CommandError, Target, is_unicode
from goalsvc.commands.clock import now_at
from goalsvc.commands.times import instant_of
from goalsvc.commands.words import counted


@dataclass(frozen=True, slots=True)
class Recorded:
    """One webhook of a recording."""

    line: int
    body: str
    content: dict[str, Any]
    at: datetime | None
    """When it was; None where it says nothing but the time of receipt (`"timestamp": ""`)."""

    def body_at(self, shift: timedelta | None) -> bytes:
        """The body with its time moved by so much; without `shift` it is sent as it was recorded, byte for byte."""
        if shift is None or self.at is None:
            return self.body.encode()
        field = "time_ms" if "time_ms" in self.content else "timestamp"
        moved = {**self.content, field: to_epoch_milliseconds(self.at + shift)}
        return json.dumps(moved, ensure_ascii=False, separators=(",", ":")).encode()

    @property
    def told(self) -> str:
        """Its events in a few words."""
        events = [event for event in self.content["events"] if isinstance(event, dict)]
        return ", ".join(f"{event.get('name')} {event.get('channel')}" for event in events) or "no events"


@dataclass(frozen=True, slots=True)
class Answered:
    """How a webhook that was sent anew was answered."""

    line: int
    events: str
    status: int
    problem: str | None = None
    """`code: message` of a refusal."""

    @property
    def told(self) -> str:
        """All of it in one line."""
        return f"line {self.line}: {self.events}: {self.status}{f' {self.problem}' if self.problem else ''}"


def read_recording(lines: Iterable[str], name: str) -> list[Recorded]:
    """The webhooks of a recording; empty lines do not count. Raises CommandError naming the first line that is wrong."""
    recording = []
    try:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                recording.append(_recorded(number, line, f"{name}, line {number}"))
    except UnicodeDecodeError:
        raise CommandError(f"{name} is not a text in UTF-8") from None
    if not recording:
        raise CommandError(f"{name} holds no webhook")
    return recording


def _recorded(number: int, line: str, place: str) -> Recorded:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise CommandError(f"{place}: is not JSON ({error})") from None
    body = entry.get("body") if isinstance(entry, dict) else None
    if not isinstance(body, str):
        raise CommandError(f"{place}: must be an object with the webhook's body as a text in `body`")
    try:
        content = json.loads(body)
        written = body + json.dumps(content, ensure_ascii=False)
    except (ValueError, RecursionError):
        raise CommandError(f"{place}: the body is not JSON") from None
    if not is_unicode(written):
        raise CommandError(f"{place}: the body holds half a character (a surrogate), which is not Unicode text")
    if not isinstance(content, dict) or not isinstance(content.get("events"), list):
        raise CommandError(f"{place}: the body is not a webhook: it must be an object with a list `events`")
    return Recorded(number, body, content, _time_of(content, place))


def _time_of(content: dict[str, object], place: str) -> datetime | None:
    value = content.get("time_ms", content.get("timestamp"))
    if value == "":
        return None
    if value is None or isinstance(value, bool) or not isinstance(value, int | float | str):
        raise CommandError(f"{place}: the body has neither `time_ms` nor `timestamp`")
    try:
        return instant_of(str(value), datetime.now(UTC))
    except CommandError as error:
        raise CommandError(f"{place}: {error.message}") from None


async def replay(
    target: Target, recording: Iterable[Recorded], *, keep_time: bool, tell: Callable[[Answered], None]
) -> None:
    """Sends the webhooks in their order, and tells of each how it was answered.

    Unless `keep_time`, all times are moved by the same distance, so that the last one is now and the intervals stay.
    Raises CommandError when no server answers, and, after the last one, when some were refused.
    """
    webhooks = list(recording)
    times = [webhook.at for webhook in webhooks if webhook.at is not None]
    refused = 0
    async with Api.open(target) as api:
        shift = None if keep_time or not times else await now_at(api) - max(times)
        for webhook in webhooks:
            try:
                await api.notify(webhook.body_at(shift))
                answer = Answered(webhook.line, webhook.told, 200)
            except ApiRefusedError as error:
                refused += 1
                answer = Answered(webhook.line, webhook.told, error.status, f"{error.code}: {error.message}")
            tell(answer)
    if refused:
        raise CommandError(f"{refused} of {counted(len(webhooks), 'webhook')} refused")
