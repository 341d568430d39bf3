"""THE TABLE, executed: every receiver × every goal kind, through the real bus."""

from collections.abc import Mapping
from typing import Any

import pytest

from goalsvc.domain.goals import GoalKind
from goalsvc.domain.outcome import Done, Failed, Report, Returned
from goalsvc.receivers import ALL
from goalsvc.signals.catalogue import CATALOGUE
from goalsvc.signals.events import ChannelOccupied

from .fakes import Stage
from .scenes import CHANNEL, STREAMER, VIEWER, Run, joined, left, play, set_up
from .table import BY_CHANNEL, BY_RUN

EVENTS: Mapping[str, type[Any]] = {entry.event.sender: entry.event for entry in CATALOGUE}

CELLS = [
    pytest.param(run, sender, GoalKind(kind), answers, id=f"{run}-{sender}-{kind}".replace(" ", "_"))
    for run, table in BY_RUN.items()
    for sender, columns in table.items()
    for kind, answers in columns.items()
]

CHANNEL_CELLS = [
    pytest.param(sender, prefix, answers, id=f"{sender}-{prefix}")
    for sender, columns in BY_CHANNEL.items()
    for prefix, answers in columns.items()
]


def answers_of(report: Report) -> dict[str, str]:
    """Receiver → `done`, its reason, or how it failed."""

    def told(answer: Done | Returned | Failed) -> str:
        match answer:
            case Done():
                return "done"
            case Returned(reason=reason):
                return reason.value
            case Failed(error=error):
                return f"failed: {error}"

    return {one.receiver: told(one.answer) for one in report.receivers}


class TestEveryReceiverAnswersForEveryKind:
    @pytest.mark.parametrize(("run", "sender", "kind", "answers"), CELLS)
    async def test_as_the_table_says(
        self, stage: Stage, run: Run, sender: str, kind: GoalKind, answers: Mapping[str, str]
    ) -> None:
        report = await play(stage, EVENTS[sender], kind, run)
        assert report.failures == ()
        assert answers_of(report) == answers

    @pytest.mark.parametrize(("sender", "prefix", "answers"), CHANNEL_CELLS)
    async def test_and_for_every_kind_of_channel(
        self, stage: Stage, sender: str, prefix: str, answers: Mapping[str, str]
    ) -> None:
        happened = joined if EVENTS[sender] is ChannelOccupied else left
        await set_up(GoalKind.SHOW, running=happened is left)
        event = happened(CHANNEL) if "goal" in prefix else happened(prefix + STREAMER, VIEWER)
        assert answers_of(await stage.bus.send(stage.context, event)) == answers


class TestTheTableIsWhole:
    def test_it_has_every_sender(self) -> None:
        assert set(BY_RUN[Run.REACHED]) == set(EVENTS)

    def test_it_has_every_receiver_of_every_sender(self) -> None:
        heard = {(listening.event.sender, receiver.name) for receiver in ALL for listening in receiver.listens}
        written = {
            (sender, receiver)
            for sender, columns in BY_RUN[Run.REACHED].items()
            for answers in columns.values()
            for receiver in answers
        }
        assert written == heard

    def test_there_are_the_33_receivers_of_the_specification(self) -> None:
        columns = [columns for table in BY_RUN.values() for columns in table.values()]
        assert len({receiver for kinds in columns for answers in kinds.values() for receiver in answers}) == 33
