"""The bus carries signals to receivers. It alone knows blinker.

Plain `Signal.send_async` awaits one receiver after another and stops at the first exception. Here the receivers of one
send run side by side, one that fails does not stop its siblings, each has bounded time, and every answer is kept.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from time import perf_counter
from typing import Any

import blinker
from prometheus_client import Counter

from goalsvc.context import Context
from goalsvc.domain.outcome import Answer, Done, Failed, ReceiverReport, Report, Returned
from goalsvc.signals.receiver import On, Receiver

log = logging.getLogger(__name__)

ANSWERS = Counter(
    "goalsvc_receiver_answers_total",
    "Answers of receivers to signals.",
    ["sender", "receiver", "outcome"],
)

#: A receiver that takes longer counts as failed. Slow work belongs into a task.
TIME_LIMIT_SECONDS = 10.0


NO_REFS: Mapping[str, str | int | Sequence[str]] = {}


class _Connection:
    """One receiver connected to one event; blinker keeps these and gives them back for a sender."""

    __slots__ = ("_outcomes", "on", "order", "receiver")

    def __init__(self, order: int, receiver: Receiver, listening: On) -> None:
        self.order = order
        self.receiver = receiver
        self.on = listening
        names = (listening.event.sender, receiver.name)
        self._outcomes = {kind: ANSWERS.labels(*names, kind.__name__.lower()) for kind in (Done, Returned, Failed)}

    def __call__(self, sender: str, *, context: Context, event: object) -> Awaitable[ReceiverReport]:
        return self.deliver(context, event)

    async def deliver(self, context: Context, event: Any) -> ReceiverReport:
        """Calls the receiver and reports its answer; never raises for it."""
        at, begun = context.clock.now(), perf_counter()
        answer: Answer
        own = context.within(context.origin.at(event.sender, self.receiver.name))
        try:
            if self.receiver.instant:
                answer = await self.receiver.function(own, event)
            else:
                async with asyncio.timeout(TIME_LIMIT_SECONDS):
                    answer = await self.receiver.function(own, event)
            match answer:
                case Done():
                    pass
                case Returned(reason=reason):
                    if reason not in self.receiver.returns:
                        answer = Failed(f"returned {reason}, which {self.receiver.name} has not declared")
                case _:
                    answer = Failed(f"answered {answer!r}, which is no outcome")
        except TimeoutError:
            answer = Failed(f"took longer than {TIME_LIMIT_SECONDS:g} s")
        except Exception as error:
            log.warning("receiver %s failed on %s", self.receiver.name, event.sender, exc_info=True)
            answer = Failed(f"{type(error).__name__}: {error}")
        return self.report(answer, at, (perf_counter() - begun) * 1000, own.refs)

    def report(
        self, answer: Answer, at: datetime, milliseconds: float, refs: Mapping[str, str | int | Sequence[str]] = NO_REFS
    ) -> ReceiverReport:
        """Counts the answer and puts it into a report."""
        self._outcomes[type(answer)].inc()
        return ReceiverReport(self.receiver.name, answer, at, milliseconds, refs)


class SignalBus:
    """Connects receivers to blinker signals by (signal, sender) and sends events to them."""

    def __init__(self, receivers: Sequence[Receiver]) -> None:
        self._namespace = blinker.Namespace()
        order = 0
        for receiver in receivers:
            for listening in receiver.listens:
                connection = _Connection(order, receiver, listening)
                signal = self._namespace.signal(listening.event.signal)
                signal.connect(connection, sender=listening.event.sender, weak=False)
                order += 1

    async def send(self, context: Context, event: Any) -> Report:
        """Calls every receiver of this event side by side and reports each answer."""
        at, begun = context.clock.now(), perf_counter()
        heard: list[ReceiverReport] = []
        waiting: list[_Connection] = []
        for connection in self._connections(event):
            reason = connection.on.declines(event)
            if reason is not None:
                heard.append(connection.report(Returned(reason), at, 0.0))
            elif connection.receiver.instant:
                heard.append(await connection.deliver(context, event))
            else:
                waiting.append(connection)
        if len(waiting) == 1:
            heard.append(await waiting[0].deliver(context, event))
        elif waiting:
            heard.extend(await asyncio.gather(*(connection.deliver(context, event) for connection in waiting)))
        return Report(event.signal, event.sender, at, (perf_counter() - begun) * 1000, tuple(heard), event)

    def _connections(self, event: Any) -> list[_Connection]:
        signal = self._namespace.signal(event.signal)
        found: list[Callable[..., object]] = list(signal.receivers_for(event.sender))
        connections = [connection for connection in found if isinstance(connection, _Connection)]
        connections.sort(key=lambda connection: connection.order)  # blinker's own order is not that of connection
        return connections
