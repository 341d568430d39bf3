"""Notices to clients that are sent by a task: what Pusher would not take at once, what is told later, who has paid."""

from collections.abc import Mapping, Sequence

import msgspec
from bson import ObjectId

from goalsvc.context import Context, Telling
from goalsvc.domain.documents import Stored
from goalsvc.domain.lanes import Lane
from goalsvc.domain.outcome import Done, FollowUp, Fulfils, Outcome, Reason, Returned
from goalsvc.domain.pace import slot_of, slot_start
from goalsvc.domain.promises import PromiseRef
from goalsvc.errors import NotYetError
from goalsvc.models.goal import Goal
from goalsvc.models.stream_notices import PresenceNotice
from goalsvc.models.wallet import Earning
from goalsvc.signals.notices import GoalProgressUpdated, UserEntered, UserLeft, WalletUpdated
from goalsvc.tasks import announcements
from goalsvc.tasks.arguments import DocumentId
from goalsvc.tasks.task import task


@task(lane=Lane.NOTICES)
async def deliver_notice(
    context: Context, *, channels: Sequence[str], event: str, data: Mapping[str, object]
) -> Outcome:
    """Sends a notice to Pusher; at least once, so its data has an `event_id`.

    One that newer progress supersedes is dropped, and so is a presence notice that another one has replaced meanwhile.
    """
    if event == GoalProgressUpdated.event and await _is_superseded(data):
        return Returned(Reason.OVERTAKEN)
    if event in _OF_PRESENCE and await _is_replaced(context.promise):
        return Returned(Reason.OVERTAKEN)
    context.note(notice=event)
    await context.notifier.trigger(channels, event, msgspec.to_builtins(data))  # a date is a text there
    return Done(event)


async def _is_superseded(data: Mapping[str, object]) -> bool:
    """Whether the goal has more progress by now: the notice of that has been sent, or is promised."""
    goal_id, progress = data.get("goal_id"), data.get("progress")
    if not isinstance(goal_id, str) or not ObjectId.is_valid(goal_id) or not isinstance(progress, int):
        return False
    goal = await Goal.by_id(ObjectId(goal_id))
    return goal is not None and goal.progress > progress


_OF_PRESENCE = frozenset({UserEntered.event, UserLeft.event})


async def _is_replaced(promise: PromiseRef | None) -> bool:
    """Returns whether a later notice of this viewer has been sent or is promised, or the notice has expired."""
    if promise is None or promise.collection != PresenceNotice.get_settings().name:
        return False
    notice = await PresenceNotice.read(promise.document_id)
    return notice is None or notice.promise(promise.promise_id) is None


#: Ids of the promises: a goal holds one of each, however long Pusher does not work.
LATE_PROGRESS = "goal.progress.updated:late"
PAYERS = "notify_payers"


@task(lane=Lane.NOTICES)
async def notify_progress(context: Context, *, goal_id: DocumentId, since: int, contributions: bool = False) -> Outcome:
    """Sends `goal.progress.updated` with the goal's progress as it is now, in place of notices that came too fast.

    `since` is the progress that clients were told last. The promise is fulfilled only while progress is what was sent.
    """
    identity = ObjectId(goal_id)
    goal = await Goal.by_id(identity)
    if goal is None:
        return Returned(Reason.UNKNOWN_GOAL)
    known = context.pace.sent(goal_id)
    told = max(since, known)
    if late := goal.progress > known:  # of an amount of 0, `since` is the progress itself
        now, per_second = context.clock.now(), context.settings.progress_notices_per_second
        slot = slot_of(now, per_second)
        if not await context.pace.claim(goal_id, slot, goal.progress, shared=contributions):
            wait = slot_start(slot + 1, per_second) - now
            raise NotYetError("clients were told this goal's progress just now", max(wait.total_seconds(), 0.001))
        sent = False
        try:
            event_id = f"progress:{goal_id}:{goal.progress}"
            event = announcements.progressed(goal, event_id, now, goal.progress - told, goal.progress)
            notice = GoalProgressUpdated.of(event, amount=event.amount)
            channels, data = notice.channels_of(event.streamer_id), msgspec.to_builtins(notice.data())
            context.note(notice=notice.event)
            await context.notifier.trigger(channels, notice.event, data)
            sent = True
        finally:
            context.pace.end(goal_id, goal.progress, sent=sent)
    if not await Goal.fulfil_at(identity, LATE_PROGRESS, goal.progress):
        raise NotYetError("progress has been raised meanwhile", 0.001)
    what = f"progress {goal.progress}" if late else "clients were told meanwhile"
    return Done(what, fulfils=_still_to_fulfil(context.promise, identity, LATE_PROGRESS))


#: Of how many contributions one run of `notify_payers` tells.
MOST_PAYMENTS = 1_000


def _of_payer(goal_id: str, upto: int, payer: Stored) -> Telling:
    """Returns `wallet.updated` for a viewer's contributions to a goal, of which those up to that progress are told."""
    notice = WalletUpdated(
        event_id=f"{goal_id}:{upto}:{payer['user_id']}",
        user_id=payer["user_id"],
        direction="debit",
        amount=payer["amount"],
        shares=payer["contributions"],
        escrow_id=f"show_funding:{goal_id}",
        transfer_id=payer["transfer_id"] if payer["contributions"] == 1 else None,
        at=payer["at"],
    )
    (channel,) = notice.channels_of(notice.user_id)
    return Telling(channel, notice.event, msgspec.to_builtins(notice.data()))


async def _last_told(goal_id: ObjectId, progress: int, told: int) -> int:
    """Returns the progress up to which one run tells payers."""
    if progress - told <= MOST_PAYMENTS:  # each contribution is of a token at least
        return progress
    reached = await Earning.reached_by(goal_id, told, MOST_PAYMENTS)
    return progress if reached is None else min(reached, progress)


@task(lane=Lane.NOTICES)
async def notify_payers(context: Context, *, goal_id: DocumentId, above: int) -> Outcome:
    """Sends `wallet.updated` to each viewer who has contributed to the goal since it was sent last, with the sum.

    One run tells of a thousand contributions, and is run again for the rest. `above` is the goal's progress then. How far it
    tells is written first, so that a repeat tells the same sums under the same event ids. The promise is fulfilled only while
    progress is what was told.
    """
    identity = ObjectId(goal_id)
    goal = await Goal.by_id(identity)
    if goal is None:
        return Returned(Reason.UNKNOWN_GOAL)
    # Not `above`, once a run has begun to tell: what one that died has not told is told by the next.
    told = above if goal.payers_told is None else goal.payers_told
    begun = told < goal.payers_upto <= goal.progress
    upto = goal.payers_upto if begun else await _last_told(identity, goal.progress, told)
    follow_ups: list[FollowUp] = []
    paid = await Earning.paid_between(identity, told, upto)
    if paid:
        context.note(notice=WalletUpdated.event)
        if not begun and not await Goal.tell_payers(identity, told, upto):
            raise NotYetError("another run tells the payers of this goal", 1.0)
        tellings = [_of_payer(goal_id, upto, payer) for payer in paid]
        # When Pusher fails, all are told again under the same event ids: not one promise for each viewer.
        for place in await context.notifier.trigger_each(tellings):
            one = tellings[place]
            follow_up = deliver_notice.follow_up(channels=[one.channel], event=one.event, data=one.data)
            follow_ups.append(follow_up.called(f"{one.event}:{one.data['event_id']}"))
    if not await Goal.fulfil_at(identity, PAYERS, upto, payers_told=upto):
        await Goal.changes({"_id": identity}, {"$max": {"payers_told": upto}})
        raise NotYetError("others have contributed meanwhile", 0.001)
    return Done(
        f"{len(paid)} payer{'' if len(paid) == 1 else 's'}",
        follow_ups=tuple(follow_ups),
        fulfils=_still_to_fulfil(context.promise, identity, PAYERS),
    )


def _still_to_fulfil(promise: PromiseRef | None, goal_id: ObjectId, name: str) -> Fulfils:
    """Says whether the promise is still there: one of that name was fulfilled with the goal's progress, another one was not."""
    fulfilled = promise is None or (promise.document_id, promise.promise_id) == (goal_id, name)
    return Fulfils.NONE_YET if fulfilled else Fulfils.OWN
