"""Each option and argument of each command with values that are not what it takes: one sentence, and no traceback."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from goalsvc.cli import app

from .command_line import assert_one_sentence, run_cli

NOTHING_THERE = "http://127.0.0.1:1"
GOAL = "0" * 24
#: A value of each required parameter that the command takes.
GOOD = {
    "name": "member_added",
    "recording": "show.jsonl",
    "file": "show.jsonl",
    "goal_id": GOAL,
    "identity": GOAL,
    "forward_to": "http://127.0.0.1:3000/hook",
    "method": "GET",
    "path": "/v1/goals",
    "scope": "read",
    "key_id": "key_1",
    "duration": "1h",
}
RECORDING = json.dumps(
    {
        "body": json.dumps(
            {"time_ms": 1767225600000, "events": [{"name": "channel_occupied", "channel": f"presence-enc-goal@{GOAL}"}]}
        )
    }
)
MORE = {"send": ["--goal", GOAL], "redrive": ["letter"]}
PORTS = ("-1", "65536", "99999", "1" * 30, "x")
NUMBERS = ("-1", "1" * 30, "x", "")
FRACTIONS = ("-1", "nan", "inf", "1e300", "x")
TEXTS = ("a\udcff", "é", "a\nb", "\ud83d", "x" * 9000, "[", "99999999999999999999d", "9" * 400)


Parameter = TyperArgument | TyperOption


def commands(group: TyperGroup, *names: str) -> Iterator[tuple[tuple[str, ...], TyperCommand | TyperGroup]]:
    for name, command in group.commands.items():
        assert isinstance(command, TyperCommand | TyperGroup)
        yield (*names, name), command
        if isinstance(command, TyperGroup):
            yield from commands(command, *names, name)


def parameters_of(command: TyperCommand | TyperGroup) -> Iterator[Parameter]:
    """Those that take a value."""
    for parameter in command.params:
        assert isinstance(parameter, TyperArgument | TyperOption)
        if isinstance(parameter, TyperArgument) or not parameter.is_flag:
            yield parameter


def odd_values(parameter: Parameter, directory: Path) -> Sequence[str]:
    if parameter.name == "port":
        return PORTS
    file = directory / "file"
    paths = (str(file), str(file / "below"), "/proc/x", "/proc/x/y", "a\udcff")
    return {
        "integer": NUMBERS,
        "integer range": NUMBERS,
        "float": FRACTIONS,
        "float range": FRACTIONS,
        "path": paths,
    }.get(parameter.type.name, TEXTS)


def words_of(command: TyperCommand | TyperGroup, odd: Parameter, value: str) -> list[str]:
    """The command's required parameters, and that one with that value."""
    options, arguments = [], []
    for parameter in parameters_of(command):
        given = value if parameter is odd else GOOD[str(parameter.name)] if parameter.required else None
        if given is None:
            continue
        if isinstance(parameter, TyperOption):
            options += [f"{max(parameter.opts, key=len)}={given}"]
        else:
            arguments += [given]
    return [*options, "--", *arguments] if arguments else options


GROUP = typer.main.get_group(app)
CASES = [
    pytest.param(path, command, parameter, id=f"{' '.join(path)} {parameter.name}")
    for path, command in commands(GROUP)
    for parameter in parameters_of(command)
]


@pytest.mark.parametrize(("path", "command", "parameter"), CASES)
def test_an_odd_value(
    path: tuple[str, ...],
    command: TyperCommand | TyperGroup,
    parameter: Parameter,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    tmp_path.joinpath("file").touch()
    tmp_path.joinpath("show.jsonl").write_text(RECORDING)
    for value in odd_values(parameter, tmp_path):
        words = [*path, *words_of(command, parameter, value)]
        if parameter.name not in ("goal", "channel", "letter_id"):
            words[len(path) : len(path)] = MORE.get(path[-1], [])
        api = {} if parameter.name == "api_url" else {"API_URL": NOTHING_THERE}
        ended = run_cli(*words, **api)  # a traceback would be this test's
        assert ended.status in (0, 1, 2), words
        assert ended.status != 1 or (ended.err.startswith("goalsvc") and ended.err.count("\n") == 1), (words, ended)


@pytest.mark.parametrize(
    ("variable", "value", "rule"),
    [
        ("API_KEY", "é", "must be printable ASCII"),
        ("API_KEY", "hunter\n", "must be printable ASCII"),
        ("PUSHER_KEY", "hunter\udcff", "must be printable ASCII"),
        ("PUSHER_SECRET", "hunter\udcff", "must be text in UTF-8"),
        ("API_URL", "http://127.0.0.1:99999", "is not an http(s) address"),
        ("API_URL", "http://xn--", "is not an http(s) address"),
        ("API_URL", "127.0.0.1:8000", "is not an http(s) address"),
    ],
)
def test_an_odd_variable(variable: str, value: str, rule: str) -> None:
    ended = run_cli("keys", "list", **{"API_URL": NOTHING_THERE, variable: value})
    assert_one_sentence(ended, f"GOALSVC_{variable}: ", rule)
    assert "hunter" not in ended.err


def test_the_option_and_the_rule_are_named(tmp_path: Path) -> None:
    tmp_path.joinpath("show.jsonl").write_text(RECORDING)
    out = run_cli("show", str(tmp_path / "show.jsonl"), "--out", str(tmp_path / "show.jsonl"))
    assert (out.status, out.err.startswith("goalsvc: --out: ")) == (1, True)
    days = run_cli("keys", "create", "x", "--scope", "read", "--expires-days", "1e300", API_URL=NOTHING_THERE)
    assert_one_sentence(days, "--expires-days: must be a number of days")
    assert_one_sentence(run_cli("api", "POST", "/v1/sessions", '{"user_id":"a\udcff"}'), "must be text in UTF-8")
    port = run_cli("dev", "--port", "99999")
    assert port.status == 2
    assert "--port" in port.err
    assert "65535" in port.err
