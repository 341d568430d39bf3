"""What the process for clips counts is shown by the worker that keeps it."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from bson import ObjectId
from pymongo import MongoClient

from goalsvc.devstack.ports import free_port
from goalsvc.devstack.waiting import holds_within
from tests.drills.processes import FakePusher, Program, environment_of


@pytest.mark.real
def test_a_workers_metrics_hold_those_of_its_child(
    documents: MongoClient[dict[str, Any]], mongodb_url: str, redis_url: str, tmp_path: Path
) -> None:
    clip = {
        "session_id": str(ObjectId()),
        "asset_id": str(ObjectId()),  # of nothing: it is looked up and found to be unknown
        "rewind_seconds": 10,
        "duration": 10,
        "metadata": {},
        "completed_at": datetime.now(UTC),
    }
    promise = {"id": "clip", "task": "clip_livestream_as_asset", "arguments": clip, "parent": ""}
    documents.get_default_database().goals.insert_one(
        {
            "_cls": "Goal.KaraokeGoal",
            "active": False,
            "conditions": {"session_id": ObjectId()},
            "metadata": {"user_id": "alice"},
            "promises": [promise | {"at": datetime.now(UTC) - timedelta(minutes=1)}],
        }
    )
    with FakePusher().running() as pusher:
        port = free_port()
        environment = environment_of(mongodb_url, redis_url, pusher, WORKER_PORT=str(port), PROMISE_SWEEP_SECONDS="0.5")
        worker = Program(["worker"], port, environment, tmp_path / "worker.log")
        worker.start()
        try:
            worker.wait_until_ready()

            def shown() -> str:
                return httpx.get(f"{worker.url}/metrics", trust_env=False, timeout=10).text

            ran = r'^goalsvc_jobs_total\{outcome="returned",task="clip_livestream_as_asset"\} 1\.0$'
            assert holds_within(30, lambda: re.search(ran, shown(), re.MULTILINE) is not None), shown()
            text = shown()
        finally:
            worker.stop()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    names = [line.rpartition(" ")[0] for line in lines]
    assert len(names) == len(set(names)), "no series is shown twice"
    families = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(families) == len(set(families))
    for name in ("goalsvc_job_duration_seconds_count", "goalsvc_job_wait_seconds_count"):
        assert f'{name}{{task="clip_livestream_as_asset"}}' in names
    assert {'goalsvc_jobs_in_hand{queue="clips"}', 'goalsvc_jobs_in_hand{queue="money"}'} <= set(names)
    assert "process_resident_memory_bytes" in names, "and its own"
