"""The audit of the books names what is broken in them; the seals show what was changed afterwards."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bson import ObjectId

from goalsvc.models.seal import check_seals, seal_days
from tests.support.books import BOOKS, findings_of
from tests.world import START, World

from .scenes import Show, a_funded_show, a_request, an_exclusive

pytestmark = pytest.mark.real


@pytest.fixture
async def books(world: World) -> AsyncIterator[World]:
    """Books that are broken by hand: the story does not end with its invariants."""
    world.has_dead_letters = True
    yield world
    for name in world.database.list_collection_names():
        if not name.startswith("system."):
            world.database[name].delete_many({})


async def audit(world: World) -> dict[str, Any]:
    report: dict[str, Any] = await world.get("/v1/reports/audit")
    return report


async def found(world: World) -> dict[str, str]:
    """What the audit finds, code by id; the same as what is found in all documents at once."""
    report = await audit(world)
    findings = {(finding["id"], finding["code"]) for finding in report["findings"]}
    contents = {name: world.all(name) for name in BOOKS}
    in_memory = {(f.id, f.code) for f in findings_of(contents) if f.code != "payout_stuck"}
    assert {f for f in findings if f[1] not in ("payout_stuck",) and not f[1].startswith("seal")} == in_memory
    assert report["ok"] == (not findings)
    return dict(findings)


async def a_paid_show(world: World) -> Show:
    show = await world.given(a_funded_show(seconds=360, earnings=3))
    await world.performs(show, seconds=400)
    await world.settle(patience=60)
    return show


class TestRightBooks:
    async def test_nothing_is_found(self, world: World) -> None:
        await a_paid_show(world)
        await world.given(a_funded_show(seconds=360, earnings=2))
        exclusive = await world.given(an_exclusive())
        await world.performs(exclusive, seconds=100)
        await world.settle(patience=60)
        report = await audit(world)
        assert (report["ok"], report["findings"], report["imbalance"], report["stuck"]) == (True, [], 0, 0)
        assert (report["earnings"], report["escrows_held"]) == (5, 1)
        assert report["transfers"] == world.database.transfers.count_documents({})


class TestBrokenBooks:
    async def test_a_balance_that_was_changed(self, books: World) -> None:
        await a_paid_show(books)
        books.database.accounts.update_one({"_id": "user:alice"}, {"$inc": {"balance": 5}})
        assert await found(books) == {"accounts": "sum_not_zero", "user:alice": "balance_differs"}
        assert (await audit(books))["imbalance"] == 5

    async def test_an_account_that_is_gone(self, books: World) -> None:
        show = await a_paid_show(books)
        books.database.accounts.delete_one({"_id": "user:alice"})
        assert (await found(books))["user:alice"] == "balance_differs"
        assert (await audit(books))["imbalance"] == -show.escrow

    async def test_a_transfer_that_is_gone(self, books: World) -> None:
        show = await a_paid_show(books)
        lost = books.database.transfers.find_one_and_delete({"_id": {"$regex": "^escrow-"}})
        assert lost is not None
        assert await found(books) == {
            "user:alice": "balance_differs",
            f"escrow:{show.escrow_id}": "balance_differs",
            lost["metadata"]["doc_id"]: "earning_state_differs",
        }

    async def test_a_transfer_whose_amount_was_changed(self, books: World) -> None:
        show = await a_paid_show(books)
        books.database.transfers.update_one({"_id": {"$regex": "^escrow-"}}, {"$inc": {"amount": 1}})
        assert set((await found(books)).items()) == {
            ("user:alice", "balance_differs"),
            (f"escrow:{show.escrow_id}", "balance_differs"),
        }

    @pytest.mark.parametrize("amount", [0, -7, 2.5])
    async def test_an_amount_that_is_none(self, books: World, amount: float) -> None:
        await a_paid_show(books)
        books.database.transfers.insert_one(
            {"_id": "odd", "debit": "user:alice", "credit": "user:bob", "amount": amount, "tags": []}
        )
        assert (await found(books))["odd"] == "amount_not_positive"

    async def test_a_wallet_below_zero(self, books: World) -> None:
        await books.deposits("bob", 5)
        transfer = {"debit": "user:bob", "credit": "user:eve", "amount": 9, "tags": [], "created_at": books.clock.now()}
        books.database.transfers.insert_one({"_id": "over", **transfer})
        books.database.accounts.update_one({"_id": "user:bob"}, {"$inc": {"balance": -9}})
        books.database.accounts.update_one({"_id": "user:eve"}, {"$inc": {"balance": 9}}, upsert=True)
        assert await found(books) == {"user:bob": "negative_balance"}

    async def test_a_debt_that_no_reversal_made(self, books: World) -> None:
        transfer = {"debit": "debt:bob", "credit": "user:eve", "amount": 9, "tags": [], "created_at": books.clock.now()}
        books.database.transfers.insert_one({"_id": "gift", **transfer})
        books.database.accounts.insert_many([{"_id": "debt:bob", "balance": -9}, {"_id": "user:eve", "balance": 9}])
        assert await found(books) == {"gift": "debt_without_reversal"}

    async def test_an_escrow_whose_goal_has_ended_without_a_promise(self, books: World) -> None:
        show = await books.given(a_funded_show(seconds=360, earnings=3))
        books.database.goals.update_one({"_id": ObjectId(show.id)}, {"$set": {"active": False}})
        assert await found(books) == {f"escrow:{show.escrow_id}": "escrow_stuck"}
        assert (await audit(books))["stuck"] == 1

    async def test_an_escrow_whose_goal_is_gone(self, books: World) -> None:
        request = await books.given(a_request(price=300))
        books.database.goals.delete_many({})
        assert await found(books) == {f"escrow:{request.escrow_id}": "escrow_without_goal"}

    async def test_a_promise_or_a_dead_letter_that_names_it_is_enough(self, books: World) -> None:
        show = await books.given(a_funded_show(seconds=360, earnings=3))
        ended = {"active": False, "promises": [{"id": "x", "task": "refund_escrow", "arguments": {}, "at": START}]}
        books.database.goals.update_one({"_id": ObjectId(show.id)}, {"$set": ended})
        assert await found(books) == {}
        books.database.goals.update_one({"_id": ObjectId(show.id)}, {"$set": {"promises.0.task": "deliver_notice"}})
        assert await found(books) == {f"escrow:{show.escrow_id}": "escrow_stuck"}
        letter = {"_id": "l", "task": "refund_escrow", "state": "dead", "goal_id": show.id}
        books.database.dead_letters.insert_one(letter)
        assert await found(books) == {}
        books.database.dead_letters.update_one({}, {"$set": {"state": "redriven"}})
        assert await found(books) == {f"escrow:{show.escrow_id}": "escrow_stuck"}

    @pytest.mark.parametrize("state", ["held", "refunded"])
    async def test_an_earning_that_says_otherwise(self, books: World, state: str) -> None:
        await a_paid_show(books)
        earning = books.database.earnings.find_one_and_update({}, {"$set": {"state": state}})
        assert earning is not None
        assert await found(books) == {str(earning["_id"]): "earning_state_differs"}

    async def test_an_earning_that_was_settled_twice(self, books: World) -> None:
        show = await a_paid_show(books)
        earning = books.database.earnings.find_one({})
        assert earning is not None
        twice = {
            "_id": f"refund-{show.escrow_id}-{earning['_id']}-{earning['from_user_id']}",
            "debit": "issuer",
            "credit": "user:x",
            "to_user_id": "x",
            "amount": 1,
            "tags": [],
            "metadata": {"doc_id": str(earning["_id"])},
        }
        books.database.transfers.insert_one(twice)
        assert (await found(books))[str(earning["_id"])] == "settled_twice"


class TestSeals:
    async def test_a_day_is_sealed_once_it_is_closed(self, world: World) -> None:
        await a_paid_show(world)
        world.clock.move_to(START.replace(hour=0) + timedelta(days=1, minutes=59))
        assert await world.post("/v1/reports/seals") == []
        world.clock.move_to(START.replace(hour=0) + timedelta(days=2, hours=1))
        made = await world.post("/v1/reports/seals")
        assert [(seal["id"], seal["transfers"] > 0) for seal in made] == [("2026-03-01", True), ("2026-03-02", False)]
        assert made[1]["previous"] == made[0]["hash"]
        assert await world.post("/v1/reports/seals") == []
        report = await audit(world)
        assert (report["ok"], report["days_sealed"]) == (True, 2)
        assert [seal["id"] for seal in (await world.get("/v1/reports/seals"))["items"]] == ["2026-03-01", "2026-03-02"]

    @pytest.mark.parametrize("year", [1, 987])
    async def test_days_before_the_year_1000_are_sealed_once(self, books: World, year: int) -> None:
        """Another service may write any date; the seals' ids sort as the days do."""
        first = datetime(year, 1, 9, tzinfo=UTC)
        old = {"debit": "issuer", "credit": "user:eve", "amount": 1, "tags": [], "created_at": first}
        books.database.transfers.insert_one({"_id": "old", **old})
        made = await seal_days(first + timedelta(days=3), b"key")
        assert [seal.id for seal in made] == [f"{year:04d}-01-09", f"{year:04d}-01-10"]
        assert await seal_days(first + timedelta(days=3), b"key") == []
        assert [seal.id for seal in await seal_days(first + timedelta(days=4), b"key")] == [f"{year:04d}-01-11"]
        assert [finding async for finding in check_seals(b"key")] == [None, None, None]

    async def sealed(self, world: World) -> None:
        await a_paid_show(world)
        world.clock.move_to(START + timedelta(days=2))
        await world.post("/v1/reports/seals")

    @pytest.mark.parametrize(
        ("change", "code"),
        [
            ({"$set": {"hash": "0" * 64}}, "seal_forged"),
            ({"$set": {"signature": "0" * 64}}, "seal_forged"),
            ({"$set": {"previous": "1" * 64}}, "seal_chain_broken"),
        ],
    )
    async def test_a_seal_that_was_changed(self, books: World, change: dict[str, Any], code: str) -> None:
        await self.sealed(books)
        books.database.seals.update_one({"_id": "2026-03-01"}, change)
        assert (await found(books))["2026-03-01"] == code

    async def test_transfers_that_were_changed_with_their_balances(self, books: World) -> None:
        """The books balance, and still it shows."""
        await self.sealed(books)
        books.database.transfers.update_one({"_id": {"$regex": "^deposit-viewer-1"}}, {"$inc": {"amount": 10}})
        books.database.accounts.update_one({"_id": "issuer"}, {"$inc": {"balance": -10}})
        books.database.accounts.update_one({"_id": "user:viewer-1"}, {"$inc": {"balance": 10}}, upsert=True)
        assert await found(books) == {"2026-03-01": "seal_broken"}

    async def test_a_transfer_that_was_put_into_a_sealed_day(self, books: World) -> None:
        await self.sealed(books)
        late = {"debit": "user:alice", "credit": "user:eve", "amount": 1, "tags": [], "created_at": START}
        books.database.transfers.insert_one({"_id": "late", **late})
        books.database.accounts.update_one({"_id": "user:alice"}, {"$inc": {"balance": -1}})
        books.database.accounts.update_one({"_id": "user:eve"}, {"$inc": {"balance": 1}}, upsert=True)
        assert await found(books) == {"2026-03-01": "seal_broken"}

    async def test_the_worker_seals_and_audits_by_itself(self, world: World) -> None:
        await a_paid_show(world)
        world.clock.move_to(START + timedelta(hours=6))
        await world.tick("audit_books")
        assert [seal["_id"] for seal in world.all("seals")] == ["2026-03-01"]

    async def test_the_worker_audits_days_that_an_operator_has_sealed(self, world: World) -> None:
        await a_paid_show(world)
        world.clock.move_to(START + timedelta(hours=6))
        await seal_days(world.clock.now(), b"key")
        await world.tick("audit_books")
        assert [audit["at"] for audit in world.all("audits")] == [world.clock.now()]


class TestLimits:
    async def test_a_session_without_webhook_and_call_is_ended_with_its_goals(self, world: World) -> None:
        show = await world.given(a_funded_show(seconds=360, earnings=3))
        await world.after(seconds=86_400 - 120)
        await world.tick("end_idle_sessions")
        assert "ended" not in world.session(show.session_id)["statuses"]
        await world.after(seconds=240)
        await world.tick("end_idle_sessions")
        await world.settle(patience=60)
        assert "ended" in world.session(show.session_id)["statuses"]
        assert (world.goal(show)["active"], world.escrow(show.escrow_id)) == (False, 0)
        assert {viewer: world.balance(viewer) for viewer in show.contributions} == show.contributions

    @pytest.mark.parametrize("sign", ["webhook of the goal", "webhook of the stream", "call"])
    async def test_what_concerns_a_session_keeps_it_open(self, world: World, sign: str) -> None:
        show = await world.given(a_funded_show(seconds=360, earnings=3))
        await world.after(seconds=80_000)
        match sign:
            case "webhook of the goal":
                await world.performs(show, seconds=10)
            case "webhook of the stream":
                await world.hears({"name": "member_added", "channel": "presence-stream@alice", "user_id": "bob"})
            case _:
                await world.post(f"/v1/goals/{show.funding_id}/end") if world.goal(show.funding_id)["active"] else None
                karaoke = {"kind": "KaraokeGoal", "session_id": show.session_id, "levels": [{"target": 60}]}
                await world.post("/v1/goals", karaoke)
        await world.settle()
        await world.after(seconds=10_000)
        await world.tick("end_idle_sessions")
        assert "ended" not in world.session(show.session_id)["statuses"]
        await world.after(seconds=86_400)
        await world.tick("end_idle_sessions")
        assert "ended" in world.session(show.session_id)["statuses"]

    async def test_a_funded_show_that_does_not_start_in_time_is_refunded(self, world: World) -> None:
        show = await world.given(a_funded_show(seconds=360, earnings=3))
        limit = {"begin_by": world.clock.now() + timedelta(seconds=60)}
        world.database.goals.update_one({"_id": ObjectId(show.id)}, {"$set": limit})
        await world.tick("expire_unbegun_shows")
        assert world.goal(show)["active"]
        await world.after(seconds=61)
        await world.tick("expire_unbegun_shows")
        await world.settle(patience=60)
        assert (world.goal(show)["active"], world.escrow(show.escrow_id)) == (False, 0)
        assert {viewer: world.balance(viewer) for viewer in show.contributions} == show.contributions

    async def test_one_that_has_started_goes_on(self, world: World) -> None:
        show = await world.given(a_funded_show(seconds=360, earnings=3))
        limit = {"begin_by": world.clock.now() + timedelta(seconds=60)}
        world.database.goals.update_one({"_id": ObjectId(show.id)}, {"$set": limit})
        await world.performs(show, seconds=100)
        await world.tick("expire_unbegun_shows")
        assert world.goal(show)["active"]
