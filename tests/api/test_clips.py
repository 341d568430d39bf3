"""Clips by the API: what was wanted, what was cut, where it is, and cutting one again."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from bson import ObjectId

from goalsvc.domain.goals import GoalKind
from goalsvc.domain.promises import Job
from goalsvc.domain.trace import TracedFollowUp
from goalsvc.errors import ClipImpossibleError
from goalsvc.models.clip import Asset
from goalsvc.models.database import WITH_PROMISES
from goalsvc.models.goal import Goal
from goalsvc.models.records import DeadLetter
from goalsvc.tasks import ALL
from goalsvc.tasks.clips import create_post_from_livestream
from goalsvc.tasks.runner import Runner
from tests.receivers.fakes import NOW, Stage
from tests.receivers.scenes import GOAL, SESSION, STREAMER, set_up

from .app import Service
from .test_errors import assert_problem


async def promised(stage: Stage, goal: ObjectId = GOAL) -> str:
    """A clip that is promised; its id."""
    outcome = await create_post_from_livestream(
        stage.context,
        session_id=str(SESSION),
        caption="c",
        duration=30,
        rewind_seconds=180,
        tags=[],
        goal_id=str(goal),
        completed_at=NOW,
    )
    (follow_up,) = outcome.follow_ups  # type: ignore[union-attr]
    return str(follow_up.arguments["asset_id"])


async def run_clip(stage: Stage, service: Service, clip_id: str) -> None:
    """Runs the clip's job as a worker would."""
    (job,) = [job for job in stage.queue.take() if job.task == "clip_livestream_as_asset"]
    assert job.arguments["asset_id"] == clip_id
    await Runner(ALL, WITH_PROMISES).run(stage.context, job, 1)


class KilledError(Exception):
    """The process ends here."""


async def killed(*_: object) -> None:
    raise KilledError


async def failed(stage: Stage, service: Service) -> str:
    clip_id = await promised(stage)
    await Asset.get_motor_collection().update_one(
        {"_id": ObjectId(clip_id)}, {"$set": {"state": "failed", "failed_at": NOW, "reason": "gone"}}
    )
    return clip_id


async def test_a_clip_that_is_still_to_be_cut(service: Service, stage: Stage) -> None:
    await set_up(GoalKind.SHOW)
    clip_id = await promised(stage)
    shown = (await service.client.get(f"/v1/clips/{clip_id}")).json()
    assert (shown["id"], shown["state"]) == (clip_id, "pending")
    assert (shown["session_id"], shown["goal_id"], shown["user_id"]) == (str(SESSION), str(GOAL), STREAMER)
    assert shown["wanted"] == {
        "begins_at": (NOW - timedelta(seconds=180)).isoformat().replace("+00:00", "Z"),
        "duration": 30,
    }
    assert shown.get("begins_at") is shown.get("duration") is shown.get("download_url") is None


async def test_a_clip_that_is_stored(service: Service, stage: Stage) -> None:
    await set_up(GoalKind.SHOW)
    stage.cutter.late_seconds = 12.0
    clip_id = await failed(stage, service)
    await service.client.post(f"/v1/clips/{clip_id}/retry")
    await run_clip(stage, service, clip_id)
    shown = (await service.client.get(f"/v1/clips/{clip_id}")).json()
    assert (shown["state"], shown["duration"], shown["dated_by"]) == ("quarantined", 30, "program_date_time")
    assert shown["begins_at"] == (NOW - timedelta(seconds=168)).isoformat().replace("+00:00", "Z")
    assert shown["download_url"].startswith(f"https://s3.invalid/{clip_id}")
    assert shown["size"] == len(stage.cutter.content)


async def test_a_store_without_credentials_hides_only_the_address(service: Service, stage: Stage) -> None:
    await set_up(GoalKind.SHOW)
    clip_id = await failed(stage, service)
    await Asset.get_motor_collection().update_one({"_id": ObjectId(clip_id)}, {"$set": {"state": "quarantined"}})
    stage.store.refuse()
    answer = await service.client.get(f"/v1/clips/{clip_id}")
    assert (answer.status_code, answer.json().get("download_url")) == (200, None)


async def test_unknown(service: Service) -> None:
    for method, path in (("GET", f"/v1/clips/{ObjectId()}"), ("POST", f"/v1/clips/{ObjectId()}/retry")):
        assert_problem(await service.client.request(method, path), 404, "not_found")


class TestRetry:
    async def test_a_clip_that_failed_is_promised_again(self, service: Service, stage: Stage) -> None:
        await set_up(GoalKind.SHOW)
        clip_id = await failed(stage, service)
        answer = await service.client.post(f"/v1/clips/{clip_id}/retry")
        assert (answer.status_code, answer.json()["state"]) == (200, "pending")
        assert answer.json().get("reason") is None
        await run_clip(stage, service, clip_id)
        (cut,) = stage.cutter.cuts
        assert (cut.begins_at, cut.duration_seconds, cut.latest_begin) == (NOW - timedelta(seconds=180), 30, NOW)

    async def test_its_dead_letter_is_redriven(self, service: Service, stage: Stage) -> None:
        await set_up(GoalKind.SHOW)
        clip_id = await failed(stage, service)
        await service.client.post(f"/v1/clips/{clip_id}/retry")
        stage.cutter.troubles = [ClipImpossibleError("gone")]
        await run_clip(stage, service, clip_id)
        (letter,) = await DeadLetter.find_all().to_list()
        assert (await service.client.get(f"/v1/clips/{clip_id}")).json()["state"] == "failed"
        assert (await service.client.post(f"/v1/clips/{clip_id}/retry")).status_code == 200
        (letter,) = await DeadLetter.find_all().to_list()
        assert letter.state == "redriven"

    @pytest.mark.parametrize("error", [ClipImpossibleError("gone again"), None], ids=["fails", "is stored"])
    async def test_a_job_that_ends_before_the_call_does(
        self, service: Service, stage: Stage, monkeypatch: pytest.MonkeyPatch, error: ClipImpossibleError | None
    ) -> None:
        """The asset says how the job ended, and is not awaited for ever."""
        await set_up(GoalKind.SHOW)
        clip_id = await failed(stage, service)
        stage.clock.advance(1)
        stage.cutter.troubles = [error] if error is not None else []
        add_promises = Goal.add_promises

        async def run_at_once(goal_id: ObjectId, follow_ups: Sequence[TracedFollowUp], at: datetime) -> object:
            owed = await add_promises(goal_id, follow_ups, at)
            (promise,) = [each for each in owed if each.task == "clip_livestream_as_asset"]
            job = Job("c", promise.task, promise.arguments, promise=f"goals/{GOAL}/{promise.id}")
            await Runner(ALL, WITH_PROMISES).run(stage.context, job, 1)
            return owed

        monkeypatch.setattr(Goal, "add_promises", run_at_once)
        answer = (await service.client.post(f"/v1/clips/{clip_id}/retry")).json()
        told = [event.type for event in stage.events.written.values() if event.type.startswith("clip.")]
        if error is None:
            assert (answer["state"], told) == ("quarantined", ["clip.stored"])
        else:
            assert (answer["state"], answer["reason"], told) == (
                "failed",
                "clip_impossible: gone again",
                ["clip.failed"],
            )

    async def test_after_a_crash_in_between_a_failure_is_told(
        self, service: Service, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await set_up(GoalKind.SHOW)
        clip_id = await failed(stage, service)
        stage.clock.advance(1)
        with monkeypatch.context() as crash:
            crash.setattr(Asset, "await_again", killed)
            assert (await service.client.post(f"/v1/clips/{clip_id}/retry")).status_code == 500
        stage.cutter.troubles = [ClipImpossibleError("gone again")]
        await run_clip(stage, service, clip_id)
        shown = (await service.client.get(f"/v1/clips/{clip_id}")).json()
        assert (shown["state"], shown["reason"]) == ("failed", "clip_impossible: gone again")
        assert "clip.failed" in stage.events.types()

    @pytest.mark.parametrize("state", ["pending", "quarantined"])
    async def test_only_a_clip_that_failed(self, service: Service, stage: Stage, state: str) -> None:
        await set_up(GoalKind.SHOW)
        clip_id = await failed(stage, service)
        await Asset.get_motor_collection().update_one({"_id": ObjectId(clip_id)}, {"$set": {"state": state}})
        assert_problem(await service.client.post(f"/v1/clips/{clip_id}/retry"), 409, "clip_not_failed")
        assert stage.queue.jobs == []

    @pytest.mark.parametrize("lacking", ["wanted", "goal_id", "metadata"])
    async def test_an_asset_that_does_not_say_what_it_was(self, service: Service, stage: Stage, lacking: str) -> None:
        """Of an earlier version, or of another service."""
        await set_up(GoalKind.SHOW)
        clip_id = await failed(stage, service)
        await Asset.get_motor_collection().update_one({"_id": ObjectId(clip_id)}, {"$unset": {lacking: True}})
        assert_problem(await service.client.post(f"/v1/clips/{clip_id}/retry"), 409, "clip_not_repeatable")


class TestList:
    @pytest.mark.parametrize(
        ("query", "count"),
        [
            ({}, 3),
            ({"session_id": str(SESSION)}, 3),
            ({"session_id": str(ObjectId())}, 0),
            ({"user_id": STREAMER}, 3),
            ({"user_id": "another"}, 0),
            ({"state": "pending"}, 2),
            ({"state": "failed"}, 1),
        ],
    )
    async def test_filters(self, service: Service, stage: Stage, query: dict[str, Any], count: int) -> None:
        await set_up(GoalKind.SHOW)
        await failed(stage, service)
        for _ in range(2):
            await promised(stage, ObjectId())
        answer = (await service.client.get("/v1/clips", params=query)).json()
        assert (len(answer["items"]), answer["next"]) == (count, None)

    @pytest.mark.parametrize("order", ["asc", "desc"])
    async def test_pages(self, service: Service, stage: Stage, order: str) -> None:
        await set_up(GoalKind.SHOW)
        ids = []
        for _ in range(3):
            ids.append(await promised(stage, ObjectId()))
            stage.clock.advance(1)
        seen, cursor = [], None
        for _ in range(3):
            query: dict[str, Any] = {"limit": 1, "order": order} | ({"cursor": cursor} if cursor else {})
            page = (await service.client.get("/v1/clips", params=query)).json()
            seen += [item["id"] for item in page["items"]]
            cursor = page["next"]
        assert (seen, cursor) == (ids if order == "asc" else ids[::-1], None)

    async def test_an_unknown_state(self, service: Service) -> None:
        assert (await service.client.get("/v1/clips?state=lost")).status_code == 422
