"""`goalsvc clock`: the test clock of `goalsvc dev`, read and advanced."""

import re
from datetime import UTC, datetime
from math import isfinite

from goalsvc.commands.api import Api, ApiRefusedError, CommandError, Target
from goalsvc.domain.documents import Json

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhd]?)")


def seconds_of(text: str) -> float:
    """Returns the seconds of a duration such as `90`, `90s`, `5m`, `1h` or `1h30m`. Raises CommandError for other text."""
    seconds, position = 0.0, 0
    for part in _DURATION.finditer(text):
        if part.start() != position:
            break
        seconds += float(part[1]) * _UNITS[part[2] or "s"]
        position = part.end()
    if not text or position != len(text) or not isfinite(seconds):
        raise CommandError(f"{text!r} is not a duration: write seconds, or units as in 90s, 5m, 1h, 1h30m, 2d")
    return seconds


async def now_at(api: Api) -> datetime:
    """Returns the present instant as the API knows it: by its test clock, where it has one, else by this machine's."""
    try:
        return datetime.fromisoformat((await api.get("/v1/test-clock"))["now"])
    except ApiRefusedError:
        return datetime.now(UTC)


async def read_clock(target: Target) -> Json:
    """Returns the test clock as the API shows it."""
    async with Api.open(target) as api:
        clock: Json = await api.get("/v1/test-clock")
        return clock


async def advance_clock(target: Target, duration: str) -> dict[str, object]:
    """Advances the test clock by a duration; returns it as the API then shows it."""
    seconds = seconds_of(duration)
    async with Api.open(target) as api:
        clock: dict[str, object] = await api.post("/v1/test-clock/advance", {"seconds": seconds})
        return clock
