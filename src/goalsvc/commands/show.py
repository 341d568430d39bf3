"""`goalsvc show`: a recording of webhooks as the time line of each of its goals, drawn without a server."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from bson import ObjectId

from goalsvc.commands.api import CommandError
from goalsvc.commands.replay import Recorded
from goalsvc.console.pictures.timeline import Mark, Run, Timeline, draw
from goalsvc.console.rendering import templates
from goalsvc.domain.channels import JOINS, LEAVES, Channel, ChannelKind
from goalsvc.domain.durations import duration_text
from goalsvc.domain.performance import GoalClock, Owner
from goalsvc.domain.presence import join_mark, leave_mark

_COLOURS = """
svg{font:11px system-ui,sans-serif;background:#fff}text{fill:#1c1d21}.lane,.tick{fill:#5d6270}.lane,.act-name{font-weight:600}
.grid{stroke:#eef0f3}.row{stroke:#d9dbe1}.break{fill:#eef0f3}.present{stroke:#9aa4b8;stroke-width:4}.mark{fill:#1c1d21}
.mark-refused{fill:#fff;stroke:#b3261e}.run,.run-open{fill:#2563eb}text.run-label{fill:#fff;font-weight:600}
"""


@dataclass(frozen=True, slots=True)
class Shown:
    """The time line of one goal of a recording."""

    goal_id: str
    timeline: Timeline
    sentence: str


def shown_of(recording: Iterable[Recorded], performer: str = "") -> list[Shown]:
    """Returns the time lines of the goals that a recording is about.

    Whose performance it is says only the goal's document: the performer is the user given, else the first who joined.
    Raises CommandError when the recording is about no goal.
    """
    by_goal: dict[str, list[tuple[datetime, Mapping[str, object]]]] = {}
    last = datetime.min.replace(tzinfo=UTC)
    for webhook in recording:
        last = webhook.at or last  # one that is dated by its receipt came after the one before
        for event in webhook.content["events"]:
            goal_id = _goal_of(event) if isinstance(event, dict) else None
            if goal_id is not None and event.get("name") in JOINS | LEAVES:
                by_goal.setdefault(goal_id, []).append((webhook.at or last, event))
    if not by_goal:
        raise CommandError("the recording is about no goal: it has no join or leave of a goal's channel")
    return [_shown(goal_id, heard, performer) for goal_id, heard in by_goal.items()]


def _goal_of(event: Mapping[str, object]) -> str | None:
    channel = Channel.parse(str(event.get("channel", "")))
    if channel is None or channel.kind is not ChannelKind.GOAL or not ObjectId.is_valid(channel.about):
        return None
    return channel.about


def _shown(goal_id: str, heard: list[tuple[datetime, Mapping[str, object]]], performer: str) -> Shown:
    users = [str(event["user_id"]) for _, event in heard if event.get("user_id") is not None]
    mine = performer or (users[0] if users else "")
    clock = GoalClock()
    marks: dict[tuple[datetime, bool, str], Mark] = {}
    last = max(at for at, _ in heard)
    for at, event in heard:
        user, joined = event.get("user_id"), event.get("name") in JOINS
        counted = user is None or str(user) == mine
        name = "channel" if user is None else f"{user} (performer)" if counted else str(user)
        marks.setdefault((at, joined, name), Mark(at, joined, name, counted, "" if counted else "not_a_participant"))
        if counted:
            clock, _ = clock.turn(join_mark(at) if joined else leave_mark(at), last, Owner.PERFORMER)
    runs = [Run(stretch["from"], stretch["to"]) for stretch in clock.evidence()]
    if clock.open_since is not None:
        runs.append(Run(clock.open_since, None))
    timeline = Timeline(f"goal {goal_id}", "s", last, marks=sorted(marks.values(), key=lambda mark: mark.at), runs=runs)
    performed = duration_text(timedelta(milliseconds=clock.milliseconds))
    running = f"; the clock runs since {clock.open_since:%H:%M:%S}" if clock.open_since is not None else ""
    refused = sum(not mark.counted for mark in marks.values())
    sentence = (
        f"goal {goal_id}: {clock.counted} s count ({performed} in {len(clock.evidence())} stretches); "
        f"{refused} of {len(marks)} joins and leaves are not {mine or 'the performer'}'s{running}"
    )
    return Shown(goal_id, timeline, sentence)


def svg_of(shown: Shown) -> str:
    """Returns the picture as a file of its own, with its colours."""
    svg = templates().get_template("timeline.svg").render(drawing=draw(shown.timeline)).strip()
    head, mark, rest = svg.partition(">")
    return f"{head}{mark}<style>{_COLOURS}</style>{rest}\n"
