"""The private minute: asked for, agreed to, performed or not, and settled to the token."""

from typing import Any

import pytest
from bson import ObjectId

from goalsvc.domain.escrow import escrow_account, user_account
from goalsvc.domain.orders import Order
from tests.world import World, joined, left

from .outline import answers_to
from .scenes import Exclusive, Goal, a_request, a_stage, an_exclusive, settled

pytestmark = pytest.mark.real

GRACE = 60


class TestRequest:
    async def test_holds_its_price_at_once(self, world: World) -> None:
        request = await world.given(a_request(price=1000))
        assert (world.balance("bob"), world.escrow(request.escrow_id)) == (0, 1000)

    async def test_tells_its_viewer_that_the_price_has_gone_out(self, world: World) -> None:
        request = await world.given(a_request(price=100))
        await world.settle()
        (told,) = world.told("wallet.updated")
        assert (told["user_id"], told["direction"], told["amount"]) == (request.viewer, "debit", 100)
        (transfer,) = world.database.transfers.find({"_id": told["transfer_id"]})
        assert (transfer["from_user_id"], transfer["credit"]) == (request.viewer, f"escrow:{told['escrow_id']}")

    async def test_that_cannot_be_afforded_is_not_made(self, world: World) -> None:
        request = await world.given(a_request(price=1000))
        second = await world.call("POST", "/v1/goals", request.body)
        assert (second.status_code, second.json()["code"]) == (402, "insufficient_funds")
        assert [goal["_id"] for goal in world.all("goals")] == [ObjectId(request.id)]

    async def test_that_is_agreed_to_becomes_an_exclusive(self, world: World) -> None:
        request = await world.given(a_request(price=1000, seconds=360))
        await world.post(f"/v1/goals/{request.id}/agree")
        agreed_at = world.clock.now()
        await world.settle()
        session = world.session(request.session_id)
        pair = session["exclusive_goal_pairs"]["bob"]
        exclusive = world.goal(str(pair["exclusive_goal"]))
        assert pair["trigger_goal"] == ObjectId(request.id)
        assert (exclusive["_cls"], exclusive["active"]) == ("Goal.ExclusiveGoal", True)
        assert exclusive["conditions"] == {
            "session_id": session["_id"],
            "exclusive_to": "bob",
            "trigger_goal_id": ObjectId(request.id),
        }
        assert [level["target"] for level in exclusive["levels"]] == [360]
        assert world.goal(request)["triggerer"] == "alice"
        assert (world.escrow(request.escrow_id), world.escrow(f"exclusive:{exclusive['_id']}")) == (0, 1000)
        window = session["viewers"]["bob"]
        assert (window["nbf"], window["duration"]) == (agreed_at, 360)
        assert "exp" not in window  # until the exclusive starts
        (told,) = world.told("stream.authorized")
        assert (told["viewer_id"], told["nbf"][:19]) == ("bob", agreed_at.isoformat()[:19])
        assert world.notifier.named("stream.authorized")[0].channels == ("private-user@bob",)

    async def test_its_own_viewer_cannot_agree_to_it(self, world: World) -> None:
        request = await world.given(a_request())
        refused = await world.call("POST", f"/v1/goals/{request.id}/agree", {"user_id": request.viewer})
        assert (refused.status_code, refused.json()["code"]) == (409, "self_payment")
        assert world.goal(request)["active"] is True

    async def test_of_the_streamer_who_would_pay_themselves_is_refused(self, world: World) -> None:
        request = await world.given(a_request(price=100))
        await world.deposits(request.streamer, 100)
        stored: Any = request.body["metadata"]
        metadata = {**stored, "viewer_id": request.streamer}
        refused = await world.call("POST", "/v1/goals", {**request.body, "metadata": metadata})
        assert (refused.status_code, refused.json()["code"]) == (409, "self_payment")
        assert world.balance(request.streamer) == 100
        free = {**request.body, "metadata": {**metadata, "price": 0}}
        assert (await world.call("POST", "/v1/goals", free)).status_code == 201

    async def test_made_directly_for_the_streamer_is_refused(self, world: World) -> None:
        request = await world.given(a_request())
        session_id = request.body["session_id"]
        for body in (
            {"conditions": {"exclusive_to": request.streamer}},
            {"conditions": {}, "metadata": {"viewer_id": request.streamer}},
        ):
            refused = await world.call("POST", "/v1/goals", {"kind": "ExclusiveGoal", "session_id": session_id, **body})
            assert (refused.status_code, refused.json()["code"]) == (409, "self_payment"), refused.text
            assert refused.json()["detail"].startswith("conditions.exclusive_to: must not be the streamer")
        assert world.all("goals", {"_cls": "Goal.ExclusiveGoal"}) == []

    async def test_agreed_to_twice_or_then_declined(self, world: World) -> None:
        request = await world.given(a_request())
        await world.post(f"/v1/goals/{request.id}/agree", {"user_id": "moderator"})
        for verb in ("agree", "decline", "end"):
            again = await world.call("POST", f"/v1/goals/{request.id}/{verb}")
            assert (again.status_code, again.json()["code"]) == (409, "goal_inactive")
        await world.settle()
        assert world.goal(request)["triggerer"] == "moderator"
        assert len(world.all("goals", {"_cls": "Goal.ExclusiveGoal"})) == 1

    async def test_that_is_declined_is_refunded(self, world: World) -> None:
        request = await world.given(a_request(price=1000))
        await world.post(f"/v1/goals/{request.id}/decline")
        await world.settle()
        assert (world.balance("bob"), world.escrow(request.escrow_id)) == (1000, 0)
        assert world.all("goals", {"_cls": "Goal.ExclusiveGoal"}) == []
        assert "triggerer" not in world.goal(request)

    async def test_that_expires_is_refunded(self, world: World) -> None:
        request = await world.given(a_request(price=1000, lasts=120))
        await world.after(seconds=120)
        late = await world.call("POST", f"/v1/goals/{request.id}/agree")
        assert (late.status_code, late.json()["code"]) == (409, "goal_expired")
        await world.settle()
        assert (world.balance("bob"), world.escrow(request.escrow_id)) == (1000, 0)
        assert not world.goal(request)["active"]

    async def test_without_a_price_holds_nothing(self, world: World) -> None:
        request = await world.given(a_request(price=0, private=False))
        await world.post(f"/v1/goals/{request.id}/agree")
        await world.settle()
        answers = answers_to(await world.trace(request), "goal.ended")
        assert answers["handle_trigger_private_goal_escrow"] == ("returned", "not_private")
        assert answers["start_agreed_exclusive"][0] == "done"


class TestPerformedExclusive:
    async def test_that_reaches_its_target_is_paid_in_full(self, world: World) -> None:
        exclusive = await world.given(an_exclusive(price=1000, seconds=360))
        await world.performer_joins(exclusive)
        begun = world.clock.now()
        await world.settle()
        session = world.session(exclusive.session_id)
        assert session["status"] == {"exclusive_to": "bob"}
        assert session["exclusive_goal_pairs"]["bob"]["exclusive_goal_started"] == begun
        await world.after(seconds=360)
        over = world.clock.now()
        await world.performer_leaves(exclusive)
        await world.settle()
        assert settled(world, exclusive) == (1000, 0, 0)
        session = world.session(exclusive.session_id)
        assert session["status"] == {}
        assert session["exclusive_goal_pairs"]["bob"]["exclusive_goal_ended"] == over
        window = session["viewers"]["bob"]
        assert (window["exp"], window["duration"]) == (over, 360)
        assert [call.action for call in world.rtc.calls] == ["StartSnapshot"]
        assert [notice.channels for notice in world.notifier.named("exclusive.closed")] == [
            ("private-user@bob", "private-user@alice")
        ]

    async def test_is_not_told_to_the_public(self, world: World) -> None:
        exclusive = await world.given(an_exclusive())
        world.notifier.notices.clear()
        await world.performs(exclusive, seconds=360)
        await world.settle()
        public = [notice.event for notice in world.notifier.notices if "private-stream@alice" in notice.channels]
        assert public == ["stream.authorized"]  # it is public again

    async def test_longer_than_its_target_is_paid_once(self, world: World) -> None:
        exclusive = await world.given(an_exclusive(price=999, seconds=360))
        await world.performs(exclusive, seconds=500)
        await world.settle()
        assert settled(world, exclusive) == (999, 0, 0)

    @pytest.mark.parametrize(("price", "seconds"), [(1000, 200), (1, 200), (7, 359), (360, 1), (10**12, 359)])
    async def test_that_stops_early_is_shared_to_the_token(self, world: World, price: int, seconds: int) -> None:
        exclusive = await world.given(an_exclusive(price=price, seconds=360))
        await world.performs(exclusive, seconds=seconds)
        await world.settle()
        assert settled(world, exclusive) == (0, 0, price)  # he may come back
        await world.settle(patience=GRACE)
        share = price * seconds // 360
        assert settled(world, exclusive) == (share, price - share, 0)
        answers = answers_to(await world.trace(exclusive), "goal.ended")
        refund = ("done", f"{price - share} of {price} tokens")
        assert answers["trigger_exclusive_goal_escrow_refund"] == refund
        if share:
            pay = ("done", f"{share} of {price} tokens for {seconds} of 360 s")
            assert answers["settle_exclusive_escrow"] == pay
        else:
            assert answers["settle_exclusive_escrow"] == ("returned", "not_performed")

    async def test_that_is_resumed_within_the_grace_goes_on(self, world: World) -> None:
        exclusive = await world.given(an_exclusive(price=1000, seconds=360))
        await world.performs(exclusive, seconds=200)
        await world.settle(patience=GRACE - 1)
        await world.performer_joins(exclusive)
        await world.settle(patience=GRACE)
        assert world.goal(exclusive)["active"]
        await world.after(seconds=100)
        await world.performer_leaves(exclusive)
        await world.settle()
        assert world.progress(exclusive) == 360
        assert settled(world, exclusive) == (1000, 0, 0)

    async def test_each_pause_has_its_own_grace(self, world: World) -> None:
        exclusive = await world.given(an_exclusive(price=360, seconds=360))
        await world.performs(exclusive, seconds=100)
        await world.settle(patience=50)
        await world.performs(exclusive, seconds=5)
        await world.settle(patience=GRACE - 1)  # the first pause's grace is over, the second's is not
        assert world.goal(exclusive)["active"]
        await world.settle(patience=1)
        assert not world.goal(exclusive)["active"]
        assert settled(world, exclusive) == (105, 255, 0)

    async def test_joined_by_its_viewer_alone_costs_nothing(self, world: World) -> None:
        exclusive = await world.given(an_exclusive(price=1000, seconds=360))
        await world.hears(joined(exclusive, "bob"))
        await world.after(seconds=200)
        await world.hears(joined(exclusive, "mallory"), left(exclusive, "mallory"))
        await world.after(seconds=160)
        await world.hears(left(exclusive, "bob"))
        await world.settle()
        await world.ends(exclusive)
        await world.settle()
        assert settled(world, exclusive) == (0, 1000, 0)

    async def test_ended_by_the_api_while_it_runs(self, world: World) -> None:
        exclusive = await world.given(an_exclusive(price=720, seconds=360))
        await world.performer_joins(exclusive)
        await world.after(seconds=100)
        await world.ends(exclusive)
        await world.settle()
        assert settled(world, exclusive) == (200, 520, 0)


class TestUnperformedExclusive:
    async def test_expires_and_is_refunded(self, world: World) -> None:
        exclusive = await world.given(an_exclusive(price=1000, seconds=360))
        await world.settle(patience=360 + 600)
        assert settled(world, exclusive) == (0, 1000, 0)
        assert not world.goal(exclusive)["active"]
        session = world.session(exclusive.session_id)
        assert session["exclusive_goal_pairs"] == {}
        assert session["status"] == {}
        answers = answers_to(await world.trace(exclusive), "goal.ended")
        assert answers["cleanup_expired_exclusive_goal_pairs"] == ("done", "removed")
        assert answers["settle_exclusive_escrow"] == ("returned", "not_performed")

    async def test_ends_with_its_session(self, world: World) -> None:
        exclusive = await world.given(an_exclusive(price=1000, seconds=360))
        await world.post(f"/v1/sessions/{exclusive.session_id}/end")
        await world.settle()
        assert settled(world, exclusive) == (0, 1000, 0)

    async def test_that_ends_before_its_hold_has_come_is_refunded_all_the_same(self, world: World) -> None:
        request = await world.given(a_request(price=1000))
        world.jobs.lose("hold_exclusive")
        await world.post(f"/v1/goals/{request.id}/agree")
        await world.work()
        await world.post(f"/v1/sessions/{request.session_id}/end")
        await world.settle(patience=60)
        (exclusive,) = world.all("goals", {"_cls": "Goal.ExclusiveGoal"})
        assert not exclusive["active"]
        assert (world.balance("bob"), world.escrow(f"exclusive:{exclusive['_id']}")) == (1000, 0)


class TestExclusiveWithoutLevels:
    """Written by another service: an exclusive with a price and no timed target."""

    async def scene(self, world: World) -> Exclusive:
        stage = await world.given(a_stage())
        goal_id = ObjectId()
        world.database.goals.insert_one(
            {
                "_id": goal_id,
                "_cls": "Goal.ExclusiveGoal",
                "active": True,
                "progress": 0,
                "levels": [],
                "conditions": {"session_id": stage.session_id, "exclusive_to": "bob"},
                "context": {},
                "metadata": {"user_id": "alice", "viewer_id": "bob"},
            }
        )
        await world.deposits("bob", 500)
        hold = Order(
            transfer_id="theirs",
            debit=user_account("bob"),
            credit=escrow_account(f"exclusive:{goal_id}"),
            amount=500,
            from_user_id="bob",
        )
        await world.context.ledger.post(hold, world.clock.now())
        return Exclusive(str(goal_id), stage.session_id, price=500)

    async def test_that_was_performed_is_completed_once_and_paid(self, world: World) -> None:
        exclusive = await self.scene(world)
        await world.performs(exclusive, seconds=5)
        await world.settle(patience=GRACE)
        assert settled(world, exclusive) == (500, 0, 0)
        trace = await world.trace(exclusive)
        assert answers_to(trace, "goal.completed")["trigger_exclusive_escrow_transfer"] == ("done", "500 tokens")
        assert answers_to(trace, "goal.ended")["settle_exclusive_escrow"] == ("returned", "not_timed")

    async def test_that_was_not_is_refunded(self, world: World) -> None:
        exclusive = await self.scene(world)
        await world.ends(exclusive)
        await world.settle()
        assert settled(world, exclusive) == (0, 500, 0)


class TestTwoExclusives:
    async def test_of_one_viewer_one_after_the_other(self, world: World) -> None:
        first = await world.given(an_exclusive(price=100, seconds=60))
        await world.performs(first, seconds=60)
        await world.settle()
        await world.deposits("bob", 200)
        body = {
            "kind": "TriggerGoal",
            "session_id": first.session_id,
            "metadata": {
                "viewer_id": "bob", "private": True, "price": 200, "exclusive": {"title": "Again", "target": 60}
            },
        }  # fmt: skip
        request = (await world.post("/v1/goals", body))["id"]
        await world.post(f"/v1/goals/{request}/agree")
        await world.settle()
        pair = world.session(first.session_id)["exclusive_goal_pairs"]["bob"]
        second = Goal(str(pair["exclusive_goal"]), first.session_id)
        assert second.id != first.id
        assert "exclusive_goal_started" not in pair
        await world.performs(second, seconds=60)
        await world.settle()
        assert world.balance("alice") == 300
