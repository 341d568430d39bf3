"""What is written together: a document that cannot be stored takes none of its neighbours with it."""

import asyncio
from typing import Any

import pytest
from prometheus_client import REGISTRY

from goalsvc.domain.events import Event
from goalsvc.domain.origin import NOWHERE
from goalsvc.errors import UnusableDocumentError
from goalsvc.models.audit import AuditEvent
from goalsvc.models.user import User
from tests.world import World

pytestmark = pytest.mark.real

HALF_AN_EMOJI = "\ud83d"
TOO_LARGE = "x" * 17_000_000


def nested(depth: int) -> dict[str, object]:
    """An object within an object, so deep that the server refuses the whole command."""
    found: dict[str, object] = {}
    for _ in range(depth):
        found = {"a": found}
    return found


UNSTORABLE = [
    pytest.param(HALF_AN_EMOJI, id="half an emoji"),
    pytest.param(TOO_LARGE, id="more than 16 MB"),
    pytest.param(nested(250), id="nested too deeply"),
    pytest.param(object(), id="of no type that MongoDB has"),
    pytest.param(2**70, id="a number of more than 64 bits"),
]


@pytest.mark.parametrize("odd", UNSTORABLE)
async def test_audit_events_are_written_beside_one_that_cannot_be(world: World, odd: object) -> None:
    def audited(reason: object) -> dict[str, object]:
        return {"at": world.clock.now(), "key": "k", "operation": "o", "reason": reason, "outcome": "done"}

    asked = [AuditEvent.write(audited(reason)) for reason in ("a", "b", odd, "c", "d")]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(answer) for answer in answers if answer is not None] == [UnusableDocumentError]
    assert isinstance(answers[2], UnusableDocumentError)
    assert [one["reason"] for one in world.all("audit_events")] == ["a", "b", "c", "d"]


@pytest.mark.parametrize("odd", UNSTORABLE)
async def test_events_are_written_beside_one_that_cannot_be(world: World, odd: object) -> None:
    def event(value: object) -> Event:
        now, data = world.clock.now(), {"value": value}
        return Event(type="goal.progressed", identity=f"{id(value)}", created_at=now, data=data, cause=NOWHERE.cause)

    before = world.database.events.count_documents({})
    asked = [world.context.events.write([event(value)]) for value in ("a", "b", odd, "c", "d")]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert [isinstance(answer, UnusableDocumentError) for answer in answers] == [False, False, True, False, False]
    assert world.database.events.count_documents({}) == before + 4


@pytest.mark.parametrize("odd", UNSTORABLE)
async def test_tracking_events_are_written_beside_one_that_cannot_be(world: World, odd: object) -> None:
    def dropped() -> float:
        return REGISTRY.get_sample_value("goalsvc_records_dropped_total", {"kind": "tracking"}) or 0.0

    before = dropped()
    for number, value in enumerate(("a", "b", odd, "c", "a")):
        world.context.recorder.track({"_id": f"t{number}", "name": "n", "at": world.clock.now(), "value": value})
    world.context.recorder.track({"_id": "t0", "name": "n", "at": world.clock.now()})  # is there already
    await world.context.recorder.flush()
    assert [one["_id"] for one in world.all("tracking_events", {"name": "n"})] == ["t0", "t1", "t3", "t4"]
    assert dropped() == before + 1


async def test_documents_are_changed_beside_one_whose_change_cannot_be_encoded(world: World) -> None:
    names = [f"neighbour-{number}" for number in range(5)]
    world.database.users.insert_many([{"_id": name} for name in names])

    def change(number: int, value: object) -> Any:
        return User.shared().change(names[number], {}, {"$set": {"theirs": value}})

    values = ["a", "b", HALF_AN_EMOJI, "c", "d"]
    answers = await asyncio.gather(*(change(n, value) for n, value in enumerate(values)), return_exceptions=True)
    assert [isinstance(answer, UnicodeError) for answer in answers] == [False, False, True, False, False]
    stored = world.all("users", {"_id": {"$in": names}})
    assert [one.get("theirs") for one in stored] == ["a", "b", None, "c", "d"]


async def test_a_refused_call_whose_reason_is_no_text_keeps_no_other_call_from_being_done(world: World) -> None:
    key = (await world.post("/v1/keys", {"name": "reader", "scopes": ["read"]}))["key"]

    async def refused() -> int:
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        body = b'{"amount": 1, "reason": "x \\ud83d y"}'
        return (await world.client.post("/v1/wallets/bob/deposits", content=body, headers=headers)).status_code

    async def done(number: int) -> int:
        return (await world.call("PUT", f"/v1/users/u-{number}", {"username": "x"})).status_code

    statuses = await asyncio.gather(*(call for n in range(20) for call in (done(n), refused())))
    assert (set(statuses[::2]), set(statuses[1::2])) == ({200}, {403})
    audited = world.all("audit_events", {"outcome": "refused: insufficient_scope"})
    assert [one["reason"] for one in audited] == ["x ? y"] * 20
