"""A receiver: an async function with what it listens to, as a value.

The decorator connects nothing; wiring hands `receivers.ALL` to the bus. So a receiver can be awaited in a test like any
function, and the tables in `docs/receivers.md` can be made from these values.
"""

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from goalsvc.context import Context
from goalsvc.domain.channels import ChannelKind
from goalsvc.domain.goals import ALL_KINDS, GoalKind
from goalsvc.domain.outcome import Outcome, Reason
from goalsvc.signals.events import GoalEvent, PresenceEvent

ReceiverFunction = Callable[[Context, Any], Awaitable[Outcome]]

_OTHER_CHANNEL = {
    ChannelKind.GOAL: Reason.NOT_A_GOAL_CHANNEL,
    ChannelKind.STREAM: Reason.NOT_A_STREAM_CHANNEL,
    ChannelKind.USER: Reason.NOT_A_USER_CHANNEL,
}


@dataclass(frozen=True, slots=True)
class On:
    """An event that a receiver listens to, and which goal kinds or channels of it concern the receiver."""

    event: type[Any]
    kinds: frozenset[GoalKind] = ALL_KINDS
    channel: ChannelKind | None = None

    def declines(self, event: object) -> Reason | None:
        """Why this event is none of the receiver's business, or None when it may be; decided without awaiting."""
        if isinstance(event, GoalEvent):
            return None if event.kind in self.kinds else Reason.OTHER_GOAL_KIND
        if self.channel is not None and isinstance(event, PresenceEvent) and event.channel.kind is not self.channel:
            return _OTHER_CHANNEL[self.channel]
        return None

    @property
    def declinable(self) -> frozenset[Reason]:
        """The reasons that `declines` may give."""
        reasons = set()
        if self.kinds != ALL_KINDS:
            reasons.add(Reason.OTHER_GOAL_KIND)
        if self.channel is not None:
            reasons.add(_OTHER_CHANNEL[self.channel])
        return frozenset(reasons)


def on(event: type[object], *kinds: GoalKind, channel: ChannelKind | None = None) -> On:
    """Listens to `event`: of all goal kinds, or of these; of all channels, or of this kind."""
    return On(event, frozenset(kinds) or ALL_KINDS, channel)


@dataclass(frozen=True, slots=True)
class Receiver:
    """A receiver: its function, what it listens to, and the reasons for which it may return."""

    name: str
    function: ReceiverFunction
    listens: tuple[On, ...]
    returns: frozenset[Reason]
    instant: bool = False
    """Whether it never waits for anything: then the bus runs it at once, without a task and without a clock on it."""

    async def __call__(self, context: Context, event: object) -> Outcome:
        """Awaits the function itself, as the bus does after it has checked the event's kind."""
        return await self.function(context, event)

    @property
    def doc(self) -> str:
        """What it does: the first line of its docstring."""
        return (inspect.getdoc(self.function) or "").partition("\n")[0]


def receiver(
    *listens: On, returns: set[Reason] | None = None, instant: bool = False
) -> Callable[[ReceiverFunction], Receiver]:
    """Makes a receiver of an async function `(context, event) -> Outcome`; it keeps the function's name."""

    def decorate(function: ReceiverFunction) -> Receiver:
        name: str = function.__name__
        return Receiver(name, function, listens, frozenset(returns or ()), instant)

    return decorate
