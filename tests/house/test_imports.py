"""Imports go down only, and every client library has one door; nothing happens at import."""

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from importlinter.application.use_cases import read_user_options
from importlinter.cli import lint_imports

ROOT = Path(__file__).parents[2]

#: Imports everything there is, under an audit hook that notes sockets and processes; prints what it noted.
_IMPORT_ALL = """
import importlib, json, pkgutil, sys
noted = []
sys.addaudithook(lambda event, args: noted.append(event) if event in WATCHED else None)
import goalsvc
names = [found.name for found in pkgutil.walk_packages(goalsvc.__path__, "goalsvc.")]
for name in names:
    if not name.endswith(".__main__"):
        importlib.import_module(name)
print(json.dumps({"noted": noted, "modules": len(names), "motor": "motor" in sys.modules}))
"""
_WATCHED = {"socket.connect", "socket.bind", "socket.getaddrinfo", "subprocess.Popen", "os.fork", "os.posix_spawn"}


@pytest.fixture
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.fixture
def loggers_stay() -> Iterator[None]:
    """import-linter's own set-up silences every logger that there is, and tests after this one look at what is logged."""
    loggers = [one for one in logging.root.manager.loggerDict.values() if isinstance(one, logging.Logger)]
    before = [one.disabled for one in loggers]
    yield
    for one, disabled in zip(loggers, before, strict=True):
        one.disabled = disabled


@pytest.mark.usefixtures("at_the_root")
class TestContracts:
    @pytest.mark.usefixtures("loggers_stay")
    def test_every_contract_is_kept(self, capsys: pytest.CaptureFixture[str]) -> None:
        broken = lint_imports(no_cache=True)
        assert broken == 0, capsys.readouterr().out

    def test_none_of_them_has_been_dropped(self) -> None:
        names = {contract["name"] for contract in read_user_options().contracts_options}
        assert names == {
            "Imports go down only",
            "Receivers do not know each other",
            "Only the command line knows the dev stack",
            "Only the bus knows blinker",
            "Only the queue and the worker know arq",
            "Only the database module, and the name of its session, know Motor",
            "Only the exporter of spans knows OpenTelemetry",
            "Only integrations and the command line make HTTP calls",
        }

    def test_a_receiver_module_that_is_new_is_held_to_them_too(self) -> None:
        (contract,) = (c for c in read_user_options().contracts_options if c["type"] == "independence")
        modules = {path.stem for path in (ROOT / "src/goalsvc/receivers").glob("*.py")} - {
            "__init__",
            "telling",
            "windows",
        }
        assert set(contract["modules"]) == {f"goalsvc.receivers.{module}" for module in modules}

    def test_every_room_has_its_place_among_the_layers(self) -> None:
        (contract,) = (c for c in read_user_options().contracts_options if c["type"] == "layers")
        names = [name.strip(" ()") for layer in contract["layers"] for name in layer.split("|")]
        placed = {name.removeprefix("goalsvc.") for name in names}
        rooms = {path.stem for path in (ROOT / "src/goalsvc").glob("*.py")}
        rooms |= {path.parent.name for path in (ROOT / "src/goalsvc").glob("*/__init__.py")}
        assert rooms - placed == {"__init__", "__main__"}


@pytest.fixture(scope="module")
def imported() -> dict[str, object]:
    """What happened when everything was imported by an interpreter whose environment is empty."""
    program = f"WATCHED = {_WATCHED!r}\n{_IMPORT_ALL}"
    command = [sys.executable, "-W", "error", "-c", program]
    ran = subprocess.run(command, env={}, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    told: dict[str, object] = json.loads(ran.stdout)
    return told


class TestNothingIsConstructedAtImport:
    def test_all_of_it_can_be_imported_with_an_empty_environment(self, imported: dict[str, object]) -> None:
        assert imported["modules"] == len(list((ROOT / "src/goalsvc").rglob("*.py"))) - 1
        assert imported["motor"] is True

    def test_no_connection_is_made_and_no_process_started(self, imported: dict[str, object]) -> None:
        assert imported["noted"] == []


def test_the_api_starts_without_what_it_may_never_need() -> None:
    """Each takes a tenth of its start and more: clients of services that it may never call, and what cuts clips."""
    program = "import sys, goalsvc.app; print([name for name in sys.argv[1:] if name in sys.modules])"
    command = [sys.executable, "-c", program, "aiohttp", "httpx", "aioboto3", "botocore", "jinja2"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
