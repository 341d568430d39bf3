"""Lenient reading: every field of every document, absent, null or of another type, is treated as absent."""

import types
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Union, get_args, get_origin

import pytest
from bson import Binary, Code, DBRef, Decimal128, Int64, MinKey, ObjectId, Regex, Timestamp
from bson.datetime_ms import DatetimeMS
from pydantic import BaseModel, ValidationError

from goalsvc.domain.goals import Level
from goalsvc.domain.promises import Promise
from goalsvc.domain.reading import ZERO_TIME, instant, read_leniently, whole, whole_part
from goalsvc.models.session import Rtc, ShowPair, Statuses

WHOLE_NUMBERS = [
    (12, 12, 12),
    (Int64(2**40), 2**40, 2**40),
    (12.0, 12, 12),
    (12.5, None, 12),
    (-0.5, None, 0),
    (Decimal128("12"), 12, 12),
    (Decimal128("1.2E+1"), 12, 12),
    (Decimal128("12.5"), None, 12),
    (Decimal128("1E+6000"), None, None),
    (Decimal128("NaN"), None, None),
    (1e300, None, None),
    (float("nan"), None, None),
    (float("inf"), None, None),
    (2**63, None, None),
    (True, None, None),
    ("12", None, None),
    (None, None, None),
    ([12], None, None),
]


@pytest.mark.parametrize(("value", "expected", "part"), WHOLE_NUMBERS, ids=lambda value: repr(value))
def test_what_is_a_whole_number(value: object, expected: int | None, part: int | None) -> None:
    assert whole(value) == expected
    assert whole_part(value) == part


@pytest.mark.parametrize(
    ("value", "is_set"),
    [
        (datetime(2026, 1, 1, tzinfo=UTC), True),
        (datetime(9999, 12, 31, tzinfo=UTC), True),
        (datetime(1, 1, 1, tzinfo=UTC), False),
        (DatetimeMS(2**50), False),
        (DatetimeMS(-(2**50)), False),
        ("2026-01-01T00:00:00Z", False),
        (1767225600000, False),
        (Timestamp(1767225600, 1), False),
        (None, False),
    ],
    ids=repr,
)
def test_what_is_a_date(value: object, is_set: bool) -> None:
    assert (instant(value) is not None) is is_set


#: One and the same in each process, for it is part of tests' names.
AN_ID = ObjectId("68143584d6945d32e732cc2f")

ODD_VALUES: list[object] = [
    None, True, 7, 7.5, "text", b"bytes", [], [1], {}, {"a": 1}, AN_ID, DatetimeMS(2**50), Decimal128("1.5"),
    Binary(b"x", 4), DBRef("x", AN_ID), Regex("a"), Timestamp(1, 1), MinKey(), Code("x"), float("nan"),
]  # fmt: skip


class Everything(BaseModel):
    """What is read of documents, in one."""

    statuses: Statuses = Statuses()
    rtc: Rtc = Rtc()
    levels: list[Level] = []
    pairs: list[ShowPair] = []
    by_name: dict[str, Statuses] = {}
    promises: list[Promise] = []


def paths_of(model: type[BaseModel], within: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every field of the model, at every depth; `*` is any item."""
    for name, field in model.model_fields.items():
        path = (*within, field.alias or name)
        yield path
        inner, step = _inner(field.annotation)
        if inner is not None:
            yield from paths_of(inner, (*path, *step))


def _inner(annotation: Any) -> tuple[type[BaseModel] | None, tuple[str, ...]]:
    if get_origin(annotation) in (Union, types.UnionType):
        annotation = next(each for each in get_args(annotation) if each is not type(None))
    if get_origin(annotation) in (list, dict):
        found, step = _inner(get_args(annotation)[-1])
        return found, ("*", *step)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, ()
    return None, ()


WHEN = datetime(2026, 1, 1, tzinfo=UTC)
GOOD: Mapping[str, Any] = {
    "statuses": {"started": WHEN, "ended": WHEN},
    "rtc": {"room_id": "room", "record_task_id": "task"},
    "levels": [{"title": "one", "target": 10}, {"title": "two", "target": 20}],
    "pairs": [{"funding_goal": ObjectId(), "show_goal": ObjectId(), "show_started": WHEN, "show_ended": WHEN}],
    "by_name": {"a": {"started": WHEN}, "b": {"started": WHEN}},
    "promises": [
        {"id": "one", "task": "t", "arguments": {}, "at": WHEN, "parent": "p", "cause": None, "progress": 5},
        {"id": "two", "task": "t", "arguments": {}, "at": WHEN},
    ],
}


def replaced(value: Any, path: tuple[str, ...], new: object) -> Any:
    """A copy in which the first item of each list or map on the path has that value there."""
    if not path:
        return new
    if isinstance(value, list):
        return [replaced(value[0], path[1:], new), *value[1:]]
    step = next(iter(value)) if path[0] == "*" else path[0]
    return {**value, step: replaced(value.get(step), path[1:], new)}


@pytest.mark.parametrize("path", list(paths_of(Everything)), ids=".".join)
@pytest.mark.parametrize("odd", ODD_VALUES, ids=repr)
def test_one_odd_value_spoils_nothing_else(path: tuple[str, ...], odd: object) -> None:
    found, faults = read_leniently(Everything.model_validate, replaced(GOOD, path, odd))
    top = path[0]
    for name in Everything.model_fields:
        if name != top:
            assert getattr(found, name) == getattr(Everything.model_validate(GOOD), name)
    # The second item of a list or map is untouched, whatever became of the first.
    if len(path) > 1 and top in ("levels", "promises"):
        assert getattr(found, top)[-1] == getattr(Everything.model_validate(GOOD), top)[-1]
    if len(path) > 1 and top == "by_name":
        assert found.by_name["b"].started == WHEN
    if not faults:
        return
    assert all(fault.split(":")[0].split(".")[0] == top for fault in faults), faults


def test_what_has_no_value_in_the_hand_of_gos_driver_is_no_fault() -> None:
    unset = {**GOOD, "statuses": {"started": WHEN, "ended": ZERO_TIME}, "levels": [{"title": "one", "target": ""}]}
    found, faults = read_leniently(Everything.model_validate, unset)
    assert (found.statuses.started, found.statuses.ended) == (WHEN, None)
    assert (found.levels, faults) == ([], ("levels.0: target: required",))


def test_items_without_what_they_need_are_left_out_and_named() -> None:
    levels: list[Any] = [{"title": None, "target": 5}, {"target": None}, 7, {"title": "c", "target": 9}, {"title": 1}]
    found, faults = read_leniently(Everything.model_validate, {"levels": levels})
    assert [(level.title, level.target) for level in found.levels] == [("", 5), ("c", 9)]
    assert {fault.split(":")[0] for fault in faults} == {
        "levels.0.title", "levels.1.target", "levels.1", "levels.2", "levels.4.title", "levels.4",
    }  # fmt: skip


def test_what_every_document_must_have_is_not_made_up() -> None:
    with pytest.raises(ValidationError):
        read_leniently(Level.model_validate, {"title": "no target"})
