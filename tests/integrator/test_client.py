"""The typed client of `clients/python`, against a real goalsvc, and against one that fails."""

import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from standardwebhooks.webhooks import Webhook

from goalsvc_client import (
    ApiError,
    GoalsvcClient,
    RetryPolicy,
    UnreachableError,
    WebhookVerificationError,
    verify_webhook,
)
from goalsvc_client.generated.models import (
    ContributionBody,
    DepositBody,
    NewFundingGoal,
    SessionBody,
    TipBody,
    WithdrawalBody,
)
from tests.cli.command_line import clean_environment

from .conftest import CLIENT, generator

KEY = "goalsvc-api-key"
AT_ONCE = RetryPolicy(first_seconds=0.0)
SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"


@pytest.fixture
def client(stack: dict[str, Any]) -> Iterator[GoalsvcClient]:
    with GoalsvcClient(stack["api_url"], KEY) as client:
        yield client


class Failing:
    """A goalsvc that answers with these, one after another: statuses, or errors that are raised."""

    def __init__(self, *answers: int | Exception | httpx.Response) -> None:
        self._answers = list(answers)
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, httpx.Response):
            return answer
        if answer >= 400:
            return httpx.Response(answer, json={"code": "unavailable", "detail": "not now", "request_id": "r1"})
        return httpx.Response(answer, json={"id": "bob", "balance": 7})

    def client(self, retry: RetryPolicy = AT_ONCE) -> GoalsvcClient:
        return GoalsvcClient("http://goalsvc", KEY, retry=retry, transport=httpx.MockTransport(self))

    @property
    def keys(self) -> list[str | None]:
        return [request.headers.get("Idempotency-Key") for request in self.asked]


class LosesAnswers(httpx.BaseTransport):
    """Passes every request on; the first answer to each POST is lost on its way back."""

    def __init__(self) -> None:
        self._inner = httpx.HTTPTransport()
        self._lost: set[str] = set()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = self._inner.handle_request(request)
        key = request.headers.get("Idempotency-Key", "")
        if request.method == "POST" and key not in self._lost:
            self._lost.add(key)
            answer.read()
            raise httpx.ReadError("the line broke", request=request)
        return answer

    def close(self) -> None:
        self._inner.close()


@pytest.mark.real
class TestAgainstGoalsvc:
    def test_a_funded_goal(self, client: GoalsvcClient) -> None:
        session = client.sessions.begin_session(body=SessionBody(user_id="c-alice"))
        plan = {
            "kind": "FundingGoal",
            "session_id": session.id,
            "levels": [{"title": "Fund it", "target": 100}],
            "metadata": {"show": {"title": "Songs", "target": 360}},
        }
        goal = client.goals.create_goal(body=NewFundingGoal.from_dict(plan))
        client.wallet.deposit("c-bob", body=DepositBody(amount=30))
        made = client.goals.create_contribution(goal.id, body=ContributionBody(user_id="c-bob", amount=20))
        assert (made.progress, made.amount) == (20, 20)
        assert client.wallet.read_wallet("c-bob").balance == 10
        assert client.goals.read_goal(goal.id).progress == 20
        events = list(client.follow_events(types=["contribution.created"], forever=False))
        (mine,) = [event for event in events if event.goal_id == goal.id]
        assert mine.data["transfer"]["credit"] == f"escrow:show_funding:{goal.id}"
        assert list(client.follow_events(str(events[-1].sequence), types=["contribution.created"], forever=False)) == []

    def test_an_error_is_an_exception_with_code_detail_and_request_id(self, client: GoalsvcClient) -> None:
        with pytest.raises(ApiError) as caught:
            client.money.create_withdrawal("c-poor", body=WithdrawalBody(amount=5))
        error = caught.value
        assert (error.status, error.code) == (402, "insufficient_funds")
        assert "user:c-poor holds 0 tokens" in error.detail
        assert error.request_id

    def test_a_list_is_read_page_by_page(self, client: GoalsvcClient) -> None:
        client.wallet.deposit("c-many", body=DepositBody(amount=10))
        for _ in range(5):
            client.money.create_transfer(body=TipBody(from_user_id="c-many", to_user_id="c-tipped", amount=2))
        found = [each.id for each in client.all_of(client.wallet.list_transfers, user_id="c-tipped", limit=2)]
        assert len(set(found)) == len(found) == 5

    def test_an_answer_that_is_lost_has_one_effect(self, stack: dict[str, Any]) -> None:
        with GoalsvcClient(stack["api_url"], KEY, retry=AT_ONCE, transport=LosesAnswers()) as client:
            client.wallet.deposit("c-lost", body=DepositBody(amount=10))
            client.wallet.deposit("c-lost", body=DepositBody(amount=10))
            assert client.wallet.read_wallet("c-lost").balance == 20


@pytest.mark.real
def test_the_example_plays_a_show(stack: dict[str, Any]) -> None:
    environment = {**clean_environment(), "GOALSVC_API_URL": stack["api_url"], "PYTHONPATH": str(CLIENT / "src")}
    program = CLIENT.parents[1] / "examples" / "integrate.py"
    ran = subprocess.run([sys.executable, str(program)], env=environment, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    told = ran.stdout.splitlines()
    assert told[1].endswith("gave 50; 150 of 150")
    assert told[2:] == [
        "one more token is refused: goal_inactive",
        told[3],
        "no one performed: 200 of 200 tokens are back",
    ]


class TestRetries:
    @pytest.mark.parametrize("fault", [429, 502, 503, 504, httpx.ConnectError("refused"), httpx.ReadTimeout("late")])
    def test_a_read_is_repeated(self, fault: int | Exception) -> None:
        goalsvc = Failing(fault, fault, 200)
        assert goalsvc.client().wallet.read_wallet("bob").balance == 7
        assert len(goalsvc.asked) == 3

    @pytest.mark.parametrize("given", ["mine", None])
    def test_a_post_is_repeated_under_one_key(self, given: str | None) -> None:
        goalsvc = Failing(httpx.ReadError("broke"), 503, 503)
        client, words = (
            goalsvc.client(RetryPolicy(tries=3, first_seconds=0.0)),
            {"idempotency_key": given} if given else {},
        )
        with pytest.raises(ApiError, match="503 unavailable: not now"):
            client.wallet.deposit("bob", body=DepositBody(amount=1), **words)
        (key,) = set(goalsvc.keys)
        assert key == given or (given is None and len(str(key)) == 36)
        assert len(goalsvc.asked) == 3

    def test_each_call_has_a_key_of_its_own(self) -> None:
        goalsvc = Failing(400, 400)
        for _ in range(2):
            with pytest.raises(ApiError):
                goalsvc.client().wallet.deposit("bob", body=DepositBody(amount=1))
        assert len(set(goalsvc.keys)) == 2

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 422, 500])
    def test_what_is_refused_is_not_repeated(self, status: int) -> None:
        goalsvc = Failing(status)
        with pytest.raises(ApiError) as caught:
            goalsvc.client().wallet.read_wallet("bob")
        assert (caught.value.status, caught.value.request_id) == (status, "r1")

    @pytest.mark.parametrize("fault", [503, httpx.ConnectError("refused")])
    def test_nor_is_what_has_no_key(self, fault: int | Exception) -> None:
        goalsvc = Failing(fault)
        with pytest.raises((ApiError, UnreachableError)):
            goalsvc.client().webhooks_out.delete_webhook_endpoint("whe_" + "0" * 24)
        assert len(goalsvc.asked) == 1

    def test_nothing_is_begun_after_the_deadline(self) -> None:
        goalsvc = Failing(httpx.ConnectError("refused"))
        with pytest.raises(UnreachableError, match="GET /v1/wallets/bob: refused"):
            goalsvc.client(RetryPolicy(first_seconds=0.0, deadline_seconds=-1.0)).wallet.read_wallet("bob")

    def test_what_is_not_of_goalsvc_is_an_error_all_the_same(self) -> None:
        goalsvc = Failing(httpx.Response(404, text="<html>nginx</html>", headers={"x-request-id": "edge-1"}))
        with pytest.raises(ApiError) as caught:
            goalsvc.client().wallet.read_wallet("bob")
        assert (caught.value.code, caught.value.detail, caught.value.request_id) == ("unknown", "Not Found", "edge-1")

    def test_waits_grow_up_to_the_longest_and_keep_retry_after(self) -> None:
        policy = RetryPolicy(first_seconds=1.0, longest_seconds=4.0)
        assert all(policy.wait_before(tried, None) <= min(2 ** (tried - 1), 4) for tried in range(1, 9))
        assert policy.wait_before(1, httpx.Response(429, headers={"retry-after": "3"})) >= 3
        assert policy.wait_before(1, httpx.Response(429, headers={"retry-after": "99"})) == 4


class TestWebhooks:
    BODY = json.dumps(
        {
            "id": "evt_1",
            "type": "deposit.created",
            "created_at": "2026-01-01T00:00:00Z",
            "sequence": 1,
            "user_ids": ["bob"],
            "data": {"transfer": {"id": "t"}},
            "cause": {},
        }
    )

    def headers(self, body: str) -> dict[str, str]:
        now = datetime.now(UTC)
        signed = Webhook(SECRET).sign("evt_1", now, body)
        return {"Webhook-Id": "evt_1", "Webhook-Timestamp": str(int(now.timestamp())), "Webhook-Signature": signed}

    def test_one_of_goalsvc_is_an_event(self) -> None:
        event = verify_webhook(self.headers(self.BODY), self.BODY.encode(), SECRET)
        assert (event.type_, event.data["transfer"]) == ("deposit.created", {"id": "t"})

    def test_one_that_was_changed_is_refused(self) -> None:
        with pytest.raises(WebhookVerificationError):
            verify_webhook(self.headers(self.BODY), self.BODY.replace("bob", "eve").encode(), SECRET)


class TestThePackage:
    def test_is_made_of_the_document_without_what_others_call(self) -> None:
        made = generator().document_for_client(
            {
                "paths": {
                    "/notify/pusher": {"post": {"responses": {}}},
                    "/v1/x": {"post": {"responses": {"201": {}, "409": {}}, "parameters": [{"name": "If-None-Match"}]}},
                }
            }
        )
        assert made["paths"] == {"/v1/x": {"post": {"responses": {"201": {}}, "parameters": []}}}

    def test_is_a_typed_wheel_that_holds_all_of_it(self, tmp_path: Path) -> None:
        build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
        subprocess.run(build, cwd=CLIENT, check=True, capture_output=True)
        (wheel,) = tmp_path.glob("goalsvc_client-*.whl")
        names = set(zipfile.ZipFile(wheel).namelist())
        assert {
            "goalsvc_client/py.typed",
            "goalsvc_client/client.py",
            "goalsvc_client/generated/api/money/__init__.py",
        } <= names
