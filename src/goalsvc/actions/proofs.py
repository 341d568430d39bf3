"""Four proofs that what is believed agrees with what others say: clocks, ledger, promises, silence."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median

from bson import ObjectId

from goalsvc.context import Context
from goalsvc.domain.reading import instant, mapping, sequence, text
from goalsvc.models.bounded import rows
from goalsvc.models.census import count_clocks
from goalsvc.models.database import WITH_PROMISES
from goalsvc.models.received_webhooks import MOST_LOOKED_AT, Webhook, latest_webhooks
from goalsvc.models.statement import balances_by_kind

#: A list of a proof has at most so many items, and says when there are more.
MOST_LISTED = 30
_OVERDUE = timedelta(seconds=60)
_SPAN = timedelta(minutes=5)
_SPANS = 12
#: As many webhooks in a usual span make a span without any a silence.
_USUAL = 10


@dataclass(frozen=True, slots=True)
class RunningClock:
    """A goal whose clock runs."""

    goal_id: str
    user_id: str | None
    started_at: datetime | None
    confirmed_at: datetime | None
    """When a webhook or Pusher's answer confirmed last that it runs."""


@dataclass(frozen=True, slots=True)
class Clocks:
    """The clocks that run, and those that Pusher has not confirmed for long."""

    running: int
    unconfirmed: int
    items: Sequence[RunningClock]
    """Those that were confirmed longest ago."""
    more: bool


@dataclass(frozen=True, slots=True)
class Ledger:
    """What all accounts hold by kind; `sum` is 0 when the books are right."""

    sum: int
    kinds: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class Overdue:
    """A promise that has been due for more than 60 s."""

    collection: str
    document_id: str
    task: str
    due_at: datetime


@dataclass(frozen=True, slots=True)
class Promises:
    """The promises that are late, the one that has been due for longest first."""

    items: Sequence[Overdue]
    more: bool


@dataclass(frozen=True, slots=True)
class Span:
    """Five minutes, and how many webhook events arrived in them."""

    at: datetime
    events: int


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A join without a leave, of which no clock runs."""

    user_id: str
    goal_id: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Silence:
    """Whether webhooks come as usual."""

    spans: Sequence[Span]
    """Of the last hour, oldest first; where very many arrived, only those that were looked through."""
    unanswered: Sequence[Unanswered]
    more_unanswered: bool
    refused: Mapping[str, int]
    """Code → webhooks among those looked through."""
    truncated: bool
    """Whether there are more webhook events than were looked through."""

    @property
    def silent(self) -> bool:
        """Whether none has arrived for five minutes, where ten or more are usual."""
        *before, last = [span.events for span in self.spans]
        return last == 0 and bool(before) and median(before) >= _USUAL


@dataclass(frozen=True, slots=True)
class Proofs:
    """The four proofs."""

    at: datetime
    clocks: Clocks
    ledger: Ledger
    promises: Promises
    silence: Silence

    @property
    def faults(self) -> list[str]:
        """What does not agree, in words."""
        wrong = []
        if number := self.clocks.unconfirmed:
            wrong.append(f"{number} running {'clock is' if number == 1 else 'clocks are'} not confirmed by Pusher")
        if self.ledger.sum:
            wrong.append(f"all accounts sum to {self.ledger.sum} instead of 0")
        if number := len(self.promises.items):
            more = " or more" if self.promises.more else ""
            wrong.append(f"{number}{more} {'promise is' if number == 1 else 'promises are'} older than 60 s")
        if self.silence.silent:
            wrong.append("no webhook has arrived for five minutes, where some are usual")
        return wrong

    @property
    def sentence(self) -> str:
        """Whether all agrees, or what does not."""
        if faults := self.faults:
            return f"Not all agrees: {'; '.join(faults)}."
        return (
            "All agrees: the clocks with Pusher, the ledger with its transfers; no promise is late, and webhooks come "
            "as usual."
        )


async def prove(context: Context) -> Proofs:
    """Makes the four proofs from what is stored; Pusher is not asked. Raises PyMongoError."""
    now = context.clock.now()
    within = timedelta(seconds=3 * context.settings.reconcile_seconds)
    clocks, ledger, promises, silence = await asyncio.gather(
        _clocks(now, within), _ledger(), _promises(now), _silence(now)
    )
    return Proofs(now, clocks, ledger, promises, silence)


async def _clocks(now: datetime, within: timedelta) -> Clocks:
    fields = {"clock.known_at": 1, "context.started": 1, "metadata.user_id": 1}
    order = [("clock.known_at", 1)]
    found, (running, unconfirmed) = await asyncio.gather(
        rows("goals", {"clock.running": True}, sort=order, limit=MOST_LISTED + 1, fields=fields),
        count_clocks(now, within),
    )
    return Clocks(running, unconfirmed, [_clock(goal) for goal in found[:MOST_LISTED]], len(found) > MOST_LISTED)


def _clock(goal: Mapping[str, object]) -> RunningClock:
    clock, times, about = (mapping(goal.get(name)) for name in ("clock", "context", "metadata"))
    user_id, started, known = text(about.get("user_id")), instant(times.get("started")), instant(clock.get("known_at"))
    return RunningClock(str(goal["_id"]), user_id, started, known)


async def _ledger() -> Ledger:
    kinds = await balances_by_kind()
    return Ledger(sum(kind["balance"] for kind in kinds.values()), kinds)


async def _promises(now: datetime) -> Promises:
    late = now - _OVERDUE
    found = await asyncio.gather(*(_overdue(name, late) for name in WITH_PROMISES))
    overdue = sorted((one for some in found for one in some), key=lambda one: one.due_at)
    return Promises(overdue[:MOST_LISTED], len(overdue) > MOST_LISTED)


async def _overdue(collection: str, late: datetime) -> list[Overdue]:
    """Returns the late promises of a collection, of at most one document more than are listed."""
    where, order = {"promises.at": {"$lt": late}}, [("promises.at", 1)]
    fields = {"promises.task": 1, "promises.at": 1}
    found = []
    for document in await rows(collection, where, sort=order, limit=MOST_LISTED + 1, fields=fields):
        for promise in map(mapping, sequence(document.get("promises"))):
            due = instant(promise.get("at"))
            if due is not None and due < late:
                found.append(Overdue(collection, str(document["_id"]), str(promise.get("task")), due))
    return found


async def _silence(now: datetime) -> Silence:
    webhooks = await latest_webhooks(now)
    truncated = len(webhooks) == MOST_LOOKED_AT
    joined = _open_joins(webhooks)
    running = await _running({one.goal_id for one in joined})
    unanswered = [one for one in joined if one.goal_id not in running]
    refused: dict[str, int] = {}
    for webhook in webhooks:
        if webhook.refused:
            code = webhook.reason.partition(":")[0]
            refused[code] = refused.get(code, 0) + 1
    spans = _spans(webhooks, now, since=webhooks[-1].at if truncated else None)
    return Silence(spans, unanswered[:MOST_LISTED], len(unanswered) > MOST_LISTED, refused, truncated)


def _spans(webhooks: Sequence[Webhook], now: datetime, since: datetime | None) -> list[Span]:
    """Returns the spans of the last hour; those that begin before `since` are left out, but for the last one."""
    begin = now.replace(second=0, microsecond=0) + timedelta(minutes=1) - _SPANS * _SPAN
    counts = [0] * _SPANS
    for webhook in webhooks:
        if webhook.at >= begin:
            counts[min(_SPANS - 1, (webhook.at - begin) // _SPAN)] += 1
    spans = [Span(begin + number * _SPAN, count) for number, count in enumerate(counts)]
    return [span for span in spans if since is None or span.at >= since] or spans[-1:]


def _open_joins(webhooks: Sequence[Webhook]) -> list[Unanswered]:
    """Returns the joins to goals' channels after which no leave of the same user came; `webhooks` are the latest first."""
    last: dict[tuple[str, str], Webhook] = {}
    for webhook in webhooks:
        if webhook.goal_id and webhook.user_id:
            last.setdefault((webhook.user_id, webhook.channel), webhook)
    joined = (webhook for webhook in last.values() if webhook.name == "member_added")
    return [Unanswered(webhook.user_id, webhook.goal_id, webhook.at) for webhook in joined]


async def _running(goal_ids: set[str]) -> set[str]:
    """Returns those of the goals whose clock runs."""
    ids = [ObjectId(goal_id) for goal_id in goal_ids if ObjectId.is_valid(goal_id)]
    found = await rows("goals", {"_id": {"$in": ids}, "clock.running": True}, limit=len(ids) or 1, fields={"_id": 1})
    return {str(goal["_id"]) for goal in found}
