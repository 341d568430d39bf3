"""Sends signed webhooks to addresses that come from outside: guarded, bounded, without redirects."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

import httpx
from standardwebhooks.webhooks import Webhook

from goalsvc.domain.webhooks import ANSWER_SECONDS, KEPT_BYTES
from goalsvc.errors import ExternalServiceError, GoalsvcError
from goalsvc.integrations.breaker import measured
from goalsvc.integrations.egress import EgressRules, GuardedTransport
from goalsvc.integrations.tracecontext import exporting, outgoing
from goalsvc.settings import Settings

_USER_AGENT = "goalsvc-webhooks/1"


@dataclass(frozen=True, slots=True)
class Answer:
    """What an endpoint answered: its status, or why there was no answer; and the first KB of the body."""

    status: int | None
    error: str | None = None
    body: str = ""


def signatures(secrets: Sequence[str], message_id: str, at: datetime, body: bytes) -> str:
    """The value of `webhook-signature`: one signature for each valid secret, separated by spaces."""
    return " ".join(Webhook(secret).sign(message_id, at, body.decode()) for secret in secrets)


class WebhookSender:
    """Posts events. Each host has connections of its own, so a slow one holds up no other."""

    def __init__(self, client: httpx.AsyncClient, answer_seconds: float = ANSWER_SECONDS) -> None:
        self._client, self._exporting = client, exporting()
        self._answer_seconds = answer_seconds

    async def send(self, url: str, secrets: Sequence[str], message_id: str, at: datetime, body: bytes) -> Answer:
        """Posts the signed body; never raises for what the endpoint or the network does."""
        headers = {
            "content-type": "application/json",
            "accept-encoding": "identity",
            "user-agent": _USER_AGENT,
            "webhook-id": message_id,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": signatures(secrets, message_id, at, body),
            **outgoing(self._exporting),
        }
        with measured("deliveries") as call:
            answer = await self._answer_to(url, headers, body)
            if answer.status is None:
                call.outcome = "down"
            else:
                call.outcome = "ok" if 200 <= answer.status < 300 else "refused"
        return answer

    async def _answer_to(self, url: str, headers: dict[str, str], body: bytes) -> Answer:
        try:
            async with asyncio.timeout(self._answer_seconds):
                return await self._post(url, headers, body)
        except TimeoutError:
            return Answer(None, f"no answer within {self._answer_seconds:g} s")
        except ExternalServiceError as error:  # the guard: the name has no address
            return Answer(None, f"could not be reached ({error.fault})")
        except GoalsvcError as error:  # the guard: the address is not one that may be called
            return Answer(None, f"the address is refused: {error.message}")
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, UnicodeError, OSError) as error:
            return Answer(None, f"could not be reached ({type(error).__name__})")

    async def _post(self, url: str, headers: dict[str, str], body: bytes) -> Answer:
        async with self._client.stream("POST", url, headers=headers, content=body) as answer:
            kept = b""
            async for chunk in answer.aiter_raw():
                kept += chunk[: KEPT_BYTES - len(kept)]
                if len(kept) >= KEPT_BYTES:
                    break  # the rest is not read
            return Answer(answer.status_code, body=kept.decode("utf-8", "replace").replace("\0", ""))


@asynccontextmanager
async def open_sender(settings: Settings, answer_seconds: float = ANSWER_SECONDS) -> AsyncIterator[WebhookSender]:
    """A sender by the settings' rules of egress, which waits so long for an answer; its connections are closed on leaving."""
    rules = EgressRules(
        private=settings.webhook_allow_private,
        service="webhook",
        private_setting="GOALSVC_WEBHOOK_ALLOW_PRIVATE",
    )
    transport = GuardedTransport(rules)
    async with httpx.AsyncClient(transport=transport, follow_redirects=False, timeout=None) as client:  # noqa: S113
        yield WebhookSender(client, answer_seconds)
