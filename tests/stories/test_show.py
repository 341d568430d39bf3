"""The show: paid for by viewers, performed or not, paid out or given back."""

from datetime import datetime, timedelta

import pytest

from tests.world import World, joined, left, occupied, vacated

from .outline import answers_to
from .scenes import Show, a_funded_show, a_funding, contributes

pytestmark = pytest.mark.real


def assert_paid(world: World, show: Show) -> None:
    """The performer has it all, nobody else anything, and it was one transfer for each earning."""
    assert world.balance(show.streamer) == show.escrow
    assert world.escrow(show.escrow_id) == 0
    assert [world.balance(viewer) for viewer in show.contributions] == [0] * len(show.contributions)
    paid = world.all("transfers", {"_id": {"$regex": "^escrow-"}})
    assert sorted(transfer["amount"] for transfer in paid) == sorted(show.contributions.values())
    for transfer in paid:
        doc_id = transfer["metadata"]["doc_id"]
        assert transfer["_id"] == f"escrow-{show.escrow_id}-{doc_id}-{show.streamer}"
        assert transfer["tags"] == [f"escrow::{show.escrow_id}"]
        assert (transfer.get("from_user_id"), transfer["to_user_id"]) == (None, show.streamer)


def assert_refunded(world: World, show: Show) -> None:
    """Every viewer has what was his, and the performer nothing."""
    assert {viewer: world.balance(viewer) for viewer in show.contributions} == show.contributions
    assert (world.balance(show.streamer), world.escrow(show.escrow_id)) == (0, 0)


class TestFundedShow:
    async def test_begins_when_the_last_token_is_there(self, world: World) -> None:
        show = await world.given(a_funded_show(seconds=360, earnings=3))
        assert world.escrow(show.escrow_id) == show.escrow
        goal, funding = world.goal(show), world.goal(show.funding_id)
        assert (goal["_cls"], goal["active"]) == ("Goal.ShowGoal", True)
        assert [(level["title"], level["target"]) for level in goal["levels"]] == [("Ukulele medley", 360)]
        assert (funding["active"], funding["progress"]) == (False, show.escrow)
        (pair,) = world.session(show.session_id)["show_goal_pairs"]
        assert (pair["funding_goal"], pair["show_goal"]) == (funding["_id"], goal["_id"])

    async def test_is_told_to_the_stream_once(self, world: World) -> None:
        show = await world.given(a_funded_show(earnings=4))
        (changed,) = world.told("stream.changed")
        assert (changed["goal_id"], changed["show"]["target"]) == (show.funding_id, 360)
        (best,) = world.told("livestream.mvps")
        assert [one["user_id"] for one in best["mvps"]] == ["viewer-4", "viewer-3", "viewer-2"]
        assert [one["progress"] for one in world.told("goal.progress.updated")] == [410]  # at once, so told at once


class TestCompletedShow:
    async def test_is_paid_to_the_performer(self, world: World) -> None:
        show = await world.given(a_funded_show(seconds=360, earnings=3))
        await world.performer_joins(show)
        await world.after(seconds=400)
        await world.performer_leaves(show)
        await world.settle()
        assert world.progress(show) == 400
        assert_paid(world, show)

    async def test_leaves_everything_as_it_should_be(self, world: World) -> None:
        show = await world.given(a_funded_show(seconds=360, earnings=3))
        await world.performer_joins(show)
        begun = world.clock.now()
        await world.settle()
        assert ("room-1", f"goal-{show.id}") in world.rtc.recording
        await world.after(seconds=400)
        over = world.clock.now()
        await world.performer_leaves(show)
        await world.settle()

        goal = world.goal(show)
        assert (goal["active"], goal["exp"], goal.get("promises", [])) == (False, over, [])
        (pair,) = world.session(show.session_id)["show_goal_pairs"]
        assert (pair["show_started"], pair["show_ended"]) == (begun, over)
        assert world.rtc.recording == set()

        (asset,), (post,) = world.all("assets"), world.all("posts")
        assert (asset["state"], asset["content_type"], asset["duration"]) == ("quarantined", "video/mp4", 30)
        assert asset["metadata"]["source"] == {"cls": "Session", "id": world.session(show.session_id)["_id"]}
        assert asset["metadata"][f"auto_claimed_by:{post['_id']}"] == f"message-{post['_id']}:0"
        assert (post["sender"], post["caption"]) == (show.streamer, "Ukulele medley")
        own = ["drafts", "beta", "no_exposure"]
        assert post["tags"] == [*own, "verified", "feed:shorts_livestream", "bypass:review"]
        assert list(world.store.objects) == [str(asset["_id"])]

        assert {record["state"] for record in world.all("bi_escrows")} == {"settled"}
        names = [event["name"] for event in world.all("tracking_events", {"escrow_id": show.escrow_id})]
        assert sorted(names) == ["escrow.completed", *["escrow.completed.individual"] * 3]
        told = {(told["direction"], told["amount"], told["shares"]) for told in world.told("wallet.updated")}
        assert told == {("credit", 306, 3), ("debit", 101, 1), ("debit", 102, 1), ("debit", 103, 1)}

    async def test_in_several_goes(self, world: World) -> None:
        show = await world.given(a_funded_show(seconds=360))
        for seconds in (100.4, 100.4, 100.4):
            await world.performs(show, seconds=seconds)
            await world.after(seconds=20)
            await world.settle()
        assert (world.progress(show), world.goal(show)["active"]) == (301, True)  # what is under a second is carried
        await world.performs(show, seconds=59)
        await world.settle()
        assert world.progress(show) == 360
        assert_paid(world, show)

    async def test_of_a_streamer_of_whom_no_clips_are_made(self, world: World) -> None:
        show = await world.given(a_funded_show(tags=("banned:livestream:create_clip",)))
        await world.performs(show, seconds=400)
        await world.settle()
        answers = answers_to(await world.trace(show), "goal.completed")
        assert answers["produce_livestream_clip_from_goal"] == ("returned", "clips_banned")
        assert (world.all("assets"), world.store.objects) == ([], {})
        assert_paid(world, show)


class TestUncompletedShow:
    async def test_that_is_abandoned_is_refunded(self, world: World) -> None:
        show = await world.given(a_funded_show(seconds=360))
        await world.performs(show, seconds=359.9)
        await world.settle()
        assert world.escrow(show.escrow_id) == show.escrow  # he may still come back
        await world.ends(show)
        await world.settle()
        assert world.progress(show) == 359
        assert_refunded(world, show)
        names = [event["name"] for event in world.all("tracking_events", {"escrow_id": show.escrow_id})]
        assert sorted(names) == ["escrow.refunded", *["escrow.refunded.individual"] * 3]
        (told,) = [told for told in world.told("goal.ended") if told["goal_id"] == show.id]
        assert (told["completed"], told["progress"]) == (False, 359)
        assert world.all("assets") == []

    async def test_that_was_never_begun_ends_with_its_session(self, world: World) -> None:
        show = await world.given(a_funded_show())
        await world.post(f"/v1/sessions/{show.session_id}/end")
        await world.settle()
        assert_refunded(world, show)


class TestFundingThatExpires:
    async def test_is_refunded(self, world: World) -> None:
        funding = await world.given(a_funding(target=300, lasts=600))
        await world.deposits("bob", 150)
        await contributes(world, funding, "bob", 90)
        await contributes(world, funding, "bob", 60)
        await world.settle()
        assert world.balance("bob") == 0
        await world.settle(patience=600)
        assert (world.balance("bob"), world.escrow(f"show_funding:{funding.id}")) == (150, 0)
        assert not world.goal(funding)["active"]
        assert world.session(funding.session_id)["show_goal_pairs"] == []

    async def test_takes_no_more_contributions(self, world: World) -> None:
        funding = await world.given(a_funding(target=300, lasts=600))
        await world.deposits("bob", 150)
        await world.after(seconds=600)
        late = await world.call("POST", f"/v1/goals/{funding.id}/contributions", {"user_id": "bob", "amount": 90})
        assert (late.status_code, late.json()["code"]) == (409, "goal_inactive")
        assert world.balance("bob") == 150


class TestEndedWhileItsClockRuns:
    async def test_its_seconds_count_before_it_is_settled(self, world: World) -> None:
        show = await world.given(a_funded_show(seconds=360))
        await world.performer_joins(show)
        await world.after(seconds=200)
        await world.ends(show)
        await world.settle()
        assert world.progress(show) == 200
        assert world.goal(show)["context"]["paused"] == world.clock.now().replace(microsecond=0)
        assert_refunded(world, show)
        (told,) = [told for told in world.told("goal.ended") if told["goal_id"] == show.id]
        assert told["progress"] == 200

    async def test_also_when_they_complete_it(self, world: World) -> None:
        show = await world.given(a_funded_show(seconds=360))
        await world.performer_joins(show)
        await world.after(seconds=361)
        await world.ends(show)
        await world.settle()
        assert world.progress(show) == 361
        assert_paid(world, show)
        assert [asset["state"] for asset in world.all("assets")] == ["quarantined"]

    async def test_a_leave_that_comes_after_the_end_changes_nothing(self, world: World) -> None:
        show = await world.given(a_funded_show(seconds=360))
        await world.performer_joins(show)
        await world.after(seconds=200)
        await world.ends(show)
        await world.after(seconds=3)
        await world.performer_leaves(show)
        await world.settle()
        assert world.progress(show) == 200
        assert_refunded(world, show)


class TestSessionThatEnds:
    async def test_takes_its_open_goals_along(self, world: World) -> None:
        show = await world.given(a_funded_show(seconds=360))
        levels = [{"title": "Song", "target": 100}]
        body = {"kind": "KaraokeGoal", "session_id": show.session_id, "levels": levels}
        karaoke = (await world.post("/v1/goals", body))["id"]
        await world.performer_joins(show)
        await world.after(seconds=400)
        await world.post(f"/v1/sessions/{show.session_id}/end")
        await world.settle()
        assert [world.goal(goal)["active"] for goal in (show.id, karaoke)] == [False, False]
        assert_paid(world, show)  # performed to the end, though nobody has left

    async def test_does_not_end_what_is_anothers(self, world: World) -> None:
        show = await world.given(a_funded_show())
        other = await world.post("/v1/sessions", {"user_id": "carol"})
        await world.post(f"/v1/sessions/{other['id']}/end")
        await world.settle()
        assert world.goal(show)["active"]

    async def test_while_a_funding_has_just_been_completed(self, world: World) -> None:
        funding = await world.given(a_funding(target=100))
        await world.deposits("bob", 100)
        await contributes(world, funding, "bob", 100)
        await world.post(f"/v1/sessions/{funding.session_id}/end")  # before anybody has come round to begin the show
        await world.settle()
        assert world.all("goals", {"active": True}) == []
        assert world.balance("bob") == 100


class TestOneLeaveToldTwice:
    """`member_removed` and `channel_vacated`, in one webhook or apart, in either order."""

    @pytest.mark.parametrize("first_is_member", [True, False])
    @pytest.mark.parametrize("apart_seconds", [None, 0.0, 0.007, 2.0])
    async def test_counts_once(self, world: World, first_is_member: bool, apart_seconds: float | None) -> None:
        show = await world.given(a_funded_show(seconds=360))
        joins, leaves = [joined(show), occupied(show)], [left(show), vacated(show)]
        if not first_is_member:
            joins.reverse()
            leaves.reverse()
        for twins in (joins, leaves):
            if apart_seconds is None:
                await world.hears(*twins)
            else:
                await world.hears(twins[0])
                await world.after(seconds=apart_seconds)
                await world.settle()
                await world.hears(twins[1])
            await world.after(seconds=400)
        await world.settle()
        assert world.progress(show) in (400, 402)  # the later leave is two seconds late: it finds the clock paused
        assert_paid(world, show)
        assert len(world.told("goal.progress.updated")) == 1 + 1  # three contributions together, one pause


class TestDuplicates:
    async def test_of_every_webhook_change_nothing(self, world: World) -> None:
        show = await world.given(a_funded_show(seconds=360))
        begun = world.clock.now()
        for _ in range(2):
            await world.hears(joined(show), occupied(show), at=begun)
        await world.after(seconds=400)
        over = world.clock.now()
        for _ in range(3):
            await world.hears(left(show), vacated(show), at=over)
            await world.hears(joined(show), at=begun)
            await world.settle()
        await world.after(seconds=60)
        await world.hears(left(show), at=over)
        await world.settle()
        assert world.progress(show) == 400
        assert_paid(world, show)
        assert len(world.all("tracking_events", {"name": "goal.progressed", "goal_id": show.id})) == 1


class TestOutOfOrder:
    async def test_a_leave_that_overtakes_its_join(self, world: World) -> None:
        show = await world.given(a_funded_show(seconds=360))
        begun = world.clock.now()
        await world.after(seconds=400)
        await world.performer_leaves(show)
        await world.settle()
        assert world.progress(show) == 0
        await world.after(seconds=1)
        await world.hears(joined(show), at=begun)
        await world.settle()
        assert world.progress(show) == 400
        assert_paid(world, show)
        assert world.rtc.recording == set()  # what was over when we heard of it was not recorded

    async def test_what_was_counted_is_never_taken_back(self, world: World) -> None:
        show = await world.given(a_funded_show(seconds=360))
        begun = world.clock.now()
        await world.performs(show, seconds=100)
        await world.settle()
        assert world.progress(show) == 100
        # He had left for a while, which we hear of late: by the law 40 seconds less, but they have been counted.
        await world.hears(left(show), at=_later(begun, 30))
        await world.hears(joined(show), at=_later(begun, 70))
        await world.settle()
        assert world.progress(show) == 100
        await world.after(seconds=1)
        await world.performs(show, seconds=45)  # of these, 40 are counted already
        await world.settle()
        assert world.progress(show) == 105

    async def test_a_late_leave_does_not_stop_a_newer_run(self, world: World) -> None:
        show = await world.given(a_funded_show(seconds=360))
        begun = world.clock.now()
        await world.performer_joins(show)
        await world.after(seconds=100)
        await world.performer_joins(show)  # the leave before it is still on its way
        await world.after(seconds=1)
        await world.hears(left(show), at=_later(begun, 60))
        await world.settle()
        assert world.progress(show) == 60
        await world.after(seconds=299)
        await world.performer_leaves(show)
        await world.settle()
        assert world.progress(show) == 360
        assert_paid(world, show)

    async def test_events_from_before_the_goal_was_made(self, world: World) -> None:
        begun = world.clock.now()
        show = await world.given(a_funded_show(seconds=360))
        await world.hears(joined(show), at=begun)
        await world.after(seconds=300)
        await world.performer_leaves(show)
        await world.settle()
        assert world.progress(show) == 360  # the scene took a minute


class TestSeveralPeople:
    async def test_two_devices_of_the_performer(self, world: World) -> None:
        show = await world.given(a_funded_show(seconds=360))
        await world.performer_joins(show)
        await world.after(seconds=200)
        await world.performer_joins(show)  # the other device: the clock goes on
        await world.after(seconds=200)
        await world.performer_leaves(show)
        await world.after(seconds=50)
        await world.performer_leaves(show)
        await world.settle()
        assert world.progress(show) == 400
        assert_paid(world, show)

    async def test_a_stranger_does_not_move_the_clock(self, world: World) -> None:
        show = await world.given(a_funded_show(seconds=360))
        await world.hears(joined(show, "mallory"))
        await world.after(seconds=100)
        await world.performer_joins(show)
        await world.after(seconds=100)
        await world.hears(left(show, "mallory"))
        await world.settle()
        assert (world.progress(show), world.goal(show)["active"]) == (0, True)
        webhooks = await world.trace(show)
        control = [node for webhook in webhooks for node in webhook["children"][0]["children"]]
        reasons = [node.get("reason") for node in control if node["name"] == "karaoke_control"]
        assert reasons == ["not_a_participant", "started", "not_a_participant"]
        await world.after(seconds=200)
        await world.performer_leaves(show)
        await world.settle()
        assert world.progress(show) == 300

    async def test_a_performer_whose_id_is_sent_as_a_number(self, world: World) -> None:
        session = await world.post("/v1/sessions", {"user_id": "4711"})
        body = {"kind": "ShowGoal", "session_id": session["id"], "levels": [{"title": "Show", "target": 10}]}
        goal_id = (await world.post("/v1/goals", body))["id"]
        for name in ("member_added", "member_removed"):
            await world.hears({"name": name, "channel": f"presence-enc-goal@{goal_id}", "user_id": 4711})
            await world.after(seconds=12)
        await world.settle()
        assert world.goal(goal_id)["progress"] == 12


def _later(instant: datetime, seconds: float) -> datetime:
    return instant + timedelta(seconds=seconds)
