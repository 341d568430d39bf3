"""`goalsvc show`: recordings as time lines, without a server."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from goalsvc.commands.api import CommandError
from goalsvc.commands.replay import Recorded, read_recording
from goalsvc.commands.show import shown_of, svg_of

from .command_line import run_cli

GOAL = "68143584d6945d32e732cc21"


def lines(*heard: tuple[str, str | None, int], channel: str = f"presence-enc-goal@{GOAL}") -> list[str]:
    events = [
        (seconds, {"name": name, "channel": channel, **({} if user is None else {"user_id": user})})
        for name, user, seconds in heard
    ]
    return [
        json.dumps({"body": json.dumps({"time_ms": 1_700_000_000_000 + at * 1000, "events": [event]})})
        for at, event in events
    ]


EVENING = lines(
    ("member_added", "alice", 0),
    ("member_added", "<script>", 5),
    ("channel_vacated", None, 70),
    ("member_added", "alice", 7200),
    ("member_removed", "alice", 7230),
)


def read(texts: list[str]) -> list[Recorded]:
    return read_recording(texts, "a recording")


def test_counts_the_performers_seconds_and_says_who_did_not_count() -> None:
    (shown,) = shown_of(read(EVENING))
    assert shown.sentence == (
        f"goal {GOAL}: 100 s count (1 min 40 s in 2 stretches); 1 of 5 joins and leaves are not alice's"
    )
    picture = svg_of(shown)
    assert "<script" not in picture
    root = ElementTree.fromstring(picture)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "1 min 10 s" in picture


def test_another_performer_has_other_seconds() -> None:
    (shown,) = shown_of(read(EVENING), "mallory")
    assert "0 s count" in shown.sentence


def test_the_command_writes_a_picture_for_each_goal(tmp_path: Path) -> None:
    recording = tmp_path / "webhooks.jsonl"
    recording.write_text("\n".join(EVENING), "utf-8")
    ended = run_cli("show", str(recording), "--out", str(tmp_path / "pictures"))
    assert (ended.status, "100 s count" in ended.out) == (0, True)
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == [f"{GOAL}.svg"]


@pytest.mark.parametrize("channel", ["presence-enc-goal@../../etc", "private-user@alice", "nothing"])
def test_a_recording_about_no_goal_is_refused(channel: str) -> None:
    with pytest.raises(CommandError, match="about no goal"):
        shown_of(read(lines(("member_added", "alice", 0), channel=channel)))
