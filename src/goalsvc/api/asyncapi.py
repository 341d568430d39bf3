"""The AsyncAPI 3 document: what clients are told through Pusher, and the signals inside, made from the models that are sent."""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from goalsvc import __version__
from goalsvc.api.event_answers import example_of_event
from goalsvc.api.events import EventView
from goalsvc.domain.events import EVENT_TYPES
from goalsvc.signals import notices
from goalsvc.signals.catalogue import CATALOGUE, SignalEntry
from goalsvc.signals.events import LEADERBOARDS, PUSHER, WALLET
from goalsvc.signals.notices import Address, Notice

router = APIRouter()

Json = dict[str, Any]

DESCRIPTION = """
What goalsvc tells: **notices** to clients, as Pusher events, **events** to the platform's backend, and **signals** to
receivers inside the process.

A client subscribes with pusher-js, which asks `POST /pusher/auth` for each private or presence channel, and binds to the
names below. Notices are at least once, each with an `event_id` that is the same when it is repeated, and promise no order:
compare `at`, or `progress`, which never falls. What is absent is left out, never null.

Events are posted to webhook endpoints and can be read as a feed, at least once, in the order of `sequence`.

Signals are blinker signals with string senders. They are listed for those who add a receiver; nothing of them leaves the
process.
"""

_SIGNALS: Mapping[str, tuple[str, str]] = {
    PUSHER: ("Signal: presence", "Joins and leaves, as Pusher's webhooks tell of them."),
    LEADERBOARDS: ("Signal: goals", "What happens to goals."),
    WALLET: ("Signal: the wallet", "What leaves an escrow."),
}

_CHANNEL_KEYS: Mapping[Address, str] = {
    notices.VIEWERS: "stream",
    notices.WATCHERS: "audience",
    notices.USER: "user",
}


class _AbsentNotNull(GenerateJsonSchema):
    """Describes models as they are sent: what is None is left out, so it is not required, and null is no value of it.

    Nor are fields forbidden that are not there yet: readers of a notice must ignore new ones.
    """

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        described = super().model_schema(schema)
        if described.get("additionalProperties") is False:
            del described["additionalProperties"]
        return described

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        described = super().default_schema(schema)
        if described.get("default", ...) is None:
            del described["default"]
        return described

    def field_is_required(
        self,
        field: core_schema.ModelField | core_schema.DataclassField | core_schema.TypedDictField,
        total: bool,
    ) -> bool:
        return field["schema"]["type"] != "nullable" and super().field_is_required(field, total)


@router.get("/asyncapi.json", include_in_schema=False)
async def read_asyncapi() -> JSONResponse:
    """The AsyncAPI document."""
    return JSONResponse(asyncapi_document())


@cache
def asyncapi_document() -> Json:
    """The document as JSON; made once, it depends on nothing but the code."""
    models: list[type[object]] = [*notices.ALL, *(entry.event for entry in CATALOGUE), EventView]
    described, definitions = TypeAdapter.json_schemas(
        [(model.__name__, "serialization", TypeAdapter(model)) for model in models],
        ref_template="#/components/schemas/{model}",
        schema_generator=_AbsentNotNull,
    )
    payloads = {name: schema for (name, _), schema in described.items()}
    schemas: Json = dict(definitions["$defs"])
    messages = {
        **{notice.__name__: _notice_message(notice, payloads[notice.__name__], schemas) for notice in notices.ALL},
        **{entry.event.__name__: _signal_message(entry, payloads[entry.event.__name__]) for entry in CATALOGUE},
        **{f"event.{name}": _event_message(name, told, payloads["EventView"]) for name, told in EVENT_TYPES.items()},
    }
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "goalsvc", "version": __version__, "description": DESCRIPTION.strip()},
        "defaultContentType": "application/json",
        "servers": {
            "pusher": {
                "host": "ws-{cluster}.pusher.com",
                "protocol": "pusher",
                "protocolVersion": "7",
                "description": "Pusher Channels, or any server that speaks its protocol.",
                "variables": {"cluster": {"default": "mt1", "description": "The cluster of the Pusher app."}},
            },
            "process": {
                "host": "localhost",
                "protocol": "blinker",
                "description": "Inside goalsvc: the API's and the workers' own processes.",
            },
        },
        "channels": {**_pusher_channels(), **_event_channels(), **_signal_channels()},
        "operations": {**_pusher_operations(), **_event_operations(), **_signal_operations()},
        "components": {"messages": messages, "schemas": schemas},
    }


# -- notices ----------------------------------------------------------------------------------------------------------


def _told_on(address: Address) -> list[type[Notice]]:
    return [notice for notice in notices.ALL if address in notice.told_on]


def _pusher_channels() -> Json:
    return {
        key: {
            "address": address.pattern,
            "title": address.title,
            "description": address.hears,
            "servers": [{"$ref": "#/servers/pusher"}],
            "parameters": {"user_id": {"description": address.about, "examples": ["u-alice-1"]}},
            "messages": _references(notice.__name__ for notice in _told_on(address)),
        }
        for address, key in _CHANNEL_KEYS.items()
    }


def _pusher_operations() -> Json:
    return {
        f"tell.{key}": {
            "action": "send",
            "channel": {"$ref": f"#/channels/{key}"},
            "title": f"Tell {key}",
            "summary": f"goalsvc tells what happens. {address.hears}",
            "messages": [{"$ref": f"#/channels/{key}/messages/{notice.__name__}"} for notice in _told_on(address)],
        }
        for address, key in _CHANNEL_KEYS.items()
    }


def _notice_message(notice: type[Notice], payload: JsonSchemaValue, schemas: Json) -> Json:
    return {
        "name": notice.event,
        "title": notice.event,
        "summary": _doc(notice),
        "tags": [{"name": "notice"}],
        "contentType": "application/json",
        "payload": payload,
        "examples": [{"name": notice.event, "payload": _example(payload, schemas)}],
    }


def _example(schema: JsonSchemaValue, schemas: Json) -> object:
    """An example of what the schema describes, from the examples of its parts."""
    if "$ref" in schema and "examples" not in schema:
        return _example(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    if "examples" in schema:
        return schema["examples"][0]
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            return {name: _example(part, schemas) for name, part in schema.get("properties", {}).items()}
        case "array":
            return [_example(schema["items"], schemas)]
        case "boolean":
            return True
        case other:
            raise TypeError(f"an example is missing of {schema.get('title')} ({other})")


# -- signals ----------------------------------------------------------------------------------------------------------


def _entries_of(signal: str) -> list[SignalEntry]:
    return [entry for entry in CATALOGUE if entry.event.signal == signal]


def _signal_channels() -> Json:
    return {
        signal: {
            "address": signal,
            "title": title,
            "description": description,
            "servers": [{"$ref": "#/servers/process"}],
            "messages": _references(entry.event.__name__ for entry in _entries_of(signal)),
        }
        for signal, (title, description) in _SIGNALS.items()
    }


def _signal_operations() -> Json:
    return {
        f"send.{signal}": {
            "action": "send",
            "channel": {"$ref": f"#/channels/{signal}"},
            "title": f"Send {signal}",
            "summary": f"Receivers hear it, inside the process. {description}",
            "messages": [
                {"$ref": f"#/channels/{signal}/messages/{entry.event.__name__}"} for entry in _entries_of(signal)
            ],
        }
        for signal, (_, description) in _SIGNALS.items()
    }


def _signal_message(entry: SignalEntry, payload: JsonSchemaValue) -> Json:
    return {
        "name": entry.event.sender,
        "title": entry.name,
        "summary": _doc(entry.event),
        "description": f"Sent: {entry.sent}\n\nNot sent: {entry.not_sent}",
        "tags": [{"name": "signal"}],
        "contentType": "application/json",
        "payload": payload,
    }


# -- events for the platform's backend --------------------------------------------------------------------------------


def _event_channels() -> Json:
    return {
        "events": {
            "address": "events",
            "title": "Events for the platform's backend",
            "description": "Posted to the webhook endpoints (Standard Webhooks), and read at `GET /v1/events` and its stream.",
            "messages": _references(f"event.{name}" for name in EVENT_TYPES),
        }
    }


def _event_operations() -> Json:
    messages = [{"$ref": f"#/channels/events/messages/event.{name}"} for name in EVENT_TYPES]
    return {
        "deliver.events": {
            "action": "send",
            "channel": {"$ref": "#/channels/events"},
            "title": "Deliver events",
            "summary": "goalsvc delivers what happened, at least once; `sequence` orders the events of one goal.",
            "messages": messages,
        }
    }


def _event_message(name: str, told: str, payload: JsonSchemaValue) -> Json:
    return {
        "name": name,
        "title": name,
        "summary": told,
        "tags": [{"name": "event"}],
        "contentType": "application/json",
        "payload": payload,
        "examples": [{"name": name, "payload": example_of_event(name)}],
    }


# -- both -------------------------------------------------------------------------------------------------------------


def _references(messages: Iterable[str]) -> Json:
    return {name: {"$ref": f"#/components/messages/{name}"} for name in messages}


def _doc(model: type[object]) -> str:
    return " ".join((model.__doc__ or "").split())
