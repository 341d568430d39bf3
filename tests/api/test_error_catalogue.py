"""Every code that a caller may get is in the catalogue, and its address leads to its entry."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from goalsvc import errors as own
from goalsvc.api.error_catalogue import CATALOGUE
from goalsvc.api.errors import STATUS, Problem, status_of

from .app import Service

SOURCE = Path(own.__file__).parent
#: The classes whose first or second argument is a code.
NAMING = {"ConflictError": 0, "WebError": 1, "problem": 1}


def codes_in_the_source() -> set[str]:
    found = {kind.code for kind, _ in STATUS}
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            name = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
            if name in NAMING and isinstance(node, ast.Call) and len(node.args) > NAMING[name]:
                argument = node.args[NAMING[name]]
                assert not isinstance(argument, ast.JoinedStr), f"{path}:{node.lineno}: a code is written out"
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    found.add(argument.value)
    return found


def test_every_code_is_in_the_catalogue() -> None:
    assert codes_in_the_source() - set(CATALOGUE) == set()


def kinds(kind: type[own.GoalsvcError] = own.GoalsvcError) -> Iterator[type[own.GoalsvcError]]:
    yield kind
    for narrower in kind.__subclasses__():
        yield from kinds(narrower)


@pytest.mark.parametrize(
    "kind",
    [kind for kind in kinds() if kind.__module__ == own.__name__ and kind.code in CATALOGUE],
    ids=lambda kind: kind.code,
)
def test_a_kind_is_answered_with_the_status_of_the_catalogue(kind: type[own.GoalsvcError]) -> None:
    assert status_of(kind.__new__(kind)) == CATALOGUE[kind.code].status


def test_the_document_names_every_code() -> None:
    assert Problem.model_json_schema()["properties"]["code"]["enum"] == sorted(CATALOGUE)


@pytest.mark.parametrize("code", sorted(CATALOGUE))
async def test_each_has_an_address(service: Service, code: str) -> None:
    answer = await service.stranger.get(f"/errors/{code}")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert code in answer.text


async def test_the_type_of_a_problem_leads_there(service: Service) -> None:
    problem = (await service.client.get("/v1/goals/68143584d6945d32e732cc21")).json()
    assert (await service.stranger.get(problem["type"])).status_code == 200
    assert (await service.stranger.get("/errors/nothing<script>")).status_code == 404
    assert (await service.stranger.get("/errors")).text.count("<section") == len(CATALOGUE)
