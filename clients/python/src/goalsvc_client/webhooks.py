"""Outgoing webhooks of goalsvc, as the platform's backend receives them."""

import json
from collections.abc import Mapping

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from goalsvc_client.generated.models.event_view import EventView

__all__ = ["WebhookVerificationError", "verify_webhook"]


def verify_webhook(headers: Mapping[str, str], body: bytes | str, secret: str) -> EventView:
    """Returns the event that the webhook delivers.

    `body` is what was received, byte for byte; `secret` is that of the endpoint (`whsec_…`). Raises WebhookVerificationError
    for a signature that is not of this secret, and for one that is more than five minutes old.
    """
    Webhook(secret).verify(body, {name.lower(): value for name, value in headers.items()})
    return EventView.from_dict(json.loads(body))
