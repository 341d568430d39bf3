"""A repeat of a POST with the same Idempotency-Key has no further effect and gets the first answer."""

import asyncio
from typing import Any

import httpx
import pytest
from bson import ObjectId

from goalsvc.models.idempotency import IdempotencyRecord, KeyUse, StoredAnswer
from tests.stories.scenes import a_karaoke, a_request, a_stage, an_exclusive
from tests.world import World

pytestmark = pytest.mark.real

KEY = "the-key"


def request_body(session_id: str, price: int = 300) -> dict[str, Any]:
    plan = {"title": "A minute", "target": 60}
    metadata = {"viewer_id": "bob", "private": True, "price": price, "exclusive": plan}
    return {"kind": "TriggerGoal", "session_id": session_id, "metadata": metadata}


def assert_replayed(first: httpx.Response, again: httpx.Response) -> None:
    assert first.is_success, first.text
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert (again.status_code, again.json()) == (first.status_code, first.json())
    assert again.headers["content-type"] == first.headers["content-type"]


class TestARepeat:
    async def test_of_a_request_holds_its_price_once(self, world: World) -> None:
        stage = await world.given(a_stage())
        await world.deposits("bob", 600)
        body = request_body(stage.session_id)
        first = await world.call("POST", "/v1/goals", body, key=KEY)
        assert_replayed(first, await world.call("POST", "/v1/goals", body, key=KEY))
        assert world.balance("bob") == 300
        assert len(world.all("goals", {"_cls": "Goal.TriggerGoal"})) == 1

    async def test_of_a_session_begins_one(self, world: World) -> None:
        first = await world.call("POST", "/v1/sessions", {"user_id": "alice"}, key=KEY)
        assert_replayed(first, await world.call("POST", "/v1/sessions", {"user_id": "alice"}, key=KEY))
        assert len(world.all("sessions", {})) == 1

    @pytest.mark.parametrize("verb", ["agree", "decline", "end"])
    async def test_of_an_end_is_answered_as_the_first_was(self, world: World, verb: str) -> None:
        request = await world.given(a_request())
        first = await world.call("POST", f"/v1/goals/{request.id}/{verb}", key=KEY)
        await world.settle()
        assert_replayed(first, await world.call("POST", f"/v1/goals/{request.id}/{verb}", key=KEY))

    async def test_of_the_end_of_a_session(self, world: World) -> None:
        stage = await world.given(a_stage())
        first = await world.call("POST", f"/v1/sessions/{stage.session_id}/end", key=KEY)
        assert_replayed(first, await world.call("POST", f"/v1/sessions/{stage.session_id}/end", key=KEY))

    async def test_by_many_at_once_has_one_effect_and_one_answer(self, world: World) -> None:
        stage = await world.given(a_stage())
        await world.deposits("bob", 3000)
        body = request_body(stage.session_id)
        answers = await asyncio.gather(*(world.call("POST", "/v1/goals", body, key=KEY) for _ in range(8)))
        assert {(answer.status_code, answer.text) for answer in answers} == {(201, answers[0].text)}
        assert world.balance("bob") == 2700

    async def test_says_the_same_however_its_json_is_written(self, world: World) -> None:
        answers = []
        for body in (b'{"user_id": "alice", "rtc": {"room_id": "r"}}', b'{"rtc":{"room_id":"r"},\n"user_id":"alice"}'):
            headers = {"Authorization": "Bearer world-api-key", "Idempotency-Key": KEY}
            headers["Content-Type"] = "application/json"
            answers.append(await world._client.post("/v1/sessions", content=body, headers=headers))
        assert_replayed(*answers)


class TestAnotherBody:
    async def test_is_refused_and_changes_nothing(self, world: World) -> None:
        stage = await world.given(a_stage())
        await world.deposits("bob", 600)
        await world.call("POST", "/v1/goals", request_body(stage.session_id), key=KEY)
        other = await world.call("POST", "/v1/goals", request_body(stage.session_id, price=200), key=KEY)
        assert (other.status_code, other.json()["code"]) == (409, "idempotency_conflict")
        assert world.balance("bob") == 300

    async def test_under_another_path_is_another_request(self, world: World) -> None:
        first, second = [await world.given(a_karaoke()) for _ in range(2)]
        for goal in (first, second):
            answer = await world.call("POST", f"/v1/goals/{goal.id}/end", key=KEY)
            assert answer.status_code == 200
            assert "Idempotent-Replayed" not in answer.headers

    async def test_is_refused_where_another_use_of_the_key_was_refused_meanwhile(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        finish = IdempotencyRecord.finish

        async def beside_a_refusal(use: KeyUse, answer: StoredAnswer) -> StoredAnswer:
            await IdempotencyRecord.release(use)  # as another use of the same body does that is refused
            return await finish(use, answer)

        monkeypatch.setattr(IdempotencyRecord, "finish", beside_a_refusal)
        first = await world.call("POST", "/v1/sessions", {"user_id": "alice"}, key=KEY)
        other = await world.call("POST", "/v1/sessions", {"user_id": "carol"}, key=KEY)
        assert (other.status_code, other.json()["code"]) == (409, "idempotency_conflict")
        assert_replayed(first, await world.call("POST", "/v1/sessions", {"user_id": "alice"}, key=KEY))

    async def test_is_accepted_after_a_refusal(self, world: World) -> None:
        stage = await world.given(a_stage())
        body = request_body(stage.session_id)
        assert (await world.call("POST", "/v1/goals", body, key=KEY)).status_code == 402
        assert (await world.call("POST", "/v1/goals", body | {"levels": [{"target": 0}]}, key=KEY)).status_code == 422
        answer = await world.call("POST", "/v1/goals", request_body(stage.session_id, price=0), key=KEY)
        assert answer.status_code == 201


class TestACrash:
    """Between the effect and the answer: the effect is found, not made again."""

    @pytest.fixture
    def loses_answers(self, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
        async def lose(*_: Any) -> Any:
            raise TimeoutError("the process died here")

        monkeypatch.setattr(IdempotencyRecord, "finish", lose)
        return monkeypatch

    async def crashed(self, world: World, path: str, body: Any, loses: pytest.MonkeyPatch) -> httpx.Response:
        """The answer to a repeat, after the first call died before its answer was stored."""
        assert (await world.call("POST", path, body, key=KEY)).status_code == 503
        loses.undo()
        return await world.call("POST", path, body, key=KEY)

    async def test_of_a_request(self, world: World, loses_answers: pytest.MonkeyPatch) -> None:
        await world.deposits("bob", 600)
        session_id = ObjectId()
        world.database.sessions.insert_one({"_id": session_id, "user_id": "alice", "statuses": {}})
        body = request_body(str(session_id))
        answer = await self.crashed(world, "/v1/goals", body, loses_answers)
        assert answer.status_code == 201, answer.text
        assert [str(goal["_id"]) for goal in world.all("goals", {})] == [answer.json()["id"]]
        assert world.balance("bob") == 300

    async def test_of_a_session(self, world: World, loses_answers: pytest.MonkeyPatch) -> None:
        answer = await self.crashed(world, "/v1/sessions", {"user_id": "alice"}, loses_answers)
        assert answer.status_code == 201
        assert [str(one["_id"]) for one in world.all("sessions", {})] == [answer.json()["id"]]

    @pytest.mark.parametrize("verb", ["agree", "decline", "end"])
    async def test_of_an_end(self, world: World, verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
        request = await world.given(a_request())
        original = IdempotencyRecord.finish
        lost: list[Any] = []

        async def lose(use: Any, answer: Any) -> Any:
            if lost:
                return await original(use, answer)
            lost.append(answer)
            raise TimeoutError("the process died here")

        monkeypatch.setattr(IdempotencyRecord, "finish", lose)
        path = f"/v1/goals/{request.id}/{verb}"
        assert (await world.call("POST", path, key=KEY)).status_code == 503
        answer = await world.call("POST", path, key=KEY)
        assert answer.status_code == 200, answer.text
        assert (await world.call("POST", path, key="another-key")).status_code == 409


class TestTheHeader:
    @pytest.mark.parametrize("key", ["", "x" * 256], ids=["empty", "too long"])
    async def test_is_checked(self, world: World, key: str) -> None:
        headers = {"Authorization": "Bearer world-api-key", "Idempotency-Key": key}
        answer = await world._client.post("/v1/sessions", json={"user_id": "alice"}, headers=headers)
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"] == "header.Idempotency-Key"
        assert world.all("sessions", {}) == []

    async def test_is_refused_by_what_does_not_use_it(self, world: World) -> None:
        headers = {"Authorization": "Bearer world-api-key", "Idempotency-Key": KEY}
        for method, path in (("GET", "/v1/goals"), ("PUT", "/v1/users/alice")):
            answer = await world._client.request(method, path, headers=headers)
            assert answer.status_code == 422
            assert answer.json()["errors"][0]["field"] == "header.Idempotency-Key"

    async def test_neither_key_nor_answer_can_be_read_in_the_database(self, world: World) -> None:
        await world.call("POST", "/v1/sessions", {"user_id": "alice"}, key=KEY)
        (record,) = world.all("idempotency_keys", {})
        assert KEY not in str(record)
        assert "alice" not in str(record)


class TestExclusives:
    async def test_a_performer_gives_one_at_a_time(self, world: World) -> None:
        await world.given(an_exclusive())
        second = await world.post("/v1/sessions", {"user_id": "alice"})
        body = {"kind": "ExclusiveGoal", "session_id": second["id"], "conditions": {"exclusive_to": "carol"}}
        answer = await world.call("POST", "/v1/goals", body)
        assert (answer.status_code, answer.json()["code"]) == (409, "performer_in_exclusive")

    async def test_nor_two_requests_of_two_sessions_agreed_to_at_once(self, world: World) -> None:
        goals = []
        for number in range(4):
            session = await world.post("/v1/sessions", {"user_id": "alice"})
            body = request_body(session["id"], price=0)
            body["metadata"]["viewer_id"] = f"viewer-{number}"
            goals.append((await world.post("/v1/goals", body))["id"])
        answers = await asyncio.gather(*(world.call("POST", f"/v1/goals/{goal}/agree") for goal in goals))
        assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409]
        refused = {answer.json()["code"] for answer in answers if answer.status_code == 409}
        assert refused == {"performer_in_exclusive"}

    async def test_a_viewer_is_not_agreed_to_twice_at_once(self, world: World) -> None:
        goals = []
        for streamer in ("alice", "dave", "erin"):
            session = await world.post("/v1/sessions", {"user_id": streamer})
            goals.append((await world.post("/v1/goals", request_body(session["id"], price=0)))["id"])
        answers = await asyncio.gather(*(world.call("POST", f"/v1/goals/{goal}/agree") for goal in goals))
        assert sorted(answer.status_code for answer in answers) == [200, 409, 409]

    async def test_one_that_another_service_has_begun_counts(self, world: World) -> None:
        first, second = [await world.post("/v1/sessions", {"user_id": "alice"}) for _ in range(2)]
        conditions = {"session_id": first["id"], "exclusive_to": "bob"}
        foreign = {"_cls": "Goal.ExclusiveGoal", "active": True, "conditions": conditions}
        world.database.goals.insert_one({**foreign, "metadata": {"user_id": "alice"}})
        body = {"kind": "ExclusiveGoal", "session_id": second["id"], "conditions": {"exclusive_to": "carol"}}
        answer = await world.call("POST", "/v1/goals", body)
        assert (answer.status_code, answer.json()["code"]) == (409, "performer_in_exclusive")
