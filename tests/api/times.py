"""The times that operations take, from the OpenAPI document."""

from collections.abc import Iterator, Mapping
from typing import Any


def _has_time(schema: Mapping[str, Any]) -> bool:
    return schema.get("format") == "date-time" or any(_has_time(option) for option in schema.get("anyOf", ()))


def _bodies(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[tuple[dict[str, str], str]]:
    """Each field of a body that is a time, with the field that chooses the kind of body, if there is one."""
    if "$ref" in schema:
        yield from _bodies(document, document["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    for option in schema.get("anyOf", ()):
        yield from _bodies(document, option)
    if "discriminator" in schema:
        name = schema["discriminator"]["propertyName"]
        for kind, reference in schema["discriminator"]["mapping"].items():
            yield from (({name: kind}, field) for _, field in _bodies(document, {"$ref": reference}))
    yield from (({}, name) for name, field in schema.get("properties", {}).items() if _has_time(field))


def times_asked_for(document: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, str] | None, str]]:
    """Method, path, body (None for a query) and name of each time that an operation takes."""
    for path, operations in document["paths"].items():
        address = path.format_map(_Anything())
        for method, operation in operations.items():
            for parameter in operation.get("parameters", ()):
                if _has_time(parameter["schema"]):
                    yield method, address, None, parameter["name"]
            content = operation.get("requestBody", {}).get("content", {})
            for body, name in _bodies(document, content.get("application/json", {}).get("schema", {})):
                yield method, address, body, name


class _Anything(dict[str, str]):
    def __missing__(self, name: str) -> str:
        return {"endpoint_id": f"we_{'0' * 24}", "escrow_id": f"trigger:{'0' * 24}"}.get(name, "0" * 24)
