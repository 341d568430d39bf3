"""The trace: which signal went to which receivers, what each answered, which tasks followed.

A trace is stored in segments. A segment is what one process did in one go: a webhook event with all it called at once, or
one job. A job's segment names the node that caused it: `{segment id}#{sender}/{receiver}`, or `{segment id}#` for the
task of a segment itself; the reader hangs it there.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from goalsvc.domain.origin import Origin
from goalsvc.domain.outcome import Answer, Done, Failed, FollowUp, ReceiverReport, Report, Returned

Node = dict[str, Any]


@dataclass(frozen=True, slots=True)
class TracedFollowUp:
    """A follow-up and its origin: the node of the trace under which its task belongs, and the cause."""

    follow_up: FollowUp
    origin: Origin


def follow_ups_of(answer: Answer, origin: Origin) -> Iterator[TracedFollowUp]:
    """The follow-ups of this answer, which was given at `origin`, and those of the signals that were sent meanwhile."""
    if not isinstance(answer, Done):
        return
    for follow_up in answer.follow_ups:
        yield TracedFollowUp(follow_up, origin)
    for report in answer.reports:
        for receiver in report.receivers:
            yield from follow_ups_of(receiver.answer, origin.at(report.sender, receiver.receiver))


def failures_of(answer: Answer) -> list[str]:
    """`receiver: error` of every receiver that failed in the signals that were sent meanwhile."""
    return [failure for report in answer.reports for failure in report.failures] if isinstance(answer, Done) else []


def segment_document(
    segment: str, goal_id: str | None, parent: str | None, at: datetime, node: Node
) -> Mapping[str, Any]:
    """A segment as it is stored."""
    document: dict[str, Any] = {"_id": segment, "at": at, "node": node}
    if goal_id is not None:
        document["goal_id"] = goal_id
    if parent is not None:
        document["parent"] = parent
    return document


def node_of(
    kind: str, name: str, answer: Answer, at: datetime, milliseconds: float, children: Iterable[Node] = ()
) -> Node:
    """A node of the trace, in the form in which it is stored and shown."""
    node: Node = {
        "kind": kind,
        "name": name,
        "at": at,
        "ms": round(milliseconds, 3),
        "children": list(children),
    }
    match answer:
        case Done(what=what):
            node["outcome"] = "done"
            if what:
                node["reason"] = what
        case Returned(reason=reason):
            node["outcome"] = "returned"
            node["reason"] = reason.value
        case Failed(error=error):
            node["outcome"] = "failed"
            node["reason"] = error
    return node


def signal_node(report: Report) -> Node:
    """The node of one signal, with its receivers below it and, below them, the signals that they sent in their turn."""
    children = [_receiver_node(report.sender, receiver) for receiver in report.receivers]
    answer: Answer = Failed("; ".join(report.failures)) if report.failures else Done()
    return node_of("signal", report.signal, answer, report.at, report.milliseconds, children) | {
        "sender": report.sender
    }


def _receiver_node(sender: str, receiver: ReceiverReport) -> Node:
    answer = receiver.answer
    reports = answer.reports if isinstance(answer, Done) else ()
    children = [signal_node(report) for report in reports]
    node = node_of("receiver", receiver.receiver, answer, receiver.at, receiver.milliseconds, children)
    if isinstance(answer, Done):
        node["place"] = f"{sender}/{receiver.receiver}"
    return node


def assemble(segments: Iterable[Mapping[str, Any]]) -> list[Node]:
    """The trees that these segments make: every job hung under the node that caused it, roots in order of time."""
    ordered = sorted(segments, key=lambda segment: (segment["at"], str(segment["_id"])))
    places: dict[str, Node] = {}
    for segment in ordered:
        places[f"{segment['_id']}#"] = segment["node"]
        _index(str(segment["_id"]), segment["node"], places)
    roots: list[Node] = []
    for segment in ordered:
        parent = places.get(segment.get("parent") or "")
        (roots if parent is None else parent["children"]).append(segment["node"])
    for node in places.values():
        node.pop("place", None)
    return roots


def _index(segment: str, node: Node, places: dict[str, Node]) -> None:
    if "place" in node:
        places[f"{segment}#{node['place']}"] = node
    for child in node["children"]:
        _index(segment, child, places)
