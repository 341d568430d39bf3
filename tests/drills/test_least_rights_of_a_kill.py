"""With access control switched on, the one role readWrite suffices to end what a killed process left open (decision 0061)."""

import time
from pathlib import Path

import pytest

from tests.outages.test_abandoned import killed_holding_the_issuer

from .only import in_drills
from .processes import running_stack
from .test_rights import mongod_with_users

pytestmark = [pytest.mark.real, in_drills]

#: MongoDB alone would free the issuer after 60 to 90 s.
MOST_SECONDS = 10.0


def test_deposits_go_on_after_a_kill_in_a_transaction(tmp_path: Path, redis_url: str) -> None:
    with mongod_with_users(tmp_path) as url, running_stack(tmp_path, url, redis_url, RECORDING="off") as stack:
        with stack.client() as client:
            path = "/v1/wallets/bob/deposits"
            assert client.post(path, json={"amount": 5}, headers={"Idempotency-Key": "first"}).status_code == 201
            with killed_holding_the_issuer(url):
                begun = time.monotonic()
                answer = client.post(path, json={"amount": 7}, headers={"Idempotency-Key": "second"})
                took = time.monotonic() - begun
            assert answer.status_code == 201, answer.text
            assert client.get("/v1/wallets/bob").json()["balance"] == 12
        logs = stack.logs()
    assert took < MOST_SECONDS
    assert "1 transactions of a process that is gone were ended" in logs
    assert "cannot be ended" not in logs
