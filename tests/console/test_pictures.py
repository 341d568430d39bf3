"""Pictures beside the time line, as geometry: balances, ribbons of escrows, evenings."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from goalsvc.console.pictures import balance, evening, ribbon
from goalsvc.console.pictures.balance import Change
from goalsvc.console.pictures.evening import Evening, GoalBar, Spell, Window
from goalsvc.console.pictures.ribbon import Party
from goalsvc.console.pictures.scale import LEFT, RIGHT, WIDTH
from goalsvc.console.pictures.shapes import Glyph, Line, Picture, Polyline, Rect, Text
from goalsvc.console.pictures.timeline import Run
from goalsvc.console.rendering import templates

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
amounts = st.integers(min_value=1, max_value=10**9)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def within(picture: Picture) -> bool:
    """Whether all that is drawn lies on the canvas."""
    for shape in picture.shapes:
        match shape:
            case Polyline():
                places = list(shape.points)
            case Line():
                places = [(shape.x1, shape.y1), (shape.x2, shape.y2)]
            case Rect():
                places = [(shape.x, shape.y), (shape.x + shape.width, shape.y + shape.height)]
            case _:
                places = [(shape.x, shape.y)]
        if not all(-1e-6 <= x <= WIDTH + 1e-6 and -1e-6 <= y <= picture.height + 1e-6 for x, y in places):
            return False
    return True


class TestBalance:
    def test_of_an_account_without_transfers_is_no_picture(self) -> None:
        assert balance.draw("bob", 5, []) is None

    @given(st.integers(0, 10**6), st.lists(st.tuples(st.integers(0, 10**6), st.integers(-(10**6), 10**6)), min_size=1))
    def test_is_a_curve_of_steps_that_leads_to_the_last_balance(
        self, opening: int, transfers: list[tuple[int, int]]
    ) -> None:
        changes, held = [], opening
        for second, amount in sorted(transfers):
            held += amount
            changes.append(Change(at(second), amount, held))
        picture = balance.draw("bob", opening, changes)
        assert picture is not None
        assert within(picture)
        (curve,) = [shape for shape in picture.shapes if isinstance(shape, Polyline) and not shape.closed]
        assert [curve.points[0][0], curve.points[-1][0]] == [LEFT, RIGHT]
        assert all(a[0] == b[0] or a[1] == b[1] for a, b in pairwise(curve.points)), "only steps"
        dots = [shape for shape in picture.shapes if isinstance(shape, Glyph)]
        assert dots[-1].y == curve.points[-1][1]
        assert f"from {opening} to {held} tokens" in picture.description


class TestRibbon:
    def test_of_an_escrow_into_which_nothing_came_is_no_picture(self) -> None:
        assert ribbon.draw("show_funding:1", [], []) is None

    @given(st.lists(amounts, min_size=1, max_size=40), st.lists(amounts, max_size=40))
    def test_is_as_wide_on_the_right_as_on_the_left(self, paid: list[int], shares: list[int]) -> None:
        came = sum(paid)
        out = [share for number, share in enumerate(shares) if sum(shares[: number + 1]) <= came]
        payees = [Party(f"p{number}", share) for number, share in enumerate(out)]
        picture = ribbon.draw("x", [Party(f"v{number}", one) for number, one in enumerate(paid)], payees)
        assert picture is not None
        assert within(picture)
        bands = [shape for shape in picture.shapes if isinstance(shape, Polyline)]
        high = {style: sum(b.points[-1][1] - b.points[0][1] for b in bands if b.style == style) for style in STYLES}
        assert abs(high["ribbon-in"] - high["ribbon-out"] - high["ribbon-held"]) < 1e-6
        assert sum(b.style == "ribbon-in" for b in bands) == min(len(paid), 11)

    def test_draws_the_largest_by_themselves_and_the_rest_together(self) -> None:
        picture = ribbon.draw("x", [Party(f"<b>{number}", number) for number in range(1, 31)], [Party("alice", 465)])
        assert picture is not None
        labels = [shape.text for shape in picture.shapes if isinstance(shape, Text)]
        assert "<b>30 30" in labels
        assert "20 others 210" in labels
        svg = templates().get_template("timeline.svg").render(drawing=picture)
        assert "<b>" not in svg


STYLES = ("ribbon-in", "ribbon-out", "ribbon-held")


class TestEvening:
    def test_without_a_goal_is_no_picture(self) -> None:
        assert evening.draw(Evening("alice", at(0), at(0), None)) is None

    def test_shows_each_goal_in_a_row_with_what_was_performed_and_taken(self) -> None:
        show = GoalBar(
            "Ukulele",
            "ShowGoal",
            at(0),
            at(600),
            [Run(at(10), at(70)), Run(at(100), at(160))],
            [Spell("recording", at(10), at(160)), Spell("clip", at(130), at(160))],
            50,
            "/goals/1",
        )
        going_on = GoalBar("Karaoke", "KaraokeGoal", at(700), None, [Run(at(720), None)])
        given_window = Window("bob", at(720), None)
        picture = evening.draw(Evening("alice", at(800), at(0), None, [show, going_on], [given_window]))
        assert picture is not None
        assert within(picture)
        assert "2 goals, 3 min 20 s performed, 50 tokens" in picture.description
        styles = [shape.style for shape in picture.shapes]
        assert [styles.count(style) for style in ("span", "span-open", "run", "run-open", "window")] == [1, 1, 2, 1, 1]
        assert [styles.count(style) for style in ("recorded", "act-range")] == [1, 1]
        names = [shape.text for shape in picture.shapes if isinstance(shape, Text) and shape.style == "lane"]
        assert names == ["Ukulele", "Karaoke", "for bob"]
        assert {shape.path for shape in picture.shapes if isinstance(shape, Rect) and shape.path} == {"/goals/1"}

    @given(st.lists(st.tuples(st.integers(0, 10**5), st.integers(0, 10**5)), min_size=1, max_size=60))
    def test_of_any_length_stays_on_its_canvas(self, spans: list[tuple[int, int]]) -> None:
        goals = [GoalBar("x" * 40, "ShowGoal", at(min(pair)), at(max(pair)), tokens=5) for pair in spans]
        picture = evening.draw(Evening("alice", at(10**5), None, None, goals))
        assert picture is not None
        assert within(picture)
