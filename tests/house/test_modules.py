"""What holds for every module: its length, where it takes the time from, how its names read."""

import ast
import importlib
import inspect
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from pkgutil import iter_modules

import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from goalsvc import api
from goalsvc.api.authentication import require_api_key
from goalsvc.console import pages as console

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src" / "goalsvc").rglob("*.py"))
LONGEST = 450
#: Uses of `Any` for 1,000 lines: each is a type that has no name.
MOST_ANY = 5.5

#: Who reads the machine's clock besides `clock.py`, and why. (Durations are measured with `perf_counter` and `monotonic`.)
MAY_READ_THE_TIME = {
    "clock.py": "it is the clock",
    "commands/clock.py": "the command line is the outside: what it sends happened now",
    "commands/listen.py": "the command line is the outside: it signs what it sends now",
    "commands/replay.py": "the command line is the outside: what it sends anew happened now",
    "devstack/demo_show.py": "the demo is the outside: its performer comes and goes now",
    "devstack/standins/pusher.py": "stands for another machine: checks how old a signature is, as Pusher does",
    "devstack/standins/byteplus.py": "stands for another machine: checks how old a signature is, as BytePlus does",
    "devstack/standins/recording.py": "stands for another machine: notes when it was called",
    "request_id.py": "an id says when it was made, as the ids of segments do, whatever time it is for the goals",
}

_READS_THE_TIME = {"datetime.now", "datetime.utcnow", "datetime.today", "date.today", "time.time", "time.time_ns"}
_QUOTED_ANY = re.compile(r"(?:[\w.]+\[.*)?\bAny\b[\w\], |]*")
_NAMES_NOBODY_NEEDS = re.compile(r"^(utils?|helpers?|misc|common|.*_(utils?|helpers?|manager|service))$")


def short(path: Path) -> str:
    return path.relative_to(ROOT / "src" / "goalsvc").as_posix()


def reads_the_time(tree: ast.AST) -> Iterator[str]:
    """Every way in which this module asks the machine what time it is."""
    imported = {
        alias.asname or alias.name: f"time.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "time"
        for alias in node.names
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            name = f"{node.value.id}.{node.attr}"
        elif isinstance(node, ast.Name):
            name = imported.get(node.id, "")
        else:
            continue
        if name in _READS_THE_TIME:
            yield name


def mentions_any(tree: ast.AST) -> int:
    """How often this module uses `Any`, also within a quoted annotation."""
    uses = 0
    for node in ast.walk(tree):
        named = isinstance(node, ast.Name) and node.id == "Any"
        qualified = isinstance(node, ast.Attribute) and node.attr == "Any"
        quoted = isinstance(node, ast.Constant) and isinstance(node.value, str) and _QUOTED_ANY.fullmatch(node.value)
        uses += bool(named or qualified or quoted)
    return uses


class TestEveryModule:
    @pytest.mark.parametrize("path", SOURCES, ids=short)
    def test_is_not_too_long(self, path: Path) -> None:
        assert len(path.read_text("utf-8").splitlines()) <= LONGEST

    @pytest.mark.parametrize("path", SOURCES, ids=short)
    def test_has_a_name_that_says_what_is_in_it(self, path: Path) -> None:
        assert not _NAMES_NOBODY_NEEDS.match(path.stem)


class TestTime:
    def test_is_read_from_the_clock_only(self) -> None:
        readers = {short(path) for path in SOURCES if any(reads_the_time(ast.parse(path.read_text("utf-8"))))}
        assert readers <= set(MAY_READ_THE_TIME)

    def test_no_exception_outlives_its_reason(self) -> None:
        readers = {short(path) for path in SOURCES if any(reads_the_time(ast.parse(path.read_text("utf-8"))))}
        assert set(MAY_READ_THE_TIME) <= readers

    @pytest.mark.parametrize(
        "source",
        [
            "from time import time\ntime()",
            "import time\ntime.time()",
            "from datetime import datetime\ndatetime.now(UTC)",
        ],
    )
    def test_and_this_is_how_it_would_be_noticed(self, source: str) -> None:
        assert list(reads_the_time(ast.parse(source)))


class TestTypes:
    def test_any_stands_for_few_types(self) -> None:
        lines = sum(len(path.read_text("utf-8").splitlines()) for path in SOURCES)
        uses = sum(mentions_any(ast.parse(path.read_text("utf-8"))) for path in SOURCES)
        assert uses / lines * 1000 <= MOST_ANY

    def test_and_this_is_how_they_are_counted(self) -> None:
        source = "from typing import Any\nimport typing\nx: dict[str, Any]\ny: 'list[Any]'\nz: typing.Any\nw = cast('Any', 1)"
        assert mentions_any(ast.parse(source)) == 4

    def test_mypy_refuses_every_line_of_the_probe(self) -> None:
        """mypy reports an ignored error that is none (`strict`), so each wrong line of the probe is one that it refuses."""
        options = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["mypy"]
        assert options["strict"] is True
        assert "tests" in options["files"]
        probe = Path(__file__).with_name("probe.py").read_text("utf-8")
        functions = [node for node in ast.parse(probe).body if isinstance(node, ast.AsyncFunctionDef)]
        wrong = [statement.lineno for function in functions for statement in function.body[1:]]
        refused = [number for number, line in enumerate(probe.splitlines(), 1) if "# type: ignore[" in line]
        assert wrong == refused
        assert len(wrong) > 10


def _callables_of(dependant: Dependant) -> Iterator[Callable[..., object]]:
    if dependant.call is not None:
        yield dependant.call
    for own in dependant.dependencies:
        yield from _callables_of(own)


def _is_asynchronous(call: Callable[..., object]) -> bool:
    return any(map(inspect.iscoroutinefunction, (call, getattr(call, "__call__", None))))  # noqa: B004 - HTTPBearer's


def test_no_endpoint_and_no_dependency_costs_a_hop_to_a_thread() -> None:
    """FastAPI runs what is not `async` in a pool of forty threads: two hops for each, and a crowd waits for a thread."""
    modules = [importlib.import_module(f"goalsvc.api.{each.name}") for each in iter_modules(api.__path__)]
    routers = [*console.ROUTERS, *(module.router for module in modules if hasattr(module, "router"))]
    routes = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]
    assert len(routes) > 100
    calls = {call for route in routes for call in _callables_of(route.dependant)} | {require_api_key}
    assert {call for call in calls if not _is_asynchronous(call)} == set()
