"""The id of the request that is being answered: in every problem, log line and trace root of it."""

import re
import secrets
from contextvars import ContextVar
from datetime import UTC, datetime
from time import time

HEADER = "X-Request-ID"
#: A request id that a caller may choose.
ACCEPTED = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
_OWN = re.compile(r"req_([0-9a-f]{8})[0-9a-f]{16}")

CURRENT: ContextVar[str] = ContextVar("goalsvc_request_id", default="")


def accepted_or_new(given: str | None) -> str:
    """The caller's own id if it is one, else a new one."""
    return given if given is not None and ACCEPTED.fullmatch(given) else new_id()


def new_id() -> str:
    """A request id that no other request has. It says when it was made, so that its trace is found without an index."""
    return f"req_{int(time()):08x}{secrets.token_hex(8)}"


def made_at(own_id: str) -> datetime | None:
    """The second in which that request id was made; None for an id that a caller chose."""
    parts = _OWN.fullmatch(own_id)
    return datetime.fromtimestamp(int(parts[1], 16), UTC) if parts is not None else None
