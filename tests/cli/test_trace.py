"""`goalsvc trace`, against a running API, and the form of its tree."""

import io
import json
from typing import Any

import httpx
from rich.console import Console

from goalsvc.commands.api import Target
from goalsvc.commands.trace import read_trace, tree_of
from tests.deliveries.receiver import a_receiver, response
from tests.support.waiting import read_until

from .command_line import Cli, assert_one_sentence


def printed(events: list[dict[str, Any]], *, fold: bool = False) -> list[str]:
    console = Console(file=io.StringIO(), width=200)
    console.print(tree_of("g", events, fold=fold))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def node(kind: str, name: str, *children: dict[str, Any], **more: Any) -> dict[str, Any]:
    at = "2026-05-01T12:00:00.250Z"
    return {"kind": kind, "name": name, "outcome": "done", "at": at, "ms": 0.0, "children": list(children), **more}


def test_the_tree_of_a_join(cli: Cli, show: str) -> None:
    cli("send", "member_added", "--goal", show, "--user", "alice")
    tree = read_until(lambda: cli("trace", show).out.splitlines(), lambda found: "webhook" in "".join(found))
    assert tree[0] == f"goal {show}"
    assert tree[1].startswith("├── call create_goal by key env")
    tree.pop(1)
    assert tree[1].startswith("└── webhook member_added -> channel_occupied  ")
    assert tree[2].startswith("    └── signal ext.pusher, sender channel_occupied")
    assert any("── trigger_online **returned** not_a_user_channel" in line for line in tree)
    assert any("── karaoke_control (started)" in line for line in tree)
    assert "\x1b" not in "".join(tree)


def test_as_json(cli: Cli, api: httpx.Client, show: str) -> None:
    cli("send", "member_added", "--goal", show, "--user", "bob")
    # Traces are written in batches, a moment after the answer.
    events = read_until(lambda: json.loads(cli("trace", show, "--json").out)["events"], lambda found: len(found) == 2)
    assert [event["name"] for event in events] == ["create_goal", "member_added"]
    assert events == api.get(f"/v1/goals/{show}/trace").json()["events"]


async def test_all_pages_are_read() -> None:
    goal = "68143584d6945d32e732cc21"
    pages = [([node("call", "create_goal", id="a")], "c/1&2"), ([node("webhook", "member_added", id="b")], None)]

    async def answer(number: int) -> bytes:
        events, following = pages[number - 1]
        return response(
            200, json.dumps({"events": events, "next": following, "summary": {}}).encode(), X_Request_ID="1"
        )

    async with a_receiver(answer) as receiver:
        url = f"http://127.0.0.1:{receiver.port}"
        found = await read_trace(Target(api_url=url, api_key="k", pusher_key="", pusher_secret=""), goal)
    assert [event["name"] for event in found["events"]] == ["create_goal", "member_added"]
    path = f"/v1/goals/{goal}/trace"
    assert [line.split()[1] for line in receiver.asked] == [path, f"{path}?cursor=c%2F1%262"]


def test_a_goal_to_which_nothing_happened(cli: Cli, show: str) -> None:
    tree = read_until(lambda: cli("trace", show).out.splitlines()[1:], lambda found: "nothing" not in found[0])
    assert [line.split()[1:3] for line in tree] == [["call", "create_goal"]]


def test_no_goal(cli: Cli) -> None:
    assert_one_sentence(cli("trace", "0" * 24), f"there is no goal {'0' * 24}")
    assert_one_sentence(cli("trace", "../../healthz"), "is not the id of a goal")


def test_what_a_node_says() -> None:
    tree = printed(
        [
            node(
                "webhook",
                "channel_vacated",
                node("receiver", "track", ms=1.23),
                node("receiver", "trigger", outcome="returned", reason="no_user"),
                node("task", "cut", outcome="failed", reason="s3: [red]no[/red]", ms=2.0),
                sender="channel_vacated",
            )
        ]
    )
    assert tree == [
        "goal g",
        "└── webhook channel_vacated  12:00:00.250",
        "    ├── track  1.2 ms",
        "    ├── trigger **returned** no_user",
        "    └── task cut **failed** s3: [red]no[/red]  12:00:00.250 2.0 ms",
    ]


def test_what_has_the_same_shape_is_folded() -> None:
    shares = [node("task", "pay", node("task", "transfer", reason=f"{amount} tokens")) for amount in (1, 2, 3)]
    other = node("task", "pay", node("task", "transfer", outcome="returned", reason="already_paid"))
    tree = printed([*shares[:2], other, shares[2]], fold=True)
    assert tree[1].endswith("task pay  12:00:00.250   and 2 more like this")
    assert [line.rpartition("── ")[2].split("  ")[0] for line in tree[2:]] == [
        "task transfer (1 tokens)",
        "task pay",
        "task transfer **returned** already_paid",
    ]
    assert len(printed(shares)) == 7
