"""A recording of webhooks, played to copies of the goals' clocks: what it would change. Nothing is written."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from bson import ObjectId

from goalsvc.clock import from_epoch_milliseconds, to_epoch_milliseconds
from goalsvc.domain.channels import Channel, ChannelKind
from goalsvc.domain.escrow import escrow_account
from goalsvc.domain.goals import level_of
from goalsvc.domain.moves import Move
from goalsvc.domain.origin import Origin
from goalsvc.domain.performance import GoalClock, Rule
from goalsvc.domain.presence import join_mark, leave_mark
from goalsvc.models.clocks import declined, not_admitted, owner_of
from goalsvc.models.goal import Goal, deadline_of, is_active, rule_of
from goalsvc.models.goal_escrows import escrows_of
from goalsvc.models.wallet import Account

_JOINS, _LEAVES = {"member_added", "channel_occupied"}, {"member_removed", "channel_vacated"}
_STALE = timedelta(minutes=15)
MOST_WEBHOOKS = 2_000


class RecordingError(Exception):
    """The text is not a recording; the message names the line."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """One webhook of a recording: its body, and its time moved to where it would be sent."""

    line: int
    content: Mapping[str, Any]
    at: datetime

    @property
    def body(self) -> bytes:
        """The body as it would be sent."""
        moved = {**self.content, "time_ms": to_epoch_milliseconds(self.at)}
        moved.pop("timestamp", None)
        return json.dumps(moved, ensure_ascii=False, separators=(",", ":")).encode()


def read_recording(text: str, now: datetime, *, keep_time: bool) -> list[Recorded]:
    """Returns the webhooks of a recording. Unless `keep_time`, they are moved so that the last one is now.

    Raises RecordingError.
    """
    found: list[tuple[int, Mapping[str, object], datetime]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            content = _content(line, number)
            found.append((number, content, _time(content, number, now)))
    if not found:
        raise RecordingError("The recording holds no webhook.")
    if len(found) > MOST_WEBHOOKS:
        raise RecordingError(f"The recording holds more than {MOST_WEBHOOKS} webhooks; use goalsvc replay.")
    shift = timedelta() if keep_time else now - max(at for _, _, at in found)
    return [Recorded(number, content, at + shift) for number, content, at in found]


def _content(line: str, number: int) -> Mapping[str, object]:
    try:
        entry = json.loads(line)
        body = entry["body"] if isinstance(entry["body"], dict) else json.loads(entry["body"])
    except (ValueError, TypeError, KeyError, RecursionError):
        raise RecordingError(f"Line {number}: must be an object with the webhook's body in `body`.") from None
    if not isinstance(body, dict) or not isinstance(body.get("events"), list):
        raise RecordingError(f"Line {number}: the body must be an object with a list `events`.")
    return body


def _time(content: Mapping[str, object], number: int, now: datetime) -> datetime:
    value = content.get("time_ms", content.get("timestamp"))
    try:
        if value == "":
            return now
        seconds = float(value if isinstance(value, int | float | str) else "")
        milliseconds = int(seconds if seconds >= 100_000_000_000 else seconds * 1000)
        return from_epoch_milliseconds(milliseconds)
    except (ValueError, OverflowError, OSError):
        raise RecordingError(f"Line {number}: the body has neither `time_ms` nor a readable `timestamp`.") from None


@dataclass(slots=True)
class Change:
    """What the recording would change of one goal."""

    goal_id: str
    name: str
    before: int
    after: int
    level_before: int
    level_after: int
    levels: int
    tokens: int
    """What its escrow holds, which would be paid when the last level is reached."""
    runs_before: bool
    runs_after: bool
    events: int = 0
    repeats: int = 0
    refused: dict[str, int] = field(default_factory=dict)

    @property
    def pays(self) -> bool:
        """Whether the recording would reach the last level."""
        return self.levels > 0 and self.level_after == self.levels > self.level_before

    @property
    def sentence(self) -> str:
        """What would change, in one sentence."""
        if (self.before, self.runs_before) == (self.after, self.runs_after):
            return f"{self.name} would not change: {self.before} s."
        said = f"{self.name} would go from {self.before} to {self.after} s"
        if self.level_after != self.level_before:
            said += f" and from level {self.level_before} to {self.level_after}"
        if self.pays and self.tokens:
            said += f"; {self.tokens} tokens would be paid"
        if self.runs_after and not self.runs_before:
            said += "; its clock would run"
        return said + "."


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What a recording would change."""

    changes: Sequence[Change]
    webhooks: int
    stale: int
    """Webhooks that would be refused because they are older than 15 minutes."""
    elsewhere: int
    """Events that are not about a goal that there is."""

    @property
    def sentence(self) -> str:
        """What a replay would change, in one sentence."""
        changed = [change for change in self.changes if not change.sentence.endswith(f"not change: {change.before} s.")]
        if not changed:
            return "A replay would change no goal."
        seconds = sum(change.after - change.before for change in changed)
        tokens = sum(change.tokens for change in changed if change.pays)
        goals = f"{len(changed)} goal{'s' if len(changed) != 1 else ''}"
        return f"A replay would change {goals}: {seconds} more seconds would count, and {tokens} tokens would be paid."

    def digest(self, text: str, *, keep_time: bool) -> str:
        """Returns the hash of the recording and of all that it would change: what is sent for real must be the same."""
        told = [
            (change.goal_id, change.before, change.after, change.level_after, change.tokens) for change in self.changes
        ]
        return sha256(json.dumps([text, keep_time, told]).encode()).hexdigest()


async def rehearse(recording: Sequence[Recorded], now: datetime, exclusive_rule: Rule) -> Rehearsal:
    """Plays the recording to copies of the clocks."""
    heard = [
        (webhook, event) for webhook in recording for event in webhook.content["events"] if isinstance(event, dict)
    ]
    wanted = {goal_id for _, event in heard if (goal_id := _goal_of(event)) is not None}
    collection = Goal.get_motor_collection()
    documents = {goal["_id"]: goal for goal in await collection.find({"_id": {"$in": list(wanted)}}).to_list(None)}
    clocks = {
        goal_id: GoalClock.read(
            goal.get("clock"), goal.get("context"), rule_of(goal, exclusive_rule), deadline_of(goal)
        )
        for goal_id, goal in documents.items()
    }
    changes = {goal_id: await _unchanged(goal, clocks[goal_id]) for goal_id, goal in documents.items()}
    elsewhere = 0
    stale = [webhook for webhook in recording if now - webhook.at > _STALE]
    for webhook, event in heard:
        goal_id = _goal_of(event)
        if goal_id is None or goal_id not in documents or event.get("name") not in _JOINS | _LEAVES:
            elsewhere += 1
        elif now - webhook.at <= _STALE:
            _hear(documents[goal_id], clocks, changes[goal_id], webhook, event, now)
    for goal_id, change in changes.items():
        goal, clock = documents[goal_id], clocks[goal_id]
        change.after = max(change.before, change.before + clock.counted - _counted(goal))
        change.level_after = level_of(Goal.parse(goal).levels, change.after)
        change.runs_after = clock.running
    return Rehearsal(list(changes.values()), len(recording), len(stale), elsewhere)


def _goal_of(event: Mapping[str, object]) -> ObjectId | None:
    channel = Channel.parse(str(event.get("channel", "")))
    if channel is None or channel.kind is not ChannelKind.GOAL or not ObjectId.is_valid(channel.about):
        return None
    return ObjectId(channel.about)


def _counted(goal: Mapping[str, object]) -> int:
    return GoalClock.read(goal.get("clock"), goal.get("context"), rule_of(goal), deadline_of(goal)).counted


async def _unchanged(document: Mapping[str, object], clock: GoalClock) -> Change:
    goal = Goal.parse(document)
    level = level_of(goal.levels, goal.progress)
    balances = [await Account.balance_of(escrow_account(escrow)) for escrow in await escrows_of(goal)]
    title = goal.levels[-1].title if goal.levels else ""
    name = f"The {goal.kind.value} “{title}”" if title else f"The {goal.kind.value} {goal.id}"
    return Change(
        goal_id=str(goal.id),
        name=name,
        before=goal.progress,
        after=goal.progress,
        level_before=level,
        level_after=level,
        levels=len(goal.levels),
        tokens=sum(balances),
        runs_before=clock.running,
        runs_after=clock.running,
    )


def _hear(
    document: Mapping[str, Any],
    clocks: dict[ObjectId, GoalClock],
    change: Change,
    webhook: Recorded,
    event: Mapping[str, object],
    now: datetime,
) -> None:
    """Plays one event to the copy of the clock, as the webhook would."""
    clock: GoalClock = clocks[document["_id"]]
    user = event.get("user_id")
    joined, at = event.get("name") in _JOINS, min(webhook.at, now)
    move = Move(document["_id"], joined, None if user is None else str(user), at, "", Origin())
    owner = owner_of(document, clock, move.user_id)
    reason = not_admitted(document) if owner is None else declined(document, clock, move, now)
    change.events += 1
    if owner is None or reason is not None:
        named = (reason or not_admitted(document)).value
        change.refused[named] = change.refused.get(named, 0) + 1
        return
    if not is_active(document) and clock.ended is None and clock.deadline is not None:
        at = min(at, deadline_of(document) or at)
    if clock.ended is not None and not clock.takes(at, now):
        change.refused["goal_inactive"] = change.refused.get("goal_inactive", 0) + 1
        return
    after, _ = clock.turn(join_mark(at) if move.joined else leave_mark(at), now, owner)
    change.repeats += after == clock
    clocks[document["_id"]] = after
