"""The clip of a completed performance, the recording, and notices: what workers do outside."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from bson import ObjectId

from goalsvc.domain.goals import GoalKind
from goalsvc.domain.ids import derived_id
from goalsvc.domain.lanes import Lane
from goalsvc.domain.origin import NOWHERE
from goalsvc.domain.outcome import Done, FollowUp, Outcome, Reason, Returned
from goalsvc.domain.promises import Job
from goalsvc.domain.trace import TracedFollowUp
from goalsvc.errors import ClipImpossibleError, ExternalServiceError, NotYetError
from goalsvc.models.clip import Asset, AssetState, Post
from goalsvc.models.database import WITH_PROMISES
from goalsvc.models.goal import Goal
from goalsvc.models.session import Rtc
from goalsvc.models.user import User
from goalsvc.tasks import ALL
from goalsvc.tasks.clips import clip_livestream_as_asset, create_post_from_livestream
from goalsvc.tasks.notices import deliver_notice
from goalsvc.tasks.recording import StartRecord, StartSnapshot, StopRecord
from goalsvc.tasks.runner import Runner
from tests.receivers.fakes import NOW, Stage, settings_with
from tests.receivers.scenes import GOAL, SESSION, STREAMER, Run, a_goal, a_session, goal_document, set_up

ASSET, POST = derived_id(GOAL, "asset"), derived_id(GOAL, "post")
CLAIM = {f"auto_claimed_by:{POST}": f"message-{POST}:0"}
TAGS = ["feed:shorts_livestream", "bypass:review"]


async def create(stage: Stage, **settings: Any) -> Outcome:
    context = replace(stage.context, settings=settings_with(**settings)) if settings else stage.context
    return await create_post_from_livestream(
        context,
        session_id=str(SESSION),
        caption="Ukulele medley",
        duration=30,
        rewind_seconds=180,
        tags=TAGS,
        goal_id=str(GOAL),
        completed_at=NOW,
    )


def clip_debt(outcome: Outcome) -> FollowUp:
    assert isinstance(outcome, Done)
    (follow_up,) = outcome.follow_ups
    return follow_up


async def cut(stage: Stage, **changes: Any) -> Outcome:
    arguments = dict(clip_debt(await create(stage)).arguments) | changes
    return await clip_livestream_as_asset(stage.context, **arguments)


async def take_the_source(source: str) -> None:
    users = User.get_motor_collection()
    await (users.update_one({}, {"$unset": {"byteplus": True}}) if source == "unset" else users.delete_many({}))


async def asset() -> Asset:
    found = await Asset.find_one({"_id": ASSET})
    assert found is not None
    return found


class TestCreatePostFromLivestream:
    async def test_makes_the_asset(self, stage: Stage) -> None:
        await set_up(GoalKind.SHOW)
        await create(stage)
        made = await asset()
        assert (made.content_type, made.duration, made.state) == ("video/mp4", 30, AssetState.PENDING)
        assert made.metadata["source"] == {"cls": "Session", "id": SESSION}
        assert made.metadata.items() >= CLAIM.items()

    async def test_makes_the_draft_post(self, stage: Stage) -> None:
        await set_up(GoalKind.SHOW)
        await create(stage)
        post = await Post.find_one({"_id": POST})
        assert post is not None
        assert (post.sender, post.caption, post.asset_id) == (STREAMER, "Ukulele medley", ASSET)
        assert post.tags == ["drafts", "beta", "no_exposure", "verified", *TAGS]

    @pytest.mark.parametrize("rewind", [180, 10])
    async def test_promises_the_clip_at_once(self, stage: Stage, rewind: int) -> None:
        """Also when its last second is still to come: a short window would have moved on by then."""
        await set_up(GoalKind.SHOW)
        outcome = await create_post_from_livestream(
            stage.context,
            session_id=str(SESSION),
            caption="c",
            duration=30,
            rewind_seconds=rewind,
            tags=TAGS,
            goal_id=str(GOAL),
            completed_at=NOW,
        )
        follow_up = clip_debt(outcome)
        assert follow_up.arguments["asset_id"] == str(ASSET)
        assert follow_up.arguments["metadata"] == CLAIM
        assert (follow_up.task, follow_up.due_at) == ("clip_livestream_as_asset", None)
        wanted = (await asset()).wanted
        assert wanted is not None
        assert (wanted.begins_at, wanted.duration) == (NOW - timedelta(seconds=rewind), 30)

    async def test_run_again_it_makes_nothing_more(self, stage: Stage) -> None:
        await set_up(GoalKind.SHOW)
        await create(stage)
        before = await stage.everything()
        await create(stage)
        assert await stage.everything() == before

    async def test_returns_when_the_session_is_gone(self, stage: Stage) -> None:
        assert await create(stage) == Returned(Reason.UNKNOWN_SESSION)

    @pytest.mark.parametrize("source", ["unset", "no user"])
    async def test_without_a_source_nothing_is_made(self, stage: Stage, source: str) -> None:
        await set_up(GoalKind.SHOW)
        await take_the_source(source)
        assert await create(stage) == Returned(Reason.NO_SOURCE)
        assert await Asset.find_all().to_list() == await Post.find_all().to_list() == []

    async def test_switched_off_nothing_is_made(self, stage: Stage) -> None:
        await set_up(GoalKind.SHOW)
        assert await create(stage, clips="off") == Returned(Reason.SWITCHED_OFF)
        assert await Asset.find_all().to_list() == await Post.find_all().to_list() == []

    def test_ids_follow_from_the_goal(self) -> None:
        assert derived_id(GOAL, "asset") == ASSET != POST != derived_id(ObjectId(), "post")


class TestClipLivestreamAsAsset:
    async def test_cuts_from_the_rewind_before_completion_and_stores_it(self, stage: Stage) -> None:
        await set_up(GoalKind.SHOW)
        assert isinstance(await cut(stage), Done)
        (made,) = stage.cutter.cuts
        assert made.hls_url == "https://live.example/a.m3u8"
        assert (made.begins_at, made.duration_seconds) == (NOW - timedelta(seconds=180), 30)
        assert set(stage.store.objects) == {str(ASSET)}
        assert stage.store.objects[str(ASSET)].content_type == "video/mp4"
        stored = await asset()
        assert stored.state is AssetState.QUARANTINED
        assert (stored.begins_at, stored.duration) == (NOW - timedelta(seconds=180), 30)
        assert stored.dated_by == "program_date_time"

    async def test_what_was_cut_is_stored_beside_what_was_wanted(self, stage: Stage) -> None:
        await set_up(GoalKind.SHOW)
        stage.cutter.late_seconds = 12.5
        await cut(stage)
        stored = await asset()
        assert (stored.begins_at, stored.duration) == (NOW - timedelta(seconds=167.5), 30)
        assert stored.wanted is not None
        assert (stored.wanted.begins_at, stored.wanted.duration) == (NOW - timedelta(seconds=180), 30)

    async def test_run_again_it_returns(self, stage: Stage) -> None:
        await set_up(GoalKind.SHOW)
        await cut(stage)
        assert await cut(stage) == Returned(Reason.ALREADY_STORED)
        assert len(stage.cutter.cuts) == 1

    async def test_what_has_not_been_streamed_is_waited_for(self, stage: Stage) -> None:
        await set_up(GoalKind.SHOW)
        stage.cutter.troubles = [NotYetError("the last second", 2.0)]
        with pytest.raises(NotYetError):
            await cut(stage, rewind_seconds=10)
        assert (await asset()).state is AssetState.PENDING

    async def test_within_a_limit(self, stage: Stage) -> None:
        await set_up(GoalKind.SHOW)
        stage.cutter.troubles = [NotYetError("the last second", 2.0)]
        stage.clock.advance(seconds=3600)
        with pytest.raises(ClipImpossibleError, match="has not gone on"):
            await cut(stage)

    @pytest.mark.parametrize("source", ["unset", "no user"])
    async def test_a_source_that_was_taken_away(self, stage: Stage, source: str) -> None:
        await set_up(GoalKind.SHOW)
        arguments = clip_debt(await create(stage)).arguments
        await take_the_source(source)
        assert await clip_livestream_as_asset(stage.context, **arguments) == Returned(Reason.NO_SOURCE)
        assert (await asset()).state is AssetState.FAILED
        assert stage.events.types() == ["clip.failed"]
        assert stage.cutter.cuts == []

    async def test_switched_off_after_it_was_promised(self, stage: Stage) -> None:
        await set_up(GoalKind.SHOW)
        arguments = clip_debt(await create(stage)).arguments
        context = replace(stage.context, settings=settings_with(clips="off"))
        assert await clip_livestream_as_asset(context, **arguments) == Returned(Reason.SWITCHED_OFF)
        assert (await asset()).state is AssetState.FAILED

    async def test_a_store_that_refuses_leaves_it_pending(self, stage: Stage) -> None:
        await set_up(GoalKind.SHOW)
        stage.store.refuse()
        with pytest.raises(ExternalServiceError):
            await cut(stage)
        assert (await asset()).state is AssetState.PENDING

    async def test_returns_when_the_asset_is_gone(self, stage: Stage) -> None:
        await set_up(GoalKind.SHOW)
        assert await cut(stage, asset_id=str(ObjectId())) == Returned(Reason.UNKNOWN_ASSET)

    async def test_when_it_is_given_up_the_asset_has_failed(self, stage: Stage) -> None:
        await set_up(GoalKind.SHOW)
        owed = clip_debt(await create(stage))
        job = Job("c", owed.task, owed.arguments, promise=f"goals/{GOAL}/{owed.id}")
        for _ in range(2):  # as after a crash before the promise was settled
            await Goal.add_promises(GOAL, [TracedFollowUp(owed, NOWHERE)], NOW)
            stage.cutter.troubles = [ClipImpossibleError("gone")]
            assert await Runner(ALL, WITH_PROMISES).run(stage.context, job, 1) is None
            stage.clock.advance(seconds=1)
        assert (await asset()).state is AssetState.FAILED
        (told,) = [event for event in stage.events.written.values() if event.type == "clip.failed"]
        assert (told.data["clip"]["id"], told.user_ids) == (str(ASSET), (STREAMER,))
        assert told.data["clip"]["reason"] == "clip_impossible: gone"

    async def test_a_clip_that_is_stored_does_not_fail_any_more(self, stage: Stage) -> None:
        await set_up(GoalKind.SHOW)
        await cut(stage)
        assert clip_livestream_as_asset.after_death is not None
        await clip_livestream_as_asset.after_death(stage.context, {"asset_id": str(ASSET)}, "gone")
        assert (await asset()).state is AssetState.QUARANTINED

    def test_it_has_the_queue_of_long_work(self) -> None:
        assert clip_livestream_as_asset.lane is Lane.CLIPS


class TestRecording:
    async def test_start_and_stop_name_the_same_task(self, stage: Stage) -> None:
        await a_session(GoalKind.SHOW)
        await a_goal(GoalKind.SHOW, Run.SHORT)
        for control in (StartRecord, StopRecord):
            outcome = await control(stage.context, goal_id=str(GOAL), session_id=str(SESSION))
            assert outcome == Done(f"goal-{GOAL}")
        assert [call.action for call in stage.rtc.calls] == ["StartRecord", "StopRecord"]
        assert stage.rtc.recording == set()

    async def test_the_platforms_own_task_goes_before_ours(self, stage: Stage) -> None:
        await a_session(GoalKind.SHOW, rtc=Rtc(room_id="room-1", record_task_id="theirs"))
        assert await StopRecord(stage.context, goal_id=str(GOAL), session_id=str(SESSION)) == Done("theirs")

    @pytest.mark.parametrize("over", ["ended", "completed", "gone"])
    async def test_the_recording_of_a_show_that_is_over_is_stopped_at_once(self, stage: Stage, over: str) -> None:
        """Its StopRecord may have come first, and will not come again."""
        await a_session(GoalKind.SHOW)
        if over != "gone":
            await a_goal(GoalKind.SHOW, Run.REACHED if over == "completed" else Run.SHORT, active=over != "ended")
        await stage.rtc.start_record("room-1", f"goal-{GOAL}")  # an earlier try, of which no answer came
        await StartRecord(stage.context, goal_id=str(GOAL), session_id=str(SESSION))
        assert stage.rtc.recording == set()
        assert [call.action for call in stage.rtc.calls] == ["StartRecord", "StopRecord"]

    async def test_a_show_that_ends_while_its_recording_starts_is_promised_to_be_stopped(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """BytePlus's answer is lost, and the run is not tried again: another run has fulfilled its promise."""
        await a_session(GoalKind.SHOW)
        await a_goal(GoalKind.SHOW, Run.SHORT)
        start = stage.rtc.start_record

        async def slow_start(room_id: str, task_id: str) -> None:
            await start(room_id, task_id)
            await Goal.get_motor_collection().update_one({"_id": GOAL}, {"$set": {"active": False}})
            raise ExternalServiceError("byteplus", "the answer was lost")

        monkeypatch.setattr(stage.rtc, "start_record", slow_start)
        arguments = {"goal_id": str(GOAL), "session_id": str(SESSION)}
        job = Job("start", "StartRecord", arguments, promise=f"goals/{GOAL}/StartRecord")
        runner = Runner(ALL, WITH_PROMISES)
        assert await runner.run(stage.context, job, 1) is None
        assert stage.rtc.recording == {("room-1", f"goal-{GOAL}")}
        for late in stage.queue.take():
            assert await runner.run(stage.context, late, 1) is None
        assert stage.rtc.recording == set()
        assert (await goal_document())["promises"] == []

    async def test_a_session_that_is_gone(self, stage: Stage) -> None:
        outcome = await StartSnapshot(stage.context, goal_id=str(GOAL), session_id=str(SESSION))
        assert outcome == Returned(Reason.UNKNOWN_SESSION)

    async def test_a_session_without_a_room(self, stage: Stage) -> None:
        await a_session(GoalKind.EXCLUSIVE, rtc=Rtc())
        outcome = await StartSnapshot(stage.context, goal_id=str(GOAL), session_id=str(SESSION))
        assert outcome == Returned(Reason.NO_ROOM)

    @pytest.mark.parametrize(
        ("values", "records"),
        [
            ({"recording": "off"}, False),
            ({"recording": "off", "byteplus_access_key": "k"}, False),
            ({"recording": None}, False),
            ({"recording": None, "byteplus_access_key": "k"}, True),
            ({"recording": "on"}, True),
        ],
    )
    async def test_the_switch(self, stage: Stage, values: dict[str, Any], records: bool) -> None:
        await a_session(GoalKind.SHOW)
        await a_goal(GoalKind.SHOW, Run.SHORT)
        context = replace(stage.context, settings=settings_with(**values))
        for control in (StartRecord, StopRecord, StartSnapshot):
            outcome = await control(context, goal_id=str(GOAL), session_id=str(SESSION))
            assert outcome == (Done(f"goal-{GOAL}") if records else Returned(Reason.SWITCHED_OFF))
        assert bool(stage.rtc.calls) is records

    async def test_a_refusal_may_pass(self, stage: Stage) -> None:
        await a_session(GoalKind.EXCLUSIVE)
        stage.rtc.refuse()
        with pytest.raises(ExternalServiceError):
            await StartSnapshot(stage.context, goal_id=str(GOAL), session_id=str(SESSION))


PROGRESS = "goal.progress.updated"


class TestDeliverNotice:
    async def test_hands_it_to_pusher(self, stage: Stage) -> None:
        outcome = await deliver_notice(
            stage.context, channels=["private-user@u"], event="wallet.updated", data={"event_id": "e"}
        )
        assert outcome == Done("wallet.updated")
        (notice,) = stage.notifier.notices
        assert (notice.channels, notice.data) == (("private-user@u",), {"event_id": "e"})

    @pytest.mark.parametrize(("told", "sent"), [(100, False), (250, True), (300, True)])
    async def test_progress_that_newer_progress_supersedes_is_dropped(
        self, stage: Stage, told: int, sent: bool
    ) -> None:
        await a_goal(GoalKind.KARAOKE, progress=250)
        data = {"event_id": "e", "goal_id": str(GOAL), "progress": told}
        outcome = await deliver_notice(stage.context, channels=["private-user@u"], event=PROGRESS, data=data)
        assert outcome == (Done(PROGRESS) if sent else Returned(Reason.OVERTAKEN))
        assert len(stage.notifier.notices) == sent

    async def test_other_notices_of_a_goal_are_never_superseded(self, stage: Stage) -> None:
        await a_goal(GoalKind.KARAOKE, progress=250)
        data = {"event_id": "e", "goal_id": str(GOAL), "progress": 100}
        outcome = await deliver_notice(stage.context, channels=["private-user@u"], event="goal.ended", data=data)
        assert outcome == Done("goal.ended")

    async def test_a_refusal_may_pass(self, stage: Stage) -> None:
        stage.notifier.refuse()
        with pytest.raises(ExternalServiceError):
            await deliver_notice(stage.context, channels=["private-user@u"], event="x", data={})
