"""The AsyncAPI document as a page shows it: channels, their messages, and the fields of each."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Type:
    """What a field holds: `words`, around the name of a schema that is described further down."""

    words: str
    schema: str = ""

    @property
    def before(self) -> str:
        """The words before the schema's name; all of them where there is none."""
        return self.words.partition("{}")[0]

    @property
    def after(self) -> str:
        """The words after the schema's name."""
        return self.words.partition("{}")[2]


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a schema."""

    name: str
    type: Type
    required: bool
    told: str
    example: str


@dataclass(frozen=True, slots=True)
class Schema:
    """What an object has for fields, or a text for values."""

    name: str
    told: str
    fields: Sequence[Field]
    values: Sequence[str]


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a channel; `schema` is None where all messages of the channel have the same."""

    anchor: str
    name: str
    summary: str
    paragraphs: Sequence[str]
    schema: Schema | None
    example: str


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel; `schema` is what each of its messages has, where it is the same."""

    key: str
    title: str
    address: str
    told: str
    parameters: Mapping[str, str]
    schema: Schema | None
    messages: Sequence[Message]


@dataclass(frozen=True, slots=True)
class Reading:
    """All that the page shows, in its order."""

    version: str
    paragraphs: Sequence[str]
    channels: Sequence[Channel]
    schemas: Sequence[Schema]


def reading_of(document: Json) -> Reading:
    """Returns what the page shows of an AsyncAPI 3 document."""
    schemas = {name: _schema(name, schema) for name, schema in document["components"]["schemas"].items()}
    channels = [_channel(key, channel, document, schemas) for key, channel in document["channels"].items()]
    shown = {schema.name for channel in channels for schema in _own_schemas(channel)}
    return Reading(
        version=document["info"]["version"],
        paragraphs=_paragraphs(document["info"]["description"]),
        channels=channels,
        schemas=[schemas[name] for name in sorted(_reached(shown, schemas) - shown)],
    )


def _channel(key: str, channel: Json, document: Json, schemas: Mapping[str, Schema]) -> Channel:
    messages = {name: _at(document, reference) for name, reference in channel["messages"].items()}
    used = {_name_of(message["payload"]) for message in messages.values()}
    common = schemas[used.pop()] if len(used) == 1 and len(messages) > 1 else None
    return Channel(
        key=key,
        title=channel["title"],
        address=channel["address"],
        told=channel["description"],
        parameters={name: value["description"] for name, value in channel.get("parameters", {}).items()},
        schema=common,
        messages=[
            Message(
                anchor=f"{key}/{name}",
                name=message["name"],
                summary=message["summary"],
                paragraphs=_paragraphs(message.get("description", "")),
                schema=None if common else schemas[_name_of(message["payload"])],
                example="".join(_text(example["payload"], indent=2) for example in message.get("examples", [])),
            )
            for name, message in messages.items()
        ],
    )


def _own_schemas(channel: Channel) -> list[Schema]:
    found = [channel.schema, *(message.schema for message in channel.messages)]
    return [schema for schema in found if schema is not None]


def _reached(names: Iterable[str], schemas: Mapping[str, Schema]) -> set[str]:
    """The names of schemas that are named in the fields of these, and of those, and so on."""
    reached: set[str] = set()
    ahead = list(names)
    while ahead:
        found = {field.type.schema for field in schemas[ahead.pop()].fields if field.type.schema} - reached
        reached |= found
        ahead += found
    return reached


def _schema(name: str, schema: Json) -> Schema:
    required = schema.get("required", ())
    return Schema(
        name=name,
        told=schema.get("description", ""),
        fields=[
            Field(
                name=field,
                type=_type(part),
                required=field in required,
                told=part.get("description", ""),
                example=_text(part["examples"][0]) if "examples" in part else "",
            )
            for field, part in schema.get("properties", {}).items()
        ],
        values=[str(value) for value in schema.get("enum", ())],
    )


def _type(schema: Json) -> Type:
    if "$ref" in schema:
        return Type("{}", _name_of(schema))
    if "enum" in schema:
        return Type(" or ".join(f"`{value}`" for value in schema["enum"]))
    if "const" in schema:
        return Type(f"`{schema['const']}`")
    if schema.get("type") == "array":
        items = _type(schema.get("items", {}))
        return Type(f"list of {items.words}", items.schema)
    if isinstance(schema.get("additionalProperties"), dict):
        values = _type(schema["additionalProperties"])
        return Type(f"object whose values are {values.words}", values.schema)
    words = str(schema.get("type", "any value"))
    return Type(f"{words} ({schema['format']})" if "format" in schema else words)


def _name_of(reference: Json) -> str:
    return str(reference["$ref"]).rpartition("/")[2]


def _at(document: Json, reference: Json) -> Json:
    found: Json = document
    for step in str(reference["$ref"]).removeprefix("#/").split("/"):
        found = cast(Json, found[step])
    return found


def _text(value: object, indent: int | None = None) -> str:
    return json.dumps(value, indent=indent, ensure_ascii=False)


def _paragraphs(text: str) -> list[str]:
    return [" ".join(part.split()) for part in text.split("\n\n") if part.strip()]
