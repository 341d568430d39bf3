"""The OpenAPI document holds together. (What it says of each operation is tested with `/asyncapi.json`, in tests/asyncapi.)"""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from goalsvc.api.openapi import describe

from .app import Service

Json = dict[str, Any]


@pytest.fixture
async def document(service: Service) -> Json:
    answer = await service.stranger.get("/openapi.json")
    assert answer.status_code == 200
    parsed: Json = answer.json()
    return parsed


def operations(document: Json) -> Iterator[tuple[str, Json]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def references(value: Any) -> Iterator[str]:
    """Every `$ref` in there."""
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from references(item)


class TestDocument:
    def test_it_is_of_version_3_1(self, document: Json) -> None:
        assert re.fullmatch(r"3\.1\.\d+", document["openapi"])
        assert document["info"]["title"] == "goalsvc"

    def test_it_is_valid(self, document: Json) -> None:
        assert [error.message for error in OpenAPIV31SpecValidator(document).iter_errors()] == []

    def test_every_reference_leads_somewhere(self, document: Json) -> None:
        for reference in references(document):
            found: Any = document
            assert reference.startswith("#/")
            for part in reference[2:].split("/"):
                found = found[part.replace("~1", "/").replace("~0", "~")]
            assert isinstance(found, dict)

    def test_the_stream_of_events_begins_with_the_next_and_the_list_with_the_oldest(self, document: Json) -> None:
        for path, begin in (
            ("/v1/events/stream", "from the next event on"),
            ("/v1/events", "from the oldest event on"),
        ):
            (after,) = [one for one in document["paths"][path]["get"]["parameters"] if one["name"] == "after"]
            assert begin in after["description"]

    def test_operation_ids_are_unique(self, document: Json) -> None:
        ids = [operation["operationId"] for _, operation in operations(document)]
        assert len(set(ids)) == len(ids)

    def test_every_answer_that_has_a_body_has_a_schema(self, document: Json) -> None:
        without = {
            f"{name} {status}"
            for name, operation in operations(document)
            for status, answer in operation["responses"].items()
            if not answer.get("content") or not all(content.get("schema") for content in answer["content"].values())
        }
        assert {name for name in without if not name.endswith(" 304")} == {"POST /notify/pusher 200"}

    def test_every_parameter_of_a_path_is_described(self, document: Json) -> None:
        for name, operation in operations(document):
            described = {one["name"] for one in operation.get("parameters", []) if one["in"] == "path"}
            assert described == set(re.findall(r"{(\w+)}", name)), name
            assert all(one["required"] for one in operation.get("parameters", []) if one["in"] == "path")


class TestErrors:
    def test_whatever_needs_a_key_may_be_refused_or_be_out_of_reach(self, document: Json) -> None:
        for name, operation in operations(document):
            if operation.get("security") == [{"ApiKey": []}]:
                assert {"401", "503"} <= set(operation["responses"]), name

    def test_whatever_takes_input_may_find_it_invalid(self, document: Json) -> None:
        for name, operation in operations(document):
            if name != "POST /notify/pusher" and (operation.get("parameters") or "requestBody" in operation):
                assert "422" in operation["responses"], name

    def test_the_webhook_tells_of_its_own(self, document: Json) -> None:
        webhook = dict(operations(document))["POST /notify/pusher"]
        assert set(webhook["responses"]) == {"200", "400", "401", "413", "503"}
        assert webhook["security"] == [{"PusherKey": [], "PusherSignature": []}]
        assert {"PusherKey", "PusherSignature"} <= set(document["components"]["securitySchemes"])
        assert "HMAC-SHA256" in webhook["description"]

    def test_the_document_is_the_same_each_time(self, service: Service, document: Json) -> None:
        assert describe(service.app) == document

    def test_health_is_open(self, document: Json) -> None:
        for path in ("/healthz", "/readyz"):
            assert dict(operations(document))[f"GET {path}"]["security"] == []

    def test_metrics_may_have_a_key(self, document: Json) -> None:
        assert dict(operations(document))["GET /metrics"]["security"] == [{}, {"MetricsKey": []}]
        assert document["components"]["securitySchemes"]["MetricsKey"]["scheme"] == "bearer"

    def test_each_kind_of_goal_is_told_by_a_field_that_is_always_there(self, document: Json) -> None:
        schemas = document["components"]["schemas"]
        for name in ("FundingGoalView", "TriggerGoalView", "ShowGoalView", "KaraokeGoalView", "ExclusiveGoalView"):
            assert "kind" in schemas[name]["required"]

    def test_fastapis_own_form_of_errors_is_not_told_of(self, document: Json) -> None:
        assert not any(reference.endswith("HTTPValidationError") for reference in references(document))
