"""Outgoing webhooks: when a delivery is tried again, and when an endpoint is given up. Pure values."""

from datetime import datetime, timedelta
from enum import StrEnum

#: How long a delivery rests after its first failure, its second, …; after the last of them it has failed.
RETRY_SECONDS = (5, 300, 1800, 7200, 18_000, 36_000, 36_000)
#: An endpoint that has answered nothing but failures for this long is disabled.
DISABLED_AFTER = timedelta(days=3)
#: How long a secret is valid after it was replaced.
ROTATION = timedelta(hours=24)
#: How long an answer may take, and how much of it is kept.
ANSWER_SECONDS = 15.0
KEPT_BYTES = 1024


class DeliveryState(StrEnum):
    """How far a delivery has come."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


def is_delivered(status: int | None) -> bool:
    """Whether an answer of that status is a delivery; None: there was no answer."""
    return status is not None and 200 <= status < 300


def next_attempt(tried: int, now: datetime) -> datetime | None:
    """When a delivery is tried again after so many failures; None when it was tried for the last time."""
    return now + timedelta(seconds=RETRY_SECONDS[tried - 1]) if tried <= len(RETRY_SECONDS) else None
