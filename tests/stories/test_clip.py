"""The clip, for once by the real ffmpeg: these seconds and no others."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from goalsvc.devstack.livestream import Livestream, read_seconds
from goalsvc.integrations.egress import EgressRules
from goalsvc.integrations.media import FfmpegCutter
from tests.world import FakeClock, open_world

from .scenes import a_funded_show

pytestmark = pytest.mark.real

CLIP_SECONDS, SHOW_SECONDS = 6, 40


async def test_of_a_completed_show_holds_the_right_seconds(
    documents: MongoClient[dict[str, Any]], mongodb_url: str, redis_url: str, tmp_path: Path
) -> None:
    def cutter(clock: FakeClock) -> FfmpegCutter:
        return FfmpegCutter(EgressRules(private=True), clock)

    async with (
        open_world(
            documents, mongodb_url, redis_url, cutter=cutter, livestream_clip_goal_duration=CLIP_SECONDS
        ) as world,
        Livestream.open(past_seconds=10, live_seconds=120, clock=world.clock) as stream,
    ):
        show = await world.given(a_funded_show(seconds=SHOW_SECONDS, hls_url=stream.url))
        await world.performs(show, seconds=SHOW_SECONDS)
        completed_at = world.clock.now()
        await world.settle()
        (asset,) = world.all("assets")
        assert asset["state"] == "quarantined"
        clip = tmp_path / "clip.mp4"
        clip.write_bytes(world.store.objects[str(asset["_id"])].content)
        begins_at = stream.second_at(completed_at - timedelta(seconds=SHOW_SECONDS // 2))
        assert read_seconds(clip) == [begins_at + timedelta(seconds=second) for second in range(CLIP_SECONDS)]
        await world.check_invariants()
