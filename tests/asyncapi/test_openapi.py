"""`/openapi.json` shows an example of every answer and every error, and each is what its schema says; `/docs` shows it."""

import json
import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from goalsvc.api.openapi import ANSWERS
from goalsvc.app import create_app
from tests.api.test_openapi import operations
from tests.auth.conftest import settings_with

Json = dict[str, Any]


@pytest.fixture(scope="module")
def document() -> Json:
    parsed: Json = json.loads(json.dumps(create_app(settings_with()).openapi()))
    return parsed


def examples(content: Json) -> list[Any]:
    return [
        *([content["example"]] if "example" in content else []),
        *(e["value"] for e in content.get("examples", {}).values()),
    ]


def test_every_example_is_what_its_schema_says(document: Json) -> None:
    for name, operation in operations(document):
        bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
        for content in (content for body in bodies for content in body.get("content", {}).values()):
            for example in examples(content):
                schema = {**content["schema"], "components": document["components"]}
                assert list(Draft202012Validator(schema).iter_errors(example)) == [], name


def test_no_two_models_share_a_name(document: Json) -> None:
    """FastAPI would name both after their modules, which changes the types of every generated client."""
    assert [name for name in document["components"]["schemas"] if name.startswith("goalsvc__")] == []


def test_every_answer_has_an_example(document: Json) -> None:
    without = {
        "POST /notify/pusher",
        "GET /metrics",
        "GET /v1/events/stream",
        "GET /v1/activity/stream",
        "GET /v1/reports/transfers",
    }  # an empty body, and text
    for name, operation in operations(document):
        success = next(answer for status, answer in operation["responses"].items() if status.startswith("2"))
        if name not in without:
            assert examples(success["content"]["application/json"]), name


def test_every_error_is_a_problem_with_its_cause_and_an_example(document: Json) -> None:
    for name, operation in operations(document):
        for status, answer in operation["responses"].items():
            if int(status) >= 400 and name != "GET /readyz":
                assert list(answer["content"]) == ["application/problem+json"], name
                example = answer["content"]["application/problem+json"]["example"]
                assert example["status"] == int(status)
                assert answer["description"].endswith((".", "Try again."))
                named = re.findall(r"\(`(\w+)`\)", answer["description"])
                assert not named or example["code"] in named


def test_nothing_is_told_of_an_operation_that_there_is_not(document: Json) -> None:
    known = dict(operations(document))
    assert set(ANSWERS) <= set(known)


def test_every_operation_is_described_and_has_its_security(document: Json) -> None:
    tags = {tag["name"] for tag in document["tags"]}
    for name, operation in operations(document):
        assert operation["summary"], name
        assert operation["description"], name
        assert set(operation["tags"]) <= tags, name
        schemes = {scheme for wanted in operation.get("security", []) for scheme in wanted}
        assert schemes <= set(document["components"]["securitySchemes"])
        assert bool(schemes) == (name not in ("GET /healthz", "GET /readyz")), name
    assert dict(operations(document))["POST /pusher/auth"]["security"] == [{"UserToken": []}]
