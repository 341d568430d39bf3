"""`goalsvc audit`, against a running API: exit status 0 on right books, 1 and the ids of what is wrong on broken ones."""

import json
from typing import Any

import httpx
import pytest
from pymongo import MongoClient

from .command_line import Cli


@pytest.fixture
def wallet(api: httpx.Client) -> str:
    """The account of a user who has deposited tokens."""
    key = {"Idempotency-Key": "books"}
    api.post("/v1/wallets/u-books/deposits", json={"amount": 70}, headers=key).raise_for_status()
    return "user:u-books"


def test_right_books(cli: Cli, wallet: str) -> None:
    told = cli("audit")
    assert told.status == 0
    assert told.out.endswith("nothing is wrong\n")
    report = json.loads(cli("audit", "--json").out)
    assert (report["ok"], report["findings"]) == (True, [])
    assert report["transfers"] > 0


def test_broken_books(stack: dict[str, Any], cli: Cli, wallet: str) -> None:
    with MongoClient[dict[str, Any]](stack["mongodb_url"]) as client:
        accounts = client.get_default_database()["accounts"]
        accounts.update_one({"_id": wallet}, {"$inc": {"balance": 1}})
        try:
            told = cli("audit")
            assert told.status == 1
            assert f"balance_differs  {wallet}\n    {wallet} holds 71 tokens, its transfers sum to 70\n" in told.out
            assert "sum_not_zero  accounts\n" in told.out
            report = json.loads(cli("audit", "--json").out)
            assert {finding["id"] for finding in report["findings"]} == {"accounts", wallet}
        finally:
            accounts.update_one({"_id": wallet}, {"$inc": {"balance": -1}})


def test_the_days_that_have_closed_are_sealed(cli: Cli, wallet: str) -> None:
    report = json.loads(cli("audit", "--seal", "--json").out)
    assert report["sealed"] == []  # the tokens came today
    assert report["ok"]
