"""`goalsvc trace`: what happened to a goal, as a tree in the manner of the documents that goalsvc was built from."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.text import Text
from rich.tree import Tree

from goalsvc.commands.api import Api, Target, goal_path
from goalsvc.domain.documents import Json

Node = Mapping[str, Any]


async def read_trace(target: Target, goal_id: str) -> Json:
    """The whole trace: `{"events": [node], "summary"}`. Raises CommandError, also for a goal that there is not."""
    path = f"{goal_path(goal_id)}/trace"
    async with Api.open(target) as api:
        answer: Json = await api.get(path)
        events = list(answer["events"])
        while answer["next"] is not None:
            answer = await api.get(path, cursor=answer["next"])
            for root in answer["events"]:
                _add_root(events, root)
    return {"events": events, "summary": answer["summary"]}


def _add_root(events: list[Json], root: Json) -> None:
    """Adds a root of a further page; what it has in common with the same root of the page before is not repeated."""
    before = next((one for one in reversed(events) if one["id"] == root["id"]), None)
    if before is None:
        events.append(root)
    else:
        _merge(before, root)


def _merge(node: Json, more: Json) -> None:
    own = {_identity(child): child for child in node["children"]}
    for child in more["children"]:
        known = own.get(_identity(child))
        if known is None:
            node["children"].append(child)
        else:
            _merge(known, child)


def _identity(node: Node) -> tuple[object, ...]:
    return node["kind"], node["name"], node.get("sender"), node["at"], node["ms"]


def tree_of(goal_id: str, events: Sequence[Node], *, fold: bool = False) -> Tree:
    """The trace as a tree.

    With `fold`, children of the same shape (the shares of an escrow) are shown once, with how many more there are.
    """
    tree = Tree(Text(f"goal {goal_id}", style="bold"), guide_style="dim")
    if not events:
        tree.add(Text("nothing has happened yet", style="dim"))
    _grow(tree, events, fold)
    return tree


def _grow(tree: Tree, nodes: Sequence[Node], fold: bool) -> None:
    for node, more in _folded(nodes) if fold else [(node, 0) for node in nodes]:
        label = _label(node)
        if more:
            label.append(f"   and {more} more like this", style="italic")
        _grow(tree.add(label), node["children"], fold)


def _folded(nodes: Iterable[Node]) -> list[tuple[Node, int]]:
    """The first node of each shape, in order, with how many others have it."""
    found: dict[object, tuple[Node, int]] = {}
    for node in nodes:
        shape = _shape(node)
        first, more = found.get(shape, (node, -1))
        found[shape] = (first, more + 1)
    return list(found.values())


def _shape(node: Node) -> object:
    # A reason given for what was done tells an amount or an id; one for what was not is part of what happened.
    reason = node.get("reason") if node["outcome"] != "done" else None
    children = tuple(_shape(child) for child in node["children"])
    return node["kind"], node["name"], node.get("sender"), node["outcome"], reason, children


def _label(node: Node) -> Text:
    label = Text()
    match node["kind"]:
        case "webhook":
            label.append("webhook ", style="dim").append(node["name"], style="bold cyan")
            if (sender := node.get("sender", node["name"])) != node["name"]:
                label.append(" -> ", style="dim").append(sender, style="cyan")
        case "signal":
            label.append("signal ", style="dim").append(f"{node['name']}, sender ").append(
                node["sender"], style="bold blue"
            )
        case "call":
            label.append("call ", style="dim").append(node["name"], style="bold green")
            if key := node.get("key"):
                label.append(f" by key {key}", style="dim")
        case "task":
            label.append("task ", style="dim").append(node["name"], style="bold magenta")
        case _:
            label.append(node["name"])
    reason = node.get("reason", "")
    match node["outcome"]:
        case "returned":
            label.append(" **returned**", style="yellow").append(f" {reason}", style="dim yellow")
        case "failed":
            label.append(" **failed**", style="bold red").append(f" {reason}", style="red")
        case _ if reason:
            label.append(f" ({reason})", style="green")
    return label.append(_timing(node), style="dim")


def _timing(node: Node) -> str:
    """When a webhook or task began, and how long whatever took noticeable time took."""
    lasted = f"{node['ms']:.1f} ms" if node["ms"] >= 0.05 else ""
    if node["kind"] in ("webhook", "call", "task"):
        at = datetime.fromisoformat(node["at"])
        return "  " + " ".join(filter(None, [f"{at:%H:%M:%S}.{at.microsecond // 1000:03}", lasted]))
    return f"  {lasted}" if lasted else ""
