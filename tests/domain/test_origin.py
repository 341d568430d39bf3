"""Where an effect comes from: a place in the trace and a cause, as values, as texts and in documents."""

from datetime import UTC, datetime
from typing import Any

import pytest

from goalsvc.domain.origin import NO_CAUSE, NOWHERE, Cause, Origin

NOW = datetime(2026, 3, 1, 20, 0, tzinfo=UTC)
FULL = Cause(
    goal_id="g", event_id="e", call="end_goal", key="shop", request_id="r", task="t", happened_at=NOW, root="s"
)


class TestCause:
    @pytest.mark.parametrize("cause", [FULL, NO_CAUSE, Cause(event_id="e")])
    def test_comes_back_from_its_document(self, cause: Cause) -> None:
        assert Cause.read(cause.document()) == cause

    def test_an_absent_field_is_absent_in_the_document(self) -> None:
        assert Cause(event_id="e").document() == {"event_id": "e"}

    @pytest.mark.parametrize("value", [None, 5, "x", [], {"goal_id": 5, "happened_at": "yesterday", "more": 1}])
    def test_what_cannot_be_read_is_absent(self, value: Any) -> None:
        assert Cause.read(value) == NO_CAUSE

    def test_a_goal_is_added_once(self) -> None:
        assert Cause(call="c").about("g") == Cause(call="c", goal_id="g")
        assert FULL.about("other") == FULL


class TestOrigin:
    def test_comes_back_from_its_text_and_cause(self) -> None:
        origin = Origin.new(FULL).at("goal.ended", "track_goals")
        assert Origin.read(origin.parent, origin.cause.document()) == origin
        assert origin.cause.root == origin.segment, "the cause leads to the root of the trace"

    def test_a_task_begins_a_segment_of_its_own_with_the_same_cause(self) -> None:
        origin = Origin.new(FULL)
        own = origin.of_task("transfer")
        assert (own.place, own.cause) == ("task/transfer", origin.cause)
        assert own.segment not in ("", origin.segment)

    @pytest.mark.parametrize("parent", [None, "", 7])
    def test_without_a_trace_there_is_no_parent(self, parent: Any) -> None:
        assert Origin.read(parent, None) == NOWHERE
        assert NOWHERE.parent == ""
