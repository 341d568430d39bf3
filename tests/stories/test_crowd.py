"""A crowd: what clients are told while many contribute, and when."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from goalsvc.context import Telling
from goalsvc.domain.pace import slot_of
from goalsvc.errors import GoalsvcError, RetryableError
from tests.world import World

from .scenes import a_funded_show, a_funding, contributes

pytestmark = pytest.mark.real

#: Until the last of the notices that came too fast is sent.
SLOTS = 2.0


class TestProgressNotices:
    async def test_are_sent_once_in_a_slot_and_the_last_value_always(self, world: World) -> None:
        funding = await world.given(a_funding(target=10_000))
        await world.deposits("bob", 1000)
        for _ in range(40):
            await contributes(world, funding, "bob", 1)
            await world.work()
            await world.after(seconds=0.05)
        await world.settle(patience=SLOTS)
        told = world.told("goal.progress.updated")
        values = [notice["progress"] for notice in told]
        assert values == sorted(set(values))
        assert values[-1] == world.progress(funding) == 40
        # 40 contributions in two seconds, at most five notices in each, and the last one after them.
        assert len(values) <= 11
        assert sum(notice["amount"] for notice in told) == 40

    async def test_of_a_second_process_wait_for_the_first(self, world: World) -> None:
        funding = await world.given(a_funding(target=10_000))
        await world.deposits("bob", 1000)
        per_second = world.context.settings.progress_notices_per_second
        slot = slot_of(world.clock.now(), per_second)
        # The other process has told clients in this slot.
        await world.redis.set(f"goalsvc:pace:{funding.id}:{slot}", b"1")
        await contributes(world, funding, "bob", 5)
        await world.work()
        assert world.told("goal.progress.updated") == []
        await world.settle(patience=SLOTS)
        (told,) = world.told("goal.progress.updated")
        assert (told["progress"], told["amount"]) == (5, 5)

    async def test_without_redis_every_process_keeps_its_own_pace(self, world: World) -> None:
        funding = await world.given(a_funding(target=10_000))
        await world.deposits("bob", 1000)
        await contributes(world, funding, "bob", 5)
        await world.work()
        await contributes(world, funding, "bob", 5)
        await world.work()
        assert [told["progress"] for told in world.told("goal.progress.updated")] == [5]
        await world.settle(patience=SLOTS)
        assert [told["progress"] for told in world.told("goal.progress.updated")] == [5, 10]

    async def test_of_a_job_that_is_lost_are_found(self, world: World) -> None:
        funding = await world.given(a_funding(target=10_000))
        await world.deposits("bob", 1000)
        for _ in range(3):
            await contributes(world, funding, "bob", 5)
            await world.work()
        await world.empties_redis()
        await world.settle(patience=30)
        assert world.told("goal.progress.updated")[-1]["progress"] == 15


class TestWalletNotices:
    async def test_tell_each_payer_what_has_gone_out(self, world: World) -> None:
        funding = await world.given(a_funding(target=10_000))
        for user in ("bob", "carol"):
            await world.deposits(user, 100)
        await asyncio.gather(
            contributes(world, funding, "bob", 10),
            contributes(world, funding, "bob", 20),
            contributes(world, funding, "carol", 5),
        )
        await world.settle()
        told = [
            (told["user_id"], told["direction"], told["amount"], told["shares"])
            for told in world.told("wallet.updated")
        ]
        assert sorted(told) == [("bob", "debit", 30, 2), ("carol", "debit", 5, 1)]

    async def test_that_are_repeated_say_the_same(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """Pusher fails in the middle, and others contribute before it is tried again: each event id has one sum."""
        funding = await world.given(a_funding(target=10_000))
        for user in ("bob", "carol"):
            await world.deposits(user, 100)
        await asyncio.gather(contributes(world, funding, "bob", 10), contributes(world, funding, "carol", 5))
        send = world.notifier.trigger
        asked: list[Mapping[str, Any]] = []

        async def trigger(channels: Sequence[str], event: str, data: Mapping[str, Any]) -> None:
            if event == "wallet.updated":
                asked.append(data)
                if len(asked) == 2:
                    raise RetryableError("Pusher did not answer")
            await send(channels, event, data)

        monkeypatch.setattr(world.notifier, "trigger", trigger)
        await world.work()
        assert len(asked) >= 2
        await contributes(world, funding, "bob", 7)
        await world.settle(patience=30)
        told = [(told["event_id"], told["user_id"], told["amount"]) for told in world.told("wallet.updated")]
        assert len(told) > len(set(told))
        assert sorted((user, amount) for _, user, amount in set(told)) == [("bob", 7), ("bob", 10), ("carol", 5)]

    async def test_of_more_payers_than_one_run_tells_are_told_to_each_once(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("goalsvc.tasks.notices.MOST_PAYMENTS", 3)
        runs: list[int] = []
        send = world.notifier.trigger_each

        async def trigger_each(tellings: Sequence[Telling]) -> Mapping[int, GoalsvcError]:
            runs.append(len(tellings))
            return await send(tellings)

        monkeypatch.setattr(world.notifier, "trigger_each", trigger_each)
        funding = await world.given(a_funding(target=10_000))
        payers = {f"viewer-{number}": 10 + number for number in range(10)}
        for user in payers:
            await world.deposits(user, 100)
        await asyncio.gather(*(contributes(world, funding, user, amount) for user, amount in payers.items()))
        await world.settle(patience=30)
        told = {told["user_id"]: told["amount"] for told in world.told("wallet.updated")}
        assert told == payers
        assert len(world.told("wallet.updated")) == len(payers)
        assert max(runs) == 3

    async def test_that_died_are_told_with_the_next_or_when_they_are_redriven(self, world: World) -> None:
        funding = await world.given(a_funding(target=10_000))
        for user in ("bob", "carol"):
            await world.deposits(user, 100)
        world.has_dead_letters = True
        world.notifier.refuse(10**6)
        await contributes(world, funding, "bob", 10)
        await world.settle(patience=600)
        letters = [one["_id"] for one in world.all("dead_letters", {"task": "notify_payers"})]
        assert letters == [f"goals/{funding.id}/notify_payers"]
        world.notifier.refuse(0)
        await contributes(world, funding, "carol", 5)
        await world.settle(patience=60)
        await world.post(f"/v1/dead-letters/{letters[0]}/redrive")
        await world.settle(patience=60)
        told = {told["event_id"]: (told["user_id"], told["amount"]) for told in world.told("wallet.updated")}
        assert sorted(told.values()) == [("bob", 10), ("carol", 5)]

    async def test_tell_the_streamer_once_of_a_payout(self, world: World) -> None:
        show = await world.given(a_funded_show(seconds=360, earnings=10))
        await world.performs(show, seconds=400)
        await world.settle()
        (told,) = [told for told in world.told("wallet.updated") if told["direction"] == "credit"]
        assert (told["user_id"], told["amount"], told["shares"]) == (show.streamer, show.escrow, 10)

    async def test_tell_each_viewer_of_a_refund(self, world: World) -> None:
        show = await world.given(a_funded_show(seconds=360, earnings=3))
        await world.ends(show)
        await world.settle()
        told = {
            told["user_id"]: told["amount"] for told in world.told("wallet.updated") if told["direction"] == "credit"
        }
        assert told == show.contributions

    async def test_what_pusher_would_not_take_is_told_later(self, world: World) -> None:
        funding = await world.given(a_funding(target=10_000))
        await world.deposits("bob", 100)
        await contributes(world, funding, "bob", 10)
        world.notifier.refuse(3)
        await world.settle(patience=60)
        assert [told["amount"] for told in world.told("wallet.updated")] == [10]
