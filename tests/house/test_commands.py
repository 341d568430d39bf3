"""Every command's help ends with examples that the command line itself can parse; what prints data has `--json`."""

import shlex
from collections.abc import Iterator
from typing import cast

import pytest
import typer.main
from typer.core import TyperCommand, TyperGroup

from goalsvc.cli import app
from goalsvc.commands.words import counted

Command = TyperCommand | TyperGroup

ROOT = typer.main.get_group(app)
#: What the parser raises for words that it cannot take.
UsageError = typer.BadParameter.__mro__[1]

#: What prints no data, and why it has no `--json`.
WITHOUT_JSON = {
    "goalsvc serve": "runs until it is stopped",
    "goalsvc worker": "runs until it is stopped",
    "goalsvc demo": "tells a story; what it is about is in its exit status",
    "goalsvc dev reset": "asks, and removes",
}


def commands(command: Command = ROOT, name: str = "goalsvc") -> Iterator[tuple[str, Command]]:
    """Every command with the words that call it, groups among them."""
    yield name, command
    if isinstance(command, TyperGroup):
        for word, inner in command.commands.items():
            yield from commands(cast(Command, inner), f"{name} {word}")


ALL = dict(commands())


def examples(command: Command) -> list[str]:
    return [line for line in (command.epilog or "").splitlines() if line.startswith("goalsvc ")]


def parsed(line: str) -> str:
    """The command that the line calls, once its own parser has taken all of the words. Raises UsageError."""
    command: Command = ROOT
    name, words = "goalsvc", shlex.split(line)[1:]
    context = command.make_context(name, list(words))
    while isinstance(command, TyperGroup) and (rest := [*context._protected_args, *context.args]):
        word, found, rest = command.resolve_command(context, rest)
        assert found is not None
        command, name = cast(Command, found), f"{name} {word}"
        context = command.make_context(word, list(rest), parent=context)
    return name


@pytest.mark.parametrize("name", ALL)
class TestEveryCommand:
    def test_says_what_it_does(self, name: str) -> None:
        assert (ALL[name].help or "").rstrip().endswith(".")

    def test_has_examples_that_can_be_typed(self, name: str) -> None:
        lines = examples(ALL[name])
        assert lines, f"{name}: give it an epilog of goalsvc.cli.options.examples"
        for line in lines:
            if "--help" not in line:
                assert parsed(line).startswith(name)

    def test_has_json_if_it_prints_data(self, name: str) -> None:
        command = ALL[name]
        options = {option for parameter in command.params for option in parameter.opts}
        only_a_group = isinstance(command, TyperGroup) and not command.invoke_without_command
        if name in WITHOUT_JSON or only_a_group or name in ("goalsvc", "goalsvc dead-letters"):
            assert "--json" not in options
        else:
            assert "--json" in options


@pytest.mark.parametrize(
    "line",
    ["goalsvc keys create", "goalsvc send member_added --gaol 1", "goalsvc dev --port x", "goalsvc nonsense"],
)
def test_and_this_is_how_a_wrong_example_would_be_noticed(line: str) -> None:
    with pytest.raises(UsageError):
        parsed(line)


def test_no_exception_outlives_its_command() -> None:
    assert set(WITHOUT_JSON) <= set(ALL)


@pytest.mark.parametrize(
    ("number", "thing", "told"),
    [
        (0, "event", "0 events"),
        (1, "event", "1 event"),
        (2, "event", "2 events"),
        (1, "try", "1 try"),
        (3, "try", "3 tries"),
        (2, "index", "2 indexes"),
    ],
)
def test_words_are_in_the_number_of_their_figure(number: int, thing: str, told: str) -> None:
    assert counted(number, thing) == told
