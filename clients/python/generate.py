"""Makes `goalsvc_client.generated` from the OpenAPI document: `python clients/python/generate.py`.

It is made anew when the document or a template has changed, and is not committed: it is always that of its goalsvc.
"""

import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from openapi_python_client import generate
from openapi_python_client.config import Config, ConfigFile, MetaType

HERE = Path(__file__).parent
GENERATED = HERE / "src" / "goalsvc_client" / "generated"
_STAMP = GENERATED / "made-from.txt"
_TEMPLATES = HERE / "templates"

Json = dict[str, Any]

#: What a backend does not call: Pusher and pusher-js do, or a stream that the client follows page by page.
_LEFT_OUT = {"/notify/pusher", "/pusher/auth", "/v1/events/stream"}
_METHODS = ("get", "put", "post", "delete", "patch")


def document_for_client(document: Json) -> Json:
    """The document with what concerns the client alone.

    Errors are exceptions, so that an operation returns its success; the client makes the Idempotency-Key by itself.
    """
    document = json.loads(json.dumps(document))
    document.pop("webhooks", None)
    for path in _LEFT_OUT:
        document["paths"].pop(path, None)
    for operation in operations_of(document):
        answers = operation["responses"]
        operation["responses"] = {status: answers[status] for status in answers if status.startswith("2")}
        parameters = operation.get("parameters", [])
        operation["parameters"] = [each for each in parameters if each["name"] != "If-None-Match"]
        for parameter in operation["parameters"]:
            if parameter["name"] == "Idempotency-Key":
                parameter["required"] = False
                parameter["schema"] = {"type": "string"}
    return document


def operations_of(document: Json) -> Iterator[Json]:
    """Every operation of the document."""
    for item in document["paths"].values():
        yield from (operation for method, operation in item.items() if method in _METHODS)


def ensure(document: Json) -> bool:
    """Makes the package unless it is there for this document; whether it was made now."""
    text = json.dumps(document_for_client(document), sort_keys=True)
    sources = [text.encode(), *(path.read_bytes() for path in sorted(_TEMPLATES.iterdir()))]
    digest = hashlib.sha256(b"\0".join(sources)).hexdigest()
    if _STAMP.is_file() and _STAMP.read_text() == digest:
        return False
    with tempfile.TemporaryDirectory(dir=HERE) as directory:
        source, made = Path(directory) / "openapi.json", Path(directory) / "generated"
        source.write_text(text, "utf-8")
        config = Config.from_sources(
            ConfigFile(post_hooks=[], generate_all_tags=False),
            MetaType.NONE,
            source,
            "utf-8",
            overwrite=True,
            output_path=made,
        )
        errors = generate(config=config, custom_template_path=_TEMPLATES)
        if errors:
            raise RuntimeError("\n".join(f"{error.header} {error.detail}" for error in errors))
        shutil.rmtree(GENERATED, ignore_errors=True)
        made.rename(GENERATED)
    _STAMP.write_text(digest)
    return True


def main() -> None:
    """Makes the package from the goalsvc that is installed; with `--document FILE`, writes the document for another client."""
    from goalsvc.app import create_app

    if sys.argv[1:2] == ["--document"]:
        Path(sys.argv[2]).write_text(json.dumps(document_for_client(create_app().openapi())), "utf-8")
        return
    print("made" if ensure(create_app().openapi()) else "current", file=sys.stderr)


if __name__ == "__main__":
    main()
