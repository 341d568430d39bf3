"""The time line of a goal as geometry."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from random import Random

from bson import ObjectId
from hypothesis import given, settings
from hypothesis import strategies as st

from goalsvc.console.pictures.axis import axis_of
from goalsvc.console.pictures.scale import LEFT, RIGHT
from goalsvc.console.pictures.shapes import Glyph, Rect, Text
from goalsvc.console.pictures.timeline import Act, Flow, Mark, Receipt, Run, Step, Timeline, bars, draw
from goalsvc.console.queries.goals import runs_of
from goalsvc.console.ranges import Range
from goalsvc.console.rendering import templates
from goalsvc.domain.durations import duration_text
from goalsvc.domain.performance import GoalClock, Owner
from goalsvc.domain.presence import join_mark, leave_mark
from goalsvc.models.goal import Goal
from goalsvc.models.performed import stretches_of

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


seconds = st.integers(min_value=0, max_value=200_000).map(lambda ms: ms / 10)
stretches = st.lists(st.tuples(seconds, seconds).map(sorted), max_size=30)


class TestAxis:
    @given(st.lists(seconds, min_size=1, max_size=40))
    def test_instants_keep_their_order_and_stay_within(self, instants: list[float]) -> None:
        axis = axis_of([(at(second), at(second)) for second in instants], 100.0, 900.0)
        xs = [axis.x(at(second)) for second in sorted(instants)]
        assert xs == sorted(xs)
        assert all(100.0 <= x <= 900.0 for x in xs)

    @given(st.lists(seconds, min_size=2, max_size=40, unique=True))
    def test_ticks_are_apart_and_rising(self, instants: list[float]) -> None:
        ticks = axis_of([(at(second), at(second)) for second in instants], 100.0, 900.0).ticks()
        xs = [x for x, _ in ticks]
        assert all(later - earlier >= 70 for earlier, later in pairwise(xs))

    def test_a_long_pause_is_collapsed_and_says_how_long(self) -> None:
        axis = axis_of([(at(0), at(60)), (at(7260), at(7320))], 0.0, 1000.0)
        (pause,) = [span for span in axis.spans if span.collapsed]
        assert pause.right - pause.left < 50
        assert duration_text(pause.until - pause.since).startswith("1 h 59 min")


class TestBars:
    @given(stretches)
    def test_add_up_to_what_was_performed(self, pairs: list[list[float]]) -> None:
        runs = [Run(at(since), at(until)) for since, until in pairs]
        timeline = Timeline("a goal", "s", at(30_000), runs=runs)
        expected = sum((timedelta(seconds=until - since) for since, until in pairs), timedelta())
        assert abs(timeline.performed - expected) < timedelta(milliseconds=1)
        bars = [shape for shape in draw(timeline).shapes if isinstance(shape, Rect) and shape.style == "run"]
        assert len(bars) == len(runs)

    @given(st.integers(121, 200), st.randoms(use_true_random=False))
    @settings(max_examples=20)
    def test_of_many_stretches_are_drawn_together_and_add_up_all_the_same(self, number: int, chance: Random) -> None:
        pairs = [sorted((chance.randrange(20_000), chance.randrange(20_000))) for _ in range(number)]
        runs = [Run(at(since), at(until)) for since, until in pairs]
        timeline = Timeline("a goal", "s", at(30_000), runs=runs, earlier_milliseconds=5_000)
        drawn = bars(timeline, axis_of([(run.since, run.until or run.since) for run in runs], 132.0, 1104.0))
        assert sum(len(bar.runs) for bar in drawn) == len(runs)
        assert sum((bar.length for bar in drawn), timedelta(seconds=5)) == timeline.performed

    @given(stretches)
    def test_lie_in_the_picture(self, pairs: list[list[float]]) -> None:
        picture = draw(Timeline("a goal", "s", at(30_000), runs=[Run(at(a), at(b)) for a, b in pairs]))
        for shape in picture.shapes:
            if isinstance(shape, Rect):
                assert shape.x >= 0
                assert shape.x + shape.width <= picture.width + 1
                assert shape.y + shape.height <= picture.height

    def test_an_earlier_sum_counts(self) -> None:
        timeline = Timeline("a goal", "s", at(100), runs=[Run(at(0), at(60))], earlier_milliseconds=90_000)
        assert timeline.performed == timedelta(seconds=150)


class TestMarks:
    def test_are_hollow_where_they_did_not_count_and_say_why(self) -> None:
        marks = [Mark(at(0), True, "alice"), Mark(at(5), True, "mallory", counted=False, reason="not_a_participant")]
        glyphs = [
            shape for shape in draw(Timeline("a goal", "s", at(10), marks=marks)).shapes if isinstance(shape, Glyph)
        ]
        assert [glyph.hollow for glyph in glyphs] == [False, True]
        assert "not_a_participant" in glyphs[1].title


class TestMoney:
    @given(st.lists(st.tuples(seconds, st.integers(1, 10_000)), min_size=1, max_size=300))
    def test_says_what_is_left(self, payments: list[tuple[float, int]]) -> None:
        flows = [Flow(at(second), amount, "a payment") for second, amount in payments]
        paid = sum(amount for _, amount in payments)
        flows.append(Flow(at(30_000), -paid, "the payout"))
        texts = [
            shape.text
            for shape in draw(Timeline("a goal", "tokens", at(30_000), flows=flows)).shapes
            if isinstance(shape, Text)
        ]
        assert "Σ 0" in texts

    def test_five_thousand_contributions_stay_a_small_picture(self) -> None:
        flows = [Flow(at(number / 10), 5, f"payment {number}") for number in range(5000)]
        assert len(draw(Timeline("a goal", "tokens", at(600), flows=flows)).shapes) < 600


class TestARange:
    def test_shows_what_is_in_it_where_the_axis_is_its_own(self) -> None:
        whole = Timeline(
            "a goal",
            "s",
            at(500),
            marks=[Mark(at(10), True, "alice"), Mark(at(100), False, "alice"), Mark(at(400), True, "alice")],
            runs=[Run(at(10), at(100)), Run(at(400), at(450))],
            steps=[Step(at(100), 90), Step(at(450), 140)],
            flows=[Flow(at(5), 10, "in"), Flow(at(450), -10, "out")],
            receipts=[Receipt(at(100), at(130), "member_removed"), Receipt(at(450), at(451), "member_removed")],
            acts=[Act(at(450), "ended")],
        )
        part = draw(replace(whole, window=(at(50), at(150))))
        assert [(span.since, span.until) for span in part.spans] == [
            (at(50) - timedelta(seconds=1.5), at(150) + timedelta(seconds=1.5))
        ]
        titles = [shape.title for shape in part.shapes if not isinstance(shape, Text) and shape.title]
        assert sum("leaves" in title for title in titles) == 1
        assert sum("joins" in title for title in titles) == 0
        assert sum("performed" in title for title in titles) == 1, "a stretch that reaches into it is shown"
        assert sum("reported" in title for title in titles) == 1
        assert sum("ended" in title for title in titles) == 0
        texts = [shape.text for shape in part.shapes if isinstance(shape, Text)]
        assert "Σ 10" in texts, "what the escrow held at its end"
        assert all(LEFT <= shape.x <= RIGHT for shape in part.shapes if isinstance(shape, Glyph))

    @given(st.lists(seconds, min_size=1, max_size=20), seconds, seconds)
    def test_of_any_time_line_lies_within_the_picture(self, joins: list[float], one: float, other: float) -> None:
        marks = [at(second) for second in joins]
        timeline = Timeline("a goal", "s", at(4000), marks=[Mark(when, True, "alice") for when in marks])
        asked = Range(at(min(one, other)), at(max(one, other))).of(timeline)
        drawn = draw(asked)
        shown = sum(asked.shows(when) for when in marks)
        assert sum(isinstance(shape, Glyph) for shape in drawn.shapes) == shown
        assert all(LEFT <= shape.x <= RIGHT for shape in drawn.shapes if isinstance(shape, Glyph))


def test_a_goal_of_which_nothing_is_known_has_a_picture() -> None:
    assert draw(Timeline("a goal", "s", at(0))).height > 0


def test_all_lanes_are_drawn() -> None:
    timeline = Timeline(
        "a goal",
        "s",
        at(200),
        marks=[Mark(at(0), True, "alice"), Mark(at(60), False, "alice")],
        runs=[Run(at(0), at(60))],
        steps=[Step(at(61), 60)],
        levels=[("One", 60)],
        receipts=[Receipt(at(60), at(90), "member_removed")],
        flows=[Flow(at(1), 10, "in"), Flow(at(100), -10, "out")],
        acts=[Act(at(61), "completed"), Act(at(61), "ended"), Act(at(70), "clip", at(100))],
    )
    names = {shape.text for shape in draw(timeline).shapes if isinstance(shape, Text) and shape.style == "lane"}
    assert names == {
        "acts",
        "alice",
        "performed",
        "progress",
        "happened",
        "reported",
        "tokens in",
        "escrow",
        "tokens out",
    }


def test_six_hundred_joins_and_leaves_stay_a_small_picture() -> None:
    marks = [Mark(at(number * 1.3), number % 2 == 0, "alice", path=f"/goals/{'0' * 24}") for number in range(600)]
    receipts = [Receipt(mark.at, at(900 + number / 100), "member_added") for number, mark in enumerate(marks)]
    runs = [Run(at(number * 2.6), at(number * 2.6 + 1.3)) for number in range(200)]
    drawing = draw(Timeline("a goal", "s", at(910), marks=marks, receipts=receipts, runs=runs))
    svg = templates().get_template("timeline.svg").render(drawing=drawing)
    assert len(svg) < 70_000
    assert "joins from" in svg


ALL_LANES = Timeline(
    "ShowGoal 68143584d6945d32e732cc21",
    "s",
    at(7800),
    marks=[
        Mark(at(0), True, "alice (performer)", path="/goals/68143584d6945d32e732cc21/trace?root=1"),
        Mark(at(5), True, "mallory", counted=False, reason="not_a_participant"),
        Mark(at(14), False, "alice (performer)"),
        Mark(at(7300), True, "alice (performer)"),
        Mark(at(7360), False, "alice (performer)", late=timedelta(seconds=30.2)),
    ],
    runs=[Run(at(0), at(14)), Run(at(7300), at(7360))],
    steps=[Step(at(14.1), 14), Step(at(7390.3), 74)],
    levels=[("Ukulele", 60)],
    receipts=[
        Receipt(at(0), at(0.1), "member_added"),
        Receipt(at(5), at(5.1), "member_added", refused=True),
        Receipt(at(14), at(14.1), "member_removed"),
        Receipt(at(14), at(14.3), "channel_vacated", repeated=True),
        Receipt(at(7360), at(7390.2), "member_removed"),
    ],
    flows=[
        Flow(at(-60), 50, "50 tokens from bob"),
        Flow(at(-30), 20, "20 tokens from carol"),
        Flow(at(7390.6), -50, "50 tokens to alice"),
        Flow(at(7390.6), -20, "20 tokens to alice"),
    ],
    acts=[
        Act(at(-20), "created"),
        Act(at(0), "started"),
        Act(at(7390.4), "level 1"),
        Act(at(7390.5), "ended"),
        Act(at(7400), "clip stored"),
    ],
)
APPROVED = Path(__file__).parent / "timeline.svg"


def test_the_picture_is_the_one_that_was_approved_by_eye() -> None:
    """After a change that is meant: look at the picture, then write it anew (APPROVED.write_text(drawn))."""
    drawn = templates().get_template("timeline.svg").render(drawing=draw(ALL_LANES)).strip() + "\n"
    assert drawn == APPROVED.read_text("utf-8")


class TestCounted:
    @given(st.lists(st.tuples(st.integers(0, 3_600_000), st.booleans()), max_size=60))
    def test_is_what_the_bars_add_up_to(self, heard: list[tuple[int, bool]]) -> None:
        clock = GoalClock()
        for milliseconds, joined in heard:
            instant = at(milliseconds / 1000)
            mark = join_mark(instant) if joined else leave_mark(instant)
            clock, _ = clock.turn(mark, at(3700), Owner.PERFORMER)
        # What has been counted is never taken back: the clock as it stands when all marks are known at once.
        whole = GoalClock(marks=clock.marks)
        whole, _ = whole.turn(leave_mark(at(3_650)), at(3700), Owner.PERFORMER)
        goal = Goal.parse({"_id": ObjectId(), "_cls": "Goal.ShowGoal"})
        kept, earlier = stretches_of(goal, {"clock": whole.document()})
        runs = runs_of(kept)
        timeline = Timeline("a goal", "s", at(3700), runs=runs, earlier_milliseconds=earlier)
        drawn = bars(timeline, axis_of([(at(0), at(3700))], 132.0, 1104.0))
        total = sum((bar.length for bar in drawn), timedelta(milliseconds=earlier))
        assert total // timedelta(seconds=1) == whole.counted
