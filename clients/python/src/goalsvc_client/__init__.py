"""A typed client of goalsvc. See README.md."""

from goalsvc_client.client import GoalsvcClient
from goalsvc_client.errors import ApiError, GoalsvcError, UnreachableError
from goalsvc_client.generated.models.event_view import EventView
from goalsvc_client.retries import RetryPolicy
from goalsvc_client.webhooks import WebhookVerificationError, verify_webhook

__all__ = [
    "ApiError",
    "EventView",
    "GoalsvcClient",
    "GoalsvcError",
    "RetryPolicy",
    "UnreachableError",
    "WebhookVerificationError",
    "verify_webhook",
]
