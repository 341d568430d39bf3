"""Whether the wiring is right: webhooks come and are signed, each type has come, no setting is missing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from goalsvc.context import Context
from goalsvc.domain.channels import TEST_KEY
from goalsvc.domain.durations import duration_text
from goalsvc.models.received_webhooks import LATE, Webhook, latest_webhooks
from goalsvc.settings import Settings
from goalsvc.settings_checks import problems_of, warnings_of

#: The events that Pusher has to send, and where they are switched on.
EVENT_TYPES = {
    "member_added": "Presence",
    "member_removed": "Presence",
    "channel_occupied": "Channel existence",
    "channel_vacated": "Channel existence",
}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must be right: its name, whether it is, and what to do if not; the text may be empty if it is."""

    name: str
    right: bool
    text: str = ""


@dataclass(frozen=True, slots=True)
class Last:
    """When a webhook of that type, or with that app key, was taken last; None where none was found."""

    name: str
    at: datetime | None


@dataclass(frozen=True, slots=True)
class Wiring:
    """What was found out about the wiring."""

    at: datetime
    checks: Sequence[Check]
    event_types: Sequence[Last]
    app_keys: Sequence[Last]

    @property
    def right(self) -> bool:
        """Whether each check is right."""
        return all(check.right for check in self.checks)

    @property
    def sentence(self) -> str:
        """Whether the wiring is right, and otherwise where to look."""
        if self.right:
            return "The wiring is right: webhooks come, they are signed, and in time."
        return (
            f"The wiring is not complete. Look at: {', '.join(check.name for check in self.checks if not check.right)}."
        )


async def check_wiring(context: Context) -> Wiring:
    """Checks the latest 5,000 webhook events and the settings, and returns what each check found. Raises PyMongoError."""
    now = context.clock.now()
    webhooks = await latest_webhooks(now)
    taken = [webhook for webhook in webhooks if not webhook.refused and not webhook.app_key.startswith(TEST_KEY)]
    types = [_last(name, taken, lambda webhook: webhook.name) for name in EVENT_TYPES]
    keys = [_last(key, taken, lambda webhook: webhook.app_key) for key in context.settings.webhook_secrets]
    checks = [
        _taken(taken),
        _types(types),
        _signatures(webhooks),
        _clocks(taken),
        *_settings(context.settings),
    ]
    return Wiring(now, checks, types, keys)


def _last(name: str, webhooks: Sequence[Webhook], name_of: Callable[[Webhook], str]) -> Last:
    return Last(name, next((webhook.at for webhook in webhooks if name_of(webhook) == name), None))


def _taken(taken: Sequence[Webhook]) -> Check:
    if taken:
        return Check("webhooks", right=True)
    text = "None has been taken. Set the webhook in the Pusher app's settings to …/notify/pusher."
    return Check("webhooks", right=False, text=text)


def _types(types: Sequence[Last]) -> Check:
    missing = [one.name for one in types if one.at is None]
    if not missing:
        return Check("event types", right=True)
    switches = ", ".join(sorted({EVENT_TYPES[name] for name in missing}))
    return Check("event types", right=False, text=f"{', '.join(missing)} never came. Switch on: {switches}.")


def _signatures(webhooks: Sequence[Webhook]) -> Check:
    unsigned = sum(webhook.refused and "signature" in webhook.reason for webhook in webhooks)
    if not unsigned:
        return Check("signatures", right=True)
    text = f"{unsigned} had a wrong signature; compare GOALSVC_PUSHER_KEY and _SECRET."
    return Check("signatures", right=False, text=text)


def _clocks(taken: Sequence[Webhook]) -> Check:
    delays = sorted(webhook.late for webhook in taken if webhook.late is not None)
    if not delays:
        return Check("clocks", right=True)
    typical: timedelta = delays[len(delays) // 2]
    told = f"half of the webhooks arrived within {duration_text(typical)}"
    if typical <= LATE:
        return Check("clocks", right=True, text=f"{told}.")
    return Check("clocks", right=False, text=f"{told}: Pusher is late, or the clock of this machine is ahead.")


def _settings(settings: Settings) -> list[Check]:
    problems, warnings = problems_of(settings), warnings_of(settings)
    return [
        Check("settings", right=not problems, text="; ".join(problems)),
        Check("what is switched off", right=not warnings, text="; ".join(warnings)),
    ]
