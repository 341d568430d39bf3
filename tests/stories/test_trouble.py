"""What others refuse: tried again, given up with a reason, and tried anew when somebody says so."""

import pytest
from bson import ObjectId

from goalsvc.errors import ClipImpossibleError, NotYetError, UnusableDocumentError
from goalsvc.models.session import Session
from tests.support.services import RecordedCutter
from tests.world import World

from .scenes import Show, a_funded_show, a_stage

pytestmark = pytest.mark.real

#: So often a task is tried, and the task that cuts clips.
TRIES, CLIP_TRIES = 7, 12


async def perform(world: World, show: Show) -> None:
    await world.performer_joins(show)
    await world.settle()
    await world.after(seconds=400)
    await world.performer_leaves(show)
    await world.settle()


def cutter_of(world: World) -> RecordedCutter:
    assert isinstance(world.context.cutter, RecordedCutter)
    return world.context.cutter


class TestBytePlusRefusing:
    async def test_for_a_while(self, world: World) -> None:
        show = await world.given(a_funded_show())
        world.rtc.refuse(TRIES - 1)
        await world.performer_joins(show)
        await world.settle()
        assert ("room-1", f"goal-{show.id}") in world.rtc.recording
        assert world.all("dead_letters") == []

    @pytest.mark.parametrize("promise", ["nothing", "accounts/user:bob/escrow_out", "goals/5"])
    async def test_whose_promise_stands_nowhere_is_refused(self, world: World, promise: str) -> None:
        letter = {
            "_id": "letters/of/others",
            "task": "escrow_out",
            "arguments": {},
            "state": "dead",
            "promise": promise,
            "reason": "unknown",
            "tries": 1,
            "at": world.clock.now(),
        }
        world.has_dead_letters = True
        world.database["dead_letters"].insert_one(letter)
        answer = await world.call("POST", f"/v1/dead-letters/{letter['_id']}/redrive")
        assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
        assert "promise: must be" in answer.json()["detail"]
        assert (await world.get("/v1/dead-letters"))["items"][0]["state"] == "dead"

    async def test_for_good(self, world: World) -> None:
        show = await world.given(a_funded_show())
        await world.performer_joins(show)
        await world.settle()
        await world.after(seconds=400)
        world.rtc.refuse(TRIES)
        await world.performer_leaves(show)
        await world.settle()
        assert world.balance(show.streamer) == show.escrow  # a payout waits for no recording
        (letter,) = (await world.get("/v1/dead-letters"))["items"]
        assert (letter["task"], letter["tries"], letter["state"]) == ("StopRecord", TRIES, "dead")
        assert letter["reason"] == "external_service: byteplus: refused, as it was told to"
        assert letter["goal_id"] == show.id

        assert world.rtc.recording != set()
        await world.post(f"/v1/dead-letters/{letter['id']}/redrive")
        again = await world.call("POST", f"/v1/dead-letters/{letter['id']}/redrive")
        assert (again.status_code, again.json()["code"]) == (409, "already_redriven")
        await world.settle()
        assert world.rtc.recording == set()
        assert world.goal(show).get("promises", []) == []

    async def test_the_start_until_the_show_is_over(self, world: World) -> None:
        show = await world.given(a_funded_show())
        world.rtc.refuse(1)
        await world.performer_joins(show)
        await world.work()
        await world.after(seconds=400)
        await world.performer_leaves(show)
        await world.settle()
        assert world.rtc.recording == set()  # nobody would stop what begins now

    async def test_there_is_no_room(self, world: World) -> None:
        stage = await world.given(a_stage(room=False))
        body = {"kind": "ShowGoal", "session_id": stage.session_id, "levels": [{"title": "Show", "target": 10}]}
        goal_id = (await world.post("/v1/goals", body))["id"]
        for name in ("member_added", "member_removed"):
            await world.hears({"name": name, "channel": f"presence-enc-goal@{goal_id}", "user_id": "alice"})
            await world.settle()
            await world.after(seconds=12)
        assert world.rtc.calls == []


class TestPusherRefusing:
    async def test_every_notice_is_told_later(self, world: World) -> None:
        show = await world.given(a_funded_show(earnings=3))
        world.notifier.notices.clear()
        world.notifier.refuse(8)
        await perform(world, show)
        assert world.balance(show.streamer) == show.escrow
        assert [(told["amount"], told["shares"]) for told in world.told("wallet.updated")] == [(101 + 102 + 103, 3)]
        assert [told["progress"] for told in world.told("goal.progress.updated")] == [400]

    async def test_for_good(self, world: World) -> None:
        world.has_dead_letters = True
        show = await world.given(a_funded_show(earnings=3))
        world.notifier.notices.clear()
        world.notifier.refuse(10_000)
        await perform(world, show)
        assert world.balance(show.streamer) == show.escrow
        letters = world.all("dead_letters")
        assert {letter["task"] for letter in letters} == {"deliver_notice"}
        # The streamer hears of a payout once, whatever the number of its shares.
        assert sorted(letter["arguments"]["event"] for letter in letters) == ["goal.progress.updated", "wallet.updated"]
        world.notifier.refuse(0)
        for letter in letters:
            await world.post(f"/v1/dead-letters/{letter['_id']}/redrive")
        await world.settle()
        assert [(told["amount"], told["shares"]) for told in world.told("wallet.updated")] == [(101 + 102 + 103, 3)]
        assert world.all("dead_letters", {"state": "dead"}) == []


class TestUnreadableSession:
    async def test_a_field_of_another_shape_keeps_nothing_from_being_paid(self, world: World) -> None:
        show = await world.given(a_funded_show(seconds=360))
        await world.performer_joins(show)
        await world.settle()
        await world.after(seconds=400)
        session = {"_id": ObjectId(show.session_id)}
        world.database.sessions.update_one(session, {"$set": {"statuses": "of another shape"}})
        await world.performer_leaves(show)
        await world.settle()
        assert (world.progress(show), world.goal(show)["active"]) == (400, False)
        assert (world.balance(show.streamer), world.all("dead_letters")) == (show.escrow, [])

    async def test_seconds_are_not_counted_again_when_redriven(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def cannot_be_used(session_id: object) -> Session:
            raise UnusableDocumentError(f"sessions/{session_id}", "document", "cannot be used")

        show = await world.given(a_funded_show(seconds=360))
        await world.performer_joins(show)
        await world.settle()
        await world.after(seconds=400)
        with monkeypatch.context() as patched:
            patched.setattr(Session, "by_id", cannot_be_used)
            await world.performer_leaves(show)
            await world.settle()
        letters = world.all("dead_letters")
        assert "increment_goal_progress" in [letter["task"] for letter in letters]
        assert (world.progress(show), world.balance(show.streamer)) == (400, 0)
        for letter in letters:
            await world.post(f"/v1/dead-letters/{letter['_id']}/redrive")
        await world.settle()
        assert (world.progress(show), world.goal(show)["active"]) == (400, False)
        assert world.balance(show.streamer) == show.escrow


class TestS3Refusing:
    async def test_for_a_while(self, world: World) -> None:
        show = await world.given(a_funded_show())
        world.store.refuse(3)
        await perform(world, show)
        (asset,) = world.all("assets")
        assert (asset["state"], list(world.store.objects)) == ("quarantined", [str(asset["_id"])])

    async def test_for_good_and_redriven(self, world: World) -> None:
        show = await world.given(a_funded_show())
        world.store.refuse(CLIP_TRIES)
        await perform(world, show)
        assert world.balance(show.streamer) == show.escrow
        (asset,), (letter,) = world.all("assets"), world.all("dead_letters")
        assert (asset["state"], letter["task"], letter["tries"]) == ("failed", "clip_livestream_as_asset", CLIP_TRIES)
        await world.post(f"/v1/dead-letters/{letter['_id']}/redrive")
        await world.settle()
        (asset,) = world.all("assets")
        assert (asset["state"], list(world.store.objects)) == ("quarantined", [str(asset["_id"])])


class TestStream:
    async def test_that_lags_behind_is_waited_for(self, world: World) -> None:
        show = await world.given(a_funded_show(seconds=60))
        cutter_of(world).troubles = [NotYetError("4 s have not been streamed yet", 4.0)] * 20
        await perform(world, show)
        assert [asset["state"] for asset in world.all("assets")] == ["quarantined"]
        assert len(cutter_of(world).cuts) == 21

    async def test_that_does_not_go_on(self, world: World) -> None:
        world.has_dead_letters = True
        show = await world.given(a_funded_show())
        cutter_of(world).troubles = [NotYetError("4 s have not been streamed yet", 4.0)] * 1000
        await perform(world, show)
        assert [asset["state"] for asset in world.all("assets")] == ["failed"]
        (letter,) = world.all("dead_letters")
        assert letter["reason"].startswith("clip_impossible: the stream has not gone on")

    async def test_that_does_not_hold_these_seconds(self, world: World) -> None:
        world.has_dead_letters = True
        show = await world.given(a_funded_show())
        cutter_of(world).troubles = [ClipImpossibleError("the stream does not reach back so far")]
        await perform(world, show)
        assert world.balance(show.streamer) == show.escrow
        (letter,) = world.all("dead_letters")
        assert (letter["task"], letter["tries"]) == ("clip_livestream_as_asset", 1)  # it would not help to try again
        assert letter["reason"] == "clip_impossible: the stream does not reach back so far"
        (clip,) = (await world.get("/v1/clips"))["items"]
        assert (clip["state"], clip["reason"]) == ("failed", letter["reason"])
        (told,) = [event for event in world.all("events") if event["type"] == "clip.failed"]
        assert told["data"]["clip"]["reason"] == letter["reason"]

    async def test_a_streamer_without_one_has_no_clip_and_no_dead_letter(self, world: World) -> None:
        show = await world.given(a_funded_show(hls_url=""))
        await perform(world, show)
        assert world.balance(show.streamer) == show.escrow
        assert world.all("assets") == world.all("posts") == world.all("dead_letters") == []


class TestEscrowThatIsShort:
    async def test_the_share_is_a_dead_letter_and_is_paid_when_redriven(self, world: World) -> None:
        show = await world.given(a_funded_show(earnings=3))
        account = f"escrow:{show.escrow_id}"
        await world.performer_joins(show)
        await world.settle()
        world.database.accounts.update_one({"_id": account}, {"$inc": {"balance": -50}})  # somebody's mistake
        await world.after(seconds=400)
        await world.performer_leaves(show)
        await world.settle(patience=60)
        paid = world.balance(show.streamer)
        assert 0 < paid < show.escrow - 50
        (letter,) = world.all("dead_letters")
        assert (letter["task"], letter["state"]) == ("escrow_out", "dead")
        assert letter["reason"].startswith("insufficient_funds: ")

        world.database.accounts.update_one({"_id": account}, {"$inc": {"balance": 50}})
        await world.post(f"/v1/dead-letters/{letter['_id']}/redrive")
        await world.settle(patience=60)
        assert (world.balance(show.streamer), world.escrow(show.escrow_id)) == (show.escrow, 0)
        names = [event["name"] for event in world.all("tracking_events", {"escrow_id": show.escrow_id})]
        assert sorted(names) == ["escrow.completed", *["escrow.completed.individual"] * 3]
