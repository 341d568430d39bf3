"""The trace as a tree for people: what was not a receiver's business is folded to a count."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from goalsvc.domain.trace import assemble


@dataclass(frozen=True, slots=True)
class Branch:
    """A node of the tree."""

    kind: str
    name: str
    sender: str
    outcome: str
    reason: str
    at: datetime
    milliseconds: float
    transfer: str
    """The id of the transfer that it made; empty where it made none."""
    children: Sequence["Branch"]
    returned: int
    """How many receivers below it returned, and are not shown."""

    @property
    def failures(self) -> int:
        """How many nodes in and below it failed."""
        return (self.outcome == "failed") + sum(child.failures for child in self.children)


def folded(segments: Sequence[Mapping[str, object]], *, keep_returned: bool = False) -> list[Branch]:
    """Returns the trees that these segments make, latest root first."""
    return [_branch(node, keep_returned) for node in reversed(assemble(segments))]


def _branch(node: Mapping[str, Any], keep_returned: bool) -> Branch:
    children = list(node.get("children") or ())
    shown = [child for child in children if keep_returned or not _is_aside(child)]
    return Branch(
        str(node.get("kind", "")),
        str(node.get("name", "")),
        str(node.get("sender", "")),
        str(node.get("outcome", "")),
        str(node.get("reason", "")),
        node["at"],
        float(node.get("ms", 0)),
        _transfer_of(node),
        [_branch(child, keep_returned) for child in shown],
        len(children) - len(shown),
    )


def _transfer_of(node: Mapping[str, object]) -> str:
    refs = node.get("refs")
    found = refs.get("transfer") if isinstance(refs, Mapping) else None
    return found if isinstance(found, str) else ""


def _is_aside(node: Mapping[str, object]) -> bool:
    return node.get("kind") == "receiver" and node.get("outcome") == "returned"
