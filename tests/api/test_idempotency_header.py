"""The Idempotency-Key of every POST, taken from the document: one key, of the right form, and there where it is required."""

from typing import Any

import httpx
import pytest

from goalsvc.app import create_app

from .app import Service
from .test_errors import assert_problem

HEADER = "Idempotency-Key"
FIELD = f"header.{HEADER}"

Operation = dict[str, Any]

#: What stands in a path; the header is refused before anything is looked up.
IN_PATHS = {
    "goal_id": "68143584d6945d32e732cc21",
    "session_id": "68143584d6945d32e732cc20",
    "user_id": "u-alice-1",
    "key_id": "68143584d6945d32e732cc22",
    "clip_id": "68143584d6945d32e732cc23",
    "endpoint_id": f"whe_{'a' * 24}",
    "event_id": f"evt_{'0' * 32}",
    "withdrawal_id": f"wd_{'0' * 24}",
    "transfer_id": "deposit-u-bob-2-1",
    "letter_id": "goals/68143584d6945d32e732cc21/escrow_out",
}


def operations() -> dict[str, Operation]:
    """Every POST of the API, by its path."""
    paths = create_app().openapi()["paths"]
    return {path: item["post"] for path, item in paths.items() if "post" in item and path.startswith("/v1/")}


def requires_key(operation: Operation) -> bool:
    return any(each["name"] == HEADER and each["required"] for each in operation.get("parameters", ()))


POSTS = operations()
REQUIRED = sorted(path for path, operation in POSTS.items() if requires_key(operation))


async def post(service: Service, path: str, *keys: str) -> httpx.Response:
    body: Operation = POSTS[path].get("requestBody", {}).get("content", {}).get("application/json", {})
    examples: list[Operation] = list(body.get("examples", {}).values())
    example = body.get("example", examples[0]["value"] if examples else None)
    headers = [("Authorization", "Bearer api-key"), *((HEADER, key) for key in keys)]
    return await service.stranger.post(path.format(**IN_PATHS), json=example, headers=headers)


def fields(answer: httpx.Response) -> set[str]:
    return {error["field"] for error in answer.json()["errors"]}


def test_where_tokens_move_at_once_a_key_is_required() -> None:
    assert set(REQUIRED) == {
        "/v1/goals/{goal_id}/contributions",
        "/v1/goals/{goal_id}/refund",
        "/v1/transfers",
        "/v1/wallets/{user_id}/adjustments",
        "/v1/wallets/{user_id}/deposits",
        "/v1/wallets/{user_id}/withdrawals",
    }


@pytest.mark.parametrize("path", REQUIRED)
async def test_without_one_such_a_call_is_refused(service: Service, path: str) -> None:
    answer = await post(service, path)
    assert_problem(answer, 422, "invalid")
    assert FIELD in fields(answer)
    assert await service.stage.everything() == {}


@pytest.mark.parametrize("path", sorted(POSTS))
async def test_given_twice_it_is_refused(service: Service, path: str) -> None:
    """Also where both are the same: which effect is meant is not to be guessed."""
    for keys in (("one", "two"), ("one", "one")):
        answer = await post(service, path, *keys)
        assert_problem(answer, 422, "invalid")
        assert fields(answer) == {FIELD}
    assert await service.stage.everything() == {}


@pytest.mark.parametrize("path", sorted(POSTS))
@pytest.mark.parametrize("key", ["", "x" * 256], ids=["empty", "too long"])
async def test_of_another_form_it_is_refused(service: Service, path: str, key: str) -> None:
    answer = await post(service, path, key)
    assert_problem(answer, 422, "invalid")
    assert FIELD in fields(answer)
    assert await service.stage.everything() == {}
