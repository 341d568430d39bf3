"""Answers of the API with their times as times: a page shows them in words."""

from datetime import datetime
from typing import Any

_INSTANTS = frozenset(
    {
        "asked_at", "at", "begins_at", "confirmed_at", "created_at", "disabled_at", "down_since", "due_at", "expires_at",
        "failing_since", "finished_at", "happened_at", "last_at", "last_claim_at", "last_failed_at", "last_used_at",
        "next_at", "redriven_at", "revoked_at", "started_at", "updated_at",
    }
)  # fmt: skip


def timed(found: object) -> Any:
    """Returns a list of the API with its times as times."""
    return instants_in(found) if found is not None else {"items": [], "next": None}


def instants_in(value: object) -> Any:
    """Returns an answer of the API with its times as times, at every depth."""
    if isinstance(value, list):
        return [instants_in(one) for one in value]
    if isinstance(value, dict):
        return {name: _instant(one) if name in _INSTANTS else instants_in(one) for name, one in value.items()}
    return value


def _instant(value: object) -> datetime | None:
    return datetime.fromisoformat(value) if isinstance(value, str) else None
