"""The trace: which signal went to which receivers, what each answered, which tasks followed.

A trace is stored in segments. A segment is what one process did in one go: a webhook event with all it called at once, or
one job. A job's segment names the node that caused it: `{segment id}#{sender}/{receiver}`, or `{segment id}#` for the
task of a segment itself; the reader hangs it there.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from goalsvc.domain.documents import Stored
from goalsvc.domain.origin import Origin
from goalsvc.domain.outcome import Answer, Done, Failed, FollowUp, ReceiverReport, Report, Returned

Node = dict[str, Any]

#: An id that a node touched, several of them, or an amount or level as a number.
Ref = str | int | Sequence[str]

#: What a payload or an argument is called, and what the reference to it is called.
_REFS: Mapping[str, str] = {
    "goal_id": "goal",
    "session_id": "session",
    "escrow_id": "escrow",
    "transfer_id": "transfer",
    "asset_id": "asset",
    "letter_id": "dead_letter",
    "event_id": "event",
    "user_id": "user",
    "amount": "amount",
    "progress": "progress",
    "level": "level",
    "shares": "shares",
}


def refs_among(arguments: Mapping[str, object]) -> dict[str, Ref]:
    """The references among these arguments or parameters."""
    found = {_REFS[name]: value for name, value in arguments.items() if name in _REFS}
    return {name: value for name, value in found.items() if isinstance(value, str | int)}


def refs_of(payload: object) -> dict[str, Ref]:
    """The references of a signal's payload."""
    return refs_among({name: getattr(payload, name, None) for name in _REFS})


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
    origin: Origin, goal_id: str | None, parent: str | None, at: datetime, node: Node
) -> Mapping[str, object]:
    """A segment as it is stored: the one that `origin` is in, below the node `parent`, of the trace of that goal."""
    document: dict[str, object] = {"_id": origin.segment, "root": origin.cause.root, "at": at, "node": node}
    if goal_id is not None:
        document["goal_id"] = goal_id
    if parent:
        document["parent"] = parent
    if origin.cause.traceparent is not None:
        document["traceparent"] = origin.cause.traceparent
    document["counts"] = counts_of(node)
    return document


#: The tasks that make transfers; of a call it is told by its references.
_TRANSFERRING = {"transfer", "hold_exclusive"}


def counts_of(node: Node) -> dict[str, int]:
    """How many nodes there are from this one down, how many of them made a transfer, and how many failed."""
    counts = {"nodes": 0, "transfers": 0, "failures": 0}
    waiting = [node]
    while waiting:
        one = waiting.pop()
        counts["nodes"] += 1
        if one["outcome"] == "failed":
            counts["failures"] += 1
        elif one["outcome"] == "done" and (one["name"] in _TRANSFERRING if one["kind"] == "task" else _paid(one)):
            counts["transfers"] += 1
        waiting.extend(one["children"])
    return counts


def _paid(node: Node) -> bool:
    return node["kind"] == "call" and "transfer" in node.get("refs", ())


def node_of(
    kind: str,
    name: str,
    answer: Answer,
    at: datetime,
    milliseconds: float,
    children: Iterable[Node] = (),
    refs: Mapping[str, Ref] | None = None,
) -> Node:
    """A node of the trace, in the form in which it is stored and shown."""
    node: Node = {
        "kind": kind,
        "name": name,
        "at": at,
        "ms": round(milliseconds, 3),
        "children": list(children),
    }
    if refs:
        node["refs"] = dict(refs)
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
    refs = refs_of(report.event) if report.event is not None else None
    return node_of("signal", report.signal, answer, report.at, report.milliseconds, children, refs) | {
        "sender": report.sender
    }


def _receiver_node(sender: str, receiver: ReceiverReport) -> Node:
    answer = receiver.answer
    reports = answer.reports if isinstance(answer, Done) else ()
    children = [signal_node(report) for report in reports]
    node = node_of("receiver", receiver.receiver, answer, receiver.at, receiver.milliseconds, children, receiver.refs)
    if isinstance(answer, Done):
        node["place"] = f"{sender}/{receiver.receiver}"
    return node


def assemble(segments: Iterable[Stored]) -> list[Node]:
    """The trees that these segments make: every job hung under the node that caused it, roots in order of time.

    A root has its segment's `id`.
    """
    ordered = sorted(segments, key=lambda segment: (segment["at"], str(segment["_id"])))
    places: dict[str, Node] = {}
    for segment in ordered:
        places[f"{segment['_id']}#"] = segment["node"]
        _index(str(segment["_id"]), segment["node"], places)
    roots: list[Node] = []
    for segment in ordered:
        parent = places.get(segment.get("parent") or "")
        if parent is None:
            segment["node"]["id"] = str(segment["_id"])
            roots.append(segment["node"])
        else:
            parent["children"].append(segment["node"])
    for node in places.values():
        node.pop("place", None)
    return roots


def _index(segment: str, node: Node, places: dict[str, Node]) -> None:
    if "place" in node:
        places[f"{segment}#{node['place']}"] = node
    for child in node["children"]:
        _index(segment, child, places)
