"""The law of the clock: whatever the order and however often, progress is what the events say, sorted by time."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bson import ObjectId
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from goalsvc.clock import from_epoch_milliseconds
from goalsvc.domain.goals import Level, Metadata
from goalsvc.domain.moves import Move, Moved
from goalsvc.domain.origin import NOWHERE
from goalsvc.domain.performance import FOLD_ABOVE, GoalClock
from goalsvc.domain.presence import join_mark, leave_mark
from goalsvc.models.clocks import GoalClocks
from goalsvc.models.goal import Goal, ShowGoal
from tests.models.oracle import Happening, seconds_counted
from tests.world import FakeClock, World

NOON_MS = 1_772_366_400_000
HORIZON_MS = 14 * 60 * 1000

#: Whole seconds, instants a few milliseconds beside them, and the same instant again are the interesting ones.
instants = st.one_of(
    st.integers(0, 12).map(lambda second: second * 1000),
    st.integers(0, 12_000),
    st.integers(0, HORIZON_MS),
)
happenings = st.builds(Happening, st.sampled_from(["join", "leave"]), instants.map(lambda ms: NOON_MS + ms))
arrivals = st.lists(happenings, max_size=14)
#: Some of them again, at some later place: Pusher repeats.
repeats = st.lists(st.tuples(st.integers(0, 13), st.integers(0, 27)), max_size=4)


def with_repeats(once: Sequence[Happening], again: Sequence[tuple[int, int]]) -> list[Happening]:
    told = list(once)
    for which, where in again:
        if which < len(once):
            told.insert(min(where, len(told)), once[which])
    return told


@dataclass
class Performance:
    """A goal that is performed, moved as a webhook and its tasks move it."""

    goal_id: ObjectId
    clocks: GoalClocks

    @classmethod
    async def begin(cls, clock: FakeClock | None = None) -> "Performance":
        goal = ShowGoal(id=ObjectId(), levels=[Level(target=10**6)], metadata=Metadata(user_id="alice"))
        await goal.insert()
        assert goal.id is not None
        now = clock or FakeClock(from_epoch_milliseconds(NOON_MS + HORIZON_MS))
        return cls(goal.id, GoalClocks(now))

    async def hear(self, happening: Happening) -> None:
        """One webhook event, and the task that it owes."""
        at = from_epoch_milliseconds(happening.at_ms)
        event_id = f"{happening.kind}-{happening.at_ms}"
        moved = await self.clocks.move(Move(self.goal_id, happening.kind == "join", "alice", at, event_id, NOWHERE))
        assert isinstance(moved, Moved)
        if any(promise.id == event_id for promise in moved.promises):
            await Goal.add_progress(self.goal_id, event_id)
            await Goal.fulfil(self.goal_id, event_id, (), at)

    async def goal(self) -> Goal:
        goal = await Goal.by_id(self.goal_id)
        assert goal is not None
        return goal


async def check_law(told: Sequence[Happening]) -> None:
    performance = await Performance.begin()
    for happening in told:
        await performance.hear(happening)
    goal = await performance.goal()
    assert goal.progress == seconds_counted(told)
    await check_context(goal, told)


async def check_context(goal: Goal, told: Sequence[Happening]) -> None:
    """`context` says whether the clock runs, and when something was heard of it last."""
    if not told:
        return
    last = max(happening.at_ms for happening in told)
    at_last = {happening.kind for happening in told if happening.at_ms == last}
    assert goal.context.running == (at_last == {"join"})
    assert goal.context.last_updated == from_epoch_milliseconds(last)


@pytest.mark.real
class TestOnTheRealServer:
    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(once=arrivals, again=repeats)
    @example(once=[Happening("leave", NOON_MS + 9000), Happening("join", NOON_MS)], again=[(0, 2), (1, 0)])
    @example(once=[Happening("join", NOON_MS), Happening("leave", NOON_MS)], again=[])
    async def test_any_order_and_any_repeats(
        self, world: World, once: list[Happening], again: list[tuple[int, int]]
    ) -> None:
        world.database.goals.delete_many({})
        await check_law(with_repeats(once, again))
        world.database.goals.delete_many({})

    @settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(once=arrivals, data=st.data())
    async def test_every_order_ends_at_the_same_clock(
        self, world: World, once: list[Happening], data: st.DataObject
    ) -> None:
        clocks = []
        for order in (once, data.draw(st.permutations(once))):
            performance = await Performance.begin()
            for happening in order:
                await performance.hear(happening)
            clocks.append((await performance.goal()).context)
        world.database.goals.delete_many({})
        assert clocks[0] == clocks[1]


class TestInMemory:
    """The reckoning alone, without a database: many more examples, and hours of them."""

    @settings(max_examples=400, deadline=None)
    @given(once=arrivals, again=repeats)
    def test_any_order_and_any_repeats(self, once: list[Happening], again: list[tuple[int, int]]) -> None:
        told = with_repeats(once, again)
        now = from_epoch_milliseconds(NOON_MS + HORIZON_MS)
        clock, amounts = GoalClock(), 0
        for happening in told:
            clock, turned = clock.turn(mark_of(happening), now)
            assert turned.amount >= 0
            amounts += turned.amount
        assert amounts == clock.counted == seconds_counted(told)

    @settings(max_examples=25, deadline=None)
    @given(
        steps=st.lists(st.integers(1, 90_000), min_size=60, max_size=200),
        lateness=st.lists(st.integers(0, 14), min_size=1, max_size=10),
    )
    def test_hours_of_joins_and_leaves_that_come_up_to_fourteen_minutes_late(
        self, steps: list[int], lateness: list[int]
    ) -> None:
        ends_ms = [NOON_MS + sum(steps[: number + 1]) for number in range(len(steps))]
        happened = [Happening("leave" if number % 2 else "join", at_ms) for number, at_ms in enumerate(ends_ms)]
        heard_ms = [
            happening.at_ms + lateness[number % len(lateness)] * 60_000 for number, happening in enumerate(happened)
        ]
        told = sorted(zip(heard_ms, happened, strict=True), key=lambda one: one[0])
        clock = GoalClock()
        for at_ms, happening in told:
            clock, _ = clock.turn(mark_of(happening), from_epoch_milliseconds(at_ms))
        assert clock.counted == seconds_counted([happening for _, happening in told])


def mark_of(happening: Happening) -> int:
    at = from_epoch_milliseconds(happening.at_ms)
    return join_mark(at) if happening.kind == "join" else leave_mark(at)


@pytest.mark.real
class TestFolding:
    """What lies further back than any webhook that would still be taken is folded into one sum."""

    async def test_the_document_does_not_grow_without_end(self, world: World) -> None:
        clock = FakeClock(from_epoch_milliseconds(NOON_MS))
        performance = await Performance.begin(clock)
        told = []
        for number in range(120):
            clock.move_on(60.25)
            told.append(Happening.at("leave" if number % 2 else "join", clock.now()))
            await performance.hear(told[-1])
        document = world.goal(str(performance.goal_id))
        assert document["progress"] == seconds_counted(told) == 60 * 60.25
        assert len(document["clock"]["marks"]) <= FOLD_ABOVE + 2
        world.database.goals.delete_many({})

    async def test_a_run_that_is_open_for_hours_is_counted_whole(self, world: World) -> None:
        clock = FakeClock(from_epoch_milliseconds(NOON_MS))
        performance = await Performance.begin(clock)
        for _ in range(40):  # the clock is full of joins that change nothing
            await performance.hear(Happening.at("join", clock.now()))
            clock.move_on(300)
        await performance.hear(Happening.at("leave", clock.now()))
        assert (await performance.goal()).progress == 40 * 300
        world.database.goals.delete_many({})


def test_the_oracle_itself() -> None:
    def told(*pairs: tuple[str, float]) -> list[Happening]:
        kinds: dict[str, Any] = {"j": "join", "l": "leave"}
        return [Happening(kinds[kind], int(second * 1000)) for kind, second in pairs]

    assert seconds_counted(told(("j", 0), ("l", 9))) == 9
    assert seconds_counted(told(("l", 9), ("j", 0))) == 9
    assert seconds_counted(told(("j", 0), ("j", 5), ("l", 9), ("l", 9.01))) == 9
    assert seconds_counted(told(("j", 0), ("l", 0.6), ("j", 1), ("l", 1.6))) == 1
    assert seconds_counted(told(("j", 0), ("l", 9), ("l", 4))) == 9
    assert seconds_counted(told(("j", 0), ("l", 9), ("l", 4), ("j", 12), ("l", 20))) == 12
    assert Happening.at("join", datetime(2026, 1, 1, tzinfo=UTC) + timedelta(milliseconds=7)).at_ms % 1000 == 7


def test_a_join_by_a_clock_that_is_ahead_is_after_the_end() -> None:
    now = datetime(2026, 3, 1, 20, tzinfo=UTC)
    ahead = now + timedelta(milliseconds=148)
    running, _ = GoalClock().turn(join_mark(ahead), ahead)
    over, turned = running.end(now).seal()
    assert (over.running, over.counted, turned.amount) == (False, 0, 0)
