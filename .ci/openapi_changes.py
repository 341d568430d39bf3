"""Breaking changes between two OpenAPI documents, by specshift: `openapi_changes.py SPECSHIFT THEN NOW`.

specshift does not look into a union. So each union of kinds (`discriminator`) of the second document is replaced by one kind
after the other, and the first document is compared with each.
"""

import json
import subprocess
import sys
from pathlib import Path


def kinds_of(part: object) -> set[str]:
    """Returns the kinds that unions anywhere in this part of a document tell apart."""
    if isinstance(part, list):
        return set().union(*map(kinds_of, part))
    if not isinstance(part, dict):
        return set()
    own = set(part["discriminator"]["mapping"]) if "oneOf" in part and "discriminator" in part else set()
    return own.union(*map(kinds_of, part.values()))


def with_kind(part: object, kind: str) -> object:
    """Returns this part of a document with that kind in place of each union that has it."""
    if isinstance(part, list):
        return [with_kind(each, kind) for each in part]
    if not isinstance(part, dict):
        return part
    schema = part["discriminator"]["mapping"].get(kind) if "oneOf" in part and "discriminator" in part else None
    return {"$ref": schema} if schema else {name: with_kind(each, kind) for name, each in part.items()}


def main(specshift: str, then: str, now: str) -> None:
    """Prints each breaking change, with the kinds of goals that have it."""
    document = json.loads(Path(now).read_text("utf-8"))
    found: dict[tuple[str, str], list[str]] = {}
    kinds = sorted(kinds_of(document)) or ["-"]
    for kind in kinds:
        one = Path(now).with_suffix(f".{kind}.json")
        one.write_text(json.dumps(with_kind(document, kind)), "utf-8")
        command = [specshift, "diff", then, str(one), "--format", "json", "--fail-on", "none"]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603
        for change in json.loads(told)["changes"]:
            if change["severity"] == "breaking":
                found.setdefault((change["location"], change["message"]), []).append(kind)
    for (where, what), concerned in found.items():
        print(f"{where}: {what}" + ("" if concerned == kinds else f" ({', '.join(concerned)})"))
    print(f"{len(found)} breaking changes")


if __name__ == "__main__":
    main(*sys.argv[1:])
