"""Breakers: while an outside service does not work, calls of it fail at once, and one at a time probes it."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from types import TracebackType
from typing import Literal

from prometheus_client import Gauge, Histogram

from goalsvc.clock import Clock, SystemClock
from goalsvc.errors import ServiceDownError

log = logging.getLogger(__name__)

OUTBOUND = Histogram(
    "goalsvc_outbound_duration_seconds",
    "Calls of outside services and how they ended: ok, refused (this call), down (the service), cancelled.",
    ["service", "outcome"],
)
UP = Gauge(
    "goalsvc_service_up",
    "1 while calls of an outside service are made, 0 while they fail at once.",
    ["service"],
    multiprocess_mode="livemin",
)

#: A service is down after this many failures in a row.
FAILURES = 3
#: How long it is left alone before a call probes it: at first, and at most.
FIRST_REST_SECONDS, LONGEST_REST_SECONDS = 1.0, 5.0
#: A call that its caller gave up after this time counts as a failure of the service.
_GIVEN_UP_SECONDS = 1.0


#: The states of a service, the worst first.
State = Literal["down", "failing", "works", "unused"]
STATES: Sequence[State] = ("down", "failing", "works", "unused")
#: The reason of a failure is cut to this many characters.
_LONGEST_REASON = 200


@dataclass(frozen=True, slots=True)
class ServiceState:
    """How one service has answered one process."""

    service: str
    state: State
    """`unused` (no call has ended yet), `works`, `failing` (the last calls failed) or `down` (calls fail at once)."""
    failures: int
    """How many calls failed in a row."""
    down_since: datetime | None = None
    last_failed_at: datetime | None = None
    last_failure: str | None = None


class Breaker:
    """The state of one service in this process. `with breaker:` around each call."""

    def __init__(self, service: str, now: Callable[[], float] = monotonic, clock: Clock | None = None) -> None:
        self.service = service
        self._clock = clock or SystemClock()
        self._used = False
        self._down_at: datetime | None = None
        self._last_failed_at: datetime | None = None
        self._last_failure: str | None = None
        self._kind = service.partition(" ")[0]  # a host of streams is no label of a metric
        self._now = now
        self._failures = 0
        self._down_since: float | None = None
        self._rest_seconds = FIRST_REST_SECONDS
        self._probe_at = 0.0
        self._probing = False
        UP.labels(self._kind).set(1)

    @property
    def is_down(self) -> bool:
        """Whether calls fail at once."""
        return self._down_since is not None

    @property
    def state(self) -> ServiceState:
        """How the service has answered this process so far."""
        state: State = "failing" if self._failures else "works" if self._used else "unused"
        return ServiceState(
            self.service,
            "down" if self.is_down else state,
            self._failures,
            self._down_at,
            self._last_failed_at,
            self._last_failure,
        )

    def calls_now(self, most: int) -> int:
        """Returns how many of `most` calls make sense at this moment: all, one that probes, or none."""
        if not self.is_down:
            return most
        return 0 if self._probing or self._now() < self._probe_at else min(1, most)

    def call(self) -> "_Call":
        """Returns a context for one call. Entering it raises ServiceDownError while the service is down.

        ServiceDownError raised inside counts against the service; any other end shows that it works.
        """
        return _Call(self)

    def begin(self) -> None:
        """Notes that a call begins. Raises ServiceDownError when none is to be made now."""
        if not self.is_down:
            return
        wait = self._probe_at - self._now()
        if self._probing or wait > 0:
            rest = max(wait, FIRST_REST_SECONDS)
            raise ServiceDownError(self.service, "does not work at the moment", rest, probed=self._probing)
        self._probing = True

    def end(self, seconds: float, error: BaseException | None) -> None:
        """Notes how a call ended."""
        self._probing = False
        if isinstance(error, asyncio.CancelledError) and seconds < _GIVEN_UP_SECONDS:
            OUTBOUND.labels(self._kind, "cancelled").observe(seconds)
            return
        self._used = True
        if isinstance(error, ServiceDownError | asyncio.CancelledError):
            OUTBOUND.labels(self._kind, "down").observe(seconds)
            self._failed(error)
            return
        OUTBOUND.labels(self._kind, "ok" if error is None else "refused").observe(seconds)
        self._failures, self._rest_seconds = 0, FIRST_REST_SECONDS
        if self._down_since is not None:
            log.warning("%s works again, after %.0f s", self.service, self._now() - self._down_since)
            self._down_since = self._down_at = None
            UP.labels(self._kind).set(1)

    def _failed(self, error: BaseException) -> None:
        self._failures += 1
        self._last_failed_at = self._clock.now()
        reason = str(error) or f"no answer within {_GIVEN_UP_SECONDS:g} s"
        self._last_failure = reason[:_LONGEST_REASON]
        if self._failures < FAILURES:
            return
        self._probe_at = self._now() + self._rest_seconds
        self._rest_seconds = min(self._rest_seconds * 2, LONGEST_REST_SECONDS)
        if self._down_since is None:
            self._down_since, self._down_at = self._now(), self._clock.now()
            UP.labels(self._kind).set(0)
            log.warning(
                "%s does not work: calls fail at once and their work waits until it does (%s)", self.service, reason
            )


class _Call:
    """One call of a service."""

    def __init__(self, breaker: Breaker) -> None:
        self._breaker = breaker
        self._begun = 0.0

    def __enter__(self) -> None:
        self._breaker.begin()
        self._begun = monotonic()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._breaker.end(monotonic() - self._begun, error)


@dataclass(slots=True)
class Measured:
    """A call that is measured, and how it ended: `ok`, `refused`, `down`, or `cancelled` until that is known."""

    outcome: str = "cancelled"


@contextmanager
def measured(service: str) -> Iterator[Measured]:
    """Measures a call of a service that has no breaker, with the outcome that is set inside."""
    call, begun = Measured(), monotonic()
    try:
        yield call
    finally:
        OUTBOUND.labels(service, call.outcome).observe(monotonic() - begun)


class Breakers:
    """The breakers of one process, by service."""

    #: A host of a stream is a service, too; a process does not keep more of them than this.
    _MOST = 1000

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock
        self._breakers: dict[str, Breaker] = {}

    def states(self, most: int = 30) -> list[ServiceState]:
        """Returns at most so many of their states: those that do not work first, then by name."""
        found = [breaker.state for breaker in self._breakers.values()]
        return sorted(found, key=lambda one: (STATES.index(one.state), one.service))[:most]

    def of(self, service: str) -> Breaker:
        """Returns the breaker of that service."""
        breaker = self._breakers.get(service)
        if breaker is None:
            if len(self._breakers) >= self._MOST:
                self._breakers.pop(next(iter(self._breakers)))
            breaker = self._breakers[service] = Breaker(service, clock=self._clock)
        return breaker
