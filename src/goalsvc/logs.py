"""Logs: one line for each record, as text or as JSON, with what it is about.

The doors (a request, a webhook's event, a job, a periodic task) say what they are about. Every record that is logged behind
them has these fields, those of libraries too.
"""

import logging
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar, Token
from time import monotonic
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

from goalsvc import request_id

#: What a record may be about, in the order in which it is shown.
FIELDS = ("request_id", "key", "goal_id", "job_id", "task", "trace_id")

#: Loggers of libraries that bring handlers of their own.
_LIBRARIES = ("uvicorn", "uvicorn.error", "uvicorn.access", "arq")
#: Libraries whose lines of level INFO say nothing, or show whole addresses.
_QUIET = ("arq", "httpx", "httpcore")
#: A shorter secret is not looked for in lines: it may be any word.
_SHORTEST_SECRET = 6
_HIDDEN = "***"
#: At most one line per kind in this time says that something was refused.
QUIET_SECONDS = 60.0

_ABOUT: ContextVar[Mapping[str, str | None]] = ContextVar("goalsvc_log_fields", default={})  # noqa: B039 - never changed


class Logged(Protocol):
    """The settings that decide how logs look (`goalsvc.settings.Settings`)."""

    @property
    def log_level(self) -> str:
        """The least level that is logged."""
        ...

    @property
    def log_format(self) -> str:
        """`text` or `json`."""
        ...


class About:
    """While it is entered, what is logged in this context is about these things; fields without a value are left out."""

    __slots__ = ("_fields", "_token")

    def __init__(self, **fields: str | None) -> None:
        self._fields = fields
        self._token: Token[Mapping[str, str | None]] | None = None

    def stay(self) -> None:
        """Enters it for the rest of this context: of an asyncio task that does nothing else."""
        self.__enter__()

    def __enter__(self) -> None:
        known: Mapping[str, str | None] = _ABOUT.get()
        if known:  # rarely: each event of a webhook comes by here, and most enter nothing else
            known = {**known, **{name: value for name, value in self._fields.items() if value}}
        self._token = _ABOUT.set(known or self._fields)

    def __exit__(self, *_: object) -> None:
        if self._token is not None:
            # A coroutine that is thrown away is closed from elsewhere: its own context has ended with it.
            with suppress(ValueError):
                _ABOUT.reset(self._token)


def fields() -> dict[str, str]:
    """Returns what a record that is logged now is about, in the order of `FIELDS`."""
    known = {"request_id": request_id.CURRENT.get(), **_ABOUT.get()}
    return {name: value for name in FIELDS if (value := known.get(name))}


class Throttle:
    """Counts what happens often, and says when a line about it is due: one for each kind in `QUIET_SECONDS`."""

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        self._now = now
        self._counts: Tally[str] = Tally()
        self._quiet_until: dict[str, float] = {}

    def add(self, kind: str) -> int:
        """Counts one of that kind. Returns how many there were since the last line, if one is due now; else 0."""
        self._counts[kind] += 1
        now = self._now()
        if now < self._quiet_until.get(kind, 0.0):
            return 0
        self._quiet_until[kind] = now + QUIET_SECONDS
        return self._counts.pop(kind)


def configure(settings: Logged) -> None:
    """Sends the logs of this process to standard error, in the format of the settings. May be called more than once."""
    handler = OwnHandler(hidden=_secrets_of(settings))
    handler.setFormatter(_json_formatter() if settings.log_format == "json" else TextFormatter())
    root = logging.getLogger()
    for earlier in [one for one in root.handlers if isinstance(one, OwnHandler)]:
        root.removeHandler(earlier)
    root.addHandler(handler)
    root.setLevel(settings.log_level)
    logging.captureWarnings(settings.log_format == "json")
    for name in _LIBRARIES:
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


class OwnHandler(logging.StreamHandler[Any]):
    """Writes lines to standard error; in none of them is one of the hidden texts."""

    def __init__(self, *, hidden: Sequence[str] = ()) -> None:
        super().__init__()
        self._hidden = hidden

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line of a record."""
        line = super().format(record)
        for text in self._hidden:
            if text in line:
                line = line.replace(text, _HIDDEN)
        return line


class TextFormatter(logging.Formatter):
    """`2026-01-01 12:00:00,000 LEVEL logger: message [name=value …]`; a traceback follows on lines of its own."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s%(about)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the library's name
        """Returns the line without the traceback."""
        about = " ".join(f"{name}={value}" for name, value in fields().items())
        record.about = f" [{about}]" if about else ""
        return super().formatMessage(record)


def _json_formatter() -> logging.Formatter:
    from pythonjsonlogger.json import JsonFormatter

    class OneObject(JsonFormatter):
        """One JSON object on one line; the traceback is its field `exception`."""

        def process_log_record(self, log_data: dict[str, object]) -> dict[str, object]:
            return super().process_log_record(log_data | fields())

    names = {"levelname": "level", "name": "logger", "exc_info": "exception", "stack_info": "stack"}
    return OneObject(["levelname", "name", "message"], timestamp="time", rename_fields=names)


def _secrets_of(settings: Logged) -> list[str]:
    """Returns every text that must not be in a line, the longest first: one may be part of another."""
    values = vars(settings)
    found = {text for value in values.values() for text in _texts_of(value)}
    for name in ("mongodb_url", "redis_url"):
        if password := _password_of(str(values.get(name, ""))):
            found |= {password, unquote(password)}
    return sorted((text for text in found if len(text) >= _SHORTEST_SECRET), key=len, reverse=True)


def _texts_of(value: object) -> Iterable[str]:
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, dict):
        for each in value.values():
            yield from _texts_of(each)


def _password_of(url: str) -> str | None:
    try:
        return urlsplit(url).password
    except ValueError:
        return None
