"""Recordings: which lines are one, and where the times of their webhooks are moved to."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from goalsvc.clock import to_epoch_milliseconds
from goalsvc.domain.recordings import MOST_WEBHOOKS, read_recording
from goalsvc.errors import InvalidError

NOW = datetime(2026, 3, 1, 20, tzinfo=UTC)
EVENT = {"name": "member_added", "channel": "presence-enc-goal@5", "user_id": "alice"}


def line(**body: Any) -> str:
    return json.dumps({"body": json.dumps({"events": [EVENT], **body})})


class TestTimes:
    def test_are_moved_so_that_the_last_one_is_now(self) -> None:
        text = "\n".join([line(time_ms=1_000), "", line(time_ms=61_000), line(time_ms=31_000)])
        found = read_recording(text, NOW, keep_time=False)
        assert [webhook.line for webhook in found] == [1, 3, 4]
        assert [webhook.at for webhook in found] == [NOW - timedelta(seconds=60), NOW, NOW - timedelta(seconds=30)]
        assert json.loads(found[1].body) == {"events": [EVENT], "time_ms": to_epoch_milliseconds(NOW)}

    @pytest.mark.parametrize("written", [1_772_395_200, 1_772_395_200_000, "1772395200", "2026-03-01T20:00:00Z"])
    def test_of_each_form_are_kept(self, written: object) -> None:
        (webhook,) = read_recording(line(timestamp=written), NOW + timedelta(days=1), keep_time=True)
        assert webhook.at == NOW
        assert "timestamp" not in json.loads(webhook.body)

    def test_that_are_empty_mean_now(self) -> None:
        (webhook,) = read_recording(line(timestamp=""), NOW, keep_time=True)
        assert webhook.at == NOW

    def test_that_cannot_be_moved_are_refused(self) -> None:
        last, first = datetime(9990, 1, 1, tzinfo=UTC), datetime(1, 1, 2, tzinfo=UTC)
        text = "\n".join(line(time_ms=to_epoch_milliseconds(at)) for at in (last, first))
        with pytest.raises(InvalidError, match="recording: line 2: the body's time is too far from the last one"):
            read_recording(text, NOW, keep_time=False)


class TestLines:
    @pytest.mark.parametrize(
        ("text", "fault"),
        [
            ("", "must hold at least one webhook"),
            (" \n\n", "must hold at least one webhook"),
            ("nothing", "line 1: must be an object"),
            (f"{line(time_ms=1)}\n[]", "line 2: must be an object"),
            ('{"body": "[" }', "line 1: must be an object"),
            ('{"body": {"events": {}}}', "line 1: the body must be an object with a list `events`"),
            (line(), "line 1: the body must have `time_ms`"),
            (line(time_ms=[1]), "line 1: the body must have `time_ms`"),
            (line(timestamp="yesterday"), "line 1: the body must have `time_ms`"),
            ("\n".join([line(time_ms=1)] * (MOST_WEBHOOKS + 1)), f"must hold at most {MOST_WEBHOOKS} webhooks"),
        ],
    )
    def test_that_are_wrong_are_named(self, text: str, fault: str) -> None:
        with pytest.raises(InvalidError) as raised:
            read_recording(text, NOW, keep_time=False)
        assert raised.value.field == "recording"
        assert raised.value.fault.startswith(fault)

    @pytest.mark.parametrize(
        "event",
        [7, {"name": "x"}, {"name": [], "channel": "x"}, {**EVENT, "user_id": True}, {**EVENT, "user_id": ["alice"]}],
    )
    def test_with_another_form_of_event_are_known(self, event: object) -> None:
        (webhook,) = read_recording(line(time_ms=1, events=[EVENT, event]), NOW, keep_time=False)
        assert webhook.malformed

    @pytest.mark.parametrize("user_id", [None, "", "alice", 5, 5.0])
    def test_of_the_documented_form_are_not(self, user_id: object) -> None:
        (webhook,) = read_recording(line(time_ms=1, events=[{**EVENT, "user_id": user_id}]), NOW, keep_time=False)
        assert not webhook.malformed

    def test_of_any_text_can_be_sent(self) -> None:
        body = '{"time_ms": 1, "events": [], "other": "\\ud800 é"}'
        (webhook,) = read_recording(json.dumps({"body": body}), NOW, keep_time=True)
        assert json.loads(webhook.body)["other"] == "\ud800 é"
