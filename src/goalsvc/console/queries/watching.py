"""Whether the wiring is right, and whether what is believed agrees with what others say."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median
from typing import Any

from goalsvc.console.queries import rows
from goalsvc.domain.channels import TEST_KEY
from goalsvc.domain.durations import duration_text
from goalsvc.models.census import Census, take_census
from goalsvc.models.received_webhooks import LATE, Webhook, latest_webhooks
from goalsvc.settings import Settings
from goalsvc.settings_checks import problems_of, warnings_of

#: The events that Pusher has to send, and where they are switched on.
EVENT_TYPES: Mapping[str, str] = {
    "member_added": "Presence",
    "member_removed": "Presence",
    "channel_occupied": "Channel existence",
    "channel_vacated": "Channel existence",
}
_OVERDUE = timedelta(seconds=60)
_MOST_LISTED = 30
_BIN = timedelta(minutes=5)
_BINS = 12


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must be right: its name, whether it is, and what to do if not."""

    name: str
    ok: bool
    text: str


@dataclass(frozen=True, slots=True)
class Wiring:
    """What the start page shows."""

    checks: Sequence[Check]
    types: Sequence[tuple[str, datetime | None]]
    keys: Sequence[tuple[str, datetime | None]]

    @property
    def sentence(self) -> str:
        """Whether the wiring is right."""
        wrong = [check for check in self.checks if not check.ok]
        if not wrong:
            return "The wiring is right: webhooks come, they are signed, and in time."
        return f"The wiring is not complete. Look at: {', '.join(check.name for check in wrong)}."


async def wiring(settings: Settings, now: datetime) -> Wiring:
    """Returns whether webhooks come and are signed, which types have come, and which settings are missing."""
    webhooks = await latest_webhooks(now)
    taken = [webhook for webhook in webhooks if not webhook.refused and not webhook.app_key.startswith(TEST_KEY)]
    types = [(name, _last(taken, lambda webhook, name=name: webhook.name == name)) for name in EVENT_TYPES]
    keys = [(key, _last(taken, lambda webhook, key=key: webhook.app_key == key)) for key in settings.webhook_secrets]
    return Wiring([*_webhook_checks(webhooks, taken, types), *_setting_checks(settings)], types, keys)


def _last(webhooks: Sequence[Webhook], fits: Any) -> datetime | None:
    return next((webhook.at for webhook in webhooks if fits(webhook)), None)


def _webhook_checks(
    webhooks: Sequence[Webhook], taken: Sequence[Webhook], types: Sequence[tuple[str, datetime | None]]
) -> list[Check]:
    missing = [name for name, at in types if at is None]
    switches = sorted({EVENT_TYPES[name] for name in missing})
    unsigned = [webhook for webhook in webhooks if webhook.refused and "signature" in webhook.reason]
    delays = sorted(webhook.late for webhook in taken if webhook.late is not None)
    typical = delays[len(delays) // 2] if delays else timedelta()
    return [
        Check(
            "webhooks",
            bool(taken),
            "yes" if taken else "None has been taken. Set the webhook in the Pusher app's settings to …/notify/pusher.",
        ),
        Check(
            "event types",
            not missing,
            "yes" if not missing else f"{', '.join(missing)} never came. Switch on: {', '.join(switches)}.",
        ),
        Check(
            "signatures",
            not unsigned,
            "yes"
            if not unsigned
            else f"{len(unsigned)} had a wrong signature; compare GOALSVC_PUSHER_KEY and _SECRET.",
        ),
        Check(
            "clocks",
            typical <= LATE,
            (
                f"half of the webhooks arrived within {duration_text(typical)}"
                + ("." if typical <= LATE else ": Pusher is late, or the clock of this machine is ahead.")
                if delays
                else "yes"
            ),
        ),
    ]


def _setting_checks(settings: Settings) -> list[Check]:
    problems, warnings = problems_of(settings), warnings_of(settings)
    return [
        Check("settings", not problems, "; ".join(problems) or "yes"),
        Check("what is switched off", not warnings, "; ".join(warnings) or "yes"),
    ]


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """The four proofs."""

    census: Census
    clocks: Sequence[Mapping[str, object]]
    """Goals whose clocks run, the one that was confirmed longest ago first."""
    overdue: Sequence[tuple[str, str, timedelta]]
    """Promises older than 60 s: goal, task, how old."""
    more_overdue: bool
    """Whether there are more than are shown."""
    sum: int
    """Of all accounts; 0 when the books are right."""
    minutes: Sequence[tuple[datetime, int]]
    """Webhook events in each of the last five-minute spans."""
    unanswered: Sequence[tuple[str, str, datetime]]
    """Joins without a leave, of which no clock runs: user, channel, when."""
    refused: Mapping[str, int]
    now: datetime

    @property
    def silent(self) -> bool:
        """Whether webhooks have stopped coming: none for five minutes, where ten or more are usual."""
        *before, (_, last) = self.minutes
        return last == 0 and median(count for _, count in before) >= 10

    @property
    def sentence(self) -> str:
        """Whether all agrees, or what does not."""
        wrong = []
        if self.census.unconfirmed_clocks:
            number = self.census.unconfirmed_clocks
            wrong.append(f"{number} running {'clock is' if number == 1 else 'clocks are'} not confirmed by Pusher")
        if self.sum:
            wrong.append(f"all accounts sum to {self.sum} instead of 0")
        if self.overdue:
            more = " or more" if self.more_overdue else ""
            wrong.append(f"{len(self.overdue)}{more} promises of goals are older than 60 s")
        if self.silent:
            wrong.append("no webhook has arrived for five minutes, where some are usual")
        if not wrong:
            return (
                "All agrees: the clocks with Pusher, the ledger with its transfers; no promise is late, and webhooks come "
                "as usual."
            )
        return f"Not all agrees: {'; '.join(wrong)}."


async def reconciliation(now: datetime, confirmed_within: timedelta, total: int) -> Reconciliation:
    """Returns the four proofs; `total` is what all accounts sum to."""
    fields = {"clock.known_at": 1, "context.started": 1, "metadata.user_id": 1, "_cls": 1}
    late = {"promises.at": {"$lt": now - _OVERDUE}}
    census, clocks, owing, webhooks = await asyncio.gather(
        take_census(now, confirmed_within),
        rows("goals", {"clock.running": True}, sort=[("clock.known_at", 1)], limit=_MOST_LISTED, fields=fields),
        rows("goals", late, limit=_MOST_LISTED + 1, fields={"promises.task": 1, "promises.at": 1}),
        latest_webhooks(now),
    )
    running = {str(goal["_id"]) for goal in clocks}
    overdue = [
        (str(goal["_id"]), str(promise.get("task")), now - promise["at"])
        for goal in owing
        for promise in goal.get("promises") or ()
        if isinstance(promise.get("at"), datetime) and promise["at"] < now - _OVERDUE
    ]
    begin = now.replace(second=0, microsecond=0) + timedelta(minutes=1) - _BINS * _BIN
    counts = [0] * _BINS
    reasons: dict[str, int] = {}
    for webhook in webhooks:
        if webhook.at >= begin and webhook.at <= now:
            counts[min(_BINS - 1, (webhook.at - begin) // _BIN)] += 1
        if webhook.refused:
            code = webhook.reason.partition(":")[0]
            reasons[code] = reasons.get(code, 0) + 1
    minutes = [(begin + number * _BIN, count) for number, count in enumerate(counts)]
    more = len(owing) > _MOST_LISTED or len(overdue) > _MOST_LISTED
    unanswered = _unanswered(webhooks, running)
    return Reconciliation(census, clocks, overdue[:_MOST_LISTED], more, total, minutes, unanswered, reasons, now)


def _unanswered(webhooks: Sequence[Webhook], running: set[str]) -> list[tuple[str, str, datetime]]:
    """Returns who joined a goal's channel and was not seen to leave it, although its clock does not run."""
    last: dict[tuple[str, str], Webhook] = {}
    for webhook in webhooks:  # the latest first
        if webhook.goal_id and webhook.user_id:
            last.setdefault((webhook.user_id, webhook.channel), webhook)
    joined = [webhook for webhook in last.values() if webhook.name == "member_added" and webhook.goal_id not in running]
    return [(webhook.user_id, webhook.goal_id, webhook.at) for webhook in joined][:_MOST_LISTED]
