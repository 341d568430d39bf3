"""Delivering an event to one receiver, without a bus."""

from typing import Any

from goalsvc.domain.outcome import Done, FollowUp, Outcome, Reason, Returned
from goalsvc.signals.receiver import Receiver
from tests.support.services import Notice

from .fakes import Stage


def reason_of(outcome: Outcome) -> Reason | None:
    """Why it returned; None when it is done."""
    return outcome.reason if isinstance(outcome, Returned) else None


def debt_of(outcome: Outcome) -> FollowUp:
    """The one task that it owes."""
    assert isinstance(outcome, Done), outcome
    (follow_up,) = outcome.follow_ups
    return follow_up


def owed_ids(outcome: Outcome) -> list[str]:
    return [follow_up.id for follow_up in outcome.follow_ups] if isinstance(outcome, Done) else []


async def deliver(stage: Stage, receiver: Receiver, event: Any) -> Outcome:
    """The receiver's answer; one that it did not declare is an error, as on the bus."""
    declined = next(on.declines(event) for on in receiver.listens if on.event is type(event))
    outcome = Returned(declined) if declined is not None else await receiver(stage.context, event)
    if isinstance(outcome, Returned):
        assert outcome.reason in receiver.returns
    return outcome


async def deliver_again(stage: Stage, receiver: Receiver, event: Any) -> Outcome:
    """Delivers the event twice, and asserts that the second delivery changes nothing.

    No document changes; what is owed is owed under ids that are owed already; what clients are told, which is at least
    once, they are told in the same words, so that they can know it by its `event_id`.
    """
    first = await deliver(stage, receiver, event)
    documents, tracked = await stage.everything(), dict(stage.recorder.tracked)
    notices = list(stage.notifier.notices)
    stage.clock.advance(seconds=90)
    second = await deliver(stage, receiver, event)
    assert await stage.everything() == documents
    assert stage.recorder.tracked == tracked
    assert set(owed_ids(second)) <= set(owed_ids(first))
    again: list[Notice] = stage.notifier.notices[len(notices) :]
    assert all(notice in notices for notice in again)
    return second
