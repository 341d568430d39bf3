"""Receivers as values, and the catalogue of what they may listen to."""

from dataclasses import FrozenInstanceError, fields

import pytest

from goalsvc.context import Context
from goalsvc.domain.channels import ChannelKind
from goalsvc.domain.goals import ClockTimes, GoalKind, Level, level_of
from goalsvc.domain.outcome import Done, Outcome, Reason
from goalsvc.signals import events
from goalsvc.signals.catalogue import CATALOGUE
from goalsvc.signals.events import GoalCompleted, GoalEnded, GoalEvent, GoalProgressed
from goalsvc.signals.receiver import on, receiver
from tests.receivers.fakes import NOW
from tests.receivers.scenes import PAUSED, STARTED, goal_event, joined, without_viewer


@receiver(on(GoalEnded, GoalKind.SHOW), on(GoalCompleted), returns={Reason.OTHER_GOAL_KIND})
async def example(context: Context, event: GoalEvent) -> Outcome:
    """Does one thing.

    And this is how.
    """
    return Done(event.goal_id)


class TestReceiver:
    def test_it_is_named_and_described_by_its_function(self) -> None:
        assert (example.name, example.doc) == ("example", "Does one thing.")

    async def test_it_can_be_awaited_without_a_bus(self, context: Context) -> None:
        event = goal_event(GoalEnded, GoalKind.SHOW)
        assert await example(context, event) == Done(event.goal_id)

    def test_it_cannot_be_changed(self) -> None:
        with pytest.raises(FrozenInstanceError):
            example.name = "other"  # type: ignore[misc]


class TestOn:
    def test_all_kinds_unless_some_are_named(self) -> None:
        assert on(GoalEnded).kinds == frozenset(GoalKind)
        assert on(GoalEnded, GoalKind.SHOW).kinds == {GoalKind.SHOW}

    def test_declines_what_is_of_another_kind(self) -> None:
        listening = on(GoalEnded, GoalKind.SHOW)
        assert listening.declines(goal_event(GoalEnded, GoalKind.SHOW)) is None
        assert listening.declines(goal_event(GoalEnded, GoalKind.KARAOKE)) is Reason.OTHER_GOAL_KIND

    def test_declines_other_channels(self) -> None:
        assert on(events.ChannelOccupied, channel=ChannelKind.GOAL).declines(joined()) is None
        assert on(events.ChannelOccupied).declines(joined()) is None
        declined = on(events.ChannelOccupied, channel=ChannelKind.USER).declines(joined())
        assert declined is Reason.NOT_A_USER_CHANNEL

    def test_says_what_it_may_decline_for(self) -> None:
        assert on(GoalEnded).declinable == frozenset()
        assert on(GoalEnded, GoalKind.SHOW).declinable == {Reason.OTHER_GOAL_KIND}
        assert on(events.ChannelOccupied, channel=ChannelKind.STREAM).declinable == {Reason.NOT_A_STREAM_CHANNEL}


#: What this service tells besides: who was absent, and whether the settlement waits.
ADDED = ("absent", "settles_at")


class TestCatalogue:
    def test_it_lists_every_event_that_has_a_sender(self) -> None:
        described = {entry.event for entry in CATALOGUE}
        made = {
            value
            for value in vars(events).values()
            if isinstance(value, type) and "sender" in vars(value) and hasattr(value, "signal")
        }
        assert described == made

    def test_each_sender_once(self) -> None:
        assert len({entry.name for entry in CATALOGUE}) == len(CATALOGUE)

    def test_it_says_when_a_signal_is_sent_and_when_not(self) -> None:
        assert all(entry.sent.endswith(".") and entry.not_sent.endswith(".") for entry in CATALOGUE)
        assert CATALOGUE[0].name == "ext.pusher · channel_occupied"

    @pytest.mark.parametrize(
        ("event", "names"),
        [
            (
                GoalProgressed,
                {
                    "amount",
                    "contributions",
                    "conditions",
                    "context",
                    "progress",
                    "breakdown_id",
                    "levels",
                    "metadata",
                    "exp",
                },
            ),
            (GoalCompleted, {"conditions", "context", "progress", "levels", "metadata"}),
            (
                GoalEnded,
                {"active", "progress", "levels", "conditions", "context", "exp", "triggerer", "metadata", *ADDED},
            ),
        ],
    )
    def test_payloads_are_those_of_the_specification(self, event: type[GoalEvent], names: set[str]) -> None:
        # What it calls `_cls` is `kind` here; a field cannot begin with an underscore.
        assert {field.name for field in fields(event)} == names | {"goal_id", "kind", "event_id", "at"}

    def test_a_goal_that_has_ended_is_not_active(self) -> None:
        assert goal_event(GoalEnded, GoalKind.SHOW).active is False


class TestGoalEvents:
    def test_levels(self) -> None:
        levels = [Level(target=100), Level(target=200)]
        assert [level_of(levels, progress) for progress in (0, 99, 100, 199, 200, 900)] == [0, 0, 1, 1, 2, 2]
        assert level_of([], 900) == 0

    def test_the_level_before(self) -> None:
        event = goal_event(GoalProgressed, GoalKind.SHOW, progress=360, amount=1)
        assert (event.level_before, event.level, event.target_reached) == (0, 1, True)

    def test_without_levels_no_target_is_ever_reached(self) -> None:
        event = goal_event(GoalProgressed, GoalKind.EXCLUSIVE, levels=(), progress=10**9)
        assert (event.target, event.target_reached) == (None, False)

    def test_the_viewer_is_named_by_conditions_or_metadata(self) -> None:
        event = goal_event(GoalEnded, GoalKind.EXCLUSIVE)
        assert event.viewer_id == "u-bob-2"
        assert without_viewer(event).viewer_id is None

    @pytest.mark.parametrize(
        ("times", "running"),
        [
            (ClockTimes(), False),
            (ClockTimes(started=STARTED), True),
            (ClockTimes(paused=PAUSED), False),
            (ClockTimes(started=STARTED, paused=PAUSED), False),
            (ClockTimes(started=NOW, paused=PAUSED), True),
            (ClockTimes(started=NOW, paused=NOW), False),
        ],
    )
    def test_the_clock_runs_while_started_is_later_than_paused(self, times: ClockTimes, running: bool) -> None:
        assert times.running is running
