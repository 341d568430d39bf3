"""Every effect that lasts names the webhook or the call that it goes back to, in its own document."""

from tests.world import World

from .scenes import a_funded_show, a_request


class TestCauses:
    async def test_each_payout_names_the_leave_that_completed_the_show(self, world: World) -> None:
        show = await world.given(a_funded_show(seconds=60, earnings=10))
        await world.performer_joins(show)
        await world.after(seconds=74)
        left_at = world.clock.now()
        await world.performer_leaves(show)
        await world.after(seconds=3)
        await world.settle()
        shares = world.all("transfers", {"_id": {"$regex": "^escrow-"}})
        causes = [share["cause"] for share in shares] + [
            world.all("assets")[0]["cause"],
            world.all("posts")[0]["cause"],
        ]
        assert len(shares) == 10
        assert {(cause["goal_id"], cause["happened_at"]) for cause in causes} == {(show.id, left_at)}
        (event_id,) = {cause["event_id"] for cause in causes}
        assert event_id
        assert "call" not in causes[0]

    async def test_a_contribution_names_its_call(self, world: World) -> None:
        show = await world.given(a_funded_show())
        transfers = world.all("transfers", {"_id": {"$regex": "^contribution-"}})
        earnings = world.all("earnings")
        assert (
            {t["cause"]["call"] for t in transfers} == {e["cause"]["call"] for e in earnings} == {"create_contribution"}
        )
        assert {t["cause"]["goal_id"] for t in transfers} == {show.funding_id}
        assert {t["cause"]["call"] for t in world.all("transfers", {"tags": "deposit"})} == {"deposit"}

    async def test_a_refund_after_the_time_has_come_names_the_periodic_task(self, world: World) -> None:
        request = await world.given(a_request(price=100, lasts=60))
        await world.settle(patience=90)
        (refund,) = world.all("transfers", {"_id": {"$regex": "^refund-"}})
        assert refund["cause"]["task"] == "expire_goals"
        assert refund["cause"]["goal_id"] == request.id
        assert refund["cause"]["happened_at"] == world.goal(request)["exp"]
