"""Every receiver is listed, heard, documented and tested, and so is every reason for which it may return."""

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import goalsvc.receivers
import goalsvc.tasks
from goalsvc.domain.outcome import Reason
from goalsvc.receivers import ALL
from goalsvc.signals.catalogue import CATALOGUE
from goalsvc.signals.receiver import Receiver
from goalsvc.tasks import ALL as TASKS
from goalsvc.tasks.task import Task
from tests.receivers.table import BY_CHANNEL, BY_RUN

HERE = Path(__file__).parent
RECEIVER_TESTS = HERE.parent / "receivers"
SOURCES = HERE.parents[1] / "src" / "goalsvc"

BY_NAME = {receiver.name: receiver for receiver in ALL}


def values_of(package: object, kind: type) -> Iterator[tuple[str, object]]:
    """Every value of that type that the modules of a package define, with its name."""
    for found in pkgutil.iter_modules(package.__path__):  # type: ignore[attr-defined]
        module = importlib.import_module(f"{package.__name__}.{found.name}")  # type: ignore[attr-defined]
        for name, value in vars(module).items():
            if isinstance(value, kind) and value.function.__module__ == module.__name__:  # type: ignore[attr-defined]
                yield name, value


@cache
def classes() -> list[ast.ClassDef]:
    """Every class of tests of receivers."""
    modules = [ast.parse(path.read_text("utf-8")) for path in sorted(RECEIVER_TESTS.glob("test_*.py"))]
    return [node for module in modules for node in module.body if isinstance(node, ast.ClassDef)]


def class_for(receiver: str) -> ast.ClassDef:
    """The class of tests of that receiver."""
    name = "Test" + "".join(word.capitalize() for word in receiver.split("_"))
    found = [node for node in classes() if node.name == name]
    assert len(found) == 1, f"{receiver} needs one class {name} in tests/receivers"
    return found[0]


def reasons_in(node: ast.AST) -> set[Reason]:
    """Every `Reason.X` that is written in there."""
    return {
        Reason[attribute.attr]
        for attribute in ast.walk(node)
        if isinstance(attribute, ast.Attribute)
        and isinstance(attribute.value, ast.Name)
        and attribute.value.id == "Reason"
    }


class TestLists:
    def test_every_receiver_is_listed_once(self) -> None:
        defined = {name for name, _ in values_of(goalsvc.receivers, Receiver)}
        assert sorted(receiver.name for receiver in ALL) == sorted(defined)

    def test_every_task_is_listed_once(self) -> None:
        defined = {name for name, _ in values_of(goalsvc.tasks, Task)} | {"sweep_promises"}
        assert sorted(task.name for task in TASKS) == sorted(defined)

    def test_a_receiver_is_named_as_its_value(self) -> None:
        assert all(name == value.name for name, value in values_of(goalsvc.receivers, Receiver))  # type: ignore[attr-defined]


class TestEveryReceiver:
    def test_is_heard(self) -> None:
        sent = {entry.event for entry in CATALOGUE}
        for receiver in ALL:
            assert receiver.listens, f"{receiver.name} listens to nothing"
            assert {listening.event for listening in receiver.listens} <= sent, (
                f"{receiver.name} hears what is not sent"
            )

    def test_every_signal_has_somebody_who_listens(self) -> None:
        heard = {listening.event for receiver in ALL for listening in receiver.listens}
        assert heard == {entry.event for entry in CATALOGUE}

    @pytest.mark.parametrize("name", BY_NAME)
    def test_is_documented(self, name: str) -> None:
        doc = BY_NAME[name].doc
        assert doc.endswith("."), f'{name}: the first line of its docstring finishes "This …"'
        assert doc[0].isupper()
        assert doc.split()[0].endswith("s"), f'{name}: {doc!r} does not finish "This …"'

    @pytest.mark.parametrize("name", BY_NAME)
    def test_declares_what_the_bus_may_answer_for_it(self, name: str) -> None:
        receiver = BY_NAME[name]
        declinable = frozenset[Reason]().union(*(listening.declinable for listening in receiver.listens))
        assert declinable <= receiver.returns

    @pytest.mark.parametrize("name", BY_NAME)
    def test_has_a_test_for_each_reason_and_for_a_second_delivery(self, name: str) -> None:
        tests = class_for(name)
        in_table = {
            Reason(answers[name])
            for table in (*BY_RUN.values(), BY_CHANNEL)
            for columns in table.values()
            for answers in columns.values()
            if answers.get(name, "done") != "done"
        }
        untested = BY_NAME[name].returns - reasons_in(tests) - in_table
        assert untested == frozenset(), f"{name} may return these, but no test shows when"
        names = [node.name for node in tests.body if isinstance(node, ast.AsyncFunctionDef)]
        assert "test_a_second_delivery_changes_nothing" in names

    @pytest.mark.parametrize("name", BY_NAME)
    def test_returns_only_what_it_declares(self, name: str) -> None:
        """As far as it can be seen in the function itself; the bus sees the rest."""
        written = ast.parse(inspect.getsource(BY_NAME[name].function))
        function = written.body[0]
        assert isinstance(function, ast.AsyncFunctionDef)
        assert reasons_in(ast.Module(function.body, [])) <= BY_NAME[name].returns

    @pytest.mark.parametrize("name", BY_NAME)
    def test_is_in_the_table(self, name: str) -> None:
        """Integrators grep for these names: the table, which is written from the specification, would miss one that changed."""
        assert any(
            name in answers for columns in BY_RUN.values() for kinds in columns.values() for answers in kinds.values()
        )


class TestReasons:
    def test_every_reason_is_used(self) -> None:
        used = set[Reason]()
        for path in SOURCES.rglob("*.py"):
            if path.name != "outcome.py":
                used |= reasons_in(ast.parse(path.read_text("utf-8")))
        assert used == set(Reason)
