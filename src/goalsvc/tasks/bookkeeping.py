"""Bookkeeping: the nightly audit and seal, withdrawals that return by themselves, and what may not hold tokens for ever."""

import logging
from collections.abc import Mapping
from datetime import datetime, timedelta

from bson import ObjectId

from goalsvc.context import Context
from goalsvc.domain.goals import CLASSES, user_id
from goalsvc.domain.outcome import Done, Outcome, Reason, Returned
from goalsvc.domain.views import session_token_view, streamer_views
from goalsvc.models.audit import AuditEvent
from goalsvc.models.audit_figures import keep_audit, last_audit
from goalsvc.models.book_audit import audit
from goalsvc.models.database import Database
from goalsvc.models.filters import ACTIVE, UNSET, at_most
from goalsvc.models.goal import ENDED, PAUSED, Goal
from goalsvc.models.records import TrackingEvent
from goalsvc.models.seal import Seal, seal_days, seal_key
from goalsvc.models.session import Session
from goalsvc.models.wallet import Earning
from goalsvc.tasks.dispatch import enqueue_promises
from goalsvc.tasks.one_by_one import by_itself
from goalsvc.tasks.task import Task, task

log = logging.getLogger(__name__)

#: How many documents one run of a periodic task looks at.
_BATCH = 500


@task(timeout=3600)
async def audit_books(context: Context) -> Outcome:
    """Seals the days that have closed and audits the books, once a day; a finding is an error in the log.

    Days that someone else has sealed are audited as well, as is what an audit that broke off has left.
    """
    now = context.clock.now()
    last = await Seal.find_all().sort("-_id").first_or_none()
    key = seal_key(context.settings.seal_secret)
    sealed = await seal_days(now, key)
    figures = await last_audit()
    if not sealed and last is not None and figures is not None and figures.at >= last.sealed_at:
        return Returned(Reason.ALREADY_DONE)
    report = await audit(now, key)
    await keep_audit(report.figures())
    for finding in report.findings[:20]:
        log.error("audit: %s: %s", finding.code, finding.message)
    return Done(f"{report.wrong} findings, {len(sealed)} days sealed")


@task()
async def expire_unbegun_shows(context: Context) -> Outcome:
    """Ends the funded shows that have not started in time; their contributors are refunded."""
    now, ended = context.clock.now(), 0
    unbegun = {"context.started": UNSET}
    where = {"_cls": {"$in": CLASSES}, "active": ACTIVE, "begin_by": at_most(now), **unbegun}
    found = Goal.get_motor_collection().find(where, {"_id": 1}).sort("begin_by")
    async for document in found:
        ending = Goal.deactivate(document["_id"], now, context.origin, extra=unbegun)
        goal = await by_itself(f"goals/{document['_id']} is not ended", ending)
        if goal is not None:
            enqueue_promises(context, goal, [ENDED, PAUSED])
            ended += 1
            if ended == _BATCH:
                break
    return Done(f"{ended} shows") if ended else Returned(Reason.ALREADY_DONE)


@task()
async def end_idle_sessions(context: Context) -> Outcome:
    """Ends the sessions that no webhook and no call has concerned for `GOALSVC_SESSION_LIMIT`, with their open goals."""
    ended = 0
    before = context.clock.now() - timedelta(seconds=context.settings.session_limit)
    where = {"statuses.ended": UNSET, "statuses.started": at_most(before)}
    found = Session.get_motor_collection().find(where, {"user_id": 1, "statuses": 1}).sort("statuses.started")
    async for document in found:
        ended += await by_itself(f"sessions/{document['_id']} is not ended", _end_idle(context, document, before)) or 0
        if ended == _BATCH:
            break
    return Done(f"{ended} sessions") if ended else Returned(Reason.ALREADY_DONE)


async def _end_idle(context: Context, document: Mapping[str, object], before: datetime) -> bool:
    """Ends the session if nothing has concerned it since then; returns whether it did."""
    session_id, now = document["_id"], context.clock.now()
    if not isinstance(session_id, ObjectId) or await _busy_since(document, before, now):
        return False
    session = await Session.end(session_id, now, context.origin)
    if session is None:
        return False
    enqueue_promises(context, session, ["end_session"])
    await context.cache.drop([session_token_view(session.id), *streamer_views(session.user_id)])
    return True


async def _busy_since(session: Mapping[str, object], before: datetime, now: datetime) -> bool:
    """Returns whether a webhook or a call has concerned that session, its goals or its stream after that instant.

    Read from what they leave: tracking events of channels, audit events of calls, contributions, and the goals themselves.
    """
    either = {"$in": [session["_id"], str(session["_id"])]}
    goals = Goal.get_motor_collection().find({"conditions.session_id": either}, {"context": 1, "clock.known_at": 1})
    ids: list[ObjectId | str] = []
    async for goal in goals:
        if isinstance(goal["_id"], ObjectId | str):  # what another service names otherwise has no events and earnings
            ids.append(goal["_id"])
        context, clock = goal.get("context"), goal.get("clock")
        names = ("started", "paused", "last_updated")
        times = [context.get(name) for name in names] if isinstance(context, dict) else []
        times += [clock.get("known_at")] if isinstance(clock, dict) else []
        if isinstance(goal["_id"], ObjectId) and before < goal["_id"].generation_time <= now:
            return True  # made by the clock of its writer, which may not be ours
        if any(isinstance(time, datetime) and time > before for time in times):
            return True
    texts, streamer = [str(session["_id"]), *map(str, ids)], user_id(session.get("user_id"))
    later = {"$gt": before}
    for model, where in (
        (TrackingEvent, {"about": {"$in": [*texts, *([streamer] if streamer else [])]}, "at": later}),
        (AuditEvent, {"targets": {"$in": texts}, "at": later}),
        (Earning, {"goal_id": {"$in": ids}, "created_at": later}),
    ):
        if await model.get_motor_collection().find_one(where, {"_id": 1}) is not None:
            return True
    return False


def make_end_abandoned(database: Database) -> Task[[]]:
    """Returns the periodic task that frees documents of that database which a killed process holds in a transaction."""

    @task()
    async def end_abandoned_transactions(_context: Context) -> Outcome:
        """Ends transactions that made no call for 2 s: their process is gone, and others wait for the documents they wrote."""
        ended = await database.end_abandoned()
        return Done(f"{ended} transactions") if ended else Returned(Reason.ALREADY_DONE)

    return end_abandoned_transactions
