"""Who performs: the law of performed time with owners, unowned marks, ends and every order of arrival, against the oracle."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from goalsvc.clock import from_epoch_milliseconds
from goalsvc.domain.performance import FOLD_ABOVE, MOST_STRETCHES, GoalClock, Owner, Rule
from tests.models.oracle import Happening, Who, milliseconds_performed, seconds_counted

NOON_MS = 1_772_366_400_000
HORIZON_MS = 14 * 60 * 1000
OWNERS = {"performer": Owner.PERFORMER, "viewer": Owner.VIEWER, "nobody": Owner.UNOWNED}
LETTERS: dict[str, Who] = {"P": "performer", "V": "viewer", "*": "nobody"}


def told(text: str) -> list[Happening]:
    """`P+0 P-360 *-361.5`: the performer joins at 0 and leaves at 360, an unowned vacated at 361.5."""
    return [
        Happening("join" if word[1] == "+" else "leave", NOON_MS + round(float(word[2:]) * 1000), LETTERS[word[0]])
        for word in text.split()
    ]


def mark_of(happening: Happening) -> int:
    return 2 * happening.at_ms + (happening.kind == "leave")


def after(happenings: Sequence[Happening], rule: Rule = Rule.AUTO, clock: GoalClock | None = None) -> GoalClock:
    now = from_epoch_milliseconds(NOON_MS + HORIZON_MS)
    clock = clock or GoalClock(rule=rule)
    for happening in happenings:
        clock, _ = clock.turn(mark_of(happening), now, OWNERS[happening.who])
    return clock


TABLE = [
    ("P+0 P-360", 360),
    ("V+0 V-360", 0),
    ("P+0 V+60 P-160 V-160", 100),
    ("P+0 V+0 P-60 V-360", 60),
    ("P+0 V+0 V-100 V+130 P-360 V-360", 330),
    ("*+0 *-360", 360),
    ("*+0 V+0.01 *-360", 0),
    ("P+0 V+0 *-100 *+105 P-200 V-200", 200),
    ("P+0 V-50 P-100", 100),
    ("P+0 P-100 V+40 V-100", 100),
]


@pytest.mark.parametrize(("marks", "seconds"), TABLE)
def test_the_table(marks: str, seconds: int) -> None:
    assert after(told(marks)).counted == seconds
    assert seconds_counted(told(marks), "auto") == seconds


def test_a_vacated_that_nothing_follows_is_the_leave_of_both() -> None:
    clock = after(told("P+0 V+0 *-100")).end(from_epoch_milliseconds(NOON_MS + 300_000))
    sealed, _ = clock.seal()
    assert (sealed.counted, sealed.absent()) == (100, (Owner.PERFORMER, Owner.VIEWER))


@pytest.mark.parametrize(
    ("rule", "marks", "seconds"),
    [
        (Rule.BOTH, "P+0 P-100", 0),
        (Rule.BOTH, "P+0 V+60 P-160 V-160", 100),
        (Rule.BOTH, "*+0 *-360", 0),
        (Rule.PERFORMER, "P+0 V+60 P-160 V-160", 160),
        (Rule.PERFORMER, "V+0 V-100", 0),
        (Rule.PERFORMER, "*+0 V+0.01 *-360", 360),
        (Rule.ALONE, "P+0 *-100 *+105 P-200", 195),
    ],
)
def test_the_other_rules(rule: Rule, marks: str, seconds: int) -> None:
    assert after(told(marks), rule).counted == seconds
    assert seconds_counted(told(marks), rule.value) == seconds


@pytest.mark.parametrize(
    ("marks", "absent"),
    [
        ("P+0 V+0 P-60", (Owner.PERFORMER,)),
        ("P+0 V+0 V-60", (Owner.VIEWER,)),
        ("V+0", (Owner.PERFORMER,)),
        ("P+0 V+0", ()),
        ("*+0", ()),
        ("", (Owner.PERFORMER, Owner.VIEWER)),
    ],
)
def test_who_was_absent(marks: str, absent: tuple[Owner, ...]) -> None:
    assert after(told(marks)).end(from_epoch_milliseconds(NOON_MS + 100_000)).absent() == absent


def test_seconds_under_one_are_carried() -> None:
    assert after(told("P+0 P-0.6 P+1 P-1.6")).counted == 1


def test_marks_after_an_end_do_not_count_and_late_ones_before_it_do() -> None:
    ended = after(told("P+0")).end(from_epoch_milliseconds(NOON_MS + 300_000))
    assert ended.counted == 0
    assert after(told("P-100"), clock=ended).counted == 100
    sealed, turned = after(told("P-400"), clock=ended).seal()
    assert (turned.amount, sealed.counted) == (300, 300)


def test_late_marks_are_taken_for_six_minutes_and_not_once_sealed() -> None:
    ended_at = from_epoch_milliseconds(NOON_MS + 300_000)
    ended = after(told("P+0")).end(ended_at)
    before, minutes = ended_at - timedelta(seconds=1), [timedelta(minutes=6), timedelta(minutes=6, milliseconds=1)]
    assert [ended.takes(before, ended_at + late) for late in minutes] == [True, False]
    assert not ended.takes(ended_at + timedelta(milliseconds=1), ended_at)
    assert not ended.seal()[0].takes(before, ended_at)


# -- everything at once ---------------------------------------------------------------------------------------------------

#: Near each other, so that the ten seconds of a reconnect and equal instants occur; and far apart.
instants = st.one_of(
    st.integers(0, 12).map(lambda second: second * 1000), st.integers(0, 25_000), st.integers(0, HORIZON_MS)
)
happenings = st.builds(
    Happening,
    st.sampled_from(["join", "leave"]),
    instants.map(lambda ms: NOON_MS + ms),
    st.sampled_from(["performer", "viewer", "nobody"]),
)
rules = st.sampled_from(list(Rule))


@settings(max_examples=1500, deadline=None)
@given(arrivals=st.lists(happenings, max_size=12), rule=rules, data=st.data())
def test_any_set_in_any_order_with_repeats(arrivals: list[Happening], rule: Rule, data: st.DataObject) -> None:
    again = data.draw(st.lists(st.sampled_from(arrivals), max_size=4)) if arrivals else []
    order = data.draw(st.permutations([*arrivals, *again]))
    clock = after(order, rule)
    assert clock.counted == seconds_counted(order, rule.value)
    assert clock.milliseconds == milliseconds_performed(order, rule.value)
    assert after(sorted(set(order), key=lambda each: each.at_ms), rule).milliseconds == clock.milliseconds
    document: dict[str, Any] = clock.document()
    read = GoalClock.read(document, {"started": clock.started} if clock.started else {}, rule)
    assert (read.milliseconds, read.counted, read.running) == (clock.milliseconds, clock.counted, clock.running)
    closed = sum((each["to"] - each["from"] for each in document["stretches"]), timedelta())
    assert closed == timedelta(milliseconds=clock.milliseconds)


@settings(max_examples=800, deadline=None)
@given(
    before=st.lists(happenings, max_size=8),
    late=st.lists(happenings, max_size=6),
    end_ms=instants.map(lambda ms: NOON_MS + ms),
    rule=rules,
)
def test_an_end_with_late_webhooks(before: list[Happening], late: list[Happening], end_ms: int, rule: Rule) -> None:
    clock = after(before, rule, GoalClock(rule=rule, deadline=end_ms))
    ended = after(late, rule, clock.end(from_epoch_milliseconds(end_ms)))
    assert ended.counted == seconds_counted([*before, *late], rule.value, end_ms)
    sealed, _ = ended.seal()
    assert sealed.counted == seconds_counted([*before, *late], rule.value, end_ms, closed=True)


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            st.one_of(st.integers(1, 15_000), st.integers(1, 120_000)),
            st.sampled_from(["join", "leave"]),
            st.sampled_from(["performer", "performer", "viewer", "nobody"]),
            st.integers(0, 14),
        ),
        min_size=60,
        max_size=200,
    ),
    viewer_from=st.integers(0, 200),
    owned_from=st.integers(0, 60),
    rule=rules,
)
def test_folding_changes_nothing(steps: list[Any], viewer_from: int, owned_from: int, rule: Rule) -> None:
    """Hours of marks, up to fourteen minutes late; the first owned one, and the first of the viewer, come at any time."""
    at_ms, arrivals = NOON_MS, []
    for number, (step, kind, drawn, minutes) in enumerate(steps):
        at_ms += step
        who: Who = "performer" if drawn == "viewer" and number < viewer_from else drawn
        who = "nobody" if number < owned_from else who
        arrivals.append((at_ms + minutes * 60_000, Happening(kind, at_ms, who)))
    arrivals.sort(key=lambda each: each[0])
    clock = GoalClock(rule=rule)
    for heard_ms, happening in arrivals:
        clock, _ = clock.turn(mark_of(happening), from_epoch_milliseconds(heard_ms), OWNERS[happening.who])
        document = clock.document()
        clock = GoalClock.read(document, {"started": clock.started} if clock.started else {}, rule)
    assert clock.counted == seconds_counted([happening for _, happening in arrivals], rule.value)


def test_documents_are_bounded() -> None:
    clock, at_ms = GoalClock(rule=Rule.AUTO), NOON_MS
    for number in range(3000):
        at_ms += 31_000
        owner = [Owner.PERFORMER, Owner.VIEWER, Owner.UNOWNED][number % 7 % 3]
        clock, _ = clock.turn(2 * at_ms + number % 2, from_epoch_milliseconds(at_ms), owner)
    held = clock.document()
    assert len(held["marks"]) + len(held["viewer_marks"]) + len(held["unowned_marks"]) <= FOLD_ABOVE + 45
    assert len(held["stretches"]) <= MOST_STRETCHES
