"""From what happened to the event that tells of it: one function for each kind of thing that events are about."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import datetime

from bson import ObjectId

from goalsvc.domain.escrow import escrow_account, user_account
from goalsvc.domain.events import Event, users
from goalsvc.domain.funding import Taken
from goalsvc.domain.goals import Conditions, GoalKind, Level, level_of
from goalsvc.domain.ids import derived_id, exclusive_of
from goalsvc.domain.origin import Cause
from goalsvc.domain.outcome import Answer, Done
from goalsvc.models.clip import Asset
from goalsvc.models.goal import Goal
from goalsvc.models.records import DeadLetter
from goalsvc.models.session import Session
from goalsvc.models.transfer_events import of_transfer, plain
from goalsvc.signals.events import EscrowEvent, EscrowShareEvent, GoalCompleted, GoalEnded, GoalEvent

#: The API operation that declines a request.
DECLINE = "decline"


# -- goals ------------------------------------------------------------------------------------------------------------


def _whole(
    source: Goal | GoalEvent, goal_id: str, active: bool, levels: Sequence[Level], progress: int
) -> dict[str, object]:
    """The whole goal, with the field names of the API."""
    whole = {
        "id": goal_id,
        "kind": source.kind.value,
        "active": active,
        "progress": progress,
        "level": level_of(levels, progress),
        "levels": [plain(level) for level in levels],
        "conditions": plain(source.conditions),
        "context": plain(source.context),
        "metadata": plain(source.metadata),
    }
    for name in ("breakdown_id", "exp", "triggerer", "fee_bps"):
        value = getattr(source, name, None)
        if value is not None:
            whole[name] = plain(value)
    return whole


def whole_goal(goal: Goal) -> dict[str, object]:
    """The whole goal as it is now, with the platform's own metadata."""
    return _whole(goal, str(goal.id), goal.active, goal.levels, goal.progress)


def of_goal(
    type_: str, goal: Goal, at: datetime, cause: Cause, *, identity: str | None = None, **more: object
) -> Event:
    """An event about a goal; `more` is added to its data. By default a goal has one event of that type."""
    viewer = goal.conditions.exclusive_to or goal.metadata.viewer_id
    return Event(
        type=type_,
        identity=identity or str(goal.id),
        created_at=at,
        data={"goal": whole_goal(goal), **plain(more)},
        goal_id=str(goal.id),
        session_id=_session_of(goal.conditions),
        user_ids=users(goal.metadata.user_id, viewer),
        cause=cause,
    )


def _session_of(conditions: Conditions) -> str | None:
    return None if conditions.session_id is None else str(conditions.session_id)


#: What every event of a goal's life tells of it; the other fields of a signal's payload are told beside the goal.
_OF_THE_GOAL = {field.name for field in fields(GoalEvent)} | {"breakdown_id", "exp", "triggerer", "active", "fee_bps"}


def _of_goal_signal(event: GoalEvent, cause: Cause) -> Iterator[Event]:
    active = not isinstance(event, GoalEnded)
    more = {field.name: plain(getattr(event, field.name)) for field in fields(event) if field.name not in _OF_THE_GOAL}
    data = {
        "goal": _whole(event, event.goal_id, active, event.levels, event.progress),
        **{name: value for name, value in more.items() if value is not None},
        **followed_by(event),
    }

    def told(type_: str) -> Event:
        return Event(
            type=type_,
            identity=f"{event.goal_id}:{event.event_id}",
            created_at=event.at,
            data=data,
            goal_id=event.goal_id,
            session_id=_session_of(event.conditions),
            user_ids=users(event.streamer_id, event.viewer_id),
            cause=cause.about(event.goal_id),
        )

    if isinstance(event, GoalEnded) and event.kind is GoalKind.TRIGGER:
        if event.triggerer is not None:
            yield told("goal.agreed")
        elif cause.call == DECLINE:
            yield told("goal.declined")
    yield told(event.sender)


def followed_by(event: GoalEvent) -> dict[str, str]:
    """The goal that begins because of this: `show_goal_id` of a funded show, `exclusive_goal_id` of an agreed request."""
    if not ObjectId.is_valid(event.goal_id):
        return {}
    goal_id = ObjectId(event.goal_id)
    if isinstance(event, GoalCompleted) and event.kind is GoalKind.FUNDING and event.target_reached:
        return {"show_goal_id": str(derived_id(goal_id, "show"))} if event.metadata.funded_show is not None else {}
    if isinstance(event, GoalEnded) and event.kind is GoalKind.TRIGGER and event.triggerer is not None:
        return {"exclusive_goal_id": str(exclusive_of(goal_id))} if event.metadata.exclusive is not None else {}
    return {}


# -- signals ----------------------------------------------------------------------------------------------------------


def of_signal(signal: object, cause: Cause, goal_id: str | None) -> Iterator[Event]:
    """The events that tell of a signal; none of what Pusher reported. `goal_id` is the goal whose task sent it."""
    if isinstance(signal, GoalEvent):
        yield from _of_goal_signal(signal, cause)
    elif isinstance(signal, EscrowEvent):
        yield _of_escrow(signal, cause, goal_id)


def _of_escrow(signal: EscrowEvent, cause: Cause, goal_id: str | None) -> Event:
    names = [field.name for field in fields(signal) if field.name not in ("event_id", "at")]
    values = {name: plain(getattr(signal, name)) for name in names}
    user_id = values.get("to_user_id")
    if isinstance(signal, EscrowShareEvent) and signal.amount:
        values["transfer"] = {
            "id": signal.transfer_id,
            "debit": escrow_account(signal.escrow_id),
            "credit": user_account(signal.to_user_id),
            "to_user_id": signal.to_user_id,
            "amount": signal.amount,
        }
    return Event(
        type=signal.sender,
        identity=signal.event_id,
        created_at=signal.at,
        data={name: value for name, value in values.items() if value is not None},
        goal_id=goal_id or signal.escrow_id.rpartition(":")[2],
        user_ids=users(user_id),
        cause=cause,
    )


def events_of(answer: Answer, cause: Cause, goal_id: str | None) -> Iterator[Event]:
    """The events of this answer and of the signals that were sent meanwhile, in the order in which they happened."""
    if not isinstance(answer, Done):
        return
    for report in answer.reports:
        yield from of_signal(report.event, cause, goal_id)
        for receiver in report.receivers:
            yield from events_of(receiver.answer, cause, goal_id)
    yield from answer.events


# -- what else happens ------------------------------------------------------------------------------------------------


def of_session(type_: str, session: Session, at: datetime, cause: Cause) -> Event:
    """`session.started` or `session.ended`."""
    data = {"session": {"id": str(session.id), "user_id": session.user_id, "statuses": plain(session.statuses)}}
    data["session"]["rtc"] = plain(session.rtc)
    return Event(
        type=type_,
        identity=str(session.id),
        created_at=at,
        data=data,
        session_id=str(session.id),
        user_ids=users(session.user_id),
        cause=cause,
    )


def of_contributions(goal: Goal, made: Iterable[tuple[Taken, Mapping[str, object]]]) -> Iterator[Event]:
    """Yields `contribution.created` for each, with its transfer and the whole goal as it is with this contribution."""
    whole, goal_id = whole_goal(goal), str(goal.id)
    for taken, transfer in made:
        told = whole | {"progress": taken.progress, "level": level_of(goal.levels, taken.progress)}
        earning_id = taken.made.earning_id
        yield of_transfer("contribution.created", transfer, goal_id=goal_id, goal=told, earning_id=earning_id)


def of_clip(type_: str, asset: Asset, at: datetime, user_id: str | None = None) -> Event:
    """`clip.stored` or `clip.failed`."""
    cause = Cause.read(asset.cause)
    shown = plain(asset.model_dump(exclude={"id", "cause"})) | {"id": str(asset.id), "state": asset.state.value}
    return Event(
        type=type_,
        identity=str(asset.id) if type_ == "clip.stored" else f"{asset.id}:{at.isoformat()}",
        created_at=at,
        data={"clip": shown},
        goal_id=cause.goal_id,
        user_ids=users(user_id),
        cause=cause,
    )


def of_recording(
    type_: str, goal_id: str, session_id: str, task_id: str, at: datetime, cause: Cause, reason: str | None = None
) -> Event:
    """`recording.started`, `recording.stopped` or `recording.failed` with its reason; one of each for a goal and recording."""
    why = {} if reason is None else {"reason": reason}
    return Event(
        type=type_,
        identity=f"{goal_id}:{task_id}",
        created_at=at,
        data={"recording": {"task_id": task_id, **why}},
        goal_id=goal_id,
        session_id=session_id,
        cause=cause,
    )


def of_dead_letter(letter: DeadLetter) -> Event:
    """`dead_letter.created`; one for each death."""
    shown = {"id": letter.id, "task": letter.task, "reason": letter.reason, "tries": letter.tries}
    return Event(
        type="dead_letter.created",
        identity=f"{letter.id}:{letter.at.isoformat()}",
        created_at=letter.at,
        data={"dead_letter": shown},
        goal_id=letter.goal_id,
        cause=Cause.read(letter.cause),
    )
