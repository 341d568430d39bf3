"""When a call is made again, and after how long."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import httpx

#: Answers after which a call may be made again: too many calls, or something between is not well.
_AGAIN: Final = frozenset({429, 502, 503, 504})
IDEMPOTENCY_KEY: Final = "Idempotency-Key"


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Back-off with full jitter: before try n+1 the client waits a random time up to `first_seconds` × 2ⁿ⁻¹."""

    tries: int = 6
    """How often a call is made at most."""
    first_seconds: float = 0.2
    longest_seconds: float = 5.0
    """No wait is longer, whatever `Retry-After` says."""
    deadline_seconds: float = 30.0
    """After this time since the first try no further one is begun."""

    def wait_before(self, tried: int, answer: httpx.Response | None) -> float:
        """How many seconds to wait after that many tries; `answer` may say how many at least (`Retry-After`)."""
        ceiling = min(self.first_seconds * 2 ** (tried - 1), self.longest_seconds)
        least = 0.0 if answer is None else _seconds(answer.headers.get("retry-after"))
        jitter = random.uniform(0, ceiling)  # noqa: S311 - spreads callers, not a secret
        return min(max(jitter, least), self.longest_seconds)


def may_repeat(method: str, headers: Mapping[str, str]) -> bool:
    """Whether a call has the same effect when it is made twice: a read, or one with an Idempotency-Key."""
    return method.upper() in ("GET", "HEAD") or IDEMPOTENCY_KEY in headers


def asks_for_another_try(answer: httpx.Response) -> bool:
    """Whether this answer says that the call may succeed later."""
    return answer.status_code in _AGAIN


def _seconds(text: str | None) -> float:
    return float(text) if text is not None and text.isascii() and text.isdecimal() else 0.0
