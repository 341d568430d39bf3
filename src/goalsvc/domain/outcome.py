"""What a receiver or a task answers, and the report that the bus makes of all answers to one signal."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum, StrEnum
from typing import Any

from goalsvc.domain.events import Event


class Reason(StrEnum):
    """Why a receiver or a task had nothing to do. A skip is not an error, and "already done" is a skip."""

    # whose business it is
    OTHER_GOAL_KIND = "other_goal_kind"
    NOT_A_GOAL_CHANNEL = "not_a_goal_channel"
    NOT_A_STREAM_CHANNEL = "not_a_stream_channel"
    NOT_A_USER_CHANNEL = "not_a_user_channel"
    NO_USER = "no_user"
    NOT_PRIVATE = "not_private"
    # what is missing
    UNKNOWN_GOAL = "unknown_goal"
    UNKNOWN_SESSION = "unknown_session"
    UNKNOWN_USER = "unknown_user"
    UNKNOWN_ASSET = "unknown_asset"
    NO_SESSION = "no_session"
    NO_ROOM = "no_room"
    NO_SOURCE = "no_source"
    SWITCHED_OFF = "switched_off"
    NO_FUNDING = "no_funding"
    NO_SHOW = "no_show"
    NO_EXCLUSIVE = "no_exclusive"
    NO_VIEWER = "no_viewer"
    NO_SESSION_PAIR = "no_session_pair"
    NOTHING_HELD = "nothing_held"
    UNKNOWN_EVENT = "unknown_event"
    UNKNOWN_CHANNEL = "unknown_channel"
    # the clock
    NOT_A_PARTICIPANT = "not_a_participant"
    ALREADY_RUNNING = "already_running"
    NOT_RUNNING = "not_running"
    RESUMED = "resumed"
    # progress and ends
    GOAL_INACTIVE = "goal_inactive"
    ALREADY_COUNTED = "already_counted"
    NO_NEW_LEVEL = "no_new_level"
    NOT_THE_LAST_LEVEL = "not_the_last_level"
    TARGET_REACHED = "target_reached"
    TARGET_NOT_REACHED = "target_not_reached"
    SETTLED_AT_THE_END = "settled_at_the_end"
    NOT_TIMED = "not_timed"
    NOT_PERFORMED = "not_performed"
    NOT_AGREED = "not_agreed"
    COMPLETED_SHOW = "completed_show"
    CLIPS_BANNED = "clips_banned"
    # repeats
    ALREADY_DONE = "already_done"
    ALREADY_PAID = "already_paid"
    ALREADY_STORED = "already_stored"
    OVERTAKEN = "overtaken"
    TOLD_BY_SHARE = "told_by_share"
    TOLD_AT_THE_END = "told_at_the_end"
    NOT_PROMISED = "not_promised"


@dataclass(frozen=True, slots=True)
class FollowUp:
    """A task that must be run because of what a receiver or a task did; it becomes a promise in a document."""

    id: str
    task: str
    arguments: Mapping[str, Any]
    due_at: datetime | None = None
    progress: int | None = None
    """What a promise noted before its task was given up (`Promise.progress`), when that task is owed once more."""

    def called(self, promise_id: str) -> "FollowUp":
        """The same follow_up under an id of its own; as a rule a task's name is enough, since a goal owes it once."""
        return replace(self, id=promise_id)

    def not_before(self, instant: datetime) -> "FollowUp":
        """The same follow_up, due only then."""
        return replace(self, due_at=instant)


class Fulfils(Enum):
    """Which promise a finished task fulfils."""

    OWN = "own"
    """The one for which it was run."""
    NONE_YET = "none_yet"
    """None: the promise stays until other jobs have done their part."""


@dataclass(frozen=True, slots=True)
class Done:
    """The work is done; `follow_ups` is what must follow, `reports` what was announced meanwhile.

    `fulfils` says which promise this fulfils; a text is the id of another promise of the same document. `then` are steps of
    a chain (`Task.step`) to be run next.
    """

    what: str = ""
    follow_ups: tuple[FollowUp, ...] = ()
    reports: "tuple[Report, ...]" = ()
    fulfils: Fulfils | str = Fulfils.OWN
    then: tuple[Mapping[str, object], ...] = ()
    events: tuple[Event, ...] = ()
    """What is told to the platform's backend besides the signals that were sent; written before the promise is fulfilled."""


@dataclass(frozen=True, slots=True)
class Returned:
    """It was not our business, or there was nothing left to do."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Failed:
    """It raised. Only the bus and the task runner make this."""

    error: str


Outcome = Done | Returned
Answer = Done | Returned | Failed


@dataclass(frozen=True, slots=True)
class ReceiverReport:
    """One receiver's answer to one signal."""

    receiver: str
    answer: Answer
    at: datetime
    milliseconds: float
    refs: Mapping[str, str | int | Sequence[str]] = field(default_factory=dict)
    """The ids that it touched, and amounts."""


@dataclass(frozen=True, slots=True)
class Report:
    """What became of one signal: every receiver with its answer."""

    signal: str
    sender: str
    at: datetime
    milliseconds: float
    receivers: tuple[ReceiverReport, ...] = field(default=())
    event: object = None
    """What was sent."""

    @property
    def failures(self) -> tuple[str, ...]:
        """`receiver: error` of each receiver that failed, also of signals that receivers sent in their turn."""
        return tuple(self._failures())

    def _failures(self) -> Iterator[str]:
        for receiver in self.receivers:
            if isinstance(receiver.answer, Failed):
                yield f"{receiver.receiver}: {receiver.answer.error}"
            elif isinstance(receiver.answer, Done):
                for report in receiver.answer.reports:
                    yield from report._failures()
