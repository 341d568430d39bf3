"""Clients generated from goalsvc's own documents: what the documents do not say, these cannot do."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import httpx
from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

METHODS = ("get", "put", "post", "delete", "patch")


class _Schemas:
    """Checks values against schemas of one document, references included."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        resource = DRAFT202012.create_resource(document)
        self._registry: Any = Registry().with_resource("urn:document", resource)
        self._document = document

    def resolve(self, value: Mapping[str, Any]) -> Mapping[str, Any]:
        """What a reference within the document stands for."""
        while "$ref" in value:
            node: Any = self._document
            for part in value["$ref"].removeprefix("#/").split("/"):
                node = node[part.replace("~1", "/").replace("~0", "~")]
            value = node
        return value

    def check(self, value: Any, schema: Mapping[str, Any], what: str) -> None:
        """Fails unless the value is of that schema."""
        absolute = _with_absolute_references(schema)
        errors = [e.message for e in Draft202012Validator(absolute, registry=self._registry).iter_errors(value)]
        assert errors == [], f"{what}: {errors}: {value}"


def _with_absolute_references(schema: Any) -> Any:
    if isinstance(schema, Mapping):
        return {
            key: f"urn:document{value}"
            if key == "$ref" and str(value).startswith("#")
            else _with_absolute_references(value)
            for key, value in schema.items()
        }
    return [_with_absolute_references(item) for item in schema] if isinstance(schema, list) else schema


class GeneratedClient:
    """One method for each summary of the OpenAPI document: "Begin a session" is `begin_a_session(…)`.

    Arguments are the operation's parameters by name; `body` is its body. Requests and answers are checked against the document,
    and a status that it does not name is a failure.
    """

    def __init__(self, document: Mapping[str, Any], http: httpx.Client) -> None:
        self._http = http
        self._schemas = _Schemas(document)
        self.operations = {
            re.sub(r"\W+", "_", operation["summary"].lower()).strip("_"): (method, path, operation)
            for path, item in document["paths"].items()
            for method, operation in item.items()
            if method in METHODS
        }

    def call(
        self, summary: str, /, *, body: Any = None, headers: Mapping[str, str] | None = None, **parameters: Any
    ) -> Any:
        """Calls the operation of that summary; what it answers, when that is a success."""
        method, path, operation = self.operations[summary]
        sent: dict[str, Any] = {"headers": dict(headers or {}), "params": {}}
        for parameter in map(self._schemas.resolve, operation.get("parameters", ())):
            name = parameter["name"]
            key = name.lower().replace("-", "_")
            if key not in parameters:
                assert not parameter.get("required"), f"{summary} wants {name}"
                continue
            value = parameters.pop(key)
            self._schemas.check(value, parameter["schema"], f"{summary}: {name}")
            if parameter["in"] == "path":
                path = path.replace("{" + name + "}", quote(str(value), safe=""))
            else:
                sent["headers" if parameter["in"] == "header" else "params"][name] = value
        assert parameters == {}, f"{summary} has no parameters {sorted(parameters)}"
        if body is not None and not isinstance(body, bytes):
            content = self._schemas.resolve(operation["requestBody"])["content"]
            self._schemas.check(body, content["application/json"]["schema"], f"{summary}: body")
        content_argument = {"content": body} if isinstance(body, bytes) else {"json": body} if body is not None else {}
        answer = self._http.request(method, path, **sent, **content_argument)
        documented = operation["responses"]
        assert str(answer.status_code) in documented, f"{summary} does not document {answer.status_code}: {answer.text}"
        described = self._schemas.resolve(documented[str(answer.status_code)])
        kind = answer.headers.get("content-type", "").partition(";")[0]
        if "content" in described and kind in described["content"]:
            self._schemas.check(answer.json(), described["content"][kind].get("schema", {}), f"{summary}: answer")
        assert answer.is_success, f"{summary}: {answer.status_code} {answer.text}"
        return answer.json() if kind == "application/json" else None


class GeneratedListener:
    """Knows, from the AsyncAPI document, which events come on which channels and what is in them."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._schemas = _Schemas(document)
        self._channels = [
            (re.compile(re.sub(r"\\\{\w+\\\}", "[^@]+", re.escape(channel["address"]))), self._messages(channel))
            for channel in document["channels"].values()
            if channel.get("address")
        ]

    def _messages(self, channel: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
        messages = map(self._schemas.resolve, channel["messages"].values())
        return {message["name"]: message for message in messages}

    def check(self, channel: str, name: str, data: Any) -> None:
        """Fails unless the document says that this event comes on that channel, with such data."""
        known = [messages for address, messages in self._channels if address.fullmatch(channel)]
        assert known, f"no channel of the document is {channel}"
        named = [messages[name] for messages in known if name in messages]
        assert named, f"{name} is not documented on {channel}"
        self._schemas.check(data, self._schemas.resolve(named[0]["payload"]), f"{name} on {channel}")
