"""Explanations of documents that another service wrote badly: an answer, never an error."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from goalsvc.domain.why import why_not, why_transfer

NOW = datetime(2026, 3, 1, 20, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"levels": [3, {"target": "x"}], "metadata": 7, "promises": "none", "context": None, "progress": "y"},
        {"levels": "x", "metadata": {"show": 5}, "promises": [None, {"at": "soon"}], "exp": "never", "active": None},
        {"levels": [{}], "_cls": 5, "context": [], "progress": 10**30},
    ],
)
def test_an_odd_goal(odd: dict[str, Any]) -> None:
    assert why_not({"_id": "g", **odd}, 0, [{"_id": "d"}], {("mallory", "not_a_participant"): 2}, NOW).sentence
    assert why_transfer({"_id": "escrow-x", "cause": 5}, {"_id": "g", **odd}, None).sentence


def test_a_transfer_without_anything() -> None:
    assert why_transfer({"_id": "?"}, None, None).sentence.startswith("None tokens went from an unknown account")


def stretch(since: int, until: int) -> dict[str, datetime]:
    return {"from": NOW + timedelta(seconds=since), "to": NOW + timedelta(seconds=until)}


CAUSE = {"event_id": "e", "root": "r", "happened_at": NOW + timedelta(seconds=100)}
SHARE = {"_id": "escrow-x", "amount": 50, "to_user_id": "alice", "created_at": NOW, "cause": CAUSE}


def test_a_payout_says_when_the_last_second_was_performed_and_how_late_the_webhook_was() -> None:
    clock = {"counted": 74, "stretches": [stretch(0, 14), stretch(40, 100)]}
    goal = {
        "_id": "g",
        "_cls": "Goal.ShowGoal",
        "progress": 74,
        "levels": [{"title": "A", "target": 60}],
        "clock": clock,
    }
    sentence = why_transfer(SHARE, goal, None, NOW + timedelta(seconds=130.2)).sentence
    assert "second 60 was performed at 2026-03-01 20:01:26 UTC" in sentence
    assert "reported by a webhook about 2026-03-01 20:01:40 UTC that arrived 30.2 s later." in sentence


def test_a_payout_of_which_stretches_are_kept_no_longer_names_no_second() -> None:
    clock = {"counted": 174, "stretches": [stretch(0, 14), stretch(40, 100)]}
    goal = {"_id": "g", "_cls": "Goal.ShowGoal", "progress": 174, "levels": [{"target": 60}], "clock": clock}
    assert "was performed at" not in why_transfer(SHARE, goal, None).sentence
