"""Changing a goal that goes on: its end, the platform's own metadata, and levels that are not reached yet."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bson import ObjectId

from goalsvc.actions.goals import check_metadata_fields, check_metadata_size, expiry_of, size_of
from goalsvc.actions.known import known_goal
from goalsvc.context import Context
from goalsvc.database_session import DatabaseSession
from goalsvc.domain.documents import Stored
from goalsvc.domain.goals import LONGEST_TARGET_SECONDS, PERFORMED, GoalKind, Metadata
from goalsvc.domain.views import streamer_views
from goalsvc.errors import ConflictError, InvalidError, PreconditionFailedError
from goalsvc.models.events import of_goal
from goalsvc.models.goal import Goal
from goalsvc.models.healing import healing

#: How often a change is tried while the goal itself moves on.
_TRIES = 5
#: Fields of `metadata` that goalsvc itself goes by.
_FIXED = frozenset(Metadata.model_fields)


@dataclass(frozen=True, slots=True)
class GoalChange:
    """What is to be changed: only what is in `fields` (`exp`, `metadata`, `levels`)."""

    fields: frozenset[str]
    exp: datetime | None
    metadata: Stored
    levels: Sequence[Mapping[str, object]]


async def change_goal(
    context: Context, goal_id: ObjectId, change: GoalChange, is_as_known: Callable[[Goal], bool] = lambda goal: True
) -> Goal:
    """Changes the goal in one conditional write, and answers it as it then is.

    Levels are final once the last of them is reached: what follows from that is under way, though the goal may not have ended
    yet. `is_as_known` says whether a goal is as the caller knows it; it is asked of the very state that is changed.

    Raises InvalidError, NotFoundError, PreconditionFailedError, ConflictError `goal_inactive`, `goal_changed`; in each case
    nothing was changed.
    """
    for _ in range(_TRIES):
        goal = await known_goal(goal_id)
        _require(is_as_known(goal))
        if not goal.active:
            raise ConflictError("goal_inactive", "the goal is not active")
        if "levels" in change.fields and goal.target is not None and goal.progress >= goal.target:
            raise ConflictError("goal_inactive", f"levels: the last one is reached, {goal.progress} of {goal.target}")
        changed = await _amend_and_tell(
            context, goal_id, goal, _sets(context, goal, change), _unsets(change), is_as_known
        )
        if changed is not None:
            await context.cache.drop(streamer_views(changed.metadata.user_id))
            return changed
    raise ConflictError("goal_changed", "the goal was changed by others at the same time; try again")


def _require(as_known: bool) -> None:
    if not as_known:
        raise PreconditionFailedError("If-Match: names no ETag of the goal as it is now; it was changed since")


def _check_size(goal: Goal, sets: Mapping[str, object], unsets: Sequence[str]) -> None:
    """Raises InvalidError where the change makes the goal's metadata too large as a whole."""
    before: Mapping[str, object] = goal.metadata.model_dump(exclude_unset=True)
    added = {name.removeprefix("metadata."): value for name, value in sets.items() if name.startswith("metadata.")}
    if added:
        after = {name: value for name, value in {**before, **added}.items() if f"metadata.{name}" not in unsets}
        check_metadata_size(after, size_of(before))


async def _amend_and_tell(
    context: Context,
    goal_id: ObjectId,
    seen: Goal,
    sets: Mapping[str, object],
    unsets: Sequence[str],
    is_as_known: Callable[[Goal], bool],
) -> Goal | None:
    """Changes the goal, and writes `goal.updated` with the goal as it then is, in one transaction."""
    now, cause, identity = context.clock.now(), context.origin.cause.about(str(goal_id)), f"{goal_id}:{ObjectId()}"

    async def amend(session: DatabaseSession) -> Goal | None:
        goal = await known_goal(goal_id, session)
        _require(is_as_known(goal))
        _check_size(goal, sets, unsets)
        changed = await Goal.amend(goal_id, seen, sets, unsets, now, session)
        if changed is not None:
            await context.events.write([of_goal("goal.updated", changed, now, cause, identity=identity)], session)
        return changed

    return await healing(Goal, goal_id, lambda: context.ledger.transaction(amend))


def _unsets(change: GoalChange) -> list[str]:
    gone = [f"metadata.{name}" for name, value in change.metadata.items() if value is None]
    return [*gone, "exp"] if "exp" in change.fields and change.exp is None else gone


def _sets(context: Context, goal: Goal, change: GoalChange) -> dict[str, object]:
    sets: dict[str, object] = {}
    if "exp" in change.fields:
        if change.exp is None and goal.kind is GoalKind.TRIGGER:
            raise InvalidError("exp", "required for a TriggerGoal")
        if change.exp is not None:
            sets["exp"] = expiry_of(change.exp, context.clock.now())
    check_metadata_fields(change.metadata)
    for name, value in change.metadata.items():
        if name in _FIXED:
            raise InvalidError(f"metadata.{name}", "is fixed when the goal is created")
        if value is not None:
            sets[f"metadata.{name}"] = value
    if "levels" in change.fields:
        sets["levels"] = _levels(goal, change.levels)
    return sets


def _levels(goal: Goal, levels: Sequence[Mapping[str, Any]]) -> list[Mapping[str, object]]:
    if goal.kind in (GoalKind.EXCLUSIVE, GoalKind.TRIGGER):
        raise InvalidError("levels", f"cannot be changed: the target of a {goal.kind} was agreed to")
    reached: list[dict[str, object]] = [
        {"title": level.title, "target": level.target} for level in goal.levels[: goal.level]
    ]
    for number, level in enumerate(reached):
        if number >= len(levels) or dict(levels[number]) != level:
            raise InvalidError(f"levels.{number}", "must stay as it is: the level is reached")
    for number, later in enumerate(levels[len(reached) :], len(reached)):
        if later["target"] <= goal.progress:
            raise InvalidError(f"levels.{number}.target", f"must be above the progress of {goal.progress}")
        if goal.kind in PERFORMED and later["target"] > LONGEST_TARGET_SECONDS:
            raise InvalidError(f"levels.{number}.target", f"must be at most {LONGEST_TARGET_SECONDS} (seconds)")
    if len(levels) <= len(reached):
        raise InvalidError("levels", "requires a level that is not reached yet")
    return [dict(level) for level in levels]
