"""What `goalsvc dev` shows of each trace and delivery."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from goalsvc.devstack.following import Line, lines_of

AT = datetime(2026, 3, 1, 20, tzinfo=UTC)
GOAL = "68143584d6945d32e732cc21"


def node(kind: str, name: str, outcome: str = "done", *children: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {"kind": kind, "name": name, "outcome": outcome, "at": AT, "ms": 1.0, "children": list(children), **more}


def traced(root: Mapping[str, Any], goal_id: str | None = GOAL) -> list[Line]:
    document = {"_id": "s1", "at": AT, "node": root} | ({"goal_id": goal_id} if goal_id else {})
    return list(lines_of({"ns": {"coll": "traces"}, "fullDocument": document}))


def webhook(*receivers: Mapping[str, Any]) -> dict[str, Any]:
    signal = node("signal", "ext.pusher", "done", *receivers, sender="channel_occupied")
    return node("webhook", "member_added", "done", signal, user_id="mallory", channel=f"presence-enc-goal@{GOAL}")


NOT_THEIRS = node("receiver", "trigger_online", "returned", reason="not_a_user_channel")
TRACKED = node("receiver", "track_channel_presence")


class TestAWebhook:
    def test_is_told_with_the_receivers_that_did_something_or_had_a_reason(self) -> None:
        refused = node("receiver", "karaoke_control", "returned", reason="not_a_participant")
        (line,) = traced(webhook(TRACKED, NOT_THEIRS, refused))
        told = "mallory -> karaoke_control returned not_a_participant"
        assert line == Line(AT, "webhook", "member_added", GOAL, told, "returned")

    def test_that_did_something_says_what(self) -> None:
        (line,) = traced(webhook(TRACKED, node("receiver", "karaoke_control", reason="started")))
        assert (line.told, line.outcome) == ("mallory -> karaoke_control started", "done")

    def test_that_no_receiver_acts_on(self) -> None:
        (line,) = traced(webhook(TRACKED, NOT_THEIRS))
        assert line.told == "mallory -> no receiver acts on it"

    def test_that_was_refused_has_its_reason(self) -> None:
        (line,) = traced(node("webhook", "refused", "failed", reason="bad_signature: wrong"), goal_id=None)
        assert (line.name, line.goal_id, line.told) == ("refused", None, "failed bad_signature: wrong")

    def test_that_was_ignored_has_its_channel(self) -> None:
        (line,) = traced(node("webhook", "member_added", "returned", reason="unknown_channel", channel="x"), None)
        assert line.told == "x -> returned unknown_channel"


class TestACall:
    def test_is_told_with_its_key_and_its_amount(self) -> None:
        refs = {"goal": GOAL, "amount": 50}
        (line,) = traced(node("call", "create_contribution", key="env", refs=refs), goal_id=None)
        assert line == Line(AT, "call", "create_contribution", GOAL, "50 tokens by env", "done")

    def test_that_failed_says_so(self) -> None:
        (line,) = traced(node("call", "end_goal", "failed", key="env", reason="TimeoutError: "))
        assert (line.told, line.outcome) == ("by env -> failed TimeoutError: ", "failed")


class TestANotice:
    @pytest.mark.parametrize(
        ("outcome", "reason", "told"),
        [
            ("done", "goal.ended", "sent"),
            ("done", "owed", "owed: Pusher did not take it at once"),
            ("done", "2 payers", "sent: 2 payers"),
            ("failed", "external_service: 503", "failed external_service: 503"),
        ],
    )
    def test_of_a_receiver_or_a_task(self, outcome: str, reason: str, told: str) -> None:
        sending = node("receiver", "notify_goal_ended", outcome, reason=reason, refs={"notice": "goal.ended"})
        ended = node("task", "deactivate_goal", "done", node("signal", "features", "done", sending))
        (line,) = traced(ended)
        assert (line.kind, line.name, line.goal_id, line.told) == ("notice", "goal.ended", GOAL, told)


class TestATask:
    def test_of_a_recording_or_a_clip_is_told(self) -> None:
        (line,) = traced(node("task", "StartRecord", reason=f"goal-{GOAL}"))
        assert (line.kind, line.told) == ("recording", f"goal-{GOAL}")
        (line,) = traced(node("task", "create_post_from_livestream", "returned", reason="no_source"))
        assert (line.kind, line.told) == ("clip", "returned no_source")

    def test_of_another_kind_is_told_when_it_failed(self) -> None:
        assert traced(node("task", "transfer")) == []
        (line,) = traced(node("task", "transfer", "failed", reason="boom"))
        assert (line.kind, line.told) == ("task", "failed boom")


class TestADelivery:
    def test_is_told_with_its_answer_and_what_follows(self) -> None:
        attempt = {"at": AT, "status": 503, "ms": 12.4}
        document = {
            "endpoint_id": "whe_1",
            "type": "goal.ended",
            "state": "pending",
            "attempts": [{"at": AT, "error": "refused"}, attempt],
            "next_at": datetime(2026, 3, 1, 20, 5, tzinfo=UTC),
            "cause": {"goal_id": GOAL},
        }
        (line,) = lines_of({"ns": {"coll": "deliveries"}, "fullDocument": document})
        told = "whe_1 -> 503, 12 ms, again at 20:05:00"
        assert line == Line(AT, "delivery", "goal.ended", GOAL, told, "failed")

    def test_that_was_removed_meanwhile_is_not(self) -> None:
        assert list(lines_of({"ns": {"coll": "deliveries"}, "fullDocument": None})) == []
