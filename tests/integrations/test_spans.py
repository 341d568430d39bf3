"""Spans for OpenTelemetry: the same tree as the trace, and the ids by which other services join it."""

import subprocess
import sys
from typing import Any

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from goalsvc.domain.origin import CURRENT, Cause, Origin, accepted_traceparent
from goalsvc.domain.outcome import Done, Failed
from goalsvc.domain.trace import Node, assemble, node_of, segment_document
from goalsvc.integrations.outbound import open_outbound
from goalsvc.integrations.spans import SpanExport
from goalsvc.integrations.tracecontext import exporting, open_spans
from goalsvc.models.recorder import BulkRecorder
from goalsvc.models.records import DeadLetter
from goalsvc.tasks.redrive import redrive_letter
from tests.receivers.fakes import NOW, open_stage
from tests.receivers.scenes import GOAL
from tests.stories.scenes import a_funded_show
from tests.world import API_KEY, World

from .stub_server import StubServer

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

Tree = tuple[str, str, str, tuple[Any, ...]]


class Exported:
    """What was exported."""

    def __init__(self) -> None:
        self._memory = InMemorySpanExporter()
        self.export = SpanExport(SimpleSpanProcessor(self._memory), Resource.create({"service.name": "goalsvc"}))

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self._memory.get_finished_spans()

    def trees(self) -> list[Tree]:
        """The trees that the ids of the spans make."""
        below: dict[int | None, list[ReadableSpan]] = {}
        own = {span.context.span_id for span in self.spans if span.context}
        for span in self.spans:
            parent = span.parent.span_id if span.parent is not None and span.parent.span_id in own else None
            below.setdefault(parent, []).append(span)

        def tree(span: ReadableSpan) -> Tree:
            attributes = span.attributes or {}
            assert span.context is not None
            children = sorted(tree(child) for child in below.get(span.context.span_id, ()))
            return span.name, str(attributes["goalsvc.kind"]), str(attributes["goalsvc.outcome"]), tuple(children)

        return sorted(tree(root) for root in below.get(None, ()))


def tree_of(node: Node) -> Tree:
    return node["name"], node["kind"], node["outcome"], tuple(sorted(map(tree_of, node["children"])))


@pytest.fixture
def exported() -> Exported:
    return Exported()


@pytest.mark.real
async def test_the_spans_of_a_show_are_its_trace(world: World, exported: Exported) -> None:
    show = await world.given(a_funded_show(seconds=360, earnings=3))
    await world.performs(show, seconds=360)
    await world.settle()
    segments = world.all("traces")
    exported.export.export(segments)
    ids = [span.context.span_id for span in exported.spans if span.context]
    assert len(ids) == len(set(ids))
    assert {span.context.trace_id for span in exported.spans if span.context} == {
        int(segment["root"], 16) for segment in segments
    }
    trees = sorted(map(tree_of, assemble(segments)))
    assert exported.trees() == trees
    (leave,) = [tree for tree in trees if tree[0] == "member_removed"]
    assert str(leave).count("'transfer', 'task'") >= 3, "down to the last transfer"


@pytest.mark.real
async def test_a_callers_span_reaches_what_follows(world: World) -> None:
    show = await world.given(a_funded_show(seconds=360, earnings=1))
    headers = {"Authorization": f"Bearer {API_KEY}", "traceparent": CALLER}
    ended = await world.client.post(f"/v1/goals/{show.id}/end", headers=headers)
    assert ended.status_code == 200
    await world.settle()
    caused = [segment for segment in world.all("traces") if segment.get("traceparent") == CALLER]
    assert {"call", "task"} <= {segment["node"]["kind"] for segment in caused}
    (refund,) = world.all("transfers", {"_id": {"$regex": "^refund-"}})
    assert refund["cause"]["traceparent"] == CALLER


def a_node(kind: str = "task", name: str = "transfer", answer: Any = None, **more: Any) -> Node:
    return node_of(kind, name, answer or Done(), NOW, 2.5, **more)


class TestASpan:
    def test_says_what_its_node_says(self, exported: Exported) -> None:
        origin = Origin.new(Cause(goal_id="g"))
        node = a_node("webhook", "member_removed", Failed("r: no"), refs={"goal": "g", "amount": 3}) | {"sender": "s"}
        exported.export.export([segment_document(origin, "g", None, NOW, node)])
        (span,) = exported.spans
        assert (span.name, span.kind, span.status.status_code) == ("member_removed", SpanKind.SERVER, StatusCode.ERROR)
        assert (span.start_time or 0) == NOW.timestamp() * 1e9
        assert (span.end_time or 0) - (span.start_time or 0) == 2_500_000
        assert dict(span.attributes or {}) == {
            "goalsvc.kind": "webhook",
            "goalsvc.outcome": "failed",
            "goalsvc.reason": "r: no",
            "goalsvc.sender": "s",
            "goalsvc.refs.goal": "g",
            "goalsvc.refs.amount": 3,
        }

    def test_belongs_below_the_callers(self, exported: Exported) -> None:
        origin = Origin.new(Cause(traceparent=CALLER))
        exported.export.export([segment_document(origin, None, None, NOW, a_node("call", "end_goal"))])
        task = origin.of_task("transfer")
        node = a_node() | {"place": task.place}
        exported.export.export([segment_document(task, None, origin.parent, NOW, node)])
        root, job = exported.spans
        assert root.context
        assert root.parent
        assert job.context
        assert job.parent
        assert f"{root.context.trace_id:032x}-{root.parent.span_id:016x}" == CALLER[3:-3]
        assert job.context.trace_id == root.context.trace_id
        assert job.parent.span_id == root.context.span_id
        assert task.traceparent == f"00-{job.context.trace_id:032x}-{job.context.span_id:016x}-01"

    def test_is_left_out_where_the_caller_samples_it_out(self) -> None:
        origin = Origin.new(Cause(traceparent=f"{CALLER[:-2]}00"))
        assert origin.traceparent.endswith("-00")

    def test_links_to_what_it_redrives(self, exported: Exported) -> None:
        redriven = Origin.new().of_task("transfer")
        node = a_node("call", "redrive", refs={"dead_letter": "l", "traceparent": redriven.traceparent})
        exported.export.export([segment_document(Origin.new(), None, None, NOW, node)])
        (span,) = exported.spans
        (link,) = span.links
        assert f"00-{link.context.trace_id:032x}-{link.context.span_id:016x}-01" == redriven.traceparent


async def test_a_redrive_notes_where_the_letter_belongs() -> None:
    async with open_stage() as stage:
        origin = Origin.new(Cause(goal_id=str(GOAL)))
        letter = DeadLetter(
            id="l", task="transfer", arguments={}, reason="r", at=NOW, tries=1, parent=origin.parent,
            cause=origin.cause.document(),
        )  # fmt: skip
        await DeadLetter.bury(letter)
        context = stage.context
        assert await redrive_letter(context, "l") is not None
        assert context.refs["traceparent"] == origin.traceparent


class TestTheCallersHeader:
    @pytest.mark.parametrize("value", [CALLER, f"{CALLER[:-2]}00"])
    def test_of_version_00_is_accepted(self, value: str) -> None:
        assert accepted_traceparent(value) == value

    @pytest.mark.parametrize(
        "value",
        [None, "", "x", CALLER.upper(), f"01{CALLER[2:]}", f"{CALLER}-x", f"00-{'0' * 32}-{'1' * 16}-01",
         f"00-{'1' * 32}-{'0' * 16}-01", f"{CALLER}\n"],
    )  # fmt: skip
    def test_of_another_form_is_ignored(self, value: str | None) -> None:
        assert accepted_traceparent(value) is None


class TestOutgoingCalls:
    async def called(self, stub: StubServer) -> str | None:
        async with open_outbound(connections=1) as client:
            await client.call("POST", stub.url, content=b"{}", headers={})
        return stub.requests[-1].headers.get("traceparent")

    async def test_name_the_task_that_makes_them(self, stub: StubServer, monkeypatch: pytest.MonkeyPatch) -> None:
        origin = Origin.new().of_task("notify")
        CURRENT.set(origin)
        assert await self.called(stub) is None, "nothing is exported"
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
        assert await self.called(stub) == origin.traceparent

    async def test_name_it_too_where_a_caller_traces(self, stub: StubServer) -> None:
        CURRENT.set(Origin.new(Cause(traceparent=CALLER)))
        told = await self.called(stub)
        assert told is not None
        assert told.startswith(CALLER[:36])

    async def test_outside_of_a_task_name_nothing(self, stub: StubServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
        assert await self.called(stub) is None


class TestTheSwitch:
    @pytest.mark.parametrize(
        ("environment", "on"),
        [
            ({}, False),
            ({"OTEL_SERVICE_NAME": "goalsvc"}, False),
            ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, True),
            ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, True),
            ({"OTEL_TRACES_EXPORTER": "console"}, True),
            ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "OTEL_TRACES_EXPORTER": "none"}, False),
            ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "OTEL_SDK_DISABLED": "TRUE"}, False),
        ],
    )
    def test_is_opentelemetrys_own_variables(self, environment: dict[str, str], on: bool) -> None:
        assert exporting(environment) is on

    def test_is_off_and_then_nothing_is_imported(self) -> None:
        program = (
            "import sys, goalsvc.app, goalsvc.worker; from goalsvc.integrations.tracecontext import open_spans;"
            "assert open_spans(print) is None; print('opentelemetry.sdk' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", program], env={}, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "False"

    def test_warns_where_the_extra_is_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
        monkeypatch.setitem(sys.modules, "goalsvc.integrations.spans", None)
        told: list[str] = []
        assert open_spans(told.append) is None
        assert told == ["OTEL_… is set, but no spans are exported: install goalsvc[otel]"]


async def test_spans_are_sent_to_a_collector(stub: StubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", stub.url)
    stub.answer(b"")
    export = open_spans(print)
    assert export is not None
    origin = Origin.new()
    export.export([segment_document(origin, None, None, NOW, a_node())])
    await export.close()
    (request,) = stub.requests
    body = ExportTraceServiceRequest.FromString(request.body)
    (resource,) = body.resource_spans
    (span,) = resource.scope_spans[0].spans
    assert (request.path, span.name, span.trace_id.hex()) == ("/v1/traces", "transfer", f"{origin.segment:0>32}")
    assert {each.key: each.value.string_value for each in resource.resource.attributes}["service.name"] == "goalsvc"


@pytest.mark.real
async def test_the_recorder_hands_over_what_it_writes(world: World, exported: Exported) -> None:
    recorder = BulkRecorder(exported.export.export)
    origin = Origin.new()
    recorder.trace(segment_document(origin, None, None, NOW, a_node()))
    recorder.track({"_id": "t", "name": "n", "at": NOW})
    await recorder.flush()
    assert [span.name for span in exported.spans] == ["transfer"]
    assert len(world.all("traces", {"_id": origin.segment})) == 1
