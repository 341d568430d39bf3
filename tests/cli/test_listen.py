"""`goalsvc listen` and `goalsvc why`, their parts: what is posted, and what is printed."""

import json
from datetime import UTC, datetime
from typing import Any

from standardwebhooks.webhooks import Webhook

from goalsvc.actions.webhooks import new_secret
from goalsvc.commands.listen import forward
from goalsvc.commands.why import lines_of
from tests.deliveries.receiver import a_receiver

EVENT = {
    "id": "evt_1",
    "type": "goal.ended",
    "sequence": 7,
    "goal_id": "68143584d6945d32e732cc21",
    "created_at": datetime(2026, 1, 1, tzinfo=UTC).isoformat(),
    "data": {"text": "héllo ☃"},
}


async def test_an_event_is_posted_as_an_outgoing_webhook_is() -> None:
    secret = new_secret()
    async with a_receiver() as receiver:
        line = await forward(receiver.url, secret, EVENT)
    ((headers, body),) = receiver.received
    assert Webhook(secret).verify(body, headers) == EVENT
    assert "goal.ended" in line
    assert line.endswith("-> 200")


async def test_a_server_that_is_not_there_is_told_of() -> None:
    line = await forward("http://127.0.0.1:9/", new_secret(), EVENT)
    assert "no answer" in line


def test_the_sentence_and_the_chain() -> None:
    answer: dict[str, Any] = {
        "sentence": "alice received 5 tokens.",
        "chain": [{"kind": "goal", "id": "g", "text": "the show", "at": None}],
    }
    assert list(lines_of(json.loads(json.dumps(answer)))) == ["alice received 5 tokens.", "  goal         g  the show"]
