"""Writes `docs/receivers.md`: `python -m tests.receivers.document` from the project's root.

Everything in it is read from where it holds: the receivers' own values, the catalogue of signals, the table of answers
(which `test_table` executes), and, for the tasks that a receiver owes, from an execution of that table.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from itertools import groupby
from pathlib import Path

from goalsvc.domain.goals import ALL_KINDS, GoalKind
from goalsvc.domain.outcome import Done, Report
from goalsvc.receivers import ALL
from goalsvc.signals.catalogue import CATALOGUE, SignalEntry
from goalsvc.signals.events import GoalEvent, PresenceEvent
from goalsvc.signals.receiver import On, Receiver
from tests.support.markdown import table_of

from .fakes import Stage, open_stage
from .scenes import Run, joined, play
from .table import BY_CHANNEL, BY_RUN, Table

PATH = Path(__file__).parents[2] / "docs" / "receivers.md"

#: (sender, receiver) → names of the tasks it owes; with a star those that it owes only when Pusher does not take a notice.
Owed = Mapping[tuple[str, str], Sequence[str]]

HEAD = """\
# Signals and receivers

<!-- Written by `python -m tests.receivers.document`; tests/receivers/test_document.py holds it to the code. -->

A webhook becomes an event, a signal carries it, and every receiver of that (signal, sender) is called, side by side, for
every goal kind. A receiver answers **done**, or *returned* with a reason: it saw that this is not its business, or that there
was nothing left to do. What must follow it owes as tasks, which are promises in a document until they are paid.

The order of receivers means nothing. One that fails does not stop the others; the announcer of the signal makes sure that
it is announced again, and a second delivery changes nothing.
"""

ANSWERS_HEAD = """\
## Who answers what

For every receiver and every goal kind; no cell is empty.
"""

RUN_HEADS = {
    Run.REACHED: (
        "The target is reached",
        "The goal is performed, or funded, to its target, and ends; a request is agreed to. What Pusher and the wallet say "
        "does not depend on the run and stands only here; no escrow is ever made for a KaraokeGoal, so its cells under "
        "`wallet` tell that the kind is not asked for.",
    ),
    Run.SHORT: ("It stops short", "The goal stops below its target and ends so; a request is declined."),
    Run.LOWER_LEVEL: ("A lower level", "The goal reaches a level that is not its last."),
    Run.UNTIMED: (
        "An exclusive without a target",
        "An ExclusiveGoal without levels is performed for a while, and ends.",
    ),
}

CHANNELS_HEAD = """\
### Other channels

What the receivers of `ext.pusher` answer for each kind of channel; of a goal's channel, for a goal with a clock.
"""


# -- what is owed -----------------------------------------------------------------------------------------------------


async def find_owed() -> Owed:
    """Plays every cell of the table twice, once with a Pusher that takes nothing."""
    owed: dict[tuple[str, str], dict[str, bool]] = defaultdict(dict)
    events = {entry.event.sender: entry.event for entry in CATALOGUE}
    for refusing in (False, True):
        for run, table in BY_RUN.items():
            for sender, columns in table.items():
                for kind in columns:
                    async with open_stage() as stage:
                        stage.notifier.refuse(100 if refusing else 0)
                        report = await play(stage, events[sender], GoalKind(kind), run)
                        _note(owed, stage, report, refusing)
    async with open_stage() as stage:
        stream = joined("presence-stream@u-1", "u-2")
        _note(owed, stage, await stage.bus.send(stage.context, stream), False)
    vacated, occupied = ("channel_vacated", "trigger_user_enter"), ("channel_occupied", "trigger_user_enter")
    owed[vacated] = owed[occupied]
    return {
        place: [f"`{task}`*" if only_if_refused else f"`{task}`" for task, only_if_refused in sorted(tasks.items())]
        for place, tasks in owed.items()
    }


def _note(owed: dict[tuple[str, str], dict[str, bool]], stage: Stage, report: Report, refusing: bool) -> None:
    for receiver in report.receivers:
        place = (report.sender, receiver.receiver)
        if isinstance(receiver.answer, Done):
            for follow_up in receiver.answer.follow_ups:
                owed[place].setdefault(follow_up.task, refusing)
            if receiver.receiver == "karaoke_control":
                # It promises in the very write that moves the clock, and hurries what it promised.
                for task in stage.queue.tasks():
                    owed[place].setdefault(task, refusing)


# -- what is written --------------------------------------------------------------------------------------------------


def render(owed: Owed) -> str:
    """The whole document."""
    return "\n".join([HEAD, *_signals(owed), ANSWERS_HEAD, *_answers(), CHANNELS_HEAD, *_blocks(BY_CHANNEL)]) + "\n"


def _signals(owed: Owed) -> Iterator[str]:
    for signal, entries in groupby(CATALOGUE, lambda entry: entry.event.signal):
        yield f"## `{signal}`\n"
        for entry in entries:
            yield from _signal(entry, owed)
    yield "\\* only when Pusher does not take the notice at once.\n"


def _signal(entry: SignalEntry, owed: Owed) -> Iterator[str]:
    sender = entry.event.sender
    yield f"### `{sender}`\n"
    yield f"Sent: {entry.sent}\n"
    yield f"Not sent: {entry.not_sent}\n"
    yield f"Payload: {', '.join(f'`{field.name}`' for field in fields(entry.event))}.\n"
    yield from table_of(
        ["receiver", "does", "concerns", "returns", "owes"],
        (
            [
                f"[`{receiver.name}`](../{_source(receiver)})",
                receiver.doc,
                _concerns(listening),
                ", ".join(f"`{reason}`" for reason in sorted(receiver.returns)) or "–",
                ", ".join(owed.get((sender, receiver.name), [])) or "–",
            ]
            for receiver in ALL
            for listening in receiver.listens
            if listening.event is entry.event
        ),
    )


def _source(receiver: Receiver) -> str:
    return f"src/{receiver.function.__module__.replace('.', '/')}.py"


def _concerns(listening: On) -> str:
    if issubclass(listening.event, PresenceEvent):
        return f"{listening.channel} channels" if listening.channel else "every channel"
    if not issubclass(listening.event, GoalEvent) or listening.kinds == ALL_KINDS:
        return "all"
    return ", ".join(kind.removesuffix("Goal") for kind in GoalKind if kind in listening.kinds)


def _answers() -> Iterator[str]:
    for run, table in BY_RUN.items():
        title, text = RUN_HEADS[run]
        yield f"### {title}\n"
        yield f"{text}\n"
        yield from _blocks(table)


def _blocks(table: Table) -> Iterator[str]:
    for sender, columns in table.items():
        receivers = next(iter(columns.values()))
        yield from table_of(
            [f"`{sender}`", *columns],
            (
                [f"`{receiver}`", *(_answer(answers[receiver]) for answers in columns.values())]
                for receiver in receivers
            ),
        )


def _answer(answer: str) -> str:
    return "**done**" if answer == "done" else f"*{answer}*"


def main() -> None:
    """Writes the document anew."""
    PATH.parent.mkdir(exist_ok=True)
    PATH.write_text(render(asyncio.run(find_owed())), "utf-8")


if __name__ == "__main__":
    main()
