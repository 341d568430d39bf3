"""Money in and out: each verb moves what it says, once, and the books stay right."""

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from bson import ObjectId

from goalsvc.domain.events import TELLING_OF_TRANSFERS
from goalsvc.domain.promises import PromiseRef
from goalsvc.models.wallet import Account
from goalsvc.tasks.returns import return_payout
from tests.world import World, joined, left

from .scenes import Show, a_funded_show, a_funding, a_request, a_stage, an_exclusive, contributes

pytestmark = pytest.mark.real


async def refused(world: World, path: str, body: Any, *, key: str | None = None) -> tuple[int, str]:
    response = await world.call("POST", path, body, key=key)
    assert not response.is_success, response.text
    return response.status_code, response.json()["code"]


async def a_paid_show(world: World, *, fee_bps: int | None = None) -> Show:
    if fee_bps is None:
        show = await world.given(a_funded_show(seconds=360, earnings=3))
    else:
        funding = await world.given(a_funding(target=300, fee_bps=fee_bps))
        given = {"viewer-1": 101, "viewer-2": 199}
        for viewer, amount in given.items():
            await world.deposits(viewer, amount)
            await contributes(world, funding, viewer, amount)
        await world.settle()
        (pair,) = world.session(funding.session_id)["show_goal_pairs"]
        show = Show(str(pair["show_goal"]), funding.session_id, funding.id, given, 360)
    await world.performs(show, seconds=400)
    await world.settle(patience=60)
    return show


class TestDeposits:
    async def test_a_reference_is_unique_for_the_wallet(self, world: World) -> None:
        body = {"amount": 10, "reference": "pi_1", "metadata": {"card": "visa"}}
        made = await world.post("/v1/wallets/bob/deposits", body, key="k1")
        assert (made["reference"], made["metadata"]) == ("pi_1", {"card": "visa"})
        assert await world.post("/v1/wallets/bob/deposits", body, key="k1") == made
        assert await refused(world, "/v1/wallets/bob/deposits", body, key="k2") == (409, "reference_used")
        await world.post("/v1/wallets/eve/deposits", body)
        assert (world.balance("bob"), world.balance("eve")) == (10, 10)

    async def test_at_the_same_time_it_counts_once(self, world: World) -> None:
        body = {"amount": 10, "reference": "pi_1"}
        answers = await asyncio.gather(*(world.call("POST", "/v1/wallets/bob/deposits", body) for _ in range(10)))
        assert sorted(answer.status_code for answer in answers) == [201] + [409] * 9
        assert world.balance("bob") == 10

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({"amount": 0}, "amount"),
            ({"amount": -1}, "amount"),
            ({"amount": 1.5}, "amount"),
            ({"amount": "1"}, "amount"),
            ({"amount": 10**13}, "amount"),
            ({"amount": 1, "reference": ""}, "reference"),
            ({"amount": 1, "metadata": {"x": "y" * 2048}}, "metadata"),
            ({"amount": 1, "metadata": {"a.b": 1}}, "metadata.a.b"),
        ],
    )
    async def test_what_is_refused(self, world: World, body: dict[str, Any], field: str) -> None:
        response = await world.call("POST", "/v1/wallets/bob/deposits", body)
        assert response.status_code == 422
        assert field in response.text
        assert world.balance("bob") == 0


class TestWithdrawals:
    async def begun(self, world: World, amount: int = 60) -> str:
        await world.deposits("bob", 100)
        body = {"amount": amount, "reference": "payout-1"}
        made = await world.post("/v1/wallets/bob/withdrawals", body, key="w1")
        assert made["state"] == "pending"
        assert await world.post("/v1/wallets/bob/withdrawals", body, key="w1") == made
        assert (world.balance("bob"), world.account(f"payout:{made['id']}")) == (100 - amount, amount)
        return str(made["id"])

    async def test_one_that_arrived_leaves_the_ledger(self, world: World) -> None:
        identity = await self.begun(world)
        confirmed = await world.post(f"/v1/withdrawals/{identity}/confirm")
        assert confirmed["state"] == "confirmed"
        assert await world.post(f"/v1/withdrawals/{identity}/confirm") == confirmed
        assert await refused(world, f"/v1/withdrawals/{identity}/return", None) == (409, "withdrawal_concluded")
        assert (world.balance("bob"), world.account(f"payout:{identity}"), world.account("issuer")) == (40, 0, -40)
        assert await world.get(f"/v1/withdrawals/{identity}") == confirmed

    async def test_one_that_did_not_arrive_returns(self, world: World) -> None:
        identity = await self.begun(world)
        returned = await world.post(f"/v1/withdrawals/{identity}/return", {"reason": "closed account"})
        assert (returned["state"], returned["reason"]) == ("returned", "closed account")
        await world.post(f"/v1/withdrawals/{identity}/return", {"reason": "again"})
        assert await refused(world, f"/v1/withdrawals/{identity}/confirm", None) == (409, "withdrawal_concluded")
        assert (world.balance("bob"), world.account(f"payout:{identity}")) == (100, 0)

    @pytest.mark.parametrize("verb", ["confirm", "return"])
    async def test_its_end_notes_what_the_caller_says(self, world: World, verb: str) -> None:
        identity = await self.begun(world)
        path = f"/v1/withdrawals/{identity}/{verb}"
        taken = await refused(world, path, {"reference": "payout-1"})
        assert (taken, world.account(f"payout:{identity}")) == ((409, "reference_used"), 60)
        too_much = await world.call("POST", path, {"metadata": {"x": "y" * 2048}})
        assert (too_much.status_code, "metadata" in too_much.text) == (422, True)
        ended = await world.post(path, {"reference": "bank-7", "metadata": {"batch": 3}})
        assert await world.post(path, {"reference": "bank-8"}) == ended
        (noted,) = (await world.get("/v1/transfers?reference=bank-7"))["items"]
        assert (noted["id"], noted["amount"]) == (f"withdrawal-{identity}-{ended['state']}", 60)
        assert noted["metadata"]["batch"] == 3
        assert (await world.get("/v1/transfers?reference=bank-8"))["items"] == []
        (told,) = (await world.get(f"/v1/events?types=withdrawal.{ended['state']}"))["items"]
        assert (told["data"]["transfer"]["reference"], told["data"]["transfer"]["metadata"]) == (
            "bank-7",
            noted["metadata"],
        )

    async def test_both_at_once_end_one_way(self, world: World) -> None:
        identity = await self.begun(world)
        paths = [f"/v1/withdrawals/{identity}/{verb}" for verb in ("confirm", "return") for _ in range(4)]
        answers = await asyncio.gather(*(world.call("POST", path) for path in paths))
        assert {answer.status_code for answer in answers} == {200, 409}
        state = (await world.get(f"/v1/withdrawals/{identity}"))["state"]
        assert world.balance("bob") == (40 if state == "confirmed" else 100)
        assert world.account(f"payout:{identity}") == 0

    async def test_one_that_nothing_ends_returns_by_itself(self, world: World) -> None:
        identity = await self.begun(world)
        await world.after(seconds=604_800 - 1)
        await world.tick("return_withdrawals")
        assert world.balance("bob") == 40
        await world.after(seconds=2)
        await world.tick("return_withdrawals")
        assert (world.balance("bob"), world.account(f"payout:{identity}")) == (100, 0)

    async def test_more_than_the_wallet_holds(self, world: World) -> None:
        await world.deposits("bob", 100)
        assert await refused(world, "/v1/wallets/bob/withdrawals", {"amount": 101}) == (402, "insufficient_funds")
        assert (await world.get("/v1/wallets/bob/withdrawals"))["items"] == []

    async def test_an_unknown_one(self, world: World) -> None:
        assert await refused(world, f"/v1/withdrawals/wd_{'0' * 24}/confirm", None) == (404, "not_found")


class TestAdjustmentsAndTips:
    async def test_in_either_direction(self, world: World) -> None:
        path = "/v1/wallets/bob/adjustments"
        made = await world.post(path, {"amount": 30, "direction": "credit", "reason": "goodwill"}, key="a")
        assert made["metadata"]["reason"] == "goodwill"
        await world.post(path, {"amount": 30, "direction": "credit", "reason": "goodwill"}, key="a")
        await world.post(path, {"amount": 10, "direction": "debit", "reason": "mistake"})
        assert world.balance("bob") == 20
        too_much = {"amount": 21, "direction": "debit", "reason": "x"}
        assert await refused(world, path, too_much) == (402, "insufficient_funds")
        assert (await world.call("POST", path, {"amount": 1, "direction": "debit"})).status_code == 422

    async def test_a_tip(self, world: World) -> None:
        await world.deposits("bob", 30)
        tip = {"from_user_id": "bob", "to_user_id": "alice", "amount": 20}
        made = await world.post("/v1/transfers", tip, key="t")
        assert await world.post("/v1/transfers", tip, key="t") == made
        assert (world.balance("bob"), world.balance("alice")) == (10, 20)
        assert await refused(world, "/v1/transfers", tip) == (402, "insufficient_funds")
        oneself = tip | {"to_user_id": "bob", "amount": 1}
        assert await refused(world, "/v1/transfers", oneself) == (409, "self_payment")
        escrow = tip | {"from_user_id": "escrow:show_funding:x"}
        assert (await world.call("POST", "/v1/transfers", escrow)).status_code == 422

    @pytest.mark.parametrize("other", [{"reason": "another"}, {"metadata": {"case": 8}}])
    async def test_a_key_is_for_one_body(self, world: World, other: dict[str, Any]) -> None:
        body = {"amount": 20, "direction": "credit", "reason": "a correction", "metadata": {"case": 7}}
        made = await world.post("/v1/wallets/bob/adjustments", body, key="a")
        assert await world.post("/v1/wallets/bob/adjustments", body, key="a") == made
        answer = await refused(world, "/v1/wallets/bob/adjustments", body | other, key="a")
        assert (answer, world.balance("bob")) == ((409, "transfer_conflict"), 20)

    @pytest.mark.parametrize(
        ("path", "body"),
        [
            ("/v1/wallets/bob/deposits", {"amount": 20}),
            ("/v1/transfers", {"from_user_id": "bob", "to_user_id": "alice", "amount": 5}),
            ("/v1/wallets/bob/withdrawals", {"amount": 5}),
        ],
    )
    async def test_values_of_other_types_are_another_body(self, world: World, path: str, body: dict[str, Any]) -> None:
        await world.post("/v1/wallets/bob/deposits", {"amount": 100})
        given = {"one": 1, "deep": [{"yes": True, "much": 2**60, "part": 0.1, "none": None}], "é": "\u2028"}
        made = await world.post(path, body | {"metadata": given}, key="k")
        assert await world.post(path, body | {"metadata": dict(reversed(given.items()))}, key="k") == made
        for other in (
            {"one": True},
            {"one": 1.0},
            {"deep": [{"yes": 1, "much": 2**60, "part": 0.1, "none": None}]},
            {"deep": [{"yes": True, "much": 2**60, "part": 0.1, "none": False}]},
        ):
            answer = await refused(world, path, body | {"metadata": given | other}, key="k")
            assert answer == (409, "transfer_conflict"), other


class TestReversals:
    async def deposited(self, world: World, user: str, amount: int) -> str:
        return str((await world.post(f"/v1/wallets/{user}/deposits", {"amount": amount}))["id"])

    async def reversed(self, world: World, deposit: str) -> dict[str, Any]:
        answer: dict[str, Any] = await world.post(f"/v1/deposits/{deposit}/reverse", {"reason": "chargeback"})
        return answer

    async def test_from_the_wallet_once(self, world: World) -> None:
        deposit = await self.deposited(world, "bob", 100)
        answer = await self.reversed(world, deposit)
        assert (answer["from_wallet"], answer["from_escrows"], answer["from_debt"]) == (100, 0, 0)
        await world.after(seconds=60)
        assert await self.reversed(world, deposit) == answer
        assert answer["created_at"] == answer["updated_at"] == (await world.get("/v1/wallets/bob"))["updated_at"]
        assert (world.balance("bob"), world.account("issuer")) == (0, 0)

    @pytest.mark.parametrize("spent", [0, 60, 100])
    async def test_notes_what_the_caller_says(self, world: World, spent: int) -> None:
        deposit = await self.deposited(world, "bob", 100)
        if spent:
            await world.post("/v1/transfers", {"from_user_id": "bob", "to_user_id": "alice", "amount": spent})
        body = {"reason": "chargeback", "reference": "dp_1", "metadata": {"case": 7}}
        await world.post(f"/v1/deposits/{deposit}/reverse", body)
        (noted,) = (await world.get("/v1/transfers?reference=dp_1"))["items"]
        assert noted["metadata"] == {"case": 7, "transfer_id": deposit, "reason": "chargeback"}
        assert noted["amount"] == (100 if spent == 100 else 100 - spent)

    async def test_a_reference_is_used_once(self, world: World) -> None:
        deposits = [await self.deposited(world, "bob", 100) for _ in range(2)]
        await world.post(f"/v1/deposits/{deposits[0]}/reverse", {"reference": "dp_1"})
        again = await refused(world, f"/v1/deposits/{deposits[1]}/reverse", {"reference": "dp_1"})
        assert (again, world.balance("bob")) == ((409, "reference_used"), 100)
        await world.post(f"/v1/deposits/{deposits[1]}/reverse", {"reference": "dp_2"})
        assert world.balance("bob") == 0

    async def test_at_the_same_time_it_is_reversed_once(self, world: World) -> None:
        deposit = await self.deposited(world, "bob", 100)
        await self.deposited(world, "bob", 500)
        path = f"/v1/deposits/{deposit}/reverse"
        answers = await asyncio.gather(*(world.call("POST", path, {"reason": "x"}) for _ in range(8)))
        assert {answer.status_code for answer in answers} == {201}
        assert world.balance("bob") == 500

    async def test_what_was_spent_is_a_debt_that_income_repays_first(self, world: World) -> None:
        deposit = await self.deposited(world, "bob", 100)
        await world.post("/v1/transfers", {"from_user_id": "bob", "to_user_id": "alice", "amount": 70})
        answer = await self.reversed(world, deposit)
        assert (answer["from_wallet"], answer["from_debt"]) == (30, 70)
        assert (world.balance("bob"), world.account("debt:bob")) == (0, -70)
        await self.deposited(world, "bob", 50)
        assert (world.balance("bob"), world.account("debt:bob")) == (0, -20)
        await self.deposited(world, "bob", 50)
        assert (world.balance("bob"), world.account("debt:bob")) == (30, 0)
        await self.deposited(world, "bob", 5)
        assert world.balance("bob") == 35

    async def test_from_an_open_contribution(self, world: World) -> None:
        funding = await world.given(a_funding(target=300))
        deposit = await self.deposited(world, "bob", 100)
        await self.deposited(world, "bob", 100)
        await contributes(world, funding, "bob", 150)
        answer = await self.reversed(world, deposit)
        assert (answer["from_wallet"], answer["from_escrows"], answer["from_debt"]) == (100, 50, 0)
        escrow = f"show_funding:{funding.id}"
        assert (world.balance("bob"), world.escrow(escrow), world.account("debt:bob")) == (0, 100, 0)
        await world.ends(funding)
        await world.settle(patience=60)
        assert (world.balance("bob"), world.escrow(escrow)) == (100, 0)
        assert world.all("dead_letters") == []

    async def test_a_show_pays_what_is_left(self, world: World) -> None:
        show = await world.given(a_funded_show(seconds=360, earnings=3))
        deposit = next(t["_id"] for t in world.all("transfers", {"tags": "deposit"}) if t["to_user_id"] == "viewer-2")
        answer = await self.reversed(world, deposit)
        assert (answer["from_escrows"], answer["from_debt"]) == (102, 0)
        await world.performs(show, seconds=400)
        await world.settle(patience=60)
        assert (world.balance(show.streamer), world.escrow(show.escrow_id)) == (show.escrow - 102, 0)

    async def test_from_the_hold_of_a_request(self, world: World) -> None:
        request = await world.given(a_request(price=300))
        deposit = next(t["_id"] for t in world.all("transfers", {"tags": "deposit"}))
        answer = await self.reversed(world, deposit)
        assert (answer["from_escrows"], answer["from_debt"], world.escrow(request.escrow_id)) == (300, 0, 0)
        await world.post(f"/v1/goals/{request.id}/decline")
        await world.settle(patience=60)
        assert world.balance("bob") == 0

    async def test_from_an_older_contribution_than_hundreds_of_others(self, world: World) -> None:
        older, newer = await world.given(a_funding(target=1000)), await world.given(a_funding(target=1000))
        deposit = await self.deposited(world, "bob", 310)
        await contributes(world, older, "bob", 100)
        path, body = f"/v1/goals/{newer.id}/contributions", {"user_id": "bob", "amount": 1}
        await asyncio.gather(*(world.post(path, body) for _ in range(210)))
        answer = await self.reversed(world, deposit)
        assert (answer["from_wallet"], answer["from_escrows"], answer["from_debt"]) == (310, 310, 0)
        escrows = [world.escrow(f"show_funding:{goal.id}") for goal in (older, newer)]
        assert (escrows, world.balance("bob"), world.account("debt:bob")) == ([0, 0], 0, 0)

    async def test_from_an_older_hold_than_hundreds_of_others(self, world: World) -> None:
        request = await world.given(a_request(price=300))
        (deposit,) = [each["_id"] for each in world.all("transfers", {"tags": "deposit"})]
        for _ in range(210):  # requests that were declined since
            hold = {"_id": f"hold-trigger:{(held := ObjectId())}", "from_user_id": "bob", "debit": "user:bob"}
            there = {**hold, "credit": f"escrow:trigger:{held}", "amount": 1, "tags": [f"escrow::trigger:{held}"]}
            back = {"debit": there["credit"], "credit": there["debit"], "to_user_id": "bob", "amount": 1}
            world.database.transfers.insert_many([there, {"_id": f"refund-trigger:{held}-{held}-bob", **back}])
        answer = await self.reversed(world, deposit)
        assert (answer["from_escrows"], answer["from_debt"], world.escrow(request.escrow_id)) == (300, 0, 0)

    @pytest.mark.parametrize("end", ["return", "confirm"])
    async def test_while_a_withdrawal_is_pending(self, world: World, end: str) -> None:
        """What is set aside is not in the wallet: it is a debt, which the tokens repay if they come back."""
        deposit = await self.deposited(world, "bob", 100)
        withdrawal = (await world.post("/v1/wallets/bob/withdrawals", {"amount": 60}))["id"]
        answer = await self.reversed(world, deposit)
        assert (answer["from_wallet"], answer["from_debt"]) == (40, 60)
        assert (world.balance("bob"), world.account(f"payout:{withdrawal}")) == (0, 60)
        await world.post(f"/v1/withdrawals/{withdrawal}/{end}")
        owed = 0 if end == "return" else -60
        assert (world.balance("bob"), world.account("debt:bob"), world.account(f"payout:{withdrawal}")) == (0, owed, 0)

    async def test_after_the_payout_it_is_a_debt(self, world: World) -> None:
        show = await a_paid_show(world)
        deposit = next(t["_id"] for t in world.all("transfers", {"tags": "deposit"}) if t["to_user_id"] == "viewer-1")
        answer = await self.reversed(world, deposit)
        assert answer["from_debt"] == 101
        assert (world.account("debt:viewer-1"), world.balance(show.streamer)) == (-101, show.escrow)

    async def test_after_a_refund_it_is_in_the_wallet(self, world: World) -> None:
        show = await world.given(a_funded_show(seconds=360, earnings=3))
        await world.ends(show)
        await world.settle(patience=60)
        deposit = next(t["_id"] for t in world.all("transfers", {"tags": "deposit"}) if t["to_user_id"] == "viewer-1")
        assert (await self.reversed(world, deposit))["from_wallet"] == 101

    async def test_a_refund_repays_a_debt_first(self, world: World) -> None:
        """The contribution is being refunded while the deposit is reversed: nothing is taken twice."""
        show = await world.given(a_funded_show(seconds=360, earnings=3))
        await world.ends(show)
        deposit = next(t["_id"] for t in world.all("transfers", {"tags": "deposit"}) if t["to_user_id"] == "viewer-1")
        await self.reversed(world, deposit)
        await world.settle(patience=60)
        assert (world.balance("viewer-1"), world.account("debt:viewer-1"), world.escrow(show.escrow_id)) == (0, 0, 0)

    @pytest.mark.parametrize("performed", [True, False])
    async def test_takes_nothing_out_of_an_escrow_whose_earnings_are_being_listed(
        self, world: World, monkeypatch: pytest.MonkeyPatch, performed: bool
    ) -> None:
        """A share that the settlement has listed is paid or refunded by it, told of once, and is no dead letter."""
        show = await world.given(a_funded_show(seconds=360, earnings=3))
        deposit = next(t["_id"] for t in world.all("transfers", {"tags": "deposit"}) if t["to_user_id"] == "viewer-1")
        expect, reversals = Account.expect_shares, list[dict[str, Any]]()

        async def expect_shares(escrow_id: str, shares: int) -> Account | None:
            if not reversals:
                reversals.append(await self.reversed(world, deposit))
            return await expect(escrow_id, shares)

        monkeypatch.setattr(Account, "expect_shares", expect_shares)
        if performed:
            await world.performs(show, seconds=400)
        else:
            await world.ends(show)
        await world.settle(patience=60)
        assert [one["from_escrows"] for one in reversals] == [0]
        told = Counter(
            event["data"]["transfer"]["id"]
            for event in world.all("events", {"type": {"$in": list(TELLING_OF_TRANSFERS)}})
        )
        assert set(told.values()) == {1}
        assert world.escrow(show.escrow_id) == 0
        assert world.balance(show.streamer) == (show.escrow if performed else 0)
        assert world.account("debt:viewer-1") == (-show.contributions["viewer-1"] if performed else 0)

    async def test_only_deposits(self, world: World) -> None:
        await world.deposits("bob", 10)
        tip = await world.post("/v1/transfers", {"from_user_id": "bob", "to_user_id": "alice", "amount": 1})
        path = f"/v1/deposits/{tip['id']}/reverse"
        assert await refused(world, path, {"reason": "x"}) == (409, "not_a_deposit")
        assert await refused(world, "/v1/deposits/nothing/reverse", {"reason": "x"}) == (404, "not_found")


class TestReferences:
    async def test_one_is_unique_for_the_wallet_over_all_verbs(self, world: World) -> None:
        deposits = [str((await world.post("/v1/wallets/bob/deposits", {"amount": 50}))["id"]) for _ in range(3)]
        wallet = "/v1/wallets/bob"
        verbs: list[tuple[str, dict[str, Any]]] = [
            (f"{wallet}/deposits", {"amount": 1}),
            (f"{wallet}/withdrawals", {"amount": 1}),
            (f"{wallet}/adjustments", {"amount": 1, "direction": "credit", "reason": "x"}),
            (f"{wallet}/adjustments", {"amount": 1, "direction": "debit", "reason": "x"}),
            ("/v1/transfers", {"from_user_id": "bob", "to_user_id": "alice", "amount": 1}),
            (f"/v1/deposits/{deposits[0]}/reverse", {"reason": "x"}),
            (f"/v1/deposits/{deposits[1]}/reverse", {"reason": "x"}),
        ]
        for number, (path, body) in enumerate(verbs):
            await world.post(path, body | {"reference": f"reference-{number}"})
            balance, transfers = world.balance("bob"), len(world.all("transfers"))
            for other, given in [*verbs, (f"/v1/deposits/{deposits[2]}/reverse", {"reason": "x"})]:
                if other != path and other not in (verbs[5][0], verbs[6][0]):
                    again = await refused(world, other, given | {"reference": f"reference-{number}"})
                    assert again == (409, "reference_used"), (path, other)
            assert (world.balance("bob"), len(world.all("transfers"))) == (balance, transfers)
        # What another user receives or pays is another account's.
        await world.post("/v1/wallets/alice/deposits", {"amount": 1, "reference": "reference-0"})


class TestGoalRefunds:
    async def test_a_whole_show(self, world: World) -> None:
        show = await a_paid_show(world)
        made = await world.post(f"/v1/goals/{show.id}/refund", {"reason": "wrong song"}, key="r")
        assert (made["amount"], made["returned"], made["paid"]) == (show.escrow, show.escrow, show.escrow)
        assert (await world.get(f"/v1/goals/{show.id}"))["updated_at"] == made["updated_at"] == made["created_at"]
        await world.post(f"/v1/goals/{show.id}/refund", {"reason": "wrong song"}, key="r")
        await world.settle()
        assert world.balance(show.streamer) == 0
        assert {viewer: world.balance(viewer) for viewer in show.contributions} == show.contributions
        again = await refused(world, f"/v1/goals/{show.id}/refund", {"reason": "again"})
        assert again == (409, "more_than_paid")

    @pytest.mark.parametrize("amount", [1, 2, 100, 305])
    async def test_a_part_of_it_to_the_token(self, world: World, amount: int) -> None:
        show = await a_paid_show(world)
        await world.post(f"/v1/goals/{show.id}/refund", {"amount": amount, "reason": "cut short"})
        await world.settle()
        returned = {viewer: world.balance(viewer) for viewer in show.contributions}
        assert sum(returned.values()) == amount
        assert all(
            abs(got - amount * show.contributions[viewer] / show.escrow) <= 1 for viewer, got in returned.items()
        )
        left = {"amount": show.escrow - amount + 1, "reason": "x"}
        assert await refused(world, f"/v1/goals/{show.id}/refund", left) == (409, "more_than_paid")
        await world.post(f"/v1/goals/{show.id}/refund", {"reason": "the rest"})
        await world.settle()
        assert world.balance(show.streamer) == 0

    async def test_what_the_streamer_has_spent_is_a_debt(self, world: World) -> None:
        show = await a_paid_show(world)
        body = {"from_user_id": show.streamer, "to_user_id": "shop", "amount": show.escrow - 6}
        await world.post("/v1/transfers", body)
        await world.post(f"/v1/goals/{show.id}/refund", {"reason": "x"})
        await world.settle()
        assert {viewer: world.balance(viewer) for viewer in show.contributions} == show.contributions
        assert (world.balance(show.streamer), world.account(f"debt:{show.streamer}")) == (0, 6 - show.escrow)
        await world.deposits(show.streamer, 1000)
        assert world.balance(show.streamer) == 1000 - show.escrow + 6

    @pytest.mark.parametrize("spent", [0, 205, 306])
    async def test_notes_what_the_caller_says(self, world: World, spent: int) -> None:
        show = await a_paid_show(world)
        if spent:
            body = {"from_user_id": show.streamer, "to_user_id": "shop", "amount": spent}
            await world.post("/v1/transfers", body)
        body = {"reason": "wrong song", "reference": "ticket-1", "metadata": {"case": 7}}
        made = await world.post(f"/v1/goals/{show.id}/refund", body, key="r")
        (noted,) = (await world.get("/v1/transfers?reference=ticket-1"))["items"]  # before any worker has run
        assert noted["from_user_id"] == (None if spent == 306 else show.streamer)  # otherwise the debt pays
        await world.settle()
        returns = world.all("transfers", {"tags": "goal_refund"})
        assert sum(each["amount"] for each in returns) == show.escrow
        assert {each["metadata"]["case"] for each in returns} == {7}
        assert {each["metadata"]["refund_id"] for each in returns} == {made["id"]}
        assert [each["_id"] for each in returns if "reference" in each] == [noted["id"]]
        assert {viewer: world.balance(viewer) for viewer in show.contributions} == show.contributions
        assert await world.post(f"/v1/goals/{show.id}/refund", body, key="r") == made

    async def test_with_a_reference_that_was_used_changes_nothing(self, world: World) -> None:
        show = await a_paid_show(world)
        path = f"/v1/goals/{show.id}/refund"
        await world.post(f"/v1/wallets/{show.streamer}/deposits", {"amount": 1, "reference": "one"})
        body = {"amount": 10, "reason": "x", "reference": "one"}
        assert await refused(world, path, body) == (409, "reference_used")
        goal = world.goal(show)
        assert (goal.get("returned"), goal.get("promises", [])) == (None, [])
        await world.post(path, body | {"reference": "two"})
        await world.settle()
        assert await refused(world, path, body | {"reference": "two"}) == (409, "reference_used")
        assert (world.balance(show.streamer), world.goal(show)["returned"]) == (show.escrow + 1 - 10, 10)

    async def test_at_the_same_time_a_reference_counts_once(self, world: World) -> None:
        show = await a_paid_show(world)
        path, body = f"/v1/goals/{show.id}/refund", {"amount": 10, "reason": "x", "reference": "one"}
        answers = await asyncio.gather(*(world.call("POST", path, body) for _ in range(6)))
        assert sorted(answer.status_code for answer in answers) == [201] + [409] * 5
        await world.settle()
        assert world.balance(show.streamer) == show.escrow - 10

    async def test_metadata_that_is_too_large_is_refused(self, world: World) -> None:
        show = await a_paid_show(world)
        body = {"reason": "x", "metadata": {"x": "y" * 2048}}
        assert (await world.call("POST", f"/v1/goals/{show.id}/refund", body)).status_code == 422

    async def test_an_exclusive(self, world: World) -> None:
        exclusive = await world.given(an_exclusive(price=360, seconds=360))
        await world.hears(joined(exclusive), joined(exclusive, exclusive.viewer))
        await world.after(seconds=400)
        await world.hears(left(exclusive), left(exclusive, exclusive.viewer))
        await world.settle(patience=400)
        paid = world.balance("alice")
        assert paid == 360
        await world.post(f"/v1/goals/{exclusive.id}/refund", {"amount": 60, "reason": "x"})
        await world.settle()
        assert (world.balance("alice"), world.balance("bob")) == (300, 60)

    async def test_a_show_and_its_funding_have_one_payout(self, world: World) -> None:
        show = await a_paid_show(world)
        made = await world.post(f"/v1/goals/{show.funding_id}/refund", {"amount": 100, "reason": "x"})
        assert (made["goal_id"], made["returned"]) == (show.funding_id, 100)
        made = await world.post(f"/v1/goals/{show.id}/refund", {"reason": "x"})
        assert (made["amount"], made["returned"]) == (show.escrow - 100, show.escrow)
        await world.settle()
        for goal_id in (show.id, show.funding_id):
            assert await refused(world, f"/v1/goals/{goal_id}/refund", {"reason": "x"}) == (409, "more_than_paid")
        assert {viewer: world.balance(viewer) for viewer in show.contributions} == show.contributions
        assert (world.balance(show.streamer), world.account(f"debt:{show.streamer}")) == (0, 0)

    async def test_in_parts_nobody_gets_back_more_than_they_paid(self, world: World) -> None:
        show = await a_paid_show(world)
        for amount in (1, 1, 1, 100, 100):
            await world.post(f"/v1/goals/{show.id}/refund", {"amount": amount, "reason": "x"})
        await world.post(f"/v1/goals/{show.id}/refund", {"reason": "the rest"})
        await world.settle()
        assert {viewer: world.balance(viewer) for viewer in show.contributions} == show.contributions

    async def test_behind_a_dead_letter_of_another(self, world: World) -> None:
        """Each refund reckons what the earlier ones have left, so that none is promised while an earlier one has failed."""
        world.has_dead_letters = True
        show = await a_paid_show(world)
        path = f"/v1/goals/{show.id}/refund"
        earning = {"from_user_id": "viewer-2"}
        world.database.earnings.update_one(earning, {"$set": {"from_user_id": None}})
        body = {"amount": show.escrow // 2, "reason": "cut short"}
        first = await world.post(path, body, key="first")
        await world.settle(patience=600)
        (letter,) = world.all("dead_letters")
        assert letter["task"] == "return_payout"
        world.database.earnings.update_one({"from_user_id": None}, {"$set": earning})
        answer = await world.call("POST", path, {"reason": "the rest"})
        assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
        assert letter["_id"] in answer.json()["detail"]
        assert await world.post(path, body, key="first") == first
        await world.post(f"/v1/dead-letters/{letter['_id']}/redrive")
        await world.settle()
        await world.post(path, {"reason": "the rest"})
        await world.settle()
        assert {viewer: world.balance(viewer) for viewer in show.contributions} == show.contributions

    @pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 0, 2]])
    async def test_those_promised_before_another_died_are_made_in_their_order(
        self, world: World, order: list[int]
    ) -> None:
        world.has_dead_letters = True
        show = await a_paid_show(world)
        earning = {"from_user_id": "viewer-2"}
        world.database.earnings.update_one(earning, {"$set": {"from_user_id": None}})
        for amount in (100, 100, None):
            await world.post(f"/v1/goals/{show.id}/refund", {"amount": amount, "reason": "x"})
        promised = [promise["id"] for promise in world.goal(show)["promises"] if promise["task"] == "return_payout"]
        await world.settle(patience=600)
        letters = [f"goals/{show.id}/{promise_id}" for promise_id in promised]
        assert [letter["_id"] for letter in world.all("dead_letters")] == sorted(letters)
        reasons = {letter["_id"]: letter["reason"] for letter in world.all("dead_letters")}
        assert all("redrive dead letter " in reasons[one] for one in letters[1:])
        world.database.earnings.update_one({"from_user_id": None}, {"$set": earning})
        for number in order:  # no worker runs meanwhile
            await world.post(f"/v1/dead-letters/{letters[number]}/redrive")
        await world.settle()
        assert world.all("dead_letters", {"state": "dead"}) == []
        assert {viewer: world.balance(viewer) for viewer in show.contributions} == show.contributions

    async def test_waits_for_the_end_of_the_payout(self, world: World) -> None:
        show = await a_paid_show(world)
        account, accounts = {"_id": f"escrow:{show.escrow_id}"}, world.database["accounts"]
        (before,) = world.all("accounts", account)
        accounts.update_one(account, {"$set": {"balance": 1}, "$unset": {"completed_at": True}})
        answer = await refused(world, f"/v1/goals/{show.id}/refund", {"reason": "x"})
        assert answer == (409, "payout_under_way")
        accounts.replace_one(account, before)
        await world.post(f"/v1/goals/{show.id}/refund", {"reason": "x"})
        await world.settle()

    async def test_two_runs_at_once_return_a_share_once(self, world: World) -> None:
        funding = await world.given(a_funding(target=300))
        await world.deposits("viewer-1", 300)
        await contributes(world, funding, "viewer-1", 300)
        await world.settle()
        (pair,) = world.session(funding.session_id)["show_goal_pairs"]
        show = Show(str(pair["show_goal"]), funding.session_id, funding.id, {"viewer-1": 300}, 360)
        await world.performs(show, seconds=400)
        await world.settle(patience=60)
        refund = await world.post(f"/v1/goals/{show.id}/refund", {"reason": "x"})
        (promise,) = world.goal(show)["promises"]
        ref = PromiseRef("goals", ObjectId(show.id), promise["id"])
        context = replace(world.context, promise=ref)
        await asyncio.gather(
            *(return_payout(context, **promise["arguments"]) for _ in range(4)), return_exceptions=True
        )
        await world.settle()
        returned = world.all("transfers", {"metadata.refund_id": refund["id"]})
        assert [transfer["amount"] for transfer in returned] == [300]
        assert world.account(f"debt:{show.streamer}") == 0

    async def test_what_has_paid_nothing(self, world: World) -> None:
        show = await world.given(a_funded_show(seconds=360, earnings=3))
        assert await refused(world, f"/v1/goals/{show.id}/refund", {"reason": "x"}) == (409, "nothing_paid")
        stage = await world.given(a_stage())
        karaoke = {"kind": "KaraokeGoal", "session_id": stage.session_id, "levels": [{"target": 60}]}
        made = await world.post("/v1/goals", karaoke)
        assert await refused(world, f"/v1/goals/{made['id']}/refund", {"reason": "x"}) == (409, "nothing_paid")
        assert await refused(world, f"/v1/goals/{ObjectId()}/refund", {"reason": "x"}) == (404, "not_found")

    async def test_the_platforms_fee_stays(self, world: World) -> None:
        show = await a_paid_show(world, fee_bps=1000)
        made = await world.post(f"/v1/goals/{show.id}/refund", {"reason": "x"})
        await world.settle()
        assert (made["paid"], world.account("fees")) == (300 - 29, 29)
        assert sum(world.balance(viewer) for viewer in show.contributions) == 300 - 29
