"""From progress to completion: levels, the end of a completed goal, its clip, and the show that a funding pays for."""

from dataclasses import replace
from datetime import timedelta

import pytest
from bson import ObjectId

from goalsvc.domain.goals import GoalKind, Level
from goalsvc.domain.outcome import Done, Reason
from goalsvc.models.goal import ExclusiveGoal, Goal, ShowGoal
from goalsvc.models.session import ExclusivePair, Session, ShowPair
from goalsvc.models.user import User
from goalsvc.receivers.completion import (
    deactivate_goal,
    produce_livestream_clip_from_goal,
    start_agreed_exclusive,
    start_funded_show,
    trigger_goal_complete,
)
from goalsvc.signals.events import GoalCompleted, GoalEnded, GoalProgressed

from .delivery import debt_of, deliver, deliver_again, reason_of
from .fakes import NOW, Stage
from .scenes import (
    GOAL,
    HELD,
    PAUSED,
    SESSION,
    STREAMER,
    VIEWER,
    Run,
    a_session,
    goal_event,
    play,
    session_document,
    set_up,
    without_session,
    without_viewer,
)


class TestTriggerGoalComplete:
    @pytest.mark.parametrize(
        ("before", "after"),
        [(0, 100), (99, 100), (99, 299), (199, 200), (0, 1000)],
        ids=["the first", "by a second", "past it", "the last", "several at a time"],
    )
    async def test_sends_goal_completed_once_for_a_new_level(self, stage: Stage, before: int, after: int) -> None:
        levels = tuple(Level(target=target) for target in (100, 200))
        event = goal_event(GoalProgressed, GoalKind.SHOW, levels=levels, progress=after, amount=after - before)
        outcome = await deliver(stage, trigger_goal_complete, event)
        assert isinstance(outcome, Done)
        assert outcome.what == f"level {event.level}"
        (report,) = outcome.reports
        assert (report.signal, report.sender) == ("features.leaderboards", "goal.completed")

    async def test_what_it_sends_tells_the_same_goal(self, stage: Stage) -> None:
        await play(stage, GoalProgressed, GoalKind.SHOW, Run.REACHED)
        completed = [record for record in stage.recorder.tracked.values() if record["name"] == "goal.completed"]
        (record,) = completed
        assert record["_id"] == f"goal.completed:{GOAL}:e1:completed"
        assert (record["goal_id"], record["kind"], record["progress"]) == (str(GOAL), "ShowGoal", 360)

    @pytest.mark.parametrize(("before", "after"), [(0, 99), (100, 199), (200, 900), (100, 100)])
    async def test_returns_within_a_level(self, stage: Stage, before: int, after: int) -> None:
        levels = tuple(Level(target=target) for target in (100, 200))
        event = goal_event(GoalProgressed, GoalKind.SHOW, levels=levels, progress=after, amount=after - before)
        assert reason_of(await deliver(stage, trigger_goal_complete, event)) is Reason.NO_NEW_LEVEL

    async def test_returns_for_a_goal_without_levels(self, stage: Stage) -> None:
        event = goal_event(GoalProgressed, GoalKind.EXCLUSIVE, levels=())
        assert reason_of(await deliver(stage, trigger_goal_complete, event)) is Reason.NO_NEW_LEVEL

    async def test_a_second_delivery_changes_nothing(self, stage: Stage) -> None:
        await set_up(GoalKind.FUNDING)
        await deliver_again(stage, trigger_goal_complete, goal_event(GoalProgressed, GoalKind.FUNDING))


class TestDeactivateGoal:
    @pytest.mark.parametrize("kind", [GoalKind.FUNDING, GoalKind.SHOW, GoalKind.KARAOKE, GoalKind.EXCLUSIVE])
    async def test_owes_the_end_at_the_last_level(self, stage: Stage, kind: GoalKind) -> None:
        follow_up = debt_of(await deliver(stage, deactivate_goal, goal_event(GoalCompleted, kind)))
        assert (follow_up.task, follow_up.arguments) == ("deactivate_goal", {"goal_id": str(GOAL)})

    async def test_returns_at_a_lower_level(self, stage: Stage) -> None:
        event = goal_event(GoalCompleted, GoalKind.SHOW, Run.LOWER_LEVEL)
        assert reason_of(await deliver(stage, deactivate_goal, event)) is Reason.NOT_THE_LAST_LEVEL

    async def test_returns_for_a_goal_without_levels_which_its_end_completes(self, stage: Stage) -> None:
        event = goal_event(GoalCompleted, GoalKind.EXCLUSIVE, levels=(), progress=77)
        assert reason_of(await deliver(stage, deactivate_goal, event)) is Reason.NOT_THE_LAST_LEVEL

    async def test_a_second_delivery_changes_nothing(self, stage: Stage) -> None:
        await deliver_again(stage, deactivate_goal, goal_event(GoalCompleted, GoalKind.SHOW))


class TestProduceLivestreamClipFromGoal:
    @pytest.mark.parametrize(("kind", "target"), [(GoalKind.SHOW, 360), (GoalKind.KARAOKE, 180)])
    async def test_owes_the_clip(self, stage: Stage, kind: GoalKind, target: int) -> None:
        await set_up(kind)
        follow_up = debt_of(await deliver(stage, produce_livestream_clip_from_goal, goal_event(GoalCompleted, kind)))
        assert follow_up.task == "create_post_from_livestream"
        assert follow_up.arguments == {
            "session_id": str(SESSION),
            "caption": f"A {kind}",
            "duration": 30,
            "rewind_seconds": target // 2,
            "tags": ["feed:shorts_livestream", "bypass:review"],
            "goal_id": str(GOAL),
            "completed_at": PAUSED,
        }

    async def test_caption_and_rewind_are_of_the_first_level(self, stage: Stage) -> None:
        levels = (Level(title="First", target=21), Level(title="Last", target=300))
        event = goal_event(GoalCompleted, GoalKind.SHOW, levels=levels)
        arguments = debt_of(await deliver(stage, produce_livestream_clip_from_goal, event)).arguments
        assert (arguments["caption"], arguments["rewind_seconds"]) == ("First", 10)

    async def test_a_streamer_who_is_not_known_is_not_banned(self, stage: Stage) -> None:
        debt_of(await deliver(stage, produce_livestream_clip_from_goal, goal_event(GoalCompleted, GoalKind.SHOW)))

    async def test_returns_when_the_streamer_must_not_be_clipped(self, stage: Stage) -> None:
        await User(id=STREAMER, tags=["verified", "banned:livestream:create_clip"]).insert()
        outcome = await deliver(stage, produce_livestream_clip_from_goal, goal_event(GoalCompleted, GoalKind.SHOW))
        assert reason_of(outcome) is Reason.CLIPS_BANNED

    async def test_returns_at_a_lower_level(self, stage: Stage) -> None:
        event = goal_event(GoalCompleted, GoalKind.KARAOKE, Run.LOWER_LEVEL)
        outcome = await deliver(stage, produce_livestream_clip_from_goal, event)
        assert reason_of(outcome) is Reason.NOT_THE_LAST_LEVEL

    async def test_returns_without_a_session(self, stage: Stage) -> None:
        event = without_session(goal_event(GoalCompleted, GoalKind.SHOW))
        assert reason_of(await deliver(stage, produce_livestream_clip_from_goal, event)) is Reason.NO_SESSION

    async def test_returns_for_other_kinds(self, stage: Stage) -> None:
        outcome = await deliver(stage, produce_livestream_clip_from_goal, goal_event(GoalCompleted, GoalKind.FUNDING))
        assert reason_of(outcome) is Reason.OTHER_GOAL_KIND

    async def test_a_second_delivery_changes_nothing(self, stage: Stage) -> None:
        await set_up(GoalKind.SHOW)
        await deliver_again(stage, produce_livestream_clip_from_goal, goal_event(GoalCompleted, GoalKind.SHOW))


class TestStartFundedShow:
    async def show(self) -> ShowGoal:
        (pair,) = (await session_document())["show_goal_pairs"]
        show = await Goal.by_id(pair["show_goal"])
        assert isinstance(show, ShowGoal)
        return show

    async def test_begins_the_show_and_pairs_it(self, stage: Stage) -> None:
        await a_session(GoalKind.FUNDING)
        outcome = await deliver(stage, start_funded_show, goal_event(GoalCompleted, GoalKind.FUNDING))
        show = await self.show()
        assert outcome == Done(f"show {show.id}")
        assert (show.active, show.progress) == (True, 0)
        assert [(level.title, level.target) for level in show.levels] == [("Ukulele medley", 360)]
        assert (show.conditions.session_id, show.metadata.user_id) == (SESSION, STREAMER)
        (pair,) = (await session_document())["show_goal_pairs"]
        assert pair == {"funding_goal": GOAL, "show_goal": show.id}

    async def test_a_crash_between_show_and_pair_leaves_one_show(self, stage: Stage) -> None:
        await a_session(GoalKind.FUNDING)
        event = goal_event(GoalCompleted, GoalKind.FUNDING)
        await deliver(stage, start_funded_show, event)
        await Session.get_motor_collection().update_one({"_id": SESSION}, {"$set": {"show_goal_pairs": []}})
        await deliver(stage, start_funded_show, event)
        assert await ShowGoal.find({"_cls": "Goal.ShowGoal"}, with_children=True).count() == 1
        await self.show()

    async def test_returns_when_it_is_paired_already(self, stage: Stage) -> None:
        pairs = [ShowPair(funding_goal=GOAL, show_goal=ObjectId())]
        await a_session(GoalKind.FUNDING, show_goal_pairs=pairs)
        outcome = await deliver(stage, start_funded_show, goal_event(GoalCompleted, GoalKind.FUNDING))
        assert reason_of(outcome) is Reason.ALREADY_DONE

    async def test_returns_at_a_lower_level(self, stage: Stage) -> None:
        event = goal_event(GoalCompleted, GoalKind.FUNDING, Run.LOWER_LEVEL)
        assert reason_of(await deliver(stage, start_funded_show, event)) is Reason.NOT_THE_LAST_LEVEL

    async def test_returns_without_a_session(self, stage: Stage) -> None:
        event = without_session(goal_event(GoalCompleted, GoalKind.FUNDING))
        assert reason_of(await deliver(stage, start_funded_show, event)) is Reason.NO_SESSION

    async def test_returns_when_the_session_is_not_known(self, stage: Stage) -> None:
        outcome = await deliver(stage, start_funded_show, goal_event(GoalCompleted, GoalKind.FUNDING))
        assert reason_of(outcome) is Reason.UNKNOWN_SESSION

    async def test_returns_for_a_funding_that_does_not_say_what_for(self, stage: Stage) -> None:
        event = goal_event(GoalCompleted, GoalKind.FUNDING)
        event = replace(event, metadata=event.metadata.model_copy(update={"show": None}))
        assert reason_of(await deliver(stage, start_funded_show, event)) is Reason.NO_SHOW

    async def test_returns_for_other_kinds(self, stage: Stage) -> None:
        outcome = await deliver(stage, start_funded_show, goal_event(GoalCompleted, GoalKind.SHOW))
        assert reason_of(outcome) is Reason.OTHER_GOAL_KIND

    async def test_a_second_delivery_changes_nothing(self, stage: Stage) -> None:
        await a_session(GoalKind.FUNDING)
        outcome = await deliver_again(stage, start_funded_show, goal_event(GoalCompleted, GoalKind.FUNDING))
        assert reason_of(outcome) is Reason.ALREADY_DONE


class TestStartAgreedExclusive:
    async def exclusive(self) -> ExclusiveGoal:
        pair = (await session_document())["exclusive_goal_pairs"][VIEWER]
        exclusive = await Goal.by_id(pair["exclusive_goal"])
        assert isinstance(exclusive, ExclusiveGoal)
        return exclusive

    async def test_begins_the_exclusive_and_pairs_it(self, stage: Stage) -> None:
        await a_session(GoalKind.TRIGGER)
        outcome = await deliver(stage, start_agreed_exclusive, goal_event(GoalEnded, GoalKind.TRIGGER))
        exclusive = await self.exclusive()
        assert outcome == Done(f"exclusive {exclusive.id}")
        assert [(level.title, level.target) for level in exclusive.levels] == [("A private minute", 360)]
        assert exclusive.conditions.session_id == SESSION
        assert (exclusive.conditions.exclusive_to, exclusive.conditions.trigger_goal_id) == (VIEWER, GOAL)
        assert (exclusive.metadata.user_id, exclusive.metadata.price) == (STREAMER, HELD)
        assert (await session_document())["exclusive_goal_pairs"][VIEWER]["trigger_goal"] == GOAL

    async def test_it_expires_when_the_performer_never_comes(self, stage: Stage) -> None:
        await a_session(GoalKind.TRIGGER)
        await deliver(stage, start_agreed_exclusive, goal_event(GoalEnded, GoalKind.TRIGGER))
        limit = stage.settings.exclusive_begin_limit
        assert (await self.exclusive()).exp == NOW + timedelta(seconds=360 + limit)

    async def test_one_without_a_target_has_no_levels(self, stage: Stage) -> None:
        await a_session(GoalKind.TRIGGER)
        event = goal_event(GoalEnded, GoalKind.TRIGGER)
        assert event.metadata.exclusive is not None
        untimed = event.metadata.exclusive.model_copy(update={"target": 0})
        event = replace(event, metadata=event.metadata.model_copy(update={"exclusive": untimed}))
        await deliver(stage, start_agreed_exclusive, event)
        assert (await self.exclusive()).levels == []

    async def test_returns_for_a_request_that_was_declined(self, stage: Stage) -> None:
        outcome = await deliver(stage, start_agreed_exclusive, goal_event(GoalEnded, GoalKind.TRIGGER, Run.SHORT))
        assert reason_of(outcome) is Reason.NOT_AGREED

    async def test_returns_when_it_is_paired_already(self, stage: Stage) -> None:
        await a_session(GoalKind.TRIGGER)
        event = goal_event(GoalEnded, GoalKind.TRIGGER)
        await deliver(stage, start_agreed_exclusive, event)
        assert reason_of(await deliver(stage, start_agreed_exclusive, event)) is Reason.ALREADY_DONE

    async def test_takes_the_place_of_the_viewers_earlier_pair(self, stage: Stage) -> None:
        await a_session(GoalKind.TRIGGER, exclusive_goal_pairs={VIEWER: ExclusivePair(exclusive_goal=ObjectId())})
        await deliver(stage, start_agreed_exclusive, goal_event(GoalEnded, GoalKind.TRIGGER))
        await self.exclusive()

    async def test_returns_without_a_session(self, stage: Stage) -> None:
        event = without_session(goal_event(GoalEnded, GoalKind.TRIGGER))
        assert reason_of(await deliver(stage, start_agreed_exclusive, event)) is Reason.NO_SESSION

    async def test_returns_when_the_session_is_not_known(self, stage: Stage) -> None:
        outcome = await deliver(stage, start_agreed_exclusive, goal_event(GoalEnded, GoalKind.TRIGGER))
        assert reason_of(outcome) is Reason.UNKNOWN_SESSION

    async def test_returns_without_a_viewer(self, stage: Stage) -> None:
        event = without_viewer(goal_event(GoalEnded, GoalKind.TRIGGER))
        assert reason_of(await deliver(stage, start_agreed_exclusive, event)) is Reason.NO_VIEWER

    async def test_returns_for_a_request_that_does_not_say_what_for(self, stage: Stage) -> None:
        event = goal_event(GoalEnded, GoalKind.TRIGGER)
        event = replace(event, metadata=event.metadata.model_copy(update={"exclusive": None}))
        assert reason_of(await deliver(stage, start_agreed_exclusive, event)) is Reason.NO_EXCLUSIVE

    async def test_returns_for_other_kinds(self, stage: Stage) -> None:
        outcome = await deliver(stage, start_agreed_exclusive, goal_event(GoalEnded, GoalKind.EXCLUSIVE))
        assert reason_of(outcome) is Reason.OTHER_GOAL_KIND

    async def test_a_second_delivery_changes_nothing(self, stage: Stage) -> None:
        await a_session(GoalKind.TRIGGER)
        outcome = await deliver_again(stage, start_agreed_exclusive, goal_event(GoalEnded, GoalKind.TRIGGER))
        assert reason_of(outcome) is Reason.ALREADY_DONE
