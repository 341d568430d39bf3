"""A Postman collection (format v2.1) made from the OpenAPI document, for `goalsvc openapi --postman`.

Each tag is a folder, each operation a request that can be sent as it stands: addresses, ids and keys are variables of the
collection, bodies are the document's examples. The webhook signs itself, as Pusher does.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from goalsvc.api.examples_of import NO_EXAMPLE, example_of

Json = dict[str, Any]

SCHEMA: Final = "https://schema.getpostman.com/json/collection/v2.1.0/collection.json"
_METHODS: Final = ("get", "put", "post", "patch", "delete")
#: What everything is sent to and with, as `goalsvc dev` has it.
_VARIABLES: Final[Mapping[str, str]] = {
    "base_url": "http://127.0.0.1:8000",
    "api_key": "goalsvc-api-key",
    "user_token": "",
    "pusher_key": "goalsvc-key",
    "pusher_secret": "goalsvc-secret",
}
#: Dates the webhook now and signs it; CryptoJS is part of Postman's sandbox.
_SIGNS: Final = """\
const body = JSON.parse(pm.variables.replaceIn(pm.request.body.raw));
body.time_ms = Date.now();
const text = JSON.stringify(body);
pm.request.body.raw = text;
pm.request.headers.upsert({key: "X-Pusher-Key", value: pm.variables.get("pusher_key")});
const signature = CryptoJS.HmacSHA256(text, pm.variables.get("pusher_secret")).toString();
pm.request.headers.upsert({key: "X-Pusher-Signature", value: signature});"""
_SECURITY: Final[Mapping[str, Json]] = {
    "ApiKey": {"type": "bearer", "bearer": [{"key": "token", "value": "{{api_key}}", "type": "string"}]},
    "UserToken": {"type": "bearer", "bearer": [{"key": "token", "value": "{{user_token}}", "type": "string"}]},
}
_NO_AUTH: Final[Json] = {"type": "noauth"}


def collection_of(document: Mapping[str, Any]) -> Json:
    """The collection of every operation of that OpenAPI document, as JSON."""
    schemas = document["components"]["schemas"]
    folders: dict[str, Json] = {
        tag["name"]: {"name": tag["name"], "description": tag["description"], "item": []} for tag in document["tags"]
    }
    variables = {**_ids(document), **_VARIABLES}
    for path, method, operation in _operations(document):
        tag = operation["tags"][0]
        folder = folders.setdefault(tag, {"name": tag, "item": []})
        folder["item"].append(_item(path, method, operation, schemas))
    return {
        "info": {
            "name": document["info"]["title"],
            "version": document["info"]["version"],
            "description": document["info"]["description"],
            "schema": SCHEMA,
        },
        "auth": _SECURITY["ApiKey"],
        "variable": [{"key": name, "value": value, "type": "string"} for name, value in variables.items()],
        "item": [folder for folder in folders.values() if folder["item"]],
    }


def _operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str, Json]]:
    for path, item in document["paths"].items():
        yield from ((path, method, item[method]) for method in _METHODS if method in item)


def _ids(document: Mapping[str, Any]) -> dict[str, str]:
    """The ids that paths have, each with an example."""
    ids: dict[str, str] = {}
    for _, _, operation in _operations(document):
        for parameter in operation.get("parameters", ()):
            example = str(_example(parameter, document["components"]["schemas"]))
            if parameter["in"] == "path" and ids.get(parameter["name"]) in (None, NO_EXAMPLE):
                ids[parameter["name"]] = example
    return ids


def _item(path: str, method: str, operation: Json, schemas: Json) -> Json:
    parameters = operation.get("parameters", [])
    request: Json = {
        "method": method.upper(),
        "description": operation.get("description", ""),
        "url": _url(path, parameters, schemas),
        "header": [_header(one, schemas) for one in parameters if one["in"] == "header"],
    }
    schemes = {name for choice in operation.get("security", ()) for name in choice}
    if "ApiKey" not in schemes:
        request["auth"] = next((_SECURITY[name] for name in schemes if name in _SECURITY), _NO_AUTH)
    body = _body(operation, schemas)
    if body is not None:
        request["body"] = body
        request["header"].append({"key": "Content-Type", "value": "application/json"})
    item: Json = {"name": operation["summary"], "request": request, "response": []}
    if "PusherSignature" in schemes:
        item["event"] = [{"listen": "prerequest", "script": {"type": "text/javascript", "exec": _SIGNS.split("\n")}}]
    return item


def _url(path: str, parameters: list[Json], schemas: Json) -> Json:
    template = re.sub(r"\{(\w+)\}", r"{{\1}}", path)
    queries = [_query(one, schemas) for one in parameters if one["in"] == "query"]
    sent = "&".join(f"{one['key']}={one['value']}" for one in queries if not one.get("disabled"))
    url: Json = {
        "raw": "{{base_url}}" + template + (f"?{sent}" if sent else ""),
        "host": ["{{base_url}}"],
        "path": template.strip("/").split("/"),
    }
    return url | ({"query": queries} if queries else {})


def _query(parameter: Json, schemas: Json) -> Json:
    query = {
        "key": parameter["name"],
        "value": str(_example(parameter, schemas)),
        "description": parameter.get("description", ""),
    }
    return query if parameter.get("required") else query | {"disabled": True}


def _header(parameter: Json, schemas: Json) -> Json:
    if parameter["name"] == "Idempotency-Key":
        return {"key": parameter["name"], "value": "{{$guid}}", "description": "A new one for each request."}
    header = {"key": parameter["name"], "value": str(_example(parameter, schemas))}
    return header if parameter.get("required") else header | {"disabled": True}


def _body(operation: Json, schemas: Json) -> Json | None:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if content is None:
        return None
    given = next(iter(content.get("examples", {}).values()), None)
    example = given["value"] if given is not None else content.get("example") or example_of(content["schema"], schemas)
    if isinstance(example, dict) and "session_id" in example:
        example = example | {"session_id": "{{session_id}}"}
    text = json.dumps(example, indent=2, ensure_ascii=False)
    return {"mode": "raw", "raw": text, "options": {"raw": {"language": "json"}}}


def _example(parameter: Json, schemas: Json) -> object:
    examples = parameter.get("examples") or parameter.get("example")
    if isinstance(examples, dict) and examples:
        return next(iter(examples.values()))["value"]
    return examples or example_of(parameter["schema"], schemas)
