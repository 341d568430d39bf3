"""`goalsvc api`: any call, and one sentence for what is wrong."""

import json

import pytest

from .command_line import Cli, assert_one_sentence


def test_a_call_and_its_answer(cli: Cli) -> None:
    made = json.loads(cli("api", "POST", "/v1/sessions", '{"user_id": "api-alice"}').out)
    read = json.loads(cli("api", "get", f"/v1/sessions/{made['id']}").out)
    assert read["user_id"] == "api-alice"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("FETCH", "/v1/goals"), "is not a method"),
        (("GET", "v1/goals"), "is not a path"),
        (("POST", "/v1/sessions", "{"), "is not JSON"),
        (("GET", "/v1/goals/" + "0" * 24), "there is no goal"),
    ],
)
def test_what_is_wrong(cli: Cli, words: tuple[str, ...], told: str) -> None:
    assert_one_sentence(cli("api", *words), told)
