"""Law 8: each page of the console stands in the table of docs/console.md, with operations that the API has."""

import re
from pathlib import Path

import pytest
from fastapi.routing import APIRoute

from goalsvc.app import create_app
from goalsvc.console import pages
from goalsvc.console.acts import ACTS

TEXT = (Path(__file__).parents[2] / "docs" / "console.md").read_text("utf-8")
ROW = re.compile(r"^\| `(/console[^`]*)` \| (.+?) \| (.+?) \|$", re.MULTILINE)
#: Pages that show nothing which is stored.
WITHOUT_FIGURES = {"/console/login", "/console/static/{name}"}


def table() -> dict[str, list[str]]:
    """The operations of each page."""
    return {page: re.findall(r"`([A-Z]+ /v1/[^`]+)`", operations) for page, operations, _ in ROW.findall(TEXT)}


def shown() -> set[str]:
    """The paths of all pages that are read."""
    routes = [route for router in pages.ROUTERS for route in router.routes if isinstance(route, APIRoute)]
    return {route.path for route in routes if "GET" in (route.methods or ())}


@pytest.fixture(scope="module")
def operations() -> set[str]:
    """Every operation of the OpenAPI document."""
    paths = create_app().openapi()["paths"]
    return {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}


def test_every_page_stands_in_the_table_once() -> None:
    assert set(table()) == shown()
    assert len(ROW.findall(TEXT)) == len(shown())


def test_every_page_with_figures_has_an_operation() -> None:
    assert {page for page, named in table().items() if not named} == WITHOUT_FIGURES


def test_no_page_has_figures_besides() -> None:
    assert {page: besides for page, _, besides in ROW.findall(TEXT) if besides != "–"} == {}


@pytest.mark.parametrize("page", sorted(table()))
def test_the_api_has_the_operations_of(page: str, operations: set[str]) -> None:
    assert set(table()[page]) - operations == set()


@pytest.mark.parametrize("name", sorted(ACTS))
def test_the_api_has_the_operation_of_the_act(name: str, operations: set[str]) -> None:
    act = ACTS[name]
    asked = re.sub(r"\{[^}]*\}", "{}", f"{act.method} {act.path}")
    assert asked in {re.sub(r"\{[^}]*\}", "{}", operation) for operation in operations}
