"""Statements and reports: every line is there, the balances follow from one another, and all of it can be exported."""

import csv
import io
from typing import Any
from urllib.parse import urlencode

import pytest

from goalsvc.app import create_app
from tests.api.times import times_asked_for
from tests.world import START, World

from .scenes import a_funded_show

pytestmark = pytest.mark.real


async def rows(world: World, path: str) -> list[dict[str, str]]:
    response = await world.call("GET", path)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/csv")
    return list(csv.DictReader(io.StringIO(response.text)))


class TestWallet:
    async def played(self, world: World) -> None:
        show = await world.given(a_funded_show(seconds=360, earnings=2))
        await world.after(seconds=100)
        await world.post("/v1/wallets/viewer-1/deposits", {"amount": 50, "reference": "pi_7"})
        await world.performs(show, seconds=100)
        await world.ends(show)
        await world.settle(patience=400)

    async def test_each_line_follows_from_the_one_before(self, world: World) -> None:
        await self.played(world)
        found = await world.get("/v1/wallets/viewer-1/statement")
        assert (found["opening_balance"], found["closing_balance"], found["truncated"]) == (0, 151, False)
        assert [(line["change"], line["balance"]) for line in found["lines"]] == [
            (101, 101), (-101, 0), (50, 50), (101, 151),
        ]  # fmt: skip
        deposit, contribution, _, refund = found["lines"]
        assert (deposit["counterparty"], deposit["cause"]["call"]) == ("issuer", "deposit")
        assert contribution["counterparty"] == refund["counterparty"]
        assert contribution["counterparty"].startswith("escrow:show_funding:")
        assert found["lines"][2]["reference"] == "pi_7"
        assert all(line["at"] for line in found["lines"])

    async def test_of_a_period(self, world: World) -> None:
        await self.played(world)
        begin = (world.all("transfers", {"reference": "pi_7"})[0]["created_at"]).isoformat().replace("+00:00", "Z")
        found = await world.get(f"/v1/wallets/viewer-1/statement?from={begin}")
        assert (found["opening_balance"], len(found["lines"]), found["closing_balance"]) == (0, 2, 151)
        found = await world.get(f"/v1/wallets/viewer-1/statement?to={begin}")
        assert (found["opening_balance"], len(found["lines"]), found["closing_balance"]) == (0, 2, 0)
        wrong = f"/v1/wallets/viewer-1/statement?from={begin}&to=2020-01-01T00:00:00Z"
        assert (await world.call("GET", wrong)).status_code == 422

    async def test_as_csv(self, world: World) -> None:
        await self.played(world)
        lines = await rows(world, "/v1/wallets/viewer-1/statement?format=csv")
        assert [line["transfer_id"] for line in (lines[0], lines[-1])] == ["opening balance", "closing balance"]
        assert [line["balance"] for line in lines] == ["0", "101", "0", "50", "151", "151"]
        assert lines[1]["call"] == "deposit"

    async def test_of_an_unknown_user_is_empty(self, world: World) -> None:
        found = await world.get("/v1/wallets/nobody/statement")
        assert (found["opening_balance"], found["lines"], found["closing_balance"]) == (0, [], 0)

    async def test_shows_a_debt(self, world: World) -> None:
        deposit = await world.post("/v1/wallets/bob/deposits", {"amount": 10})
        await world.post("/v1/transfers", {"from_user_id": "bob", "to_user_id": "alice", "amount": 10})
        await world.post(f"/v1/deposits/{deposit['id']}/reverse")
        assert (await world.get("/v1/wallets/bob/statement"))["debt"] == 10


class TestEscrow:
    async def test_what_came_in_and_what_left(self, world: World) -> None:
        show = await world.given(a_funded_show(seconds=360, earnings=2))
        await world.performs(show, seconds=400)
        await world.settle(patience=60)
        found = await world.get(f"/v1/escrows/{show.escrow_id}/statement")
        assert (found["opening_balance"], found["closing_balance"]) == (0, 0)
        assert sorted(line["change"] for line in found["lines"]) == [-102, -101, 101, 102]
        assert [row["balance"] for row in await rows(world, f"/v1/escrows/{show.escrow_id}/statement?format=csv")][
            -1
        ] == "0"


class TestReports:
    async def test_balances_sum_to_zero(self, world: World) -> None:
        await world.given(a_funded_show(seconds=360, earnings=2))
        await world.deposits("bob", 40)
        await world.post("/v1/wallets/bob/withdrawals", {"amount": 15})
        found: dict[str, Any] = await world.get("/v1/reports/balances")
        assert found["sum"] == 0
        assert {kind: one["balance"] for kind, one in found["kinds"].items()} == {
            "issuer": -243, "user": 25, "escrow": 203, "payout": 15,
        }  # fmt: skip

    async def test_transfers_of_a_period(self, world: World) -> None:
        await world.given(a_funded_show(seconds=360, earnings=2))
        found = await rows(world, "/v1/reports/transfers")
        assert [row["transfer_id"] for row in found] == [
            t["_id"] for t in sorted(world.all("transfers"), key=lambda t: (t["created_at"], t["_id"]))
        ]
        assert {row["amount"] for row in found} == {"101", "102"}
        assert await rows(world, f"/v1/reports/transfers?to={START.isoformat().replace('+00:00', 'Z')}") == []

    async def test_a_cell_is_no_formula(self, world: World) -> None:
        await world.post("/v1/wallets/bob/deposits", {"amount": 1, "reference": "=HYPERLINK(1)"})
        (row,) = await rows(world, "/v1/reports/transfers")
        assert row["reference"] == "'=HYPERLINK(1)"


@pytest.mark.parametrize("given", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59+14:00"])
async def test_the_first_and_the_last_time_of_the_calendar_are_times(world: World, given: str) -> None:
    await world.given(a_funded_show(seconds=360, earnings=2))
    for method, path, body, name in times_asked_for(create_app().openapi()):
        if body is None:
            answer = await world.call(method.upper(), f"{path}?{urlencode({name: given})}")
            assert answer.status_code == 200, (path, name, answer.text)
