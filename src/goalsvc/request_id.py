"""The id of the request that is being answered: in every problem, log line and trace root of it."""

import logging
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


class WithRequestId(logging.Filter):
    """Adds the id of the request to each log record, as `request_id`; empty outside of a request."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Adds it, and keeps the record."""
        record.request_id = CURRENT.get()
        return True
