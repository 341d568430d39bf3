"""An example of a schema, put together from the examples of its fields."""

from collections.abc import Mapping
from typing import Any

_AT = "2026-01-01T20:00:00Z"
#: What stands for a text of which the document gives no example.
NO_EXAMPLE = "text"
_BY_TYPE: Mapping[str, object] = {"integer": 1, "number": 1.0, "boolean": True, "null": None, "string": NO_EXAMPLE}


def example_of(schema: Mapping[str, Any], schemas: Mapping[str, Any], depth: int = 8) -> object:
    """An example of that schema; `schemas` are the document's components. A field without an example gets a plain value."""
    if "$ref" in schema:
        return example_of(schemas[schema["$ref"].rpartition("/")[2]], schemas, depth - 1)
    given = _given(schema)
    if given is not _NONE:
        return given
    for choice in ("anyOf", "oneOf", "allOf"):
        if choice in schema:
            first = next(one for one in schema[choice] if one.get("type") != "null")
            return example_of(first, schemas, depth - 1)
    match schema.get("type"):
        case "object" if depth > 0:
            properties = schema.get("properties", {})
            return {name: example_of(inner, schemas, depth - 1) for name, inner in properties.items()}
        case "array" if depth > 0:
            return [example_of(schema["items"], schemas, depth - 1)] if "items" in schema else []
        case "object":
            return {}
        case "array":
            return []
        case "string" if schema.get("format") == "date-time":
            return _AT
        case "integer" | "number" as kind:
            return max(schema.get("minimum", _BY_TYPE[kind]), schema.get("exclusiveMinimum", -1) + 1)
        case kind:
            return _BY_TYPE.get(kind or "", {})


_NONE: Any = object()


def _given(schema: Mapping[str, Any]) -> object:
    """The example that the schema itself gives."""
    if "example" in schema:
        return schema["example"]
    if schema.get("examples"):
        return schema["examples"][0]
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    return schema["default"] if schema.get("default") is not None else _NONE
