"""Traces, written and compared as outlines: one line a node.

```
webhook member_removed
  signal channel_vacated
    trigger_online returned
    karaoke_control
      task increment_goal_progress
```

A receiver has only its name. What ran side by side has no order, so siblings are compared sorted.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Node = Mapping[str, Any]


def outline_of(nodes: Iterable[Node]) -> list[str]:
    """The outline of these nodes."""
    return _sorted_lines([(_told(node), outline_of(node["children"])) for node in nodes])


def outline(text: str) -> list[str]:
    """The outline that was written down, in whatever order; `*` after a name marks an addition."""
    return _branch([line.replace("*", "") for line in text.splitlines() if line.strip()])


def signals_in(nodes: Iterable[Node], sender: str) -> list[Node]:
    """Every signal of that sender, however deep."""
    found: list[Node] = []
    for node in nodes:
        if node["kind"] == "signal" and node["sender"] == sender:
            found.append(node)
        found += signals_in(node["children"], sender)
    return found


def answers_to(nodes: Iterable[Node], sender: str) -> dict[str, tuple[str, str]]:
    """Outcome and reason of each receiver of the one signal of that sender."""
    (signal,) = signals_in(nodes, sender)
    return {node["name"]: (node["outcome"], node.get("reason", "")) for node in signal["children"]}


def _told(node: Node) -> str:
    name = node["sender"] if node["kind"] == "signal" else node["name"]
    words = [name] if node["kind"] == "receiver" else [node["kind"], name]
    return " ".join(words if node["outcome"] == "done" else [*words, node["outcome"]])


def _branch(lines: Sequence[str]) -> list[str]:
    """Lines of one depth with what is indented below each, sorted."""
    depth = len(lines[0]) - len(lines[0].lstrip()) if lines else 0
    branches: list[tuple[str, list[str]]] = []
    for line in lines:
        if len(line) - len(line.lstrip()) == depth:
            branches.append((line.strip(), []))
        else:
            branches[-1][1].append(line)
    return _sorted_lines([(head, _branch(below)) for head, below in branches])


def _sorted_lines(branches: Iterable[tuple[str, list[str]]]) -> list[str]:
    return [line for head, below in sorted(branches) for line in (head, *(f"  {one}" for one in below))]
