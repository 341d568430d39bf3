"""`goalsvc demo`: all of it, once; how it ends when it is interrupted; and that it would notice what is wrong."""

import copy
import os
import re
import signal
import subprocess
import sys
from itertools import takewhile
from pathlib import Path
from typing import Any

import httpx
import pytest

from goalsvc.devstack.demo_expected import PRESENCE, PRESENCE_OF_TWIN, Answers, differences, receivers, tasks
from goalsvc.devstack.demo_show import Plan
from goalsvc.devstack.demo_stage import StageError
from goalsvc.devstack.livestream import read_seconds
from goalsvc.devstack.mongod import mongodb_url
from tests.support.drivers import TheirService

from .command_line import clean_environment

#: In whose hand the documents are.
DRIVER = os.environ.get("GOALSVC_TEST_DRIVER", "Mongoose")


def start_demo(keep: Path, scratch: Path, *options: str) -> subprocess.Popen[str]:
    """A demo without a home, a terminal or a port of its own; what it leaves behind is in `scratch`."""
    environment = {**clean_environment(), "TMPDIR": str(scratch), "PYTHONWARNINGS": "error::ResourceWarning"}
    environment.pop("HOME", None)
    words = [sys.executable, "-m", "goalsvc", "demo", "--keep-dir", str(keep), *options]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def processes_in(directory: Path) -> list[int]:
    """The processes that write into that directory."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "fd/2").readlink().is_relative_to(directory):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def mongodb_of(directory: Path) -> str:
    """Where the MongoDB is that writes into that directory."""
    for pid in processes_in(directory):
        words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        if Path(words[0]).name == "mongod":
            return mongodb_url([int(words[words.index("--port") + 1])])
    raise AssertionError("there is no mongod")


def the_page(address: str, key: str) -> str:
    """A page of the console, for that key."""
    site = address.partition("/console")[0]
    from_there = {"Sec-Fetch-Site": "same-origin"}
    entered = httpx.post(f"{site}/console/login", data={"key": key}, headers=from_there, trust_env=False)
    cookie = entered.headers["set-cookie"].partition(";")[0]
    return httpx.get(address, headers={"Cookie": cookie}, trust_env=False).raise_for_status().text


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    directory = tmp_path / "scratch"
    directory.mkdir()
    return directory


def test_it_holds_while_another_service_saves_every_document(tmp_path: Path, scratch: Path) -> None:
    """In one driver's hand here, in that of each by `make drivers`; `make demo` plays it alone."""
    demo = start_demo(tmp_path / "keep", scratch, "--stay")
    assert demo.stdout is not None
    first = demo.stdout.readline()
    theirs = TheirService(mongodb_of(scratch), DRIVER)
    with theirs.saving():
        played = [first, *takewhile(lambda line: "Ctrl-C ends the demo" not in line, demo.stdout)]
    assert set(theirs.saved) == {"goals", "sessions", "users", "earnings"}
    address, key = re.findall(r"(http://\S+/console/goals/\w+) is the show's page; log in with (\S+)", played[-1])[0]
    assert "The goal reached its target with 400 of 360 s." in the_page(address, key)
    os.kill(demo.pid, signal.SIGINT)
    told, complaints = demo.communicate(timeout=58)
    assert (demo.returncode, complaints) == (0, ""), told
    told = "".join([*played, told])
    assert "\x1b" not in told
    assert "figures are as expected" in told
    assert "✗" not in told
    for line in ("karaoke_control (400 s performed)", "snapshot_rtc_sources **returned** other_goal_kind"):
        assert line in told
    clip = tmp_path / "keep" / "clip.mp4"
    assert str(clip) in told
    assert len(read_seconds(clip)) == 30
    assert sorted(path.name for path in (tmp_path / "keep").iterdir()) == [".gitignore", "clip.mp4"]
    assert (list(scratch.iterdir()), processes_in(scratch)) == ([], [])


def test_it_is_interrupted(tmp_path: Path, scratch: Path) -> None:
    demo = start_demo(tmp_path / "keep", scratch)
    assert demo.stdout is not None
    assert "livestream start: http://127.0.0.1:" in demo.stdout.readline()
    assert processes_in(scratch)
    os.kill(demo.pid, signal.SIGINT)
    told, complaints = demo.communicate(timeout=40)
    assert (demo.returncode, complaints) == (130, "")
    assert "interrupted" in told
    assert (list(scratch.iterdir()), processes_in(scratch)) == ([], [])


def test_nothing_can_be_kept(tmp_path: Path, scratch: Path) -> None:
    (tmp_path / "file").touch()
    demo = start_demo(tmp_path / "file" / "keep", scratch)
    told, complaints = demo.communicate(timeout=20)
    assert (demo.returncode, told) == (1, "")
    assert complaints == f"goalsvc: nothing can be kept in {tmp_path}/file/keep: Not a directory\n"


@pytest.mark.parametrize("length", ["0", "181", "x", "-1"])
def test_a_clip_that_cannot_be_had(length: str) -> None:
    with pytest.raises(StageError, match="clips of 1 to 180 s"):
        Plan.of({"GOALSVC_LIVESTREAM_CLIP_GOAL_DURATION": length})


# -- the comparison with the seed -------------------------------------------------------------------------------------


def a_node(kind: str, name: str, children: list[Any], sender: str | None = None, outcome: str = "done") -> Any:
    return {"kind": kind, "name": name, "outcome": outcome, "children": children} | (
        {"sender": sender} if sender else {}
    )


def signal_of(sender: str, answers: Answers) -> Any:
    children = [a_node("receiver", name, [], outcome=outcome) for name, outcome in answers.by_receiver().items()]
    return a_node("signal", "ext.pusher" if sender.startswith("channel") else "x", children, sender)


@pytest.fixture
def trace() -> list[Any]:
    """A trace as it must be, for two shares; the shape does not matter, only what is below what."""
    presence = [
        a_node("webhook", sender, [signal_of(sender, answers)])
        for sender in ("channel_occupied", "channel_vacated")
        for answers in (PRESENCE, PRESENCE_OF_TWIN)
    ]
    signals = [signal_of(sender, answers) for sender, answers in receivers(2).items() for _ in range(answers.times)]
    causes = [
        a_node("other", cause, [a_node("task", task.rstrip("*"), [])])
        for (cause, task), times in tasks(2).items()
        for _ in range(times)
    ]
    return [*presence, *signals, *causes]


def test_a_trace_as_it_must_be(trace: list[Any]) -> None:
    assert differences(trace, shares=2) == []


def test_every_break_is_noticed(trace: list[Any]) -> None:
    def broken(change: Any) -> list[str]:
        other = copy.deepcopy(trace)
        change(other)
        return differences(other, shares=2)

    ended = next(i for i, node in enumerate(trace) if node.get("sender") == "goal.ended")
    assert broken(lambda t: t.pop(0)) == ["channel_occupied was sent 1 times, not 2"]
    assert broken(lambda t: t[0]["children"][0]["children"].pop(0)) == [
        "channel_occupied -> track_channel_presence: not called, should be done"
    ]
    assert broken(lambda t: t[ended]["children"][0].update(outcome="returned")) == [
        "goal.ended -> track_goals: returned, should be done"
    ]
    assert broken(lambda t: t[ended]["children"].append(a_node("receiver", "new", []))) == [
        "goal.ended -> new: done, should be not called"
    ]
    assert broken(lambda t: t.append(copy.deepcopy(t[ended]))) == ["goal.ended was sent 2 times, not 1"]
    assert broken(lambda t: t.append(a_node("signal", "x", [], "goal.new"))) == [
        "goal.new was sent, which it should not have been"
    ]
    assert broken(lambda t: t.pop()) == ["transfer -> task announce_escrow_share: 1 times, not 2"]
    assert broken(lambda t: t[-1]["children"][0].update(outcome="failed", reason="late")) == [
        "task announce_escrow_share: failed late"
    ]
