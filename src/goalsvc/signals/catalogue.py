"""Every signal that goalsvc sends: when, and when not. The payload's fields are in `events`."""

from dataclasses import dataclass
from typing import Any

from goalsvc.signals import events


@dataclass(frozen=True, slots=True)
class SignalEntry:
    """One (signal, sender) with its payload and its promise to listeners."""

    event: type[Any]
    sent: str
    not_sent: str

    @property
    def name(self) -> str:
        """`signal · sender`, as in the specification."""
        return f"{self.event.signal} · {self.event.sender}"


CATALOGUE: tuple[SignalEntry, ...] = (
    SignalEntry(
        events.ChannelOccupied,
        "For each `member_added` and `channel_occupied` of a webhook, on a channel of ours; again when Pusher repeats it.",
        "For other webhook events, channels that are not ours, and webhooks that are refused.",
    ),
    SignalEntry(
        events.ChannelVacated,
        "For each `member_removed` and `channel_vacated` of a webhook, on a channel of ours; again when Pusher repeats it.",
        "For other webhook events, channels that are not ours, and webhooks that are refused.",
    ),
    SignalEntry(
        events.GoalStarted,
        "When a goal's clock was started.",
        "When a join finds the clock running, or the goal inactive.",
    ),
    SignalEntry(
        events.GoalProgressed,
        "When a pause was counted (also one of less than a second, with amount 0), or a contribution was made.",
        "While the clock runs; when a leave finds it paused.",
    ),
    SignalEntry(
        events.GoalCompleted,
        "When progress has reached a level that it had not reached before; once for several levels at a time. "
        "For an ExclusiveGoal without levels: when it ends after any performance.",
        "When progress rises within a level.",
    ),
    SignalEntry(
        events.GoalEnded,
        "When a goal has become inactive, whatever the cause; after all its counted seconds were announced.",
        "When a goal that is inactive is ended once more.",
    ),
    SignalEntry(
        events.EscrowShareCompleted,
        "When one share of an escrow was paid to the streamer.",
        "When the transfer had been made before.",
    ),
    SignalEntry(
        events.EscrowCompleted,
        "When the last share of an escrow was paid.",
        "While shares are outstanding, and for an escrow that is refunded.",
    ),
    SignalEntry(
        events.EscrowShareRefunded,
        "When one share of an escrow went back to whom it came from.",
        "When the transfer had been made before.",
    ),
    SignalEntry(
        events.EscrowRefunded,
        "When the last share of an escrow was refunded.",
        "While shares are outstanding, and for an escrow that is paid.",
    ),
)
