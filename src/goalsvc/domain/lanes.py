"""Lanes: kinds of work that never wait for one another's services."""

from enum import StrEnum


class Lane(StrEnum):
    """A kind of work, most urgent first. Each lane has its own queue in Redis and its own limit of jobs in hand."""

    MONEY = "money"
    """Progress, ends, escrow and the ledger: the database alone."""
    NOTICES = "notices"
    """Messages to clients that Pusher did not take at once."""
    RECORDINGS = "recordings"
    """Calls of BytePlus RTC."""
    DELIVERIES = "deliveries"
    """Outgoing webhooks."""
    ANALYTICS = "analytics"
    """What no person waits for, such as the documents of a clip."""
    CLIPS = "clips"
    """Cutting clips: long work of outside programs, in a process of its own."""

    @property
    def queue(self) -> str:
        """Name of the queue in Redis; the first lane keeps the name that the only queue once had."""
        return "goalsvc" if self is Lane.MONEY else f"goalsvc:{self.value}"

    @property
    def service(self) -> str | None:
        """The outside service that all jobs of the lane call, if there is one. While it is down, they go one at a time."""
        return {Lane.NOTICES: "pusher", Lane.RECORDINGS: "byteplus"}.get(self)
