"""The bus: receivers run side by side, are bounded and isolated, and every answer is kept."""

import asyncio
import gc
import random
import weakref
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import REGISTRY

from goalsvc.context import Context
from goalsvc.domain.channels import ChannelKind
from goalsvc.domain.goals import GoalKind
from goalsvc.domain.outcome import Done, Failed, Outcome, Reason, Report, Returned
from goalsvc.receivers import ALL
from goalsvc.signals import bus as bus_module
from goalsvc.signals.bus import SignalBus
from goalsvc.signals.events import ChannelOccupied, GoalCompleted, GoalEnded, GoalProgressed
from goalsvc.signals.receiver import Receiver, on, receiver
from tests.receivers.fakes import Stage, open_stage
from tests.receivers.scenes import Run, any_event, goal_event, joined, set_up

ENDED = goal_event(GoalEnded, GoalKind.SHOW)


def answers(report: Report) -> dict[str, Any]:
    return {one.receiver: one.answer for one in report.receivers}


@receiver(on(GoalEnded))
async def fine(context: Context, event: GoalEnded) -> Outcome:
    """Does its part."""
    return Done("fine")


@receiver(on(GoalEnded))
async def broken(context: Context, event: GoalEnded) -> Outcome:
    """Raises."""
    raise ValueError("no such thing")


class TestSend:
    async def test_every_receiver_of_the_sender_answers(self, context: Context) -> None:
        report = await SignalBus([fine, broken]).send(context, ENDED)
        assert (report.signal, report.sender) == ("features.leaderboards", "goal.ended")
        assert answers(report) == {"fine": Done("fine"), "broken": Failed("ValueError: no such thing")}

    async def test_other_senders_of_the_same_signal_are_not_called(self, context: Context) -> None:
        assert (await SignalBus([fine]).send(context, goal_event(GoalCompleted, GoalKind.SHOW))).receivers == ()

    async def test_a_signal_that_nobody_hears_is_no_error(self, context: Context) -> None:
        report = await SignalBus([]).send(context, ENDED)
        assert (report.receivers, report.failures) == ((), ())

    async def test_answers_stand_in_the_order_of_connection(self, context: Context) -> None:
        many = [replace(fine, name=f"receiver_{number}") for number in range(50)]
        report = await SignalBus(many).send(context, ENDED)
        assert [one.receiver for one in report.receivers] == [one.name for one in many]

    async def test_when_and_how_long_is_kept(self, stage: Stage) -> None:
        report = await SignalBus([fine]).send(stage.context, ENDED)
        (one,) = report.receivers
        assert report.at == one.at == stage.clock.now()
        assert 0 <= one.milliseconds <= report.milliseconds

    async def test_two_buses_do_not_hear_each_other(self, context: Context) -> None:
        SignalBus([broken])
        assert list(answers(await SignalBus([fine]).send(context, ENDED))) == ["fine"]


class TestSideBySide:
    async def test_receivers_of_one_send_run_at_the_same_time(self, context: Context) -> None:
        """Each waits for the other: one after the other they would never end."""
        here, there = asyncio.Event(), asyncio.Event()

        @receiver(on(GoalEnded))
        async def one(context: Context, event: GoalEnded) -> Outcome:
            here.set()
            await there.wait()
            return Done()

        @receiver(on(GoalEnded))
        async def other(context: Context, event: GoalEnded) -> Outcome:
            there.set()
            await here.wait()
            return Done()

        report = await SignalBus([one, other]).send(context, ENDED)
        assert answers(report) == {"one": Done(), "other": Done()}

    async def test_a_failure_does_not_stop_a_sibling_that_is_under_way(self, context: Context) -> None:
        failed = asyncio.Event()

        @receiver(on(GoalEnded))
        async def fails_first(context: Context, event: GoalEnded) -> Outcome:
            failed.set()
            raise RuntimeError("first")

        @receiver(on(GoalEnded))
        async def goes_on(context: Context, event: GoalEnded) -> Outcome:
            await failed.wait()
            await asyncio.sleep(0)
            return Done("went on")

        report = await SignalBus([fails_first, goes_on]).send(context, ENDED)
        assert answers(report)["goes_on"] == Done("went on")
        assert report.failures == ("fails_first: RuntimeError: first",)

    @pytest.mark.parametrize("seed", range(5))
    @pytest.mark.parametrize(
        ("event", "kind"),
        [(GoalEnded, GoalKind.EXCLUSIVE), (GoalCompleted, GoalKind.SHOW), (GoalEnded, GoalKind.TRIGGER)],
    )
    async def test_the_order_of_receivers_does_not_matter(self, event: type[Any], kind: GoalKind, seed: int) -> None:
        async def ends_as(receivers: Sequence[Receiver]) -> Any:
            async with open_stage(receivers) as stage:
                await set_up(kind)
                await stage.bus.send(stage.context, any_event(event, kind, Run.REACHED))
                return await stage.everything(), stage.recorder.tracked, sorted(map(str, stage.notifier.notices))

        shuffled = list(ALL)
        random.Random(seed).shuffle(shuffled)
        assert await ends_as(shuffled) == await ends_as(ALL)


class TestFailures:
    async def test_whoever_sends_is_cancelled_not_answered(self, context: Context) -> None:
        """A webhook that is given up must not be answered as if its receivers had failed."""
        never = asyncio.Event()

        @receiver(on(GoalEnded))
        async def waits(context: Context, event: GoalEnded) -> Outcome:
            await never.wait()
            return Done()

        sending = asyncio.create_task(SignalBus([waits, fine]).send(context, ENDED))
        await asyncio.sleep(0)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending

    async def test_a_receiver_has_bounded_time(self, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bus_module, "TIME_LIMIT_SECONDS", 0.01)
        never = asyncio.Event()

        @receiver(on(GoalEnded))
        async def hangs(context: Context, event: GoalEnded) -> Outcome:
            await never.wait()
            return Done()

        report = await SignalBus([hangs, fine]).send(context, ENDED)
        assert answers(report) == {"hangs": Failed("took longer than 0.01 s"), "fine": Done("fine")}

    async def test_a_reason_that_was_not_declared_is_a_failure(self, context: Context) -> None:
        @receiver(on(GoalEnded), returns={Reason.NO_SESSION})
        async def surprises(context: Context, event: GoalEnded) -> Outcome:
            return Returned(Reason.NO_VIEWER)

        report = await SignalBus([surprises]).send(context, ENDED)
        assert report.failures == ("surprises: returned no_viewer, which surprises has not declared",)

    async def test_a_reason_that_was_declared_is_none(self, context: Context) -> None:
        @receiver(on(GoalEnded), returns={Reason.NO_SESSION})
        async def skips(context: Context, event: GoalEnded) -> Outcome:
            return Returned(Reason.NO_SESSION)

        report = await SignalBus([skips]).send(context, ENDED)
        assert (answers(report), report.failures) == ({"skips": Returned(Reason.NO_SESSION)}, ())

    @pytest.mark.parametrize("answer", [None, True, "done", Done], ids=repr)
    async def test_what_is_no_outcome_is_a_failure(self, context: Context, answer: Any) -> None:
        @receiver(on(GoalEnded))
        async def forgets(context: Context, event: GoalEnded) -> Outcome:
            return answer  # type: ignore[no-any-return]

        report = await SignalBus([forgets, fine]).send(context, ENDED)
        assert len(report.failures) == 1
        assert answers(report)["fine"] == Done("fine")


class TestDeclining:
    """What a receiver has said is none of its business is answered for it, without a call."""

    async def test_another_goal_kind(self, context: Context) -> None:
        @receiver(on(GoalEnded, GoalKind.EXCLUSIVE), returns={Reason.OTHER_GOAL_KIND})
        async def for_exclusives(context: Context, event: GoalEnded) -> Outcome:
            raise AssertionError("not its business")

        report = await SignalBus([for_exclusives]).send(context, ENDED)
        assert answers(report) == {"for_exclusives": Returned(Reason.OTHER_GOAL_KIND)}

    @pytest.mark.parametrize(
        ("kind", "reason"),
        [(ChannelKind.STREAM, Reason.NOT_A_STREAM_CHANNEL), (ChannelKind.USER, Reason.NOT_A_USER_CHANNEL)],
    )
    async def test_another_channel(self, context: Context, kind: ChannelKind, reason: Reason) -> None:
        @receiver(on(ChannelOccupied, channel=kind), returns={reason})
        async def for_others(context: Context, event: ChannelOccupied) -> Outcome:
            raise AssertionError("not its business")

        assert answers(await SignalBus([for_others]).send(context, joined())) == {"for_others": Returned(reason)}


class TestReferences:
    async def test_receivers_are_held_strongly(self, context: Context) -> None:
        """blinker's own way is a weak reference: a receiver that was defined in a function would vanish."""

        def connected() -> tuple[SignalBus, "weakref.ref[Any]"]:
            @receiver(on(GoalEnded))
            async def local(context: Context, event: GoalEnded) -> Outcome:
                return Done("still here")

            return SignalBus([local]), weakref.ref(local.function)

        bus, function = connected()
        gc.collect()
        assert function() is not None
        assert answers(await bus.send(context, ENDED)) == {"local": Done("still here")}

    async def test_defining_one_connects_nothing(self, context: Context) -> None:
        bus = SignalBus([])

        @receiver(on(GoalEnded))
        async def unheard(context: Context, event: GoalEnded) -> Outcome:
            return Done()

        assert (await bus.send(context, ENDED)).receivers == ()
        assert await unheard(context, ENDED) == Done()


class TestNestedReports:
    async def test_what_a_receiver_announced_is_part_of_its_answer(self, stage: Stage) -> None:
        await set_up(GoalKind.SHOW)
        report = await stage.bus.send(stage.context, goal_event(GoalProgressed, GoalKind.SHOW))
        answer = answers(report)["trigger_goal_complete"]
        (nested,) = answer.reports
        assert nested.sender == "goal.completed"
        assert "deactivate_goal" in answers(nested)

    async def test_failures_are_told_from_however_deep(self, stage: Stage) -> None:
        @receiver(on(GoalCompleted))
        async def deep(context: Context, event: GoalCompleted) -> Outcome:
            raise KeyError("deep")

        async with open_stage([*ALL, deep]) as deeper:
            await set_up(GoalKind.SHOW)
            report = await deeper.bus.send(deeper.context, goal_event(GoalProgressed, GoalKind.SHOW))
        assert report.failures == ("deep: KeyError: 'deep'",)
        assert isinstance(answers(report)["trigger_goal_complete"], Done)


class TestMetrics:
    async def test_each_answer_is_counted(self, context: Context) -> None:
        def counted(outcome: str) -> float:
            labels = {"sender": "goal.ended", "receiver": "fine", "outcome": outcome}
            return REGISTRY.get_sample_value("goalsvc_receiver_answers_total", labels) or 0.0

        before = counted("done"), counted("failed")
        await SignalBus([fine]).send(context, ENDED)
        assert (counted("done"), counted("failed")) == (before[0] + 1, before[1])
