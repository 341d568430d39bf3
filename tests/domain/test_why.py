"""Explanations of documents that another service wrote badly: an answer, never an error."""

from datetime import UTC, datetime
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
