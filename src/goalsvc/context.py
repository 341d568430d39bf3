"""What a receiver, a task and an endpoint may use of the outside world, as interfaces.

`goalsvc.wiring` makes the real ones; tests hand in their own. Receivers and endpoints have a `Context`, tasks a
`WorkerContext`. The documents themselves are not here: Beanie binds them to the database when the context is opened.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import Protocol, Self, TypeVar

from goalsvc.clock import Clock
from goalsvc.database_session import DatabaseSession
from goalsvc.domain.clips import Clip
from goalsvc.domain.events import Event
from goalsvc.domain.funding import Contributed, Contribution
from goalsvc.domain.lanes import Lane
from goalsvc.domain.moves import Move, Moved
from goalsvc.domain.orders import Order, Posted
from goalsvc.domain.origin import NOWHERE, Origin
from goalsvc.domain.outcome import Reason, Report
from goalsvc.domain.promises import Job, PromiseRef
from goalsvc.errors import GoalsvcError
from goalsvc.settings import Settings

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Telling:
    """One event for the clients in one channel."""

    channel: str
    event: str
    data: Mapping[str, object]


class Notifier(Protocol):
    """Tells clients something, through Pusher."""

    async def trigger(self, channels: Sequence[str], event: str, data: Mapping[str, object]) -> None:
        """Hands one event to Pusher for at most 100 channels, in one call.

        Raises NoticeTooLargeError when the encoded data is over 10 KB (bytes, not characters), and ExternalServiceError
        when Pusher refuses, fails or does not answer in time: the caller may try again.
        """
        ...

    async def trigger_each(self, tellings: Sequence[Telling]) -> Mapping[int, GoalsvcError]:
        """Hands over many events, several in a call and some calls side by side, in no order.

        Returns why an event was refused, by its place: a name or data that Pusher never takes. Raises ExternalServiceError
        when Pusher fails: then some have been handed over.
        """
        ...

    async def users_in(self, channel: str) -> list[str]:
        """Ids of the users that are in a presence channel at this moment. Raises ExternalServiceError."""
        ...

    async def occupied(self, prefix: str) -> Mapping[str, int] | None:
        """Returns how many users are in each occupied channel with that prefix; None where the server does not count them.

        Raises ExternalServiceError.
        """
        ...


class ObjectStore(Protocol):
    """Keeps files (S3)."""

    async def upload(self, key: str, path: Path, content_type: str) -> None:
        """Streams the file at `path` to the quarantine bucket under `key`; the same key again replaces it.

        Raises ExternalServiceError.
        """
        ...

    async def link(self, key: str, seconds: int) -> str:
        """A signed address from which the file can be fetched for so long. Raises ExternalServiceError."""
        ...


class RtcControl(Protocol):
    """Starts and stops cloud recordings (BytePlus RTC). All of these can be repeated: already done is success."""

    async def start_record(self, room_id: str, task_id: str) -> None:
        """Starts to record the room. Raises ExternalServiceError."""
        ...

    async def stop_record(self, room_id: str, task_id: str) -> None:
        """Stops that recording. Raises ExternalServiceError."""
        ...

    async def start_snapshot(self, room_id: str, task_id: str) -> None:
        """Starts to take snapshots of the room. Raises ExternalServiceError."""
        ...


class ClipCutter(Protocol):
    """Cuts seconds out of a running livestream."""

    def cut(
        self, hls_url: str, begins_at: datetime, duration_seconds: float, *, latest_begin: datetime | None = None
    ) -> AbstractAsyncContextManager[Clip]:
        """Yields a playable mp4 (H.264/AAC, fast start) of the stream's seconds from `begins_at` on; deleted on leaving.

        Where the stream's window begins later, the clip does too, if that is before `latest_begin`. Waits for seconds to
        come. Raises NotYetError when it is better to come back later, ClipImpossibleError when the seconds cannot be had,
        ExternalServiceError when the origin fails.
        """
        ...


class Cache(Protocol):
    """Keeps views that are asked for often, in Redis; what it keeps is read by the API alone."""

    async def drop(self, names: Sequence[str]) -> None:
        """Forgets these views, and makes sure that a reader who computed one from older data cannot put it back.

        Never raises, and never waits long: where Redis does not answer, the views end by themselves within seconds. A
        payout must not wait for a cache.
        """
        ...


class Queue(Protocol):
    """Takes jobs for the workers. Only a hint: what must happen is promised in a document."""

    def enqueue(self, job: Job) -> None:
        """Takes the job; it is written to Redis very soon, together with others. Never raises, never waits."""
        ...

    async def flush(self) -> None:
        """Waits until each job taken so far has been written to Redis, or its write has failed."""
        ...

    async def offer(self, lane: Lane, jobs: Sequence[Job]) -> bool:
        """Writes these jobs of that lane now. False when Redis does not answer or is full, or the lane has enough jobs."""
        ...

    async def swept_until(self, lane: Lane) -> datetime | None:
        """Until when all due promises of that lane have been offered; None when all are to be looked at."""
        ...

    async def note_swept(self, lane: Lane, until: datetime, whole_again_seconds: float | None) -> None:
        """Notes that all due promises of that lane until then have been offered.

        After a look at all of them, `whole_again_seconds` says after how long all are to be looked at again.
        """
        ...


class Events(Protocol):
    """Writes events for the platform's backend (`goalsvc.models.event_log.EventLog`)."""

    async def write(self, events: Sequence[Event], session: DatabaseSession | None = None) -> None:
        """Writes events that are not written yet; in the transaction of `session`, or by itself: then they are durable."""
        ...


class Ledger(Protocol):
    """Moves tokens between accounts (`goalsvc.models.ledger.Ledger`)."""

    async def post(
        self, order: Order, now: datetime, also: Callable[[DatabaseSession], Awaitable[None]] | None = None
    ) -> tuple[Posted, bool]:
        """Makes the transfer, once, together with what `also(session)` does; the transfer, and whether it is new."""
        ...

    async def transaction(self, work: Callable[[DatabaseSession], Awaitable[T]]) -> T:
        """Runs `work(session)` in a transaction: all of it happens, or nothing."""
        ...


class Contributions(Protocol):
    """Makes contributions to FundingGoals (`goalsvc.models.contributions.Contributions`)."""

    async def make(self, contribution: Contribution, origin: Origin) -> Contributed:
        """Makes the contribution, once for each transfer id; what became of it."""
        ...


class Pace(Protocol):
    """Limits how often clients are told one goal's progress (`goalsvc.integrations.pace.NoticePace`)."""

    async def claim(self, goal_id: str, slot: int, progress: int, *, shared: bool) -> bool:
        """Claims a slot of time for a notice of this progress; False when the slot is taken.

        Never raises. Waits for Redis for a fraction of a second at most.
        """
        ...

    def sent(self, goal_id: str) -> int:
        """The highest progress of which this process has sent a notice, as far as it remembers; else -1."""
        ...

    def end(self, goal_id: str, progress: int, *, sent: bool) -> None:
        """Ends what `claim` began. Only what was really sent counts as sent."""
        ...


class Clocks(Protocol):
    """Moves the clocks of goals (`goalsvc.models.clocks.GoalClocks`)."""

    async def move(self, move: Move) -> Moved | Reason:
        """Starts or pauses a goal's clock; what that did, or why the goal is not moved by it."""
        ...


class Bus(Protocol):
    """Carries signals to receivers."""

    def send(self, context: "Context", event: object) -> Awaitable[Report]:
        """Calls every receiver of this event side by side and reports each outcome. Never raises for a receiver."""
        ...


class Recorder(Protocol):
    """Takes traces and tracking events, which are written in bulk while their webhook or job goes on."""

    def trace(self, segment: Mapping[str, object]) -> None:
        """Takes one piece of a trace."""
        ...

    def track(self, event: Mapping[str, object]) -> None:
        """Takes one tracking event; the same `_id` twice is kept once."""
        ...

    async def flush(self) -> None:
        """Waits until all that was taken has been written."""
        ...


@dataclass(frozen=True, kw_only=True)
class Context:
    """The outside world, handed to every receiver and endpoint, and where in the trace the holder is."""

    settings: Settings
    clock: Clock
    bus: Bus
    queue: Queue
    recorder: Recorder
    notifier: Notifier
    cache: Cache
    ledger: Ledger
    contributions: Contributions
    pace: Pace
    clocks: Clocks
    events: Events
    origin: Origin = NOWHERE
    """The place in the trace of the receiver, task or call that holds this context, and the cause of what it does."""

    promise: PromiseRef | None = None
    """The promise on whose behalf the task runs that holds this context; None outside of a job."""

    refs: dict[str, str | int | Sequence[str]] = field(default_factory=dict)
    """What the holder of this context has noted (`note`); it becomes part of the holder's node in the trace."""

    def note(self, **refs: str | int | Sequence[str]) -> None:
        """Notes ids that were touched (goal, session, transfer, asset, notice, …), or amounts, for the trace."""
        self.refs.update(refs)

    def within(self, origin: Origin, promise: PromiseRef | None = None) -> Self:
        """The same context at another place; made for every receiver and task, so without `dataclasses.replace`."""
        inner = object.__new__(type(self))
        inner.__dict__.update(self.__dict__, origin=origin, refs={})
        if promise is not None:
            inner.__dict__["promise"] = promise
        return inner


@dataclass(frozen=True, kw_only=True)
class WorkerContext(Context):
    """What a task may use: all of a Context, and the services that workers alone call."""

    store: ObjectStore
    rtc: RtcControl
    cutter: ClipCutter

    @classmethod
    def of(cls, context: Context, store: ObjectStore, rtc: RtcControl, cutter: ClipCutter) -> Self:
        """Returns that context with the services that workers call."""
        shared = {each.name: getattr(context, each.name) for each in fields(Context)}
        return cls(store=store, rtc=rtc, cutter=cutter, **shared)
