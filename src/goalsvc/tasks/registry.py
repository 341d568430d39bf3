"""The registry: every task that workers run. Nothing is found by magic."""

from typing import Any

from goalsvc.models.database import WITH_PROMISES
from goalsvc.tasks import (
    bookkeeping,
    clips,
    division,
    ending,
    escrow,
    events,
    funding,
    notices,
    progress,
    reconcile,
    recording,
    redrives,
    returns,
    settling,
    shares,
    withdrawals,
)
from goalsvc.tasks.sweep import make_sweep
from goalsvc.tasks.task import Task

_ALL_BUT_THE_SWEEP: tuple[Task[Any], ...] = (
    progress.announce_goal_started,
    progress.increment_goal_progress,
    funding.announce_contributions,
    ending.deactivate_goal,
    ending.end_session,
    ending.expire_goals,
    settling.seal_clock,
    division.settle_exclusive_share,
    clips.create_post_from_livestream,
    clips.clip_livestream_as_asset,
    recording.StartRecord,
    recording.StopRecord,
    recording.StartSnapshot,
    escrow.escrow_out,
    escrow.refund_escrow,
    shares.settle_shares,
    escrow.update_bi_escrow,
    escrow.transfer_escrow,
    escrow.transfer,
    escrow.announce_escrow_share,
    escrow.conclude_escrow_share,
    escrow.hold_exclusive,
    returns.return_payout,
    withdrawals.return_withdrawals,
    bookkeeping.audit_books,
    bookkeeping.end_idle_sessions,
    bookkeeping.expire_unbegun_shows,
    notices.deliver_notice,
    events.write_event,
    notices.notify_progress,
    notices.notify_payers,
    reconcile.reconcile_clocks,
    redrives.redrive_letters,
)

sweep_promises = make_sweep(WITH_PROMISES, _ALL_BUT_THE_SWEEP)

ALL: tuple[Task[Any], ...] = (*_ALL_BUT_THE_SWEEP, sweep_promises)
