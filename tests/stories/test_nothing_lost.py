"""Crashes, repeats, an emptied Redis: every promise is fulfilled, and fulfilled once (docs/specification.md#promises)."""

import pytest

from tests.support.waiting import comes_to_hold
from tests.world import World, joined, left, occupied, vacated

from .scenes import Show, a_funded_show, a_funding, a_request, an_exclusive, contributes

pytestmark = pytest.mark.real

#: The sweep leaves the shares of an escrow alone for so long, for they are known to be under way.
SWEPT_SECONDS = 60


def assert_show_is_over(world: World, show: Show) -> None:
    """Everything that a completed show brings about is there, once."""
    assert (world.goal(show)["active"], world.progress(show)) == (False, 400)
    assert (world.balance(show.streamer), world.escrow(show.escrow_id)) == (show.escrow, 0)
    (pair,) = world.session(show.session_id)["show_goal_pairs"]
    assert {"show_started", "show_ended"} <= pair.keys()
    assert [asset["state"] for asset in world.all("assets")] == ["quarantined"]
    assert len(world.all("posts")) == 1
    assert world.rtc.recording == set()
    assert "StopRecord" in {call.action for call in world.rtc.calls}
    assert {record["state"] for record in world.all("bi_escrows")} == {"settled"}
    tracked = [event["name"] for event in world.all("tracking_events", {"escrow_id": show.escrow_id})]
    assert sorted(tracked) == ["escrow.completed", *["escrow.completed.individual"] * len(show.contributions)]
    told = {
        (told["event_id"], told["amount"]) for told in world.told("wallet.updated") if told["direction"] == "credit"
    }
    assert told == {(f"{show.escrow_id}:escrow.completed", show.escrow)}


async def play_show(world: World) -> Show:
    show = await world.given(a_funded_show(seconds=360, earnings=3))
    await world.performer_joins(show)
    await world.work()
    await world.after(seconds=400)
    await world.performer_leaves(show)
    await world.settle(patience=SWEPT_SECONDS)
    return show


class TestLostJob:
    """A crash between the write and its enqueue: the job is never there; the sweep finds what is owed."""

    @pytest.mark.parametrize(
        "task",
        [
            "increment_goal_progress",
            "deactivate_goal",
            "create_post_from_livestream",
            "clip_livestream_as_asset",
            "StartRecord",
            "StopRecord",
            "escrow_out",
            "settle_shares",
        ],
    )
    async def test_of_a_show(self, world: World, task: str) -> None:
        world.jobs.lose(task)
        show = await play_show(world)
        assert [job.task for job in world.jobs.lost] == [task]
        assert_show_is_over(world, show)

    async def test_the_announcement_of_its_start(self, world: World) -> None:
        show = await world.given(a_funded_show())
        world.jobs.lose("announce_goal_started")
        await world.performer_joins(show)
        await world.work()
        assert world.rtc.calls == []
        assert world.promises_due() == [f"announce_goal_started of {show.id}"]
        await world.settle()
        assert [call.action for call in world.rtc.calls] == ["StartRecord"]

    async def test_nothing_happens_before_the_sweep(self, world: World) -> None:
        show = await world.given(a_funded_show(seconds=360))
        world.jobs.lose("increment_goal_progress")
        await world.performs(show, seconds=400)
        await world.work()
        assert (world.progress(show), world.goal(show)["active"]) == (0, True)
        await world.tick("sweep_promises")
        await world.work()
        assert world.progress(show) == 0  # not yet: the job may only be late
        await world.after(seconds=world.context.settings.promise_sweep_seconds)
        await world.tick("sweep_promises")
        await world.work()
        assert world.progress(show) == 400

    async def test_all_shares_of_a_show(self, world: World) -> None:
        world.jobs.lose("settle_shares")
        assert_show_is_over(world, await play_show(world))

    async def test_of_a_contribution(self, world: World) -> None:
        funding = await world.given(a_funding(target=100))
        await world.deposits("bob", 100)
        world.jobs.lose("announce_contributions")
        await contributes(world, funding, "bob", 100)
        await world.settle()
        assert len(world.all("goals", {"_cls": "Goal.ShowGoal"})) == 1

    async def test_of_a_refund(self, world: World) -> None:
        show = await world.given(a_funded_show())
        for task in ("deactivate_goal", "refund_escrow", "settle_shares"):
            world.jobs.lose(task)
        await world.ends(show)
        await world.settle(patience=SWEPT_SECONDS)
        assert {viewer: world.balance(viewer) for viewer in show.contributions} == show.contributions

    async def test_of_the_pause_at_an_end(self, world: World) -> None:
        show = await world.given(a_funded_show(seconds=360))
        await world.performer_joins(show)
        await world.after(seconds=400)
        world.jobs.lose("increment_goal_progress")
        await world.ends(show)
        await world.settle(patience=SWEPT_SECONDS)
        assert (world.progress(show), world.balance(show.streamer)) == (400, show.escrow)

    async def test_of_a_session_that_ends(self, world: World) -> None:
        show = await world.given(a_funded_show())
        world.jobs.lose("end_session")
        world.jobs.lose("deactivate_goal")
        await world.post(f"/v1/sessions/{show.session_id}/end")
        await world.settle(patience=SWEPT_SECONDS)
        assert not world.goal(show)["active"]

    async def test_of_a_funding_whose_session_ends_meanwhile(self, world: World) -> None:
        funding = await world.given(a_funding(target=100))
        await world.deposits("bob", 100)
        world.jobs.lose("announce_contributions")
        await contributes(world, funding, "bob", 100)
        await world.post(f"/v1/sessions/{funding.session_id}/end")
        await world.settle(patience=SWEPT_SECONDS)
        assert world.all("goals", {"active": True}) == []  # nobody could perform it any more
        assert world.balance("bob") == 100

    @pytest.mark.parametrize("task", ["deactivate_goal", "hold_exclusive"])
    async def test_of_a_request(self, world: World, task: str) -> None:
        request = await world.given(a_request(price=1000))
        world.jobs.lose(task)
        await world.post(f"/v1/goals/{request.id}/agree")
        await world.settle()
        (exclusive,) = world.all("goals", {"_cls": "Goal.ExclusiveGoal"})
        assert world.escrow(f"exclusive:{exclusive['_id']}") == 1000

    @pytest.mark.parametrize("task", ["increment_goal_progress", "deactivate_goal", "transfer_escrow", "StartSnapshot"])
    async def test_of_an_exclusive(self, world: World, task: str) -> None:
        exclusive = await world.given(an_exclusive(price=1000, seconds=360))
        world.jobs.lose(task, times=2)
        await world.performs(exclusive, seconds=200)
        await world.settle(patience=60 + SWEPT_SECONDS)
        assert (world.balance("alice"), world.balance("bob")) == (555, 445)
        assert [call.action for call in world.rtc.calls] == ["StartSnapshot"]

    async def test_of_a_notice_that_pusher_would_not_take(self, world: World) -> None:
        stage = await world.post("/v1/sessions", {"user_id": "alice"})
        assert stage
        world.jobs.lose("deliver_notice")
        await world.hears({"name": "member_added", "channel": "presence-stream@alice", "user_id": "bob"})
        await world.work()
        assert world.told("user.entered") == []
        await world.settle()
        assert [told["user_id"] for told in world.told("user.entered")] == ["bob"]


class TestEveryJobTwice:
    """Two workers run the same job side by side: the effects are those of one."""

    async def test_of_a_show(self, world: World) -> None:
        world.jobs.twice = True
        assert_show_is_over(world, await play_show(world))

    async def test_of_a_show_that_is_refunded(self, world: World) -> None:
        world.jobs.twice = True
        show = await world.given(a_funded_show())
        await world.performs(show, seconds=100)
        await world.ends(show)
        await world.settle(patience=SWEPT_SECONDS)
        assert {viewer: world.balance(viewer) for viewer in show.contributions} == show.contributions

    async def test_of_an_exclusive(self, world: World) -> None:
        world.jobs.twice = True
        exclusive = await world.given(an_exclusive(price=1000, seconds=360))
        await world.performs(exclusive, seconds=200)
        await world.settle(patience=60 + SWEPT_SECONDS)
        assert (world.balance("alice"), world.balance("bob")) == (555, 445)

    async def test_of_a_request_that_is_declined(self, world: World) -> None:
        world.jobs.twice = True
        request = await world.given(a_request(price=1000))
        await world.post(f"/v1/goals/{request.id}/decline")
        await world.settle()
        assert world.balance("bob") == 1000


class TestRedisEmptied:
    @pytest.mark.parametrize("runs", [0, 1, 2, 4, 6, 7])
    async def test_after_so_many_jobs(self, world: World, runs: int) -> None:
        show = await world.given(a_funded_show(seconds=360))
        await world.performer_joins(show)
        await world.work()
        await world.after(seconds=400)
        await world.performer_leaves(show)
        await world.work_off(runs)
        await world.empties_redis()
        await world.settle(patience=SWEPT_SECONDS)
        assert_show_is_over(world, show)


class TestRealWorkers:
    """The same on the real Valkey, by real workers that run a hundred jobs side by side."""

    async def test_a_show(self, busy_world: World) -> None:
        assert_show_is_over(busy_world, await play_show(busy_world))

    async def test_a_show_of_many_earnings_with_twins(self, busy_world: World) -> None:
        world = busy_world
        show = await world.given(a_funded_show(seconds=360, earnings=25))
        await world.hears(joined(show), occupied(show))
        await world.work()
        await world.after(seconds=400)
        await world.hears(vacated(show), left(show))
        await world.settle(patience=SWEPT_SECONDS)
        assert_show_is_over(world, show)

    async def test_an_exclusive(self, busy_world: World) -> None:
        exclusive = await busy_world.given(an_exclusive(price=1000, seconds=360))
        await busy_world.performs(exclusive, seconds=200)
        await busy_world.settle(patience=60)
        assert (busy_world.balance("alice"), busy_world.balance("bob")) == (555, 445)

    @pytest.mark.parametrize("moment", ["before", "meanwhile"])
    async def test_redis_emptied(self, busy_world: World, moment: str) -> None:
        world = busy_world
        show = await world.given(a_funded_show(seconds=360, earnings=12))
        await world.performer_joins(show)
        await world.work()
        await world.after(seconds=400)
        await world.performer_leaves(show)
        if moment == "meanwhile":
            assert await comes_to_hold(lambda: world.all("transfers", {"_id": {"$regex": "^escrow-"}}) != [])
        await world.empties_redis()
        await world.settle(patience=SWEPT_SECONDS)
        assert_show_is_over(world, show)
