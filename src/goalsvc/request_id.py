"""The id of the request that is being answered: in every problem, log line and trace root of it."""

import re
import secrets
from contextvars import ContextVar

HEADER = "X-Request-ID"
#: A request id that a caller may choose.
ACCEPTED = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")

CURRENT: ContextVar[str] = ContextVar("goalsvc_request_id", default="")


def accepted_or_new(given: str | None) -> str:
    """The caller's own id if it is one, else a new one."""
    return given if given is not None and ACCEPTED.fullmatch(given) else new_id()


def new_id() -> str:
    """A request id that no other request has."""
    return f"req_{secrets.token_hex(12)}"
