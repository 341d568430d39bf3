"""A funded show, played from outside, step by step."""

import time
from dataclasses import dataclass
from typing import Any

import httpx

from goalsvc.devstack.waiting import holds_within

from .webhooks import send

PRICE = 100


@dataclass
class FundedShow:
    """A show that `viewer` has paid for and `streamer` performs."""

    client: httpx.Client
    streamer: str = "alice"
    viewer: str = "bob"
    session_id: str = ""
    funding_id: str = ""
    show_id: str = ""

    def _post(self, path: str, body: dict[str, Any], key: str = "") -> dict[str, Any]:
        headers = {"Idempotency-Key": f"{key}-{self.streamer}"} if key else {}
        answer = self.client.post(path, json=body, headers=headers)
        assert answer.status_code in (200, 201), answer.text
        return dict(answer.json())

    def fund(self) -> None:
        """Begins the session and its goal, which is paid for in full."""
        self.session_id = self._post("/v1/sessions", {"user_id": self.streamer})["id"]
        body = {
            "kind": "FundingGoal",
            "session_id": self.session_id,
            "levels": [{"title": "Ukulele", "target": PRICE}],
            "metadata": {"show": {"title": "Ukulele", "target": 5}},
        }
        self.funding_id = self._post("/v1/goals", body)["id"]
        self._post(f"/v1/wallets/{self.viewer}/deposits", {"amount": PRICE}, "deposit")
        gift = {"user_id": self.viewer, "amount": PRICE}
        self._post(f"/v1/goals/{self.funding_id}/contributions", gift, "contribution")

    def begins(self, seconds: float = 30.0) -> bool:
        """Whether the show began within that time."""
        return holds_within(seconds, self._has_begun, every=0.1)

    def _has_begun(self) -> bool:
        session = self.client.get(f"/v1/sessions/{self.session_id}").json()
        self.show_id = next((p["show_goal"] for p in session.get("show_goal_pairs", []) if p.get("show_goal")), "")
        return bool(self.show_id)

    def perform(self) -> list[int]:
        """Tells of a join and a leave that reach the target; how the webhooks were answered."""
        now = int(time.time() * 1000)
        return [
            send(self.client, "member_added", self.show_id, self.streamer, now - 6000),
            send(self.client, "member_removed", self.show_id, self.streamer, now),
        ]

    def balance(self) -> int:
        """The tokens of the performer."""
        return int(self.client.get(f"/v1/wallets/{self.streamer}").json()["balance"])

    def is_paid(self, seconds: float = 30.0) -> bool:
        """Whether the performer was paid within that time, the price and no more."""
        return holds_within(seconds, lambda: self.balance() == PRICE, every=0.1)
