"""Creating goals: what each kind needs, the hold behind a request, and one exclusive at a time."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import bson
from bson import ObjectId
from bson.errors import InvalidDocument
from pydantic import ValidationError
from pymongo.errors import DuplicateKeyError

from goalsvc.actions.exclusives import take_exclusive
from goalsvc.actions.known import known_goal, known_session
from goalsvc.clock import whole_milliseconds
from goalsvc.context import Context
from goalsvc.database_session import DatabaseSession
from goalsvc.domain.call import Call
from goalsvc.domain.documents import Stored
from goalsvc.domain.escrow import WHOLE_BPS, escrow_account, tag_of, trigger_escrow, user_account
from goalsvc.domain.goals import LONGEST_TARGET_SECONDS, PERFORMED, Conditions, GoalKind, Level, Metadata, ShowPlan
from goalsvc.domain.ids import USER_ID, USER_ID_RULE
from goalsvc.domain.orders import Order
from goalsvc.domain.promises import Promise
from goalsvc.domain.views import streamer_views
from goalsvc.errors import ConflictError, InvalidError
from goalsvc.models.events import of_goal
from goalsvc.models.exclusivity import Parties
from goalsvc.models.goal import ENDED, KINDS, PAUSED, Goal
from goalsvc.models.session import Session
from goalsvc.signals.notices import WalletUpdated
from goalsvc.tasks.dispatch import enqueue_promises
from goalsvc.tasks.events import promise_of
from goalsvc.tasks.notices import deliver_notice


@dataclass(frozen=True, slots=True, kw_only=True)
class GoalPlan:
    """A goal that is to be created."""

    kind: GoalKind
    session_id: ObjectId
    levels: Sequence[Mapping[str, object]]
    exp: datetime | None
    metadata: Stored
    exclusive_to: str | None
    fee_bps: int | None = None


async def create_goal(context: Context, call: Call, plan: GoalPlan) -> Goal:
    """Creates the goal, and what goes with its kind; a repeat of the call finds the goal that it created.

    Where its session ended meanwhile, the goal has ended with it, and its price goes back to the viewer. Raises InvalidError,
    NotFoundError, ConflictError, InsufficientFundsError; in each case nothing was changed.
    """
    session = await known_session(plan.session_id)
    goal_id = call.new_id
    created = await Goal.by_id(goal_id) if call.idempotency is not None else None
    if created is None:
        created = await _create(context, goal_id, plan, session)
    await _embed(session, created, created.conditions.exclusive_to or created.metadata.viewer_id)
    created = await _ended_with_its_session(context, created, plan.session_id)
    await context.cache.drop(streamer_views(session.user_id))
    return created


async def _ended_with_its_session(context: Context, goal: Goal, session_id: ObjectId) -> Goal:
    """Returns the goal as it is once its session was read again.

    The end of a session ends the goals that it finds. One that was inserted after that sees here that the session has ended.
    """
    session, goal_id = await Session.by_id(session_id), ObjectId(goal.id)
    if session is None or session.open or not goal.active:
        return goal
    ended: Goal | None = await Goal.deactivate(goal_id, context.clock.now(), context.origin)
    if ended is None:
        return await known_goal(goal_id)
    enqueue_promises(context, ended, [PAUSED, ENDED])
    return ended


async def _create(context: Context, goal_id: ObjectId, plan: GoalPlan, session: Session) -> Goal:
    if not session.open:
        raise ConflictError("session_ended", "the session has ended")
    now = context.clock.now()
    exp = None if plan.exp is None else expiry_of(plan.exp, now)
    if exp is None and plan.kind is GoalKind.TRIGGER:
        exp = now + timedelta(seconds=context.settings.request_limit)
    metadata = _metadata_of(plan, session)
    if plan.exclusive_to is not None and metadata.viewer_id not in (None, plan.exclusive_to):
        raise InvalidError("conditions.exclusive_to", "is another viewer than metadata.viewer_id")
    viewer = plan.exclusive_to or metadata.viewer_id
    goal = KINDS[plan.kind](
        id=goal_id,
        levels=[Level.model_validate(level) for level in plan.levels],
        conditions=Conditions(
            session_id=plan.session_id, exclusive_to=viewer if plan.kind is GoalKind.EXCLUSIVE else None
        ),
        metadata=metadata,
        exp=exp,
        created_at=now,
    )
    _check_kind(goal, viewer)
    if metadata.price and viewer == session.user_id and not context.settings.allow_self_payment:
        raise ConflictError("self_payment", "metadata.viewer_id: must not be the streamer, whom the price is paid to")
    if plan.kind is GoalKind.EXCLUSIVE and viewer == session.user_id and not context.settings.allow_self_payment:
        raise ConflictError("self_payment", "conditions.exclusive_to: must not be the streamer, who performs it")
    cause = context.origin.cause.about(str(goal_id))
    goal.promises = [promise_of(of_goal("goal.created", goal, now, cause), now, context.origin)]
    if goal.kind is GoalKind.TRIGGER and metadata.price:
        goal.promises.append(_debit_told(context, goal_id, metadata.price, viewer or "", now))
    promised = [promise.id for promise in goal.promises]
    try:
        if goal.kind is GoalKind.TRIGGER and metadata.price:
            await _hold(context, goal, metadata.price, viewer or "")
        elif goal.kind is GoalKind.EXCLUSIVE and viewer is not None:
            await _begin_exclusive(context, goal, Parties(plan.session_id, viewer, session.user_id))
        else:
            await goal.insert()
        enqueue_promises(context, goal, promised)
    except DuplicateKeyError:  # a concurrent repeat of the same call was faster
        goal = await known_goal(goal_id)
    return goal


async def _begin_exclusive(context: Context, goal: Goal, parties: Parties) -> None:
    """Inserts the exclusive and takes its slots: both, or neither."""
    assert goal.id is not None  # noqa: S101 - made above
    goal_id: ObjectId = goal.id

    async def together(session: DatabaseSession) -> None:
        await take_exclusive(parties, goal_id, context.clock.now(), session)
        await goal.insert(session=session)

    await context.ledger.transaction(together)


# -- what each kind needs ---------------------------------------------------------------------------------------------


def expiry_of(exp: datetime, now: datetime) -> datetime:
    """That time as it is stored; raises InvalidError unless it is in the future."""
    if exp <= now:
        raise InvalidError("exp", "must be in the future")
    return whole_milliseconds(exp.astimezone(UTC))


def _metadata_of(plan: GoalPlan, session: Session) -> Metadata:
    given = plan.metadata.get("user_id", session.user_id)
    if given != session.user_id:
        raise InvalidError("metadata.user_id", "must be the session's streamer; it may be left out")
    check_metadata_fields(plan.metadata)
    check_metadata_size(plan.metadata)
    if plan.metadata.get("funding_goal_id") is not None:
        raise InvalidError("metadata.funding_goal_id", "must be absent: it is set when a FundingGoal begins its show")
    try:
        fee = {} if plan.fee_bps is None else {"fee_bps": plan.fee_bps}
        metadata = Metadata.model_validate({**plan.metadata, **fee, "user_id": session.user_id})
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        raise InvalidError(".".join(["metadata", *map(str, first["loc"])]), first["msg"]) from None
    for name, show in (("show", metadata.show), ("exclusive", metadata.exclusive)):
        if isinstance(show, ShowPlan) and not 0 < show.target <= LONGEST_TARGET_SECONDS:
            raise InvalidError(f"metadata.{name}.target", f"must be from 1 to {LONGEST_TARGET_SECONDS} (seconds)")
    if metadata.fee_bps is not None and not 0 <= metadata.fee_bps <= WHOLE_BPS:
        raise InvalidError("fee_bps", f"must be from 0 to {WHOLE_BPS} (hundredths of a percent)")
    if not 0 <= metadata.price <= 10**12:
        raise InvalidError("metadata.price", "must be from 0 to 10^12 (tokens)")
    viewer = metadata.viewer_id
    if viewer is not None and not USER_ID.fullmatch(viewer):
        raise InvalidError("metadata.viewer_id", USER_ID_RULE)
    return metadata


#: How large the metadata of a goal may be, as JSON: as large as the body of a call.
MOST_METADATA_BYTES = 1024 * 1024
#: MongoDB takes 100 levels, of which the goal around it has some.
_DEEPEST = 32


def _nested_within(value: object, levels: int) -> bool:
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return levels > 0 and all(_nested_within(item, levels - 1) for item in inner)


def _check_names(value: object, path: str) -> None:
    """Raises InvalidError for a name, at any depth, that BSON cannot hold: it ends names with NUL."""
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        within = f"{path}.{name}"
        if "\0" in within:
            raise InvalidError(within.replace("\0", "\\0"), "field names must not hold NUL")
        _check_names(item, within)


def check_metadata_size(metadata: Mapping[str, object], before_bytes: int = 0) -> None:
    """Raises InvalidError for metadata of a goal that is too large as a whole, unless it was no smaller before."""
    size = size_of(metadata)
    if size > max(MOST_METADATA_BYTES, before_bytes):
        raise InvalidError(
            "metadata", f"must be at most {MOST_METADATA_BYTES} bytes as JSON in all; it would be {size}"
        )


def size_of(metadata: Mapping[str, object]) -> int:
    """The size of stored metadata as JSON, in bytes; what JSON does not have counts as its text."""
    return len(json.dumps(metadata, ensure_ascii=False, separators=(",", ":"), default=str).encode(errors="replace"))


def check_metadata_fields(metadata: Mapping[str, object]) -> int:
    """Returns the size of that metadata as JSON, in bytes; raises InvalidError for metadata that cannot be stored."""
    size = check_storable(metadata)
    for field in metadata:
        if not field or field.startswith("$") or "." in field:
            raise InvalidError(f"metadata.{field}", "field names must not be empty, begin with `$` or hold `.`")
    return size


def check_storable(metadata: Mapping[str, object]) -> int:
    """Returns the size of that metadata as JSON, in bytes.

    Raises InvalidError for what Python's JSON takes but neither MongoDB nor an answer could hold."""
    if not _nested_within(metadata, _DEEPEST):
        raise InvalidError("metadata", f"is nested deeper than {_DEEPEST} levels")
    _check_names(metadata, "metadata")
    try:
        text = json.dumps(metadata, allow_nan=False, ensure_ascii=False).encode()
        bson.encode(metadata)
    except (ValueError, OverflowError, InvalidDocument):
        message = "holds what cannot be stored: NaN, an integer of more than 64 bits, or half a character"
        raise InvalidError("metadata", message) from None
    return len(text)


def _check_kind(goal: Goal, viewer: str | None) -> None:
    """Raises InvalidError when the goal lacks what its kind needs, or has what its kind may not have."""
    metadata = goal.metadata
    if goal.kind in PERFORMED:
        for number, level in enumerate(goal.levels):
            if level.target > LONGEST_TARGET_SECONDS:
                raise InvalidError(f"levels.{number}.target", f"must be at most {LONGEST_TARGET_SECONDS} (seconds)")
    match goal.kind:
        case GoalKind.FUNDING if metadata.show is None:
            raise InvalidError(
                "metadata.show", "required for a FundingGoal (the show that it pays for: {title, target})"
            )
        case GoalKind.TRIGGER if metadata.viewer_id is None:
            raise InvalidError("metadata.viewer_id", "required for a TriggerGoal (the viewer who makes the request)")
        case GoalKind.TRIGGER if metadata.exclusive is None:
            raise InvalidError("metadata.exclusive", "required for a TriggerGoal (what is asked for: {title, target})")
        case GoalKind.TRIGGER if metadata.price and not metadata.private:
            raise InvalidError("metadata.price", "only a private request has a price (metadata.private)")
        case kind if metadata.price and kind is not GoalKind.TRIGGER:
            raise InvalidError("metadata.price", "must be absent: only a TriggerGoal charges a price")
        case GoalKind.EXCLUSIVE if viewer is None:
            raise InvalidError("conditions.exclusive_to", "required for an ExclusiveGoal (its viewer)")
        case GoalKind.FUNDING | GoalKind.SHOW | GoalKind.KARAOKE if not goal.levels:
            raise InvalidError("levels", f"a {goal.kind} needs at least one level")
        case _:
            return


async def _hold(context: Context, goal: Goal, price: int, viewer: str) -> None:
    """Moves the price from the viewer into the request's escrow and inserts the request: both, or neither."""
    assert goal.id is not None  # noqa: S101 - made above
    escrow_id = trigger_escrow(goal.id)
    order = Order(
        transfer_id=f"hold-{escrow_id}",
        debit=user_account(viewer),
        credit=escrow_account(escrow_id),
        amount=price,
        tags=[tag_of(escrow_id)],
        metadata={"goal_id": str(goal.id)},
        from_user_id=viewer,
        cause=context.origin.cause.about(str(goal.id)),
        event="hold.created",
    )

    async def insert(session: DatabaseSession) -> None:
        await goal.insert(session=session)

    await context.ledger.post(order, context.clock.now(), insert)


def _debit_told(context: Context, goal_id: ObjectId, price: int, viewer: str, now: datetime) -> Promise:
    """The promise to tell the viewer that the price has left their wallet (`wallet.updated`)."""
    escrow_id = trigger_escrow(goal_id)
    transfer_id = f"hold-{escrow_id}"
    notice = WalletUpdated(
        event_id=transfer_id,
        user_id=viewer,
        direction="debit",
        amount=price,
        escrow_id=escrow_id,
        transfer_id=transfer_id,
        at=now,
    )
    arguments = {"channels": notice.channels_of(viewer), "event": notice.event, "data": notice.data()}
    return Promise.of(f"{notice.event}:{transfer_id}", deliver_notice.name, arguments, now, context.origin)


async def _embed(session: Session, goal: Goal, viewer: str | None) -> None:
    """Shows a goal that was made directly in its session, where its kind has a place there."""
    assert goal.id is not None and session.id is not None  # noqa: S101, PT018
    if goal.kind is GoalKind.KARAOKE:
        await Session.update_karaoke(session.id, goal.id, 0, goal.levels, True)
    elif goal.kind is GoalKind.EXCLUSIVE and viewer is not None:
        await Session.pair_exclusive(session.id, viewer, None, goal.id)
