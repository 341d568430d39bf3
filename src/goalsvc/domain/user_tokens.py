"""Keys that verify the users' own tokens."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """A key, and the one algorithm by which it verifies."""

    key: Any = field(repr=False)
    algorithm: str
