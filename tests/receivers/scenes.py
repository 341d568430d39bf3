"""One scene for each goal kind: a session, the goal in it, the money behind it, and the events that tell of the goal."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, TypeVar

from bson import ObjectId

from goalsvc.domain.channels import Channel
from goalsvc.domain.escrow import escrow_account
from goalsvc.domain.goals import PERFORMED, ClockTimes, Conditions, GoalKind, Level, Metadata, ShowPlan
from goalsvc.domain.outcome import Report
from goalsvc.models.goal import KINDS, Goal
from goalsvc.models.session import ExclusivePair, Rtc, Session, ShowPair, Statuses, ViewerWindow
from goalsvc.models.user import Byteplus, User
from goalsvc.models.wallet import Account, Earning
from goalsvc.signals import events
from goalsvc.signals.events import (
    ChannelOccupied,
    ChannelVacated,
    EscrowCompleted,
    EscrowEvent,
    EscrowRefunded,
    EscrowShareCompleted,
    EscrowShareRefunded,
    GoalEvent,
    PresenceEvent,
)

from .fakes import NOW, Stage

E = TypeVar("E", bound=GoalEvent)

STREAMER = "u-alice-1"
VIEWER = "u-bob-2"
STRANGER = "u-carol-3"

SESSION = ObjectId("6955d0000000000000000001")
GOAL = ObjectId("6955d0000000000000000002")
#: What funded the show, where the goal of the scene is a ShowGoal.
FUNDING = ObjectId("6955d0000000000000000003")
#: The one earning of a scene in which viewers have contributed.
EARNING = ObjectId("6955d0000000000000000004")

BEGAN = NOW - timedelta(minutes=30)
STARTED = NOW - timedelta(seconds=500)
PAUSED = NOW - timedelta(seconds=100)
HELD = 300

CHANNEL = f"presence-enc-goal@{GOAL}"


class Run(StrEnum):
    """How a goal's life goes."""

    REACHED = "reached"
    """It is performed (or funded) to its target; a request is agreed to."""
    SHORT = "short"
    """It stops below its target; a request is declined."""
    LOWER_LEVEL = "lower level"
    """It reaches a level that is not its last."""
    UNTIMED = "untimed"
    """An exclusive without levels, performed for a while."""


_TARGET = {GoalKind.FUNDING: 1000, GoalKind.SHOW: 360, GoalKind.KARAOKE: 180, GoalKind.EXCLUSIVE: 360}


def conditions(kind: GoalKind) -> Conditions:
    return Conditions(session_id=SESSION, exclusive_to=VIEWER if kind is GoalKind.EXCLUSIVE else None)


def metadata(kind: GoalKind) -> Metadata:
    match kind:
        case GoalKind.FUNDING:
            return Metadata(user_id=STREAMER, show=ShowPlan(title="Ukulele medley", target=360))
        case GoalKind.TRIGGER:
            plan = ShowPlan(title="A private minute", target=360)
            return Metadata(user_id=STREAMER, viewer_id=VIEWER, private=True, price=HELD, exclusive=plan)
        case GoalKind.EXCLUSIVE:
            return Metadata(user_id=STREAMER, viewer_id=VIEWER)
        case _:
            return Metadata(user_id=STREAMER)


def levels(kind: GoalKind, run: Run = Run.REACHED) -> tuple[Level, ...]:
    """A request has no levels; every other goal one, and two in the run that reaches a lower one."""
    if kind is GoalKind.TRIGGER or run is Run.UNTIMED:
        return ()
    last = Level(title=f"A {kind}", target=_TARGET[kind])
    return (Level(title="Half of it", target=_TARGET[kind] // 2), last) if run is Run.LOWER_LEVEL else (last,)


def progress(kind: GoalKind, run: Run) -> int:
    if kind is GoalKind.TRIGGER:
        return 0
    target = _TARGET[kind]
    return {Run.REACHED: target, Run.SHORT: target // 3, Run.LOWER_LEVEL: target // 2, Run.UNTIMED: target // 4}[run]


def clock_times(kind: GoalKind, *, running: bool = False) -> ClockTimes:
    if kind not in PERFORMED:
        return ClockTimes()
    return ClockTimes(started=STARTED, paused=None if running else PAUSED, last_updated=STARTED if running else PAUSED)


def escrow_of(kind: GoalKind) -> str:
    """The escrow behind a goal of that kind. None is ever made for a KaraokeGoal: its cell stands for "whoever asks"."""
    match kind:
        case GoalKind.SHOW:
            return f"show_funding:{FUNDING}"
        case GoalKind.EXCLUSIVE:
            return f"exclusive:{GOAL}"
        case GoalKind.TRIGGER:
            return f"trigger:{GOAL}"
        case _:
            return f"show_funding:{GOAL}"


# -- what is stored ---------------------------------------------------------------------------------------------------


async def set_up(kind: GoalKind, run: Run = Run.REACHED, *, running: bool = False) -> Goal:
    """Stores the streamer, the session, the goal of that kind, and what is in escrow for it."""
    await User(
        id=STREAMER, username="Alice", tags=["verified"], byteplus=Byteplus(hls_url="https://live.example/a.m3u8")
    ).insert()
    await a_session(kind)
    await a_deposit(kind)
    return await a_goal(kind, run, running=running)


async def a_goal(kind: GoalKind, run: Run = Run.REACHED, *, running: bool = False, **changes: Any) -> Goal:
    fields: dict[str, Any] = {
        "id": GOAL,
        "levels": list(levels(kind, run)),
        "conditions": conditions(kind),
        "context": clock_times(kind, running=running),
        "metadata": metadata(kind),
        "progress": 0 if running else progress(kind, run),
    }
    goal = KINDS[kind](**fields | changes)
    await goal.insert()
    return goal


async def a_session(kind: GoalKind, **changes: Any) -> Session:
    """The session, with the pair that a goal of this kind has there."""
    fields: dict[str, Any] = {
        "id": SESSION,
        "user_id": STREAMER,
        "statuses": Statuses(started=BEGAN),
        "rtc": Rtc(room_id="room-1"),
    }
    if kind is GoalKind.SHOW:
        fields["show_goal_pairs"] = [ShowPair(funding_goal=FUNDING, show_goal=GOAL)]
    if kind is GoalKind.EXCLUSIVE:
        fields["exclusive_goal_pairs"] = {VIEWER: ExclusivePair(exclusive_goal=GOAL)}
        fields["viewers"] = {VIEWER: ViewerWindow(nbf=STARTED, exp=STARTED + timedelta(seconds=360), duration=360)}
    session = Session(**fields | changes)
    await session.insert()
    return session


async def a_deposit(kind: GoalKind, amount: int = HELD) -> None:
    """Tokens in the escrow behind the goal; for a funding or a show also the earning that they came by."""
    if kind is GoalKind.KARAOKE:
        return
    await Account(id=escrow_account(escrow_of(kind)), balance=amount).insert()
    if kind in (GoalKind.FUNDING, GoalKind.SHOW):
        await an_earning(escrow_of(kind), VIEWER, amount, _id=EARNING)


async def an_earning(escrow_id: str, viewer: str, amount: int, **changes: Any) -> ObjectId:
    earning = {
        "_id": ObjectId(),
        "user_id": STREAMER,
        "from_user_id": viewer,
        "amount": amount,
        "created_at": STARTED,
        "goal_id": ObjectId(escrow_id.partition(":")[2]),
        f"_{escrow_id}": True,
    }
    inserted = await Earning.get_motor_collection().insert_one(earning | changes)
    return ObjectId(inserted.inserted_id)


async def goal_document() -> Mapping[str, Any]:
    """The goal as it is stored."""
    found = await Goal.get_motor_collection().find_one({"_id": GOAL})
    assert found is not None
    return dict(found)


async def session_document() -> Mapping[str, Any]:
    """The session as it is stored."""
    found = await Session.get_motor_collection().find_one({"_id": SESSION})
    assert found is not None
    return dict(found)


# -- what is said -----------------------------------------------------------------------------------------------------


def goal_event(event: type[E], kind: GoalKind, run: Run = Run.REACHED, **changes: Any) -> E:
    """That event of the scene's goal."""
    facts: dict[str, Any] = {
        "event_id": "e1",
        "at": NOW,
        "goal_id": str(GOAL),
        "kind": kind,
        "conditions": conditions(kind),
        "context": clock_times(kind),
        "progress": progress(kind, run),
        "levels": levels(kind, run),
        "metadata": metadata(kind),
    }
    if event is events.GoalStarted:
        facts |= {"progress": 0, "context": clock_times(kind, running=True), "at": STARTED}
    if event is events.GoalProgressed:
        facts["amount"] = progress(kind, run)
    if event is events.GoalEnded:
        agreed = kind is GoalKind.TRIGGER and run is Run.REACHED
        facts |= {"exp": NOW, "triggerer": STREAMER if agreed else None}
    return event(**facts | changes)


def without_session(event: E) -> E:
    return replace(event, conditions=event.conditions.model_copy(update={"session_id": None}))


def without_viewer(event: E) -> E:
    return replace(
        event,
        conditions=event.conditions.model_copy(update={"exclusive_to": None}),
        metadata=event.metadata.model_copy(update={"viewer_id": None}),
    )


def joined(channel: str = CHANNEL, user_id: str | None = STREAMER, at: datetime = NOW) -> ChannelOccupied:
    return ChannelOccupied(channel=_channel(channel), user_id=user_id, at=at, event_id="e1")


def left(channel: str = CHANNEL, user_id: str | None = STREAMER, at: datetime = NOW) -> ChannelVacated:
    return ChannelVacated(channel=_channel(channel), user_id=user_id, at=at, event_id="e1")


def _channel(name: str) -> Channel:
    channel = Channel.parse(name)
    assert channel is not None
    return channel


def share_event(event: type[EscrowShareCompleted] | type[EscrowShareRefunded], escrow_id: str) -> EscrowEvent:
    return event(
        event_id="t1", at=NOW, escrow_id=escrow_id, to_user_id=STREAMER, amount=HELD, transfer_id=f"escrow-{escrow_id}"
    )


def any_event(event: type[Any], kind: GoalKind, run: Run) -> PresenceEvent | GoalEvent | EscrowEvent:
    """The event of that type that concerns the scene's goal."""
    if issubclass(event, PresenceEvent):
        return joined() if event is ChannelOccupied else left()
    if issubclass(event, GoalEvent):
        return goal_event(event, kind, run)
    escrow_id = escrow_of(kind)
    if event is EscrowCompleted:
        return EscrowCompleted(event_id="t1", at=NOW, escrow_id=escrow_id, to_user_id=STREAMER, shares=1, amount=HELD)
    if event is EscrowRefunded:
        return EscrowRefunded(event_id="t1", at=NOW, escrow_id=escrow_id, shares=1)
    return share_event(event, escrow_id)


async def play(stage: Stage, event: type[Any], kind: GoalKind, run: Run) -> Report:
    """Sets the scene and sends the event through the real bus; its report."""
    # A pause needs a clock that runs; a join one that does not; everything else finds the goal after its pause.
    running = event in (ChannelVacated, events.GoalStarted)
    await set_up(kind, run, running=running)
    if event is events.GoalEnded and kind is GoalKind.EXCLUSIVE:
        await Session.start_exclusive(SESSION, VIEWER, GOAL, STARTED)
    return await stage.bus.send(stage.context, any_event(event, kind, run))
