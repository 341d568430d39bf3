"""A recording of webhooks, played to copies of the goals' clocks: what it would change. Nothing is written."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from bson import ObjectId

from goalsvc.context import Context
from goalsvc.domain.channels import JOINS, LEAVES, Channel, ChannelKind
from goalsvc.domain.escrow import escrow_account
from goalsvc.domain.goals import level_of
from goalsvc.domain.ids import user_id_in
from goalsvc.domain.moves import Move
from goalsvc.domain.origin import Origin
from goalsvc.domain.performance import STALE_AFTER, GoalClock, Rule
from goalsvc.domain.presence import join_mark, leave_mark
from goalsvc.domain.recordings import Recorded, read_recording
from goalsvc.errors import ConflictError, InvalidError, UnusableDocumentError
from goalsvc.models.bounded import rows
from goalsvc.models.clocks import declined, not_admitted, owner_of
from goalsvc.models.goal import Goal, deadline_of, is_active, rule_of
from goalsvc.models.goal_escrows import escrows_of
from goalsvc.models.wallet import Account

#: A recording that is rehearsed names at most so many goals.
MOST_GOALS = 200

Event = Mapping[str, Any]


@dataclass(slots=True)
class Change:
    """What the recording would change of one goal."""

    goal_id: str
    name: str
    seconds_before: int
    seconds_after: int
    level_before: int
    level_after: int
    levels: int
    held: int
    """What its escrow holds, which would be paid when the last level is reached."""
    runs_before: bool
    runs_after: bool
    events: int = 0
    repeats: int = 0
    refused: dict[str, int] = field(default_factory=dict)

    @property
    def changes(self) -> bool:
        """Whether anything would change."""
        return (self.seconds_before, self.runs_before) != (self.seconds_after, self.runs_after)

    @property
    def tokens_paid(self) -> int:
        """What would be paid, because the recording would reach the last level."""
        return self.held if self.levels > 0 and self.level_after == self.levels > self.level_before else 0

    @property
    def sentence(self) -> str:
        """What would change, in one sentence."""
        if not self.changes:
            return f"{self.name} would not change: {self.seconds_before} s."
        said = f"{self.name} would go from {self.seconds_before} to {self.seconds_after} s"
        if self.level_after != self.level_before:
            said += f" and from level {self.level_before} to {self.level_after}"
        if self.tokens_paid:
            said += f"; {self.tokens_paid} tokens would be paid"
        if self.runs_after and not self.runs_before:
            said += "; its clock would run"
        return said + "."


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What a recording would change."""

    recording: Sequence[Recorded]
    changes: Sequence[Change]
    stale: int
    """Webhooks that would be refused because they are older than 15 minutes."""
    malformed: int
    """Webhooks that would be refused because an event is not of the documented form."""
    elsewhere: int
    """Events that are not about a goal that is there and can be read."""
    digest: str
    """The hash of the recording and of all that it would change."""

    @property
    def sentence(self) -> str:
        """What a replay would change, in one sentence."""
        changed = [change for change in self.changes if change.changes]
        if not changed:
            return "A replay would change no goal."
        seconds = sum(change.seconds_after - change.seconds_before for change in changed)
        tokens = sum(change.tokens_paid for change in changed)
        goals = f"{len(changed)} goal{'s' if len(changed) != 1 else ''}"
        return f"A replay would change {goals}: {seconds} more seconds would count, and {tokens} tokens would be paid."


async def rehearse(context: Context, text: str, *, keep_time: bool) -> Rehearsal:
    """Plays the recording to copies of the clocks. Raises InvalidError naming the line that is wrong, PyMongoError."""
    now = context.clock.now()
    recording = read_recording(text, now, keep_time=keep_time)
    usable = [webhook for webhook in recording if not webhook.malformed]
    stage = await _stage_of(context, usable)
    for webhook in usable:
        stage.hear(webhook)
    changes = stage.changed()
    stale = sum(now - webhook.at > STALE_AFTER for webhook in usable)
    digest = _digest(text, changes, keep_time=keep_time)
    return Rehearsal(recording, changes, stale, len(recording) - len(usable), stage.elsewhere, digest)


async def rehearsed(context: Context, text: str, digest: str, *, keep_time: bool) -> Rehearsal:
    """Rehearses again before a recording is sent for real.

    Raises ConflictError `rehearsal_outdated` unless it would still change what the rehearsal with that digest said.
    """
    rehearsal = await rehearse(context, text, keep_time=keep_time)
    if rehearsal.digest != digest:
        message = "the recording or the goals have changed since the rehearsal; rehearse again, and send the new digest"
        raise ConflictError("rehearsal_outdated", message)
    return rehearsal


def _digest(text: str, changes: Sequence[Change], *, keep_time: bool) -> str:
    told = [
        (change.goal_id, change.seconds_before, change.seconds_after, change.level_after, change.held)
        for change in changes
    ]
    return sha256(json.dumps([text, keep_time, told]).encode()).hexdigest()


# -- copies of the clocks ---------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Part:
    """A goal as it is stored, and the copy of its clock."""

    document: Mapping[str, Any]
    goal: Goal
    clock: GoalClock
    counted_before: int
    change: Change


class _Stage:
    """The goals that a recording names."""

    def __init__(self, context: Context, parts: Mapping[ObjectId, _Part]) -> None:
        self._now = context.clock.now()
        self._parts = parts
        self.elsewhere = 0

    def hear(self, webhook: Recorded) -> None:
        """Plays the events of one webhook, unless it would be refused because it is too old."""
        for event in _events_of(webhook):
            goal_id = _goal_of(event)
            part = self._parts.get(goal_id) if goal_id is not None else None
            if part is None or event["name"] not in JOINS | LEAVES:
                self.elsewhere += 1
            elif self._now - webhook.at <= STALE_AFTER:
                self._move(part, webhook, event)

    def changed(self) -> list[Change]:
        """Returns what would be different of each goal now."""
        for part in self._parts.values():
            change = part.change
            after = change.seconds_before + part.clock.counted - part.counted_before
            change.seconds_after = max(change.seconds_before, after)
            change.level_after = level_of(part.goal.levels, change.seconds_after)
            change.runs_after = part.clock.running
        return [part.change for part in self._parts.values()]

    def _move(self, part: _Part, webhook: Recorded, event: Event) -> None:
        """Plays one event to the copy of the clock, as the webhook would."""
        joined, at = event["name"] in JOINS, min(webhook.at, self._now)
        move = Move(part.document["_id"], joined, user_id_in(event.get("user_id")), at, "", Origin())
        document, clock = part.document, part.clock
        owner = owner_of(document, clock, move.user_id)
        reason = not_admitted(document) if owner is None else declined(document, clock, move, self._now)
        part.change.events += 1
        if owner is None or reason is not None:
            _refuse(part.change, (reason or not_admitted(document)).value)
            return
        if not is_active(document) and clock.ended is None and clock.deadline is not None:
            at = min(at, deadline_of(document) or at)
        if clock.ended is not None and not clock.takes(at, self._now):
            _refuse(part.change, "goal_inactive")
            return
        after, _ = clock.turn(join_mark(at) if joined else leave_mark(at), self._now, owner)
        part.change.repeats += after == clock
        part.clock = after


def _refuse(change: Change, reason: str) -> None:
    change.refused[reason] = change.refused.get(reason, 0) + 1


def _events_of(webhook: Recorded) -> Iterator[Event]:
    for event in webhook.events:
        if isinstance(event, Mapping):
            yield event


def _goal_of(event: Event) -> ObjectId | None:
    channel = Channel.parse(event["channel"])
    if channel is None or channel.kind is not ChannelKind.GOAL or not ObjectId.is_valid(channel.about):
        return None
    return ObjectId(channel.about)


async def _stage_of(context: Context, recording: Sequence[Recorded]) -> _Stage:
    """Reads the goals that the recording names. Raises InvalidError when they are too many."""
    events = (event for webhook in recording for event in _events_of(webhook))
    wanted = dict.fromkeys(goal_id for event in events if (goal_id := _goal_of(event)) is not None)
    if len(wanted) > MOST_GOALS:
        raise InvalidError("recording", f"must name at most {MOST_GOALS} goals; `goalsvc replay` sends more")
    parts = {}
    for document in await rows("goals", {"_id": {"$in": [*wanted]}}, limit=MOST_GOALS):
        part = await _part_of(document, Rule(context.settings.exclusive_clock))
        if part is not None:
            parts[document["_id"]] = part
    return _Stage(context, {goal_id: parts[goal_id] for goal_id in wanted if goal_id in parts})


async def _part_of(document: Mapping[str, Any], exclusive_rule: Rule) -> _Part | None:
    """Returns the goal with the copy of its clock; None for a document that cannot be used."""
    try:
        goal = Goal.parse(document)
    except UnusableDocumentError:
        return None
    rule, deadline = rule_of(document, exclusive_rule), deadline_of(document)
    copy = GoalClock.read(document.get("clock"), document.get("context"), rule, deadline)
    return _Part(document, goal, copy, copy.counted, await _unchanged(goal, copy))


async def _unchanged(goal: Goal, clock: GoalClock) -> Change:
    level = level_of(goal.levels, goal.progress)
    balances = [await Account.balance_of(escrow_account(escrow)) for escrow in await escrows_of(goal)]
    title = goal.levels[-1].title if goal.levels else ""
    return Change(
        goal_id=str(goal.id),
        name=f"The {goal.kind.value} “{title}”" if title else f"The {goal.kind.value} {goal.id}",
        seconds_before=goal.progress,
        seconds_after=goal.progress,
        level_before=level,
        level_after=level,
        levels=len(goal.levels),
        held=sum(balances),
        runs_before=clock.running,
        runs_after=clock.running,
    )
