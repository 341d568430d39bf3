"""Spans for OpenTelemetry, made from the trace's segments: the same tree, with ids that are derived from its places.

Needs the extra `otel`. Nothing waits for the export: a thread of OpenTelemetry's own sends what it was handed.
"""

import asyncio
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from goalsvc import __version__
from goalsvc.domain.documents import RawDocument
from goalsvc.domain.origin import span_id
from goalsvc.domain.trace import Node

Segment = Mapping[str, Any]

_KINDS = {"webhook": SpanKind.SERVER, "call": SpanKind.SERVER, "task": SpanKind.CONSUMER}
_SCOPE = InstrumentationScope("goalsvc", __version__)
_FLUSH_SECONDS = 3.0
#: What a root says of itself, besides its references.
_TOLD = ("sender", "event_id", "channel", "request_id", "key", "app_key", "place")


class SpanExport:
    """Turns segments into spans and hands them to a processor."""

    def __init__(self, processor: SpanProcessor, resource: Resource) -> None:
        self._processor, self._resource = processor, resource

    @classmethod
    def from_environment(cls) -> "SpanExport":
        """The export that OpenTelemetry's own variables describe: OTLP over HTTP, or the console."""
        named = "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "") or "OTEL_SERVICE_NAME" in os.environ
        own = {"service.version": __version__} | ({} if named else {"service.name": "goalsvc"})
        return cls(BatchSpanProcessor(_exporter()), Resource.create(own))

    def export(self, segments: Sequence[Segment]) -> None:
        """Takes segments as they are stored."""
        for segment in segments:
            for span in spans_of(segment, self._resource):
                self._processor.on_end(span)

    async def close(self) -> None:
        """Sends what is left, within a limit, and ends the thread."""
        await asyncio.to_thread(self._processor.force_flush, int(_FLUSH_SECONDS * 1000))
        await asyncio.to_thread(self._processor.shutdown)


def _exporter() -> SpanExporter:
    if os.environ.get("OTEL_TRACES_EXPORTER") == "console":
        return ConsoleSpanExporter()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()


def spans_of(segment: Segment, resource: Resource | None = None) -> Iterator[ReadableSpan]:
    """Yields the spans of a segment: one for each node, below the span of what caused the segment."""
    identity, root = str(segment["_id"]), str(segment.get("root") or segment["_id"])
    told: str | None = segment.get("traceparent")
    trace_id = told[3:35] if told else f"{root:0>32}"
    flags = int(told[-2:], 16) if told else 1
    if parent := segment.get("parent"):
        above: str | None = span_id(*parent.split("#", 1))
    else:
        above = told[36:52] if told else None
    ids = _ids_of(identity, segment["node"])

    def walk(node: Node, above: str | None) -> Iterator[ReadableSpan]:
        own = ids[id(node)]
        begun = _nanoseconds(node["at"])
        failed = node["outcome"] == "failed"
        yield ReadableSpan(
            node["name"],
            _context(trace_id, own, flags),
            None if above is None else _context(trace_id, above, flags, remote=above not in ids.values()),
            resource,
            _attributes(node),
            links=[*_links(node)],
            kind=_KINDS.get(node["kind"], SpanKind.INTERNAL),
            status=Status(StatusCode.ERROR, str(node.get("reason", ""))) if failed else Status(StatusCode.OK),
            start_time=begun,
            end_time=begun + int(node["ms"] * 1_000_000),
            instrumentation_scope=_SCOPE,
        )
        for child in node["children"]:
            yield from walk(child, own)

    return walk(segment["node"], above)


def _ids_of(segment: str, root: Node) -> dict[int, str]:
    """Returns the span id of each node: of its place if it has one of its own, else of where it stands."""
    where: dict[int, str] = {}
    places: dict[str, int] = {}

    def look(node: Node, path: str) -> None:
        where[id(node)] = path
        if "place" in node:
            places[node["place"]] = id(node)  # of two nodes with one place, jobs hang below the last
        for number, child in enumerate(node["children"]):
            look(child, f"{path}/{number}")

    look(root, "")
    where |= {node: place for place, node in places.items()}
    return {node: span_id(segment, place) for node, place in where.items()}


def _context(trace_id: str, span: str, flags: int, *, remote: bool = False) -> SpanContext:
    return SpanContext(int(trace_id, 16), int(span, 16), is_remote=remote, trace_flags=TraceFlags(flags))


def _attributes(node: Node) -> dict[str, Any]:
    told: RawDocument = {name: node[name] for name in ("kind", "outcome", "reason", *_TOLD) if node.get(name)}
    refs = {name: value for name, value in node.get("refs", {}).items() if name != "traceparent"}
    own = {f"goalsvc.{name}": value for name, value in told.items()}
    return own | {f"goalsvc.refs.{name}": value for name, value in refs.items()}


def _links(node: Node) -> Iterator[Link]:
    """Yields links to the traces in which the effects of this node belong: of what it redrives or sends again."""
    given = node.get("refs", {}).get("traceparent", ())
    for text in [given] if isinstance(given, str) else given:
        _, trace_id, span, flags = text.split("-")
        yield Link(_context(trace_id, span, int(flags, 16), remote=True))


def _nanoseconds(at: datetime) -> int:
    return int(at.timestamp() * 1_000_000) * 1000
