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


FUNDING = {"_id": "g", "_cls": "Goal.FundingGoal", "progress": 60, "levels": [{"title": "S", "target": 500}]}
TRIGGER = {"_id": "t", "_cls": "Goal.TriggerGoal", "active": False, "levels": [{"title": "ask", "target": 1}]}
SHOW = {"_id": "s", "_cls": "Goal.ShowGoal", "progress": 74, "levels": [{"title": "Ukulele", "target": 60}]}
CALLED = {"call": "refund", "key": "shop", "happened_at": NOW}
REACHED = "reached level 1 (60 s) with 74 s performed"


@pytest.mark.parametrize(
    ("transfer", "goal", "because"),
    [
        (
            {"_id": "refund-e-d-bob", "metadata": {"reversal": "deposit-1"}},
            FUNDING,
            "because the deposit deposit-1 was reversed",
        ),
        (
            {"_id": "reversal-deposit-1-e", "metadata": {"reversal": "deposit-1"}},
            None,
            "because the deposit deposit-1 was reversed",
        ),
        ({"_id": "refund-trigger:t-t-bob"}, TRIGGER, "because the TriggerGoal “ask” was not agreed to"),
        (
            {"_id": "fee-escrow-e"},
            SHOW,
            f"as the platform's fee on the payout of the ShowGoal “Ukulele” because it {REACHED}",
        ),
        ({"_id": "withdrawal-wd_1"}, None, "to be paid out to the outside"),
        ({"_id": "withdrawal-wd_1-confirmed"}, None, "because the withdrawal was paid out"),
        ({"_id": "withdrawal-wd_1-returned"}, None, "because the withdrawal was not paid out"),
        (
            {"_id": "adjustment-1", "tags": ["adjustment"], "metadata": {"reason": "a typo"}},
            None,
            "as a correction (a typo)",
        ),
        ({"_id": "tip-1", "tags": ["tip"]}, None, "as a tip"),
        (
            {
                "_id": "reversal-deposit-1",
                "tags": ["reversal"],
                "metadata": {"transfer_id": "deposit-1", "reason": "fraud"},
            },
            None,
            "because the deposit deposit-1 was reversed (fraud)",
        ),
        (
            {"_id": "repay-deposit-2", "metadata": {"transfer_id": "deposit-2"}},
            None,
            "to repay a debt from the income deposit-2",
        ),
        (
            {"_id": "return-debt-1-2", "tags": ["goal_refund"], "metadata": {"reason": "no sound"}},
            SHOW,
            "because the payout of the ShowGoal “Ukulele” was refunded (no sound)",
        ),
    ],
    ids=lambda value: value["_id"] if isinstance(value, dict) else None,
)
def test_every_transfer_says_what_it_was_made_for(
    transfer: dict[str, Any], goal: dict[str, Any] | None, because: str
) -> None:
    why = why_transfer({"created_at": NOW, "amount": 5, "cause": CALLED, **transfer}, goal, None)
    asked = "asked for by the call refund with the key “shop” at 2026-03-01 20:00:00 UTC."
    assert why.sentence.endswith(f" at 2026-03-01 20:00:00 UTC {because}; {asked}")
    assert "ended below its target" not in why.sentence


def test_a_transfer_of_an_unknown_kind_is_a_sentence_too() -> None:
    why = why_transfer(
        {"_id": "x", "debit": "user:bob", "credit": "fees", "created_at": NOW, "amount": 5, "cause": CALLED}, None, None
    )
    assert why.sentence.startswith(
        "5 tokens went from bob to fees at 2026-03-01 20:00:00 UTC; asked for by the call refund"
    )


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"triggerer": "alice"}, "was agreed to by alice"),
        ({"active": True}, "waits for an answer"),
        ({}, "was not agreed to"),
    ],
)
def test_a_request_has_no_seconds(more: dict[str, Any], text: str) -> None:
    links = why_transfer({"_id": "hold-trigger:t", "from_user_id": "bob"}, TRIGGER | more, None).chain
    assert [link.text for link in links if link.kind == "goal"] == [f"the TriggerGoal “ask” {text}"]
