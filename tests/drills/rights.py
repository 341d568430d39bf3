"""The least rights with which goalsvc works: what docs/operations.md lists is what the drill grants."""

import re
from pathlib import Path

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"


def granted_to_redis() -> list[str]:
    """The rules of the ACL that the document shows, without the user's name and password."""
    (rules,) = re.findall(r"^ACL SETUSER goalsvc on >\S+ (.+)$", OPERATIONS.read_text("utf-8"), re.MULTILINE)
    return str(rules).split()
