"""`/asyncapi.json` is valid AsyncAPI 3, and says of each notice and signal what is really sent."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId
from jsonschema import Draft7Validator
from pydantic import TypeAdapter

from goalsvc.api.asyncapi import asyncapi_document
from goalsvc.domain import goals
from goalsvc.domain.channels import Channel
from goalsvc.domain.events import EVENT_TYPES
from goalsvc.signals import events, notices
from goalsvc.signals.catalogue import CATALOGUE
from goalsvc.signals.notices import Notice
from tests.stories.scenes import a_funded_show, a_funding, a_karaoke, a_request, an_exclusive, contributes
from tests.world import World

OFFICIAL_SCHEMA = Path(__file__).with_name("asyncapi-3.0.0.schema.json")
NOW = datetime(2026, 3, 1, 20, 0, tzinfo=UTC)

Json = dict[str, Any]


@pytest.fixture(scope="module")
def document() -> Json:
    parsed: Json = json.loads(json.dumps(asyncapi_document()))
    return parsed


def check(document: Json, message: str, payload: Any) -> None:
    """Asserts that the payload is what the document says of that message, and holds nothing that it does not speak of."""
    described = document["components"]["messages"][message]["payload"]
    Draft7Validator({**described, "components": document["components"]}).validate(payload)
    properties = document["components"]["schemas"][described["$ref"].rpartition("/")[2]]["properties"]
    assert set(payload) <= set(properties)


def channel_key(document: Json, name: str) -> str:
    """Which of the documented channels that is."""
    prefix = name.partition("@")[0]
    return next(
        str(key) for key, channel in document["channels"].items() if channel["address"].startswith(f"{prefix}@")
    )


def message_of(document: Json, channel: str, event: str, payload: Mapping[str, Any]) -> str:
    """The message of that name that is documented on that channel, and has these fields."""
    for name in document["channels"][channel_key(document, channel)]["messages"]:
        described = document["components"]["messages"][name]
        required = document["components"]["schemas"][name]["required"]
        if described["name"] == event and set(required) <= set(payload):
            return str(name)
    raise AssertionError(f"{event} on {channel} is not documented")


def test_is_valid_by_the_official_schema(document: Json) -> None:
    validator = Draft7Validator(json.loads(OFFICIAL_SCHEMA.read_text()))
    assert [f"{list(error.absolute_path)}: {error.message}" for error in validator.iter_errors(document)] == []


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def test_every_reference_leads_somewhere(document: Json) -> None:
    for reference in references(document):
        place: Any = document
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]


def test_every_notice_and_signal_is_in_it(document: Json) -> None:
    assert set(document["components"]["messages"]) == {
        *(notice.__name__ for notice in notices.ALL),
        *(entry.event.__name__ for entry in CATALOGUE),
        *(f"event.{name}" for name in EVENT_TYPES),
    }
    told = {message["name"] for message in document["components"]["messages"].values()}
    assert told >= {
        "goal.progress.updated",
        "stream.authorized",
        "wallet.updated",
        "channel_occupied",
        "escrow.refunded",
    }


def concrete(model: type[Notice]) -> Iterator[type[Notice]]:
    if hasattr(model, "event"):
        yield model
    for derived in model.__subclasses__():
        yield from concrete(derived)


def test_no_notice_is_forgotten() -> None:
    assert set(concrete(Notice)) == set(notices.ALL)
    assert {address for notice in notices.ALL for address in notice.told_on} == set(notices.EVERYWHERE)


def test_every_example_is_what_it_is_an_example_of(document: Json) -> None:
    for name, message in document["components"]["messages"].items():
        for example in message.get("examples", []):
            check(document, name, example["payload"])
    assert all("examples" in document["components"]["messages"][notice.__name__] for notice in notices.ALL)


def test_what_is_absent_may_be_left_out_and_new_fields_may_come(document: Json) -> None:
    schema = document["components"]["schemas"]["GoalProgressUpdated"]
    assert "session_id" not in schema["required"]
    assert "amount" in schema["required"]
    assert "null" not in json.dumps(document["components"]["schemas"]).replace('"nullable"', "")
    assert "additionalProperties" not in schema


FACTS: Json = {
    "event_id": "e",
    "at": NOW,
    "goal_id": str(ObjectId()),
    "kind": goals.GoalKind.EXCLUSIVE,
    "conditions": goals.Conditions(session_id=ObjectId(), exclusive_to="bob"),
    "context": goals.ClockTimes(started=NOW),
    "progress": 12,
    "levels": (goals.Level(title="A minute", target=60),),
    "metadata": goals.Metadata(user_id="alice"),
}
SHARE: Json = {
    "event_id": "e",
    "at": NOW,
    "escrow_id": "show_funding:x",
    "to_user_id": "alice",
    "amount": 1,
    "transfer_id": "t",
}
CHANNEL = Channel.parse("private-stream@alice")
assert CHANNEL is not None
PRESENCE: Json = {"channel": CHANNEL, "at": NOW, "event_id": "e"}


@pytest.mark.parametrize(
    "event",
    [
        events.ChannelOccupied(**PRESENCE, user_id="bob"),
        events.ChannelVacated(**PRESENCE, user_id=None),
        events.GoalStarted(**FACTS),
        events.GoalProgressed(**FACTS, amount=12),
        events.GoalCompleted(**FACTS),
        events.GoalEnded(**FACTS, exp=NOW, triggerer="alice"),
        events.EscrowShareCompleted(**SHARE),
        events.EscrowShareRefunded(**SHARE),
        events.EscrowCompleted(event_id="e", at=NOW, escrow_id="x", to_user_id="alice", shares=3),
        events.EscrowRefunded(event_id="e", at=NOW, escrow_id="x", shares=3),
    ],
    ids=lambda event: event.sender,
)
def test_signals_are_what_it_says(document: Json, event: Any) -> None:
    sent = TypeAdapter(type(event)).dump_python(event, mode="json", exclude_none=True)
    check(document, type(event).__name__, sent)
    assert document["components"]["messages"][type(event).__name__]["name"] == event.sender


@pytest.mark.real
class TestWhatIsSent:
    async def test_in_many_stories_is_documented_where_it_is_told(self, world: World, document: Json) -> None:
        show = await world.given(a_funded_show(seconds=60))
        await world.performs(show, seconds=61)
        await world.settle()
        karaoke = await world.given(a_karaoke(seconds=30))
        await world.performs(karaoke, seconds=31)
        await world.settle()
        exclusive = await world.given(an_exclusive(seconds=60))
        await world.performs(exclusive, seconds=61)
        await world.settle()
        funding = await world.given(a_funding(target=300))
        await world.deposits("carol", 10)
        await contributes(world, funding, "carol", 10)
        await world.ends(funding)
        request = await world.given(a_request())
        await world.post(f"/v1/goals/{request.id}/decline")
        here = {"channel": "presence-stream@alice", "user_id": "bob"}
        await world.hears({"name": "member_added", **here})
        await world.settle()
        await world.hears({"name": "member_removed", **here})
        await world.settle()

        told = set()
        for notice in world.notifier.notices:
            for channel in notice.channels:
                message = message_of(document, channel, notice.event, notice.data)
                check(document, message, notice.data)
                told.add(message)
        assert told == {notice.__name__ for notice in notices.ALL}

    async def test_is_open_to_all(self, world: World, document: Json) -> None:
        assert await world.get("/asyncapi.json") == document
